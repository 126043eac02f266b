package transit

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// Options are the options of [New].
type Options struct {
	// Now returns the current time; nil means time.Now.
	Now func() time.Time
}

// Engine is a set of transit keys over the managed keys of one mount. Use [New].
//
// All methods are safe for concurrent use.
type Engine struct {
	mount *managedkey.Mount
	now   func() time.Time

	mu   sync.RWMutex
	keys map[string][]*version // by name; never empty; versions are appended and never change
}

// version is what a transit key was at some time. It is immutable.
type version struct {
	number  int
	uuid    string           // of the managed key's entry
	of      int              // version of the managed key
	id      string           // of the key in its key manager
	public  crypto.PublicKey // nil if the key is symmetric
	caps    backend.Capabilities
	created time.Time
}

// New returns an engine on mount, which must not be nil. nil opts are the zero value. It makes no call.
func New(mount *managedkey.Mount, opts *Options) *Engine {
	e := &Engine{mount: mount, now: time.Now, keys: make(map[string][]*version)}
	if opts != nil && opts.Now != nil {
		e.now = opts.Now
	}
	return e
}

// KeyOptions are what a transit key is made of.
type KeyOptions struct {
	ManagedKey string // name or UUID of the managed key; required
}

// CreateKey makes a transit key whose first version is the managed key of opts. The name obeys
// [namespace.ValidateName].
//
// The error wraps [backend.ErrInvalidParams] if the name is malformed or no managed key is named,
// [backend.ErrKeyExists] if there is a transit key of that name, which is then unchanged, or what the mount returned.
func (e *Engine) CreateKey(ctx context.Context, name string, opts KeyOptions) error {
	if err := namespace.ValidateName(name); err != nil {
		return fmt.Errorf("transit: %w: %w", backend.ErrInvalidParams, err)
	}
	first, err := e.open(ctx, opts.ManagedKey)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.keys[name] != nil {
		return fmt.Errorf("transit: key %q: %w", name, backend.ErrKeyExists)
	}
	first.number = 1
	e.keys[name] = []*version{first}
	return nil
}

