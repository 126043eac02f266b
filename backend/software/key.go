package software

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync/atomic"

	"filippo.io/mldsa"
	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/managedkeys/managedkeys/backend"
)

// MaxRandom is the largest number of bytes that one GenerateRandom returns.
const MaxRandom = 128 << 10

// entry is one key of a store. Its handles hold the entry and not the material, so that all of them stop at once when the
// key is replaced.
type entry struct {
	name     string
	serial   string                   // 16 hex digits, drawn when the key was made: tells it from its successors
	kind     Params                   // of the material; no name, no store
	public   crypto.PublicKey         // of the material
	material atomic.Pointer[material] // nil once the key was replaced or the store closed
}

func newEntry(name, serial string, m *material) *entry {
	e := &entry{name: name, serial: serial, kind: m.kind, public: m.public}
	e.material.Store(m)
	return e
}

// newSerial returns a new entry.serial.
func newSerial() string {
	var serial [8]byte
	rand.Read(serial[:])
	return hex.EncodeToString(serial[:])
}

// same reports whether e and other, both in use, are the same key under the same name.
func (e *entry) same(other *entry) bool {
	return e.name == other.name && e.serial == other.serial &&
		bytes.Equal(e.material.Load().secret, other.material.Load().secret)
}

// id is what Key.ID returns.
func (e *entry) id() string { return e.name + "#" + e.serial }

// algorithm is what Capabilities.Algorithm says.
func (e *entry) algorithm() string {
	switch {
	case e.public != nil:
		return backend.Describe(e.public)
	case e.kind.KeyType == AES:
		return fmt.Sprintf("AES-%d", e.kind.KeyBits)
	}
	return string(e.kind.KeyType)
}

func (e *entry) use() (*material, error) {
	if m := e.material.Load(); m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("software: key %q is no longer in the store, another may have its name: %w", e.id(), backend.ErrKeyChanged)
}

// The kinds of key.
type (
	rsaKey struct {
		*backend.Handle
		backend.SignOps
		backend.DecryptOps
		backend.WrapOps
		backend.RandomOps
	}
	ecdsaKey struct {
		*backend.Handle
		backend.SignOps
		backend.AgreeOps
		backend.RandomOps
	}
	signingKey struct {
		*backend.Handle
		backend.SignOps
		backend.RandomOps
	}
	kemKey struct {
		*backend.Handle
		backend.DecapsulateOps
		backend.RandomOps
	}
	aesKey struct {
		*backend.Handle
		backend.AEADOps
		backend.WrapOps
		backend.RandomOps
	}
	hmacKey struct {
		*backend.Handle
		backend.MACOps
		backend.RandomOps
	}
)

// open returns a handle on e that works until gate is closed.
func (e *entry) open(gate *backend.Gate) backend.Key {
	h := backend.NewHandle(backend.HandleConfig{
		ID:           e.id(),
		Public:       e.public,
		Capabilities: e.capabilities(),
		Mode:         backend.CallLocal,
		Gate:         gate,
	})
	random := h.Random(e.random)
	switch e.kind.KeyType {
	case RSA:
		return &rsaKey{h, h.Signing(e.sign), h.Decrypting(e.decryptOAEP), h.Wrapping(e.wrapRSA, e.unwrapRSA), random}
	case ECDSA:
		return &ecdsaKey{h, h.Signing(e.sign), h.Agreeing(e.agree), random}
	case MLKEM:
		return &kemKey{h, h.Decapsulating(e.decapsulate), random}
	case AES:
		return &aesKey{h, h.AEAD(e.seal, e.unseal), h.Wrapping(e.wrapAES, e.unwrapAES), random}
	case HMAC:
		return &hmacKey{h, h.MAC(e.mac), random}
	}
	return &signingKey{h, h.Signing(e.sign), random}
}

func (e *entry) sign(_ context.Context, req backend.SignRequest) ([]byte, error) {
	m, err := e.use()
	if err != nil {
		return nil, err
	}
	var signature []byte
	switch key := m.signer.(type) {
	case *rsa.PrivateKey:
		if req.Scheme == backend.RSAPSS {
			signature, err = rsa.SignPSS(rand.Reader, key, req.Hash, req.Digest, &rsa.PSSOptions{SaltLength: req.SaltLength})
		} else {
			input := req.Digest
			if req.Hash == 0 {
				input = req.Message
			}
			signature, err = rsa.SignPKCS1v15(rand.Reader, key, req.Hash, input)
		}
	case *ecdsa.PrivateKey:
		signature, err = ecdsa.SignASN1(rand.Reader, key, req.Digest)
	case ed25519.PrivateKey:
		input := req.Message
		if req.Hash != 0 {
			input = req.Digest
		}
		signature, err = key.Sign(rand.Reader, input, &ed25519.Options{Hash: req.Hash, Context: req.Context})
	case *mldsa.PrivateKey:
		signature, err = key.Sign(rand.Reader, req.Message, &mldsa.Options{Context: req.Context})
	}
	if err != nil {
		return nil, fmt.Errorf("software: sign with key %q: %w: %w", e.id(), backend.ErrUnavailable, err)
	}
	return signature, nil
}

