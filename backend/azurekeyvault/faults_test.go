package azurekeyvault

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// rig is a fake with an EC key and an RSA key, both open.
type rig struct {
	srv    *fakeazure.Server
	b      *Backend
	ec     backend.Signer
	rsa    backend.Decrypter
	digest [32]byte
	sealed []byte
}

func newRig(t *testing.T, change func(*Options)) *rig {
	r := &rig{srv: newFake(t, nil), digest: sha256.Sum256([]byte("message"))}
	client := sdkClient(t, r.srv, vaultURL)
	makeKey(t, client, "ec", p256())
	makeKey(t, client, "rsa", rsaParams(azkeys.KeyTypeRSA, 2048, nil))
	r.b = newBackendAt(t, r.srv, vaultURL, change)
	r.ec = open(t, r.b, Params{KeyName: "ec"}).(backend.Signer)
	r.rsa = open(t, r.b, Params{KeyName: "rsa"}).(backend.Decrypter)
	var err error
	r.sealed, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, r.rsa.Public().(*rsa.PublicKey), []byte("plaintext"), nil)
	require.NoError(t, err)
	r.srv.Log.Clear()
	return r
}

// ops are what is tried with each fault, by the fake's name of the request.
func (r *rig) ops(ctx context.Context) map[string]func() ([]byte, error) {
	return map[string]func() ([]byte, error){
		"sign": func() ([]byte, error) { return r.ec.SignContext(ctx, r.digest[:], crypto.SHA256) },
		"decrypt": func() ([]byte, error) {
			return r.rsa.DecryptContext(ctx, r.sealed, &rsa.OAEPOptions{Hash: crypto.SHA256})
		},
		"get": func() ([]byte, error) {
			key, err := r.b.Open(ctx, Params{KeyName: "ec"})
			if err != nil {
				return nil, err
			}
			return []byte(key.ID()), nil
		},
	}
}

func status(status int, code, inner string) *fakeazure.Error {
	return &fakeazure.Error{Status: status, Code: code, Inner: inner, Message: "as the script says"}
}

// TestServiceErrors: each error of the service, in the place of the answer and after the effect, is the sentinel that it
// should be, has the service's codes and the request's id, and is tried again only where that helps.
func TestServiceErrors(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options) { o.Remote.MaxAttempts = 2 })
	for _, c := range []struct {
		err  *fakeazure.Error
		want error // for sign and get
		n    int   // requests
	}{
		{status(400, "BadParameter", ""), backend.ErrInvalidParams, 1},
		{status(401, "Unauthorized", ""), backend.ErrCredentials, 1},
		{status(403, "Forbidden", "ForbiddenByRbac"), backend.ErrNotPermitted, 1},
		{status(403, "Forbidden", "ForbiddenByFirewall"), backend.ErrNotPermitted, 1},
		{status(403, "Forbidden", "KeyDisabled"), backend.ErrKeyDisabled, 1},
		{status(403, "Forbidden", "KeyExpired"), backend.ErrKeyDisabled, 1},
		{status(403, "Forbidden", "KeyNotYetValid"), backend.ErrKeyDisabled, 1},
		{status(404, "KeyNotFound", ""), backend.ErrKeyNotFound, 1},
		{status(404, "ResourceNotFound", ""), backend.ErrUnavailable, 1},
		{status(408, "RequestTimeout", ""), backend.ErrUnavailable, 2},
		{status(409, "Conflict", "ObjectIsDeletedButRecoverable"), backend.ErrKeyExists, 1},
		{status(409, "Conflict", "ObjectIsBeingDeleted"), backend.ErrUnavailable, 1},
		{status(409, "Conflict", ""), backend.ErrUnavailable, 2},
		{status(413, "RequestEntityTooLarge", ""), backend.ErrInvalidParams, 1},
		{status(418, "Teapot", ""), backend.ErrUnavailable, 1},
		{status(500, "InternalError", ""), backend.ErrUnavailable, 2},
		{status(502, "BadGateway", ""), backend.ErrUnavailable, 2},
		{status(503, "ServiceUnavailable", ""), backend.ErrUnavailable, 2},
		{status(504, "GatewayTimeout", ""), backend.ErrUnavailable, 2},
		{status(429, "Throttled", ""), backend.ErrThrottled, 2}, // the last, since it slows the connection down
	} {
		for op, do := range r.ops(t.Context()) {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d %s/%s/after=%t", c.err.Status, c.err.Inner, op, after), func(t *testing.T) {
					r.srv.Log.Clear()
					r.srv.Script.Add(fakecloud.Fault{Op: op, Times: -1, Error: c.err, After: after})
					defer r.srv.Script.Clear()
					out, err := do()
					assert.Nil(t, out)
					assert.Equal(t, c.n, r.srv.Log.Count(op))
					if op == "decrypt" && c.err.Status == 400 {
						assert.Equal(t, backend.ErrDecryption, err)
						return
					}
					require.ErrorIs(t, err, c.want)
					var sdk *azcore.ResponseError
					assert.ErrorAs(t, err, &sdk, "the SDK's error is in the chain")
					assert.ErrorContains(t, err, c.err.Code)
					assert.ErrorContains(t, err, c.err.Inner)
					requests := r.srv.Log.Requests(op)
					assert.ErrorContains(t, err, requests[len(requests)-1].ID)
					assert.NotContains(t, err.Error(), "\n")
				})
				heal(t, do)
			}
		}
	}
}

