package transit

import (
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
)

// EncryptRequest is what shall be encrypted, and how.
type EncryptRequest struct {
	Plaintext []byte // it may be empty

	// AssociatedData is authenticated together with the plaintext and not part of the ciphertext. RSA keys take none.
	AssociatedData []byte

	Context   []byte // required by derived keys, and taken by no others
	Nonce     []byte // of convergent encryption version 1, which requires it; others take none
	Reference string // comes back in the result of a batch

	// PaddingScheme is, for RSA keys, PaddingOAEP (also if empty) or PaddingPKCS1v15; others take none.
	PaddingScheme string

	KeyVersion int // the version to encrypt with; 0 is the latest
}

func (r EncryptRequest) reference() string { return r.Reference }
func (r EncryptRequest) context() []byte   { return r.Context }

// DecryptRequest is what shall be decrypted, and what it was encrypted with.
type DecryptRequest struct {
	Ciphertext                     string // vault:v<version>:<base64>
	AssociatedData, Context, Nonce []byte // as in EncryptRequest
	Reference                      string

	// PaddingScheme is as in EncryptRequest. PaddingPKCS1v15 must be allowed by Options.AllowPKCS1v15, and then has no wrong
	// paddings: their plaintexts are random bytes.
	PaddingScheme string
}

func (r DecryptRequest) reference() string { return r.Reference }
func (r DecryptRequest) context() []byte   { return r.Context }

// RewrapRequest is what shall be encrypted again, with another version of the key.
type RewrapRequest struct {
	Ciphertext                     string // vault:v<version>:<base64>
	AssociatedData, Context, Nonce []byte // of the old ciphertext and the new one
	Reference                      string
	KeyVersion                     int // of the new ciphertext; 0 is the latest

	// The padding schemes of the old ciphertext and the new one, as in DecryptRequest and EncryptRequest.
	DecryptPaddingScheme, EncryptPaddingScheme string
}

func (r RewrapRequest) reference() string { return r.Reference }
func (r RewrapRequest) context() []byte   { return r.Context }

// maxPlaintext bounds a plaintext in bytes, so that its ciphertext, in base64 and with what an AEAD adds, can be parsed.
const maxPlaintext = maxEnvelope/4*3 - 1024

const encryptionKey = "encryption key"

// Encrypt returns a ciphertext as vault:v<version>:<base64>. It needs the usage encrypt. A managed AES key encrypts with AES-GCM
// in its key manager, with one call. With an RSA key it is done here, by RSAES-OAEP without label, and with SHA-256 if
// the key can decrypt that and otherwise with the hash that it prefers.
//
// The error wraps [backend.ErrKeyNotFound] if there is no such transit key, [backend.ErrInvalidParams] or
// [backend.ErrUnsupported] if the request doesn't fit the key, [backend.ErrKeyChanged] if the managed key is another one
// now, [backend.ErrNotPermitted] if the transit key is deleted softly, or what the managed key returned.
func (e *Engine) Encrypt(ctx context.Context, name string, r EncryptRequest) (string, error) {
	return one(ctx, e, encryptionKey, name, r, e.encrypt)
}

// EncryptBatch is Encrypt for each of requests. Results are in their order; the error is about the batch as a whole: no key, no
// items, too many items (see Options), or a context in some items only.
func (e *Engine) EncryptBatch(ctx context.Context, name string, requests []EncryptRequest) ([]Result[string], error) {
	return all(ctx, e, encryptionKey, name, true, requests, e.encrypt)
}

func (e *Engine) encrypt(ctx context.Context, k *key, r EncryptRequest) (string, int, error) {
	ciphertext, number, err := e.seal(ctx, k, &r)
	if err != nil {
		return "", 0, err
	}
	return format(number, ciphertext, base64.StdEncoding), number, nil
}

// EncryptBytes is Encrypt without the envelope: it appends the ciphertext that is in it to dst, which may be nil, and returns the
// version apart. [Engine.DecryptBytes] takes both. Where every microsecond counts it spares making text of bytes.
func (e *Engine) EncryptBytes(ctx context.Context, name string, dst []byte, r EncryptRequest) (ciphertext []byte, version int, err error) {
	k, err := e.usable(ctx, encryptionKey, name)
	if err != nil {
		return nil, 0, err
	}
	ciphertext, version, err = e.seal(ctx, k, &r)
	switch {
	case err != nil:
		return nil, 0, err
	case dst == nil:
		return ciphertext, version, nil
	}
	return append(dst, ciphertext...), version, nil
}

