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

// TestOptions are the options of [Registry.Test] and [Key.Test]. The zero value is fine, and so is nil.
type TestOptions struct {
	// Generate lets the key be generated if the key manager doesn't have it and the entry allows that, as [Registry.Key]
	// does. Without it, Test makes no key. [Key.Test] has a key already and ignores it.
	Generate bool

	// Usages are those to test; 0 means all.
	Usages backend.Usage
}

// Test tries everything that the entry allows and the key can do, and reports for each what it took and whether the result
// was right. Answers of the key manager are checked in this process wherever that is possible:
//
//	sign             random data with every signature algorithm of the key; verified with the public key, in this process
//	verify           that signature is accepted, and not for other data
//	encrypt          with every hash of RSAES-OAEP, in this process; or authenticated encryption, with additional data
//	decrypt          gives what was encrypted, with every hash; a ciphertext that was altered, or has other additional data, is refused
//	wrap, unwrap     the same for a random key of 32 bytes
//	mac              with every algorithm of the key; accepted, but neither for another message nor with a bit altered
//	derive           with a fresh peer, compared with what the peer computes; or what was encapsulated in this process
//	generate_random  twice, which must differ
//
// Where only the second of a pair of usages is allowed, all that can be tried is that garbage is refused. Every usage is
// tried with a handful of calls, which the key manager may count or charge for.
//
// Test opens the key if it isn't open yet, and thereby pins it, as any first use does; but unless opts.Generate is set, it
// makes no key. Nothing else is changed, and the key can be used meanwhile.
//
// The error is nil if everything was right. If the key could not be opened, the report is nil and the error that of
// [Registry.Key]: backend.ErrKeyNotFound if there is no key. Otherwise there is a report, and the error wraps that of every
// step that failed: backend.ErrInvalidSignature for a signature that doesn't verify, backend.ErrIntegrity for another wrong
// answer, or what the operation returned. When ctx ends, so does the test, with the step that was not done any more as the last.
func (r *Registry) Test(ctx context.Context, ref namespace.Ref, opts *TestOptions) (report *TestReport, err error) {
	ctx, done, err := r.begin(ctx, "test", ref, nil)
	if err != nil {
		return nil, err
	}
	defer done(&err)
	if opts == nil {
		opts = new(TestOptions)
	}
	e, err := r.lookup("test", ref)
	if err != nil {
		return nil, err
	}
	open := e.openExisting
	if opts.Generate {
		open = e.open
	}
	began := time.Now()
	st, err := open(ctx)
	if err != nil {
		return nil, fail("test", ref, e.kind(), err)
	}
	took := time.Since(began)
	report, err = st.bound.handle.Test(ctx, opts)
	if report != nil {
		report.Opening = took
	}
	return report, err
}

// Test is [Registry.Test] for a key that is open. That of a mount's handle is under the mount's permissions: without a
// grant there is no report, and the error wraps backend.ErrNotPermitted.
func (k *Key) Test(ctx context.Context, opts *TestOptions) (*TestReport, error) {
	if opts == nil {
		opts = new(TestOptions)
	}
	key, err := k.use("test", 0)
	if err != nil {
		return nil, err
	}
	report := &TestReport{
		Ref: k.Ref(), UUID: k.UUID(), Backend: k.BackendType(), KeyID: key.ID(), Capabilities: k.Capabilities(),
	}
	if pin := k.bound.pin; pin != nil {
		report.PublicKeySHA256 = append([]byte(nil), pin[:]...)
	}
	if st := k.current(); st != nil {
		report.Lacking = st.usages &^ usageNew &^ st.key.Capabilities().Usages
	}
	t := &trial{k: k, key: key, caps: report.Capabilities, report: report}
	usages := report.Capabilities.Usages
	if opts.Usages != 0 {
		usages &= opts.Usages
	}
	t.run(ctx, usages)
	return report, report.err(k)
}

// openExisting is open, but if there is no key it makes none. Others who want the key open don't share its result, since
// they may be allowed to generate.
func (e *entry) openExisting(ctx context.Context) (*state, error) {
	for {
		if ctx.Err() != nil {
			return nil, backend.ContextError(ctx)
		}
		e.space.mu.Lock()
		st := e.state.Load()
		if st.is(deleted) || st.key != nil {
			e.space.mu.Unlock()
			if st.is(deleted) {
				return nil, errDeleted
			}
			return st, nil
		}
		mine := e.free()
		if mine {
			callCtx, cancel := bounded(ctx)
			e.start(callCtx, cancel, probing,
				e.pinning(st, false, func(ctx context.Context) (backend.Key, error) { return st.backend.Open(ctx, st.params) }),
				func(_ *flight, result found) (*state, error) { return e.adopt(st, result) })
		}
		f := e.flight()
		e.space.mu.Unlock()
		if !mine {
			if err := f.outlast(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if err := f.wait(ctx); err != nil {
			return nil, err
		}
		if !errors.Is(f.err, errOvertaken) {
			return f.state, f.err
		}
	}
}

// failures are the errors of a report's steps.
type failures struct {
	steps int
	texts []string
	errs  []error
}

func (f *failures) Error() string {
	return fmt.Sprintf("%d of %d steps failed: %s", len(f.errs), f.steps, strings.Join(f.texts, "; "))
}

func (f *failures) Unwrap() []error { return f.errs }

// err returns the error of the report's steps, or nil.
func (r *TestReport) err(k *Key) error {
	f := &failures{steps: len(r.Steps)}
	for _, s := range r.Steps {
		if s.Err != nil {
			f.errs = append(f.errs, s.Err)
			f.texts = append(f.texts, fmt.Sprintf("%s with %s: %v", s.Usage, s.Algorithm, cause(s.Err)))
		}
	}
	if len(f.errs) == 0 {
		return nil
	}
	return k.fail("test", f)
}

// cause returns what is behind an *Error, which names a key that the reader knows.
func cause(err error) error {
	var typed *Error
	if errors.As(err, &typed) {
		return typed.Err
	}
	return err
}
