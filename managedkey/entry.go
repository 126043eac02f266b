package managedkey

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// Entry is one managed key: its name, where the key is, and what may be done with it.
type Entry struct {
	// Ref is the entry's name, unique over all backends within its namespace. A name that has the form of a UUID is
	// refused, since mounts may ask for keys by UUID.
	Ref namespace.Ref

	// UUID identifies the entry for as long as it exists; one that is deleted and made again is another. Create ignores
	// it and assigns a new one. For Update it must be empty or that of the entry.
	UUID string

	// Backend and Params say where the key is. Both are required and of the same backend type. The caller must not
	// modify Params afterwards.
	Backend backend.Backend
	Params  backend.Params

	// Connection is the name of the [Connection] that Backend is of, in a registry with a store; one of the two suffices
	// there. Without a store it must be empty.
	Connection string

	// Version is the version of the entry in the store, which changes with every update; 0 without a store. An Update that
	// has one is made only if it is still the entry's. Create ignores it.
	Version uint64

	// Usages are the operations that are allowed. 0 means backend.UsageDefault: sign and verify.
	Usages backend.Usage

	AllowGenerateKey bool // the key is generated if the backend doesn't have it, on first use or by Generate
	AllowReplaceKey  bool // Generate and Import may replace a key that exists
	AllowStoreKey    bool // Import may put a private key into the backend
	AnyMount         bool // every mount of the namespace may use the key, without a grant

	// PublicKeySHA256 is the pin: the SHA-256 hash of the key's SubjectPublicKeyInfo (see backend.Fingerprint), 32
	// bytes. The entry never answers for a key with another public key. If it is empty, the first open sets it.
	// Symmetric keys have none.
	PublicKeySHA256 []byte

	// KeyVersion is the number of the key that Backend, Params and PublicKeySHA256 are about, the newest. 0 means 1, or one
	// more than the last of Older has; for Update it means that of the entry.
	KeyVersion int

	// Older are the versions that the key had before, without gaps, the newest of them last. For Update, nil leaves them as
	// they are, except that those which are on the connection that the newest leaves go with it.
	Older []OlderVersion

	// MinDecryptionVersion and MinEncryptionVersion are the oldest versions that may still be used, and that may make
	// something new. Versions below the first do nothing; those below the second don't sign, encrypt, wrap or compute MACs.
	// 0 allows all. A second one that isn't 0 is not below the first, and neither is above KeyVersion.
	MinDecryptionVersion, MinEncryptionVersion int
}

// policyBits are the switches of an entry, and whether it is gone.
type policyBits uint8

const (
	allowGenerate policyBits = 1 << iota
	allowReplace
	allowStore
	anyMount
	deleted
)

// state is everything about an entry that can change. It is immutable: a change stores another state, so that whoever
// loads one sees policy, location and key of the same moment. It is kept small, because every entry has one.
type state struct {
	backend backend.Backend
	params  backend.Params
	pin     *[sha256.Size]byte // nil until first opened, and for symmetric keys
	key     backend.Key        // nil until first opened
	bound   *binding           // what handles of key hold; nil exactly where key is
	window  *window            // nil if all versions may be used
	version uint32             // counts the updates of location and pin, to recognise an open that one overtook
	usages  backend.Usage
	bits    policyBits
}

var deletedState = &state{bits: deleted}

func (s *state) is(b policyBits) bool { return s.bits&b != 0 }

// entry is the identity of one Entry, from Create to Delete. An older version of its key is an entry too, which is in no
// index and has the same name, id and policy.
//
// What is immutable: name, id, space. State and lineage are loaded by anyone and stored under space.mu; once the state is
// deletedState it stays so.
type entry struct {
	name    name
	id      uuid.UUID
	space   *space
	state   atomic.Pointer[state]
	lineage atomic.Pointer[lineage] // nil if the key has one version, number 1
	kept    *keptEntry              // nil in a registry without a store
}

func (e *entry) ref() namespace.Ref {
	return namespace.Ref{Namespace: e.space.path, Name: e.name.String()}
}

// hashID returns the hash of a UUID that this package made: it is random already.
func hashID(id *uuid.UUID) uint64 { return binary.LittleEndian.Uint64(id[:8]) }

// parseID returns s as a UUID if it has the form of one, 36 characters.
func parseID(s string) (uuid.UUID, bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(s)
	return id, err == nil
}

// binding is what all handles of an entry share for as long as its key pair stays the same. A client that was
// reconfigured keeps the binding; a replaced key gets another. All but entry is immutable from when it is part of a state.
type binding struct {
	entry     atomic.Pointer[entry] // stored under space.mu: an older version becomes an entry of its own
	number    uint32                // of the version
	public    crypto.PublicKey      // nil if the key is symmetric
	pin       *[sha256.Size]byte    // fingerprint of public, or nil
	kind      string                // backend type when it was made
	id        string                // the key manager's identifier when it was made
	algorithm string
	handle    Key // that of the registry
}

// newBinding returns a binding for key that has no entry yet.
func newBinding(key backend.Key) (*binding, error) {
	b := &binding{public: key.Public(), id: key.ID(), algorithm: key.Capabilities().Algorithm}
	b.handle.bound = b
	if b.public != nil {
		pin, err := backend.Fingerprint(b.public)
		if err != nil {
			return nil, err
		}
		b.pin = &pin
	}
	return b, nil
}

