package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Signal wakes everybody who waits for something to change. The zero value is ready.
type Signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// Wait returns a channel that is closed by the next [Signal.Broadcast].
func (s *Signal) Wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

// Broadcast wakes all who wait.
func (s *Signal) Broadcast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

// Log is what a watch reads.
type Log struct {
	// Read returns events after the revision from under prefix, at least one if there are any, and the revision up to which
	// nothing else happened. The error wraps store.ErrCompacted if the log begins later or ends before from.
	Read func(ctx context.Context, prefix string, from uint64) (events []store.Event, next uint64, err error)

	Changed *Signal         // broadcasts after something was added
	Closed  <-chan struct{} // is closed when the Store is
	Retry   time.Duration   // after Read failed with store.ErrUnavailable; 0 if that ends the watch
}

// Watch implements Watch of a Store.
func (l *Log) Watch(ctx context.Context, prefix string, from uint64) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		if err := store.ValidatePrefix(prefix); err != nil {
			yield(store.Event{}, err)
			return
		}
		for at := from; ; {
			changed := l.Changed.Wait() // before Read, so that nothing is missed in between
			events, next, err := l.read(ctx, prefix, at)
			if err != nil {
				yield(store.Event{}, err)
				return
			}
			for _, event := range events {
				if !yield(event, nil) {
					return
				}
			}
			if next > at {
				at = next
				continue
			}
			select {
			case <-changed:
			case <-l.Closed:
			case <-ctx.Done():
			}
		}
	}
}

// read is Read that waits while the engine is away.
func (l *Log) read(ctx context.Context, prefix string, from uint64) ([]store.Event, uint64, error) {
	for {
		select {
		case <-l.Closed:
			return nil, 0, Closed("watch")
		default:
		}
		if ctx.Err() != nil {
			return nil, 0, fmt.Errorf("store: watch: %w", ctx.Err())
		}
		events, next, err := l.Read(ctx, prefix, from)
		if err == nil || l.Retry == 0 || !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrClosed) {
			return events, next, err
		}
		timer := time.NewTimer(l.Retry)
		select {
		case <-timer.C:
		case <-l.Closed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// Compacted is the error of a watch from a revision outside of what the log has: after floor, up to current.
func Compacted(from, floor, current uint64) error {
	if from > current {
		return fmt.Errorf("store: watch from revision %d: the store has only reached %d; was it put back from a backup? %w", from, current, store.ErrCompacted)
	}
	return fmt.Errorf("store: watch from revision %d: changes up to %d were dropped: %w", from, floor, store.ErrCompacted)
}
