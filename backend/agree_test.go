package backend_test

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// agreeingKey is what a driver would write for a key that signs and agrees.
type agreeingKey struct {
	*backend.Handle
	backend.SignOps
	backend.AgreeOps
}

// onlyAgrees is what a driver would write for a key that agrees and does nothing else.
type onlyAgrees struct {
	*backend.Handle
	backend.AgreeOps
}

var (
	_ backend.KeyAgreer = agreeingKey{}
	_ ecdh.KeyExchanger = onlyAgrees{}
)

// agreeWith returns a handle that agrees as fn does; pub is its public key.
func agreeWith(pub crypto.PublicKey, usages backend.Usage, mode backend.CallMode, fn backend.AgreeFunc) onlyAgrees {
	h := backend.NewHandle(backend.HandleConfig{ID: "k", Public: pub, Mode: mode,
		Capabilities: backend.Capabilities{Algorithm: "EC", Usages: usages}})
	return onlyAgrees{h, h.Agreeing(fn)}
}

func newECDH(t testing.TB, curve ecdh.Curve) *ecdh.PrivateKey {
	t.Helper()
	key, err := curve.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return key
}

func TestAgreement(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		private, err := ecdsa.GenerateKey(curve, rand.Reader)
		require.NoError(t, err)
		own, err := private.ECDH()
		require.NoError(t, err)
		for name, mode := range modes {
			t.Run(curve.Params().Name+"/"+name, func(t *testing.T) {
				key := agreeWith(private.Public(), backend.UsageDerive, mode, func(_ context.Context, peer *ecdh.PublicKey) ([]byte, error) {
					return own.ECDH(peer)
				})
				assert.Equal(t, own.Curve(), key.Curve())
				assert.True(t, own.PublicKey().Equal(key.PublicKey()))
				peer := newECDH(t, own.Curve())
				want, err := peer.ECDH(key.PublicKey())
				require.NoError(t, err)
				got, err := key.ECDHContext(t.Context(), peer.PublicKey())
				require.NoError(t, err)
				assert.Equal(t, want, got)
				got, err = key.ECDH(peer.PublicKey())
				require.NoError(t, err)
				assert.Equal(t, want, got)
			})
		}
	}
}

// TestAgreementOnX25519 checks that a driver of such keys would find the contract ready for them.
func TestAgreementOnX25519(t *testing.T) {
	own, peer := newECDH(t, ecdh.X25519()), newECDH(t, ecdh.X25519())
	key := agreeWith(own.PublicKey(), backend.UsageDerive, backend.CallContext, func(_ context.Context, peer *ecdh.PublicKey) ([]byte, error) {
		return own.ECDH(peer)
	})
	want, err := peer.ECDH(own.PublicKey())
	require.NoError(t, err)
	got, err := key.ECDH(peer.PublicKey())
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

// TestAgreementIsRefused checks what must never reach the driver.
func TestAgreementIsRefused(t *testing.T) {
	p256 := newSigner(t, "ecdsa").Public()
	peer := newECDH(t, ecdh.P256()).PublicKey()
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		pub    crypto.PublicKey
		usages backend.Usage
		peer   *ecdh.PublicKey
		want   error
		text   string
	}{
		"without the usage":   {p256, backend.UsageSign, peer, backend.ErrUnsupported, "can't derive; its usages are sign"},
		"no peer":             {p256, backend.UsageDerive, nil, backend.ErrInvalidParams, "takes one on P-256"},
		"empty peer":          {p256, backend.UsageDerive, new(ecdh.PublicKey), backend.ErrInvalidParams, "takes one on P-256"},
		"another curve":       {p256, backend.UsageDerive, newECDH(t, ecdh.P384()).PublicKey(), backend.ErrInvalidParams, "on P-384; it takes one on P-256"},
		"X25519":              {p256, backend.UsageDerive, newECDH(t, ecdh.X25519()).PublicKey(), backend.ErrInvalidParams, "on X25519"},
		"an RSA key":          {newSigner(t, "rsa").Public(), backend.UsageDerive, peer, backend.ErrUnsupported, "P-256, P-384 or P-521"},
		"an Ed25519 key":      {newSigner(t, "ed25519").(ed25519.PrivateKey).Public(), backend.UsageDerive, peer, backend.ErrUnsupported, "P-256"},
		"P-224":               {p224.Public(), backend.UsageDerive, peer, backend.ErrUnsupported, "P-256"},
		"secp256k1":           {secp256k1Public(t), backend.UsageDerive, peer, backend.ErrUnsupported, "P-256"},
		"no key, empty peer":  {nil, backend.UsageDerive, new(ecdh.PublicKey), backend.ErrUnsupported, "P-256"},
		"no usages, no point": {nil, 0, nil, backend.ErrUnsupported, "its usages are none"},
	} {
		t.Run(name, func(t *testing.T) {
			key := agreeWith(test.pub, test.usages, backend.CallManaged, func(context.Context, *ecdh.PublicKey) ([]byte, error) {
				t.Error("the driver was called")
				return nil, nil
			})
			for _, agree := range []func() ([]byte, error){
				func() ([]byte, error) { return key.ECDHContext(t.Context(), test.peer) },
				func() ([]byte, error) { return key.ECDH(test.peer) },
			} {
				secret, err := agree()
				assert.ErrorIs(t, err, test.want)
				assert.ErrorContains(t, err, test.text)
				assert.Nil(t, secret)
			}
			assert.Equal(t, key.PublicKey() == nil, key.Curve() == nil)
		})
	}
}

