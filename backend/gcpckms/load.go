package gcpckms

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
	var clients []*conn
	if b.given != nil {
		clients = []*conn{b.given}
	} else {
		clients = b.conns.Clients()
	}
	var all []backend.Load
	for _, c := range clients {
		all = append(all, c.remote.Load(c.name))
	}
	slices.SortFunc(all, func(a, b backend.Load) int { return cmp.Compare(a.Connection, b.Connection) })
	return all
}
