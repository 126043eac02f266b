package pkcs11

import (
	"context"
	"crypto"
	"crypto/rsa"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// TestAllocations: an operation allocates its result and nothing else.
func TestAllocations(t *testing.T) {
	token := softhsm.Require(t)
	for name, lib := range map[string]Library{"workers": {Path: token.Module}, "inline": {Path: token.Module, InlineCalls: true}} {
		t.Run(name, func(t *testing.T) {
			b := connectWith(t, lib)
			ec := withCurve(on(token, name+"-ec", ECDSA), "P256")
			rsaParams := withBits(on(token, name+"-rsa", RSAPKCS), 2048)
			ed, hmac := on(token, name+"-ed", EdDSA), withBits(on(token, name+"-hmac", SHA256HMAC), 256)
			aes := withBits(on(token, name+"-aes", AESGCM), 256)
			signs := func(p Params, opts crypto.SignerOpts) func() error {
				key := mustGenerateOnce(t, b, p).(backend.Signer)
				digest := make([]byte, 32)
				return func() error { _, err := key.SignContext(context.Background(), digest, opts); return err }
			}
			mac := mustGenerateOnce(t, b, hmac).(backend.MAC)
			aead := mustGenerateOnce(t, b, aes).(backend.AEAD)
			message := make([]byte, 1024)
			for what, operation := range map[string]func() error{
				"ECDSA":   signs(ec, crypto.SHA256),
				"PKCS#1":  signs(rsaParams, crypto.SHA256),
				"PSS":     signs(rsaParams, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}),
				"Ed25519": signs(ed, crypto.Hash(0)),
				"HMAC":    func() error { _, err := mac.ComputeMAC(context.Background(), backend.HMACSHA256, message); return err },
				"AES-GCM": func() error { _, err := aead.Seal(context.Background(), message, nil); return err },
			} {
				if err := operation(); err != nil {
					t.Fatal(err)
				}
				most := 1.0
				if raceEnabled {
					most = 16
				}
				n := testing.AllocsPerRun(100, mustSucceed(t, operation))
				for i := 0; n > most && i < 5; i++ { // what else happens in the process at the time counts as well
					n = min(n, testing.AllocsPerRun(100, mustSucceed(t, operation)))
				}
				if n > most {
					t.Errorf("%s: %v allocations, want at most %v", what, n, most)
				}
			}
		})
	}
}

// mustSucceed returns a function that fails the test if operation fails.
func mustSucceed(tb testing.TB, operation func() error) func() {
	return func() {
		if err := operation(); err != nil {
			tb.Error(err)
		}
	}
}

// mustGenerateOnce generates the key, or opens it if it is there.
func mustGenerateOnce(tb testing.TB, b *Backend, p Params) backend.Key {
	tb.Helper()
	if key, err := b.Open(tb.Context(), p); err == nil {
		return key
	}
	return mustGenerate(tb, b, p)
}
