package replicated

import "github.com/managedkeys/managedkeys/backend"

var _ backend.Meter = (*Backend)(nil)

// Load implements [backend.Meter]: it returns that of the places, each connection after the place's name and a slash.
func (b *Backend) Load() []backend.Load {
	var all []backend.Load
	for _, p := range b.places {
		if m, ok := p.Backend.(backend.Meter); ok {
			for _, l := range m.Load() {
				l.Connection = p.Name + "/" + l.Connection
				all = append(all, l)
			}
		}
	}
	return all
}
