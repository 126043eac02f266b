package azurekeyvault

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// callError is the error of one request, with the answer if there was one.
type callError struct {
	err  error
	resp *http.Response
}

func (e *callError) Error() string { return e.err.Error() }
func (e *callError) Unwrap() error { return e.err }

// serviceError is an error in this package's words: one line, where the SDK's have many.
type serviceError struct {
	sentinel error
	text     string
	cause    error  // the SDK's
	inner    string // the service's more exact code, if it gave one
}

func (e *serviceError) Error() string   { return fmt.Sprintf("%v: %s", e.sentinel, e.text) }
func (e *serviceError) Unwrap() []error { return []error{e.sentinel, e.cause} }

// firewall reports whether the vault refused the network that the request came from.
func (e *serviceError) firewall() bool {
	return e.inner == "ForbiddenByFirewall" || e.inner == "ForbiddenByConnection"
}

// integrity returns an error for an answer that can't be trusted.
func integrity(format string, args ...any) error {
	return fmt.Errorf("%w: %s", backend.ErrIntegrity, fmt.Sprintf(format, args...))
}

// classify says what the error of one attempt means.
func classify(err error) remote.Verdict {
	var response *azcore.ResponseError
	var challenge *challengeError
	var foreign *foreignHostError
	switch {
	case errors.As(err, &response):
		return classifyResponse(response)
	case errors.Is(err, backend.ErrUnsupported): // the key in a sound answer is of a kind that this library doesn't know
		return remote.Verdict{Err: err}
	case errors.Is(err, backend.ErrIntegrity):
		return remote.Verdict{Err: withRequestID(err), Kind: remote.Damaged}
	case errors.As(err, &challenge), errors.As(err, &foreign):
		return remote.Verdict{Err: fmt.Errorf("%w: %w", backend.ErrIntegrity, err), Kind: remote.Damaged}
	}
	var token *tokenError
	if errors.As(err, &token) {
		return classifyToken(token)
	}
	var call *callError
	if errors.As(err, &call) && call.resp != nil && call.resp.StatusCode == http.StatusOK {
		// The service did what it was asked to, and what came of it can't be read.
		return remote.Verdict{Err: withRequestID(fmt.Errorf("%w: %w", backend.ErrIntegrity, err)), Kind: remote.Damaged}
	}
	var final interface{ NonRetriable() }
	if errors.As(err, &final) && call != nil && call.resp != nil && call.resp.StatusCode == http.StatusUnauthorized {
		// The SDK refuses to answer the challenge: it names no resource, or one that is not the vault's.
		return remote.Verdict{Err: fmt.Errorf("%w: %w", backend.ErrCredentials, err)}
	}
	return classifyNetwork(err)
}

// withRequestID adds the id of the request whose answer err is about.
func withRequestID(err error) error {
	var call *callError
	if errors.As(err, &call) && call.resp != nil {
		return fmt.Errorf("%w (request id %s)", err, requestID(call.resp))
	}
	return err
}

func requestID(resp *http.Response) string {
	if id := resp.Header.Get("x-ms-request-id"); id != "" && len(id) <= 100 {
		return id
	}
	return "unknown"
}

// problem is the body of an error: https://learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses.
type problem struct {
	Error struct {
		Code       string `json:"code"`
		Message    string `json:"message"`
		InnerError struct {
			Code string `json:"code"`
		} `json:"innererror"`
	} `json:"error"`
}

// codes returns the service's code and the more exact one, if there is one, and its message.
func codes(err *azcore.ResponseError) (code, inner, message string) {
	code = err.ErrorCode
	if err.RawResponse == nil {
		return code, "", ""
	}
	// The SDK has read the body already and keeps it.
	body, readErr := runtime.Payload(err.RawResponse)
	var p problem
	if readErr != nil || json.Unmarshal(body, &p) != nil {
		return code, "", ""
	}
	if p.Error.Code != "" {
		code = p.Error.Code
	}
	return code, p.Error.InnerError.Code, p.Error.Message
}

