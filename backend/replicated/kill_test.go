//go:build cgo

package replicated_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/replicated"
	"github.com/managedkeys/managedkeys/internal/p11kit"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// hsms returns a key that can be reached through the process of a server, which is preferred, and directly.
func hsms(tb testing.TB) (backend.Signer, *p11kit.Server) {
	tb.Helper()
	token := softhsm.Require(tb)
	server := p11kit.Require(tb, token)
	connect := func(path string) *pkcs11.Backend {
		b, err := pkcs11.New(pkcs11.Library{Name: "hsm", Path: path})
		require.NoError(tb, err)
		tb.Cleanup(func() { b.Close() })
		return b
	}
	direct := connect(token.Module)
	params := pkcs11.Params{
		Library: "hsm", TokenLabel: token.Label, PIN: backend.Secret(token.PIN), KeyLabel: "replicated", Mechanism: pkcs11.ECDSA, Curve: "P256",
	}
	_, err := direct.Generate(context.Background(), params, nil)
	require.NoError(tb, err)
	b, err := replicated.New([]replicated.Place{{Name: "served", Backend: connect(server.Module())}, {Name: "direct", Backend: direct}}, nil)
	require.NoError(tb, err)
	tb.Cleanup(func() { b.Close() })
	key, err := b.Open(context.Background(), replicated.Params{Places: []replicated.At{
		{Place: "served", Params: params}, {Place: "direct", Params: params},
	}})
	require.NoError(tb, err)
	return key.(backend.Signer), server
}

// TestKilledPlace: a process that serves one of two places is killed and started again while eight goroutines sign. No
// signature fails, and the place is used again when it is back.
func TestKilledPlace(t *testing.T) {
	key, server := hsms(t)
	served := func() error {
		return key.(interface{ Health() []replicated.Health }).Health()[0].Err
	}
	digest := make([]byte, 32)
	var wg sync.WaitGroup
	var signed atomic.Int64
	var ended atomic.Bool
	for range 8 {
		wg.Go(func() {
			for !ended.Load() {
				signature, err := key.SignContext(t.Context(), digest, crypto.SHA256)
				if !assert.NoError(t, err) || !assert.True(t, ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest, signature)) {
					return
				}
				signed.Add(1)
			}
		})
	}
	goesOn := func() {
		before := signed.Load()
		require.Eventually(t, func() bool { return signed.Load() > before+100 || t.Failed() }, 30*time.Second, time.Millisecond)
	}
	for range 3 {
		require.Eventually(t, func() bool { return served() == nil || t.Failed() }, 30*time.Second, time.Millisecond)
		goesOn()
		server.Kill()
		require.Eventually(t, func() bool { return served() != nil || t.Failed() }, 30*time.Second, time.Millisecond)
		goesOn()
		require.NoError(t, server.Start())
	}
	ended.Store(true)
	wg.Wait()
}
