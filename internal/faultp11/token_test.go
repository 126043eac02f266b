//go:build cgo

package faultp11_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/faultp11"
)

func TestSessions(t *testing.T) {
	h := newHSM(t)
	assert.Equal(t, 1, h.Sessions())
	second, err := h.ctx.OpenSession(h.slot, rw)
	require.NoError(t, err)
	assert.Equal(t, 2, h.Sessions())

	h.Set(faultp11.Rule{Function: "C_OpenSession", Code: pkcs11.CKR_DEVICE_ERROR})
	_, err = h.ctx.OpenSession(h.slot, rw)
	assert.Equal(t, deviceFail, err)
	assert.Equal(t, 2, h.Sessions())
	assert.Zero(t, h.LostSessions(), "the request was lost")

	h.Set(faultp11.Rule{Function: "C_OpenSession", When: faultp11.After, Code: pkcs11.CKR_DEVICE_ERROR})
	lost, err := h.ctx.OpenSession(h.slot, rw)
	assert.Equal(t, deviceFail, err)
	assert.Zero(t, lost, "the handle reached the caller")
	assert.Equal(t, 2, h.Sessions())
	assert.Equal(t, 1, h.LostSessions())

	h.Set(faultp11.Rule{Function: "C_CloseSession", Code: pkcs11.CKR_DEVICE_ERROR, Times: 1})
	assert.Equal(t, deviceFail, h.ctx.CloseSession(second))
	assert.Equal(t, 2, h.Sessions())
	assert.NoError(t, h.ctx.CloseSession(second))
	assert.Equal(t, 1, h.Sessions())
	assert.Error(t, h.ctx.CloseSession(second))
	assert.Equal(t, 1, h.Sessions())

	require.NoError(t, h.ctx.CloseAllSessions(h.slot))
	assert.Zero(t, h.Sessions()+h.LostSessions())
}

func TestCloseAllSessions(t *testing.T) {
	h := newHSM(t)
	require.NoError(t, h.CloseAllSessions())
	assert.Zero(t, h.Sessions())
	assert.Empty(t, h.Counts())
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_SESSION_HANDLE_INVALID), h.random())
	h.login(t) // would say that the user is logged in, if the login had survived
	assert.Equal(t, 1, h.Sessions())
}

func TestLimitSessions(t *testing.T) {
	h := newHSM(t)
	info, err := h.ctx.GetTokenInfo(h.slot)
	require.NoError(t, err)
	before := info.MaxSessionCount
	h.LimitSessions(3, false)
	var wg sync.WaitGroup
	opened := make(chan error, 20)
	for range cap(opened) {
		wg.Go(func() {
			_, err := h.ctx.OpenSession(h.slot, rw)
			opened <- err
		})
	}
	wg.Wait()
	close(opened)
	refused := 0
	for err := range opened {
		if err != nil {
			refused++
			assert.Equal(t, pkcs11.Error(pkcs11.CKR_SESSION_COUNT), err)
		}
	}
	assert.Equal(t, 3, h.Sessions())
	assert.Equal(t, 20-2, refused)
	info, err = h.ctx.GetTokenInfo(h.slot)
	require.NoError(t, err)
	assert.Equal(t, before, info.MaxSessionCount)

	h.LimitSessions(3, true)
	info, err = h.ctx.GetTokenInfo(h.slot)
	require.NoError(t, err)
	assert.EqualValues(t, 3, info.MaxSessionCount)
	assert.EqualValues(t, 3, info.MaxRwSessionCount)
	_, err = h.ctx.OpenSession(h.slot, rw)
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_SESSION_COUNT), err)
	h.LimitSessions(0, false)
	_, err = h.ctx.OpenSession(h.slot, rw)
	assert.NoError(t, err)
}

func TestLogout(t *testing.T) {
	h := newHSM(t)
	require.NoError(t, h.sign())
	require.NoError(t, h.Logout())
	assert.Zero(t, h.Count("C_Logout"))
	assert.Error(t, h.sign())
	assert.NoError(t, h.Logout(), "nobody is logged in")
	require.NoError(t, h.ctx.Login(h.session, pkcs11.CKU_USER, h.token.PIN))
	h.private = h.find(t, label("key"), pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY))[0]
	assert.NoError(t, h.sign())
}

