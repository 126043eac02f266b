package backend_test

import (
	"context"
	"crypto"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// signWith returns the SignContext of a P-256 key over fn.
func signWith(t *testing.T, cfg backend.HandleConfig, fn backend.SignFunc) func(context.Context) ([]byte, error) {
	t.Helper()
	cfg.ID, cfg.Public = "k", newSigner(t, "ecdsa").Public()
	cfg.Capabilities = backend.Capabilities{Usages: backend.UsageSign, Signatures: []backend.SignatureAlgorithm{ecdsaSHA256}}
	ops := backend.NewHandle(cfg).Signing(fn)
	return func(ctx context.Context) ([]byte, error) {
		return ops.SignContext(ctx, make([]byte, 32), crypto.SHA256)
	}
}

var modes = map[string]backend.CallMode{"context": backend.CallContext, "detached": backend.CallDetached, "local": backend.CallLocal, "managed": backend.CallManaged}

func TestEndedContextIsNeverACall(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	cause := errors.New("the user went away")
	caused, cancelCause := context.WithCancelCause(t.Context())
	cancelCause(cause)
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			sign := signWith(t, backend.HandleConfig{Mode: mode}, func(context.Context, backend.SignRequest) ([]byte, error) {
				t.Error("the driver was called")
				return nil, nil
			})
			_, err := sign(cancelled)
			assert.ErrorIs(t, err, context.Canceled)
			_, err = sign(expired)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			_, err = sign(caused)
			assert.ErrorIs(t, err, context.Canceled)
			assert.ErrorIs(t, err, cause)
		})
	}
}

// TestCallTimeout checks that a call without a deadline gets one and that a driver which ignores it doesn't hold its
// caller.
func TestCallTimeout(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	drivers := map[string]struct {
		mode backend.CallMode
		fn   backend.SignFunc
	}{
		"obeys": {backend.CallContext, func(ctx context.Context, _ backend.SignRequest) ([]byte, error) {
			<-ctx.Done()
			return nil, errors.New("service said: late")
		}},
		"hangs": {backend.CallDetached, func(context.Context, backend.SignRequest) ([]byte, error) {
			<-release
			return nil, nil
		}},
	}
	for name, driver := range drivers {
		t.Run(name, func(t *testing.T) {
			sign := signWith(t, backend.HandleConfig{Mode: driver.mode, Timeout: time.Millisecond}, driver.fn)
			within(t, "a call past its timeout", func() {
				_, err := sign(t.Context())
				assert.ErrorIs(t, err, backend.ErrUnavailable)
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.ErrorContains(t, err, "call timeout of 1ms")
				if driver.mode == backend.CallContext {
					assert.ErrorContains(t, err, "service said: late", "the driver's error is kept")
				}
			})
			sign = signWith(t, backend.HandleConfig{Mode: driver.mode, Timeout: time.Hour}, driver.fn)
			within(t, "a call past the caller's deadline", func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				_, err := sign(ctx)
				assert.ErrorIs(t, err, backend.ErrUnavailable)
				assert.ErrorContains(t, err, "caller's deadline")
			})
		})
	}
}

func TestTimeoutReachesTheDriver(t *testing.T) {
	var got time.Time
	var has bool
	look := func(ctx context.Context, _ backend.SignRequest) ([]byte, error) {
		got, has = ctx.Deadline()
		return nil, nil
	}
	_, err := signWith(t, backend.HandleConfig{}, look)(t.Context())
	require.NoError(t, err)
	assert.True(t, has)
	assert.WithinDuration(t, time.Now().Add(backend.DefaultCallTimeout), got, 10*time.Second)

	want := time.Now().Add(time.Hour)
	ctx, cancel := context.WithDeadline(t.Context(), want)
	defer cancel()
	_, err = signWith(t, backend.HandleConfig{Timeout: time.Minute}, look)(ctx)
	require.NoError(t, err)
	assert.Equal(t, want, got, "the caller's own deadline stands")

	_, err = signWith(t, backend.HandleConfig{Mode: backend.CallLocal}, look)(context.Background())
	require.NoError(t, err)
	assert.False(t, has, "local keys need none")
}

func TestPanicIsAnError(t *testing.T) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			var gate backend.Gate
			sign := signWith(t, backend.HandleConfig{Mode: mode, Gate: &gate}, func(context.Context, backend.SignRequest) ([]byte, error) {
				panic("index out of range in an SDK")
			})
			within(t, "a driver's panic", func() {
				_, err := sign(t.Context())
				assert.ErrorIs(t, err, backend.ErrUnavailable)
				assert.ErrorContains(t, err, "index out of range in an SDK")
			})
			assert.Zero(t, gate.Close(time.Minute), "the call was counted out")
		})
	}
}

func TestCloseWaitsForCalls(t *testing.T) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			var gate backend.Gate
			entered, release := make(chan struct{}), make(chan struct{})
			sign := signWith(t, backend.HandleConfig{Mode: mode, Gate: &gate}, func(context.Context, backend.SignRequest) ([]byte, error) {
				close(entered)
				<-release
				return []byte("sig"), nil
			})
			result := make(chan error, 1)
			go func() {
				_, err := sign(t.Context())
				result <- err
			}()
			<-entered
			assert.Equal(t, 1, gate.Close(0), "one call is still out")
			assert.True(t, gate.Closed())
			_, err := sign(t.Context())
			assert.ErrorIs(t, err, backend.ErrClosed)
			assert.ErrorIs(t, err, backend.ErrUnavailable, "ErrClosed is a kind of it")

			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { assert.Zero(t, gate.Close(time.Minute)) })
			}
			close(release)
			within(t, "Close", wg.Wait)
			assert.NoError(t, <-result, "a call in flight ends well")
		})
	}
}

// TestAbandonedCallStaysCounted checks that Close learns of a C call that nobody waits for any more.
func TestAbandonedCallStaysCounted(t *testing.T) {
	var gate backend.Gate
	entered, release := make(chan struct{}), make(chan struct{})
	sign := signWith(t, backend.HandleConfig{Mode: backend.CallDetached, Gate: &gate}, func(context.Context, backend.SignRequest) ([]byte, error) {
		close(entered)
		<-release
		return nil, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	_, err := sign(ctx)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 1, gate.Close(0))
	close(release)
	assert.Zero(t, gate.Close(time.Minute))
}
