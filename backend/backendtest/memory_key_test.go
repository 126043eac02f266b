package backendtest_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"encoding/asn1"
	"fmt"
	"math/big"
	"runtime"

	"filippo.io/mldsa"
	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/managedkeys/managedkeys/backend"
)

// material makes a key: "rsa", "pss" (RSA with limits), "p256", "agree" (the same curve), "p384", "secp256k1", "ed25519",
// "mldsa", "mlkem", "aes" or "hmac".
func material(kind string) any {
	var key any
	var err error
	switch kind {
	case "rsa", "pss":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "p256", "agree":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "secp256k1":
		key, err = ecdsa.GenerateKey(backend.Secp256k1(), rand.Reader)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "mldsa":
		key, err = mldsa.GenerateKey(mldsa.MLDSA44())
	case "mlkem":
		key, err = mlkem.GenerateKey768()
	case "aes", "hmac":
		raw := make([]byte, 32)
		_, err = rand.Read(raw)
		key = raw
	default:
		panic("unknown kind " + kind)
	}
	if err != nil {
		panic(err)
	}
	return key
}

// fits reports whether secret is a usable key of kind.
func fits(secret any, kind string) bool {
	switch secret := secret.(type) {
	case *rsa.PrivateKey:
		return (kind == "rsa" || kind == "pss") && secret != nil && secret.N != nil && secret.Validate() == nil
	case *ecdsa.PrivateKey:
		return (kind == "p256" || kind == "p384") && secret != nil && secret.Curve != nil && validECDSA(secret)
	case ed25519.PrivateKey:
		return kind == "ed25519" && len(secret) == ed25519.PrivateKeySize
	case *mldsa.PrivateKey:
		return kind == "mldsa" && secret != nil
	case *mlkem.DecapsulationKey768:
		return kind == "mlkem" && secret != nil
	case []byte:
		return (kind == "aes" || kind == "hmac") && len(secret) == 32
	}
	return false
}

func validECDSA(key *ecdsa.PrivateKey) bool {
	_, err := key.Bytes()
	return err == nil
}

type (
	rsaKey struct {
		*backend.Handle
		backend.SignOps
		backend.DecryptOps
		backend.WrapOps
	}
	pssKey struct {
		*backend.Handle
		backend.SignOps
		backend.DecryptOps
	}
	signKey struct {
		*backend.Handle
		backend.SignOps
	}
	aesKey struct {
		*backend.Handle
		backend.AEADOps
		backend.WrapOps
		backend.RandomOps
		m *memory
	}
	hmacKey struct {
		*backend.Handle
		backend.MACOps
	}
)

// key opens an entry.
func (m *memory) key(e *entry) backend.Key {
	m.mu.Lock()
	m.opened++
	id := e.id()
	if m.is("id-changes") {
		id = fmt.Sprintf("%s/%d", id, m.opened)
	}
	if m.is("same-id") {
		id = "key"
	}
	m.mu.Unlock()
	var pub crypto.PublicKey
	if s, ok := e.secret.(crypto.Signer); ok {
		pub = s.Public()
	}
	if d, ok := e.secret.(crypto.Decapsulator); ok {
		pub = d.Encapsulator()
	}
	h := backend.NewHandle(backend.HandleConfig{
		ID: id, Public: pub, Capabilities: m.capabilities(e), Mode: backend.CallLocal, Gate: &m.gate,
	})
	sign := h.Signing(func(_ context.Context, req backend.SignRequest) ([]byte, error) { return m.sign(e, req) })
	switch e.kind {
	case "p384", "agree":
		return m.spoil(agreeKey{h, sign, m.agreeing(h, e)})
	case "p256":
		if m.is("agrees-undeclared") {
			return agreeKey{h, sign, m.agreeing(h, e)}
		}
	case "rsa":
		return m.spoil(rsaKey{h, sign, m.decrypting(h, e), m.wrappingRSA(h, e)})
	case "pss":
		return m.spoil(pssKey{h, sign, m.decrypting(h, e)})
	case "mlkem":
		return m.spoil(kemKey{h, m.decapsulating(h, e)})
	case "aes":
		return m.spoil(m.aes(h, e))
	case "hmac":
		return m.spoil(m.hmac(h, e))
	}
	return m.spoil(signKey{h, sign})
}