func TestPINs(t *testing.T) {
	h := newHSM(t)
	assert.Equal(t, 1, h.UserLogins())
	already := pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)
	incorrect := pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)
	assert.Equal(t, already, h.ctx.Login(h.session, pkcs11.CKU_USER, "wrong"), "as SoftHSM2 does")
	assert.Zero(t, h.WrongPINs())
	h.CheckPINAlways(true)
	sameLength := strings.Repeat("x", len(h.token.PIN))
	assert.Equal(t, incorrect, h.ctx.Login(h.session, pkcs11.CKU_USER, sameLength))
	assert.Equal(t, already, h.ctx.Login(h.session, pkcs11.CKU_USER, h.token.PIN))
	assert.Equal(t, 1, h.WrongPINs())
	h.CheckPINAlways(false)
	assert.Equal(t, already, h.ctx.Login(h.session, pkcs11.CKU_USER, "wrong"))
	assert.Equal(t, 5, h.UserLogins())

	require.NoError(t, h.Logout())
	h.Set(faultp11.Rule{Function: "C_Login", Code: pkcs11.CKR_DEVICE_ERROR, Times: 1})
	assert.Equal(t, deviceFail, h.ctx.Login(h.session, pkcs11.CKU_USER, "wrong"))
	assert.Equal(t, 5, h.UserLogins(), "it didn't reach the token")
	assert.Equal(t, incorrect, h.ctx.Login(h.session, pkcs11.CKU_USER, "wrong"))
	assert.Equal(t, 2, h.WrongPINs())

	h.Set(faultp11.Rule{Function: "C_Login", When: faultp11.After, Code: pkcs11.CKR_DEVICE_ERROR, Times: 1})
	assert.Equal(t, deviceFail, h.ctx.Login(h.session, pkcs11.CKU_USER, h.token.PIN))
	assert.Equal(t, already, h.ctx.Login(h.session, pkcs11.CKU_USER, h.token.PIN))
	assert.Equal(t, 8, h.UserLogins())
	assert.Equal(t, 2, h.WrongPINs())

	require.NoError(t, h.ctx.Logout(h.session))
	require.NoError(t, h.ctx.Login(h.session, pkcs11.CKU_SO, h.token.SOPIN))
	assert.Equal(t, 8, h.UserLogins(), "the security officer is no user")
}

func TestRemoveAndInsert(t *testing.T) {
	h := newHSM(t)
	second, err := h.ctx.OpenSession(h.slot, rw)
	require.NoError(t, err)
	all, err := h.ctx.GetSlotList(false)
	require.NoError(t, err)
	require.NoError(t, h.Remove())

	present, err := h.ctx.GetSlotList(true)
	require.NoError(t, err)
	assert.Empty(t, present)
	slots, err := h.ctx.GetSlotList(false)
	require.NoError(t, err)
	assert.Equal(t, all, slots)
	info, err := h.ctx.GetSlotInfo(h.slot)
	require.NoError(t, err)
	assert.Zero(t, info.Flags&pkcs11.CKF_TOKEN_PRESENT)

	absent := pkcs11.Error(pkcs11.CKR_TOKEN_NOT_PRESENT)
	_, err = h.ctx.GetTokenInfo(h.slot)
	assert.Equal(t, absent, err)
	_, err = h.ctx.OpenSession(h.slot, rw)
	assert.Equal(t, absent, err)
	_, err = h.ctx.GetMechanismList(h.slot)
	assert.Equal(t, absent, err)
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_DEVICE_REMOVED), h.random())
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_DEVICE_REMOVED), h.ctx.CloseSession(second))
	assert.Zero(t, h.Sessions())

	h.Insert()
	present, err = h.ctx.GetSlotList(true)
	require.NoError(t, err)
	assert.True(t, slices.Contains(present, h.slot))
	info, err = h.ctx.GetSlotInfo(h.slot)
	require.NoError(t, err)
	assert.NotZero(t, info.Flags&pkcs11.CKF_TOKEN_PRESENT)
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_SESSION_HANDLE_INVALID), h.random(), "sessions stay closed")
	h.login(t)
	assert.Len(t, h.find(t, label("key")), 2)
}

func TestReinitializeAndFinalize(t *testing.T) {
	h := newHSM(t)
	old := h.session
	require.NoError(t, h.Reinitialize())
	assert.Zero(t, h.Sessions())
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_SESSION_HANDLE_INVALID), h.random())
	h.login(t)
	assert.Equal(t, old, h.session, "SoftHSM2 gives handles out again, which is what this is good for")

	require.NoError(t, h.Finalize())
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED), h.random())
	assert.Zero(t, h.Sessions())
	assert.Zero(t, h.Count("C_Finalize")+h.Count("C_Initialize"))
	require.NoError(t, h.ctx.Initialize())
	h.login(t)
	assert.NoError(t, h.random())
}

func TestTokenFlags(t *testing.T) {
	h := newHSM(t)
	flags := func() uint {
		info, err := h.ctx.GetTokenInfo(h.slot)
		require.NoError(t, err)
		return info.Flags
	}
	before := flags()
	require.NotZero(t, before&pkcs11.CKF_RNG)
	require.Zero(t, before&pkcs11.CKF_USER_PIN_FINAL_TRY)
	h.TokenFlags(pkcs11.CKF_USER_PIN_FINAL_TRY, pkcs11.CKF_RNG)
	assert.Equal(t, (before|pkcs11.CKF_USER_PIN_FINAL_TRY)&^pkcs11.CKF_RNG, flags())
	h.TokenFlags(0, 0)
	assert.Equal(t, before, flags())
}
