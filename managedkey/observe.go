package managedkey

import (
	"context"
	"fmt"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// Observer sees every operation of a registry's keys, whatever handle it is done with, and every change of the registry that
// this process makes. It may refuse an operation before it begins, and withhold the result of one that it could not record.
// Packages audit and telemetry have one each; [Observers] makes one of several.
//
// Methods are called on the goroutine of the caller, or of the key manager's call where a key is generated on first use, and
// at the same time for different operations. What they take, the operation takes longer. They must not use the registry.
type Observer interface {
	// Begin is called before policy is checked and the key is used, and returns the context that the operation gets, which
	// must be ctx or come from it. If there is an error, nothing is done and the caller gets that error; it should wrap a
	// sentinel of package backend. End is not called then.
	Begin(ctx context.Context, op *Operation) (context.Context, error)

	// End is called once after each Begin that returned no error, with the context that it returned. If there is an error, the
	// caller gets it in place of the result, unless the operation has failed by itself. What was done stays done.
	End(ctx context.Context, op *Operation) error
}

// Operation is what an [Observer] is told. It is the same value for Begin and End and must not be changed; Duration, Err and
// Output are set for End.
type Operation struct {
	// Name is what is done. With a key: sign, sign_message, verify, encrypt, decrypt, seal (encryption with authentication),
	// unseal, mac, verify_mac, generate_random, wrap, unwrap, agree, decapsulate, attest. With the registry: create, update,
	// delete, open, generate, import, rotate, trim, test, mount, unmount, rename, grant, revoke.
	//
	// A look-up is an open when it has to open the key, and when it is refused; others do nothing that could be seen. A key
	// that is generated because it was missing when it was opened is a generate within that open.
	Name string

	Actor     Actor         // that of the context
	Ref       namespace.Ref // of the entry as the caller named it; Name is empty if the operation is about a mount
	UUID      string        // of the entry; empty if there is none (yet)
	Version   int           // of the key; 0 if it is not about a version
	MountID   string        // of the mount that the handle came through, or that is changed; or empty
	MountPath string        // of that mount when the operation began
	Backend   string        // type of the backend, such as "pkcs11"; empty if it is not known
	Algorithm string        // of the key, as backend.Capabilities has it; empty unless it is open
	Options   string        // what was chosen, such as "RSASSA-PSS with SHA-256"; for people

	Start    time.Time     // when Begin was called
	Duration time.Duration // from the end of Begin on
	Err      error         // of the operation; nil if it succeeded

	Input, Output Content
}

// observed is an operation under way.
type observed struct {
	by  Observer
	op  *Operation
	ctx context.Context
}

// begin tells the observer of op, and returns the error with which it refuses.
func begin(ctx context.Context, by Observer, op *Operation) (*observed, error) {
	op.Actor, op.Start = ActorOf(ctx), time.Now()
	inner, err := by.Begin(ctx, op)
	if err != nil {
		return nil, err
	}
	if inner == nil {
		inner = ctx
	}
	return &observed{by, op, inner}, nil
}

// end tells the observer what became of the operation, and returns the error for the caller.
func (w *observed) end(began time.Time, err error) error {
	w.op.Duration, w.op.Err = time.Since(began), err
	if refusal := w.by.End(w.ctx, w.op); err == nil && refusal != nil {
		return fmt.Errorf("it was done, but its result is withheld: %w", refusal)
	}
	return err
}

// errPanicked is the error of an operation that panicked, for the observer only.
var errPanicked = fmt.Errorf("the operation panicked: %w", backend.ErrUnavailable)

// seen marks the copies of a handle whose operations are observed already. It is never used as a context.
var seen context.Context = new(seenContext)

type seenContext struct {
	context.Context
	_ byte // so that its address is its own
}

// observer returns who is to be told of the handle's operations, or nil.
func (k *Key) observer() Observer {
	by := k.bound.entry.Load().space.registry.observer.Load()
	if by == nil || k.ctx == seen {
		return nil
	}
	return *by
}

// operation describes what is done with k.
func (k *Key) operation(name, options string, input ...[]byte) *Operation {
	op := &Operation{
		Name: name, Ref: k.Ref(), UUID: k.UUID(), Version: k.Version(), Backend: k.BackendType(),
		Algorithm: k.bound.algorithm, Options: options, Input: NewContent(input...),
	}
	if k.seat != nil {
		op.MountID, op.MountPath = k.seat.mount.id, k.seat.mount.Path()
	}
	return op
}

// observe does something with k while by looks on. do is given a handle whose operations are not observed once more.
func (k *Key) observe(ctx context.Context, by Observer, op *Operation, do func(context.Context, *Key) ([]byte, error)) (out []byte, err error) {
	w, err := begin(ctx, by, op)
	if err != nil {
		return nil, k.fail(op.Name, err)
	}
	began, returned := time.Now(), false
	defer func() {
		if !returned {
			_ = w.end(began, errPanicked) // the panic goes on
		}
	}()
	out, err = do(w.ctx, &Key{bound: k.bound, seat: k.seat, ctx: seen})
	returned = true
	if err == nil && out != nil {
		op.Output = NewContent(out)
	}
	if ended := w.end(began, err); ended != nil && err == nil {
		return nil, k.fail(op.Name, ended)
	}
	return out, err
}

// observeErr is observe for what has no result.
func (k *Key) observeErr(ctx context.Context, by Observer, op *Operation, do func(context.Context, *Key) error) error {
	_, err := k.observe(ctx, by, op, func(ctx context.Context, k *Key) ([]byte, error) { return nil, do(ctx, k) })
	return err
}

// denied returns the error that k can't be had as what it was asked for, after it told the observer.
func (k *Key) denied(ctx context.Context, name string, err error) error {
	by := k.observer()
	if by == nil {
		return k.fail(name, err)
	}
	return k.observeErr(ctx, by, k.operation(name, ""), func(context.Context, *Key) error { return k.fail(name, err) })
}
