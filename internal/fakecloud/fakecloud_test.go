package fakecloud

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestScript(t *testing.T) {
	var s Script
	_, ok := s.Next("Sign")
	assert.False(t, ok)
	s.Add(Fault{Op: "Sign", Skip: 1, Times: 2, Drop: true}, Fault{Op: "Sign", Error: "busy"}, Fault{Op: "MAC", Times: -1})
	assert.Equal(t, 2, s.Left())
	var got []any
	for range 5 {
		f, ok := s.Next("Sign")
		got = append(got, [3]any{ok, f.Drop, f.Error})
	}
	assert.Equal(t, []any{
		[3]any{true, false, "busy"}, // the first fault lets the first request pass to the second
		[3]any{true, true, nil}, [3]any{true, true, nil},
		[3]any{false, false, nil}, [3]any{false, false, nil},
	}, got)
	assert.Zero(t, s.Left())
	for range 3 {
		_, ok := s.Next("MAC")
		assert.True(t, ok, "a fault without end has ended")
	}
	s.Clear()
	_, ok = s.Next("MAC")
	assert.False(t, ok)
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		Fault{}.Wait(t.Context())
		assert.Zero(t, time.Since(began))
		Fault{Delay: time.Second}.Wait(t.Context())
		assert.Equal(t, time.Second, time.Since(began))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		Fault{Delay: time.Hour}.Wait(ctx)
		assert.Equal(t, 2*time.Second, time.Since(began))
	})
}

func TestLog(t *testing.T) {
	var l Log
	l.Add(Request{Op: "Sign", Key: "a"})
	l.Add(Request{Op: "GetPublicKey", Key: "a"})
	l.Add(Request{Op: "Sign", Key: "b"})
	assert.Equal(t, []Request{{Op: "Sign", Key: "a"}, {Op: "Sign", Key: "b"}}, l.Requests("Sign"))
	assert.Equal(t, 3, l.Count(""))
	l.Clear()
	assert.Zero(t, l.Count(""))
}
