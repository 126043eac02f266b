package backend_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/managedkeys/managedkeys/backend"
)

// TestGateUnderContention has many goroutines go in and out while the gate is closed: nobody may be inside after Close
// said so, and nobody may come in.
func TestGateUnderContention(t *testing.T) {
	for range 50 {
		var gate backend.Gate
		var inside, late atomic.Int64
		var drained atomic.Bool
		var started, ended sync.WaitGroup
		for range 8 {
			started.Add(1)
			ended.Go(func() {
				started.Done()
				for gate.Enter() == nil {
					inside.Add(1)
					if drained.Load() {
						late.Add(1)
					}
					inside.Add(-1)
					gate.Leave()
				}
			})
		}
		started.Wait()
		var closers sync.WaitGroup
		for range 2 {
			closers.Go(func() {
				assert.Zero(t, gate.Close(time.Minute))
				drained.Store(true)
				assert.Zero(t, inside.Load(), "calls in flight after Close")
			})
		}
		within(t, "Close", closers.Wait)
		within(t, "the callers", ended.Wait)
		assert.Zero(t, late.Load(), "calls that came in after Close")
		assert.Zero(t, gate.Close(0), "closing again")
		assert.ErrorIs(t, gate.Enter(), backend.ErrClosed)
	}
}

// TestGateCounts checks how many calls Close says are left, with refused ones in between.
func TestGateCounts(t *testing.T) {
	var gate backend.Gate
	assert.False(t, gate.Closed())
	for range 3 {
		assert.NoError(t, gate.Enter())
	}
	gate.Leave()
	for left := 2; left > 0; left-- {
		assert.Equal(t, left, gate.Close(0))
		assert.True(t, gate.Closed())
		assert.ErrorIs(t, gate.Enter(), backend.ErrClosed)
		gate.Leave()
	}
	assert.Zero(t, gate.Close(0))
}

func TestGateAllocatesNothing(t *testing.T) {
	var gate backend.Gate
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if gate.Enter() == nil {
			gate.Leave()
		}
	}))
}

func BenchmarkGate(b *testing.B) {
	var gate backend.Gate
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if gate.Enter() == nil {
				gate.Leave()
			}
		}
	})
}
