package azurekeyvault

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
	connections := []*connection{b.single}
	if b.single == nil {
		connections = b.shared.Clients()
	}
	var all []backend.Load
	for _, c := range connections {
		all = append(all, c.remote.Load(c.url))
	}
	slices.SortFunc(all, func(a, b backend.Load) int { return cmp.Compare(a.Connection, b.Connection) })
	return all
}
