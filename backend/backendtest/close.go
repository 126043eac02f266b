package backendtest

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/managedkeys/managedkeys/backend"
)

// checkClose checks a client that was closed.
func checkClose(c *checker) {
	b := c.cfg.New(c.T)
	c.must("Close of a client that was never used", b.Close())

	b = c.cfg.New(c.T)
	c.open(b, c.cfg.Keys[0].Params)
	// Rule: closing again, or at the same time, does nothing and returns nil.
	c.concurrently(4, func(int) { c.ok("Close", b.Close()) })
	c.ok("Close again", b.Close())
	for _, k := range c.cfg.Keys {
		key, err := b.Open(c.Context(), k.Params)
		c.noKey("Open after Close", key, err, backend.ErrClosed)
	}
	if g, ok := b.(backend.Generator); ok && len(c.cfg.Generate) > 0 {
		key, err := g.Generate(c.Context(), c.cfg.Generate[0].Params, nil)
		c.noKey("Generate after Close", key, err, backend.ErrClosed)
	}
	if m, ok := b.(backend.Importer); ok && len(c.cfg.Import) > 0 {
		key, err := m.Import(c.Context(), c.cfg.Import[0].Params, c.cfg.Import[0].Material, nil)
		c.noKey("Import after Close", key, err, backend.ErrClosed)
	}
	if l, ok := b.(backend.Lister); ok {
		_, err := collect(l.List(c.Context(), c.cfg.Keys[0].Params))
		c.refused("List after Close", err, backend.ErrClosed)
	}
	if p, ok := b.(backend.Pinger); ok {
		c.refused("Ping after Close", p.Ping(c.Context()), backend.ErrClosed)
	}
	// Rule: a client owns its own connections; closing it leaves the others alone.
	for _, op := range operations(c, c.open(c.client(), c.cfg.Keys[0].Params)) {
		c.perform(op)
	}
}

// checkClosed checks a key whose client was closed.
func checkClosed(c *checker, k Key) {
	b := c.cfg.New(c.T)
	key := c.open(b, k.Params)
	pub, id, ops := key.Public(), key.ID(), operations(c, key)
	refused := refusals(c, k, key)
	c.must("Close", b.Close())
	for _, op := range ops {
		err, _ := op.do(c.Context())
		c.refused(op.name+" after Close", err, backend.ErrClosed)
	}
	// Rule: what is not declared is refused before any call, so that it makes no difference that none can be made.
	for _, r := range refused {
		r.name += " after Close"
		c.refuses(r)
	}
	// Rule: Public, Capabilities and ID make no call.
	if !samePublic(key.Public(), pub) || key.ID() != id {
		c.Error("Public or ID changed with Close")
	}
	checkCapabilities(c, k, key)
}

// checkCloseInUse closes the client while goroutines use the key. (Rule: a call under way gets its result, or
// ErrUnavailable or ErrClosed, and what begins after Close has returned gets ErrClosed; nothing hangs or panics.)
func checkCloseInUse(c *checker, k Key) {
	const users = 8 // goroutines; enough for calls to be under way, few enough that Close gets its turn soon
	b := c.cfg.New(c.T)
	ops := operations(c, c.open(b, k.Params))
	var closed atomic.Bool
	started := make(chan struct{}, users)
	wait := c.background(users, func(i int) {
		begun := sync.OnceFunc(func() { started <- struct{}{} })
		defer begun() // if the call panics
		op := ops[i%len(ops)]
		for {
			after := closed.Load()
			err, wrong := op.do(c.Context())
			begun()
			switch c.see(op.name, err); {
			case after:
				c.refused(op.name+" after Close", err, backend.ErrClosed)
				return
			case err == nil && wrong != nil:
				c.Errorf("%s during Close: %v", op.name, wrong)
				return
			case err != nil && !errors.Is(err, backend.ErrUnavailable):
				c.Errorf("%s during Close: %s", op.name, c.describe(err))
				return
			}
		}
	})
	for range users / 2 { // half have been served and the rest are on their way
		<-started
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.ok("Close", b.Close())
		closed.Store(true)
		wait()
	}()
	c.await("Close and the calls during it", done)
}