// TestUnusableSecrets checks that what can't be a shared secret doesn't become a key.
func TestUnusableSecrets(t *testing.T) {
	p256, peer := newSigner(t, "ecdsa").Public(), newECDH(t, ecdh.P256()).PublicKey()
	x25519 := newECDH(t, ecdh.X25519()).PublicKey()
	stripped := append(make([]byte, 0, 32), 1)
	for name, secret := range map[string][]byte{
		"nil": nil, "zeros": make([]byte, 32), "stripped of zeros": stripped, "one byte longer": make([]byte, 33),
		"the whole point": append([]byte{4}, make([]byte, 64)...),
	} {
		answer := func(context.Context, *ecdh.PublicKey) ([]byte, error) { return secret, nil }
		for curve, key := range map[string]func() ([]byte, error){
			"P-256": func() ([]byte, error) {
				return agreeWith(p256, backend.UsageDerive, backend.CallManaged, answer).ECDH(peer)
			},
			"X25519": func() ([]byte, error) {
				return agreeWith(x25519, backend.UsageDerive, backend.CallManaged, answer).ECDH(x25519)
			},
		} {
			out, err := key()
			assert.ErrorIs(t, err, backend.ErrUnavailable, "%s on %s", name, curve)
			assert.ErrorContains(t, err, "gave a shared secret of", "%s on %s", name, curve)
			assert.Nil(t, out)
		}
	}
}

// TestAgreementIsBounded checks the contexts and errors of agreement; the modes themselves are tested with signing.
func TestAgreementIsBounded(t *testing.T) {
	p256, peer := newSigner(t, "ecdsa").Public(), newECDH(t, ecdh.P256()).PublicKey()
	busy := errors.New("busy")
	failing := agreeWith(p256, backend.UsageDerive, backend.CallManaged, func(context.Context, *ecdh.PublicKey) ([]byte, error) {
		return []byte("half a secret"), busy
	})
	secret, err := failing.ECDH(peer)
	assert.ErrorIs(t, err, busy)
	assert.Nil(t, secret)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = failing.ECDHContext(cancelled, peer)
	assert.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, busy, "the driver was called")

	h := backend.NewHandle(backend.HandleConfig{ID: "k", Public: p256, Timeout: time.Millisecond,
		Capabilities: backend.Capabilities{Usages: backend.UsageDerive}})
	hanging := h.Agreeing(func(ctx context.Context, _ *ecdh.PublicKey) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	within(t, "an agreement past its timeout", func() {
		_, err := hanging.ECDH(peer)
		assert.ErrorIs(t, err, backend.ErrUnavailable)
		assert.ErrorContains(t, err, "call timeout of 1ms")
	})
}
