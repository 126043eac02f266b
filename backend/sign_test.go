package backend_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"io"
	"strings"
	"testing"

	"filippo.io/mldsa"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

var (
	pkcs1SHA256 = backend.SignatureAlgorithm{Scheme: backend.RSAPKCS1v15, Hash: crypto.SHA256}
	pssSHA256   = backend.SignatureAlgorithm{Scheme: backend.RSAPSS, Hash: crypto.SHA256}
	ecdsaSHA256 = backend.SignatureAlgorithm{Scheme: backend.ECDSA, Hash: crypto.SHA256}
	pureEd25519 = backend.SignatureAlgorithm{Scheme: backend.Ed25519}
	pureMLDSA   = backend.SignatureAlgorithm{Scheme: backend.MLDSA}
)

var (
	_ backend.MessageSigner = signingKey{}
	_ backend.Verifier      = signingKey{}
	_ backend.Decrypter     = rsaKey{}
	_ crypto.MessageSigner  = signingKey{}
	_ crypto.Decrypter      = rsaKey{}
)

func TestSignAndVerify(t *testing.T) {
	for _, test := range []struct {
		name, kind string
		alg        backend.SignatureAlgorithm
		opts       crypto.SignerOpts
	}{
		{"PKCS1", "rsa", pkcs1SHA256, crypto.SHA256},
		{"PSS", "rsa", pssSHA256, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash}},
		{"ECDSA", "ecdsa", ecdsaSHA256, crypto.SHA256},
		{"Ed25519ph", "ed25519", backend.SignatureAlgorithm{Scheme: backend.Ed25519, Hash: crypto.SHA512}, &ed25519.Options{Hash: crypto.SHA512}},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, _ := newKey(t, test.kind, test.alg)
			digest := digestOf(test.alg.Hash, "message")
			sig, err := key.Sign(nil, digest, test.opts)
			require.NoError(t, err)
			assert.NoError(t, key.VerifyContext(t.Context(), digest, sig, test.opts))

			sig, err = key.SignMessage(nil, []byte("message"), test.opts)
			require.NoError(t, err)
			assert.NoError(t, key.VerifyContext(t.Context(), digest, sig, test.opts), "SignMessage hashes")

			sig[len(sig)-1] ^= 1
			assert.ErrorIs(t, key.VerifyContext(t.Context(), digest, sig, test.opts), backend.ErrInvalidSignature)
		})
	}
}

func TestMessageSchemes(t *testing.T) {
	for kind, alg := range map[string]backend.SignatureAlgorithm{"ed25519": pureEd25519, "mldsa": pureMLDSA} {
		t.Run(kind, func(t *testing.T) {
			key, _ := newKeyWith(t, kind, backend.HandleConfig{Capabilities: backend.Capabilities{
				Signatures: []backend.SignatureAlgorithm{alg}, SignatureContexts: true, MinMessage: 2, MaxMessage: 100}})
			withContext := func(s string) crypto.SignerOpts {
				if kind == "mldsa" {
					return &mldsa.Options{Context: s}
				}
				return &ed25519.Options{Context: s}
			}
			message := []byte("a message, not a digest")
			for _, sign := range []func([]byte, crypto.SignerOpts) ([]byte, error){
				func(m []byte, o crypto.SignerOpts) ([]byte, error) { return key.Sign(nil, m, o) },
				func(m []byte, o crypto.SignerOpts) ([]byte, error) { return key.SignMessage(nil, m, o) },
			} {
				sig, err := sign(message, crypto.Hash(0))
				require.NoError(t, err)
				assert.NoError(t, key.VerifyContext(t.Context(), message, sig, crypto.Hash(0)))
				assert.ErrorIs(t, key.VerifyContext(t.Context(), message, sig, withContext("x")), backend.ErrInvalidSignature)

				sig, err = sign(message, withContext("x"))
				require.NoError(t, err)
				assert.NoError(t, key.VerifyContext(t.Context(), message, sig, withContext("x")))

				_, err = sign(make([]byte, 101), crypto.Hash(0))
				assert.ErrorIs(t, err, backend.ErrInvalidParams, "longer than MaxMessage")
				_, err = sign(make([]byte, 1), crypto.Hash(0))
				assert.ErrorIs(t, err, backend.ErrInvalidParams, "shorter than MinMessage")
				_, err = sign(message, withContext(strings.Repeat("x", 256)))
				assert.ErrorIs(t, err, backend.ErrInvalidParams, "context longer than 255 bytes")
				_, err = sign(make([]byte, 32), crypto.SHA256)
				assert.ErrorIs(t, err, backend.ErrUnsupported, "a digest")
			}
			plain, r := newKey(t, kind, alg)
			_, err := plain.Sign(nil, message, withContext("x"))
			assert.ErrorIs(t, err, backend.ErrUnsupported, "context strings are not declared")
			assert.Zero(t, r.calls())
		})
	}
}

