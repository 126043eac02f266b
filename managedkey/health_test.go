package managedkey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// pinged is a backend that answers pings as told.
type pinged struct {
	*software.Backend
	kind  string
	pings atomic.Int64
	do    func(context.Context) error
}

func (p *pinged) Type() string { return p.kind }

func (p *pinged) Ping(ctx context.Context) error {
	p.pings.Add(1)
	return p.do(ctx)
}

// healthOf returns a registry with an entry for each backend.
func healthOf(t *testing.T, all ...*pinged) *Registry {
	t.Helper()
	r := NewRegistry()
	for i, p := range all {
		mustCreate(t, r, Entry{Ref: ref(fmt.Sprintf("a/%d", i)), Backend: p, Params: params{Label: "x"}})
	}
	return r
}

func works(context.Context) error { return nil }

// TestHealth: what each connection answers, and what that means for readiness.
func TestHealth(t *testing.T) {
	down := func(context.Context) error { return fmt.Errorf("pin 1234 refused: %w", backend.ErrCredentials) }
	panics := func(context.Context) error { panic("pin 1234") }
	hangs := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, c := range map[string]struct {
		do              []func(context.Context) error
		ready, degraded bool
		classes         string
	}{
		"none": {nil, true, false, ""}, "one": {[]func(context.Context) error{works}, true, false, "fake:true:"},
		"one of two":  {[]func(context.Context) error{down, works}, true, true, "fake:false:ErrCredentials fake-2:true:"},
		"both down":   {[]func(context.Context) error{down, panics}, false, true, "fake:false:ErrCredentials fake-2:false:ErrUnavailable"},
		"one hanging": {[]func(context.Context) error{hangs, works}, true, true, "fake:false:DeadlineExceeded fake-2:true:"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var all []*pinged
			for _, do := range c.do {
				all = append(all, &pinged{kind: "fake", do: do})
			}
			r := healthOf(t, all...)
			h, err := r.Health(t.Context())
			if err != nil || h.Ready != c.ready || h.Degraded != c.degraded || !h.Following {
				t.Errorf("%s: %+v, %v", name, h, err)
			}
			texts := map[string]bool{}
			for _, conn := range h.Connections {
				class := conn.Error
				if class == "ErrUnavailable" && name == "one hanging" {
					class = "DeadlineExceeded" // whoever is first at the deadline
				}
				texts[fmt.Sprintf("%v:%s", conn.OK, class)] = true
			}
			for _, want := range strings.Fields(c.classes) {
				_, want, _ := strings.Cut(want, ":")
				if !texts[want] {
					t.Errorf("%s: %v, want %s", name, h.Connections, c.classes)
				}
			}
			if data, err := json.Marshal(h); err != nil || strings.Contains(string(data), "1234") {
				t.Errorf("%s: %s, %v", name, data, err)
			}
		})
	}
}

// TestHealthIsShared: however many ask at once and again, the key manager is pinged once in a while.
func TestHealthIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pinged{kind: "fake", do: func(context.Context) error { time.Sleep(time.Second); return nil }}
		r := healthOf(t, p)
		ask := func() {
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					if h, err := r.Health(t.Context()); err != nil || !h.Ready {
						t.Errorf("%+v, %v", h, err)
					}
				})
			}
			wg.Wait()
		}
		ask()
		ask()
		if n := p.pings.Load(); n != 1 {
			t.Errorf("%d pings, want 1", n)
		}
		time.Sleep(healthLasts)
		ask()
		if n := p.pings.Load(); n != 2 {
			t.Errorf("%d pings, want 2", n)
		}
	})
}

// TestHealthOfWhatHangs: a ping that ignores its context is left behind, once, and the caller's own deadline holds.
func TestHealthOfWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		p := &pinged{kind: "fake", do: func(context.Context) error { <-release; return nil }}
		r := healthOf(t, p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Health(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		for range 3 {
			h, err := r.Health(t.Context())
			if err != nil || h.Ready || h.Connections[0].Error != "ErrUnavailable" {
				t.Errorf("%+v, %v", h, err)
			}
			time.Sleep(healthLasts)
		}
		if n := p.pings.Load(); n != 1 {
			t.Errorf("%d pings while the first one hangs", n)
		}
		close(release)
		synctest.Wait()
		if h, err := r.Health(t.Context()); err != nil || !h.Ready {
			t.Errorf("after it came back: %+v, %v", h, err)
		}
	})
}

// TestHealthOfAStore: the connections are the registry's, and a registry that was closed is not ready.
func TestHealthOfAStore(t *testing.T) {
	b := software.New(nil)
	defer b.Close()
	st := memory.New(nil)
	defer st.Close()
	r, err := Open(t.Context(), st, []Connection{{Name: "soft", Backend: b}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := r.Health(t.Context())
	if err != nil || !h.Ready || len(h.Connections) != 1 || h.Connections[0].Name != "soft" || h.Connections[0].Type != "software" {
		t.Errorf("%+v, %v", h, err)
	}
	mustCreate(t, r, softwareEntry(b, "ecdsa", 0))
	mustMount(t, r, "a", "pki")
	if entries, mounts := r.Size(); entries != 1 || mounts != 1 {
		t.Errorf("%d entries, %d mounts", entries, mounts)
	}
	e := softwareEntry(b, "ecdsa", 0)
	e.Ref.Name = "second"
	mustCreate(t, r, e)
	if n := r.OpenKeys(); n != 0 {
		t.Errorf("%d keys are open", n)
	}
	if _, err := r.Key(t.Context(), e.Ref); err != nil {
		t.Fatal(err)
	}
	if n := r.OpenKeys(); n != 1 {
		t.Errorf("%d keys are open, want 1", n)
	}
	if err := r.Delete(t.Context(), e.Ref); err != nil || r.OpenKeys() != 0 {
		t.Errorf("%d keys are open, %v", r.OpenKeys(), err)
	}
	r.Close()
	r.health.last.At = time.Time{}
	if h, err := r.Health(t.Context()); err != nil || h.Ready || h.Following {
		t.Errorf("closed: %+v, %v", h, err)
	}
}