// Rotate appends a version to a transit key, of which the newest version of the managed key of that name or UUID is the key from
// now on. It may be of another kind than before. Versions that exist keep theirs.
//
// An empty managedKey means that of the latest version: if it was rotated since (see [managedkey.Registry.Rotate]) its newest
// version is taken, and if not, the key manager makes one, which the entry must allow.
//
// The error wraps [backend.ErrKeyNotFound] if there is no transit key of that name, [backend.ErrInvalidParams] if the
// latest version has this very managed key already, or what the mount returned.
func (e *Engine) Rotate(ctx context.Context, name, managedKey string) error {
	latest, err := e.latest("key", name)
	if err != nil {
		return err
	}
	own := managedKey == ""
	if own {
		managedKey = latest.uuid
	}
	next, err := e.open(ctx, managedKey)
	if err != nil {
		return err
	}
	if own && latest.same(next) {
		if _, err := e.mount.Rotate(ctx, managedKey); err != nil {
			return fmt.Errorf("transit: key %q: %w", name, err)
		}
		if next, err = e.open(ctx, managedKey); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	versions := e.keys[name]
	if last := versions[len(versions)-1]; last.same(next) {
		return invalid("key %q: version %d is already the managed key %.80q; rotating takes another one", name, last.number, managedKey)
	}
	next.number = len(versions) + 1
	// A new array, so that readers of the old slice are not disturbed.
	e.keys[name] = append(slices.Clone(versions), next)
	return nil
}

// open returns a version, still without number, of a managed key.
func (e *Engine) open(ctx context.Context, managedKey string) (*version, error) {
	if managedKey == "" {
		return nil, invalid("managed key: no name or UUID is given")
	}
	handle, err := e.mount.Key(ctx, managedKey)
	if err != nil {
		return nil, fmt.Errorf("transit: managed key %.80q: %w", managedKey, err)
	}
	return &version{
		uuid: handle.UUID(), of: handle.Version(), id: handle.ID(), public: handle.Public(), caps: handle.Capabilities(), created: e.now(),
	}, nil
}

// KeyInfo describes a transit key.
type KeyInfo struct {
	Name          string
	Type          string       // of the latest version: "rsa-2048", "ecdsa-p256", "ed25519", "ml-dsa-65", "aes256-gcm96", "hmac"
	LatestVersion int          // the one that new work is done with
	Versions      []KeyVersion // from the first, version 1, to the latest
}

// KeyVersion describes one version of a transit key.
type KeyVersion struct {
	Version    int
	Type       string           // as KeyInfo.Type
	ManagedKey string           // UUID of the managed key
	KeyID      string           // the key manager's own identifier of the key
	PublicKey  crypto.PublicKey // nil if the key is symmetric; it must not be modified
	Created    time.Time
}

// Key returns what is known of a transit key. It makes no call. The error wraps [backend.ErrKeyNotFound] if there is
// none.
func (e *Engine) Key(name string) (KeyInfo, error) {
	versions, err := e.versions("key", name)
	if err != nil {
		return KeyInfo{}, err
	}
	info := KeyInfo{Name: name, LatestVersion: len(versions), Type: versions[len(versions)-1].kind()}
	for _, v := range versions {
		info.Versions = append(info.Versions, KeyVersion{v.number, v.kind(), v.uuid, v.id, v.public, v.created})
	}
	return info, nil
}

// List returns the names of the transit keys, sorted.
func (e *Engine) List() []string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	names := make([]string, 0, len(e.keys))
	for name := range e.keys {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// versions returns the versions of a key. what says for the error which key is missing, such as "signing key".
func (e *Engine) versions(what, name string) ([]*version, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if versions := e.keys[name]; versions != nil {
		return versions, nil
	}
	return nil, fmt.Errorf("transit: %s not found: %.80q: %w", what, name, backend.ErrKeyNotFound)
}

func (e *Engine) latest(what, name string) (*version, error) {
	versions, err := e.versions(what, name)
	if err != nil {
		return nil, err
	}
	return versions[len(versions)-1], nil
}

// choose returns the version of that number for new work; 0 is the latest. op is for the error: "signing".
func (e *Engine) choose(what, op, name string, number int) (*version, error) {
	versions, err := e.versions(what, name)
	switch {
	case err != nil:
		return nil, err
	case number < 0:
		return nil, invalid("requested version for %s is negative: %d", op, number)
	case number > len(versions):
		return nil, invalid("requested version for %s is higher than the latest key version: %d; the latest is %d", op, number, len(versions))
	case number == 0:
		number = len(versions)
	}
	return versions[number-1], nil
}

// made returns the version that made an envelope. kind is for the error: "signature".
func (e *Engine) made(what, kind, name string, number int) (*version, error) {
	versions, err := e.versions(what, name)
	switch {
	case err != nil:
		return nil, err
	case number > len(versions):
		return nil, invalid("invalid %s: version is too new: %d; the latest is %d", kind, number, len(versions))
	}
	return versions[number-1], nil
}

// handle looks up the managed key of v and makes sure that it still is the same key.
func (e *Engine) handle(ctx context.Context, name string, v *version) (*managedkey.Key, error) {
	handle, err := e.managed(ctx, v)
	if err != nil {
		return nil, fmt.Errorf("transit: key %q version %d: %w", name, v.number, err)
	}
	if !v.is(handle) {
		return nil, fmt.Errorf("transit: key %q version %d: managed key %s: %w", name, v.number, v.uuid, backend.ErrKeyChanged)
	}
	return handle, nil
}

// managed looks up the version of the managed key that v was made with. The newest one costs nothing, and need not be within reach
// for the others.
func (e *Engine) managed(ctx context.Context, v *version) (*managedkey.Key, error) {
	handle, err := e.mount.Key(ctx, v.uuid)
	if err == nil && handle.Version() == v.of {
		return handle, nil
	}
	older, olderErr := e.mount.KeyVersion(ctx, v.uuid, v.of)
	if err == nil || olderErr == nil {
		return older, olderErr
	}
	return nil, err
}

// is reports whether handle is to the key that v was made with.
func (v *version) is(handle *managedkey.Key) bool {
	return v.same(&version{uuid: handle.UUID(), id: handle.ID(), public: handle.Public()})
}

// same reports whether v and w are the same key. A symmetric key has nothing to compare but what its key manager calls
// it.
func (v *version) same(w *version) bool {
	if v.uuid != w.uuid {
		return false
	}
	if v.public == nil || w.public == nil {
		return v.public == nil && w.public == nil && v.id == w.id
	}
	k, ok := v.public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(w.public)
}

// kind returns the type of a key in the words of the HTTP API.
func (v *version) kind() string {
	switch pub := v.public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa-%d", pub.N.BitLen())
	case *ecdsa.PublicKey:
		return "ecdsa-" + strings.ToLower(strings.ReplaceAll(pub.Curve.Params().Name, "-", ""))
	case ed25519.PublicKey:
		return "ed25519"
	case *mldsa.PublicKey:
		return strings.ToLower(pub.Parameters().String())
	}
	if bits, ok := strings.CutPrefix(v.caps.Algorithm, "AES-"); ok {
		return "aes" + bits + "-gcm96"
	}
	return strings.ToLower(v.caps.Algorithm)
}

// unsupported returns an error that says what a key can't do.
func unsupported(format string, args ...any) error {
	return fmt.Errorf("transit: "+format+": %w", append(args, backend.ErrUnsupported)...)
}

// decryptionError hides everything of a failed decryption but that it failed, and explains other errors.
func decryptionError(name string, v *version, err error) error {
	if errors.Is(err, backend.ErrDecryption) {
		return fmt.Errorf("transit: %w", backend.ErrDecryption)
	}
	return fmt.Errorf("transit: key %q version %d: %w", name, v.number, err)
}
