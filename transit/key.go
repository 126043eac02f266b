package transit

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// key is a transit key as it was at some time. It is immutable: a change makes another one.
type key struct {
	name     string
	stored   uint64 // version of the record; of two keys of one name, the one with the greater is the newer
	rec      *record
	versions []*version // as rec.Versions
	broken   error      // if the record can't be read; then there is nothing else
	ask      *question  // of the batch that the key is for, or nil
}

func (k *key) latest() int { return k.rec.latest() }

func (k *key) version(number int) *version { return k.versions[number-k.rec.First] }

// version is one version of a transit key. What it was made with never changes. Certificates are in the record alone.
type version struct {
	number int
	rec    *versionRecord
	kind   string           // type of the key in the words of the HTTP API, such as "ecdsa-p256"
	public crypto.PublicKey // nil if the key is symmetric

	scheme backend.Scheme // what SignRequest means if it doesn't say
	hash   crypto.Hash    // likewise

	soft *softKey // nil for a managed key

	rejecter atomic.Pointer[rejecter] // of RSAES-PKCS1-v1_5, once it was needed
}

// newKey returns a key from its record. Versions that before had already are taken over, with what was opened of them.
func newKey(name string, stored uint64, rec *record, before *key) (*key, error) {
	k := &key{name: name, stored: stored, rec: rec, versions: make([]*version, len(rec.Versions))}
	for i := range rec.Versions {
		number := rec.First + i
		if before != nil && before.broken == nil && before.rec.ID == rec.ID && number >= before.rec.First && number <= before.latest() &&
			rec.at(number).unchanged(before.rec.at(number)) {
			k.versions[i] = before.version(number)
			continue
		}
		v, err := newVersion(rec, number)
		if err != nil {
			return nil, fmt.Errorf("version %d: %w", number, err)
		}
		k.versions[i] = v
	}
	return k, nil
}

func newVersion(rec *record, number int) (*version, error) {
	v := &version{number: number, rec: rec.at(number), kind: rec.Type, scheme: backend.RSAPSS, hash: crypto.SHA256}
	if v.rec.Public != nil {
		var err error
		if v.public, err = backend.ParsePublicKey(v.rec.Public); err != nil {
			return nil, fmt.Errorf("field public: %w: %w", store.ErrCorrupt, err)
		}
	}
	if rec.managed() {
		v.kind = kindOf(v.public, v.rec.Algorithm)
		if v.rec.Scheme != 0 {
			v.scheme = v.rec.Scheme
		}
		if v.rec.Hash != 0 {
			v.hash = v.rec.Hash
		}
		return v, nil
	}
	v.soft = &softKey{id: rec.ID, number: number, t: softTypes[rec.Type], rec: v.rec, public: v.public}
	return v, nil
}

// kindOf returns the type of a key in the words of the HTTP API.
func kindOf(public crypto.PublicKey, algorithm string) string {
	switch pub := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa-%d", pub.N.BitLen())
	case *ecdsa.PublicKey:
		return "ecdsa-" + strings.ToLower(strings.ReplaceAll(pub.Curve.Params().Name, "-", ""))
	case ed25519.PublicKey:
		return TypeEd25519
	case *mldsa.PublicKey:
		return strings.ToLower(pub.Parameters().String())
	}
	if bits, ok := strings.CutPrefix(algorithm, "AES-"); ok {
		return "aes" + bits + "-gcm96"
	}
	return strings.ToLower(algorithm)
}

// handle is what a key can do: a *managedkey.Key under its policy, or a software key.
type handle interface {
	Capabilities() backend.Capabilities
	SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)
	SignMessageContext(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error)
	VerifyContext(ctx context.Context, digest, signature []byte, opts crypto.SignerOpts) error
	EncryptContext(ctx context.Context, plaintext []byte, opts *rsa.OAEPOptions) ([]byte, error)
	DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error)
	Seal(ctx context.Context, plaintext, additionalData []byte) ([]byte, error)
	Open(ctx context.Context, ciphertext, additionalData []byte) ([]byte, error)
	ComputeMAC(ctx context.Context, alg backend.MACAlgorithm, message []byte) ([]byte, error)
	VerifyMAC(ctx context.Context, alg backend.MACAlgorithm, message, mac []byte) error
	GenerateRandom(ctx context.Context, n int) ([]byte, error)
	WrapKey(ctx context.Context, material []byte) ([]byte, error)
	UnwrapKey(ctx context.Context, wrapped []byte) ([]byte, error)
	ECDHContext(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error)
}

var (
	_ handle = (*managedkey.Key)(nil)
	_ handle = (*softHandle)(nil)
)

// handle returns what works with v, after it has made sure that a managed key still is the same key.
func (e *Engine) handle(ctx context.Context, k *key, v *version) (handle, error) {
	if v.soft != nil {
		return e.software(ctx, k, v)
	}
	h, err := e.managed(ctx, v)
	if err != nil {
		return nil, fmt.Errorf("transit: key %q version %d: %w", k.name, v.number, err)
	}
	if !v.is(h) {
		return nil, fmt.Errorf("transit: key %q version %d: managed key %s: %w", k.name, v.number, v.rec.ManagedKey, backend.ErrKeyChanged)
	}
	return h, nil
}

