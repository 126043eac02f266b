package jose

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"testing"

	josev4 "github.com/go-jose/go-jose/v4"
	jwtv5 "github.com/golang-jwt/jwt/v5"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/transit"
)

// newEngine is one that makes software keys.
func newEngine(tb testing.TB) *transit.Engine {
	tb.Helper()
	store := software.New(nil)
	tb.Cleanup(func() { store.Close() })
	mount, err := managedkey.NewRegistry().Mount(tb.Context(), "", "transit")
	if err != nil {
		tb.Fatal(err)
	}
	return transit.New(mount, &transit.Options{Software: store})
}

// Each key signs with each algorithm that it has and no other; go-jose and golang-jwt, which know nothing of transit, verify.
func TestSigner(t *testing.T) {
	e := newEngine(t)
	for kind, want := range map[string]string{
		transit.TypeP256: "ES256", transit.TypeP384: "ES384", transit.TypeP521: "ES512", transit.TypeEd25519: "EdDSA",
		transit.TypeRSA2048: "PS256 PS384 PS512 RS256 RS384 RS512",
	} {
		if err := e.CreateKey(t.Context(), kind, transit.KeyOptions{Type: kind}); err != nil {
			t.Fatal(err)
		}
		key, err := e.Signer(t.Context(), kind, 0)
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSigner(key, nil)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, alg := range s.Algs() {
			names = append(names, string(alg))
			signer, err := josev4.NewSigner(josev4.SigningKey{Algorithm: alg, Key: s}, nil)
			if err != nil {
				t.Fatal(err)
			}
			object, err := signer.Sign([]byte(`{"sub":"alice"}`))
			if err != nil {
				t.Fatalf("%s: %v", alg, err)
			}
			text, err := object.CompactSerialize()
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := josev4.ParseSignedCompact(text, s.Algs())
			if err != nil {
				t.Fatal(err)
			}
			if payload, err := parsed.Verify(key.Public()); err != nil || string(payload) != `{"sub":"alice"}` {
				t.Errorf("%s: go-jose: %s, %v", alg, payload, err)
			}
			if id := parsed.Signatures[0].Header.KeyID; id != s.Public().KeyID || len(id) != 43 {
				t.Errorf("%s: kid %q; the key's is %q", alg, id, s.Public().KeyID)
			}
			token, err := jwtv5.Parse(text, func(*jwtv5.Token) (any, error) { return key.Public(), nil }, jwtv5.WithValidMethods([]string{string(alg)}))
			if err != nil || !token.Valid {
				t.Errorf("%s: golang-jwt: %v", alg, err)
			}
			if alg == josev4.ES256 {
				checkRaw(t, key.Public().(*ecdsa.PublicKey), text)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: algorithms %s; want %s", kind, got, want)
		}
		if _, err := s.SignPayload(nil, "HS256"); !errors.Is(err, backend.ErrUnsupported) {
			t.Errorf("%s: HS256: got %v", kind, err)
		}
		if named, err := NewSigner(key, &Options{KeyID: "2026"}); err != nil || named.Public().KeyID != "2026" || !named.Public().Valid() {
			t.Errorf("%s: %+v, %v", kind, named, err)
		}
	}
}

// checkRaw verifies with the standard library alone (RFC 7518, Section 3.4).
func checkRaw(t *testing.T, public *ecdsa.PublicKey, text string) {
	t.Helper()
	i := strings.LastIndex(text, ".")
	signature, err := base64.RawURLEncoding.DecodeString(text[i+1:])
	sum := sha256.Sum256([]byte(text[:i]))
	if err != nil || len(signature) != 64 || public.Curve != elliptic.P256() {
		t.Fatalf("%d bytes, %v", len(signature), err)
	}
	if !ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		t.Error("crypto/ecdsa doesn't verify")
	}
}

func TestRefused(t *testing.T) {
	e := newEngine(t)
	if err := e.CreateKey(t.Context(), "k", transit.KeyOptions{Type: transit.TypeMLDSA44}); err != nil {
		t.Fatal(err)
	}
	key, err := e.Signer(t.Context(), "k", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSigner(key, nil); !errors.Is(err, backend.ErrUnsupported) || !strings.Contains(err.Error(), "ML-DSA-44") {
		t.Errorf("got %v", err)
	}
}
