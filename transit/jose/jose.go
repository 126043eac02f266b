// Package jose lets github.com/go-jose/go-jose/v4 sign JWS and JWT with transit keys.
//
//	key, err := engine.Signer(ctx, "tokens", 0)
//	opaque, err := jose.NewSigner(key, nil)
//	signer, err := josev4.NewSigner(josev4.SigningKey{Algorithm: opaque.Algs()[0], Key: opaque}, nil)
package jose

import (
	"context"
	"crypto"
	"encoding/base64"
	"fmt"

	josev4 "github.com/go-jose/go-jose/v4"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/jwa"
	"github.com/managedkeys/managedkeys/transit"
)

// Options are the options of [NewSigner].
type Options struct {
	KeyID string // of the JSON Web Key; empty is its thumbprint by SHA-256 (RFC 7638), in base64url
}

// Signer is a version of a transit key as go-jose takes it. All methods are safe for concurrent use.
type Signer struct {
	key    *transit.Signer
	public josev4.JSONWebKey
	algs   []josev4.SignatureAlgorithm
}

var _ josev4.OpaqueSigner = (*Signer)(nil)

// NewSigner returns key for go-jose. opts may be nil. The error wraps [backend.ErrUnsupported] for a key that no algorithm of JWS
// is for, such as one of ML-DSA.
func NewSigner(key *transit.Signer, opts *Options) (*Signer, error) {
	s := &Signer{key: key, public: josev4.JSONWebKey{Key: key.Public(), Use: "sig"}}
	for _, name := range jwa.Of(key) {
		s.algs = append(s.algs, josev4.SignatureAlgorithm(name))
	}
	if len(s.algs) == 0 {
		return nil, fmt.Errorf("jose: a key of type %s signs with no algorithm of JWS: %w", backend.Describe(key.Public()), backend.ErrUnsupported)
	}
	if opts != nil {
		s.public.KeyID = opts.KeyID
	}
	if s.public.KeyID == "" {
		id, err := thumbprint(&s.public)
		if err != nil {
			return nil, err
		}
		s.public.KeyID = id
	}
	return s, nil
}

// Public implements josev4.OpaqueSigner. It makes no call.
func (s *Signer) Public() *josev4.JSONWebKey {
	public := s.public
	return &public
}

// Algs implements josev4.OpaqueSigner: the algorithms that the key can sign with, the preferred one first. It makes no call.
func (s *Signer) Algs() []josev4.SignatureAlgorithm { return s.algs }

// SignPayload implements josev4.OpaqueSigner, with one call, bounded as transit.Signer.Sign is.
func (s *Signer) SignPayload(payload []byte, alg josev4.SignatureAlgorithm) ([]byte, error) {
	return s.SignPayloadContext(context.Background(), payload, alg)
}

// SignPayloadContext is SignPayload, bounded by ctx.
func (s *Signer) SignPayloadContext(ctx context.Context, payload []byte, alg josev4.SignatureAlgorithm) ([]byte, error) {
	return jwa.Sign(ctx, s.key, string(alg), payload)
}

// thumbprint returns the name that a key has if nobody gave it one (RFC 7638).
func thumbprint(key *josev4.JSONWebKey) (string, error) {
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("jose: thumbprint of a public key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}
