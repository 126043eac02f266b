package backend

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"io"
	"slices"
)

// DecryptRequest is what a driver is asked to decrypt, checked and with every default filled in.
type DecryptRequest struct {
	Ciphertext []byte      // as long as the modulus
	Hash       crypto.Hash // of RSAES-OAEP, for the label and for MGF1
	Label      []byte      // nil if there is none
	Raw        bool        // RSADP instead, without Hash and Label
}

// RawRSAOptions ask a [Decrypter] for the bare RSA operation, RSADP (RFC 8017, Section 5.1.2): the plaintext is as long as
// the modulus and nothing about it was checked. It is for protocols that define their own encoding; who decodes a padding
// must not let anybody see whether that failed. Few keys have it: see Capabilities.RawRSA.
type RawRSAOptions struct{}

// DecryptFunc decrypts. If it was reached but could not decrypt, the error wraps [ErrDecryption].
type DecryptFunc func(ctx context.Context, req DecryptRequest) ([]byte, error)

// DecryptOps are the operations of a [Decrypter], for embedding beside a [Handle].
type DecryptOps struct {
	h       *Handle
	decrypt DecryptFunc
}

// Decrypting returns the decryption operations over fn. The key must have an *rsa.PublicKey.
func (h *Handle) Decrypting(fn DecryptFunc) DecryptOps { return DecryptOps{h, fn} }

// Decrypt implements crypto.Decrypter, bounded by the call timeout. The first parameter is ignored.
func (o DecryptOps) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return o.DecryptContext(context.Background(), ciphertext, opts)
}

// DecryptContext implements [Decrypter].
func (o DecryptOps) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if err := o.h.need(UsageDecrypt); err != nil {
		return nil, err
	}
	caps := o.h.cfg.Capabilities
	if _, raw := opts.(*RawRSAOptions); raw {
		if !caps.RawRSA {
			return nil, o.h.Refusef(ErrUnsupported, "doesn't decrypt without a padding scheme; it takes *rsa.OAEPOptions")
		}
		return o.call(ctx, DecryptRequest{Ciphertext: ciphertext, Raw: true})
	}
	oaep, ok := opts.(*rsa.OAEPOptions)
	if !ok || oaep == nil {
		return nil, o.h.Refusef(ErrUnsupported, "can't decrypt with options %T; it takes *rsa.OAEPOptions", opts)
	}
	switch {
	case !slices.Contains(caps.OAEPHashes, oaep.Hash):
		return nil, o.h.Refusef(ErrUnsupported, "can't decrypt OAEP with %v; it takes %v", oaep.Hash, caps.OAEPHashes)
	case oaep.MGFHash != 0 && oaep.MGFHash != oaep.Hash:
		return nil, o.h.Refusef(ErrUnsupported, "can't decrypt OAEP with %v for MGF1 and %v for the label; both must be the same", oaep.MGFHash, oaep.Hash)
	case len(oaep.Label) > 0 && !caps.OAEPLabels:
		return nil, o.h.Refusef(ErrUnsupported, "takes no OAEP label")
	}
	return o.call(ctx, DecryptRequest{Ciphertext: ciphertext, Hash: oaep.Hash, Label: oaep.Label})
}

func (o DecryptOps) call(ctx context.Context, req DecryptRequest) ([]byte, error) {
	if pub, ok := o.h.cfg.Public.(*rsa.PublicKey); !ok || len(req.Ciphertext) != pub.Size() {
		return nil, ErrDecryption
	}
	req.Ciphertext, req.Label = o.h.input(req.Ciphertext), o.h.input(req.Label)
	plaintext, err := run(ctx, o.h, req, o.decrypt)
	return plaintext, decryptionError(err)
}

// decryptionError strips everything from a failed decryption but the sentinel.
func decryptionError(err error) error {
	if errors.Is(err, ErrDecryption) {
		return ErrDecryption
	}
	return err
}
