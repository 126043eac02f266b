package seal

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"

	"crypto"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/argon2id"
)

// Key is a seal key: what wraps the root key of a store. It is made by [Managed] or [Passphrase].
type Key interface {
	// wrap encrypts the root key and says how.
	wrap(ctx context.Context, root []byte) (wrapping, error)

	// unwrap is the reverse. w has the kind of this key.
	unwrap(ctx context.Context, w wrapping) ([]byte, error)

	kind() string
	id() string // for people; "" if it has none
}

// The kinds of seal keys.
const (
	kindAEAD       = "aead"
	kindWrap       = "wrap"
	kindOAEP       = "rsa-oaep"
	kindPassphrase = "passphrase"
)

// wrapping is a wrapped root key, in JSON.
type wrapping struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	Kind    string `json:"kind"`
	ID      string `json:"id,omitempty"`
	Hash    string `json:"hash,omitempty"` // of RSA-OAEP

	Time      uint32 `json:"time,omitempty"` // of Argon2id, as the next three
	MemoryKiB uint32 `json:"memory_kib,omitempty"`
	Threads   uint8  `json:"threads,omitempty"`
	Salt      []byte `json:"salt,omitempty"`

	Wrapped []byte `json:"wrapped"`
}

// rootContext is the additional data with which a root key is encrypted.
const rootContext = "managedkeys/seal root key"

// Managed returns a seal key that is a key of a backend, or of a registry: one that encrypts and decrypts (backend.AEAD), one
// that wraps and unwraps (backend.Wrapper), or an RSA key that decrypts (backend.Decrypter), to whose public key the root
// key is encrypted in this process (RSA-OAEP without a label). What its capabilities allow decides, in this order.
//
// The key must stay open while the store is, and be the same each time. The error wraps backend.ErrUnsupported if the key
// can do none of these.
func Managed(key backend.Key) (Key, error) {
	caps := key.Capabilities()
	m := managed{key: key}
	public, isRSA := key.Public().(*rsa.PublicKey)
	if k, ok := key.(backend.AEAD); ok && key.Public() == nil && caps.Usages.Has(backend.UsageEncrypt|backend.UsageDecrypt) {
		return aeadKey{m, k}, nil
	}
	if k, ok := key.(backend.Decrypter); ok && isRSA && caps.Usages.Has(backend.UsageDecrypt) && len(caps.OAEPHashes) > 0 {
		hash := caps.OAEPHashes[0]
		if slices.Contains(caps.OAEPHashes, crypto.SHA256) {
			hash = crypto.SHA256
		}
		return oaepKey{m, k, public, hash}, nil
	}
	if k, ok := key.(backend.Wrapper); ok && caps.Usages.Has(backend.UsageWrap|backend.UsageUnwrap) {
		return wrapKey{m, k}, nil
	}
	return nil, fmt.Errorf("seal: key %q (%s, usages %v) can neither encrypt and decrypt, nor wrap and unwrap, nor decrypt by RSA-OAEP: %w",
		key.ID(), caps.Algorithm, caps.Usages, backend.ErrUnsupported)
}

type managed struct{ key backend.Key }

func (m managed) id() string { return m.key.ID() }

type aeadKey struct {
	managed
	aead backend.AEAD
}

func (aeadKey) kind() string { return kindAEAD }

func (k aeadKey) wrap(ctx context.Context, root []byte) (wrapping, error) {
	wrapped, err := k.aead.Seal(ctx, root, []byte(rootContext))
	return wrapping{Wrapped: wrapped}, err
}

func (k aeadKey) unwrap(ctx context.Context, w wrapping) ([]byte, error) {
	return k.aead.Open(ctx, w.Wrapped, []byte(rootContext))
}

type wrapKey struct {
	managed
	wrapper backend.Wrapper
}

func (wrapKey) kind() string { return kindWrap }

func (k wrapKey) wrap(ctx context.Context, root []byte) (wrapping, error) {
	wrapped, err := k.wrapper.WrapKey(ctx, root)
	return wrapping{Wrapped: wrapped}, err
}

func (k wrapKey) unwrap(ctx context.Context, w wrapping) ([]byte, error) {
	return k.wrapper.UnwrapKey(ctx, w.Wrapped)
}

