package backend

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"
)

// DefaultCallTimeout bounds a call whose context has no deadline, unless the driver sets another timeout.
const DefaultCallTimeout = 30 * time.Second

// CallMode says how a driver's functions run.
type CallMode uint8

// The modes.
const (
	// CallContext: functions return soon after their context ends. They run on the caller's goroutine.
	CallContext CallMode = iota

	// CallDetached: functions can't be interrupted, as C calls can't. They run on a goroutine of their own, and a
	// caller whose context ends leaves at once; the result is then thrown away. Inputs are copied, since the caller
	// may reuse them as soon as it has left. The driver must bound how many functions run at once.
	CallDetached

	// CallLocal: functions compute in this process and never wait. They run on the caller's goroutine, without a
	// timeout.
	CallLocal

	// CallManaged: functions bound themselves. They return as soon as their context ends, or after
	// HandleConfig.Timeout if it has no deadline, which the handle leaves to them; they report the latter as
	// ErrUnavailable; and they copy of their inputs what they go on using after they have returned. They run on the
	// caller's goroutine. The handle allocates nothing for such a call.
	CallManaged
)

// HandleConfig is what a driver says of a key.
type HandleConfig struct {
	ID           string
	Public       crypto.PublicKey // nil if the key is symmetric
	Capabilities Capabilities
	Mode         CallMode
	Timeout      time.Duration // of a call whose context has no deadline; 0 means DefaultCallTimeout
	Gate         *Gate         // of the connection that the key lives on; nil if it is never closed

	// VerifySignatures has each signature checked with Public before it is returned, on the caller's goroutine and
	// without a call; one that doesn't verify is ErrKeyChanged. It is for key managers that can't promise that an open key
	// stays the key that it was.
	VerifySignatures bool
}

// Handle is what every key of a driver is built on. It implements [Key]; its methods Signing, Decrypting and so on make
// the operations that a driver embeds beside it (see the package documentation).
type Handle struct {
	cfg HandleConfig
}

// NewHandle returns a Handle. The driver must not modify cfg's slices and public key afterwards.
func NewHandle(cfg HandleConfig) *Handle {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultCallTimeout
	}
	if cfg.Gate == nil {
		cfg.Gate = new(Gate)
	}
	return &Handle{cfg}
}

// Public implements [Key].
func (h *Handle) Public() crypto.PublicKey { return h.cfg.Public }

// Capabilities implements [Key].
func (h *Handle) Capabilities() Capabilities { return h.cfg.Capabilities }

// ID implements [Key].
func (h *Handle) ID() string { return h.cfg.ID }

// Refusef returns an error that names the key, then what format and args say, and wraps sentinel.
func (h *Handle) Refusef(sentinel error, format string, args ...any) error {
	return fmt.Errorf("backend: %s key %q %s: %w", h.cfg.Capabilities.Algorithm, h.cfg.ID, fmt.Sprintf(format, args...), sentinel)
}

// need returns an error unless the key has the usage.
func (h *Handle) need(u Usage) error {
	if h.cfg.Capabilities.Usages.Has(u) {
		return nil
	}
	return h.Refusef(ErrUnsupported, "can't %s; its usages are %s", u, h.cfg.Capabilities.Usages)
}

// input returns data as a function of this handle may keep it: see CallDetached.
func (h *Handle) input(data []byte) []byte {
	if h.cfg.Mode == CallDetached && data != nil {
		return append(make([]byte, 0, len(data)), data...)
	}
	return data
}

// errCallTimeout is the cause of a context that ended because of HandleConfig.Timeout.
var errCallTimeout = errors.New("call timeout")

// run calls fn with req as the handle's mode says, and only if ctx has not ended and the gate is open. The request is a
// parameter and not captured by fn, so that modes which run on the caller's goroutine need no closure.
func run[Req, T any](ctx context.Context, h *Handle, req Req, fn func(context.Context, Req) (T, error)) (T, error) {
	var zero T
	if ctx.Err() != nil {
		return zero, contextError(ctx, h, nil)
	}
	if err := h.cfg.Gate.Enter(); err != nil {
		return zero, err
	}
	switch h.cfg.Mode {
	case CallLocal:
		defer h.cfg.Gate.Leave()
		return contain(ctx, req, fn)
	case CallManaged:
		return runHere(ctx, h, req, fn)
	case CallDetached:
		return runDetached(ctx, h, req, fn)
	}
	ctx, cancel := h.bound(ctx)
	defer cancel()
	return runHere(ctx, h, req, fn)
}

// bound returns ctx with the call timeout, if it has no deadline.
func (h *Handle) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, h.cfg.Timeout, errCallTimeout)
}

// runHere calls fn on the caller's goroutine. The gate was entered.
func runHere[Req, T any](ctx context.Context, h *Handle, req Req, fn func(context.Context, Req) (T, error)) (T, error) {
	defer h.cfg.Gate.Leave()
	out, err := contain(ctx, req, fn)
	if err != nil && ctx.Err() != nil {
		var zero T
		return zero, contextError(ctx, h, err)
	}
	return out, err
}

// runDetached calls fn on a goroutine of its own and leaves it when ctx ends. The gate was entered.
func runDetached[Req, T any](ctx context.Context, h *Handle, req Req, fn func(context.Context, Req) (T, error)) (T, error) {
	ctx, cancel := h.bound(ctx)
	defer cancel()
	type result struct {
		out T
		err error
	}
	done := make(chan result, 1) // buffered, so that the goroutine ends even if nobody waits
	go func() {
		defer h.cfg.Gate.Leave()
		out, err := contain(ctx, req, fn)
		done <- result{out, err}
	}()
	var zero T
	select {
	case r := <-done:
		if r.err != nil && ctx.Err() != nil {
			return zero, contextError(ctx, h, r.err)
		}
		return r.out, r.err
	case <-ctx.Done():
		return zero, contextError(ctx, h, nil)
	}
}

// contain calls fn and turns a panic, which SDKs and C wrappers do have, into an error.
func contain[Req, T any](ctx context.Context, req Req, fn func(context.Context, Req) (T, error)) (out T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("backend: the driver panicked: %v: %w", r, ErrUnavailable)
		}
	}()
	return fn(ctx, req)
}

// contextError explains that ctx ended. A deadline that passed means that the key manager did not answer in time
// (ErrUnavailable); a cancelled context is the caller's own doing. cause is the driver's error or nil.
func contextError(ctx context.Context, h *Handle, cause error) error {
	err := ctx.Err()
	// A driver that knows why ctx ended has explained it, with all else that it knows; unless it blames the key manager for a
	// caller who left.
	if errors.Is(cause, context.Cause(ctx)) && errors.Is(cause, ErrUnavailable) == errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("backend: key %q: %w", h.cfg.ID, cause)
	}
	switch {
	case errors.Is(context.Cause(ctx), errCallTimeout):
		err = fmt.Errorf("%w: no answer within the call timeout of %v: %w", ErrUnavailable, h.cfg.Timeout, err)
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w: no answer within the caller's deadline: %w", ErrUnavailable, err)
	case context.Cause(ctx) != err:
		err = fmt.Errorf("%w: %w", err, context.Cause(ctx))
	}
	if cause != nil && !errors.Is(cause, ctx.Err()) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return fmt.Errorf("backend: key %q: %w", h.cfg.ID, err)
}