// matches returns ErrKeyChanged if a pin is wanted and got is another one or none.
func matches(want, got *[sha256.Size]byte) error {
	switch {
	case want == nil || got != nil && *want == *got:
		return nil
	case got == nil:
		return fmt.Errorf("the pin is %x, but the key is symmetric: %w", *want, backend.ErrKeyChanged)
	}
	return fmt.Errorf("the public key has SHA-256 %x, the pin is %x: %w", *got, *want, backend.ErrKeyChanged)
}

// newState checks everything of in that can be checked without the backend and returns it as a state without a key.
func newState(in *Entry) (*state, error) {
	if err := in.Ref.Validate(); err != nil {
		return nil, invalidRef(err)
	}
	if _, isID := parseID(in.Ref.Name); isID {
		return nil, invalidRef(fmt.Errorf("%w: key name %q has the form of a UUID", namespace.ErrInvalid, in.Ref.Name))
	}
	if isNil(in.Backend) {
		return nil, fmt.Errorf("field Backend is nil; it takes a backend.Backend: %w", backend.ErrInvalidParams)
	}
	if isNil(in.Params) {
		return nil, fmt.Errorf("field Params is nil; it takes those of backend %q: %w",
			in.Backend.Type(), backend.ErrInvalidParams)
	}
	if got, want := in.Params.BackendType(), in.Backend.Type(); got != want {
		return nil, fmt.Errorf("field Params is of backend %q, want %q: %w", got, want, backend.ErrInvalidParams)
	}
	if err := in.Params.Validate(); err != nil {
		if !errors.Is(err, backend.ErrInvalidParams) {
			err = fmt.Errorf("%w: %w", backend.ErrInvalidParams, err)
		}
		return nil, fmt.Errorf("field Params: %w", err)
	}
	const known = backend.UsageDerive<<1 - 1
	if unknown := in.Usages &^ known; unknown != 0 {
		return nil, fmt.Errorf("field Usages has unknown bits %#x; it takes %s: %w",
			uint16(unknown), known, backend.ErrInvalidParams)
	}
	s := &state{backend: in.Backend, params: in.Params, usages: in.Usages}
	if s.usages == 0 {
		s.usages = backend.UsageDefault
	}
	s.usages |= usageNew
	var err error
	if s.pin, err = newPin(in.PublicKeySHA256); err != nil {
		return nil, err
	}
	for _, b := range []struct {
		set bool
		bit policyBits
	}{
		{in.AllowGenerateKey, allowGenerate}, {in.AllowReplaceKey, allowReplace},
		{in.AllowStoreKey, allowStore}, {in.AnyMount, anyMount},
	} {
		if b.set {
			s.bits |= b.bit
		}
	}
	return s, nil
}

// newPin returns a pin from its bytes, nil if there are none.
func newPin(b []byte) (*[sha256.Size]byte, error) {
	switch len(b) {
	case 0:
		return nil, nil
	case sha256.Size:
		return (*[sha256.Size]byte)(bytes.Clone(b)), nil
	}
	return nil, fmt.Errorf("field PublicKeySHA256 has %d bytes, want %d: %w", len(b), sha256.Size, backend.ErrInvalidParams)
}

// pinBytes is the inverse of newPin.
func pinBytes(pin *[sha256.Size]byte) []byte {
	if pin == nil {
		return nil
	}
	return bytes.Clone(pin[:])
}

// export returns the entry as the Entry that it came from; space.mu is held.
func (e *entry) export() Entry {
	s := e.state.Load()
	out := Entry{
		Ref: e.ref(), UUID: e.id.String(), Backend: s.backend, Params: s.params, Usages: s.usages &^ usageNew,
		AllowGenerateKey: s.is(allowGenerate), AllowReplaceKey: s.is(allowReplace),
		AllowStoreKey: s.is(allowStore), AnyMount: s.is(anyMount),
		PublicKeySHA256: pinBytes(s.pin), KeyVersion: int(e.number()), Older: e.lineage.Load().export(),
	}
	if s.window != nil {
		out.MinDecryptionVersion, out.MinEncryptionVersion = int(s.window.decryption), int(s.window.encryption)
	}
	if e.kept != nil {
		out.Connection, out.Version = e.kept.connection, e.kept.version
		if asked := e.kept.asked; asked != nil {
			out.Backend, out.Params = e.space.registry.renewed(asked.backend), asked.params
		}
	}
	return out
}

// sameLocation reports whether both states point at the same key through the same client.
func (s *state) sameLocation(t *state) bool {
	return sameBackend(s.backend, t.backend) && reflect.DeepEqual(s.params, t.params)
}

// elsewhere reports whether both states are certain to point at different places, or clients. Unlike with sameLocation, backends that
// can't be compared count as the same.
func (s *state) elsewhere(t *state) bool {
	return !reflect.DeepEqual(s.params, t.params) || reflect.ValueOf(s.backend).Comparable() && s.backend != t.backend
}

func sameBackend(a, b backend.Backend) bool { return reflect.ValueOf(a).Comparable() && a == b }

// isNil reports whether v is nil or holds a nil pointer, which would make the first method call panic.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Func, reflect.Chan:
		return r.IsNil()
	}
	return false
}
