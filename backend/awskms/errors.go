package awskms

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// meaning is what an error code of the service stands for.
type meaning struct {
	sentinel error
	kind     remote.Kind
}

// meanings are the error codes of KMS and those that all services have.
//
// https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html
var meanings = map[string]meaning{
	"NotFoundException": {backend.ErrKeyNotFound, remote.Final},

	"AlreadyExistsException": {backend.ErrKeyExists, remote.Final},

	"DisabledException":        {backend.ErrKeyDisabled, remote.Final},
	"KMSInvalidStateException": {backend.ErrKeyDisabled, remote.Final},

	"AccessDeniedException": {backend.ErrNotPermitted, remote.Final},
	"AccessDenied":          {backend.ErrNotPermitted, remote.Final},

	"InvalidKeyUsageException":      {backend.ErrUnsupported, remote.Final},
	"UnsupportedOperationException": {backend.ErrUnsupported, remote.Final},
	"UnknownOperationException":     {backend.ErrUnsupported, remote.Final},
	"InvalidAction":                 {backend.ErrUnsupported, remote.Final},

	"ValidationException":              {backend.ErrInvalidParams, remote.Final},
	"ValidationError":                  {backend.ErrInvalidParams, remote.Final},
	"SerializationException":           {backend.ErrInvalidParams, remote.Final},
	"InvalidArnException":              {backend.ErrInvalidParams, remote.Final},
	"InvalidAliasNameException":        {backend.ErrInvalidParams, remote.Final},
	"InvalidMarkerException":           {backend.ErrInvalidParams, remote.Final},
	"InvalidGrantTokenException":       {backend.ErrInvalidParams, remote.Final},
	"TagException":                     {backend.ErrInvalidParams, remote.Final},
	"MalformedPolicyDocumentException": {backend.ErrInvalidParams, remote.Final},
	"IncorrectKeyMaterialException":    {backend.ErrInvalidParams, remote.Final},

	"InvalidCiphertextException": {backend.ErrDecryption, remote.Final},
	"IncorrectKeyException":      {backend.ErrDecryption, remote.Final},

	"UnrecognizedClientException":         {backend.ErrCredentials, remote.Final},
	"InvalidClientTokenId":                {backend.ErrCredentials, remote.Final},
	"InvalidSignatureException":           {backend.ErrCredentials, remote.Final},
	"SignatureDoesNotMatch":               {backend.ErrCredentials, remote.Final},
	"IncompleteSignature":                 {backend.ErrCredentials, remote.Final},
	"IncompleteSignatureException":        {backend.ErrCredentials, remote.Final},
	"MissingAuthenticationToken":          {backend.ErrCredentials, remote.Final},
	"MissingAuthenticationTokenException": {backend.ErrCredentials, remote.Final},
	"ExpiredToken":                        {backend.ErrCredentials, remote.Final},
	"ExpiredTokenException":               {backend.ErrCredentials, remote.Final},
	"RequestExpired":                      {backend.ErrCredentials, remote.Final},
	"RequestTimeTooSkewed":                {backend.ErrCredentials, remote.Final},
	"NotAuthorized":                       {backend.ErrCredentials, remote.Final},
	"OptInRequired":                       {backend.ErrCredentials, remote.Final},

	"ThrottlingException":      {backend.ErrThrottled, remote.Throttled},
	"Throttling":               {backend.ErrThrottled, remote.Throttled},
	"TooManyRequestsException": {backend.ErrThrottled, remote.Throttled},
	"RequestLimitExceeded":     {backend.ErrThrottled, remote.Throttled},
	// KMS has it for quotas of resources, such as keys of an account, which waiting doesn't help against.
	"LimitExceededException": {backend.ErrThrottled, remote.Final},

	"KMSInternalException":       {backend.ErrUnavailable, remote.Transient},
	"InternalFailure":            {backend.ErrUnavailable, remote.Transient},
	"ServiceUnavailable":         {backend.ErrUnavailable, remote.Transient},
	"DependencyTimeoutException": {backend.ErrUnavailable, remote.Transient},
	"KeyUnavailableException":    {backend.ErrUnavailable, remote.Transient},
	"ConflictException":          {backend.ErrUnavailable, remote.Transient},
}

