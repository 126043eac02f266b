package software

import "maps"

// store is a set of keys that one or more Backends use.
type store struct {
	// lock holds a token while somebody uses the fields below it. It is a channel and not a mutex so that a caller
	// whose context ends can leave the queue.
	lock    chan struct{}
	entries map[string]*entry // by name; what was last read from or written to file
	file    *file             // nil if the keys are in memory only; the pointer itself never changes
	users   int               // Backends that are not closed
	busy    bool              // a Backend was closed while calls still ran
}

// newStore returns a store with one user.
func newStore(f *file, entries map[string]*entry) *store {
	return &store{lock: make(chan struct{}, 1), entries: entries, file: f, users: 1}
}

// refresh brings entries up to date with the file. Handles on keys that the file still has go on working; the others
// stop. If there is an error, nothing has changed. The caller holds the lock.
func (s *store) refresh() error {
	if s.file == nil || s.users == 0 {
		return nil
	}
	entries, changed, err := s.file.reload()
	if err != nil || !changed {
		return err
	}
	for name, old := range s.entries {
		if now := entries[name]; now != nil && now.same(old) {
			entries[name] = old
		} else {
			old.material.Store(nil)
		}
	}
	s.entries = entries
	return nil
}

// put writes e to the file, if there is one, and then to memory, in the place of the key that has its name. If there is
// an error, both are as before. The caller holds the lock and that of the file, and has refreshed the store.
func (s *store) put(e *entry) error {
	next := maps.Clone(s.entries)
	next[e.name] = e
	if s.file != nil {
		if err := s.file.save(next); err != nil {
			return err
		}
	}
	if old := s.entries[e.name]; old != nil {
		old.material.Store(nil)
	}
	s.entries = next
	return nil
}

// release counts a Backend out and forgets the keys when it was the last. busy tells that calls of its still run. The
// caller holds the lock.
func (s *store) release(busy bool) {
	s.users--
	s.busy = s.busy || busy
	if s.users > 0 {
		return
	}
	for _, e := range s.entries {
		m := e.material.Swap(nil)
		// A call that is still running must not see its key change under it.
		if !s.busy {
			m.wipe()
		}
	}
	s.entries = nil
	if s.file != nil {
		s.file.wipe()
	}
}
