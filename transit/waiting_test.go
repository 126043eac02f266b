package transit

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
)

// Who waits for somebody else's wrapping key leaves when the context ends, however long that takes.
func TestWrappingKeyWaits(t *testing.T) {
	e := newSoftHouse(t).engine
	e.wrapping.held <- struct{}{} // somebody makes it, or reads it from a store that is away
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.WrappingKey(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-e.wrapping.held
	if _, err := e.WrappingKey(t.Context()); err != nil {
		t.Error(err)
	}
}

// Callers who leave while their keys are made don't leave behind more work than there are processors.
func TestGeneratingIsBounded(t *testing.T) {
	var running, most atomic.Int32
	goOn := make(chan struct{})
	begun := make(chan struct{}, 100)
	slow := &softType{name: "slow", public: true, generate: func() (any, error) {
		n := running.Add(1)
		for before := most.Load(); n > before && !most.CompareAndSwap(before, n); before = most.Load() {
		}
		begun <- struct{}{}
		<-goOn
		running.Add(-1)
		return nil, errors.New("none is made")
	}}
	limit := runtime.GOMAXPROCS(0)
	for i := range 4 * limit {
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := slow.newMaterial(ctx, new(record))
			left <- err
		}()
		if i < limit {
			<-begun
		}
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	if n := most.Load(); int(n) != limit {
		t.Errorf("%d at the same time; want %d", n, limit)
	}
	close(goOn)
	for len(generating) > 0 {
		runtime.Gosched()
	}
}