// TestRefusedBeforeCall checks that what a key can't do never reaches the key manager and says what the key takes.
func TestRefusedBeforeCall(t *testing.T) {
	pss := func(salt int) crypto.SignerOpts { return &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: salt} }
	strict := backend.SignatureAlgorithm{Scheme: backend.RSAPSS, Hash: crypto.SHA256, Salt: backend.SaltEqualsHash}
	for _, test := range []struct {
		name   string
		kind   string
		alg    backend.SignatureAlgorithm
		length int
		opts   crypto.SignerOpts
		want   error
		text   string
	}{
		{"no options", "rsa", pkcs1SHA256, 32, nil, backend.ErrInvalidParams, "options <nil>"},
		{"nil PSS options", "rsa", pssSHA256, 32, (*rsa.PSSOptions)(nil), backend.ErrInvalidParams, "*rsa.PSSOptions"},
		{"nil Ed25519 options", "ed25519", pureEd25519, 32, (*ed25519.Options)(nil), backend.ErrInvalidParams, "*ed25519.Options"},
		{"nil ML-DSA options", "mldsa", pureMLDSA, 32, (*mldsa.Options)(nil), backend.ErrInvalidParams, "*mldsa.Options"},
		{"nil PSS options for another kind", "ecdsa", ecdsaSHA256, 32, (*rsa.PSSOptions)(nil), backend.ErrInvalidParams, "*rsa.PSSOptions"},
		{"nil Ed25519 options for another kind", "rsa", pkcs1SHA256, 32, (*ed25519.Options)(nil), backend.ErrInvalidParams, "*ed25519.Options"},
		{"hash", "rsa", pkcs1SHA256, 48, crypto.SHA384, backend.ErrUnsupported, "can't sign with RSA PKCS#1 v1.5 with SHA-384; it takes RSA PKCS#1 v1.5 with SHA-256"},
		{"no hash", "rsa", pkcs1SHA256, 32, crypto.Hash(0), backend.ErrUnsupported, "it takes RSA PKCS#1 v1.5 with SHA-256"},
		{"unknown hash", "ecdsa", ecdsaSHA256, 32, crypto.Hash(200), backend.ErrUnsupported, "can't sign"},
		{"scheme", "rsa", pkcs1SHA256, 32, pss(-1), backend.ErrUnsupported, "can't sign with RSA PSS with SHA-256"},
		{"short digest", "ecdsa", ecdsaSHA256, 31, crypto.SHA256, backend.ErrInvalidParams, "got a digest of 31 bytes; SHA-256 has 32"},
		{"long digest", "ecdsa", ecdsaSHA256, 33, crypto.SHA256, backend.ErrInvalidParams, "got a digest of 33 bytes"},
		{"empty digest", "rsa", pkcs1SHA256, 0, crypto.SHA256, backend.ErrInvalidParams, "got a digest of 0 bytes"},
		{"negative salt", "rsa", pssSHA256, 32, pss(-2), backend.ErrInvalidParams, "salt length of -2 bytes; with SHA-256 it takes 0 to 222"},
		{"salt too long", "rsa", pssSHA256, 32, pss(223), backend.ErrInvalidParams, "salt length of 223 bytes; with SHA-256 it takes 0 to 222"},
		{"salt not the hash's", "rsa", strict, 32, pss(20), backend.ErrUnsupported, "with SHA-256 it takes 32"},
		{"strict salt named", "rsa", strict, 48, &rsa.PSSOptions{Hash: crypto.SHA384}, backend.ErrUnsupported, "(salt as long as the hash)"},
		{"Ed25519ph", "ed25519", pureEd25519, 64, &ed25519.Options{Hash: crypto.SHA512}, backend.ErrUnsupported, "it takes Ed25519"},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, r := newKey(t, test.kind, test.alg)
			_, err := key.Sign(nil, make([]byte, test.length), test.opts)
			assert.ErrorIs(t, err, test.want)
			assert.ErrorContains(t, err, test.text)
			assert.Zero(t, r.calls(), "the driver was called")
		})
	}
	t.Run("usage", func(t *testing.T) {
		key, r := newKeyWith(t, "ecdsa", backend.HandleConfig{Capabilities: backend.Capabilities{
			Signatures: []backend.SignatureAlgorithm{ecdsaSHA256}, Usages: backend.UsageVerify}})
		_, err := key.Sign(nil, make([]byte, 32), crypto.SHA256)
		assert.ErrorIs(t, err, backend.ErrUnsupported)
		assert.ErrorContains(t, err, "can't sign; its usages are verify")
		assert.Zero(t, r.calls())
	})
	t.Run("symmetric", func(t *testing.T) {
		h := backend.NewHandle(backend.HandleConfig{Capabilities: backend.Capabilities{Usages: backend.UsageDefault}})
		_, err := h.Signing(nil).Sign(nil, make([]byte, 32), crypto.SHA256)
		assert.ErrorIs(t, err, backend.ErrUnsupported)
	})
}