func (e *entry) agree(_ context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	m, err := e.use()
	if err != nil {
		return nil, err
	}
	secret, err := m.agrees.ECDH(peer)
	if err != nil {
		return nil, fmt.Errorf("software: agree with key %q: %w: %w", e.id(), backend.ErrInvalidParams, err)
	}
	return secret, nil
}

func (e *entry) decapsulate(_ context.Context, ciphertext []byte) ([]byte, error) {
	m, err := e.use()
	if err != nil {
		return nil, err
	}
	shared, err := m.opens.Decapsulate(ciphertext)
	if err != nil {
		return nil, backend.ErrDecryption
	}
	return shared, nil
}

func (e *entry) decryptOAEP(_ context.Context, req backend.DecryptRequest) ([]byte, error) {
	m, err := e.use()
	if err != nil {
		return nil, err
	}
	plaintext, err := rsa.DecryptOAEP(req.Hash.New(), rand.Reader, m.signer.(*rsa.PrivateKey), req.Ciphertext, req.Label)
	if err != nil {
		return nil, backend.ErrDecryption
	}
	return plaintext, nil
}

func (e *entry) wrapRSA(_ context.Context, material []byte) ([]byte, error) {
	if _, err := e.use(); err != nil {
		return nil, err
	}
	pub := e.public.(*rsa.PublicKey)
	// RFC 8017, Section 7.1.1: mLen <= k - 2hLen - 2.
	if longest := pub.Size() - 2*sha256.Size - 2; len(material) < 1 || len(material) > longest {
		return nil, fmt.Errorf("software: wrap with key %q: got %d bytes; it takes 1 to %d: %w", e.id(), len(material), longest, backend.ErrInvalidParams)
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, material, nil)
	if err != nil {
		return nil, fmt.Errorf("software: wrap with key %q: %w: %w", e.id(), backend.ErrUnavailable, err)
	}
	return wrapped, nil
}

func (e *entry) unwrapRSA(ctx context.Context, wrapped []byte) ([]byte, error) {
	return e.decryptOAEP(ctx, backend.DecryptRequest{Ciphertext: wrapped, Hash: crypto.SHA256})
}

func (e *entry) seal(_ context.Context, plaintext, additionalData []byte) ([]byte, error) {
	m, err := e.use()
	if err != nil {
		return nil, err
	}
	return m.gcm.Seal(nil, nil, plaintext, additionalData), nil
}

func (e *entry) unseal(_ context.Context, ciphertext, additionalData []byte) ([]byte, error) {
	m, err := e.use()
	if err != nil {
		return nil, err
	}
	plaintext, err := m.gcm.Open(nil, nil, ciphertext, additionalData)
	if err != nil {
		return nil, backend.ErrDecryption
	}
	return plaintext, nil
}

func (e *entry) wrapAES(_ context.Context, material []byte) ([]byte, error) {
	m, err := e.use()
	if err != nil {
		return nil, err
	}
	if len(material) < kwp.MinWrapSize || len(material) > kwp.MaxWrapSize {
		return nil, fmt.Errorf("software: wrap with key %q: got %d bytes; it takes %d to %d: %w",
			e.id(), len(material), kwp.MinWrapSize, kwp.MaxWrapSize, backend.ErrInvalidParams)
	}
	return m.kwp.Wrap(material)
}

func (e *entry) unwrapAES(_ context.Context, wrapped []byte) ([]byte, error) {
	m, err := e.use()
	if err != nil {
		return nil, err
	}
	material, err := m.kwp.Unwrap(wrapped)
	if err != nil {
		return nil, backend.ErrDecryption
	}
	return material, nil
}

func (e *entry) mac(_ context.Context, alg backend.MACAlgorithm, message []byte) ([]byte, error) {
	m, err := e.use()
	if err != nil {
		return nil, err
	}
	mac := hmac.New(alg.Hash().New, m.secret)
	mac.Write(message)
	return mac.Sum(nil), nil
}

func (e *entry) random(_ context.Context, n int) ([]byte, error) {
	if _, err := e.use(); err != nil {
		return nil, err
	}
	out := make([]byte, n)
	rand.Read(out) // never fails (crypto/rand)
	return out, nil
}