// heal waits until the breaker lets calls through again.
func heal(t *testing.T, do func() ([]byte, error)) {
	t.Helper()
	require.Eventually(t, func() bool { _, err := do(); return err == nil }, 30*time.Second, 20*time.Millisecond)
}

// TestTransientFaults: what goes wrong once is not seen, whether or not the service did what it was asked to.
func TestTransientFaults(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for name, fault := range map[string]fakecloud.Fault{
		"connection lost": {Drop: true},
		"503":             {Error: status(503, "ServiceUnavailable", "")},
		"truncated":       {Error: &fakeazure.Raw{Status: 200, Body: `{"kid":"https://`, Cut: true}},
		"cut JSON":        {Error: &fakeazure.Raw{Status: 200, Body: `{"kid":"https://`}},
		"empty":           {Error: &fakeazure.Raw{Status: 200}},
		"HTML":            {Error: &fakeazure.Raw{Status: 200, Body: "<html><body>hello</body></html>"}},
		"gateway's HTML":  {Error: &fakeazure.Raw{Status: 502, Body: "<html><body>bad gateway</body></html>"}},
	} {
		for op, do := range r.ops(t.Context()) {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/after=%t", name, op, after), func(t *testing.T) {
					r.srv.Log.Clear()
					fault.Op, fault.After = op, after
					r.srv.Script.Add(fault)
					out, err := do()
					require.NoError(t, err)
					assert.NotEmpty(t, out)
					assert.Zero(t, r.srv.Script.Left(), "the fault has met nothing")
					assert.Equal(t, 2, r.srv.Log.Count(op))
				})
			}
		}
	}
}

