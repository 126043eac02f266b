package backendtest

import (
	"github.com/managedkeys/managedkeys/backend"
)

// goroutines is how many use one key at once.
const goroutines = 64

// checkParallel uses one key from many goroutines, each of which checks its own results. (Rule: all methods are safe for
// concurrent use. The race detector sees more of it.)
func checkParallel(c *checker, _ Key, key backend.Key) {
	ops := operations(c, key)
	pub, id := key.Public(), key.ID()
	c.concurrently(goroutines, func(i int) {
		for j := range 2 {
			c.perform(ops[(i+j)%len(ops)])
		}
		if !samePublic(key.Public(), pub) || key.ID() != id || len(key.Capabilities().Algorithm) == 0 {
			c.Error("Public, ID or Capabilities changed while the key was used")
		}
	})
}

// checkAllKeys uses all keys of one client at once and opens keys meanwhile: a session, buffer or key handle that leaks
// from one call into another gives a signature of the wrong key.
func checkAllKeys(c *checker) {
	b := c.client()
	var ops []operation
	for _, k := range c.cfg.Keys {
		ops = append(ops, operations(c, c.open(b, k.Params))...)
	}
	c.concurrently(goroutines, func(i int) {
		if i%8 == 0 {
			k := c.cfg.Keys[i/8%len(c.cfg.Keys)]
			if _, err := b.Open(c.Context(), k.Params); !c.ok(k.Name+": Open", err) {
				return
			}
		}
		for j := range 2 {
			c.perform(ops[(i+goroutines*j)%len(ops)])
		}
	})
}
