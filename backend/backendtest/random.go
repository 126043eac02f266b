package backendtest

import (
	"bytes"

	"github.com/managedkeys/managedkeys/backend"
)

// checkRandom checks lengths, and that no two outputs are equal.
func checkRandom(c *checker, k Key, key backend.Key) {
	if !k.Random {
		return
	}
	r, ok := key.(backend.Random)
	if !ok {
		c.Fatalf("%T is no backend.Random", key)
	}
	limit := r.Capabilities().MaxRandom
	for _, n := range []int{1, 16, limit} {
		out, err := r.GenerateRandom(c.Context(), n)
		if c.ok("GenerateRandom", err) && len(out) != n {
			c.Errorf("GenerateRandom(%d) returned %d bytes", n, len(out))
		}
	}
	seen := make(map[string]bool)
	for range 8 {
		n := min(32, limit)
		out, err := r.GenerateRandom(c.Context(), n)
		c.must("GenerateRandom", err)
		// Fewer than 16 bytes may be equal, or zero, by chance.
		if n >= 16 && (seen[string(out)] || bytes.Equal(out, make([]byte, n))) {
			c.Error("GenerateRandom returned the same bytes twice, or only zeros")
		}
		seen[string(out)] = true
	}
}

// checkAttest checks that a key that can be attested is.
func checkAttest(c *checker, _ Key, key backend.Key) {
	a, ok := key.(backend.Attester)
	if !ok {
		return
	}
	statement, err := a.Attest(c.Context())
	if c.ok("Attest", err) && (statement.Format == "" || len(statement.Statement) == 0) {
		c.Errorf("Attest returned a statement of %d bytes in the format %q", len(statement.Statement), statement.Format)
	}
}
