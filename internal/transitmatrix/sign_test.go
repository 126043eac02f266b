package transitmatrix

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"filippo.io/mldsa"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/transit"
)

var message = []byte("message")

// Values of the dimensions of signatures; "" is what a request means that leaves it open.
var (
	hashDimension = dimension{"hash", []string{"", "sha1", "sha2-224", "sha2-256", "sha2-384", "sha2-512", "sha3-224", "sha3-256", "sha3-384", "sha3-512", "none"}}
	signing       = []dimension{
		hashDimension, {"scheme", []string{"", "pss", "pkcs1v15"}}, {"salt", []string{"", "hash", "20", "500"}},
		{"marshaling", []string{"asn1", "jws"}}, {"prehashed", []string{"no", "yes"}},
	}
)

// manner is how something is to be signed, as the standard library takes it.
type manner struct {
	hash    crypto.Hash // 0 if the message is signed itself, or padded as it is
	pss     bool
	salt    int // of PSS, in bytes
	context string
}

// asked returns the request for a combination of an operation, and what it asks for.
func asked(k *key, c combination) (r transit.SignRequest, m manner) {
	r = transit.SignRequest{
		Input: message, HashAlgorithm: c.get("hash"), SignatureAlgorithm: c.get("scheme"), SaltLength: c.get("salt"),
		Marshaling: c.get("marshaling"), Prehashed: c.get("prehashed") == "yes", Context: k.context,
	}
	m = k.manner(r.HashAlgorithm, r.SignatureAlgorithm, r.SaltLength)
	if _, ok := k.public.(ed25519.PublicKey); ok && r.Prehashed {
		m.hash = crypto.SHA512
	}
	if r.Prehashed && m.hash != 0 {
		r.Input = digest(m.hash, message)
	}
	return r, m
}

// manner returns what these words mean to k.
func (k *key) manner(hash, scheme, salt string) manner {
	var m manner
	preferred := k.scheme
	if preferred == "" {
		preferred = "pss"
	}
	if scheme == "" {
		scheme = preferred
	}
	switch k.public.(type) {
	case *rsa.PublicKey:
		m.pss = scheme == "pss"
	case *ecdsa.PublicKey:
	default:
		return m
	}
	switch {
	case hash != "":
		m.hash = hashes[hash]
	case k.hash != 0 && scheme == preferred:
		m.hash = k.hash
	default:
		m.hash = crypto.SHA256
	}
	if n, err := strconv.Atoi(salt); err == nil {
		m.salt = n
	} else if m.hash != 0 {
		m.salt = m.hash.Size() // the rule for "auto" and "hash"
	}
	return m
}

// check verifies a signature of what m makes of the message, with the standard library.
func (m manner) check(public crypto.PublicKey, message, signature []byte) error {
	input := message
	if m.hash != 0 {
		input = digest(m.hash, message)
	}
	ok := false
	switch public := public.(type) {
	case *rsa.PublicKey:
		if m.pss {
			return rsa.VerifyPSS(public, m.hash, input, signature, &rsa.PSSOptions{SaltLength: m.salt})
		}
		return rsa.VerifyPKCS1v15(public, m.hash, input, signature)
	case *ecdsa.PublicKey:
		if public.Curve == backend.Secp256k1() {
			return backend.Verify(public, input, signature, m.hash)
		}
		ok = ecdsa.VerifyASN1(public, input, signature)
	case ed25519.PublicKey:
		return ed25519.VerifyWithOptions(public, input, signature, &ed25519.Options{Hash: m.hash, Context: m.context})
	case *mldsa.PublicKey:
		return mldsa.Verify(public, input, signature, &mldsa.Options{Context: m.context})
	}
	if !ok {
		return errors.New("it does not verify")
	}
	return nil
}

// sign is the reverse of check.
func (m manner) sign(private crypto.Signer, message []byte) ([]byte, error) {
	input, opts := message, crypto.SignerOpts(m.hash)
	if m.hash != 0 {
		input = digest(m.hash, message)
	}
	switch private.(type) {
	case *rsa.PrivateKey:
		if m.pss {
			opts = &rsa.PSSOptions{SaltLength: m.salt, Hash: m.hash}
		}
	case ed25519.PrivateKey:
		opts = &ed25519.Options{Hash: m.hash, Context: m.context}
	case *mldsa.PrivateKey:
		opts = &mldsa.Options{Context: m.context}
	}
	return private.Sign(rand.Reader, input, opts)
}

