package remote

import "time"

// Kind says what can be done about an error.
type Kind uint8

// The kinds.
const (
	// Final: the service works, and would give the same answer again.
	Final Kind = iota

	// Transient: the service, or the way to it, failed, and may have done what it was asked to. It is tried again unless
	// the call is one that must happen once, and counts for the breaker.
	Transient

	// Unreached: the service can't have seen the request, because no connection could be made. It is tried again, and
	// counts for the breaker.
	Unreached

	// Throttled: the service refused the request because of a rate, and did nothing. It is tried again, and the connection
	// slows down.
	Throttled

	// Damaged: the answer is not the service's, or not to this request. It is tried again as Transient is.
	Damaged
)

// Verdict is what a driver makes of the error of one attempt.
type Verdict struct {
	// Err is what the caller gets: it wraps a sentinel of package backend and the service's own error, and has the
	// service's code and request id in its text.
	Err error

	Kind Kind

	// After is how long the service asks to wait (Retry-After, RFC 9110, Section 10.2.3); 0 if it doesn't say.
	After time.Duration
}
