//go:build cgo

package faultp11_test

import (
	"encoding/binary"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"filippo.io/mldsa"
	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/faultp11"
)

// Numbers of PKCS #11 v3.2, which miekg/pkcs11 doesn't have.
const (
	ckkMLDSA        = 0x4a
	ckmMLDSA        = 0x1d
	ckaParameterSet = 0x61d
	ckaSeed         = 0x637

	hedgePreferred, hedgeRequired, deterministicRequired = 0, 1, 2
)

// mldsaHSM is an hsm with a virtual key: h.private and h.public are its handles.
func mldsaHSM(t *testing.T, params mldsa.Parameters) (*hsm, *mldsa.PrivateKey) {
	t.Helper()
	h := newHSM(t)
	key, err := mldsa.GenerateKey(params)
	require.NoError(t, err)
	h.EmulateMLDSA(t, "pq", []byte{7, 8}, key)
	h.findMLDSA(t)
	return h, key
}

func (h *hsm) findMLDSA(t *testing.T) {
	t.Helper()
	h.private = h.find(t, label("pq"), pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY))[0]
	h.public = h.find(t, label("pq"), pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY))[0]
}

// withContext returns CKM_ML_DSA with a CK_SIGN_ADDITIONAL_CONTEXT. The context is pinned.
func withContext(p *runtime.Pinner, hedge uint64, context string) []*pkcs11.Mechanism {
	var address uintptr
	if data := []byte(context); len(data) > 0 {
		p.Pin(&data[0])
		address = uintptr(unsafe.Pointer(&data[0]))
	}
	parameter := binary.NativeEndian.AppendUint64(nil, hedge)
	parameter = binary.NativeEndian.AppendUint64(parameter, uint64(address))
	parameter = binary.NativeEndian.AppendUint64(parameter, uint64(len(context)))
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(ckmMLDSA, parameter)}
}

func (h *hsm) signMLDSA(m []*pkcs11.Mechanism, message []byte) ([]byte, error) {
	if err := h.ctx.SignInit(h.session, m, h.private); err != nil {
		return nil, err
	}
	return h.ctx.Sign(h.session, message)
}

func TestMLDSASigns(t *testing.T) {
	message := []byte("message")
	for set, params := range map[uint64]mldsa.Parameters{1: mldsa.MLDSA44(), 2: mldsa.MLDSA65(), 3: mldsa.MLDSA87()} {
		t.Run(params.String(), func(t *testing.T) {
			h, key := mldsaHSM(t, params)
			value, err := h.attribute(h.public, ckaParameterSet)
			require.NoError(t, err)
			assert.Equal(t, set, binary.NativeEndian.Uint64([]byte(value)))
			value, err = h.attribute(h.public, pkcs11.CKA_VALUE)
			require.NoError(t, err)
			public, err := mldsa.NewPublicKey(params, []byte(value))
			require.NoError(t, err)
			assert.True(t, key.PublicKey().Equal(public))

			first, err := h.signMLDSA(mechanism(ckmMLDSA), message)
			require.NoError(t, err)
			assert.NoError(t, mldsa.Verify(public, message, first, nil))
			second, err := h.signMLDSA(mechanism(ckmMLDSA), message)
			require.NoError(t, err)
			assert.NotEqual(t, first, second, "hedged")
		})
	}
}

