package postgres

import (
	"context"
	"errors"
	"testing"
)

// TestRetryingTellsOfSuccess: what was done was done, even if ctx ended in that moment. It would else be said of a commit that it failed.
func TestRetryingTellsOfSuccess(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := retrying(ctx, func(error) bool { return true }, func() error {
		if calls++; calls == 1 {
			return errors.New("lost")
		}
		cancel()
		return nil
	})
	if err != nil || calls != 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	failed := errors.New("failed")
	if err := retrying(ctx, func(error) bool { return true }, func() error { cancel(); return failed }); !errors.Is(err, failed) {
		t.Errorf("it failed and ctx has ended: %v", err)
	}
}
