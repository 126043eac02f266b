//go:build cgo

package faultp11_test

import (
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/faultp11"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

const (
	rw         = pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION
	deviceFail = pkcs11.Error(pkcs11.CKR_DEVICE_ERROR)
)

// hsm is a SoftHSM2 token behind a shim, with an ECDSA P-256 key pair whose label is "key", and a user who is logged in.
type hsm struct {
	*faultp11.Module
	ctx     *pkcs11.Ctx
	token   *softhsm.Token
	slot    uint
	session pkcs11.SessionHandle
	public  pkcs11.ObjectHandle
	private pkcs11.ObjectHandle
}

func newHSM(t testing.TB) *hsm {
	t.Helper()
	token := softhsm.Require(t)
	h := &hsm{Module: faultp11.Require(t, token.Module), token: token}
	slot, err := strconv.ParseUint(token.Slot, 10, 64)
	require.NoError(t, err)
	h.slot = uint(slot)
	h.ctx = pkcs11.New(h.Path())
	require.NotNil(t, h.ctx)
	require.NoError(t, h.ctx.Initialize())
	t.Cleanup(func() {
		h.Set()
		h.Insert()
		h.ctx.Finalize() // fails in tests that have done so
	})
	h.login(t)
	h.public, h.private, err = h.generate("key")
	require.NoError(t, err)
	h.ResetCounts()
	return h
}

// login opens a session and logs the user in.
func (h *hsm) login(t testing.TB) {
	t.Helper()
	var err error
	h.session, err = h.ctx.OpenSession(h.slot, rw)
	require.NoError(t, err)
	require.NoError(t, h.ctx.Login(h.session, pkcs11.CKU_USER, h.token.PIN))
}

func (h *hsm) generate(label string) (public, private pkcs11.ObjectHandle, err error) {
	p256 := []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}
	return h.ctx.GenerateKeyPair(h.session, mechanism(pkcs11.CKM_EC_KEY_PAIR_GEN),
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p256),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
			pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(label)),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		})
}

func (h *hsm) sign() error {
	if err := h.ctx.SignInit(h.session, mechanism(pkcs11.CKM_ECDSA), h.private); err != nil {
		return err
	}
	_, err := h.ctx.Sign(h.session, make([]byte, 32))
	return err
}

func (h *hsm) find(t testing.TB, template ...*pkcs11.Attribute) []pkcs11.ObjectHandle {
	t.Helper()
	require.NoError(t, h.ctx.FindObjectsInit(h.session, template))
	var all []pkcs11.ObjectHandle
	for {
		found, _, err := h.ctx.FindObjects(h.session, 2)
		require.NoError(t, err)
		if len(found) == 0 {
			break
		}
		all = append(all, found...)
	}
	require.NoError(t, h.ctx.FindObjectsFinal(h.session))
	return all
}

func (h *hsm) random() error {
	_, err := h.ctx.GenerateRandom(h.session, 8)
	return err
}

func mechanism(number uint) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(number, nil)}
}

func label(text string) *pkcs11.Attribute { return pkcs11.NewAttribute(pkcs11.CKA_LABEL, text) }

// eventually waits for the condition.
func eventually(t testing.TB, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 30*time.Second, time.Millisecond)
}

// TestConcurrentUse is for the race detector, and for the counters.
func TestConcurrentUse(t *testing.T) {
	h := newHSM(t)
	const goroutines, calls = 8, 200
	var wg sync.WaitGroup
	for range goroutines {
		session, err := h.ctx.OpenSession(h.slot, rw)
		require.NoError(t, err)
		wg.Go(func() {
			for range calls {
				_, err := h.ctx.GenerateRandom(session, 8)
				if err != nil && !errors.Is(err, deviceFail) {
					t.Error(err)
				}
			}
		})
	}
	for range 100 {
		h.Set(faultp11.Rule{Function: "C_GenerateRandom", Code: pkcs11.CKR_DEVICE_ERROR, Times: 2},
			faultp11.Rule{Function: "C_GenerateRandom", Hang: true, Times: 2})
		h.Release()
		h.TokenFlags(1, 2)
		h.Sessions()
		h.Set()
	}
	wg.Wait()
	assert.Equal(t, goroutines*calls, h.Count("C_GenerateRandom"))
	assert.Zero(t, h.Hanging())
	assert.Zero(t, h.OverlappingFinalizes())
}