func TestMLDSAParameters(t *testing.T) {
	h, key := mldsaHSM(t, mldsa.MLDSA44())
	var p runtime.Pinner
	defer p.Unpin()
	message := []byte("message")
	for _, context := range []string{"", "c", strings.Repeat("x", 255)} {
		opts := &mldsa.Options{Context: context}
		for _, hedge := range []uint64{hedgePreferred, hedgeRequired, deterministicRequired} {
			signature, err := h.signMLDSA(withContext(&p, hedge, context), message)
			require.NoError(t, err)
			assert.NoError(t, mldsa.Verify(key.PublicKey(), message, signature, opts))
			fixed, err := key.SignDeterministic(message, opts)
			require.NoError(t, err)
			assert.Equal(t, hedge == deterministicRequired, string(fixed) == string(signature), "hedge %d", hedge)
		}
	}

	bare := withContext(&p, 0, "")[0].Parameter
	noPointer := append(binary.NativeEndian.AppendUint64(nil, 0), bare[8:16]...)
	noPointer = binary.NativeEndian.AppendUint64(noPointer, 3)
	for name, m := range map[string][]*pkcs11.Mechanism{
		"hedge":       withContext(&p, 3, ""),
		"context":     withContext(&p, 0, strings.Repeat("x", 256)),
		"short":       {pkcs11.NewMechanism(ckmMLDSA, bare[:16])},
		"long":        {pkcs11.NewMechanism(ckmMLDSA, append(bare, 0))},
		"no pContext": {pkcs11.NewMechanism(ckmMLDSA, noPointer)},
	} {
		assert.Equal(t, pkcs11.Error(pkcs11.CKR_MECHANISM_PARAM_INVALID), h.ctx.SignInit(h.session, m, h.private), name)
	}
	_, err := h.signMLDSA(mechanism(ckmMLDSA), nil)
	assert.NoError(t, err, "a refused C_SignInit starts nothing")
}

func TestMLDSAObjects(t *testing.T) {
	h, _ := mldsaHSM(t, mldsa.MLDSA65())
	class := func(class uint) *pkcs11.Attribute { return pkcs11.NewAttribute(pkcs11.CKA_CLASS, class) }
	assert.Len(t, h.find(t), 4, "two of each key")
	assert.Len(t, h.find(t, pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true)), 4)
	assert.Empty(t, h.find(t, pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)))
	assert.Len(t, h.find(t, class(pkcs11.CKO_PRIVATE_KEY)), 2)
	assert.Len(t, h.find(t, pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{7, 8})), 2)
	assert.Empty(t, h.find(t, pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{7})))
	assert.Len(t, h.find(t, pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, ckkMLDSA)), 2)
	assert.Equal(t, []pkcs11.ObjectHandle{h.private}, h.find(t, label("pq"), class(pkcs11.CKO_PRIVATE_KEY)))

	for attribute, want := range map[uint]uint{ckaSeed: pkcs11.CKR_ATTRIBUTE_SENSITIVE,
		pkcs11.CKA_VALUE: pkcs11.CKR_ATTRIBUTE_SENSITIVE, pkcs11.CKA_MODULUS: pkcs11.CKR_ATTRIBUTE_TYPE_INVALID} {
		_, err := h.attribute(h.private, attribute)
		assert.Equal(t, pkcs11.Error(want), err)
	}
	h.SetAttribute("pq", faultp11.AnyClass, ckaParameterSet, []byte{9})
	value, err := h.attribute(h.private, ckaParameterSet)
	assert.NoError(t, err)
	assert.Equal(t, "\x09", value)

	require.NoError(t, h.ctx.Logout(h.session))
	assert.Equal(t, []pkcs11.ObjectHandle{h.public}, h.find(t, label("pq")), "private objects are hidden")
	_, err = h.attribute(h.private, pkcs11.CKA_ID)
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_OBJECT_HANDLE_INVALID), err)
}

func TestMLDSARefusals(t *testing.T) {
	h, _ := mldsaHSM(t, mldsa.MLDSA44())
	ecdsa := h.find(t, label("key"), pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY))[0]
	for name, test := range map[string]struct {
		mechanism uint
		key       pkcs11.ObjectHandle
		want      uint
	}{
		"other key":         {ckmMLDSA, ecdsa, pkcs11.CKR_KEY_TYPE_INCONSISTENT},
		"no key":            {ckmMLDSA, 12345, pkcs11.CKR_KEY_HANDLE_INVALID},
		"public key":        {ckmMLDSA, h.public, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED},
		"other mechanism":   {pkcs11.CKM_ECDSA, h.private, pkcs11.CKR_KEY_TYPE_INCONSISTENT},
		"unknown mechanism": {0x7777, h.private, pkcs11.CKR_MECHANISM_INVALID},
	} {
		assert.Equal(t, pkcs11.Error(test.want), h.ctx.SignInit(h.session, mechanism(test.mechanism), test.key), name)
	}
	require.NoError(t, h.ctx.SignInit(h.session, mechanism(ckmMLDSA), h.private))
	active := pkcs11.Error(pkcs11.CKR_OPERATION_ACTIVE)
	assert.Equal(t, active, h.ctx.SignInit(h.session, mechanism(ckmMLDSA), h.private))
	assert.Equal(t, active, h.ctx.SignInit(h.session, mechanism(pkcs11.CKM_ECDSA), ecdsa))
	require.NoError(t, h.Logout())
	_, err := h.ctx.Sign(h.session, nil)
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_USER_NOT_LOGGED_IN), err)
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_USER_NOT_LOGGED_IN), h.ctx.SignInit(h.session, mechanism(ckmMLDSA), h.private))
	h.RemoveMechanism(ckmMLDSA)
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_MECHANISM_INVALID), h.ctx.SignInit(h.session, mechanism(ckmMLDSA), h.private))
}

