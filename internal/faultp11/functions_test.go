//go:build cgo

package faultp11_test

import (
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/faultp11"
)

// calls has every function that miekg/pkcs11 can call; testdata/driver.c calls the others.
func (h *hsm) calls() map[string]func() error {
	c, s, m, b := h.ctx, h.session, mechanism(pkcs11.CKM_AES_CBC), []byte{1}
	second := func(_ any, err error) error { return err }
	key := h.private
	return map[string]func() error{
		"C_Initialize":          func() error { return c.Initialize() },
		"C_Finalize":            func() error { return c.Finalize() },
		"C_GetInfo":             func() error { return second(c.GetInfo()) },
		"C_GetSlotList":         func() error { return second(c.GetSlotList(true)) },
		"C_GetSlotInfo":         func() error { return second(c.GetSlotInfo(h.slot)) },
		"C_GetTokenInfo":        func() error { return second(c.GetTokenInfo(h.slot)) },
		"C_GetMechanismList":    func() error { return second(c.GetMechanismList(h.slot)) },
		"C_GetMechanismInfo":    func() error { return second(c.GetMechanismInfo(h.slot, m)) },
		"C_InitToken":           func() error { return c.InitToken(h.slot, "1", "x") },
		"C_InitPIN":             func() error { return c.InitPIN(s, "1") },
		"C_SetPIN":              func() error { return c.SetPIN(s, "1", "2") },
		"C_OpenSession":         func() error { return second(c.OpenSession(h.slot, rw)) },
		"C_CloseSession":        func() error { return c.CloseSession(s) },
		"C_CloseAllSessions":    func() error { return c.CloseAllSessions(h.slot) },
		"C_GetSessionInfo":      func() error { return second(c.GetSessionInfo(s)) },
		"C_GetOperationState":   func() error { return second(c.GetOperationState(s)) },
		"C_SetOperationState":   func() error { return c.SetOperationState(s, b, key, key) },
		"C_Login":               func() error { return c.Login(s, pkcs11.CKU_USER, "1") },
		"C_Logout":              func() error { return c.Logout(s) },
		"C_CreateObject":        func() error { return second(c.CreateObject(s, nil)) },
		"C_CopyObject":          func() error { return second(c.CopyObject(s, key, nil)) },
		"C_DestroyObject":       func() error { return c.DestroyObject(s, key) },
		"C_GetObjectSize":       func() error { return second(c.GetObjectSize(s, key)) },
		"C_GetAttributeValue":   func() error { return second(h.attribute(key, pkcs11.CKA_ID)) },
		"C_SetAttributeValue":   func() error { return c.SetAttributeValue(s, key, nil) },
		"C_FindObjectsInit":     func() error { return c.FindObjectsInit(s, nil) },
		"C_FindObjects":         func() error { _, _, err := c.FindObjects(s, 1); return err },
		"C_FindObjectsFinal":    func() error { return c.FindObjectsFinal(s) },
		"C_EncryptInit":         func() error { return c.EncryptInit(s, m, key) },
		"C_Encrypt":             func() error { return second(c.Encrypt(s, b)) },
		"C_EncryptUpdate":       func() error { return second(c.EncryptUpdate(s, b)) },
		"C_EncryptFinal":        func() error { return second(c.EncryptFinal(s)) },
		"C_DecryptInit":         func() error { return c.DecryptInit(s, m, key) },
		"C_Decrypt":             func() error { return second(c.Decrypt(s, b)) },
		"C_DecryptUpdate":       func() error { return second(c.DecryptUpdate(s, b)) },
		"C_DecryptFinal":        func() error { return second(c.DecryptFinal(s)) },
		"C_DigestInit":          func() error { return c.DigestInit(s, m) },
		"C_Digest":              func() error { return second(c.Digest(s, b)) },
		"C_DigestUpdate":        func() error { return c.DigestUpdate(s, b) },
		"C_DigestKey":           func() error { return c.DigestKey(s, key) },
		"C_DigestFinal":         func() error { return second(c.DigestFinal(s)) },
		"C_SignInit":            func() error { return c.SignInit(s, m, key) },
		"C_Sign":                func() error { return second(c.Sign(s, b)) },
		"C_SignUpdate":          func() error { return c.SignUpdate(s, b) },
		"C_SignFinal":           func() error { return second(c.SignFinal(s)) },
		"C_SignRecoverInit":     func() error { return c.SignRecoverInit(s, m, key) },
		"C_SignRecover":         func() error { return second(c.SignRecover(s, b)) },
		"C_VerifyInit":          func() error { return c.VerifyInit(s, m, key) },
		"C_Verify":              func() error { return c.Verify(s, b, b) },
		"C_VerifyUpdate":        func() error { return c.VerifyUpdate(s, b) },
		"C_VerifyFinal":         func() error { return c.VerifyFinal(s, b) },
		"C_VerifyRecoverInit":   func() error { return c.VerifyRecoverInit(s, m, key) },
		"C_DigestEncryptUpdate": func() error { return second(c.DigestEncryptUpdate(s, b)) },
		"C_DecryptDigestUpdate": func() error { return second(c.DecryptDigestUpdate(s, b)) },
		"C_SignEncryptUpdate":   func() error { return second(c.SignEncryptUpdate(s, b)) },
		"C_DecryptVerifyUpdate": func() error { return second(c.DecryptVerifyUpdate(s, b)) },
		"C_GenerateKey":         func() error { return second(c.GenerateKey(s, m, nil)) },
		"C_GenerateKeyPair":     func() error { _, _, err := c.GenerateKeyPair(s, m, nil, nil); return err },
		"C_WrapKey":             func() error { return second(c.WrapKey(s, m, key, key)) },
		"C_UnwrapKey":           func() error { return second(c.UnwrapKey(s, m, key, b, nil)) },
		"C_DeriveKey":           func() error { return second(c.DeriveKey(s, m, key, nil)) },
		"C_SeedRandom":          func() error { return c.SeedRandom(s, b) },
		"C_GenerateRandom":      func() error { return second(c.GenerateRandom(s, 1)) },
	}
}

