package managedkey

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

const (
	// healthLasts is how long a health is the answer for everybody who asks: probes must not burden a key manager.
	healthLasts = 2 * time.Second

	// pingTimeout bounds the ping of one connection.
	pingTimeout = 5 * time.Second
)

// Health is how a registry and its connections are doing.
type Health struct {
	// Ready means that it makes sense to send requests here: the registry is open and follows its store, if it has one, and
	// of its connections at least one works, if it has any. One key manager that is away takes away its own keys only; and the store may be
	// out of reach for a while, since keys are looked up in memory.
	Ready bool `json:"ready"`

	// Degraded means that at least one connection doesn't work.
	Degraded bool `json:"degraded"`

	// Following means that the registry is open and has what is in its store; true without a store.
	Following bool `json:"following"`

	Connections []ConnectionHealth `json:"connections"` // sorted by name
	At          time.Time          `json:"at"`          // when it was found out
}

// ConnectionHealth is how one connection is doing. It has nothing of the text of an error, which may say where things are.
type ConnectionHealth struct {
	Name    string        `json:"name"` // of the [Connection]; without a store, the backend's type, and a number if there are more of it
	Type    string        `json:"type"` // of the backend
	OK      bool          `json:"ok"`
	Pinged  bool          `json:"pinged"`          // false if the backend is no backend.Pinger: then it is taken to work
	Error   string        `json:"error,omitempty"` // the error's class, see [ErrorClass]
	Latency time.Duration `json:"latency_ns"`      // of the ping
}

// health keeps the last answer.
type health struct {
	mu      sync.Mutex // guards what follows
	last    Health
	flight  chan struct{}            // closed when the answer that is under way is there; nil if none is
	pinging map[backend.Backend]bool // pings that have not returned
}

// Health pings all connections at once, each for at most 5 seconds, and returns what it found. An answer is kept for 2 seconds,
// and everybody who asks while it is being found out waits for the same one, so that probes cost the key managers no more than
// that. A ping that hangs is not repeated until it has returned; until then the connection doesn't work.
//
// Without a store, the connections are the backends of the entries; finding them takes time in proportion to the number of entries.
// The error is that of ctx, if it ends first.
func (r *Registry) Health(ctx context.Context) (Health, error) {
	h := &r.health
	h.mu.Lock()
	if !h.last.At.IsZero() && time.Since(h.last.At) < healthLasts {
		defer h.mu.Unlock()
		return h.last.clone(), nil
	}
	flight := h.flight
	if flight == nil {
		flight = make(chan struct{})
		h.flight = flight
		go r.examine(context.WithoutCancel(ctx), flight)
	}
	h.mu.Unlock()
	select {
	case <-flight:
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.last.clone(), nil
	case <-ctx.Done():
		return Health{}, fmt.Errorf("managedkey: health: %w", backend.ContextError(ctx))
	}
}

func (h Health) clone() Health {
	h.Connections = slices.Clone(h.Connections)
	return h
}

// examine makes the next answer.
func (r *Registry) examine(ctx context.Context, done chan struct{}) {
	conns := r.connections()
	out := Health{Following: r.kept == nil || r.kept.following.Load(), Connections: make([]ConnectionHealth, len(conns))}
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() { out.Connections[i] = r.health.check(ctx, c) })
	}
	wg.Wait()
	works := len(conns) == 0
	for _, c := range out.Connections {
		works = works || c.OK
		out.Degraded = out.Degraded || !c.OK
	}
	out.Ready, out.At = works && out.Following, time.Now()
	r.health.mu.Lock()
	defer r.health.mu.Unlock()
	r.health.last, r.health.flight = out, nil
	close(done)
}

// check pings one connection.
func (h *health) check(ctx context.Context, c Connection) ConnectionHealth {
	out := ConnectionHealth{Name: c.Name, Type: c.Backend.Type(), OK: true}
	pinger, ok := c.Backend.(backend.Pinger)
	if !ok {
		return out
	}
	out.Pinged = true
	began := time.Now()
	err := h.ping(ctx, pinger)
	out.Latency, out.OK, out.Error = time.Since(began), err == nil, ErrorClass(err)
	return out
}

// ping returns when the backend has answered or its time is up, whichever is first.
func (h *health) ping(ctx context.Context, b backend.Pinger) error {
	h.mu.Lock()
	if h.pinging[b] {
		h.mu.Unlock()
		return fmt.Errorf("the last ping has not returned: %w", backend.ErrUnavailable)
	}
	if h.pinging == nil {
		h.pinging = make(map[backend.Backend]bool)
	}
	h.pinging[b] = true
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	result := make(chan error, 1)
	go func() {
		defer cancel()
		defer func() {
			if v := recover(); v != nil {
				result <- fmt.Errorf("the driver panicked: %w", backend.ErrUnavailable)
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			delete(h.pinging, b)
		}()
		result <- b.Ping(ctx)
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		select {
		case err := <-result: // cancel is called when it is there
			return err
		default:
			return fmt.Errorf("no answer in time: %w", backend.ErrUnavailable)
		}
	}
}

// connections returns those of the registry, sorted by name.
func (r *Registry) connections() (all []Connection) {
	if r.kept != nil {
		for _, c := range *r.kept.conns.Load() {
			all = append(all, c)
		}
	} else {
		for _, b := range r.backends() {
			all = append(all, Connection{Name: b.Type(), Backend: b})
		}
	}
	slices.SortStableFunc(all, func(a, b Connection) int { return cmp.Compare(a.Name, b.Name) })
	seen := make(map[string]int)
	for i := range all {
		name := all[i].Name
		if seen[name]++; seen[name] > 1 {
			all[i].Name += "-" + strconv.Itoa(seen[name])
		}
	}
	return all
}

// backends returns those that entries use, each once, in no order.
func (r *Registry) backends() (all []backend.Backend) {
	seen := make(map[backend.Backend]bool)
	for _, s := range r.allSpaces() {
		s.mu.Lock()
		for e := range s.names.all {
			if b := e.state.Load().backend; b != nil && sameBackend(b, b) && !seen[b] {
				seen[b] = true
				all = append(all, b)
			}
		}
		s.mu.Unlock()
	}
	return all
}

// allSpaces returns the namespaces that there are.
func (r *Registry) allSpaces() (all []*space) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.spaces.all {
		all = append(all, s)
	}
	return all
}

// Size returns how many entries and mounts there are. It takes time in proportion to the number of namespaces.
func (r *Registry) Size() (entries, mounts int) {
	for _, s := range r.allSpaces() {
		s.mu.Lock()
		entries, mounts = entries+s.names.live, mounts+len(s.mounts)
		s.mu.Unlock()
	}
	return entries, mounts
}

// OpenKeys returns how many entries have their newest key open: look-ups of those make no call. It takes time in proportion to the number
// of entries, and holds up nobody.
func (r *Registry) OpenKeys() (n int) {
	for _, s := range r.allSpaces() {
		for e := range s.names.all {
			if e.state.Load().key != nil {
				n++
			}
		}
	}
	return n
}

// Meters returns the registry's connections that know how they are doing, by the names that Health gives them. As with Health,
// finding them takes time in proportion to the number of entries if there is no store.
func (r *Registry) Meters() map[string]backend.Meter {
	all := make(map[string]backend.Meter)
	for _, c := range r.connections() {
		if m, ok := c.Backend.(backend.Meter); ok {
			all[c.Name] = m
		}
	}
	return all
}