// opened takes a signature out of its envelope and, if it is ECDSA's of JWS, into ASN.1.
func opened(t *testing.T, k *key, text, marshaling string) []byte {
	t.Helper()
	encoded, ok := strings.CutPrefix(text, "vault:v1:")
	require.True(t, ok, text)
	if marshaling != "jws" {
		raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
		require.NoError(t, err)
		return raw
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	require.NoError(t, err)
	if public, ok := k.public.(*ecdsa.PublicKey); ok {
		n := (public.Params().BitSize + 7) / 8
		require.Len(t, raw, 2*n)
		raw, err = asn1.Marshal([]*big.Int{new(big.Int).SetBytes(raw[:n]), new(big.Int).SetBytes(raw[n:])})
		require.NoError(t, err)
	}
	return raw
}

// enveloped is the reverse of opened.
func enveloped(t *testing.T, k *key, raw []byte, marshaling string) string {
	t.Helper()
	if marshaling != "jws" {
		return "vault:v1:" + base64.StdEncoding.EncodeToString(raw)
	}
	if public, ok := k.public.(*ecdsa.PublicKey); ok {
		var rs []*big.Int
		_, err := asn1.Unmarshal(raw, &rs)
		require.NoError(t, err)
		n := (public.Params().BitSize + 7) / 8
		raw = make([]byte, 2*n)
		rs[0].FillBytes(raw[:n])
		rs[1].FillBytes(raw[n:])
	}
	return "vault:v1:" + base64.RawURLEncoding.EncodeToString(raw)
}

// doSign signs with one call, and verifies with none.
func doSign(t *testing.T, p *place, k *key, c combination) error {
	r, m := asked(k, c)
	return signed(t, p, k, c, r, m)
}

func signed(t *testing.T, p *place, k *key, c combination, r transit.SignRequest, m manner) error {
	text, err := p.engine.Sign(t.Context(), k.name, r)
	if err != nil {
		return err
	}
	p.made(t, 1)
	raw := opened(t, k, text, r.Marshaling)
	assert.NoError(t, m.check(k.public, message, raw), "%s: the standard library", c)
	if k.openssl(m) && r.Marshaling == "asn1" && !r.Prehashed && (m.pss || r.SaltLength == "") {
		opensslVerify(t, k, m, raw)
	}
	verifies(t, p, k, c, r, text, true)
	r.Input = append([]byte{r.Input[0] ^ 1}, r.Input[1:]...)
	verifies(t, p, k, c, r, text, false)
	p.made(t, 1)
	return nil
}

func verifies(t *testing.T, p *place, k *key, c combination, r transit.SignRequest, signature string, want bool) {
	t.Helper()
	ok, err := p.engine.Verify(t.Context(), k.name, signature, r)
	assert.NoError(t, err, "%s: verify", c)
	assert.Equal(t, want, ok, "%s: verify", c)
}

// doSignContext signs with a context string.
func doSignContext(t *testing.T, p *place, k *key, c combination) error {
	r := transit.SignRequest{Input: message, Marshaling: "asn1", SignatureContext: "a context", Prehashed: c.get("prehashed") == "yes", Context: k.context}
	m := k.manner("", "", "")
	m.context = r.SignatureContext
	if _, ok := k.public.(ed25519.PublicKey); ok && r.Prehashed {
		m.hash = crypto.SHA512
	}
	if r.Prehashed && m.hash != 0 {
		r.Input = digest(m.hash, message)
	}
	return signed(t, p, k, c, r, m)
}

// doVerify verifies what the standard library has signed, with hashes and schemes that the key manager may not have.
func doVerify(t *testing.T, p *place, k *key, c combination) error {
	r, m := asked(k, c)
	if m.salt == 500 || m.hash == 0 && (m.pss || k.row == "EC") { // nobody can sign so; the request is refused whatever the signature
		m.salt, m.hash = 0, crypto.SHA256
	}
	made, ok := k.signatures[m]
	if !ok {
		var err error
		made, err = m.sign(k.private, message)
		require.NoError(t, err)
		k.signatures[m] = made
	}
	raw := bytes.Clone(made)
	text := enveloped(t, k, raw, r.Marshaling)
	ok, err := p.engine.Verify(t.Context(), k.name, text, r)
	if err != nil {
		return err
	}
	assert.True(t, ok, "%s: the standard library's", c)
	raw[len(raw)-1] ^= 1
	ok, err = p.engine.Verify(t.Context(), k.name, enveloped(t, k, raw, r.Marshaling), r)
	assert.False(t, ok && err == nil, "%s: a changed one", c)
	p.made(t, 0)
	return nil
}

// doSigner signs through the standard library's interfaces.
func doSigner(t *testing.T, p *place, k *key, c combination) error {
	s, err := p.engine.Signer(t.Context(), k.name, 0)
	if err != nil {
		return err
	}
	m := k.manner(c.get("hash"), c.get("scheme"), c.get("salt"))
	if k.row == "Ed25519" || k.row == "ML-DSA" {
		m.hash = hashes[c.get("hash")]
	}
	var opts crypto.SignerOpts = m.hash
	if m.pss {
		opts = &rsa.PSSOptions{SaltLength: m.salt, Hash: m.hash}
	}
	input, sign := message, func(ctx context.Context, input []byte, opts crypto.SignerOpts) ([]byte, error) {
		return s.WithContext(ctx).SignMessage(nil, input, opts)
	}
	if c.get("input") == "digest" {
		sign = s.SignContext
		if m.hash != 0 {
			input = digest(m.hash, message)
		}
	}
	raw, err := sign(t.Context(), input, opts)
	if err != nil {
		return err
	}
	p.made(t, 1)
	assert.NoError(t, m.check(s.Public(), message, raw), "%s: the standard library", c)
	return nil
}