const vendor = pkcs11.Error(0x80001234)

func TestEveryFunctionHasRules(t *testing.T) {
	h := newHSM(t)
	calls := h.calls()
	functions := h.Functions()
	assert.Len(t, functions, 68)
	covered := 0
	for _, name := range functions {
		call, ok := calls[name]
		if !ok {
			continue
		}
		covered++
		h.ResetCounts()
		h.Set(faultp11.Rule{Function: name, Code: uint64(vendor)})
		assert.Equal(t, vendor, call(), name)
		assert.Equal(t, map[string]int{name: 1}, h.Counts())
		h.Set(faultp11.Rule{Function: "*", Code: uint64(vendor)})
		assert.Equal(t, vendor, call(), name)
		assert.Equal(t, 2, h.Count(name), name)
	}
	assert.Equal(t, len(calls), covered, "a name in the table is wrong")
}

// stacked returns a shim whose real module is the shim of the hsm that it also returns.
func stacked(t *testing.T) (outer, inner *hsm) {
	t.Helper()
	inner = newHSM(t)
	require.NoError(t, inner.ctx.Finalize())
	outer = &hsm{Module: faultp11.Require(t, inner.Path()), token: inner.token, slot: inner.slot}
	outer.ctx = pkcs11.New(outer.Path())
	require.NoError(t, outer.ctx.Initialize())
	t.Cleanup(func() {
		outer.Set()
		outer.Insert()
		inner.Set()
		outer.ctx.Finalize()
	})
	outer.login(t)
	return outer, inner
}

func TestEveryFunctionForwards(t *testing.T) {
	outer, inner := stacked(t)
	inner.Set(faultp11.Rule{Function: "*", Code: uint64(vendor)})
	for name, call := range outer.calls() {
		inner.ResetCounts()
		assert.Equal(t, vendor, call(), name)
		assert.Equal(t, map[string]int{name: 1}, inner.Counts(), name)
	}
	assert.Equal(t, 1, outer.Sessions(), "what the real module refuses to close is open")
}

// While the token is away, each function answers as the standard says, without asking the real module.
func TestEveryFunctionWithoutToken(t *testing.T) {
	outer, inner := stacked(t)
	calls := outer.calls()
	for _, name := range []string{"C_Initialize", "C_Finalize", "C_GetInfo", "C_GetSlotList", "C_GetSlotInfo"} {
		delete(calls, name)
	}
	require.NoError(t, outer.Remove())
	inner.ResetCounts()
	for name, call := range calls {
		want := uint(pkcs11.CKR_DEVICE_REMOVED)
		switch name {
		case "C_GetTokenInfo", "C_GetMechanismList", "C_GetMechanismInfo", "C_InitToken", "C_OpenSession", "C_CloseAllSessions":
			want = pkcs11.CKR_TOKEN_NOT_PRESENT
		}
		assert.Equal(t, pkcs11.Error(want), call(), name)
	}
	assert.Empty(t, inner.Counts())
}
