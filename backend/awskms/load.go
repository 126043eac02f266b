package awskms

import (
	"cmp"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
)

var _ backend.Meter = (*Backend)(nil)

// Load implements [backend.Meter].
func (b *Backend) Load() []backend.Load {
	if b.gate.Closed() {
		return nil
	}
	var all []backend.Load
	for _, c := range b.clients() {
		all = append(all, c.remote.Load(c.region))
	}
	slices.SortFunc(all, func(a, b backend.Load) int { return cmp.Compare(a.Connection, b.Connection) })
	return all
}
