package transit

import (
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
)

// EncryptRequest is what shall be encrypted, and how.
type EncryptRequest struct {
	Plaintext []byte // it may be empty

	// AssociatedData is authenticated together with the plaintext and not part of the ciphertext. RSA keys take none.
	AssociatedData []byte

	KeyVersion int // the version to encrypt with; 0 is the latest
}

// maxPlaintext bounds a plaintext in bytes, so that its ciphertext, in base64 and with what an AEAD adds, can be parsed.
const maxPlaintext = maxEnvelope/4*3 - 1024

// Encrypt returns a ciphertext as vault:v<version>:<base64>. It needs the usage encrypt. An AES key encrypts with AES-GCM
// in its key manager, with one call. With an RSA key it is done here, by RSAES-OAEP without label, and with SHA-256 if
// the key can decrypt that and otherwise with the hash that it prefers.
//
// The error wraps [backend.ErrKeyNotFound] if there is no such transit key, [backend.ErrInvalidParams] or
// [backend.ErrUnsupported] if the request doesn't fit the key, [backend.ErrKeyChanged] if the managed key is another one
// now, or what the managed key returned.
func (e *Engine) Encrypt(ctx context.Context, name string, r EncryptRequest) (string, error) {
	v, err := e.choose("encryption key", "encryption", name, r.KeyVersion)
	if err != nil {
		return "", err
	}
	if len(r.Plaintext) > maxPlaintext {
		return "", invalid("plaintext of %d bytes; it takes at most %d", len(r.Plaintext), maxPlaintext)
	}
	handle, err := e.handle(ctx, name, v)
	if err != nil {
		return "", err
	}
	oaep, err := v.cipher(handle.Capabilities(), r.AssociatedData)
	if err != nil {
		return "", err
	}
	var ciphertext []byte
	if oaep != nil {
		ciphertext, err = handle.EncryptContext(ctx, r.Plaintext, oaep)
	} else {
		ciphertext, err = handle.Seal(ctx, r.Plaintext, r.AssociatedData)
	}
	if err != nil {
		return "", fmt.Errorf("transit: encrypt with key %q version %d: %w", name, v.number, err)
	}
	return format(v.number, ciphertext, base64.StdEncoding), nil
}

// Decrypt returns the plaintext of what Encrypt returned, with the same associated data. It needs the usage decrypt and
// makes one call.
//
// A ciphertext that is well formed but can't be decrypted always gives the same error, which wraps
// [backend.ErrDecryption]. Other errors are those of Encrypt.
func (e *Engine) Decrypt(ctx context.Context, name, ciphertext string, associatedData []byte) ([]byte, error) {
	number, encoded, err := parse("ciphertext", ciphertext)
	if err != nil {
		return nil, err
	}
	v, err := e.made("encryption key", "ciphertext", name, number)
	if err != nil {
		return nil, err
	}
	raw, ok := decode(encoded, base64.StdEncoding)
	if !ok {
		return nil, invalid("invalid ciphertext: could not decode base64")
	}
	handle, err := e.handle(ctx, name, v)
	if err != nil {
		return nil, err
	}
	oaep, err := v.cipher(handle.Capabilities(), associatedData)
	if err != nil {
		return nil, err
	}
	var plaintext []byte
	if oaep != nil {
		plaintext, err = handle.DecryptContext(ctx, raw, oaep)
	} else {
		plaintext, err = handle.Open(ctx, raw, associatedData)
	}
	if err != nil {
		return nil, decryptionError(name, v, err)
	}
	return plaintext, nil
}

// algorithmHMAC is what backend.Capabilities.Algorithm says of a key that authenticates and does nothing else.
const algorithmHMAC = "HMAC"

// cipher returns how v encrypts: the options of RSAES-OAEP, or nil for an AEAD.
func (v *version) cipher(caps backend.Capabilities, associatedData []byte) (*rsa.OAEPOptions, error) {
	switch v.public.(type) {
	case nil:
		if caps.Algorithm != algorithmHMAC {
			return nil, nil
		}
	case *rsa.PublicKey:
		if len(caps.OAEPHashes) == 0 {
			break
		}
		if len(associatedData) > 0 {
			return nil, invalid("associated_data provided for non-AEAD cipher suite %s", v.kind())
		}
		hash := caps.OAEPHashes[0]
		if slices.Contains(caps.OAEPHashes, crypto.SHA256) {
			hash = crypto.SHA256
		}
		return &rsa.OAEPOptions{Hash: hash}, nil
	}
	return nil, unsupported("message encryption not supported for key type %s", v.kind())
}
