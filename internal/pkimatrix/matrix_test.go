package pkimatrix

import (
	"slices"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/managedkey"
)

// TestMatrix: what keys of every kind sign, from every backend, is verified by others as limits says, and breaks no rule that zlint
// knows, although no profile is chosen. The public keys in it are those that something else than the backend reads.
func TestMatrix(t *testing.T) {
	for _, start := range managers {
		t.Run(start.name, func(t *testing.T) {
			t.Parallel()
			m := start.start(t)
			t.Cleanup(func() { m.Close() })
			for _, k := range kinds {
				if raceEnabled && !strings.HasPrefix(k.name, "ECDSA P-256") && k.name != "Ed25519" {
					continue // the others are for runs without it
				}
				t.Run(k.name, func(t *testing.T) {
					if lacks(start.lacks, k) {
						wantLack(t, m, k)
						return
					}
					f := newFirm(t, m, k)
					for name, cert := range f.certs {
						if got := cert.SignatureAlgorithm; !slices.Contains(k.algorithms, got) {
							t.Errorf("%s is signed with %s", name, got)
						}
					}
					f.lint(t)
					for _, tool := range tools {
						for _, object := range objects {
							verify(t, tool, f, object)
						}
					}
				})
			}
		})
	}
}

// wantLack: a key manager that is said not to have a kind of key doesn't make one.
func wantLack(t *testing.T, m manager, k kind) {
	registry := managedkey.NewRegistry()
	err := registry.Create(t.Context(), entryOf(m, k, rootKey))
	if err == nil {
		_, err = registry.Key(t.Context(), entryOf(m, k, rootKey).Ref)
	}
	if err == nil {
		t.Error("there is such a key")
	}
}

func verify(t *testing.T, tool tool, f *firm, object string) {
	t.Helper()
	err := tool.checks[object](t, f)
	limit := f.limit(tool.name, object)
	switch {
	case limit == nil && err != nil:
		t.Errorf("%s, %s: %v", tool.name, object, err)
	case limit != nil && err == nil:
		t.Errorf("%s, %s: it verifies, although %s", tool.name, object, limit.because)
	case limit != nil && !strings.Contains(err.Error(), limit.says):
		t.Errorf("%s, %s: %v; because %s, the error should have %q", tool.name, object, err, limit.because, limit.says)
	}
}
