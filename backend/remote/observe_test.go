package remote

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/managedkeys/managedkeys/backend"
)

// TestAttemptsAreObserved: each request of a call, with the context that the observer made, and how it went.
func TestAttemptsAreObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts, err := (*Options)(nil).WithDefaults()
		if err != nil {
			t.Fatal(err)
		}
		c := NewConnection("fake", opts, func(err error) Verdict {
			return Verdict{Err: errors.Join(backend.ErrUnavailable, err), Kind: Transient}
		})
		type key struct{}
		var begun []Attempt
		var ended []bool
		ctx := WithObserver(t.Context(), func(ctx context.Context, a Attempt) (context.Context, func(error)) {
			begun = append(begun, a)
			return context.WithValue(ctx, key{}, a.Number), func(err error) { ended = append(ended, errors.Is(err, backend.ErrUnavailable)) }
		})
		n := 0
		out, err := Do(ctx, c, Call{Op: "Sign"}, func(ctx context.Context) (any, error) {
			if n++; n < 3 {
				return nil, errors.New("down")
			}
			if l := c.Load("here"); l.Busy != 1 || l.Waiting != 0 || l.Connection != "here" || l.Retries != 2 {
				t.Errorf("load %+v", l)
			}
			return ctx.Value(key{}), nil
		})
		if err != nil || out != 3 {
			t.Errorf("got %v, %v", out, err)
		}
		if want := []Attempt{{"fake", "Sign", 1}, {"fake", "Sign", 2}, {"fake", "Sign", 3}}; !slices.Equal(begun, want) {
			t.Errorf("begun %v", begun)
		}
		if !slices.Equal(ended, []bool{true, true, false}) {
			t.Errorf("failed %v", ended)
		}
		if _, err := Do(t.Context(), c, Call{Op: "Sign"}, func(context.Context) (int, error) { return 0, nil }); err != nil || len(begun) != 3 {
			t.Errorf("without an observer: %v, %d attempts seen", err, len(begun))
		}
	})
}