// behind is how long the registry of this process may take to learn of a version of a managed key that the transit key has.
const behind = 2 * time.Second

// managed looks up the version of the managed key that v was made with. The newest one costs nothing, and need not be within reach
// for the others.
func (e *Engine) managed(ctx context.Context, v *version) (*managedkey.Key, error) {
	h, err := e.mount.Key(ctx, v.rec.ManagedKey)
	if err != nil {
		if older, olderErr := e.mount.KeyVersion(ctx, v.rec.ManagedKey, v.rec.Of); olderErr == nil {
			return older, nil
		}
		return nil, err
	}
	if h.Version() == v.rec.Of {
		return h, nil
	}
	newest := h.Version()
	h, err = e.mount.KeyVersion(ctx, v.rec.ManagedKey, v.rec.Of)
	if e.store == nil || newest > v.rec.Of {
		return h, err
	}
	// Another process has rotated the managed key and then the transit key, and the news of the second was faster.
	for deadline := time.Now().Add(behind); errors.Is(err, backend.ErrKeyNotFound) && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(5 * time.Millisecond):
			h, err = e.mount.KeyVersion(ctx, v.rec.ManagedKey, v.rec.Of)
		}
	}
	return h, err
}

// is reports whether h is to the key that v was made with. A symmetric key has nothing to compare but what its key manager
// calls it.
func (v *version) is(h *managedkey.Key) bool {
	return h.UUID() == v.rec.ManagedKey && samePublic(v.public, h.Public()) && (v.public != nil || v.rec.KeyID == h.ID())
}

// samePublic reports whether a and b are the same public key, or both none.
func samePublic(a, b crypto.PublicKey) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	if k, ok := a.(interface{ Equal(crypto.PublicKey) bool }); ok {
		return k.Equal(b)
	}
	// Encapsulation keys of crypto/mlkem can be compared in no other way.
	one, err := backend.SubjectPublicKeyInfo(a)
	if err != nil {
		return false
	}
	other, err := backend.SubjectPublicKeyInfo(b)
	return err == nil && bytes.Equal(one, other)
}

// unchanged reports whether both are the same key. Certificates are looked up in the record.
func (v *versionRecord) unchanged(w *versionRecord) bool {
	return v.same(w) && v.Of == w.Of && bytes.Equal(v.Material, w.Material) && bytes.Equal(v.HMAC, w.HMAC)
}

// same reports whether both are the same version of the same managed key.
func (v *versionRecord) same(w *versionRecord) bool {
	if v.ManagedKey != w.ManagedKey || string(v.Public) != string(w.Public) {
		return false
	}
	return v.Public != nil || v.KeyID == w.KeyID
}

// verifier returns the handle that checks signatures of v under its policy. It is nil where only the public key is needed, or
// left: a software key; a managed key that has become another one, or can't be opened. What was signed stays signed.
func (e *Engine) verifier(ctx context.Context, k *key, v *version) (handle, error) {
	if err := ctx.Err(); err != nil {
		return nil, failed("verify", k, v, err)
	}
	if v.soft != nil {
		return nil, nil
	}
	h, err := e.managed(ctx, v)
	switch {
	case err != nil && v.public != nil && opened(err) && ctx.Err() == nil:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("transit: key %q version %d: %w", k.name, v.number, err)
	case v.is(h):
		return h, nil
	case !h.Capabilities().Usages.Has(backend.UsageVerify):
		return nil, fmt.Errorf("transit: key %q version %d: usage verify: %w", k.name, v.number, backend.ErrNotPermitted)
	}
	return nil, nil
}

// opened reports whether err is from a key manager, so that the entry is there and the mount may use it.
func opened(err error) bool {
	e, ok := errors.AsType[*managedkey.Error](err)
	return ok && e.Backend != "" && !errors.Is(err, backend.ErrNotPermitted)
}

// softKey is what a version of a software key has beside its record.
type softKey struct {
	id     string // of the record
	number int
	t      *softType
	rec    *versionRecord
	public crypto.PublicKey

	key, hmac atomic.Pointer[softHandle] // what was opened of it
	gone      atomic.Bool                // the version was deleted or trimmed; stored before key and hmac are discarded
}

// unsupported returns an error that says what a key can't do.
func unsupported(format string, args ...any) error {
	return fmt.Errorf("transit: "+format+": %w", append(args, backend.ErrUnsupported)...)
}

// failed explains an error of an operation with v, such as "sign".
func failed(op string, k *key, v *version, err error) error {
	return fmt.Errorf("transit: %s with key %q version %d: %w", op, k.name, v.number, err)
}

// decryptionError hides everything of a failed decryption but that it failed, and explains other errors.
func decryptionError(op string, k *key, v *version, err error) error {
	if errors.Is(err, backend.ErrDecryption) {
		return fmt.Errorf("transit: %w", backend.ErrDecryption)
	}
	return failed(op, k, v, err)
}
