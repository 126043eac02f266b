package backend

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"fmt"
	"iter"
)

// Backend is a client of one external key manager. It owns the connections, sessions and credentials that its keys use.
//
// All methods are safe for concurrent use.
type Backend interface {
	// Type returns the name of the kind of backend, such as "pkcs11". It never changes.
	Type() string

	// Open finds the one key that params describe. It does not keep ctx, and fails if ctx has ended.
	//
	// The error wraps ErrKeyNotFound, ErrAmbiguousKey, ErrKeyDisabled, ErrCredentials, ErrUnavailable, ErrClosed,
	// ErrUnsupported (a kind of key that can't be used) or ErrInvalidParams (params of another backend, or malformed).
	Open(ctx context.Context, params Params) (Key, error)

	// Close refuses new calls, waits for those in flight for as long as the backend's documentation says, and releases
	// everything. Its keys then fail with ErrClosed. Closing again does nothing and returns nil.
	Close() error
}

// Params describe one key to a backend: where it is and, for generating, what it is. Each backend exports its own struct
// type, whose JSON fields are those of the managed-keys API.
type Params interface {
	// BackendType returns the Type of the backend that takes these parameters.
	BackendType() string

	// Validate checks everything that can be checked without the key manager. The error wraps ErrInvalidParams and
	// names the field, what it holds (unless secret) and what it takes.
	Validate() error
}

// ParamsAs returns p as the type T of the calling backend's parameters, validated. The error wraps [ErrInvalidParams].
func ParamsAs[T Params](p Params) (T, error) {
	t, ok := p.(T)
	if !ok {
		return t, fmt.Errorf("backend: params are %T, want %T: %w", p, t, ErrInvalidParams)
	}
	return t, t.Validate()
}

// Key is one open key. It is bound to one key pair for as long as it lives: it never answers for another one, whatever
// happens in the key manager.
//
// All methods are safe for concurrent use.
type Key interface {
	// Public returns the public key: *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, *mldsa.PublicKey,
	// *mlkem.EncapsulationKey768 or *mlkem.EncapsulationKey1024, or nil if the key is symmetric. The curve of an *ecdsa.PublicKey is one of elliptic.P224, P256, P384 and P521 and Secp256k1.
	// It makes no call and never fails. The caller must not modify it.
	Public() crypto.PublicKey

	// Capabilities returns what this key can do. It makes no call. The caller must not modify its slices.
	Capabilities() Capabilities

	// ID returns the key manager's own identifier of exactly this key, its version included, for people and logs. It is
	// the same for everyone who opens this key, and another for every other key pair.
	ID() string
}

// Signer is a Key that signs.
type Signer interface {
	Key
	crypto.Signer

	// SignContext is Sign, bounded by ctx: it returns as soon as ctx ends. If ctx has no deadline, the backend's call
	// timeout applies, as it does for Sign. The key manager provides the randomness.
	//
	// The digest has the length of opts.HashFunc(); for a scheme that signs whole messages (Ed25519, ML-DSA) it is the
	// message. ECDSA signatures are ASN.1 DER (RFC 3279, Section 2.2.3). *rsa.PSSOptions choose RSASSA-PSS, and there
	// PSSSaltLengthAuto means the length of the hash.
	//
	// The error wraps ErrUnsupported or ErrInvalidParams before any call was made, and else ErrUnavailable,
	// ErrThrottled, ErrCredentials, ErrKeyDisabled, ErrKeyChanged, ErrNotPermitted or ctx.Err().
	SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

// MessageSigner is a Signer that takes whole messages. It hashes them as opts say, unless the scheme signs messages.
type MessageSigner interface {
	Signer
	crypto.MessageSigner

	// SignMessageContext is SignMessage, bounded by ctx as SignContext is.
	SignMessageContext(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error)
}

// Verifier is a Key that checks signatures. It does so in this process with the public key, without a remote call.
type Verifier interface {
	Key

	// VerifyContext returns nil if signature is a signature of digest, which is as for SignContext, and otherwise an
	// error that wraps ErrInvalidSignature. PSSSaltLengthAuto accepts any salt length.
	VerifyContext(ctx context.Context, digest, signature []byte, opts crypto.SignerOpts) error
}

// Decrypter is a Key that decrypts what was encrypted with its public key.
type Decrypter interface {
	Key
	crypto.Decrypter

	// DecryptContext is Decrypt, bounded by ctx as SignContext is. opts must be *rsa.OAEPOptions; RSAES-PKCS1-v1_5 is
	// refused because its padding can't be checked without an oracle (RFC 8017, Section 7.2).
	//
	// Every ciphertext that can't be decrypted gives the same error, ErrDecryption.
	DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error)
}

// KeyAgreer is a Key that agrees on secrets by elliptic-curve Diffie-Hellman (SP 800-56A Rev. 3, Section 5.7.1.2). It has an
// *ecdsa.PublicKey on P-256, P-384 or P-521. Its operations need the usage derive.
type KeyAgreer interface {
	Key

	// KeyExchanger's PublicKey and Curve are those of Public, make no call and never fail; ECDH is ECDHContext, bounded
	// by the call timeout.
	ecdh.KeyExchanger

	// ECDHContext returns the x-coordinate of peer times the private key, which must go through a key derivation function
	// before it is used, bounded by ctx as SignContext is. It has as many bytes as the curve's field: 32, 48 or 66.
	//
	// The error wraps ErrInvalidParams before any call was made if peer is nil or on another curve. An *ecdh.PublicKey
	// is always a point on its curve.
	ECDHContext(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error)
}

