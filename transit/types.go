package transit

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"filippo.io/mldsa"
	mldsax509 "filippo.io/mldsa/x509"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/managedkeys/managedkeys/backend"
)

// The types of keys, in the words of the HTTP API. All but the first are software keys.
const (
	TypeManaged           = "managed_key"
	TypeAES128            = "aes128-gcm96"
	TypeAES256            = "aes256-gcm96"
	TypeChaCha20Poly1305  = "chacha20-poly1305"
	TypeXChaCha20Poly1305 = "xchacha20-poly1305"
	TypeEd25519           = "ed25519"
	TypeP256              = "ecdsa-p256"
	TypeP384              = "ecdsa-p384"
	TypeP521              = "ecdsa-p521"
	TypeRSA2048           = "rsa-2048"
	TypeRSA3072           = "rsa-3072"
	TypeRSA4096           = "rsa-4096"
	TypeHMAC              = "hmac"
	TypeAES128CMAC        = "aes128-cmac"
	TypeAES192CMAC        = "aes192-cmac"
	TypeAES256CMAC        = "aes256-cmac"
	TypeMLDSA44           = "ml-dsa-44"
	TypeMLDSA65           = "ml-dsa-65"
	TypeMLDSA87           = "ml-dsa-87"
)

// softType is one type of software keys.
type softType struct {
	name    string
	keyType string // of the software backend's parameters; "" if the key is used here
	public  bool   // the key has a public key
	derives bool   // keys may be derived
	size    int    // of a symmetric key, in bytes; 0 if there are several
	nonce   int    // of an AEAD, in bytes; 0 if it is none

	generate func() (any, error) // a private key
}

var softTypes = func() map[string]*softType {
	ec := func(c elliptic.Curve) func() (any, error) {
		return func() (any, error) { return ecdsa.GenerateKey(c, rand.Reader) }
	}
	bits := func(n int) func() (any, error) {
		return func() (any, error) { return rsa.GenerateKey(rand.Reader, n) }
	}
	ml := func(p mldsa.Parameters) func() (any, error) {
		return func() (any, error) { return mldsa.GenerateKey(p) }
	}
	types := make(map[string]*softType)
	for _, t := range []softType{
		{name: TypeAES128, keyType: "AES", derives: true, size: 16, nonce: 12},
		{name: TypeAES256, keyType: "AES", derives: true, size: 32, nonce: 12},
		{name: TypeChaCha20Poly1305, derives: true, size: chacha20poly1305.KeySize, nonce: chacha20poly1305.NonceSize},
		{name: TypeXChaCha20Poly1305, derives: true, size: chacha20poly1305.KeySize, nonce: chacha20poly1305.NonceSizeX},
		{name: TypeEd25519, keyType: "ED25519", public: true, derives: true, generate: func() (any, error) {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			return key, err
		}},
		{name: TypeP256, keyType: "ECDSA", public: true, generate: ec(elliptic.P256())},
		{name: TypeP384, keyType: "ECDSA", public: true, generate: ec(elliptic.P384())},
		{name: TypeP521, keyType: "ECDSA", public: true, generate: ec(elliptic.P521())},
		{name: TypeRSA2048, keyType: "RSA", public: true, generate: bits(2048)},
		{name: TypeRSA3072, keyType: "RSA", public: true, generate: bits(3072)},
		{name: TypeRSA4096, keyType: "RSA", public: true, generate: bits(4096)},
		{name: TypeHMAC, keyType: "HMAC"},
		{name: TypeAES128CMAC, size: 16},
		{name: TypeAES192CMAC, size: 24},
		{name: TypeAES256CMAC, size: 32},
		{name: TypeMLDSA44, keyType: "ML-DSA", public: true, generate: ml(mldsa.MLDSA44())},
		{name: TypeMLDSA65, keyType: "ML-DSA", public: true, generate: ml(mldsa.MLDSA65())},
		{name: TypeMLDSA87, keyType: "ML-DSA", public: true, generate: ml(mldsa.MLDSA87())},
	} {
		types[t.name] = &t
	}
	return types
}()