// seal returns a ciphertext and the version that it is of.
func (e *Engine) seal(ctx context.Context, k *key, r *EncryptRequest) ([]byte, int, error) {
	k, v, err := e.choose(ctx, k, "encryption", r.KeyVersion)
	if err != nil {
		return nil, 0, err
	}
	if len(r.Plaintext) > maxPlaintext {
		return nil, 0, invalid("plaintext of %d bytes; it takes at most %d", len(r.Plaintext), maxPlaintext)
	}
	h, pad, err := e.cipher(ctx, k, v, cipherRequest{r.AssociatedData, r.Context, r.Nonce, r.PaddingScheme, false})
	if err != nil {
		return nil, 0, err
	}
	var ciphertext []byte
	switch {
	case k.rec.Derived:
		ciphertext, err = v.sealDerived(ctx, r)
	case pad != nil && pad.pkcs1v15:
		ciphertext, err = v.encryptPKCS1v15(ctx, h, r.Plaintext)
	case pad != nil:
		ciphertext, err = h.EncryptContext(ctx, r.Plaintext, pad.oaep)
	default:
		ciphertext, err = h.Seal(ctx, r.Plaintext, r.AssociatedData)
	}
	if err != nil {
		return nil, 0, failed("encrypt", k, v, err)
	}
	return ciphertext, v.number, nil
}

// Decrypt returns the plaintext of what Encrypt returned, with the same associated data, context and nonce. It needs the usage
// decrypt and makes one call.
//
// A ciphertext that is well formed but can't be decrypted always gives the same error, which wraps
// [backend.ErrDecryption]. Other errors are those of Encrypt.
func (e *Engine) Decrypt(ctx context.Context, name string, r DecryptRequest) ([]byte, error) {
	return one(ctx, e, encryptionKey, name, r, e.decrypt)
}

// DecryptBatch is Decrypt for each of requests, as [Engine.EncryptBatch] is Encrypt.
func (e *Engine) DecryptBatch(ctx context.Context, name string, requests []DecryptRequest) ([]Result[[]byte], error) {
	return all(ctx, e, encryptionKey, name, true, requests, e.decrypt)
}

func (e *Engine) decrypt(ctx context.Context, k *key, r DecryptRequest) ([]byte, int, error) {
	number, encoded, err := parse("ciphertext", r.Ciphertext)
	if err != nil {
		return nil, 0, err
	}
	k, v, err := e.made(ctx, k, "ciphertext", number)
	if err != nil {
		return nil, 0, err
	}
	raw, ok := decode(encoded, base64.StdEncoding)
	if !ok {
		return nil, 0, invalid("invalid ciphertext: could not decode base64")
	}
	plaintext, err := e.unseal(ctx, k, v, raw, &r)
	return plaintext, v.number, err
}

// DecryptBytes is Decrypt of what EncryptBytes returned, with the version that it returned; r.Ciphertext is ignored.
func (e *Engine) DecryptBytes(ctx context.Context, name string, ciphertext []byte, version int, r DecryptRequest) ([]byte, error) {
	k, err := e.usable(ctx, encryptionKey, name)
	if err != nil {
		return nil, err
	}
	if version < 1 {
		return nil, invalid("invalid ciphertext: version %d; it takes 1 and above", version)
	}
	k, v, err := e.made(ctx, k, "ciphertext", version)
	if err != nil {
		return nil, err
	}
	return e.unseal(ctx, k, v, ciphertext, &r)
}

// unseal decrypts what seal returned.
func (e *Engine) unseal(ctx context.Context, k *key, v *version, raw []byte, r *DecryptRequest) ([]byte, error) {
	h, pad, err := e.cipher(ctx, k, v, cipherRequest{r.AssociatedData, r.Context, r.Nonce, r.PaddingScheme, true})
	if err != nil {
		return nil, err
	}
	var plaintext []byte
	switch {
	case k.rec.Derived:
		plaintext, err = v.openDerived(ctx, raw, r)
	case pad != nil && pad.pkcs1v15:
		plaintext, err = v.decryptPKCS1v15(ctx, h, raw)
	case pad != nil:
		plaintext, err = h.DecryptContext(ctx, raw, pad.oaep)
	default:
		plaintext, err = h.Open(ctx, raw, r.AssociatedData)
	}
	if err != nil {
		return nil, decryptionError("decrypt", k, v, err)
	}
	return plaintext, nil
}