// Decapsulator is a Key of a key encapsulation mechanism: it opens the shared keys that others encapsulate with its public
// key. There is ML-KEM-768 and ML-KEM-1024 (FIPS 203). Its operations need the usage derive.
type Decapsulator interface {
	Key

	// Decapsulator's Encapsulator is Public, makes no call and never fails; Decapsulate is DecapsulateContext, bounded by
	// the call timeout.
	crypto.Decapsulator

	// DecapsulateContext returns the shared key of ciphertext, 32 bytes, bounded by ctx as SignContext is. A ciphertext
	// that was not made for this key gives a key that nobody else has, and no error (FIPS 203, Section 3.2, "implicit
	// rejection"). One of a wrong length is ErrDecryption.
	DecapsulateContext(ctx context.Context, ciphertext []byte) (sharedKey []byte, err error)
}

// AEAD is a symmetric Key that encrypts with authentication.
type AEAD interface {
	Key

	// Seal encrypts plaintext and authenticates it together with additionalData, which may be nil. The ciphertext
	// carries all that Open needs; for AES-GCM it is nonce ‖ ciphertext ‖ tag with a random 12-byte nonce, unless the key
	// manager has a form of its own, which the backend's documentation then says.
	Seal(ctx context.Context, plaintext, additionalData []byte) ([]byte, error)

	// Open decrypts what Seal returned. Every failure to decrypt gives the same error, ErrDecryption.
	Open(ctx context.Context, ciphertext, additionalData []byte) ([]byte, error)
}

// MAC is a symmetric Key that authenticates messages.
type MAC interface {
	Key

	// ComputeMAC returns the full-length MAC of message. The error wraps ErrUnsupported if the key doesn't take alg.
	ComputeMAC(ctx context.Context, alg MACAlgorithm, message []byte) ([]byte, error)

	// VerifyMAC returns nil if mac is the MAC of message, compared in constant time, and otherwise an error that wraps
	// ErrInvalidSignature.
	VerifyMAC(ctx context.Context, alg MACAlgorithm, message, mac []byte) error
}

// Random is a Key whose key manager provides random bytes.
type Random interface {
	Key

	// GenerateRandom returns n random bytes, 1 ≤ n ≤ Capabilities().MaxRandom.
	GenerateRandom(ctx context.Context, n int) ([]byte, error)
}

// Wrapper is a Key that wraps other keys, handed in as bytes.
type Wrapper interface {
	Key

	// WrapKey encrypts key material. The form depends on the key: AES Key Wrap with Padding (RFC 5649) for AES,
	// RSAES-OAEP with SHA-256 for RSA.
	WrapKey(ctx context.Context, material []byte) ([]byte, error)

	// UnwrapKey decrypts what WrapKey returned. Every failure to unwrap gives the same error, ErrDecryption.
	UnwrapKey(ctx context.Context, wrapped []byte) ([]byte, error)
}

// Attester is a Key whose key manager can prove where it was made and kept.
type Attester interface {
	Key

	// Attest returns the key manager's statement about this key. It is not verified here.
	Attest(ctx context.Context) (Attestation, error)
}

// Attestation is a key manager's signed statement about a key.
type Attestation struct {
	Format       string   // who defined the statement, such as "CAVIUM_V2_COMPRESSED"
	Statement    []byte   // as the key manager gave it
	Certificates [][]byte // DER, the signer's first
}

// Generator is a Backend that makes keys.
type Generator interface {
	Backend

	// Generate makes the key that params describe, inside the key manager, and opens it. If such a key exists, the error
	// wraps ErrKeyExists, unless opts.Replace is set; then the new key takes its place and the old one is kept if
	// anything fails; handles of the old one never answer for the new. Of concurrent calls for one key without Replace,
	// one makes it. Nothing is made if ctx has ended. nil opts are the zero value.
	Generate(ctx context.Context, params Params, opts *GenerateOptions) (Key, error)
}

// GenerateOptions are the options of [Generator].
type GenerateOptions struct {
	Replace bool // an existing key may be replaced
}

// Importer is a Backend that takes in private keys that the program holds.
type Importer interface {
	Backend

	// Import puts material where params say and opens it. material is an *rsa.PrivateKey, *ecdsa.PrivateKey,
	// ed25519.PrivateKey, *mldsa.PrivateKey, *mlkem.DecapsulationKey768, *mlkem.DecapsulationKey1024, or a []byte for a
	// symmetric key. An existing key is treated as Generate
	// does. The error wraps ErrUnsupported if this kind of key can't be imported and ErrInvalidParams if material
	// doesn't fit params.
	Import(ctx context.Context, params Params, material any, opts *ImportOptions) (Key, error)
}

// ImportOptions are the options of [Importer].
type ImportOptions struct {
	Replace bool // an existing key may be replaced
}

// KeyInfo is what a [Lister] knows of a key without opening it.
type KeyInfo struct {
	ID        string // as Key.ID
	Label     string // the name that people gave it, if it has one
	Algorithm string // as Capabilities.Algorithm, if it is known without opening the key
	Usages    Usage  // the key can do none that is missing here, but for random bytes; 0 if that isn't known without opening it
	URI       string // the key's canonical URI, if the backend is a URIParser; never with a secret
	Params    Params // opens exactly this key
}

// Lister is a Backend that can list its keys.
type Lister interface {
	Backend

	// List yields the keys in a fixed order. scope says where to look (which token, which vault); its fields about one
	// key are ignored. The sequence ends after the first error.
	List(ctx context.Context, scope Params) iter.Seq2[KeyInfo, error]
}

// Pinger is a Backend that can tell whether it is in working order.
type Pinger interface {
	Backend

	// Ping makes one cheap call on every connection that is open and returns what failed, joined. The error wraps
	// ErrUnavailable, ErrCredentials or ErrClosed.
	Ping(ctx context.Context) error
}
