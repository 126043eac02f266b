package remote

import (
	"fmt"
	"math"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// Defaults of [Options].
const (
	DefaultAttemptTimeout = 10 * time.Second
	DefaultMaxAttempts    = 4
	DefaultRetryBudget    = 0.2
	DefaultMaxInFlight    = 256
)

// Options say how a backend deals with its service. The zero value is fine, and so is nil.
type Options struct {
	// CallTimeout bounds an operation whose context has no deadline, with all its attempts and the waits between them;
	// backend.DefaultCallTimeout if 0.
	CallTimeout time.Duration

	// AttemptTimeout bounds one request; DefaultAttemptTimeout if 0.
	AttemptTimeout time.Duration

	// MaxAttempts is how often an operation is tried, the first time included; DefaultMaxAttempts if 0. 1 means no
	// retries.
	MaxAttempts int

	// RetryBudget is the share of the requests in flight that may be retries after a failure of the service, above 0 and at
	// most 1; DefaultRetryBudget if 0. Three retries may always be in flight. Requests that were throttled are not counted:
	// these are paced.
	RetryBudget float64

	// ConnectionRate bounds the requests of all keys that share a connection, KeyRate those of each key. Callers that have
	// to wait for their turn leave as soon as their context ends, and at once if their turn comes after its deadline.
	ConnectionRate, KeyRate Rate

	// MaxInFlight bounds the requests of a connection that run at once; DefaultMaxInFlight if 0. Thousands at once would
	// each take a connection over the network, and then fail together.
	MaxInFlight int

	// TrustSignatures switches off that each signature is verified with the pinned public key before it leaves.
	TrustSignatures bool
}

// Rate is the size of a token bucket. The zero value is no limit.
type Rate struct {
	PerSecond float64 // requests per second; 0 means that there is no limit
	Burst     int     // requests that may be made at once after a pause; a tenth of PerSecond, and at least 1, if 0
}

// WithDefaults returns a copy of o, which may be nil, in which nothing is left out, or an error that wraps
// backend.ErrInvalidParams and names the field that no sense can be made of.
func (o *Options) WithDefaults() (Options, error) {
	if o == nil {
		o = new(Options)
	}
	out := *o
	setDefault(&out.CallTimeout, backend.DefaultCallTimeout)
	setDefault(&out.AttemptTimeout, DefaultAttemptTimeout)
	setDefault(&out.MaxAttempts, DefaultMaxAttempts)
	setDefault(&out.RetryBudget, DefaultRetryBudget)
	setDefault(&out.MaxInFlight, DefaultMaxInFlight)
	for _, check := range []struct {
		field string
		good  bool
		got   any
		takes string
	}{
		{"CallTimeout", out.CallTimeout > 0, out.CallTimeout, "a duration above 0"},
		{"AttemptTimeout", out.AttemptTimeout > 0, out.AttemptTimeout, "a duration above 0"},
		{"MaxAttempts", out.MaxAttempts > 0, out.MaxAttempts, "a number above 0"},
		{"RetryBudget", out.RetryBudget > 0 && out.RetryBudget <= 1, out.RetryBudget, "a share above 0 and at most 1"},
		{"ConnectionRate", out.ConnectionRate.valid(), out.ConnectionRate, "numbers that are not negative"},
		{"KeyRate", out.KeyRate.valid(), out.KeyRate, "numbers that are not negative"},
		{"MaxInFlight", out.MaxInFlight > 0, out.MaxInFlight, "a number above 0"},
	} {
		if !check.good {
			return Options{}, fmt.Errorf("remote: %s: got %v; it takes %s: %w", check.field, check.got, check.takes, backend.ErrInvalidParams)
		}
	}
	return out, nil
}

func setDefault[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}

func (r Rate) valid() bool {
	return r.PerSecond >= 0 && !math.IsInf(r.PerSecond, 1) && r.Burst >= 0
}

// burst returns the burst that r means.
func (r Rate) burst() int {
	if r.Burst > 0 {
		return r.Burst
	}
	return burstOf(r.PerSecond)
}

// burstOf returns a tenth of a rate, and at least 1.
func burstOf(perSecond float64) int {
	return int(min(max(perSecond/10, 1), math.MaxInt32))
}
