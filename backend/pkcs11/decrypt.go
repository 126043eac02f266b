package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// decryptCall returns the call that decrypts as req says.
func decryptCall(pub *rsa.PublicKey, req backend.DecryptRequest) *call {
	if req.Raw {
		c := newCall(cryptoki.Decrypt, req.Ciphertext, nil, nil, pub.Size())
		c.Mechanism, c.exact = uint(rsaX509), true
		return c
	}
	h := hashAlgorithms[req.Hash]
	c := newCall(cryptoki.Decrypt, req.Ciphertext, nil, req.Label, pub.Size())
	c.Mechanism, c.Kind, c.Hash, c.MGF = uint(RSAPKCSOAEP), cryptoki.OAEP, h.mechanism, h.mgf
	return c
}

// decrypt implements backend.DecryptFunc.
func (k *liveKey) decrypt(ctx context.Context, req backend.DecryptRequest) ([]byte, error) {
	return k.run(ctx, decryptCall(k.public.(*rsa.PublicKey), req))
}

// tryDecrypt reports whether the object decrypts what was encrypted to pub, or why the token refuses. The error says that
// the token didn't come to try.
func (c *conn) tryDecrypt(ctx context.Context, o handle, pub *rsa.PublicKey, h crypto.Hash, label []byte, pin string) (ok bool, refusal, err error) {
	message := make([]byte, 16)
	rand.Read(message) // never fails
	ciphertext, err := rsa.EncryptOAEP(h.New(), rand.Reader, pub, message, label)
	if err != nil {
		return false, nil, nil // too short a key, or a hash that this process doesn't allow
	}
	plaintext, err := c.try(ctx, o, decryptCall(pub, backend.DecryptRequest{Ciphertext: ciphertext, Hash: h, Label: label}), pin)
	if refused(err) {
		return false, err, nil
	}
	if err != nil {
		return false, nil, err
	}
	return bytes.Equal(plaintext, message), nil, nil
}

// wrapRSA and unwrapRSA implement backend.WrapFunc with RSAES-OAEP and SHA-256. Wrapping takes the public key only, and no
// call.
func (k *liveKey) wrapRSA(_ context.Context, material []byte) ([]byte, error) {
	pub := k.public.(*rsa.PublicKey)
	if longest := pub.Size() - 2*crypto.SHA256.Size() - 2; len(material) > longest { // RFC 8017, Section 7.1.1
		return nil, k.conn.errorf("got %d bytes to wrap; the key takes at most %d: %w", len(material), longest, backend.ErrInvalidParams)
	}
	return rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, pub, material, nil)
}

func (k *liveKey) unwrapRSA(ctx context.Context, wrapped []byte) ([]byte, error) {
	if len(wrapped) != k.public.(*rsa.PublicKey).Size() {
		return nil, backend.ErrDecryption
	}
	return k.decrypt(ctx, backend.DecryptRequest{Ciphertext: wrapped, Hash: crypto.SHA256})
}
