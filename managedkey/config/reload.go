package config

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// replans is how often Reload plans again because somebody else changed the same entries.
const replans = 5

// Reload makes the system what another configuration says, while it is in use, and returns what was changed of the registry.
//
// Connections whose block has changed, or a secret that it refers to, are opened and pinged beside the present ones, and every key
// that is open is opened through them; then keys and handles go on there, and the former ones are closed after their last call. No
// operation fails. Connections that have not changed are kept as they are. Entries and mounts follow, as Plan and Apply have it;
// connections that are in the files no longer are closed at the end, unless entries that are in no file still use them.
//
// The store and the seal can't change: that takes a restart, and is an error that wraps backend.ErrUnsupported. If a connection can't
// be opened, or a key through it, nothing has changed but the connections before it. If entries can't be changed, the connections
// have. Reloading again goes on from there. Listeners, audit logs, telemetry and auth are the program's business.
func (s *System) Reload(ctx context.Context, next *Config) (*Plan, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, failAt(Pos{}, fmt.Errorf("the system was closed: %w", backend.ErrClosed))
	}
	if next.builders == nil {
		return nil, failAt(Pos{}, fmt.Errorf("the configuration was loaded without builders: %w", backend.ErrUnsupported))
	}
	if err := s.sameStore(next); err != nil {
		return nil, err
	}
	if err := s.swapAll(ctx, next); err != nil {
		return nil, err
	}
	plan, err := s.settle(ctx, next)
	if err != nil {
		return plan, err
	}
	s.cfg = next
	return plan, s.drop(next)
}

// sameStore refuses another store or seal.
func (s *System) sameStore(next *Config) error {
	print, err := next.storePrint(s.prints)
	if err != nil || print == s.storeAt {
		return err
	}
	pos := Pos{}
	for _, c := range []*Config{s.cfg, next} { // where it is now, if it is there still
		switch {
		case c.Seal != nil:
			pos = c.Seal.Pos
		case c.Store != nil:
			pos = c.Store.Pos
		}
	}
	return failAt(pos, fmt.Errorf("the store or the seal has changed; that takes a restart: %w", backend.ErrUnsupported))
}

// swapped is a connection that gets another backend, or is new.
type swapped struct {
	to   *Connection
	live *live
}

// swapAll gives the registry all connections of next.
func (s *System) swapAll(ctx context.Context, next *Config) error {
	changes, err := s.openChanged(ctx, next)
	var former []backend.Backend // each after those that are made of it
	for i, c := range changes {
		if err != nil {
			break
		}
		var done bool
		done, err = s.registry.Reconnect(ctx, managedkey.Connection{Name: c.to.Name, Backend: c.live.backend, Namespaces: c.to.Namespaces})
		if err != nil {
			err = failAt(c.to.Pos, err)
		}
		if !done {
			s.discard(changes[i:])
			break
		}
		was := s.live[c.to.Name]
		s.live[c.to.Name] = c.live
		switch {
		case was == nil:
			s.order = append(s.order, c.to.Name)
		case was.backend != c.live.backend && err != nil: // some keys are still there
			s.rest = append(s.rest, was.backend)
		case was.backend != c.live.backend:
			former = append(former, was.backend)
		}
		if err != nil {
			s.discard(changes[i+1:])
		}
	}
	if err != nil { // what is made of these was perhaps not changed
		for _, b := range former {
			s.rest = append(s.rest, b)
		}
		return err
	}
	for _, b := range slices.Backward(former) {
		if err := b.Close(); err != nil {
			s.log.Warn("config: a connection that was replaced did not close in time", "type", b.Type(), "error", err)
		}
	}
	return nil
}

// openChanged opens and pings the connections whose blocks have changed. If one fails, all are closed again.
func (s *System) openChanged(ctx context.Context, next *Config) (changes []swapped, err error) {
	fresh := make(map[string]*live)
	lookup := func(name string) backend.Backend {
		if l := fresh[name]; l != nil {
			return l.backend
		}
		return s.backendOf(name)
	}
	for _, c := range sorted(next.Connections) {
		print, err := s.prints.connection(c)
		if err != nil {
			return nil, errors.Join(failAt(c.Pos, err), s.discard(changes))
		}
		now := s.live[c.Name]
		remade := slices.ContainsFunc(c.uses(), func(name string) bool {
			return fresh[name] != nil && (s.live[name] == nil || fresh[name].backend != s.live[name].backend)
		})
		if now != nil && now.print == print && !remade {
			if !slices.Equal(now.namespaces, c.Namespaces) || (now.namespaces == nil) != (c.Namespaces == nil) {
				changes = append(changes, swapped{c, &live{now.backend, c.Namespaces, print}})
			}
			continue
		}
		l, err := s.openConnection(ctx, c, lookup)
		if err == nil {
			fresh[c.Name] = l
			changes = append(changes, swapped{c, l})
			if p, ok := l.backend.(backend.Pinger); ok {
				if err = p.Ping(ctx); err != nil {
					err = failAt(c.Pos, fmt.Errorf("connection %q: %w", c.Name, err))
				}
			}
		}
		if err != nil {
			return nil, errors.Join(err, s.discard(changes))
		}
	}
	return changes, nil
}

// discard closes what was opened and isn't used.
func (s *System) discard(changes []swapped) (err error) {
	for _, c := range slices.Backward(changes) {
		if now := s.live[c.to.Name]; now == nil || now.backend != c.live.backend {
			err = errors.Join(err, c.live.backend.Close())
		}
	}
	return err
}

// settle plans and applies until nobody else interferes.
func (s *System) settle(ctx context.Context, next *Config) (plan *Plan, err error) {
	for range replans {
		plan, err = next.Plan(ctx, s.registry)
		if err != nil {
			return nil, err
		}
		if err = Apply(ctx, plan); !errors.Is(err, store.ErrConflict) {
			return plan, err
		}
	}
	return plan, err
}

// drop closes the connections that next doesn't have.
func (s *System) drop(next *Config) error {
	var p problems
	var wg sync.WaitGroup
	for _, name := range slices.Backward(slices.Clone(s.order)) {
		if slices.ContainsFunc(next.Connections, func(c *Connection) bool { return c.Name == name }) {
			continue
		}
		if err := s.registry.Disconnect(name); err != nil {
			p.fail(Pos{}, err)
			continue
		}
		b := s.live[name].backend
		delete(s.live, name)
		s.order = slices.DeleteFunc(s.order, func(n string) bool { return n == name })
		wg.Go(func() {
			if err := b.Close(); err != nil {
				s.log.Warn("config: a connection that was removed did not close in time", "connection", name, "error", err)
			}
		})
	}
	wg.Wait()
	return p.err()
}