// Types returns the types that a key can have, sorted; the software types only if the engine allows them.
func (e *Engine) Types() []string {
	if e.opts.Software == nil {
		return []string{TypeManaged}
	}
	return slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(softTypes)), TypeManaged)))
}

func (t *softType) cmac() bool { return strings.HasSuffix(t.name, "-cmac") }

// Sizes of HMAC keys in bytes.
const (
	minHMACKey = 32
	maxHMACKey = 512
)

// generating has room for as many keys as are made at the same time: callers who leave would else leave behind any number of goroutines
// that compute.
var generating = make(chan struct{}, runtime.GOMAXPROCS(0))

// newMaterial makes the key of a version for rec.
func (t *softType) newMaterial(ctx context.Context, rec *record) (versionRecord, error) {
	if err := ctx.Err(); err != nil {
		return versionRecord{}, fmt.Errorf("transit: generate a key of type %s: %w", t.name, err)
	}
	if !t.public {
		n := t.size
		if n == 0 {
			n = rec.KeySize
		}
		return t.fromSecret(randomBytes(n), rec)
	}
	// On a goroutine of its own, because making an RSA key takes seconds and can't be interrupted.
	type result struct {
		private any
		err     error
	}
	select {
	case generating <- struct{}{}:
	case <-ctx.Done():
		return versionRecord{}, fmt.Errorf("transit: generate a key of type %s: %w", t.name, ctx.Err())
	}
	done := make(chan result, 1) // buffered, so that the goroutine ends even if nobody waits
	go func() {
		defer func() { <-generating }()
		private, err := t.generate()
		done <- result{private, err}
	}()
	select {
	case <-ctx.Done():
		return versionRecord{}, fmt.Errorf("transit: generate a key of type %s: %w", t.name, ctx.Err())
	case r := <-done:
		if r.err != nil {
			return versionRecord{}, fmt.Errorf("transit: generate a key of type %s: %w: %w", t.name, backend.ErrUnavailable, r.err)
		}
		return t.fromPrivate(r.private, rec)
	}
}

// fromSecret returns a version of a symmetric key.
func (t *softType) fromSecret(secret []byte, rec *record) (versionRecord, error) {
	switch n := len(secret); {
	case t.size != 0 && n != t.size:
		return versionRecord{}, invalid("key of %d bytes; type %s takes %d", n, t.name, t.size)
	case t.size == 0 && (n < minHMACKey || n > maxHMACKey):
		return versionRecord{}, invalid("key of %d bytes; type %s takes %d to %d", n, t.name, minHMACKey, maxHMACKey)
	}
	v := versionRecord{Material: secret}
	if t.nonce > 0 {
		v.HMAC = randomBytes(minHMACKey)
	}
	if rec.Convergent {
		v.Convergent = latestConvergent
	}
	return v, nil
}

// fromPrivate returns a version of an asymmetric key.
func (t *softType) fromPrivate(private any, rec *record) (versionRecord, error) {
	signer, ok := private.(crypto.Signer)
	if !ok || kindOf(signer.Public(), "") != t.name {
		return versionRecord{}, invalid("private key of %T; it is not one of type %s", private, t.name)
	}
	der, err := mldsax509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return versionRecord{}, invalid("private key of %T can't be encoded", private)
	}
	v, err := t.fromPublic(signer.Public())
	v.Material, v.HMAC = der, randomBytes(minHMACKey)
	if rec.Derived {
		v.Public = nil // each context has its own
	}
	return v, err
}

// fromPublic returns a version that verifies and encrypts only.
func (t *softType) fromPublic(public crypto.PublicKey) (versionRecord, error) {
	if got := kindOf(public, ""); got != t.name {
		return versionRecord{}, invalid("public key is of type %.40q; the key is of type %s", got, t.name)
	}
	spki, err := backend.SubjectPublicKeyInfo(public)
	if err != nil {
		return versionRecord{}, invalid("public key of %T: %v", public, err)
	}
	return versionRecord{Public: spki}, nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return b
}
