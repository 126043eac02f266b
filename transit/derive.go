package transit

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	mldsax509 "filippo.io/mldsa/x509"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/managedkeys/managedkeys/backend"
)

// Derived keys are HKDF-SHA-256 (RFC 5869) of the key of the version, without a salt, with the context as info: 16 or 32 bytes
// for an AEAD, the seed of an Ed25519 key.
//
// Convergent encryption chooses the nonce so that a plaintext under a context has one ciphertext:
//
//	1  the caller gives it, and the ciphertext doesn't have it
//	2  HMAC-SHA-256 of the plaintext, cut to the nonce's length, keyed by the context
//	3  the same, keyed by 32 bytes that are derived after the key
//	4  the same without associated data; with it, HMAC-SHA-256 of its length in 8 bytes, itself and the plaintext, keyed by 32 bytes
//	   that are derived after those
//
// New versions have 4; the others come with keys that were made elsewhere. 2 and 3, which are Vault's, have one nonce for a plaintext
// whatever its associated data: who sees it encrypted with two can compute GHASH's or Poly1305's key, and forge (SP 800-38D, Appendix A).
const latestConvergent = 4

// convergentKey is the size of the HMAC keys of convergent encryption, in bytes.
const convergentKey = 32

// derive returns n bytes that are derived from the key of v for a context.
func (v *version) derive(context []byte, n int) ([]byte, error) {
	secret := v.rec.Material
	if v.soft.t.name == TypeEd25519 {
		private, err := mldsax509.ParsePKCS8PrivateKey(secret)
		key, ok := private.(ed25519.PrivateKey)
		if err != nil || !ok {
			return nil, fmt.Errorf("the private key can't be parsed: %w", backend.ErrInvalidParams)
		}
		secret = key // seed ‖ public key
	}
	return hkdf.Key(sha256.New, secret, nil, string(context), n)
}

// checkContext refuses a context where there must be none, and none where there must be one.
func (k *key) checkContext(context []byte) error {
	switch {
	case k.rec.Derived && len(context) == 0:
		return invalid("missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request information must be included in order to perform operations with the key")
	case !k.rec.Derived && len(context) > 0 && k.rec.managed():
		return unsupported("context of %d bytes: managed keys can't be derived", len(context))
	case !k.rec.Derived && len(context) > 0:
		return invalid("context of %d bytes, but the key is not a derived one", len(context))
	}
	return nil
}

// aead returns the cipher of a derived key for a context, and the keys of the HMACs that choose its nonces, if it has some.
func (v *version) aead(context []byte) (cipher.AEAD, nonceKeys, error) {
	size, more := v.soft.t.size, 0
	if v.rec.Convergent >= 3 {
		more = 2 * convergentKey
	}
	secret, err := v.derive(context, size+more)
	if err != nil {
		return nil, nonceKeys{}, err
	}
	var keys nonceKeys
	switch v.rec.Convergent {
	case 2:
		keys.plaintext = context
	case 3:
		keys.plaintext = secret[size : size+convergentKey]
	case 4:
		keys = nonceKeys{secret[size : size+convergentKey], secret[size+convergentKey:]}
	}
	c, err := v.soft.t.newAEAD(secret[:size])
	return c, keys, err
}

// nonceKeys are the keys of the HMACs that choose nonces.
type nonceKeys struct {
	plaintext  []byte
	associated []byte // of what has associated data; nil if that doesn't count
}

// nonce returns the HMAC whose first bytes are the nonce.
func (k *nonceKeys) nonce(plaintext, associatedData []byte) []byte {
	key, before := k.plaintext, []byte(nil)
	if k.associated != nil && len(associatedData) > 0 {
		key, before = k.associated, binary.BigEndian.AppendUint64(nil, uint64(len(associatedData)))
	}
	mac := hmac.New(sha256.New, key)
	if before != nil {
		mac.Write(before)
		mac.Write(associatedData)
	}
	mac.Write(plaintext)
	return mac.Sum(nil)
}

// newAEAD returns the cipher of a type with a nonce.
func (t *softType) newAEAD(secret []byte) (cipher.AEAD, error) {
	switch t.name {
	case TypeChaCha20Poly1305:
		return chacha20poly1305.New(secret)
	case TypeXChaCha20Poly1305:
		return chacha20poly1305.NewX(secret)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// checkNonce refuses a nonce where this package chooses it.
func (v *version) checkNonce(nonce []byte) error {
	switch {
	case v.rec.Convergent == 1 && len(nonce) != v.soft.t.nonce:
		return invalid("nonce of %d bytes; it must be %d bytes long when using convergent encryption with this key", len(nonce), v.soft.t.nonce)
	case v.rec.Convergent != 1 && len(nonce) > 0:
		return invalid("nonce provided when not allowed")
	}
	return nil
}

// sealDerived encrypts with a derived key. The nonce was checked.
func (v *version) sealDerived(ctx context.Context, r *EncryptRequest) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	aead, keys, err := v.aead(r.Context)
	if err != nil {
		return nil, err
	}
	switch v.rec.Convergent {
	case 0:
		return sealRandom(aead, r.Plaintext, r.AssociatedData), nil
	case 1:
		return aead.Seal(nil, r.Nonce, r.Plaintext, r.AssociatedData), nil
	}
	nonce := keys.nonce(r.Plaintext, r.AssociatedData)[:aead.NonceSize()]
	return aead.Seal(nonce[:len(nonce):len(nonce)], nonce, r.Plaintext, r.AssociatedData), nil
}

// openDerived decrypts what sealDerived returned.
func (v *version) openDerived(ctx context.Context, ciphertext []byte, r *DecryptRequest) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	aead, _, err := v.aead(r.Context)
	if err != nil {
		return nil, err
	}
	if v.rec.Convergent != 1 {
		return openPrefixed(aead, ciphertext, r.AssociatedData)
	}
	plaintext, err := aead.Open(nil, r.Nonce, ciphertext, r.AssociatedData)
	if err != nil {
		return nil, backend.ErrDecryption
	}
	return plaintext, nil
}

// sealRandom returns nonce ‖ ciphertext ‖ tag.
func sealRandom(aead cipher.AEAD, plaintext, additionalData []byte) []byte {
	out := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plaintext)+aead.Overhead())
	copy(out, randomBytes(aead.NonceSize()))
	return aead.Seal(out, out, plaintext, additionalData)
}

// openPrefixed is the reverse of sealRandom.
func openPrefixed(aead cipher.AEAD, ciphertext, additionalData []byte) ([]byte, error) {
	n := aead.NonceSize()
	if len(ciphertext) < n {
		return nil, backend.ErrDecryption
	}
	plaintext, err := aead.Open(nil, ciphertext[:n], ciphertext[n:], additionalData)
	if err != nil {
		return nil, backend.ErrDecryption
	}
	return plaintext, nil
}

// signingKey returns the key that signs for a context, and its public key.
func (v *version) signingKey(context []byte) (ed25519.PrivateKey, ed25519.PublicKey, error) {
	seed, err := v.derive(context, ed25519.SeedSize)
	if err != nil {
		return nil, nil, err
	}
	key := ed25519.NewKeyFromSeed(seed)
	return key, key.Public().(ed25519.PublicKey), nil
}
