//go:build cgo

package faultp11_test

import (
	"slices"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/faultp11"
)

// attribute returns the value that C_GetAttributeValue gives.
func (h *hsm) attribute(object pkcs11.ObjectHandle, attribute uint) (string, error) {
	found, err := h.ctx.GetAttributeValue(h.session, object, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
	if err != nil {
		return "", err
	}
	return string(found[0].Value), nil
}

func TestSetAttribute(t *testing.T) {
	h := newHSM(t)
	_, other, err := h.generate("other")
	require.NoError(t, err)
	values := func(attribute uint) (values [3]string) {
		for i, object := range []pkcs11.ObjectHandle{h.private, h.public, other} {
			value, err := h.attribute(object, attribute)
			require.NoError(t, err)
			values[i] = value
		}
		return values
	}
	before := values(pkcs11.CKA_ID)
	assert.Equal(t, [3]string{"key", "", "other"}, before)

	h.SetAttribute("key", pkcs11.CKO_PRIVATE_KEY, pkcs11.CKA_ID, []byte("a longer value"))
	assert.Equal(t, [3]string{"a longer value", "", "other"}, values(pkcs11.CKA_ID))
	h.SetAttribute("", pkcs11.CKO_PRIVATE_KEY, pkcs11.CKA_ID, nil)
	assert.Equal(t, [3]string{"", "", ""}, values(pkcs11.CKA_ID), "the last change holds")
	h.SetAttribute("key", faultp11.AnyClass, pkcs11.CKA_ID, []byte("x"))
	assert.Equal(t, [3]string{"x", "x", ""}, values(pkcs11.CKA_ID))
	assert.Equal(t, [3]string{"key", "key", "other"}, values(pkcs11.CKA_LABEL), "other attributes are as they were")
	h.SetAttribute("key", faultp11.AnyClass, pkcs11.CKA_LABEL, []byte("renamed"))
	assert.Equal(t, [3]string{"renamed", "renamed", "other"}, values(pkcs11.CKA_LABEL))
	assert.Equal(t, [3]string{"x", "x", ""}, values(pkcs11.CKA_ID), "changes go by the real label")
	assert.Len(t, h.find(t, label("key")), 2, "searches see the real value")
	h.RestoreAttributes()
	assert.Equal(t, before, values(pkcs11.CKA_ID))
}

func TestHideAttribute(t *testing.T) {
	h := newHSM(t)
	h.HideAttribute("key", pkcs11.CKO_PUBLIC_KEY, pkcs11.CKA_EC_POINT)
	_, err := h.attribute(h.public, pkcs11.CKA_EC_POINT)
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_TYPE_INVALID), err)
	_, err = h.attribute(h.public, pkcs11.CKA_EC_PARAMS)
	assert.NoError(t, err)
	h.SetAttribute("key", pkcs11.CKO_PUBLIC_KEY, pkcs11.CKA_EC_POINT, []byte{4})
	point, err := h.attribute(h.public, pkcs11.CKA_EC_POINT)
	assert.NoError(t, err)
	assert.Equal(t, "\x04", point)
}

// miekg/pkcs11 would allocate what the size query says, so the query alone is made here; testdata/driver.c reads.
func TestAbsurdLength(t *testing.T) {
	h := newHSM(t)
	h.AbsurdLength("", pkcs11.CKO_PUBLIC_KEY, pkcs11.CKA_EC_POINT, 1<<20)
	_, err := h.attribute(h.public, pkcs11.CKA_EC_POINT)
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_BUFFER_TOO_SMALL), err)
	assert.Equal(t, 2, h.Count("C_GetAttributeValue"), "size query and read")
}

func TestMechanisms(t *testing.T) {
	h := newHSM(t)
	const unknown = 0x1d
	list := func() (numbers []uint) {
		mechanisms, err := h.ctx.GetMechanismList(h.slot)
		require.NoError(t, err)
		for _, m := range mechanisms {
			numbers = append(numbers, m.Mechanism)
		}
		return numbers
	}
	invalid := pkcs11.Error(pkcs11.CKR_MECHANISM_INVALID)
	before := list()
	require.Contains(t, before, uint(pkcs11.CKM_ECDSA))
	h.RemoveMechanism(pkcs11.CKM_ECDSA)
	h.AddMechanism(unknown, pkcs11.CKF_SIGN)
	after := list()
	assert.Len(t, after, len(before))
	assert.NotContains(t, after, uint(pkcs11.CKM_ECDSA))
	assert.Contains(t, after, uint(unknown))
	_, err := h.ctx.GetMechanismInfo(h.slot, mechanism(pkcs11.CKM_ECDSA))
	assert.Equal(t, invalid, err)
	info, err := h.ctx.GetMechanismInfo(h.slot, mechanism(unknown))
	require.NoError(t, err)
	assert.Equal(t, pkcs11.MechanismInfo{Flags: pkcs11.CKF_SIGN}, info)
	assert.Equal(t, invalid, h.sign())

	// One that the token has keeps its key sizes.
	real, err := h.ctx.GetMechanismInfo(h.slot, mechanism(pkcs11.CKM_RSA_PKCS))
	require.NoError(t, err)
	h.AddMechanism(pkcs11.CKM_RSA_PKCS, pkcs11.CKF_VERIFY)
	info, err = h.ctx.GetMechanismInfo(h.slot, mechanism(pkcs11.CKM_RSA_PKCS))
	require.NoError(t, err)
	real.Flags = pkcs11.CKF_VERIFY
	assert.Equal(t, real, info)

	h.AddMechanism(pkcs11.CKM_ECDSA, pkcs11.CKF_SIGN)
	h.RemoveMechanism(unknown)
	after = list()
	slices.Sort(before)
	slices.Sort(after)
	assert.Equal(t, before, after)
	assert.NoError(t, h.sign())
}

// Everything that takes a mechanism refuses one that was removed.
func TestRemovedMechanismEverywhere(t *testing.T) {
	h := newHSM(t)
	m, key := mechanism(pkcs11.CKM_AES_CBC), h.private
	h.RemoveMechanism(pkcs11.CKM_AES_CBC)
	second := func(_ any, err error) error { return err }
	for name, err := range map[string]error{
		"C_EncryptInit":       h.ctx.EncryptInit(h.session, m, key),
		"C_DecryptInit":       h.ctx.DecryptInit(h.session, m, key),
		"C_DigestInit":        h.ctx.DigestInit(h.session, m),
		"C_SignInit":          h.ctx.SignInit(h.session, m, key),
		"C_SignRecoverInit":   h.ctx.SignRecoverInit(h.session, m, key),
		"C_VerifyInit":        h.ctx.VerifyInit(h.session, m, key),
		"C_VerifyRecoverInit": h.ctx.VerifyRecoverInit(h.session, m, key),
		"C_GenerateKey":       second(h.ctx.GenerateKey(h.session, m, nil)),
		"C_WrapKey":           second(h.ctx.WrapKey(h.session, m, key, key)),
		"C_UnwrapKey":         second(h.ctx.UnwrapKey(h.session, m, key, []byte{1}, nil)),
		"C_DeriveKey":         second(h.ctx.DeriveKey(h.session, m, key, nil)),
	} {
		assert.Equal(t, pkcs11.Error(pkcs11.CKR_MECHANISM_INVALID), err, name)
	}
	_, _, err := h.ctx.GenerateKeyPair(h.session, m, nil, nil)
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_MECHANISM_INVALID), err)
}
