package transit

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"fmt"
	"io"

	"github.com/managedkeys/managedkeys/backend"
)

// Signer is one version of a transit key as the standard library and others take keys: a crypto.Signer and crypto.MessageSigner for
// X.509, TLS, JWS, COSE, SSH, CMS and time stamps. The version is that of when it was made, whatever the key is rotated to.
//
// Each signature obeys the key as it is then: if it is deleted or the version is taken out of use, signing fails. All methods are safe
// for concurrent use.
type Signer struct {
	e       *Engine
	name    string
	id      string // of the key's record, which tells it from a later one of that name
	version *version
	ctx     context.Context // of a view, or nil
}

var (
	_ crypto.Signer        = (*Signer)(nil)
	_ crypto.MessageSigner = (*Signer)(nil)
)

// Signer returns a version of a key, 0 for the latest, as a signer. It makes a call only if the managed key is not open yet. The error
// is as for [Engine.Sign], and wraps [backend.ErrUnsupported] for symmetric and derived keys.
func (e *Engine) Signer(ctx context.Context, name string, version int) (*Signer, error) {
	k, err := e.usable(ctx, signingKey, name)
	if err != nil {
		return nil, err
	}
	k, v, err := e.choose(ctx, k, "signing", version)
	if err != nil {
		return nil, err
	}
	if v.public == nil {
		return nil, unsupported("key type %s does not support signing without a context or at all", v.kind)
	}
	h, err := e.handle(ctx, k, v)
	if err != nil {
		return nil, err
	}
	if len(h.Capabilities().Signatures) == 0 {
		return nil, unsupported("key %q version %d of type %s can't sign", k.name, v.number, v.kind)
	}
	return &Signer{e: e, name: name, id: k.rec.ID, version: v}, nil
}

// Public implements crypto.Signer. It makes no call. The key must not be modified.
func (s *Signer) Public() crypto.PublicKey { return s.version.public }

// Version returns the number of the version.
func (s *Signer) Version() int { return s.version.number }

// Capabilities returns what the version can sign with. It makes no call, and is empty while the key can't be used.
func (s *Signer) Capabilities() backend.Capabilities {
	ctx, cancel := context.WithTimeout(context.Background(), backend.DefaultCallTimeout)
	defer cancel()
	if _, h, err := s.open(ctx); err == nil {
		return h.Capabilities()
	}
	return backend.Capabilities{}
}

// WithContext returns a view of the signer whose Sign and SignMessage are bounded by ctx.
func (s *Signer) WithContext(ctx context.Context) *Signer {
	view := *s
	view.ctx = ctx
	return &view
}

func (s *Signer) context() context.Context {
	if s.ctx != nil {
		return s.ctx
	}
	return context.Background()
}

// Sign implements crypto.Signer. It makes one call, which the context of a view bounds, or the backend's call timeout. The first
// parameter is ignored.
func (s *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.SignContext(s.context(), digest, opts)
}

// SignMessage implements crypto.MessageSigner, as Sign.
func (s *Signer) SignMessage(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.SignMessageContext(s.context(), message, opts)
}

// SignContext is Sign, bounded by ctx. Digest and opts are as for [backend.Signer], but an ECDSA key takes nil opts too, as that of
// crypto/ecdsa does: a digest of 32, 48 or 64 bytes is then one by SHA-2. The error is as for [Engine.Sign].
func (s *Signer) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, ok := s.version.public.(*ecdsa.PublicKey); ok && opts == nil {
		if h, ok := sha2[len(digest)]; ok {
			opts = h
		}
	}
	return s.sign(ctx, digest, opts, handle.SignContext)
}

// SignMessageContext is SignMessage, bounded by ctx.
func (s *Signer) SignMessageContext(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.sign(ctx, message, opts, handle.SignMessageContext)
}

// sha2 are the hashes of certificates, by size in bytes.
var sha2 = map[int]crypto.Hash{32: crypto.SHA256, 48: crypto.SHA384, 64: crypto.SHA512}

func (s *Signer) sign(ctx context.Context, input []byte, opts crypto.SignerOpts, sign func(handle, context.Context, []byte, crypto.SignerOpts) ([]byte, error)) ([]byte, error) {
	if opts == nil {
		return nil, invalid("signer: options are nil; they take a crypto.SignerOpts")
	}
	k, h, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	signature, err := sign(h, ctx, input, opts)
	if err != nil {
		return nil, failed("sign", k, s.version, err)
	}
	return signature, nil
}

// open returns the key as it is now.
func (s *Signer) open(ctx context.Context) (*key, handle, error) {
	k, err := s.e.usable(ctx, signingKey, s.name)
	if err != nil {
		return nil, nil, err
	}
	if k.rec.ID != s.id {
		return nil, nil, fmt.Errorf("transit: key %q was deleted and made again: %w", s.name, backend.ErrKeyNotFound)
	}
	k, v, err := s.e.choose(ctx, k, "signing", s.version.number)
	if err != nil {
		return nil, nil, err
	}
	h, err := s.e.handle(ctx, k, v)
	return k, h, err
}