// TestUnreadableAnswers: an answer that can't be read is an error and never an output.
func TestUnreadableAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options) { o.Remote.MaxAttempts = 1 })
	for name, c := range map[string]struct {
		answer *fakeazure.Raw
		want   error
	}{
		"empty":       {&fakeazure.Raw{Status: 200}, backend.ErrIntegrity},
		"null":        {&fakeazure.Raw{Status: 200, Body: "null"}, backend.ErrIntegrity},
		"list":        {&fakeazure.Raw{Status: 200, Body: "[]"}, backend.ErrIntegrity},
		"cut JSON":    {&fakeazure.Raw{Status: 200, Body: `{"kid":"https://t`}, backend.ErrIntegrity},
		"HTML":        {&fakeazure.Raw{Status: 200, Body: "<html>"}, backend.ErrIntegrity},
		"no base64":   {&fakeazure.Raw{Status: 200, Body: `{"kid":"https://test.vault.azure.net/keys/ec/x","value":"!","key":{"n":"!"}}`}, backend.ErrIntegrity},
		"wrong types": {&fakeazure.Raw{Status: 200, Body: `{"kid":1,"value":2,"key":3}`}, backend.ErrIntegrity},
		"truncated":   {&fakeazure.Raw{Status: 200, Body: `{"kid":"`, Cut: true}, backend.ErrUnavailable},
		"too long":    {&fakeazure.Raw{Status: 200, Body: strings.Repeat(" ", maxAnswer+1)}, backend.ErrIntegrity},
		"201":         {&fakeazure.Raw{Status: 201, Body: `{}`}, backend.ErrUnavailable},
		"204":         {&fakeazure.Raw{Status: 204}, backend.ErrUnavailable},
		"error HTML":  {&fakeazure.Raw{Status: 403, Body: "<html>no</html>"}, backend.ErrNotPermitted},
		"redirect":    {&fakeazure.Raw{Status: 307, Header: http.Header{"Location": {"https://evil.vault.azure.net/keys/ec"}}}, backend.ErrUnavailable},
	} {
		for op, do := range r.ops(t.Context()) {
			t.Run(name+"/"+op, func(t *testing.T) {
				r.srv.Log.Clear()
				r.srv.Script.Add(fakecloud.Fault{Op: op, Error: c.answer})
				defer r.srv.Script.Clear()
				out, err := do()
				assert.Nil(t, out)
				require.ErrorIs(t, err, c.want)
				assert.Equal(t, 1, r.srv.Log.Count(""), "requests of all kinds; a redirect was followed")
			})
			heal(t, do)
		}
	}
}

// TestRetryAfter: the wait that the service asks for is waited for, and not begun if it is longer than the caller has time.
func TestRetryAfter(t *testing.T) {
	r := newRig(t, nil)
	r.srv.Script.Add(fakecloud.Fault{Op: "sign", Error: &fakeazure.Error{Status: 429, Code: "Throttled", Header: http.Header{"Retry-After": {"1"}}}})
	began := time.Now()
	_, err := r.ec.SignContext(t.Context(), r.digest[:], crypto.SHA256)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, time.Since(began), time.Second)

	r.srv.Script.Add(fakecloud.Fault{Op: "sign", Error: &fakeazure.Error{Status: 429, Code: "Throttled", Header: http.Header{"Retry-After": {"60"}}}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began = time.Now()
	_, err = r.ec.SignContext(ctx, r.digest[:], crypto.SHA256)
	assert.ErrorIs(t, err, backend.ErrThrottled)
	assert.Less(t, time.Since(began), 5*time.Second)
}

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for header, want := range map[[2]string]time.Duration{
		{"Retry-After", "7"}: 7 * time.Second, {"Retry-After", "-7"}: 0, {"Retry-After", ""}: 0, {"Retry-After", "soon"}: 0,
		{"Retry-After", "99999999999999999999"}:          0,
		{"Retry-After", "Thu, 26 Nov 2026 12:00:30 GMT"}: 30 * time.Second,
		{"Retry-After", "Thu, 26 Nov 2026 11:00:00 GMT"}: 0,
		{"retry-after-ms", "250"}:                        250 * time.Millisecond, {"x-ms-retry-after-ms", "40"}: 40 * time.Millisecond,
	} {
		resp := &http.Response{Header: make(http.Header)}
		resp.Header.Set(header[0], header[1])
		assert.Equal(t, want, retryAfter(resp, now), "%v", header)
	}
	assert.Zero(t, retryAfter(nil, now))
}

// TestRefusedPort: a vault that can't be reached is reported soon, with the cause, and at once when that is known.
func TestRefusedPort(t *testing.T) {
	r := newRig(t, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	b, err := New(secretCredential(t, r.srv), vaultURL, &Options{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, listener.Addr().String())
		},
	})
	require.NoError(t, err)
	defer b.Close()
	try := func() time.Duration {
		began := time.Now()
		_, err := b.Open(t.Context(), Params{KeyName: "ec"})
		require.ErrorIs(t, err, backend.ErrUnavailable)
		require.ErrorContains(t, err, "refused")
		var op *net.OpError
		require.True(t, errors.As(err, &op), "the cause is in the chain")
		return time.Since(began)
	}
	assert.Less(t, try(), 5*time.Second)
	try()
	assert.Less(t, try(), time.Second/2, "the breaker should be open")
}