func (m *memory) capabilities(e *entry) backend.Capabilities {
	c := backend.Capabilities{Usages: backend.UsageDefault}
	if s, ok := e.secret.(crypto.Signer); ok {
		c.Algorithm = backend.Describe(s.Public())
	}
	add := func(s backend.Scheme, salt backend.SaltRule, hashes ...crypto.Hash) {
		for _, h := range hashes {
			c.Signatures = append(c.Signatures, backend.SignatureAlgorithm{Scheme: s, Hash: h, Salt: salt})
		}
	}
	switch e.kind {
	case "rsa":
		add(backend.RSAPKCS1v15, 0, crypto.SHA256, crypto.SHA1)
		add(backend.RSAPSS, 0, crypto.SHA256, crypto.SHA1)
		c.Usages |= backend.UsageDecrypt | backend.UsageWrap | backend.UsageUnwrap
		c.OAEPHashes, c.OAEPLabels = []crypto.Hash{crypto.SHA256, crypto.SHA1}, true
	case "pss":
		add(backend.RSAPSS, backend.SaltEqualsHash, crypto.SHA512)
		c.Usages |= backend.UsageDecrypt
		c.OAEPHashes = []crypto.Hash{crypto.SHA256}
	case "p256":
		add(backend.ECDSA, 0, crypto.SHA256)
		if m.is("undeclared-hash") {
			add(backend.ECDSA, 0, crypto.SHA512)
		}
	case "p384":
		add(backend.ECDSA, 0, crypto.SHA384, crypto.SHA3_384)
		c.Usages |= backend.UsageDerive
	case "agree":
		add(backend.ECDSA, 0, crypto.SHA256)
		c.Usages |= backend.UsageDerive
	case "secp256k1":
		add(backend.ECDSA, 0, crypto.SHA256, crypto.SHA512, crypto.SHA1)
	case "ed25519":
		add(backend.Ed25519, 0, 0)
		c.SignatureContexts, c.MinMessage, c.MaxMessage = true, 1, 5000
	case "mldsa":
		add(backend.MLDSA, 0, 0)
		c.SignatureContexts = true
	case "mlkem":
		c.Algorithm, c.Usages = "ML-KEM-768", backend.UsageDerive
	case "aes":
		c.Algorithm, c.MaxRandom, c.MinPlaintext, c.MaxPlaintext = "AES-256", 1024, 1, 2000
		c.Usages = backend.UsageEncrypt | backend.UsageDecrypt | backend.UsageWrap | backend.UsageUnwrap |
			backend.UsageGenerateRandom
	case "hmac":
		c.Algorithm, c.Usages, c.MinMessage, c.MaxMessage = "HMAC", backend.UsageMAC, 1, 6000
		c.MACs = []backend.MACAlgorithm{backend.HMACSHA256, backend.HMACSHA512}
	}
	if m.is("usage-lacks-method") {
		c.Usages |= backend.UsageGenerateRandom
	}
	return c
}

func (m *memory) sign(e *entry, req backend.SignRequest) ([]byte, error) {
	input := req.Digest
	if req.Hash == 0 {
		input = req.Message
	}
	secret := e.secret.(crypto.Signer)
	switch m.fault {
	case "mixes-calls":
		m.mu.Lock()
		m.shared = bytes.Clone(input)
		m.mu.Unlock()
		runtime.Gosched()
		m.mu.Lock()
		input = m.shared
		m.mu.Unlock()
	case "mixes-keys":
		m.mu.Lock()
		m.last = e
		m.mu.Unlock()
		runtime.Gosched()
		m.mu.Lock()
		secret = m.last.secret.(crypto.Signer)
		m.mu.Unlock()
	case "follows-replacement":
		if found := m.store.find(e.label); len(found) == 1 {
			secret = found[0].secret.(crypto.Signer)
		}
	case "modifies-input":
		defer clear(input)
	}
	sig, err := m.signWith(secret, input, req)
	if err == nil && m.is("reuses-buffer") {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.shared = append(m.shared[:0], sig...)
		return m.shared, nil
	}
	return sig, err
}

func (m *memory) signWith(secret crypto.Signer, input []byte, req backend.SignRequest) ([]byte, error) {
	switch key := secret.(type) {
	case *rsa.PrivateKey:
		if req.Scheme == backend.RSAPSS {
			salt := req.SaltLength
			if m.is("pss-longest-salt") {
				salt = rsa.PSSSaltLengthAuto
			}
			return rsa.SignPSS(rand.Reader, key, req.Hash, input, &rsa.PSSOptions{SaltLength: salt})
		}
		return rsa.SignPKCS1v15(nil, key, req.Hash, input)
	case *ecdsa.PrivateKey:
		sig, err := ecdsa.SignASN1(rand.Reader, key, input)
		if err == nil && m.is("ecdsa-raw") {
			return rawECDSA(key, sig)
		}
		return sig, err
	case ed25519.PrivateKey:
		if m.is("ed25519-prehashed") {
			hashed := sha512.Sum512(input)
			input = hashed[:]
		}
		if m.is("context-string-ignored") {
			req.Context = ""
		}
		return key.Sign(nil, input, &ed25519.Options{Context: req.Context})
	case *mldsa.PrivateKey:
		return key.Sign(nil, input, &mldsa.Options{Context: req.Context})
	}
	return nil, fmt.Errorf("memory: %T: %w", secret, backend.ErrUnsupported)
}

