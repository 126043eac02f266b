package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// connectTo returns a backend over the module of token, with the stanza's name "soft", closed when the test ends.
func connectTo(tb testing.TB, token *softhsm.Token) *Backend {
	tb.Helper()
	return connectWith(tb, Library{Path: token.Module})
}

// connectWith returns a backend over a stanza, which gets the name "soft", closed when the test ends.
func connectWith(tb testing.TB, lib Library) *Backend {
	tb.Helper()
	lib.Name = "soft"
	b, err := New(lib)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := b.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return b
}

// on returns parameters of a key on token.
func on(token *softhsm.Token, label string, m Mechanism) Params {
	return Params{Library: "soft", TokenLabel: token.Label, PIN: backend.Secret(token.PIN), KeyLabel: label, Mechanism: m}
}

func withCurve(p Params, curve string) Params { p.Curve = curve; return p }
func withBits(p Params, bits int) Params      { p.KeyBits = bits; return p }

func mustGenerate(tb testing.TB, b *Backend, p Params) backend.Key {
	tb.Helper()
	key, err := b.Generate(tb.Context(), p, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func mustOpen(tb testing.TB, b *Backend, p Params) backend.Key {
	tb.Helper()
	key, err := b.Open(tb.Context(), p)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// signsWell signs with the key and checks the signature.
func signsWell(tb testing.TB, key backend.Key) {
	tb.Helper()
	if err := signOnce(tb.Context(), key); err != nil {
		tb.Error(err)
	}
}

// signOnce signs with the key and checks the signature.
func signOnce(ctx context.Context, key backend.Key) error {
	digest := make([]byte, 32)
	var opts crypto.SignerOpts = crypto.SHA256
	if key.Capabilities().SignsMessages() {
		opts = crypto.Hash(0)
	}
	signature, err := key.(backend.Signer).SignContext(ctx, digest, opts)
	if err != nil {
		return err
	}
	return backend.Verify(key.Public(), digest, signature, opts)
}

// wants checks that err wraps a sentinel and says certain words, and no PIN.
func wants(tb testing.TB, err, want error, words ...string) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Errorf("error = %v, want one that wraps %q", err, want)
		return
	}
	for _, w := range words {
		if !bytes.Contains([]byte(err.Error()), []byte(w)) {
			tb.Errorf("error %q doesn't say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "wrong-pin") {
		tb.Errorf("error shows the PIN: %v", err)
	}
}