// credentialsError is that no credentials could be had.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// taggedCredentials marks the errors of a provider, which the SDK's own errors don't tell from others.
type taggedCredentials struct{ aws.CredentialsProvider }

// Retrieve implements aws.CredentialsProvider.
func (t taggedCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := t.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return c, &credentialsError{err}
	}
	return c, nil
}

// code returns the service's error code in err's chain, or "".
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// classify returns what err, of a call of the SDK, means.
func classify(err error) remote.Verdict {
	verdict := func(m meaning) remote.Verdict {
		return remote.Verdict{Err: fmt.Errorf("%w: %w", m.sentinel, err), Kind: m.kind, After: retryAfter(err)}
	}
	var credentials *credentialsError
	switch {
	case errors.Is(err, backend.ErrIntegrity):
		return remote.Verdict{Err: err, Kind: remote.Damaged}
	case errors.As(err, &credentials) && identityDown(credentials.err):
		return verdict(meaning{backend.ErrUnavailable, remote.Transient})
	case errors.As(err, &credentials):
		return verdict(meaning{backend.ErrCredentials, remote.Final})
	}
	if m, known := meanings[code(err)]; known {
		return verdict(m)
	}
	var response *smithyhttp.ResponseError
	var undecoded *smithy.DeserializationError
	switch {
	case errors.As(err, &response) && response.HTTPStatusCode() != 0:
		return verdict(byStatus(response.HTTPStatusCode()))
	case errors.As(err, &undecoded):
		return verdict(meaning{backend.ErrIntegrity, remote.Damaged})
	case unreached(err):
		return verdict(meaning{backend.ErrUnavailable, remote.Unreached})
	case !sent(err):
		return verdict(meaning{backend.ErrInvalidParams, remote.Final})
	}
	return verdict(meaning{backend.ErrUnavailable, remote.Transient})
}

// identityDown reports whether credentials can't be had because the service that gives them out is away: Security Token Service
// and its like. That there is no metadata service means that the program is on no instance.
func identityDown(err error) bool {
	var op *smithy.OperationError
	if !errors.As(err, &op) || op.ServiceID == "ec2imds" {
		return false
	}
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.HTTPStatusCode() != 0 {
		return byStatus(response.HTTPStatusCode()).kind != remote.Final
	}
	return sent(err)
}

// byStatus is for answers whose error code is unknown or missing, as that of a proxy.
func byStatus(status int) meaning {
	switch {
	case status < 300:
		return meaning{backend.ErrIntegrity, remote.Damaged}
	case status == http.StatusTooManyRequests:
		return meaning{backend.ErrThrottled, remote.Throttled}
	case status >= 500 || status == http.StatusRequestTimeout:
		return meaning{backend.ErrUnavailable, remote.Transient}
	}
	return meaning{backend.ErrUnavailable, remote.Final}
}

// unreached reports whether no connection was made.
func unreached(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &dns) || errors.As(err, &certificate)
}

// sent reports whether the SDK came to send the request. If it didn't, and could have made a connection, then it refuses what
// it was given: settings that contradict each other, such as FIPS with an endpoint of one's own, have no type.
func sent(err error) bool {
	var send *smithyhttp.RequestSendError
	var network net.Error
	return errors.As(err, &send) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// retryAfter returns how long the answer asks to wait, which load balancers do (RFC 9110, Section 10.2.3).
func retryAfter(err error) time.Duration {
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) || response.Response == nil || response.Response.Response == nil {
		return 0
	}
	seconds, err := strconv.Atoi(response.Response.Header.Get("Retry-After"))
	if err != nil || seconds < 0 || seconds > 3600 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// stale reports whether err may be cured by other credentials than those that are cached, or by the clock's correction, which
// the SDK takes from every answer.
func stale(err error) bool {
	switch code(err) {
	case "ExpiredToken", "ExpiredTokenException", "RequestExpired", "RequestTimeTooSkewed", "UnrecognizedClientException",
		"InvalidClientTokenId", "InvalidSignatureException":
		return true
	}
	return false
}

// damaged returns the error for an answer that is not one to what was asked.
func damaged(format string, args ...any) error {
	return fmt.Errorf("the answer %s: %w", fmt.Sprintf(format, args...), backend.ErrIntegrity)
}
