package pkcs11

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// maxRandom is the largest n of GenerateRandom in bytes, and randomChunk how many are asked for in one call: devices
// refuse large amounts.
const (
	maxRandom   = 64 << 10
	randomChunk = 1024
)

// liveKey is what the operations of one handle share: one key of a token, found again as often as need be.
type liveKey struct {
	conn     *conn
	entry    entry            // class, kind, id and label never change
	public   crypto.PublicKey // nil if the key is secret
	fate     *fate
	timeout  time.Duration
	parallel semaphore // nil if there is no limit
	always   bool      // each operation needs the PIN

	// proves returns nil if the object is this very key. It asks the token to use it.
	proves func(ctx context.Context, o handle) error

	bound   atomic.Pointer[binding]
	binding semaphore    // held while the key is looked up
	after   atomic.Int64 // UnixNano: an index that was begun before doesn't know the key's handle
	signed  atomic.Int64 // UnixNano: the last signature
	checked atomic.Int64 // UnixNano: the last one that was verified
}

// handle is the handle of an object, and when it is valid.
type handle struct {
	number cryptoki.Handle
	epoch  uint64
}

// binding is where a key was found.
type binding struct{ handle }

// bind returns where the key is now. If the connection began anew since it was found, it is looked up again and must prove
// to be the same key.
func (k *liveKey) bind(d deadline) (*binding, error) {
	if b := k.bound.Load(); b != nil && b.epoch == k.conn.epoch.Load() {
		return b, nil
	}
	ctx, cancel := d.context()
	defer cancel()
	if err := k.binding.acquire(ctx, "the key is being looked up"); err != nil {
		return nil, err
	}
	defer k.binding.release()
	epoch, b := k.conn.epoch.Load(), k.bound.Load()
	if b != nil && b.epoch == epoch {
		return b, nil
	}
	impostor := cryptoki.Handle(0)
	if b != nil && b.epoch >= k.conn.made.Load() {
		// No recovery was needed since, so the handle is likely to hold.
		h := handle{b.number, epoch}
		if err := k.proves(ctx, h); err == nil {
			b = &binding{h}
			k.bound.Store(b)
			return b, nil
		} else if errors.Is(err, backend.ErrKeyChanged) {
			impostor = b.number
			k.conn.renumber()
		}
		k.unbind(b)
	}
	b, err := k.lookUp(ctx)
	if err != nil {
		return nil, err
	}
	if impostor != 0 && b.number != impostor {
		k.conn.instance.foreign.Store(true) // it has got another number, and not by our doing
	}
	k.bound.Store(b)
	return b, nil
}

// unbind notes that the token doesn't know the handle any more.
func (k *liveKey) unbind(b *binding) {
	k.after.Store(time.Now().UnixNano())
	k.bound.CompareAndSwap(b, nil)
}

// lookUp finds the key on the token. binding is held.
func (k *liveKey) lookUp(ctx context.Context) (*binding, error) {
	x, err := k.conn.indexed(ctx, time.Unix(0, k.after.Load()))
	if err != nil {
		return nil, err
	}
	e := k.entry
	found := x.where(e.id, e.label, func(other entry) bool {
		return other.class == e.class && other.kind == e.kind && other.id == e.id && other.label == e.label
	})
	if len(found) == 0 && k.fate.isGone() {
		return nil, k.conn.errorf("the key was replaced or deleted: %w", backend.ErrKeyChanged)
	}
	if len(found) == 0 {
		return nil, k.conn.errorf("the %s is not on the token any more: %w", e.describe(), backend.ErrKeyNotFound)
	}
	for _, other := range found {
		h := handle{other.handle, x.epoch}
		if err = k.proves(ctx, h); err == nil {
			return &binding{h}, nil
		}
	}
	return nil, k.conn.errorf("the %s: %w", e.describe(), err)
}

// run runs an operation with the key and returns its output. It takes c.
func (k *liveKey) run(ctx context.Context, c *call) ([]byte, error) {
	d := k.conn.begin(ctx)
	reusable, err := true, error(nil)
	if k.parallel != nil {
		select {
		case k.parallel <- struct{}{}:
			defer k.parallel.release()
		default:
			if err = k.wait(d, k.parallel, "as many operations as max_parallel allows are in flight"); err == nil {
				defer k.parallel.release()
			}
		}
	}
	if err == nil {
		c.fate = k.fate
		if k.always {
			reusable, err = k.authenticated(d, c)
		} else {
			reusable, err = k.conn.attempt(d, c, k, false)
		}
	}
	if !reusable {
		return nil, k.conn.explain(err)
	}
	if err != nil {
		if c.mayBeInput(err) {
			err = backend.ErrDecryption
		} else {
			err = k.conn.explain(err)
		}
		c.free()
		return nil, err
	}
	out := c.result()
	c.free()
	return out, nil
}

