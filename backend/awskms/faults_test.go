package awskms

import (
	"context"
	"crypto"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// signerOf returns a fake, a backend of it and an open P-256 key.
func signerOf(t *testing.T, opts *Options) (*fakeaws.Server, *Backend, backend.MessageSigner) {
	t.Helper()
	srv := serve(t, nil)
	b := connect(t, opts)
	arn := add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify, Alias: "alias/p256"})
	return srv, b, open[backend.MessageSigner](t, b, at(srv, Params{KMSKey: arn}))
}

func signOnce(ctx context.Context, k backend.Signer) ([]byte, error) {
	return k.SignContext(ctx, make([]byte, 32), crypto.SHA256)
}

// TestErrorCodes: each error of the service is the right sentinel, is repeated or not, and its code and the request's id are in
// the text and the SDK's error in the chain, whether the service has done what it was asked to or not.
func TestErrorCodes(t *testing.T) {
	srv, b, key := signerOf(t, &Options{Remote: quick})
	for code, test := range map[string]struct {
		status   int
		sentinel error
		attempts int
	}{
		"NotFoundException":                   {400, backend.ErrKeyNotFound, 1},
		"DisabledException":                   {400, backend.ErrKeyDisabled, 1},
		"KMSInvalidStateException":            {400, backend.ErrKeyDisabled, 1},
		"AccessDeniedException":               {400, backend.ErrNotPermitted, 1},
		"InvalidKeyUsageException":            {400, backend.ErrUnsupported, 1},
		"ValidationException":                 {400, backend.ErrInvalidParams, 1},
		"InvalidGrantTokenException":          {400, backend.ErrInvalidParams, 1},
		"MissingAuthenticationTokenException": {400, backend.ErrCredentials, 1},
		"IncompleteSignature":                 {400, backend.ErrCredentials, 1},
		"LimitExceededException":              {400, backend.ErrThrottled, 1},
		"ThrottlingException":                 {400, backend.ErrThrottled, 2},
		"TooManyRequestsException":            {429, backend.ErrThrottled, 2},
		"KMSInternalException":                {500, backend.ErrUnavailable, 2},
		"DependencyTimeoutException":          {503, backend.ErrUnavailable, 2},
		"KeyUnavailableException":             {500, backend.ErrUnavailable, 2},
		"SomethingNewException":               {500, backend.ErrUnavailable, 2},
		"AnotherNewException":                 {400, backend.ErrUnavailable, 1},
		"SomethingTooFastException":           {429, backend.ErrThrottled, 2},
	} {
		for _, after := range []bool{false, true} {
			srv.Script.Add(fakecloud.Fault{Op: "Sign", Times: -1, After: after, Error: &fakeaws.Error{Status: test.status, Code: code, Message: "as scripted"}})
			srv.Log.Clear()
			signature, err := signOnce(t.Context(), key)
			assert.Nil(t, signature, code)
			assert.ErrorIs(t, err, test.sentinel, code)
			var api smithy.APIError
			if assert.ErrorAs(t, err, &api) {
				assert.Equal(t, code, api.ErrorCode())
			}
			assert.ErrorContains(t, err, code)
			assert.ErrorContains(t, err, "as scripted")
			assert.ErrorContains(t, err, key.ID())
			requests := srv.Log.Requests("Sign")
			if assert.Len(t, requests, test.attempts, code) {
				assert.ErrorContains(t, err, requests[len(requests)-1].ID)
			}
			srv.Script.Clear()
			// So that one case doesn't open the breaker for the next.
			_, err = signOnce(t.Context(), key)
			require.NoError(t, err, code)
		}
	}
	assert.Positive(t, b.Retries())
	assert.Equal(t, b.Retries(), b.Load()[0].Retries)
}