// Rewrap returns the ciphertext of the same plaintext by another version of the key, and not the plaintext. Errors are those of
// Decrypt and Encrypt.
func (e *Engine) Rewrap(ctx context.Context, name string, r RewrapRequest) (string, error) {
	return one(ctx, e, encryptionKey, name, r, e.rewrap)
}

// RewrapBatch is Rewrap for each of requests, as [Engine.EncryptBatch] is Encrypt.
func (e *Engine) RewrapBatch(ctx context.Context, name string, requests []RewrapRequest) ([]Result[string], error) {
	return all(ctx, e, encryptionKey, name, true, requests, e.rewrap)
}

func (e *Engine) rewrap(ctx context.Context, k *key, r RewrapRequest) (string, int, error) {
	// Before anything is decrypted, so that a version that there is not costs nothing.
	if _, _, err := e.choose(ctx, k, "encryption", r.KeyVersion); err != nil {
		return "", 0, err
	}
	plaintext, _, err := e.decrypt(ctx, k, DecryptRequest{
		Ciphertext: r.Ciphertext, AssociatedData: r.AssociatedData, Context: r.Context, Nonce: r.Nonce, PaddingScheme: r.DecryptPaddingScheme,
	})
	if err != nil {
		return "", 0, err
	}
	defer clear(plaintext)
	nonce := r.Nonce
	if number := r.KeyVersion; number == 0 && k.version(k.latest()).rec.Convergent != 1 || number > 0 && number <= k.latest() && k.version(number).rec.Convergent != 1 {
		nonce = nil // it was that of the old version
	}
	return e.encrypt(ctx, k, EncryptRequest{
		Plaintext: plaintext, AssociatedData: r.AssociatedData, Context: r.Context, Nonce: nonce, KeyVersion: r.KeyVersion, PaddingScheme: r.EncryptPaddingScheme,
	})
}

// algorithmHMAC is what backend.Capabilities.Algorithm says of a key that authenticates and does nothing else.
const algorithmHMAC = "HMAC"

// cipherRequest is what requests to encrypt and decrypt have in common.
type cipherRequest struct {
	associatedData, context, nonce []byte
	padding                        string
	decrypting                     bool
}

// cipher returns what encrypts with v, and how: the padding of RSA, or nil for an AEAD. A derived key has no handle.
func (e *Engine) cipher(ctx context.Context, k *key, v *version, r cipherRequest) (handle, *padding, error) {
	if v.public == nil && v.soft != nil && v.soft.t.nonce == 0 {
		return nil, nil, noEncryption(v)
	}
	if err := k.checkContext(r.context); err != nil {
		return nil, nil, err
	}
	if err := v.checkNonce(r.nonce); err != nil {
		return nil, nil, err
	}
	if k.rec.Derived {
		if e.opts.Software == nil {
			return nil, nil, unsupported("key %q: software keys are not allowed here: Options.Software is nil", k.name)
		}
		_, err := e.paddingOf(v, backend.Capabilities{}, r) // there must be none
		return nil, nil, err
	}
	h, err := e.handle(ctx, k, v)
	if err != nil {
		return nil, nil, err
	}
	if v.soft != nil && v.soft.t.nonce > 0 && r.padding == "" {
		return h, nil, nil // what is below would say so too
	}
	caps := h.Capabilities()
	switch pad, err := e.paddingOf(v, caps, r); {
	case err != nil:
		return nil, nil, err
	case pad != nil:
		return h, pad, nil
	}
	pad, err := v.oaep(caps, r.associatedData)
	return h, pad, err
}

func (v *version) oaep(caps backend.Capabilities, associatedData []byte) (*padding, error) {
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
			return nil, noAssociatedData(v)
		}
		hash := caps.OAEPHashes[0]
		if slices.Contains(caps.OAEPHashes, crypto.SHA256) {
			hash = crypto.SHA256
		}
		return &padding{oaep: &rsa.OAEPOptions{Hash: hash}}, nil
	}
	return nil, noEncryption(v)
}
