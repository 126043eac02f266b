package backend_test

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rsa"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

func managed(t testing.TB, kind string, caps backend.Capabilities) *backend.Handle {
	t.Helper()
	cfg := backend.HandleConfig{ID: "k", Mode: backend.CallManaged, Capabilities: caps}
	if kind != "" {
		cfg.Public = newSigner(t, kind).Public()
	}
	return backend.NewHandle(cfg)
}

// TestManagedCallsAllocateNothing is what the mode is for.
func TestManagedCallsAllocateNothing(t *testing.T) {
	answer, input := []byte("answer"), make([]byte, 32)
	sign := func(context.Context, backend.SignRequest) ([]byte, error) { return answer, nil }
	signCaps := func(algs ...backend.SignatureAlgorithm) backend.Capabilities {
		return backend.Capabilities{Usages: backend.UsageSign, Signatures: algs}
	}
	ecdsaOps := managed(t, "ecdsa", signCaps(ecdsaSHA256)).Signing(sign)
	ed25519Ops := managed(t, "ed25519", signCaps(backend.SignatureAlgorithm{Scheme: backend.Ed25519})).Signing(sign)
	rsaOps := managed(t, "rsa", signCaps(pkcs1SHA256, pssSHA256)).Signing(sign)
	decrypts := managed(t, "rsa", backend.Capabilities{Usages: backend.UsageDecrypt, OAEPHashes: []crypto.Hash{crypto.SHA256}, OAEPLabels: true}).
		Decrypting(func(context.Context, backend.DecryptRequest) ([]byte, error) { return answer, nil })
	cipher := func(context.Context, []byte, []byte) ([]byte, error) { return answer, nil }
	aead := managed(t, "", backend.Capabilities{Usages: backend.UsageEncrypt | backend.UsageDecrypt}).AEAD(cipher, cipher)
	mac := managed(t, "", backend.Capabilities{Usages: backend.UsageMAC, MACs: []backend.MACAlgorithm{backend.HMACSHA256}}).
		MAC(func(context.Context, backend.MACAlgorithm, []byte) ([]byte, error) { return answer, nil })
	random := managed(t, "", backend.Capabilities{Usages: backend.UsageGenerateRandom, MaxRandom: 32}).
		Random(func(context.Context, int) ([]byte, error) { return answer, nil })
	wrap := func(context.Context, []byte) ([]byte, error) { return answer, nil }
	wraps := managed(t, "", backend.Capabilities{Usages: backend.UsageWrap | backend.UsageUnwrap}).Wrapping(wrap, wrap)

	secret, peer := make([]byte, 32), newECDH(t, ecdh.P256()).PublicKey()
	copy(secret, answer)
	agrees := managed(t, "ecdsa", backend.Capabilities{Usages: backend.UsageDerive}).
		Agreeing(func(context.Context, *ecdh.PublicKey) ([]byte, error) { return secret, nil })

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pss := &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash}
	oaep := &rsa.OAEPOptions{Hash: crypto.SHA256, Label: input}
	ciphertext := make([]byte, 256)
	for name, call := range map[string]func() ([]byte, error){
		"ECDSA":          func() ([]byte, error) { return ecdsaOps.Sign(nil, input, crypto.SHA256) },
		"ECDSA, context": func() ([]byte, error) { return ecdsaOps.SignContext(ctx, input, crypto.SHA256) },
		"Ed25519":        func() ([]byte, error) { return ed25519Ops.SignMessageContext(ctx, input, crypto.Hash(0)) },
		"PKCS#1":         func() ([]byte, error) { return rsaOps.SignContext(ctx, input, crypto.SHA256) },
		"PSS":            func() ([]byte, error) { return rsaOps.SignContext(ctx, input, pss) },
		"decrypt":        func() ([]byte, error) { return decrypts.DecryptContext(ctx, ciphertext, oaep) },
		"agree": func() ([]byte, error) {
			out, err := agrees.ECDHContext(ctx, peer)
			return out[:len(answer)], err
		},
		"seal":   func() ([]byte, error) { return aead.Seal(ctx, input, input) },
		"open":   func() ([]byte, error) { return aead.Open(ctx, input, nil) },
		"mac":    func() ([]byte, error) { return mac.ComputeMAC(ctx, backend.HMACSHA256, input) },
		"random": func() ([]byte, error) { return random.GenerateRandom(ctx, 32) },
		"wrap":   func() ([]byte, error) { return wraps.WrapKey(ctx, input) },
		"unwrap": func() ([]byte, error) { return wraps.UnwrapKey(ctx, input) },
	} {
		var out []byte
		var err error
		allocs := testing.AllocsPerRun(100, func() { out, err = call() })
		require.NoError(t, err, name)
		assert.Equal(t, answer, out, name)
		assert.Zero(t, allocs, name)
	}
}

// TestManagedCallsAreLeftAlone checks that the driver gets the caller's context and input themselves, on the caller's
// goroutine, and that its own timeout is reported as it says.
func TestManagedCallsAreLeftAlone(t *testing.T) {
	type key struct{}
	caller := context.WithValue(t.Context(), key{}, 1)
	digest := make([]byte, 32)
	late := errors.New("no answer within 1s")
	ops := managed(t, "ecdsa", backend.Capabilities{Usages: backend.UsageSign, Signatures: []backend.SignatureAlgorithm{ecdsaSHA256}}).
		Signing(func(ctx context.Context, req backend.SignRequest) ([]byte, error) {
			assert.Equal(t, caller, ctx)
			assert.Same(t, &digest[0], &req.Digest[0])
			return nil, errors.Join(backend.ErrUnavailable, late)
		})
	_, err := ops.SignContext(caller, digest, crypto.SHA256)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.ErrorIs(t, err, late)
	assert.NotContains(t, err.Error(), "caller's deadline")
}

// TestManagedContextErrors checks that a context which ended during the call is told apart as in the other modes, and
// that an answer which came all the same is not thrown away.
func TestManagedContextErrors(t *testing.T) {
	cause := errors.New("service said: gone")
	wait := func(ctx context.Context, _ backend.SignRequest) ([]byte, error) {
		<-ctx.Done()
		return nil, cause
	}
	sign := signWith(t, backend.HandleConfig{Mode: backend.CallManaged}, wait)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := sign(ctx)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorIs(t, err, cause)
	assert.ErrorContains(t, err, "caller's deadline")

	ctx, cancel = context.WithCancel(t.Context())
	sign = signWith(t, backend.HandleConfig{Mode: backend.CallManaged}, func(ctx context.Context, req backend.SignRequest) ([]byte, error) {
		cancel()
		return wait(ctx, req)
	})
	_, err = sign(ctx)
	assert.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, backend.ErrUnavailable)

	ctx, cancel = context.WithCancel(t.Context())
	sign = signWith(t, backend.HandleConfig{Mode: backend.CallManaged}, func(context.Context, backend.SignRequest) ([]byte, error) {
		cancel()
		return []byte("sig"), nil
	})
	out, err := sign(ctx)
	assert.NoError(t, err)
	assert.Equal(t, []byte("sig"), out)
}
