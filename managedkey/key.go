package managedkey

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// Key is a handle to one key pair, or symmetric key, under the policy of its entry. Each operation checks that the
// entry still exists, that it still has this very key, that the mount through which the handle came may still use it,
// and that the entry allows the usage; the check takes nanoseconds and no lock. An operation that has passed it ends
// as usual.
//
// The operations' errors are of type *[Error]. Beside what the backend returns, they wrap
//
//	backend.ErrKeyNotFound  the entry was deleted
//	backend.ErrKeyChanged   the entry now has another key
//	backend.ErrNotPermitted the usage is not allowed, or the mount has no grant (any more), or was closed
//	backend.ErrUnsupported  the key can't do this
//
// A handle keeps its key when the entry is rotated: it is then one to an older version.
//
// A Key is made by [Registry.Key] or [Mount.Key] and shared by all who ask for the same key. All methods are safe for
// concurrent use.
type Key struct {
	bound *binding
	seat  *seat           // of the mount through which the handle came; nil if it came from the registry
	ctx   context.Context // of a view; nil means none
}

// WithContext returns a view of k for APIs that take no context: its Sign, SignMessage, Decrypt, ECDH and Decapsulate are
// bounded by ctx.
// The methods that take a context are bounded by that one alone. k itself is unchanged.
func (k *Key) WithContext(ctx context.Context) *Key {
	return &Key{bound: k.bound, seat: k.seat, ctx: ctx}
}

// context returns what bounds the methods that take no context. Without a view, it is the backend's call timeout.
func (k *Key) context() context.Context {
	if k.ctx == nil {
		return context.Background()
	}
	return k.ctx
}

// Ref returns the name of the entry.
func (k *Key) Ref() namespace.Ref { return k.bound.entry.Load().ref() }

// UUID returns the id of the entry.
func (k *Key) UUID() string { return k.bound.entry.Load().id.String() }

// Version returns the number of the key's version, from 1. It stays the same for as long as the handle lives.
func (k *Key) Version() int { return int(k.bound.number) }

// state returns the state that has the handle's key, or that of an entry that has it no longer.
func (b *binding) state() *state {
	for {
		e := b.entry.Load()
		if st := e.state.Load(); st.bound == b || b.entry.Load() == e {
			return st
		}
	}
}

// current returns the entry's state if the handle is still valid, and otherwise nil.
func (k *Key) current() *state {
	st := k.bound.state()
	if st.bound != k.bound || k.seat != nil && !k.seat.admits(st) {
		return nil
	}
	return st
}

// BackendType returns the type of the backend that the key is in, such as "pkcs11".
func (k *Key) BackendType() string {
	if st := k.bound.state(); st.bound == k.bound {
		return st.backend.Type()
	}
	return k.bound.kind
}

// ID returns the key manager's own identifier of the key, for people and logs.
func (k *Key) ID() string {
	if st := k.bound.state(); st.bound == k.bound {
		return st.key.ID()
	}
	return k.bound.id
}

// Public returns the public key, or nil if the key is symmetric. It stays the same for as long as the handle lives. The
// caller must not modify it.
func (k *Key) Public() crypto.PublicKey { return k.bound.public }

// Capabilities returns what the key can do now through this handle: Usages are those that both the key has and the
// entry allows. A handle that was stopped has none, and of the rest Algorithm alone. It makes no call. The caller must
// not modify its slices.
func (k *Key) Capabilities() backend.Capabilities {
	st := k.current()
	if st == nil {
		return backend.Capabilities{Algorithm: k.bound.algorithm}
	}
	caps := st.key.Capabilities()
	caps.Usages &= st.usages
	return caps
}

// use returns the backend's key if the handle may be used in this way now.
//
// Grant and state are two words of memory. That the state is still the same after the grant was read proves that there
// was a moment in which both held.
func (k *Key) use(op string, usage backend.Usage) (backend.Key, error) {
	e := k.bound.entry.Load()
	for st := e.state.Load(); st.bound == k.bound && st.usages.Has(usage) && (k.seat == nil || k.seat.admits(st)); {
		again := e.state.Load()
		if again == st {
			return st.key, nil
		}
		st = again
	}
	return k.deny(op, usage)
}

// Permits returns nil if the entry, the mount and the binding to one key allow all these usages now, and otherwise the
// error that an operation would return. It makes no call, and allocates nothing unless there is an error. Every operation
// checks by itself: Permits is for those who want to refuse early.
func (k *Key) Permits(usages backend.Usage) error {
	_, err := k.use("check", usages)
	return err
}

// deny says why the handle may not be used. It looks again under the lock, where grant and state belong together: if
// permissions were moved from the one to the other meanwhile, there may be no reason.
func (k *Key) deny(op string, usage backend.Usage) (backend.Key, error) {
	s := k.bound.entry.Load().space
	s.mu.Lock()
	st := k.bound.entry.Load().state.Load()
	var err error
	switch {
	case st.is(deleted):
		err = errDeleted
	case k.seat != nil && k.seat.mount.closed.Load():
		err = errUnmounted
	case k.seat != nil && !k.seat.admits(st):
		err = k.seat.mount.errNotGranted()
	case st.bound != k.bound:
		err = fmt.Errorf("the entry has another key than when this handle was made: %w", backend.ErrKeyChanged)
	case !st.usages.Has(usage) && st.window.reason(k.bound.number) != "":
		err = fmt.Errorf("usage %s is not allowed: %s: %w", usage&^usageNew, st.window.reason(k.bound.number), backend.ErrNotPermitted)
	case !st.usages.Has(usage):
		err = fmt.Errorf("usage %s is not allowed; the entry allows %s: %w", usage&^usageNew, st.usages&^usageNew, backend.ErrNotPermitted)
	}
	s.mu.Unlock()
	if err != nil {
		return nil, k.fail(op, err)
	}
	return st.key, nil
}

func (k *Key) fail(op string, err error) error { return fail(op, k.Ref(), k.BackendType(), err) }

// result returns what a backend returned, with its error made an *Error.
func (k *Key) result(op string, out []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, k.fail(op, err)
	}
	return out, nil
}

// decrypted is result for what decrypts: a failed decryption keeps nothing but its sentinel, so that every kind of it
// reads the same, whatever the driver added.
func (k *Key) decrypted(op string, out []byte, err error) ([]byte, error) {
	if errors.Is(err, backend.ErrDecryption) {
		err = backend.ErrDecryption
	}
	return k.result(op, out, err)
}

// need returns the backend's key as T, if the handle may be used in this way now and the key has T.
func need[T any](k *Key, op string, usage backend.Usage) (T, error) {
	var none T
	key, err := k.use(op, usage)
	if err != nil {
		return none, err
	}
	t, ok := key.(T)
	if !ok {
		return none, k.fail(op, fmt.Errorf("the key (%s) can't do that: %w", k.bound.algorithm, backend.ErrUnsupported))
	}
	return t, nil
}
