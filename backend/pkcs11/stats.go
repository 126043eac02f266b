package pkcs11

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
)

// Stats is how the connection to one token is doing.
type Stats struct {
	Token  string // label
	Serial string
	Slot   uint

	Sessions int  // that may run operations now or have run one: a worker each
	Busy     int  // of those: in an operation
	Waiting  int  // operations that wait for a session
	Hung     int  // operations whose callers have left, but which the module still holds
	Down     bool // operations fail at once, but for the one that tries whether the token is back
}

// Stats returns how the tokens are doing that keys were opened on, sorted by label and slot. It makes no call. Backends of
// one process that use the same token share its sessions, and all count them.
func (b *Backend) Stats() []Stats {
	b.mu.Lock()
	held := slices.Clone(b.held)
	b.mu.Unlock()
	stats := make([]Stats, 0, len(held))
	for _, c := range held {
		s := c.pool.stats()
		s.Token, s.Serial, s.Slot, s.Down = c.info.Label, c.info.Serial, c.slot(), c.down.Load()
		stats = append(stats, s)
	}
	slices.SortFunc(stats, func(a, b Stats) int { return cmp.Or(cmp.Compare(a.Token, b.Token), cmp.Compare(a.Slot, b.Slot)) })
	return stats
}

func (p *pool) stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{Sessions: p.workers, Busy: p.running, Waiting: p.queue.length, Hung: p.stuck}
}

// Load implements backend.Meter.
func (b *Backend) Load() []backend.Load {
	var all []backend.Load
	for _, s := range b.Stats() {
		all = append(all, backend.Load{
			Connection: fmt.Sprintf("%s (slot %d)", s.Token, s.Slot),
			Sessions:   s.Sessions, Busy: s.Busy, Waiting: s.Waiting, Hung: s.Hung, Down: s.Down,
		})
	}
	return all
}