type oaepKey struct {
	managed
	decrypter backend.Decrypter
	public    *rsa.PublicKey
	hash      crypto.Hash
}

func (oaepKey) kind() string { return kindOAEP }

func (k oaepKey) wrap(_ context.Context, root []byte) (wrapping, error) {
	wrapped, err := rsa.EncryptOAEP(k.hash.New(), rand.Reader, k.public, root, nil)
	return wrapping{Hash: k.hash.String(), Wrapped: wrapped}, err
}

func (k oaepKey) unwrap(ctx context.Context, w wrapping) ([]byte, error) {
	for _, hash := range k.key.Capabilities().OAEPHashes {
		if hash.String() == w.Hash {
			return k.decrypter.DecryptContext(ctx, w.Wrapped, &rsa.OAEPOptions{Hash: hash})
		}
	}
	return nil, fmt.Errorf("the root key was encrypted with RSA-OAEP and %.20q, which key %q doesn't take: %w", w.Hash, k.id(), backend.ErrUnsupported)
}

// Argon2id are the costs of Argon2id (RFC 9106). A zero field is the default: the second recommended option of its
// Section 4.
type Argon2id struct {
	Time      uint32 // passes: 1 to 64, default 3
	MemoryKiB uint32 // KiB: 8 for each thread to 1048576, default 65536; times Time, at most 4194304
	Threads   uint8  // lanes: 1 to 64, default 4
}

// Passphrase returns a seal key that is made from a passphrase by Argon2id, each time with a new salt. costs may be nil; they
// matter when the root key is wrapped, and are kept with it. The passphrase may be a reference, which is resolved when it is
// used.
//
// The error wraps backend.ErrCredentials if the passphrase is empty or can't be resolved, and backend.ErrInvalidParams if
// costs are out of bounds.
func Passphrase(passphrase backend.Secret, costs *Argon2id) (Key, error) {
	k := passphraseKey{passphrase: passphrase}
	if costs != nil {
		k.costs = argon2id.Costs(*costs)
	}
	k.costs = k.costs.WithDefaults()
	if err := k.costs.Check(); err != nil {
		return nil, fmt.Errorf("seal: %w: %w", err, backend.ErrInvalidParams)
	}
	_, err := k.secret()
	return k, err
}

type passphraseKey struct {
	passphrase backend.Secret
	costs      argon2id.Costs
}

func (passphraseKey) kind() string { return kindPassphrase }
func (passphraseKey) id() string   { return "" }

func (k passphraseKey) secret() (string, error) {
	secret, err := k.passphrase.Resolve()
	switch {
	case err != nil:
		return "", fmt.Errorf("seal: passphrase: %w", err)
	case secret == "":
		return "", fmt.Errorf("seal: passphrase: it is empty: %w", backend.ErrCredentials)
	}
	return secret, nil
}

func (k passphraseKey) wrap(_ context.Context, root []byte) (wrapping, error) {
	secret, err := k.secret()
	if err != nil {
		return wrapping{}, err
	}
	w := wrapping{Time: k.costs.Time, MemoryKiB: k.costs.MemoryKiB, Threads: k.costs.Threads, Salt: make([]byte, argon2id.SaltSize)}
	rand.Read(w.Salt)
	w.Wrapped = encrypt(newAEAD(k.costs.Key(secret, [argon2id.SaltSize]byte(w.Salt), keySize)), nil, root, []byte(rootContext))
	return w, nil
}

func (k passphraseKey) unwrap(_ context.Context, w wrapping) ([]byte, error) {
	secret, err := k.secret()
	if err != nil {
		return nil, err
	}
	costs := argon2id.Costs{Time: w.Time, MemoryKiB: w.MemoryKiB, Threads: w.Threads}
	if err := costs.Check(); err != nil || len(w.Salt) != argon2id.SaltSize {
		return nil, fmt.Errorf("costs %+v or a salt of %d bytes are out of bounds: %w", costs, len(w.Salt), backend.ErrDecryption)
	}
	return decrypt(newAEAD(costs.Key(secret, [argon2id.SaltSize]byte(w.Salt), keySize)), w.Wrapped, []byte(rootContext))
}
