package gcpckms

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// maxMessage is how much of a message of the service stands in an error, in bytes.
const maxMessage = 500

// serviceError is the error of a call, in one line. It unwraps to the SDK's.
type serviceError struct {
	code    codes.Code
	reason  string        // of ErrorInfo: which of the causes that share a code
	request string        // the id of the request, if the service gave it one
	message string        // for people
	after   time.Duration // of RetryInfo
	err     error
}

// Error returns the service's code, reason, request id and message.
func (e *serviceError) Error() string {
	var b strings.Builder
	b.WriteString(code.Code(e.code).String())
	for _, part := range []struct{ name, value string }{{"reason ", e.reason}, {"request id ", e.request}} {
		if part.value != "" {
			b.WriteString(", " + part.name + part.value)
		}
	}
	return b.String() + ": " + e.message
}

func (e *serviceError) Unwrap() error { return e.err }

// read takes an error of the SDK apart; nil if it is not one of a call.
func read(err error) *serviceError {
	st, ok := status.FromError(err)
	if !ok || err == nil {
		return nil
	}
	e := &serviceError{code: st.Code(), message: line(st.Message()), err: err}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			e.reason = line(d.Reason)
		case *errdetails.RequestInfo:
			e.request = line(d.RequestId)
		case *errdetails.RetryInfo:
			e.after = d.GetRetryDelay().AsDuration()
		}
	}
	return e
}

// line returns text as a short line of characters that can be seen.
func line(text string) string {
	if len(text) > maxMessage {
		text = text[:maxMessage] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

// checksum reports whether the service found that a request was damaged. It has no code of its own for that: it answers with
// INVALID_ARGUMENT and names the field that ends in _crc32c.
func (e *serviceError) checksum() bool {
	return e.code == codes.InvalidArgument && strings.Contains(e.message, "_crc32c")
}

// unreached is an error of a call for which there was no connection.
type unreached struct{ error }

func (u unreached) Unwrap() error { return u.error }

// external is an error of a call about a key that is kept outside of Google.
type external struct{ error }

func (e external) Unwrap() error { return e.error }

// classify says what an error of a call means, for package remote.
func classify(err error) remote.Verdict {
	switch {
	case errors.Is(err, backend.ErrIntegrity):
		return remote.Verdict{Err: err, Kind: remote.Damaged}
	case errors.Is(err, backend.ErrDecryption), errors.Is(err, backend.ErrUnsupported), errors.Is(err, backend.ErrKeyDisabled):
		return remote.Verdict{Err: err} // judged already
	}
	e := read(err)
	if e == nil {
		return remote.Verdict{Err: fmt.Errorf("%w: %w", backend.ErrUnavailable, err), Kind: remote.Transient}
	}
	kind, sentinel := e.verdict()
	if as := (unreached{}); errors.As(err, &as) {
		kind = remote.Unreached
	}
	// The service reports trouble with the key manager outside of Google as a failed precondition too.
	if as := (external{}); errors.As(err, &as) && e.code == codes.FailedPrecondition {
		sentinel = backend.ErrUnavailable
	}
	return remote.Verdict{Err: fmt.Errorf("%w: %w", sentinel, e), Kind: kind, After: e.after}
}

// verdict returns the sentinel that an error stands for, and what can be done about it.
func (e *serviceError) verdict() (remote.Kind, error) {
	switch e.code {
	case codes.NotFound:
		return remote.Final, backend.ErrKeyNotFound
	case codes.AlreadyExists:
		return remote.Final, backend.ErrKeyExists
	case codes.PermissionDenied:
		if e.reason == "ACCESS_TOKEN_SCOPE_INSUFFICIENT" {
			return remote.Final, backend.ErrCredentials
		}
		return remote.Final, backend.ErrNotPermitted
	case codes.Unauthenticated:
		return remote.Final, backend.ErrCredentials
	case codes.FailedPrecondition:
		return remote.Final, backend.ErrKeyDisabled
	case codes.ResourceExhausted:
		return remote.Throttled, backend.ErrThrottled
	case codes.InvalidArgument, codes.OutOfRange:
		if e.checksum() {
			return remote.Damaged, backend.ErrIntegrity
		}
		return remote.Final, backend.ErrInvalidParams
	case codes.Unimplemented:
		return remote.Final, backend.ErrUnsupported
	case codes.DataLoss:
		return remote.Damaged, backend.ErrIntegrity
	}
	// UNAVAILABLE, DEADLINE_EXCEEDED, INTERNAL, ABORTED, UNKNOWN, CANCELLED: the service or the way to it.
	return remote.Transient, backend.ErrUnavailable
}

// codeOf returns the service's code of an error, or codes.Unknown.
func codeOf(err error) codes.Code {
	var e *serviceError
	if errors.As(err, &e) {
		return e.code
	}
	return codes.Unknown
}
