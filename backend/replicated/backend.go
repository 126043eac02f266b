package replicated

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// DefaultAttemptTimeout is how long one place is given for an operation, unless the options say otherwise.
const DefaultAttemptTimeout = 2 * time.Second

// closeWait is how long Close waits for calls in flight.
const closeWait = 10 * time.Second

// Place is one of the key managers.
type Place struct {
	Name    string // for Params and errors
	Backend backend.Backend
}

// Options are the options of [New]. The zero value is fine.
type Options struct {
	// CallTimeout bounds an operation whose context has no deadline, all places together; backend.DefaultCallTimeout if 0.
	CallTimeout time.Duration

	// AttemptTimeout is how long one place is given before the next one is tried; DefaultAttemptTimeout if 0. Less, if the
	// call's deadline leaves less for each of the places.
	AttemptTimeout time.Duration
}

// Backend opens keys that several places hold. It implements [backend.Backend], [backend.Pinger] and
// [backend.ParamsDecoder].
//
// All methods are safe for concurrent use.
type Backend struct {
	places []Place
	opts   Options
	gate   backend.Gate

	stop    context.Context // ends with Close
	end     context.CancelFunc
	mu      sync.Mutex // guards closed, so that nothing is added to probes once Close waits for them
	closed  bool
	probes  sync.WaitGroup
	closing sync.Once
}

var (
	_ backend.Pinger        = (*Backend)(nil)
	_ backend.ParamsDecoder = (*Backend)(nil)
)

// New returns a Backend over the places, of which there must be at least two with different names. It does not own their
// backends: Close leaves them open. opts may be nil. The error wraps backend.ErrInvalidParams.
func New(places []Place, opts *Options) (*Backend, error) {
	if len(places) < 2 {
		return nil, fmt.Errorf("replicated: got %d places; it takes at least 2: %w", len(places), backend.ErrInvalidParams)
	}
	seen := make(map[string]bool)
	for i, p := range places {
		if p.Name == "" || p.Backend == nil || seen[p.Name] {
			return nil, fmt.Errorf("replicated: place %d, %.40q: it takes a name of its own and a backend: %w", i, p.Name, backend.ErrInvalidParams)
		}
		seen[p.Name] = true
	}
	b := &Backend{places: append([]Place(nil), places...)}
	if opts != nil {
		b.opts = *opts
	}
	if b.opts.CallTimeout < 0 || b.opts.AttemptTimeout < 0 {
		return nil, fmt.Errorf("replicated: CallTimeout, AttemptTimeout: got %v, %v; they take no negative duration: %w",
			b.opts.CallTimeout, b.opts.AttemptTimeout, backend.ErrInvalidParams)
	}
	if b.opts.AttemptTimeout == 0 {
		b.opts.AttemptTimeout = DefaultAttemptTimeout
	}
	b.stop, b.end = context.WithCancel(context.Background())
	return b, nil
}

// Type implements [backend.Backend]; it returns "replicated".
func (*Backend) Type() string { return Type }

func (b *Backend) place(name string) (Place, error) {
	names := make([]string, len(b.places))
	for i, p := range b.places {
		if p.Name == name {
			return p, nil
		}
		names[i] = p.Name
	}
	return Place{}, fmt.Errorf("place: got %.40q; the places are %s: %w", name, strings.Join(names, ", "), backend.ErrInvalidParams)
}

