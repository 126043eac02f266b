package managedkey

import (
	"context"
	"crypto"
	"fmt"
	"io"

	"github.com/managedkeys/managedkeys/backend"
)

// signer shows what signs of a Key, and nothing else: who is handed a crypto.Signer must not find a crypto.Decrypter
// in it. It keeps crypto.MessageSigner, without which package x509 would ask a key that signs messages for the wrong
// thing.
type signer struct{ k *Key }

var _ crypto.MessageSigner = signer{}

func (s signer) Public() crypto.PublicKey { return s.k.Public() }

// Capabilities lets TLS and others choose before they call.
func (s signer) Capabilities() backend.Capabilities { return s.k.Capabilities() }

func (s signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.k.Sign(rand, digest, opts)
}

func (s signer) SignMessage(rand io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.k.SignMessage(rand, message, opts)
}

func (s signer) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.k.SignContext(ctx, digest, opts)
}

func (s signer) SignMessageContext(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.k.SignMessageContext(ctx, message, opts)
}

// decrypter shows what decrypts of a Key, and nothing else.
type decrypter struct{ k *Key }

var _ crypto.Decrypter = decrypter{}

func (d decrypter) Public() crypto.PublicKey { return d.k.Public() }

func (d decrypter) Capabilities() backend.Capabilities { return d.k.Capabilities() }

func (d decrypter) Decrypt(rand io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return d.k.Decrypt(rand, ciphertext, opts)
}

func (d decrypter) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return d.k.DecryptContext(ctx, ciphertext, opts)
}

// narrowSigner returns k as a signer, if its key signs and its entry allows that now.
func (k *Key) narrowSigner(ctx context.Context) (crypto.Signer, error) {
	if err := able[backend.Signer](ctx, k, backend.UsageSign); err != nil {
		return nil, err
	}
	return signer{k}, nil
}

// narrowDecrypter returns k as a decrypter, if its key decrypts and its entry allows that now.
func (k *Key) narrowDecrypter(ctx context.Context) (crypto.Decrypter, error) {
	if err := able[backend.Decrypter](ctx, k, backend.UsageDecrypt); err != nil {
		return nil, err
	}
	return decrypter{k}, nil
}

// able returns nil if the entry allows the usage now and the key is a T that has it.
func able[T backend.Key](ctx context.Context, k *Key, usage backend.Usage) error {
	key, err := need[T](k, "open", usage)
	if err == nil && !key.Capabilities().Usages.Has(usage) {
		err = fmt.Errorf("the key can't %s; its usages are %s: %w", usage, key.Capabilities().Usages, backend.ErrUnsupported)
	}
	if err != nil {
		return k.denied(ctx, "open", bare(err))
	}
	return nil
}