// wait acquires s, bounded by d.
func (k *liveKey) wait(d deadline, s semaphore, what string) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-d.ctx.Done():
	case <-d.expired:
	}
	return d.err(what)
}

// authenticated runs an operation that needs the PIN. One at a time of a connection gives it, so that one that the token
// refuses is given once only.
func (k *liveKey) authenticated(d deadline, c *call) (reusable bool, err error) {
	if err := k.wait(d, k.conn.presenting, "another operation that gives the PIN has not ended"); err != nil {
		return true, err
	}
	defer k.conn.presenting.release()
	pin, err := k.conn.pin()
	if err != nil {
		return true, err
	}
	shown := newCredential(pin, k.conn.id)
	if err := k.conn.instance.refusal(shown); err != nil {
		return true, err
	}
	c.PIN = pin
	reusable, err = k.conn.attempt(d, c, k, false)
	if t, ok := code(err); ok && t.trouble() == pinRefused {
		err = classify(err)
		k.conn.refuse(err, shown)
	}
	return reusable, err
}

// try runs an operation that the token may not do, with an object that may become a key's, and returns its output. It
// takes call.
func (c *conn) try(ctx context.Context, o handle, call *call, pin string) ([]byte, error) {
	call.trial = true
	return c.expect(ctx, o, call, pin)
}

// expect is try with an operation that the token does if it is well.
func (c *conn) expect(ctx context.Context, o handle, call *call, pin string) ([]byte, error) {
	call.key, call.epoch, call.PIN = o.number, o.epoch, pin
	ctx, cancel := bounded(ctx, OpenTimeout)
	defer cancel()
	reusable, err := c.attempt(deadline{ctx: ctx}, call, nil, false)
	if !reusable {
		return nil, err
	}
	defer call.free()
	if err == nil {
		return call.result(), nil
	}
	if r, _ := code(err); pin != "" && r.trouble() == pinRefused {
		err = classify(err)
		c.refuse(err, newCredential(pin, c.id))
	}
	return nil, err
}

// random implements backend.RandomFunc.
func (k *liveKey) random(ctx context.Context, n int) ([]byte, error) {
	ctx, cancel := bounded(ctx, k.timeout)
	defer cancel()
	out, err := doResult(ctx, k.conn, false, false, func(w *worker) ([]byte, error) {
		out := make([]byte, n)
		for rest := out; len(rest) > 0; {
			chunk := rest[:min(len(rest), randomChunk)]
			if err := w.module.Random(w.session, chunk); err != nil {
				return nil, err
			}
			rest = rest[len(chunk):]
		}
		return out, nil
	})
	return out, k.conn.explain(err)
}

// When a signature of a key is verified although nothing makes it doubtful.
const (
	checkEvery = time.Second          // while it signs all the time
	checkAfter = 5 * time.Millisecond // since its last signature: the module can't be taken over in less
)

// checks reports whether the signature that was just made is to be verified. Handles carry the epoch that they belong to,
// and are used in no other; what can't be seen from here is other code of the process that finalises and initialises the
// module behind our back and logs in, with the same numbers for its own sessions and objects. While a key signs without
// pause that makes calls fail, which is seen; and after a pause the signature is verified. Once other code was noticed, all
// are.
func (k *liveKey) checks() bool {
	now := time.Now().UnixNano()
	last, checked := k.signed.Swap(now), k.checked.Load()
	if now-last > int64(checkAfter) || now-checked > int64(checkEvery) {
		k.checked.Store(now)
		return true
	}
	return k.conn.instance.foreign.Load()
}

// disowned returns the error of a signature that is not the key's.
func (k *liveKey) disowned() error {
	k.conn.instance.foreign.Store(true)
	k.conn.renumber()
	return k.conn.errorf("the token signed, but not with this key: %w", backend.ErrKeyChanged)
}

// refused reports whether err says that the token doesn't do what it was asked to try, and not that it is in trouble.
func refused(err error) bool {
	r, ok := code(err)
	return ok && r.refusesParameters() || errors.Is(err, backend.ErrDecryption)
}

// inTrouble reports whether a refusal says nothing of the key, but that the token is in trouble. Only C_Decrypt may fail
// like that because of what was encrypted for another key.
func inTrouble(refusal error) bool {
	c, ok := code(refusal)
	return ok && c.trouble() == deviceTrouble && !(functionOf(refusal) == "C_Decrypt" && c.failsDecryption())
}

var errNotIts = fmt.Errorf("a trial shows that the key is another one: %w", backend.ErrKeyChanged)
