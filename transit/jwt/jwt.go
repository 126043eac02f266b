// Package jwt lets github.com/golang-jwt/jwt/v5 sign JWT with transit keys.
//
//	key, err := engine.Signer(ctx, "tokens", 0)
//	method, err := jwt.NewMethod(key, "")
//	token, err := jwtv5.NewWithClaims(method, claims).SignedString(nil)
package jwt

import (
	"context"
	"fmt"
	"slices"

	jwtv5 "github.com/golang-jwt/jwt/v5"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/jwa"
	"github.com/managedkeys/managedkeys/transit"
)

// Method is a version of a transit key with an algorithm, as golang-jwt takes it. All methods are safe for concurrent use.
type Method struct {
	key    *transit.Signer
	verify jwtv5.SigningMethod
}

var _ jwtv5.SigningMethod = (*Method)(nil)

// NewMethod returns key with an algorithm of RFC 7518, such as ES256; an empty one is the one that the key prefers. The error wraps
// [backend.ErrUnsupported] if the key doesn't have it.
func NewMethod(key *transit.Signer, algorithm string) (*Method, error) {
	names := jwa.Of(key)
	if algorithm == "" && len(names) > 0 {
		algorithm = names[0]
	}
	if !slices.Contains(names, algorithm) {
		return nil, fmt.Errorf("jwt: algorithm %.20q; a key of type %s takes %v: %w", algorithm, backend.Describe(key.Public()), names, backend.ErrUnsupported)
	}
	return &Method{key, jwtv5.GetSigningMethod(algorithm)}, nil
}

// Alg implements jwtv5.SigningMethod: the algorithm's name.
func (m *Method) Alg() string { return m.verify.Alg() }

// Sign implements jwtv5.SigningMethod, with one call. key is a context.Context that bounds it, or nil.
func (m *Method) Sign(signingString string, key any) ([]byte, error) {
	ctx := context.Background()
	switch k := key.(type) {
	case nil:
	case context.Context:
		ctx = k
	default:
		return nil, fmt.Errorf("jwt: key of %T; it takes a context.Context or nil, since the key is the method's own: %w", key, backend.ErrInvalidParams)
	}
	return jwa.Sign(ctx, m.key, m.Alg(), []byte(signingString))
}

// Verify implements jwtv5.SigningMethod with the key's public key, whatever key is, and makes no call.
func (m *Method) Verify(signingString string, signature []byte, _ any) error {
	return m.verify.Verify(signingString, signature, m.key.Public())
}
