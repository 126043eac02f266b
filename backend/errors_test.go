package backend_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/managedkeys/managedkeys/backend"
)

// TestContextError: what is late is the key manager's failure, what was cancelled is not, whatever the reasons that callers give.
func TestContextError(t *testing.T) {
	reason := errors.New("the caller left")
	assert.NoError(t, backend.ContextError(t.Context()))

	late, cancel := context.WithDeadlineCause(t.Context(), time.Unix(0, 0), reason)
	defer cancel()
	err := backend.ContextError(late)
	for _, want := range []error{backend.ErrUnavailable, context.DeadlineExceeded, reason} {
		assert.ErrorIs(t, err, want)
	}

	cancelled, leave := context.WithCancelCause(t.Context())
	leave(errors.Join(reason, context.DeadlineExceeded))
	err = backend.ContextError(cancelled)
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, reason)
	assert.NotErrorIs(t, err, backend.ErrUnavailable)

	plain, stop := context.WithCancel(t.Context())
	stop()
	assert.Equal(t, context.Canceled, backend.ContextError(plain), "the same is not said twice")
}