func TestMLDSAMechanismInfo(t *testing.T) {
	h, _ := mldsaHSM(t, mldsa.MLDSA44())
	info, err := h.ctx.GetMechanismInfo(h.slot, mechanism(ckmMLDSA))
	require.NoError(t, err)
	assert.Equal(t, pkcs11.MechanismInfo{MinKeySize: 1312, MaxKeySize: 2592, Flags: pkcs11.CKF_SIGN}, info)
}

func TestMLDSAInParts(t *testing.T) {
	h, key := mldsaHSM(t, mldsa.MLDSA44())
	require.NoError(t, h.ctx.SignInit(h.session, mechanism(ckmMLDSA), h.private))
	require.NoError(t, h.ctx.SignUpdate(h.session, []byte("one ")))
	require.NoError(t, h.ctx.SignUpdate(h.session, []byte("two")))
	signature, err := h.ctx.SignFinal(h.session)
	require.NoError(t, err)
	assert.NoError(t, mldsa.Verify(key.PublicKey(), []byte("one two"), signature, nil))
}

// Handles die with the initialisation of the module, sessions keep their operations apart, and faults hit virtual keys
// as they hit real ones.
func TestMLDSAAmongFaults(t *testing.T) {
	h, key := mldsaHSM(t, mldsa.MLDSA44())
	h.Set(faultp11.Rule{Function: "C_Sign", Code: pkcs11.CKR_DEVICE_ERROR, Times: 1})
	_, err := h.signMLDSA(mechanism(ckmMLDSA), nil)
	assert.Equal(t, deviceFail, err)
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_OPERATION_ACTIVE), h.ctx.SignInit(h.session, mechanism(ckmMLDSA), h.private))

	require.NoError(t, h.Reinitialize())
	h.login(t)
	old := h.private
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_KEY_HANDLE_INVALID), h.ctx.SignInit(h.session, mechanism(ckmMLDSA), old))
	h.findMLDSA(t)
	assert.NotEqual(t, old, h.private)

	var wg sync.WaitGroup
	for range 4 {
		session, err := h.ctx.OpenSession(h.slot, rw)
		require.NoError(t, err)
		wg.Go(func() {
			for i := range 5 {
				message := []byte{byte(session), byte(i)}
				assert.NoError(t, h.ctx.SignInit(session, mechanism(ckmMLDSA), h.private))
				signature, err := h.ctx.Sign(session, message)
				assert.NoError(t, err)
				assert.NoError(t, mldsa.Verify(key.PublicKey(), message, signature, nil))
			}
		})
	}
	wg.Wait()
}

func TestMLDSAEndsWithItsTest(t *testing.T) {
	h := newHSM(t)
	key, err := mldsa.GenerateKey(mldsa.MLDSA44())
	require.NoError(t, err)
	t.Run("inner", func(t *testing.T) {
		h.EmulateMLDSA(t, "pq", nil, key)
		h.findMLDSA(t)
		_, err = h.signMLDSA(mechanism(ckmMLDSA), nil)
		require.NoError(t, err)
	})
	_, err = h.signMLDSA(mechanism(ckmMLDSA), nil)
	assert.Equal(t, deviceFail, err)
}