// rawECDSA returns r ‖ s.
func rawECDSA(key *ecdsa.PrivateKey, sig []byte) ([]byte, error) {
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(sig, &rs); err != nil {
		return nil, err
	}
	n := (key.Curve.Params().N.BitLen() + 7) / 8
	return append(rs.R.FillBytes(make([]byte, n)), rs.S.FillBytes(make([]byte, n))...), nil
}

func (m *memory) decrypting(h *backend.Handle, e *entry) backend.DecryptOps {
	key := e.secret.(*rsa.PrivateKey)
	return h.Decrypting(func(_ context.Context, req backend.DecryptRequest) ([]byte, error) {
		if m.is("label-ignored") {
			req.Label = nil
		}
		out, err := rsa.DecryptOAEP(req.Hash.New(), nil, key, req.Ciphertext, req.Label)
		if err != nil {
			return nil, fmt.Errorf("memory: %w: %w", backend.ErrDecryption, err)
		}
		return out, nil
	})
}

func (m *memory) wrappingRSA(h *backend.Handle, e *entry) backend.WrapOps {
	key := e.secret.(*rsa.PrivateKey)
	hash := crypto.SHA256
	if m.is("rsa-wraps-with-sha1") {
		hash = crypto.SHA1
	}
	return h.Wrapping(func(_ context.Context, in []byte) ([]byte, error) {
		return rsa.EncryptOAEP(hash.New(), rand.Reader, &key.PublicKey, in, nil)
	}, func(_ context.Context, in []byte) ([]byte, error) {
		out, err := rsa.DecryptOAEP(hash.New(), nil, key, in, nil)
		if err != nil {
			return nil, backend.ErrDecryption
		}
		return out, nil
	})
}

func (m *memory) hmac(h *backend.Handle, e *entry) hmacKey {
	return hmacKey{h, h.MAC(func(_ context.Context, alg backend.MACAlgorithm, message []byte) ([]byte, error) {
		mac := hmac.New(alg.Hash().New, e.secret.([]byte))
		mac.Write(message)
		if m.is("mac-truncated") {
			return mac.Sum(nil)[:16], nil
		}
		return mac.Sum(nil), nil
	})}
}

func (m *memory) aes(h *backend.Handle, e *entry) aesKey {
	block, err := aes.NewCipher(e.secret.([]byte))
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	wrapper, err := kwp.NewKWP(e.secret.([]byte))
	if err != nil {
		panic(err)
	}
	seal := func(_ context.Context, in, ad []byte) ([]byte, error) {
		switch m.fault {
		case "nonce-reused":
			plain, err := cipher.NewGCM(block)
			nonce := make([]byte, plain.NonceSize())
			return plain.Seal(nonce, nonce, in, ad), err
		case "additional-data-ignored":
			ad = nil
		}
		return gcm.Seal(nil, nil, in, ad), nil
	}
	open := func(_ context.Context, in, ad []byte) ([]byte, error) {
		if m.is("additional-data-ignored") {
			ad = nil
		}
		out, err := gcm.Open(nil, nil, in, ad)
		if err != nil {
			return nil, fmt.Errorf("memory: %w: %w", backend.ErrDecryption, err)
		}
		return out, nil
	}
	return aesKey{h, h.AEAD(seal, open), h.Wrapping(func(_ context.Context, in []byte) ([]byte, error) {
		return wrapper.Wrap(in)
	}, func(_ context.Context, in []byte) ([]byte, error) {
		out, err := wrapper.Unwrap(in)
		if err != nil && m.is("unwrap-other-error") {
			return nil, fmt.Errorf("memory: %w: %w", backend.ErrInvalidParams, err)
		} else if err != nil {
			return nil, backend.ErrDecryption
		}
		return out, nil
	}), h.Random(func(_ context.Context, n int) ([]byte, error) {
		out := make([]byte, n)
		if !m.is("random-constant") {
			rand.Read(out)
		}
		return out, nil
	}), m}
}

func (k aesKey) Attest(ctx context.Context) (backend.Attestation, error) {
	if k.m.is("attests-nothing") {
		return backend.Attestation{}, nil
	}
	return backend.Attestation{Format: "MEMORY", Statement: []byte(k.ID())}, ctx.Err()
}
