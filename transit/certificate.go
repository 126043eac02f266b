package transit

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/rsasize"
)

// CSR returns a certificate request in DER (RFC 2986) for a version of the key, 0 for the latest, with the subject and the
// extensions of template, which may be nil; its own key and signature are not looked at. A managed key needs the usage sign and
// makes one call. The error wraps [backend.ErrUnsupported] for a key that can't sign requests, ML-DSA before Go 1.27 among them,
// and otherwise is as for [Engine.Sign].
func (e *Engine) CSR(ctx context.Context, name string, version int, template *x509.CertificateRequest) ([]byte, error) {
	k, err := e.usable(ctx, signingKey, name)
	if err != nil {
		return nil, err
	}
	k, v, err := e.choose(ctx, k, "signing", version)
	if err != nil {
		return nil, err
	}
	if v.public == nil {
		return nil, unsupported("key type %s does not support signing requests for certificates", v.kind)
	}
	h, err := e.handle(ctx, k, v)
	if err != nil {
		return nil, err
	}
	own := new(x509.CertificateRequest)
	if template != nil {
		*own = *template
	}
	algorithms := h.Capabilities().X509(v.public)
	if len(algorithms) == 0 {
		return nil, unsupported("key type %s does not support signing requests for certificates", v.kind)
	}
	own.SignatureAlgorithm = algorithms[0]
	signer := &contextSigner{ctx: ctx, handle: h, public: v.public}
	der, err := x509.CreateCertificateRequest(rand.Reader, own, signer)
	switch {
	case err == nil:
		return der, nil
	case signer.err != nil:
		return nil, failed("sign", k, v, signer.err)
	}
	return nil, invalid("certificate request: %v", err)
}

// contextSigner is a handle as crypto.Signer. It remembers the error, which x509 may hide.
type contextSigner struct {
	ctx    context.Context
	handle handle
	public crypto.PublicKey
	err    error
}

func (s *contextSigner) Public() crypto.PublicKey { return s.public }

func (s *contextSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) (signature []byte, err error) {
	signature, s.err = s.handle.SignContext(s.ctx, digest, opts)
	return signature, s.err
}

// MaxCertificates is how many certificates a version of a key has at most.
const MaxCertificates = 16

// SetCertificate keeps a certificate of a version of the key, 0 for the latest, and the chain above it, in DER, for [Engine.Key] and
// [Engine.Export]. The error wraps [backend.ErrInvalidParams] unless the first is of the version's public key, each of the others
// has signed the one before it, and none is a CA's where the key's own is expected.
func (e *Engine) SetCertificate(ctx context.Context, name string, version int, chain [][]byte) error {
	k, err := e.usable(ctx, "key", name)
	if err != nil {
		return err
	}
	k, v, err := e.choose(ctx, k, "certificates", version)
	if err != nil {
		return err
	}
	if err := checkChain(v, chain); err != nil {
		return err
	}
	own := make([][]byte, len(chain))
	for i, der := range chain {
		own[i] = bytes.Clone(der)
	}
	_, err = e.change(ctx, name, func(r *record) error {
		if r.ID != k.rec.ID || r.SoftDeleted || v.number < r.First {
			return fmt.Errorf("transit: key %q version %d was deleted: %w", name, v.number, backend.ErrKeyNotFound)
		}
		changed := *r.at(v.number)
		changed.Chain = own
		r.set(v.number, changed)
		return nil
	})
	return err
}

func checkChain(v *version, chain [][]byte) error {
	if len(chain) < 1 || len(chain) > MaxCertificates {
		return invalid("certificate chain of %d; it takes 1 to %d", len(chain), MaxCertificates)
	}
	var last *x509.Certificate
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			return invalid("certificate %d can't be parsed: %v", i, err)
		case i == 0 && c.IsCA:
			return invalid("certificate 0 is that of a CA; the first must be that of the key")
		case i == 0 && !samePublic(certified(c), v.public):
			return invalid("certificate 0 has another public key than version %d of the key, which is of type %s", v.number, v.kind)
		case rsasize.CheckPublic(c.PublicKey) != nil: // verifying with it would take minutes
			return invalid("certificate %d: %v", i, rsasize.CheckPublic(c.PublicKey))
		case i > 0:
			if err := last.CheckSignatureFrom(c); err != nil {
				return invalid("certificate %d is not signed by certificate %d: %v", i-1, i, err)
			}
		}
		last = c
	}
	return nil
}

// certified returns the public key of a certificate, in the type that this package has it in.
func certified(c *x509.Certificate) crypto.PublicKey {
	public, err := backend.ParsePublicKey(c.RawSubjectPublicKeyInfo)
	if err != nil {
		return errors.New("unknown key") // equal to none
	}
	return public
}
