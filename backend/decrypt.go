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
}

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
	oaep, ok := opts.(*rsa.OAEPOptions)
	if !ok || oaep == nil {
		return nil, o.h.Refusef(ErrUnsupported, "can't decrypt with options %T; it takes *rsa.OAEPOptions", opts)
	}
	caps := o.h.cfg.Capabilities
	switch {
	case !slices.Contains(caps.OAEPHashes, oaep.Hash):
		return nil, o.h.Refusef(ErrUnsupported, "can't decrypt OAEP with %v; it takes %v", oaep.Hash, caps.OAEPHashes)
	case oaep.MGFHash != 0 && oaep.MGFHash != oaep.Hash:
		return nil, o.h.Refusef(ErrUnsupported, "can't decrypt OAEP with %v for MGF1 and %v for the label; both must be the same", oaep.MGFHash, oaep.Hash)
	case len(oaep.Label) > 0 && !caps.OAEPLabels:
		return nil, o.h.Refusef(ErrUnsupported, "takes no OAEP label")
	}
	if pub, ok := o.h.cfg.Public.(*rsa.PublicKey); !ok || len(ciphertext) != pub.Size() {
		return nil, ErrDecryption
	}
	req := DecryptRequest{Ciphertext: o.h.input(ciphertext), Hash: oaep.Hash, Label: o.h.input(oaep.Label)}
	plaintext, err := run(ctx, o.h, func(ctx context.Context) ([]byte, error) { return o.decrypt(ctx, req) })
	return plaintext, decryptionError(err)
}

// decryptionError strips everything from a failed decryption but the sentinel.
func decryptionError(err error) error {
	if errors.Is(err, ErrDecryption) {
		return ErrDecryption
	}
	return err
}
