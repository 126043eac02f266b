package managedkey

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// Observe has o see what is done with the registry's keys, and with the registry, from now on; nil ends that. Operations
// under way stay with the observer that they began with. It is meant to be called once, before the registry is used.
func (r *Registry) Observe(o Observer) {
	if isNil(o) {
		r.observer.Store(nil)
		return
	}
	r.observer.Store(&o)
}

// Observers returns an observer that tells all of the list. They begin in that order and end in reverse. If one refuses, those
// that have begun already are told that the operation failed.
func Observers(list ...Observer) Observer {
	var several observers
	for _, o := range list {
		if !isNil(o) {
			several = append(several, o)
		}
	}
	return several
}

type observers []Observer

// nested are the contexts of observers that have begun, kept with the operation's: each gets its own back.
type nested []context.Context

type nestedKey struct{}

func (all observers) Begin(ctx context.Context, op *Operation) (context.Context, error) {
	begun := make(nested, 0, len(all))
	for i, o := range all {
		next, err := o.Begin(ctx, op)
		if err != nil {
			op.Err = err
			for j := i - 1; j >= 0; j-- {
				_ = all[j].End(begun[j], op) // the operation is refused already
			}
			return nil, err
		}
		if next != nil {
			ctx = next
		}
		begun = append(begun, ctx)
	}
	return context.WithValue(ctx, nestedKey{}, begun), nil
}

func (all observers) End(ctx context.Context, op *Operation) error {
	begun, _ := ctx.Value(nestedKey{}).(nested)
	var errs []error
	for i := len(all) - 1; i >= 0; i-- {
		at := ctx
		if i < len(begun) {
			at = begun[i]
		}
		errs = append(errs, all[i].End(at, op))
	}
	return errors.Join(errs...)
}

// nothing ends an operation that nobody observes.
func nothing(*error) {}

// begin tells the observer, if there is one, that the registry is about to be changed. It returns the context for that and what
// is to be deferred with the error of the change.
func (r *Registry) begin(ctx context.Context, name string, ref namespace.Ref, describe func(*Operation)) (context.Context, func(*error), error) {
	by := r.observer.Load()
	if by == nil {
		return ctx, nothing, nil
	}
	op := &Operation{Name: name, Ref: ref}
	if ref.Name != "" {
		op.about(r.find(ref))
	}
	if describe != nil {
		describe(op)
	}
	w, err := begin(ctx, *by, op)
	if err != nil {
		return ctx, nothing, fail(name, ref, op.Backend, err)
	}
	began := time.Now()
	return w.ctx, func(err *error) {
		if op.UUID == "" && ref.Name != "" {
			op.about(r.find(ref))
		}
		if got := w.end(began, *err); got != nil && *err == nil {
			*err = fail(name, ref, op.Backend, got)
		}
	}, nil
}

// about fills in which entry the operation is about.
func (op *Operation) about(e *entry) {
	if e == nil {
		return
	}
	op.UUID, op.Backend, op.Version = e.id.String(), e.kind(), int(e.number())
	if st := e.state.Load(); st.bound != nil {
		op.Algorithm = st.bound.algorithm
	}
}

// on says that the operation is about, or through, a mount.
func (op *Operation) on(m *Mount) {
	if m != nil {
		op.MountID, op.MountPath = m.id, m.Path()
	}
}

// describeEntry says in words what an entry is to allow.
func describeEntry(in *Entry) func(*Operation) {
	return func(op *Operation) {
		usages := in.Usages
		if usages == 0 {
			usages = backend.UsageDefault
		}
		words := []string{"usages " + usages.String()}
		for _, b := range []struct {
			set  bool
			name string
		}{
			{in.AllowGenerateKey, "allow_generate_key"}, {in.AllowReplaceKey, "allow_replace_key"},
			{in.AllowStoreKey, "allow_store_key"}, {in.AnyMount, "any_mount"},
		} {
			if b.set {
				words = append(words, b.name)
			}
		}
		if in.MinDecryptionVersion != 0 || in.MinEncryptionVersion != 0 {
			words = append(words, fmt.Sprintf("min versions %d, %d", in.MinDecryptionVersion, in.MinEncryptionVersion))
		}
		op.Options = strings.Join(words, ", ")
		if op.Backend == "" && !isNil(in.Backend) {
			op.Backend = in.Backend.Type()
		}
	}
}

