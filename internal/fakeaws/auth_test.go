package fakeaws

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestAuthentication: a request is refused unless its signature is one of a known access key, over exactly what was sent.
func TestAuthentication(t *testing.T) {
	s := start(t, nil)
	temporary, u := s.temporary()
	session := aws.Credentials{AccessKeyID: temporary, SecretAccessKey: u.secret, SessionToken: u.token}
	foreign := session
	foreign.SessionToken = "another"
	for name, test := range map[string]struct {
		post post
		code string
	}{
		"good":                {post{}, ""},
		"temporary":           {post{creds: session}, ""},
		"another Region":      {post{region: "us-west-2"}, ""},
		"no signature":        {post{spoil: func(r *http.Request) { r.Header.Del("Authorization") }}, "MissingAuthenticationTokenException"},
		"wrong secret":        {post{creds: aws.Credentials{AccessKeyID: AccessKey, SecretAccessKey: "guess"}}, "InvalidSignatureException"},
		"unknown access key":  {post{creds: aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: SecretKey}}, "UnrecognizedClientException"},
		"wrong session token": {post{creds: foreign}, "UnrecognizedClientException"},
		"another service":     {post{service: "s3"}, "InvalidSignatureException"},
		"another body":        {post{spoil: func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("{ }")), 3 }}, "InvalidSignatureException"},
		"another operation":   {post{spoil: func(r *http.Request) { r.Header.Set("X-Amz-Target", target+"ListAliases") }}, "InvalidSignatureException"},
		"another date":        {post{spoil: func(r *http.Request) { r.Header.Set("X-Amz-Date", "20200101T000000Z") }}, "IncompleteSignatureException"},
		"old":                 {post{at: time.Now().UTC().Add(-time.Hour)}, "InvalidSignatureException"},
		"from the future":     {post{at: time.Now().UTC().Add(time.Hour)}, "InvalidSignatureException"},
		"unsigned operation": {post{spoil: func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), ";x-amz-target", "", 1))
		}}, "IncompleteSignatureException"},
	} {
		t.Run(name, func(t *testing.T) {
			test.post.op, test.post.body = "ListKeys", "{}"
			status, answer := s.send(t, test.post)
			if test.code == "" {
				assert.Equal(t, http.StatusOK, status, "%v", answer)
				return
			}
			assert.Equal(t, http.StatusBadRequest, status)
			assert.Equal(t, test.code, answer["__type"])
		})
	}
	s.ExpireTokens()
	_, answer := s.send(t, post{op: "ListKeys", body: "{}", creds: session})
	assert.Equal(t, "ExpiredTokenException", answer["__type"])
	s.AddUser("AKIANEW", "new secret")
	status, _ := s.send(t, post{op: "ListKeys", body: "{}", creds: aws.Credentials{AccessKeyID: "AKIANEW", SecretAccessKey: "new secret"}})
	assert.Equal(t, http.StatusOK, status)
	s.RemoveUser("AKIANEW")
	_, answer = s.send(t, post{op: "ListKeys", body: "{}", creds: aws.Credentials{AccessKeyID: "AKIANEW", SecretAccessKey: "new secret"}})
	assert.Equal(t, "UnrecognizedClientException", answer["__type"])
}

// TestIdentityServices: what isn't KMS wants its own proof of identity.
func TestIdentityServices(t *testing.T) {
	s := start(t, nil)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for name, test := range map[string]struct {
		method, path, body string
		header             http.Header
		status             int
		has                string
	}{
		"role without a signature": {"POST", "/", "Action=AssumeRole&RoleArn=" + Role, nil, 403, "MissingAuthenticationToken"},
		"web identity":             {"POST", "/", "Action=AssumeRoleWithWebIdentity&RoleArn=" + Role + "&WebIdentityToken=" + s.WebIdentityToken(), nil, 200, "<AccessKeyId>ASIA"},
		"another web identity":     {"POST", "/", "Action=AssumeRoleWithWebIdentity&RoleArn=" + Role + "&WebIdentityToken=guess", nil, 403, "InvalidIdentityToken"},
		"another role":             {"POST", "/", "Action=AssumeRoleWithWebIdentity&RoleArn=arn&WebIdentityToken=" + s.WebIdentityToken(), nil, 403, "AccessDenied"},
		"another action":           {"POST", "/", "Action=GetSessionToken", nil, 403, "InvalidAction"},
		"container":                {"GET", "/container", "", http.Header{"Authorization": {s.ContainerToken()}}, 200, `"AccessKeyId":"ASIA`},
		"container without token":  {"GET", "/container", "", nil, 401, "Unauthorized"},
		"metadata without session": {"GET", "/latest/meta-data/iam/security-credentials/", "", nil, 401, "Unauthorized"},
		"metadata session":         {"PUT", "/latest/api/token", "", nil, 200, ""},
		"single sign-on":           {"GET", "/federation/credentials?role_name=signer&account_id=" + Account, "", http.Header{"X-Amz-Sso_bearer_token": {s.SSOToken()}}, 200, `"accessKeyId":"ASIA`},
		"single sign-on, no token": {"GET", "/federation/credentials?role_name=signer&account_id=" + Account, "", nil, 401, "Unauthorized"},
		"nothing":                  {"GET", "/favicon.ico", "", nil, 404, "NotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), test.method, s.URL()+test.path, strings.NewReader(test.body))
			require.NoError(t, err)
			for k, v := range test.header {
				req.Header[k] = v
			}
			res, err := client.Do(req)
			require.NoError(t, err)
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			assert.Equal(t, test.status, res.StatusCode)
			assert.Contains(t, string(body), test.has)
		})
	}
}
