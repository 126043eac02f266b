package fakegcp

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/auth/credentials"
	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ring makes a call with options, and returns its code.
func callWith(t *testing.T, s fake, options ...option.ClientOption) codes.Code {
	t.Helper()
	client, err := kms.NewKeyManagementClient(t.Context(), append(s.Transport(), options...)...)
	require.NoError(t, err)
	defer client.Close()
	_, err = client.GetKeyRing(t.Context(), &kmspb.GetKeyRingRequest{Name: s.ring}, noRetry)
	return status.Code(err)
}

func bearer(token string) option.ClientOption {
	return option.WithTokenSource(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token}))
}

// Only tokens that were issued here, and that have not expired, are taken.
func TestTokens(t *testing.T) {
	s, _ := start(t, nil)
	assert.Equal(t, codes.OK, callWith(t, s, bearer(s.Token())))
	assert.Equal(t, codes.Unauthenticated, callWith(t, s, bearer("ya29.other")))
	assert.Equal(t, codes.Unauthenticated, callWith(t, s, option.WithoutAuthentication()))
	assert.Equal(t, codes.Unauthenticated, callWith(t, s, bearer(s.tokens.issue("", -time.Second))))
	token := s.Token()
	s.Revoke()
	assert.Equal(t, codes.Unauthenticated, callWith(t, s, bearer(token)))
	assert.Zero(t, s.Log.Count("x"))
	assert.Equal(t, 1, s.Log.Count(""), "only what was authenticated is logged")
}

// Tokens that the service account signs are verified.
func TestSignedTokens(t *testing.T) {
	s, _ := start(t, nil)
	text, err := s.Credentials(Account, nil)
	require.NoError(t, err)
	creds, err := credentials.NewCredentialsFromJSON(credentials.ServiceAccount, text, &credentials.DetectOptions{
		Scopes: []string{"https://www.googleapis.com/auth/cloudkms"}, UseSelfSignedJWT: true,
	})
	require.NoError(t, err)
	token, err := creds.Token(t.Context())
	require.NoError(t, err)
	assert.Equal(t, codes.OK, callWith(t, s, bearer(token.Value)))
	assert.Equal(t, 1, s.Issued(Account))
	parts := strings.Split(token.Value, ".")
	for _, forged := range []string{
		parts[0] + "." + parts[1] + ".", parts[0] + "." + parts[1][:len(parts[1])-4] + "AAAA." + parts[2], parts[0] + "." + parts[1], "a.b.c",
	} {
		assert.Equal(t, codes.Unauthenticated, callWith(t, s, bearer(forged)))
	}
	other, err := New(nil)
	require.NoError(t, err)
	defer other.Close()
	_, err = other.Credentials(Account, nil)
	require.NoError(t, err)
	assert.False(t, other.tokens.check(token.Value), "another account's token")
}

// The token exchange wants the workload's own token, and impersonation one that was issued.
func TestExchange(t *testing.T) {
	s, _ := start(t, nil)
	write := func(name string, data []byte) (string, error) {
		path := filepath.Join(t.TempDir(), name)
		return path, os.WriteFile(path, data, 0o600)
	}
	for _, kind := range []string{Federation, Impersonate} {
		text, err := s.Credentials(kind, write)
		require.NoError(t, err)
		creds, err := credentials.NewCredentialsFromJSON(credentials.ExternalAccount, text, &credentials.DetectOptions{
			Scopes: []string{"https://www.googleapis.com/auth/cloudkms"},
		})
		require.NoError(t, err)
		assert.Equal(t, codes.OK, callWith(t, s, option.WithAuthCredentials(creds)))
		assert.NotZero(t, s.Issued(kind))
	}
	post := func(path string, form url.Values, header http.Header) int {
		req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, s.oauth.URL+path, strings.NewReader(form.Encode()))
		require.NoError(t, err)
		req.Header = header
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := s.oauth.Client().Do(req)
		require.NoError(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	assert.Equal(t, http.StatusBadRequest, post("/sts", url.Values{"subject_token": {"forged"}}, http.Header{}))
	assert.Equal(t, http.StatusUnauthorized, post("/v1/x:generateAccessToken", nil, http.Header{"Authorization": {"Bearer forged"}}))
	assert.Equal(t, http.StatusNotFound, post("/elsewhere", nil, http.Header{}))
}