// ref returns how the mount's namespace calls a key, for an operation.
func (m *Mount) ref(nameOrUUID string) namespace.Ref {
	return namespace.Ref{Namespace: m.space.path, Name: nameOrUUID}
}

// begin is Registry.begin for what is done through, or with, the mount and one of its keys, which may be unknown.
func (m *Mount) begin(ctx context.Context, name, nameOrUUID string) (context.Context, func(*error), error) {
	return m.space.registry.begin(ctx, name, m.ref(nameOrUUID), func(op *Operation) {
		if nameOrUUID != "" {
			op.about(m.space.resolve(nameOrUUID))
		}
		op.on(m)
	})
}

// beginMount is Registry.begin for a mount that is to be made.
func (r *Registry) beginMount(ctx context.Context, ref namespace.Ref, path string, allowed []string, made **Mount) (context.Context, func(*error), error) {
	var at *Operation
	ctx, done, err := r.begin(ctx, "mount", ref, func(op *Operation) {
		at, op.MountPath = op, path
		if len(allowed) > 0 {
			op.Options = "granted " + strings.Join(allowed, ", ")
		}
	})
	if at == nil || err != nil {
		return ctx, done, err
	}
	return ctx, func(err *error) {
		if *made != nil {
			at.MountID = (*made).id
		}
		done(err)
	}, nil
}

// generating tells the observer that a key is generated because it was missing when it was opened.
func (e *entry) generating(call callFunc) callFunc {
	return func(ctx context.Context) (key backend.Key, err error) {
		ctx, done, err := e.space.registry.begin(ctx, "generate", e.ref(), nil)
		if err == nil {
			func() {
				defer done(&err)
				key, err = call(ctx)
			}()
		}
		return key, bare(err)
	}
}

// opening has a key opened for a handle, by the registry if m is nil, while the observer looks on.
func (e *entry) opening(ctx context.Context, m *Mount, open func(context.Context) (*state, error)) (st *state, err error) {
	ctx, done, err := e.space.registry.begin(ctx, "open", e.ref(), func(op *Operation) {
		op.about(e)
		op.on(m)
	})
	if err == nil {
		func() {
			defer done(&err)
			st, err = open(ctx)
		}()
	}
	return st, bare(err)
}

// bare returns what is behind err if it is an *Error itself, for callers that name the operation.
func bare(err error) error {
	if typed, ok := err.(*Error); ok {
		return typed.Err
	}
	return err
}

// refused is Registry.refused for a key that the mount, or the registry if m is nil, has found.
func (e *entry) refused(ctx context.Context, m *Mount, err error) error {
	return bare(e.space.registry.refused(ctx, e.ref(), m, err))
}

// refused is Registry.refused for a look-up through the mount.
func (m *Mount) refused(ctx context.Context, nameOrUUID string, err error) error {
	return m.space.registry.refused(ctx, m.ref(nameOrUUID), m, err)
}

// refused tells the observer that a look-up failed with err before any key was opened, and returns err.
func (r *Registry) refused(ctx context.Context, ref namespace.Ref, m *Mount, err error) error {
	if r.observer.Load() == nil || err == nil {
		return err
	}
	_, done, refusal := r.begin(ctx, "open", ref, func(op *Operation) {
		if m != nil {
			op.about(m.space.resolve(ref.Name))
		}
		op.on(m)
	})
	if refusal != nil {
		return refusal
	}
	done(&err)
	return err
}