func classifyResponse(err *azcore.ResponseError) remote.Verdict {
	code, inner, message := codes(err)
	v := remote.Verdict{Kind: remote.Final, After: retryAfter(err.RawResponse, time.Now())}
	sentinel := backend.ErrUnavailable
	switch err.StatusCode {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge:
		sentinel = backend.ErrInvalidParams
	case http.StatusUnauthorized:
		sentinel = backend.ErrCredentials
	case http.StatusForbidden:
		sentinel = forbidden(inner)
	case http.StatusNotFound:
		if code == "KeyNotFound" || code == "" {
			sentinel = backend.ErrKeyNotFound
		}
	case http.StatusConflict:
		v.Kind, sentinel = conflict(inner)
	case http.StatusTooManyRequests:
		sentinel, v.Kind = backend.ErrThrottled, remote.Throttled
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		v.Kind = remote.Transient
	}
	text := fmt.Sprintf("%d %s", err.StatusCode, http.StatusText(err.StatusCode))
	for _, c := range []string{code, inner} {
		if c != "" {
			text += fmt.Sprintf(", %.80s", c)
		}
	}
	if message != "" {
		text += fmt.Sprintf(": %.300s", strings.Join(strings.Fields(message), " "))
	}
	id := "unknown"
	if err.RawResponse != nil {
		id = requestID(err.RawResponse)
	}
	v.Err = &serviceError{sentinel, text + " (request id " + id + ")", err, inner}
	return v
}

// forbidden returns the sentinel for the inner code of a 403.
func forbidden(inner string) error {
	switch inner {
	case "KeyDisabled", "KeyExpired", "KeyNotYetValid":
		return backend.ErrKeyDisabled
	}
	return backend.ErrNotPermitted
}

// conflict returns what the inner code of a 409 means.
func conflict(inner string) (remote.Kind, error) {
	switch inner {
	case "ObjectIsDeletedButRecoverable":
		return remote.Final, backend.ErrKeyExists
	case "ObjectIsBeingDeleted", "ObjectIsBeingRecovered":
		return remote.Final, backend.ErrUnavailable
	}
	return remote.Transient, backend.ErrUnavailable
}

// retryAfter returns how long an answer asks to wait: Retry-After in seconds or as a date (RFC 9110, Section 10.2.3), or
// Azure's own header in milliseconds.
func retryAfter(resp *http.Response, now time.Time) time.Duration {
	if resp == nil {
		return 0
	}
	for _, name := range []string{"retry-after-ms", "x-ms-retry-after-ms"} {
		if n, err := strconv.ParseInt(resp.Header.Get(name), 10, 32); err == nil && n > 0 {
			return time.Duration(n) * time.Millisecond
		}
	}
	text := resp.Header.Get("Retry-After")
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		return max(time.Duration(n)*time.Second, 0)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// classifyToken judges an error of getting a token.
func classifyToken(err *tokenError) remote.Verdict {
	var failed *azidentity.AuthenticationFailedError
	if errors.As(err.cause, &failed) && failed.RawResponse != nil {
		v := remote.Verdict{Kind: remote.Final, After: retryAfter(failed.RawResponse, time.Now())}
		sentinel := backend.ErrCredentials
		switch status := failed.RawResponse.StatusCode; {
		case status == http.StatusTooManyRequests:
			sentinel, v.Kind = backend.ErrThrottled, remote.Throttled
		case status >= 500:
			sentinel, v.Kind = backend.ErrUnavailable, remote.Transient
		}
		v.Err = &serviceError{sentinel, "no token: " + oneLine(err.cause), err.cause, ""}
		return v
	}
	// The SDK keeps only the text of why there was no answer.
	network := err.network
	if network == nil {
		if e := net.Error(nil); errors.As(err.cause, &e) {
			network = e
		}
	}
	if network != nil {
		v := classifyNetwork(network)
		v.Err = &serviceError{backend.ErrUnavailable, "no token: " + oneLine(err.cause), errors.Join(err.cause, network), ""}
		return v
	}
	return remote.Verdict{Err: &serviceError{backend.ErrCredentials, "no token: " + oneLine(err.cause), err.cause, ""}}
}

// oneLine returns the text of an error of the SDK in one line, and not all of a long one.
func oneLine(err error) string {
	text := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == ' ' || r == '\t' }), " ")
	return fmt.Sprintf("%.600s", strings.ReplaceAll(text, strings.Repeat("-", 80)+" ", ""))
}

// classifyNetwork judges an error without an answer.
func classifyNetwork(err error) remote.Verdict {
	v := remote.Verdict{Err: fmt.Errorf("%w: %w", backend.ErrUnavailable, err), Kind: remote.Transient}
	var certificate *tls.CertificateVerificationError
	var dial *net.OpError
	switch {
	case errors.As(err, &certificate):
		v.Kind = remote.Final
	case errors.As(err, &dial) && dial.Op == "dial":
		v.Kind = remote.Unreached
	}
	return v
}