func TestPSSSalt(t *testing.T) {
	for given, want := range map[int]int{rsa.PSSSaltLengthAuto: 32, rsa.PSSSaltLengthEqualsHash: 32, 1: 1, 20: 20, 32: 32, 222: 222} {
		key, r := newKey(t, "rsa", pssSHA256)
		digest := sha256.Sum256([]byte("message"))
		sig, err := key.Sign(nil, digest[:], &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: given})
		require.NoError(t, err)
		assert.Equal(t, want, r.last().SaltLength)
		assert.NoError(t, key.VerifyContext(t.Context(), digest[:], sig, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: want}))
		assert.NoError(t, key.VerifyContext(t.Context(), digest[:], sig, &rsa.PSSOptions{Hash: crypto.SHA256}), "auto accepts any")
		wrong := &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: want - 1}
		if want > 1 {
			assert.ErrorIs(t, key.VerifyContext(t.Context(), digest[:], sig, wrong), backend.ErrInvalidSignature)
		}
	}
}

// TestUnhashedPKCS1 checks that a driver may declare PKCS#1 v1.5 without a hash and then gets the input as it is.
func TestUnhashedPKCS1(t *testing.T) {
	key, r := newKey(t, "rsa", backend.SignatureAlgorithm{Scheme: backend.RSAPKCS1v15})
	for _, sign := range []func() ([]byte, error){
		func() ([]byte, error) { return key.Sign(nil, []byte("raw"), crypto.Hash(0)) },
		func() ([]byte, error) { return key.SignMessage(nil, []byte("raw"), crypto.Hash(0)) },
	} {
		sig, err := sign()
		require.NoError(t, err)
		assert.Equal(t, []byte("raw"), r.last().Message)
		assert.NoError(t, key.VerifyContext(t.Context(), []byte("raw"), sig, crypto.Hash(0)))
	}
}

func TestVerifyRefusesNonsense(t *testing.T) {
	pub := newSigner(t, "rsa").Public()
	for name, test := range map[string]struct {
		pub    crypto.PublicKey
		digest int
		opts   crypto.SignerOpts
		want   error
	}{
		"nil key":       {nil, 32, crypto.SHA256, backend.ErrUnsupported},
		"foreign key":   {"a string", 32, crypto.SHA256, backend.ErrUnsupported},
		"nil options":   {pub, 32, nil, backend.ErrInvalidParams},
		"digest length": {pub, 31, crypto.SHA256, backend.ErrInvalidParams},
		"unknown hash":  {pub, 32, crypto.Hash(200), backend.ErrUnsupported},
		"PSS no hash":   {pub, 32, &rsa.PSSOptions{}, backend.ErrInvalidParams},
		"PSS salt":      {pub, 32, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: -2}, backend.ErrInvalidParams},
		"ML-DSA hash":   {newSigner(t, "mldsa").Public(), 32, crypto.SHA256, backend.ErrUnsupported},
		"Ed25519 hash":  {newSigner(t, "ed25519").Public(), 32, crypto.SHA256, backend.ErrInvalidSignature},
		"wrong":         {pub, 32, crypto.SHA256, backend.ErrInvalidSignature},
	} {
		t.Run(name, func(t *testing.T) {
			assert.ErrorIs(t, backend.Verify(test.pub, make([]byte, test.digest), make([]byte, 256), test.opts), test.want)
		})
	}
	key, _ := newKey(t, "ecdsa", ecdsaSHA256)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, key.VerifyContext(ctx, make([]byte, 32), nil, crypto.SHA256), context.Canceled)
}

// TestVerifySignatures checks that a key manager which signs with another key is found out, if the driver asks for it.
func TestVerifySignatures(t *testing.T) {
	for kind, test := range map[string]struct {
		alg  backend.SignatureAlgorithm
		opts crypto.SignerOpts
	}{
		"rsa":     {pssSHA256, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 20}},
		"ecdsa":   {ecdsaSHA256, crypto.SHA256},
		"ed25519": {pureEd25519, crypto.Hash(0)},
		"mldsa":   {pureMLDSA, crypto.Hash(0)},
	} {
		t.Run(kind, func(t *testing.T) {
			for _, verify := range []bool{true, false} {
				key, r := newKeyWith(t, kind, backend.HandleConfig{VerifySignatures: verify,
					Capabilities: backend.Capabilities{Signatures: []backend.SignatureAlgorithm{test.alg}}})
				input := make([]byte, 32)
				_, err := key.Sign(nil, input, test.opts)
				assert.NoError(t, err)

				if kind == "rsa" { // a fresh one takes long
					r.key = saltless{r.key}
				} else {
					r.key = newSigner(t, kind)
				}
				signature, err := key.Sign(nil, input, test.opts)
				if verify {
					assert.ErrorIs(t, err, backend.ErrKeyChanged)
					assert.Nil(t, signature)
				} else {
					assert.NoError(t, err)
				}
			}
		})
	}
}

