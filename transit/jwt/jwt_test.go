package jwt

import (
	"context"
	"errors"
	"strings"
	"testing"

	josev4 "github.com/go-jose/go-jose/v4"
	jwtv5 "github.com/golang-jwt/jwt/v5"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/transit"
)

// signerOf returns a software key of that type.
func signerOf(tb testing.TB, kind string) *transit.Signer {
	tb.Helper()
	store := software.New(nil)
	tb.Cleanup(func() { store.Close() })
	mount, err := managedkey.NewRegistry().Mount(tb.Context(), "", "transit")
	if err != nil {
		tb.Fatal(err)
	}
	e := transit.New(mount, &transit.Options{Software: store})
	if err := e.CreateKey(tb.Context(), "k", transit.KeyOptions{Type: kind}); err != nil {
		tb.Fatal(err)
	}
	s, err := e.Signer(tb.Context(), "k", 0)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// Tokens are verified by go-jose, by golang-jwt with its own method, and by the method itself; not by another key.
func TestMethod(t *testing.T) {
	for kind, algorithms := range map[string][]string{
		transit.TypeP256: {"ES256"}, transit.TypeP384: {"ES384"}, transit.TypeP521: {"ES512"}, transit.TypeEd25519: {"EdDSA"},
		transit.TypeRSA2048: {"PS256", "PS384", "PS512", "RS256", "RS384", "RS512"},
	} {
		s, other := signerOf(t, kind), signerOf(t, kind)
		for _, algorithm := range algorithms {
			m, err := NewMethod(s, algorithm)
			if err != nil {
				t.Fatal(err)
			}
			text, err := jwtv5.NewWithClaims(m, jwtv5.RegisteredClaims{Subject: "alice"}).SignedString(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", algorithm, err)
			}
			parse := func(by *transit.Signer) error {
				_, err := jwtv5.Parse(text, func(*jwtv5.Token) (any, error) { return by.Public(), nil }, jwtv5.WithValidMethods(algorithms))
				return err
			}
			if err := parse(s); err != nil {
				t.Errorf("%s: golang-jwt: %v", algorithm, err)
			}
			if parse(other) == nil {
				t.Errorf("%s: another key verifies it", algorithm)
			}
			object, err := josev4.ParseSignedCompact(text, []josev4.SignatureAlgorithm{josev4.SignatureAlgorithm(algorithm)})
			if err == nil {
				_, err = object.Verify(s.Public())
			}
			if err != nil {
				t.Errorf("%s: go-jose: %v", algorithm, err)
			}
			i := strings.LastIndex(text, ".")
			signature, err := jwtv5.NewParser().DecodeSegment(text[i+1:])
			if err != nil || m.Verify(text[:i], signature, nil) != nil || m.Verify(text[:i]+"x", signature, nil) == nil {
				t.Errorf("%s: Verify is wrong; %v", algorithm, err)
			}
		}
		if m, err := NewMethod(s, ""); err != nil || m.Alg() != algorithms[0] {
			t.Errorf("%s: prefers %v, %v", kind, m, err)
		}
	}
}

func TestMethodRefused(t *testing.T) {
	s := signerOf(t, transit.TypeP256)
	for _, algorithm := range []string{"ES384", "RS256", "none", "HS256"} {
		if _, err := NewMethod(s, algorithm); !errors.Is(err, backend.ErrUnsupported) || !strings.Contains(err.Error(), "takes [ES256]") {
			t.Errorf("%s: got %v", algorithm, err)
		}
	}
	if _, err := NewMethod(signerOf(t, transit.TypeMLDSA44), ""); !errors.Is(err, backend.ErrUnsupported) {
		t.Errorf("ML-DSA: got %v", err)
	}
	m, err := NewMethod(s, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Sign("x", []byte("key")); !errors.Is(err, backend.ErrInvalidParams) {
		t.Errorf("a key: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Sign("x", ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: got %v", err)
	}
}