// TestBrokenAnswers: connections that break and answers that are none are errors that say so, in both orders, and are tried
// again.
func TestBrokenAnswers(t *testing.T) {
	srv, _, key := signerOf(t, &Options{Remote: quick})
	for name, test := range map[string]struct {
		fault    fakecloud.Fault
		sentinel error
	}{
		"connection closed": {fakecloud.Fault{Drop: true}, backend.ErrUnavailable},
		"empty, success":    {fakecloud.Fault{Error: &fakeaws.Error{Status: 200, Body: []byte{}}}, backend.ErrIntegrity},
		"truncated":         {fakecloud.Fault{Error: &fakeaws.Error{Status: 200, Body: []byte(`{"KeyId":"arn:aws:kms`)}}, backend.ErrIntegrity},
		"not JSON":          {fakecloud.Fault{Error: &fakeaws.Error{Status: 200, Body: []byte("<html>welcome</html>")}}, backend.ErrIntegrity},
		"another JSON":      {fakecloud.Fault{Error: &fakeaws.Error{Status: 200, Body: []byte(`[1,2]`)}}, backend.ErrIntegrity},
		"empty object":      {fakecloud.Fault{Error: &fakeaws.Error{Status: 200, Body: []byte(`{}`)}}, backend.ErrIntegrity},
		"empty error":       {fakecloud.Fault{Error: &fakeaws.Error{Status: 503, Body: []byte{}}}, backend.ErrUnavailable},
		"a proxy's error":   {fakecloud.Fault{Error: &fakeaws.Error{Status: 502, Body: []byte("<html>bad gateway</html>")}}, backend.ErrUnavailable},
		"a proxy's refusal": {fakecloud.Fault{Error: &fakeaws.Error{Status: 403, Body: []byte("<html>forbidden</html>")}}, backend.ErrUnavailable},
		"a redirect":        {fakecloud.Fault{Error: &fakeaws.Error{Status: 302, Header: http.Header{"Location": {"http://127.0.0.1:1/"}}, Body: []byte{}}}, backend.ErrUnavailable},
	} {
		for _, after := range []bool{false, true} {
			test.fault.Op, test.fault.After, test.fault.Times = "Sign", after, -1
			srv.Script.Add(test.fault)
			signature, err := signOnce(t.Context(), key)
			assert.Nil(t, signature, name)
			assert.ErrorIs(t, err, test.sentinel, name)
			srv.Script.Clear()

			test.fault.Times = 1
			srv.Script.Add(test.fault)
			signature, err = signOnce(t.Context(), key)
			if test.fault.Drop || name == "a proxy's error" || errors.Is(test.sentinel, backend.ErrIntegrity) {
				assert.NoError(t, err, name)
				assert.NotEmpty(t, signature)
			}
			srv.Script.Clear()
			_, err = signOnce(t.Context(), key)
			require.NoError(t, err, name)
		}
	}
}

// TestRetryAfter: how long a load balancer asks to wait is read, and nonsense isn't.
func TestRetryAfter(t *testing.T) {
	srv, _, key := signerOf(t, &Options{Remote: remote.Options{MaxAttempts: 1}})
	for header, want := range map[string]time.Duration{"3": 3 * time.Second, "": 0, "-1": 0, "soon": 0, "999999": 0} {
		srv.Script.Add(fakecloud.Fault{Op: "Sign", Error: &fakeaws.Error{Status: 503, Code: "ServiceUnavailable", Header: http.Header{"Retry-After": {header}}}})
		_, err := signOnce(t.Context(), key)
		require.Error(t, err)
		assert.Equal(t, want, retryAfter(err), header)
	}
}

// TestSlow: a service that doesn't answer in time is unavailable, and a caller who leaves is not kept.
func TestSlow(t *testing.T) {
	srv, _, key := signerOf(t, &Options{Remote: remote.Options{AttemptTimeout: 50 * time.Millisecond, MaxAttempts: 2}})
	srv.Script.Add(fakecloud.Fault{Op: "Sign", Delay: time.Minute, Times: 2, After: true})
	_, err := signOnce(t.Context(), key)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.ErrorContains(t, err, "attempt timeout of 50ms")
	srv.Script.Add(fakecloud.Fault{Op: "Sign", Delay: time.Minute, Times: 2})
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := signOnce(ctx, key)
		left <- err
	}()
	cancel()
	assert.ErrorIs(t, <-left, context.Canceled)
}

// TestRefusedPort: where nothing listens, a call fails within a second, and at once when that is known.
func TestRefusedPort(t *testing.T) {
	srv, b, key := signerOf(t, nil)
	require.NoError(t, srv.Close())
	began := time.Now()
	_, err := signOnce(t.Context(), key)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.ErrorContains(t, err, "connection refused")
	assert.Less(t, time.Since(began), 3*time.Second)
	_, err = signOnce(t.Context(), key)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	began = time.Now()
	for range 100 {
		_, err = signOnce(t.Context(), key)
		assert.ErrorIs(t, err, backend.ErrUnavailable)
		assert.ErrorContains(t, err, "connection refused", "the cause is lost")
	}
	assert.Less(t, time.Since(began), 2*time.Second, "100 calls to a service that is known to be away")
	assert.ErrorIs(t, b.Ping(t.Context()), backend.ErrUnavailable)
}
