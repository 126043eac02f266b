package managedkey

import (
	"maps"
	"slices"

	"github.com/managedkeys/managedkeys/namespace"
)

// Mounts returns the mounts of exactly this namespace, sorted by path.
func (r *Registry) Mounts(ns namespace.Path) []*Mount {
	s := r.space(ns)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Mount
	for _, path := range slices.Sorted(maps.Keys(s.mounts)) {
		out = append(out, s.mounts[path])
	}
	return out
}
