package backendtest

import (
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// checkRotate checks that a next key is made beside the one that there is, and that each is found by parameters of its own. RSA
// keys are left out for the time that they take to make: versions know nothing of the kind of key.
func checkRotate(c *checker, g backend.Generator, spec Generate, key backend.Key) {
	r, ok := g.(backend.Rotator)
	if !ok || strings.HasPrefix(spec.Algorithm, "RSA") {
		return
	}
	_, _, err := r.Rotate(c.Context(), foreignParams{}, 2)
	c.refused("Rotate with params of another backend", err, backend.ErrInvalidParams)
	for _, ended := range c.endedContexts() {
		_, _, err := r.Rotate(ended.ctx, spec.Params, 2)
		c.refused("Rotate with a context that is "+ended.name, err, ended.want)
	}
	exact, versioned := g.(backend.Versioned)
	params := spec.Params
	if versioned {
		params = exact.ExactParams(params, key)
		c.isKey("the key by its exact parameters", g, params, key)
	}
	keys, all := []backend.Key{key}, []backend.Params{params}
	for version := 2; version <= 3; version++ {
		next, at, err := r.Rotate(c.Context(), params, version)
		c.must("Rotate", err)
		if next == nil || at == nil {
			c.Fatalf("Rotate to version %d returned key %v and params %v", version, next, at)
		}
		if got := next.Capabilities().Algorithm; got != spec.Algorithm {
			c.Errorf("Rotate made a key of the algorithm %q, want %q", got, spec.Algorithm)
		}
		for _, old := range keys {
			if next.ID() == old.ID() || next.Public() != nil && samePublic(next.Public(), old.Public()) {
				c.Errorf("Rotate to version %d returned the key %q", version, old.ID())
			}
		}
		// Rule: a key that is there is not taken for the one that is to be made.
		if !versioned {
			_, _, err := r.Rotate(c.Context(), params, version)
			c.refused("Rotate to a version that exists", err, backend.ErrKeyExists)
		}
		keys, all, params = append(keys, next), append(all, at), at
	}
	for i, key := range keys {
		c.isKey("a version", g, all[i], key)
		c.isKey("a version, seen by another client", c.client(), all[i], key)
	}
}