// Open implements [backend.Backend]. params must be of type [Params]. It fails if no place has the key, if places have
// different keys, and if parameters are wrong at any place. For symmetric keys see the package documentation.
func (b *Backend) Open(ctx context.Context, params backend.Params) (backend.Key, error) {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return nil, err
	}
	if err := b.gate.Enter(); err != nil {
		return nil, err
	}
	defer b.gate.Leave()
	seats := make([]*seat, len(p.Places))
	for i, at := range p.Places {
		place, err := b.place(at.Place)
		if err != nil {
			return nil, fmt.Errorf("replicated: places[%d]: %w", i, err)
		}
		seats[i] = &seat{Place: place, params: at.Params}
	}
	if _, ok := ctx.Deadline(); !ok {
		timeout := b.opts.CallTimeout
		if timeout == 0 {
			timeout = backend.DefaultCallTimeout
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	b.openAll(ctx, seats)
	return b.join(ctx, seats)
}

// openAll opens the key at all places at once. It returns when all have answered, or a while after the first has the key.
func (b *Backend) openAll(ctx context.Context, seats []*seat) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	first, all := make(chan struct{}, len(seats)), make(chan struct{})
	for _, s := range seats {
		wg.Go(func() {
			if s.open(ctx) == nil {
				first <- struct{}{}
			}
		})
	}
	go func() {
		wg.Wait()
		close(all)
	}()
	select {
	case <-all:
		return
	case <-first:
	}
	timer := time.NewTimer(b.opts.AttemptTimeout)
	defer timer.Stop()
	select {
	case <-all:
	case <-timer.C:
		cancel() // the places that are left heed it
		<-all
	}
}

// refusals are the errors that no waiting mends.
var refusals = []error{backend.ErrInvalidParams, backend.ErrUnsupported, backend.ErrAmbiguousKey}

// join makes the places' keys one.
func (b *Backend) join(ctx context.Context, seats []*seat) (backend.Key, error) {
	var errs []error
	var first *seat
	for _, s := range seats {
		if err := s.failure(); err != nil {
			errs = append(errs, fmt.Errorf("place %q: %w", s.Name, err))
			for _, refusal := range refusals {
				if errors.Is(err, refusal) {
					return nil, fmt.Errorf("replicated: place %q: %w", s.Name, err)
				}
			}
		} else if first == nil {
			first = s
		}
	}
	if first == nil {
		return nil, fmt.Errorf("replicated: no place has the key: %w", errors.Join(errs...))
	}
	if first.handle().Public() == nil && len(errs) > 0 {
		return nil, fmt.Errorf("replicated: a symmetric key takes all places to open: %w", errors.Join(errs...))
	}
	for _, s := range seats {
		if s.handle() == nil || s == first {
			continue
		}
		if err := same(ctx, first.handle(), s.handle()); err != nil {
			return nil, fmt.Errorf("replicated: places %q and %q: %w", first.Name, s.Name, err)
		}
	}
	return b.newKey(seats, first.handle())
}

// Ping implements [backend.Pinger]: it pings all places that can be, and returns what failed, joined.
func (b *Backend) Ping(ctx context.Context) error {
	if err := b.gate.Enter(); err != nil {
		return err
	}
	defer b.gate.Leave()
	errs := make([]error, len(b.places))
	var wg sync.WaitGroup
	for i, p := range b.places {
		if pinger, ok := p.Backend.(backend.Pinger); ok {
			wg.Go(func() {
				if err := pinger.Ping(ctx); err != nil {
					errs[i] = fmt.Errorf("replicated: place %q: %w", p.Name, err)
				}
			})
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// background runs fn beside everything else, unless b was closed. fn's context ends with Close.
func (b *Backend) background(fn func(context.Context)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.probes.Go(func() { fn(b.stop) })
	return true
}

// Close implements [backend.Backend]. It waits up to 10 seconds for calls in flight; if there are any left, the error says
// how many and wraps backend.ErrUnavailable. The places' own backends stay open.
func (b *Backend) Close() (err error) {
	b.closing.Do(func() {
		if left := b.gate.Close(closeWait); left > 0 {
			err = fmt.Errorf("replicated: %d calls still ran %v after Close: %w", left, closeWait, backend.ErrUnavailable)
		}
		b.mu.Lock()
		b.closed = true
		b.mu.Unlock()
		b.end()
		b.probes.Wait()
	})
	return err
}