// saltless signs with another salt length than it was told.
type saltless struct{ crypto.Signer }

func (s saltless) Sign(rand io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	return s.Signer.Sign(rand, digest, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 21})
}

// TestInputsAreCopied checks that a detached driver may go on reading after its caller has left.
func TestInputsAreCopied(t *testing.T) {
	release, seen := make(chan struct{}), make(chan byte, 1)
	h := backend.NewHandle(backend.HandleConfig{
		Public: newSigner(t, "ecdsa").Public(), Mode: backend.CallDetached,
		Capabilities: backend.Capabilities{Usages: backend.UsageSign, Signatures: []backend.SignatureAlgorithm{ecdsaSHA256}},
	})
	entered := make(chan struct{})
	ops := h.Signing(func(_ context.Context, req backend.SignRequest) ([]byte, error) {
		close(entered)
		<-release
		seen <- req.Digest[0]
		return nil, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	digest := make([]byte, 32)
	within(t, "an abandoned call", func() {
		_, err := ops.SignContext(ctx, digest, crypto.SHA256)
		assert.ErrorIs(t, err, context.Canceled)
		assert.NotErrorIs(t, err, backend.ErrUnavailable, "leaving is the caller's own doing")
	})
	digest[0] = 1 // the race detector would see this, too
	close(release)
	assert.Zero(t, <-seen)
}

// A key manager that hashes messages itself needs them, and must be able to tell an empty message from a digest alone.
func TestMessageBesideDigest(t *testing.T) {
	key, r := newKey(t, "ecdsa", ecdsaSHA256)
	for _, message := range [][]byte{[]byte("message"), {}, nil} {
		_, err := key.SignMessage(nil, message, crypto.SHA256)
		require.NoError(t, err)
		assert.NotNil(t, r.last().Message)
		assert.Equal(t, string(message), string(r.last().Message))
		assert.Equal(t, digestOf(crypto.SHA256, string(message)), r.last().Digest)
	}
	_, err := key.Sign(nil, digestOf(crypto.SHA256, "message"), crypto.SHA256)
	require.NoError(t, err)
	assert.Nil(t, r.last().Message)
}

// TestUnhashed: without a hash RSASSA-PKCS1-v1_5 needs the capability; the driver is given the input, and no more than fits.
func TestUnhashed(t *testing.T) {
	key := rsa2048()
	for _, allowed := range []bool{false, true} {
		calls := 0
		h := backend.NewHandle(backend.HandleConfig{ID: "k", Public: key.Public(), VerifySignatures: true, Capabilities: backend.Capabilities{
			Usages: backend.UsageSign, Signatures: []backend.SignatureAlgorithm{{Scheme: backend.RSAPKCS1v15, Hash: crypto.SHA256}}, UnhashedPKCS1v15: allowed}})
		ops := h.Signing(func(_ context.Context, req backend.SignRequest) ([]byte, error) {
			calls++
			assert.Zero(t, req.Hash)
			assert.Nil(t, req.Digest)
			return rsa.SignPKCS1v15(nil, key, 0, req.Message)
		})
		_, err := ops.Sign(nil, []byte("digest info"), crypto.Hash(0))
		if !allowed {
			assert.ErrorIs(t, err, backend.ErrUnsupported)
			assert.ErrorContains(t, err, "can't sign with RSA PKCS#1 v1.5; it takes RSA PKCS#1 v1.5 with SHA-256")
			assert.Zero(t, calls)
			continue
		}
		require.NoError(t, err, "the signature is verified as well")
		_, err = ops.SignMessage(nil, make([]byte, 256-11), crypto.Hash(0))
		require.NoError(t, err)
		assert.Equal(t, 2, calls)
		_, err = ops.Sign(nil, make([]byte, 256-10), crypto.Hash(0))
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
		assert.ErrorContains(t, err, "got an input of 246 bytes; without a hash it takes at most 245")
		_, err = ops.Sign(nil, make([]byte, 32), &rsa.PSSOptions{})
		assert.ErrorIs(t, err, backend.ErrUnsupported, "of another scheme it says nothing")
		assert.Equal(t, 2, calls)
	}
}
