package transitmatrix

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/fakecloud"
	"github.com/managedkeys/managedkeys/internal/faultp11"
	"github.com/managedkeys/managedkeys/transit"
)

// slow is a key manager that signs a few times, and then for a long time not at all.
type slow struct {
	*place
	signer string

	// How many items of a batch reach the key manager together: a token that computes on this machine's processors gets fewer.
	parallel int

	hang   func(after int) // has calls to sign hang after so many
	signed func() int      // calls to sign so far
	heal   func()
}

// inCloud is slow for a fake.
func inCloud(p *place, signer, op string, script *fakecloud.Script, log *fakecloud.Log) slow {
	return slow{p, signer, 4,
		func(after int) { script.Add(fakecloud.Fault{Op: op, Skip: after, Times: -1, Delay: time.Hour}) },
		func() int { return log.Count(op) }, script.Clear}
}

func slows(t *testing.T) []slow {
	cloud, awsFake := awsWith(t, only(awsRequests(t), "p256"))
	azure, azureFake := azureWith(t, "managedhsm", only(hsmRequests(), "p256"))
	goog, googFake := googleWith(t, only(googleRequests(t), "ec_sign_p256_sha256"))
	hsm, shim := tokenWith(t, "p256")
	return []slow{
		inCloud(cloud, "p256", "Sign", &awsFake.Script, &awsFake.Log),
		inCloud(azure, "p256", "sign", &azureFake.Script, &azureFake.Log),
		inCloud(goog, "ec_sign_p256_sha256", "AsymmetricSign", &googFake.Script, &googFake.Log),
		{hsm, "p256", 1, func(after int) { shim.Set(faultp11.Rule{Function: "C_Sign", Skip: after, Hang: true}) },
			func() int { return shim.Count("C_Sign") }, func() { shim.Set() }},
	}
}

// deadline is a context whose deadline passes when it is told to.
type deadline struct {
	context.Context
	passed chan struct{}
}

func (d *deadline) Done() <-chan struct{} { return d.passed }

func (d *deadline) Err() error {
	select {
	case <-d.passed:
		return context.DeadlineExceeded
	default:
		return d.Context.Err()
	}
}

// TestBatchDeadline: when the deadline of a batch passes, it returns: what was done is there, in its place; each item in flight and each
// that was not begun has an error of its own; and the key goes on afterwards. That nothing is left running TestMain sees.
func TestBatchDeadline(t *testing.T) {
	const before = 8 // items that are signed
	for _, s := range slows(t) {
		t.Run(s.name, func(t *testing.T) {
			parallel := s.parallel
			e := transit.New(s.mount, &transit.Options{BatchParallel: parallel})
			require.NoError(t, e.CreateKey(t.Context(), "k", transit.KeyOptions{ManagedKey: s.signer}))
			requests := make([]transit.SignRequest, items)
			for i := range requests {
				requests[i] = transit.SignRequest{Input: fmt.Append(nil, "item ", i), Reference: fmt.Sprint(i)}
			}
			s.begin()
			s.hang(before)
			ctx := &deadline{t.Context(), make(chan struct{})}
			go func() {
				defer close(ctx.passed)
				for end := time.Now().Add(time.Minute); s.signed() < before+parallel && time.Now().Before(end); {
					time.Sleep(time.Millisecond)
				}
			}()
			results, err := e.SignBatch(ctx, "k", requests)
			require.NoError(t, err)
			assert.Equal(t, before+parallel, s.signed(), "calls")
			s.heal()
			require.Len(t, results, items)
			done, inFlight := 0, 0
			for i, r := range results {
				assert.Equal(t, fmt.Sprint(i), r.Reference)
				switch begun := i < before+parallel; {
				case begun && r.Err == nil:
					done++
					ok, err := e.Verify(t.Context(), "k", r.Value, requests[i])
					assert.True(t, ok && err == nil, "item %d has the signature of another one: %v", i, err)
				case begun:
					inFlight++
					checkLate(t, r, `transit: sign with key "k" version 1: `)
				default:
					checkLate(t, r, fmt.Sprintf("transit: item %d was not begun: ", i))
				}
			}
			assert.Equal(t, before, done, "items done")
			assert.Equal(t, parallel, inFlight, "items in flight")

			again, err := e.SignBatch(t.Context(), "k", requests[:parallel])
			require.NoError(t, err)
			for i, r := range again {
				assert.NoError(t, r.Err, "item %d, afterwards", i)
			}
		})
	}
}

func checkLate(t *testing.T, r transit.Result[string], begins string) {
	t.Helper()
	if !errors.Is(r.Err, context.DeadlineExceeded) || !strings.HasPrefix(r.Err.Error(), begins) || r.Value != "" || r.KeyVersion != 0 {
		t.Errorf("item %s: got %+v; want an error that begins with %q and wraps the deadline's", r.Reference, r, begins)
	}
}

// TestBatchTimeout: a deadline of the clock that passes while nothing answers at all.
func TestBatchTimeout(t *testing.T) {
	for _, s := range slows(t) {
		t.Run(s.name, func(t *testing.T) {
			s.hang(0)
			defer s.heal()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			began := time.Now()
			results, err := s.engine.SignBatch(ctx, s.signer, make([]transit.SignRequest, items))
			require.NoError(t, err)
			assert.Less(t, time.Since(began), 20*time.Second, "the calls hang for an hour")
			for i, r := range results {
				assert.ErrorIs(t, r.Err, context.DeadlineExceeded, "item %d", i)
			}
		})
	}
}
