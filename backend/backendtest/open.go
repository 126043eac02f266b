package backendtest

import (
	"maps"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
)

// foreignParams are parameters of a backend that doesn't exist.
type foreignParams struct{}

func (foreignParams) BackendType() string { return "backendtest-foreign" }
func (foreignParams) Validate() error     { return nil }

// checkOpen checks what Open finds and what it refuses.
func checkOpen(c *checker) {
	b := c.client()
	c.sub("Type", func(c *checker) { checkType(c, b) })

	c.sub("Absent", func(c *checker) {
		// Rule: nothing is made silently, so that a second look, on this client and on another, finds nothing either.
		for _, client := range []backend.Backend{b, b, c.client()} {
			key, err := client.Open(c.Context(), c.cfg.Absent)
			c.noKey("Open of an absent key", key, err, backend.ErrKeyNotFound)
		}
	})
	if c.cfg.Ambiguous != nil {
		c.sub("Ambiguous", func(c *checker) {
			// Rule: more than one match is an error and never a choice.
			key, err := b.Open(c.Context(), c.cfg.Ambiguous)
			c.noKey("Open of an ambiguous key", key, err, backend.ErrAmbiguousKey)
		})
	}
	c.sub("Foreign", func(c *checker) {
		// Rule: parameters of another backend are ErrInvalidParams.
		for name, p := range map[string]backend.Params{"params of another backend": foreignParams{}, "nil params": nil} {
			key, err := b.Open(c.Context(), p)
			c.noKey("Open with "+name, key, err, backend.ErrInvalidParams)
		}
	})
	c.sub("Invalid", func(c *checker) {
		for _, name := range slices.Sorted(maps.Keys(c.cfg.Invalid)) {
			c.sub(name, func(c *checker) {
				// Rule: bad input is an error that says so, never a panic and never a key.
				p := c.cfg.Invalid[name]
				if err := p.Validate(); err != nil {
					c.refused("Validate", err, backend.ErrInvalidParams)
				}
				key, err := b.Open(c.Context(), p)
				c.noKey("Open", key, err, backend.ErrInvalidParams)
			})
		}
	})
	c.sub("Context", func(c *checker) {
		// Rule: a context that has ended opens nothing.
		for _, ended := range c.endedContexts() {
			key, err := b.Open(ended.ctx, c.cfg.Keys[0].Params)
			c.noKey("Open with a context that is "+ended.name, key, err, ended.want)
		}
	})
	c.sub("IDs", func(c *checker) { checkIDs(c, b) })
}

// checkType checks that the backend and the parameters agree on the type.
func checkType(c *checker, b backend.Backend) {
	if b.Type() == "" || b.Type() != c.client().Type() {
		c.Errorf("Type() is %q and then %q", b.Type(), c.client().Type())
	}
	for name, p := range c.params() {
		if p.BackendType() != b.Type() {
			c.Errorf("%s: BackendType() is %q, want the backend's Type %q", name, p.BackendType(), b.Type())
		}
	}
	for _, k := range c.cfg.Keys {
		c.ok(k.Name+": Validate", k.Params.Validate())
	}
	c.ok("Absent: Validate", c.cfg.Absent.Validate())
}

// checkIDs checks that ID names exactly one key: equal where the public keys are and different where they are not.
func checkIDs(c *checker, b backend.Backend) {
	keys := make([]backend.Key, len(c.cfg.Keys))
	for i, k := range c.cfg.Keys {
		keys[i] = c.open(b, k.Params)
		for j, other := range keys[:i] {
			if keys[i].Public() == nil || other.Public() == nil {
				continue
			}
			if same := samePublic(keys[i].Public(), other.Public()); same != (keys[i].ID() == other.ID()) {
				c.Errorf("%s and %s: that the public keys are equal is %t, but the IDs are %q and %q",
					k.Name, c.cfg.Keys[j].Name, same, keys[i].ID(), other.ID())
			}
		}
	}
}

// noKey fails the test unless err wraps one of want and key is nil.
func (c *checker) noKey(op string, key backend.Key, err error, want ...error) {
	c.Helper()
	c.refused(op, err, want...)
	if err != nil && key != nil {
		c.Errorf("%s: returned a key together with an error", op)
	}
}
