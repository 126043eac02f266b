package awskms

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// write makes a file and returns its path.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// TestCredentials: each place where the SDK's chain finds credentials works, against the services that give them out.
func TestCredentials(t *testing.T) {
	for name, test := range map[string]struct {
		setup  func(t *testing.T, srv *fakeaws.Server)
		params func(p Params) Params
		op     string // that the fake must have seen
	}{
		"parameters": {params: func(p Params) Params {
			p.AccessKey, p.SecretKey = fakeaws.AccessKey, fakeaws.SecretKey
			return p
		}},
		"references": {setup: func(t *testing.T, _ *fakeaws.Server) { t.Setenv("MY_SECRET", fakeaws.SecretKey) }, params: func(p Params) Params {
			p.AccessKey, p.SecretKey = backend.Secret("file:"+write(t, "access", fakeaws.AccessKey+"\n")), "env:MY_SECRET"
			return p
		}},
		"environment": {setup: func(t *testing.T, _ *fakeaws.Server) {
			t.Setenv("AWS_ACCESS_KEY_ID", fakeaws.AccessKey)
			t.Setenv("AWS_SECRET_ACCESS_KEY", fakeaws.SecretKey)
		}},
		"shared credentials": {setup: func(t *testing.T, _ *fakeaws.Server) {
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", write(t, "credentials", "[default]\naws_access_key_id="+fakeaws.AccessKey+"\naws_secret_access_key="+fakeaws.SecretKey+"\n"))
		}},
		"profile with a role": {setup: func(t *testing.T, srv *fakeaws.Server) {
			t.Setenv("AWS_PROFILE", "signer")
			t.Setenv("AWS_ENDPOINT_URL_STS", srv.URL())
			t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[profile signer]\nrole_arn="+fakeaws.Role+"\nsource_profile=base\nregion=eu-central-1\n"+
				"[profile base]\naws_access_key_id="+fakeaws.AccessKey+"\naws_secret_access_key="+fakeaws.SecretKey+"\n"))
		}, op: "AssumeRole"},
		"web identity": {setup: func(t *testing.T, srv *fakeaws.Server) {
			t.Setenv("AWS_ENDPOINT_URL_STS", srv.URL())
			t.Setenv("AWS_REGION", fakeaws.DefaultRegion)
			t.Setenv("AWS_ROLE_ARN", fakeaws.Role)
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", write(t, "token", srv.WebIdentityToken()))
		}, op: "AssumeRoleWithWebIdentity"},
		"container": {setup: func(t *testing.T, srv *fakeaws.Server) {
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", srv.URL()+"/container")
			t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", srv.ContainerToken())
		}, op: "ContainerCredentials"},
		"instance": {setup: func(t *testing.T, srv *fakeaws.Server) {
			t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", srv.URL())
		}, op: "InstanceMetadata"},
		"single sign-on": {setup: func(t *testing.T, srv *fakeaws.Server) {
			home := t.TempDir()
			t.Setenv("HOME", home)
			t.Setenv("AWS_PROFILE", "people")
			t.Setenv("AWS_ENDPOINT_URL_SSO", srv.URL())
			const start = "https://example.awsapps.com/start"
			t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[profile people]\nsso_start_url="+start+"\nsso_region=eu-central-1\nsso_account_id="+fakeaws.Account+"\nsso_role_name=signer\n"))
			name := sha1.Sum([]byte(start))
			cache := filepath.Join(home, ".aws", "sso", "cache")
			require.NoError(t, os.MkdirAll(cache, 0o700))
			token, err := json.Marshal(map[string]any{"accessToken": srv.SSOToken(), "expiresAt": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "startUrl": start, "region": "eu-central-1"})
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(cache, hex.EncodeToString(name[:])+".json"), token, 0o600))
		}, op: "GetRoleCredentials"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, nil)
			arn := add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify})
			b := connect(t, nil)
			if test.setup != nil {
				test.setup(t, srv)
			}
			p := Params{KMSKey: arn, Endpoint: srv.URL()}
			if test.params != nil {
				p = test.params(p)
			}
			key := open[backend.Signer](t, b, p)
			_, err := signOnce(t.Context(), key)
			assert.NoError(t, err)
			if test.op == "" {
				return
			}
			assert.Positive(t, srv.Log.Count(test.op))
			// Temporary credentials that ended are replaced once, for all who wait, and nobody notices.
			before := srv.Log.Count(test.op)
			srv.ExpireTokens()
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					_, err := signOnce(t.Context(), key)
					assert.NoError(t, err)
				})
			}
			wg.Wait()
			after := srv.Log.Count(test.op) - before
			assert.Positive(t, after)
			assert.LessOrEqual(t, after, 3, "requests to replace the credentials; the metadata service takes three")
		})
	}
}

// TestNoCredentials: credentials that can't be had are an error that says so, and are not tried again.
func TestNoCredentials(t *testing.T) {
	srv := serve(t, nil)
	arn := add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify})
	for name, test := range map[string]struct {
		setup func(t *testing.T)
		p     Params
		says  string
	}{
		"none at all":      {says: "get credentials"},
		"no such variable": {p: Params{AccessKey: "env:NO_SUCH_VARIABLE", SecretKey: "x"}, says: "NO_SUCH_VARIABLE"},
		"no such file":     {p: Params{AccessKey: fakeaws.AccessKey, SecretKey: "file:/no/such/file"}, says: "/no/such/file"},
		"wrong secret":     {p: Params{AccessKey: fakeaws.AccessKey, SecretKey: "a wrong secret"}, says: "InvalidSignatureException"},
		"unknown key":      {p: Params{AccessKey: "AKIAUNKNOWN", SecretKey: "a wrong secret"}, says: "UnrecognizedClientException"},
		"ended session":    {p: Params{AccessKey: fakeaws.AccessKey, SecretKey: fakeaws.SecretKey, SessionToken: "a stale token"}, says: "UnrecognizedClientException"},
		"refused role": {setup: func(t *testing.T) {
			t.Setenv("AWS_PROFILE", "signer")
			t.Setenv("AWS_ENDPOINT_URL_STS", srv.URL())
			t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[profile signer]\nrole_arn=arn:aws:iam::111122223333:role/another\nsource_profile=base\nregion=eu-central-1\n"+
				"[profile base]\naws_access_key_id="+fakeaws.AccessKey+"\naws_secret_access_key="+fakeaws.SecretKey+"\n"))
		}, says: "not authorized to perform: sts:AssumeRole"},
	} {
		t.Run(name, func(t *testing.T) {
			b := connect(t, nil)
			if test.setup != nil {
				test.setup(t)
			}
			srv.Log.Clear()
			p := test.p
			p.KMSKey, p.Endpoint = arn, srv.URL()
			key, err := b.Open(t.Context(), p)
			assert.ErrorIs(t, err, backend.ErrCredentials)
			assert.ErrorContains(t, err, test.says)
			assert.NotContains(t, err.Error(), "a wrong secret")
			assert.NotContains(t, err.Error(), fakeaws.SecretKey)
			assert.Nil(t, key)
			assert.LessOrEqual(t, srv.Log.Count("DescribeKey"), 2)
		})
	}
	// The configuration itself.
	b := connect(t, nil)
	t.Setenv("AWS_PROFILE", "no-such-profile")
	_, err := b.Open(t.Context(), Params{KMSKey: arn, Endpoint: srv.URL()})
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
	assert.ErrorContains(t, err, "no-such-profile")
	t.Setenv("AWS_PROFILE", "")
	t.Setenv("AWS_ACCESS_KEY_ID", fakeaws.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", fakeaws.SecretKey)
	open[backend.Signer](t, b, Params{KMSKey: arn, Endpoint: srv.URL()}) // a failure is not kept
}

// TestIdentityServiceAway: if the service that gives out credentials is away, that is what the error says, and it passes.
func TestIdentityServiceAway(t *testing.T) {
	srv := serve(t, nil)
	arn := add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify})
	b := connect(t, &Options{Remote: quick})
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	t.Setenv("AWS_ENDPOINT_URL_STS", srv.URL())
	t.Setenv("AWS_REGION", fakeaws.DefaultRegion)
	t.Setenv("AWS_ROLE_ARN", fakeaws.Role)
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", write(t, "token", srv.WebIdentityToken()))
	srv.Script.Add(fakecloud.Fault{Op: "AssumeRoleWithWebIdentity", Times: -1, Error: &fakeaws.Error{Status: 503, Code: "ServiceUnavailable"}})
	_, err := b.Open(t.Context(), Params{KMSKey: arn, Endpoint: srv.URL()})
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.NotErrorIs(t, err, backend.ErrCredentials)
	assert.ErrorContains(t, err, "AssumeRoleWithWebIdentity")
	srv.Script.Clear()
	srv.Script.Add(fakecloud.Fault{Op: "AssumeRoleWithWebIdentity", Drop: true})
	open[backend.Signer](t, b, Params{KMSKey: arn, Endpoint: srv.URL()})
}

// TestClock: a clock that is wrong is noticed by the first answer, and put right for the request that follows.
func TestClock(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		srv := serve(t, &fakeaws.Options{Now: func() time.Time { return time.Now().Add(off) }})
		arn := add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify})
		key := open[backend.Signer](t, connect(t, nil), at(srv, Params{KMSKey: arn}))
		assert.Equal(t, 2, srv.Log.Count("DescribeKey"))
		_, err := signOnce(t.Context(), key)
		assert.NoError(t, err)
		assert.Equal(t, 1, srv.Log.Count("Sign"))
	}
}

// TestRotatedFile: a secret key that was replaced in its file is read again when the old one is refused.
func TestRotatedFile(t *testing.T) {
	srv := serve(t, nil)
	srv.AddUser("AKIAROTATE", "first secret")
	path := write(t, "secret", "first secret")
	b := connect(t, nil)
	arn := add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify})
	key := open[backend.Signer](t, b, Params{KMSKey: arn, Endpoint: srv.URL(), AccessKey: "AKIAROTATE", SecretKey: backend.Secret("file:" + path)})
	srv.AddUser("AKIAROTATE", "second secret")
	_, err := signOnce(t.Context(), key)
	assert.ErrorIs(t, err, backend.ErrCredentials)
	require.NoError(t, os.WriteFile(path, []byte("second secret"), 0o600))
	assert.Eventually(t, func() bool { // it isn't read again for a second after it was
		_, err := signOnce(t.Context(), key)
		return err == nil
	}, 30*time.Second, 20*time.Millisecond)
}

// TestCallersConfiguration: with New, the program's own configuration is what counts, and its expired credentials are
// replaced too.
func TestCallersConfiguration(t *testing.T) {
	srv := serve(t, nil)
	arn := add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify, Alias: "alias/p256"})
	b := fresh(t, srv.Config(), nil)
	key := open[backend.Signer](t, b, Params{KMSKey: "alias/p256"})
	assert.Equal(t, arn, key.ID())
	open[backend.Signer](t, b, Params{KMSKey: arn, Region: fakeaws.DefaultRegion})
	for says, p := range map[string]Params{
		"region: got us-west-2": {KMSKey: "alias/p256", Region: "us-west-2"},
		"region: got us-west-1": {KMSKey: strings.Replace(arn, fakeaws.DefaultRegion, "us-west-1", 1)},
		"endpoint: is given":    {KMSKey: arn, Endpoint: srv.URL()},
		"access_key: is given":  {KMSKey: arn, AccessKey: "a", SecretKey: "b"},
	} {
		_, err := b.Open(t.Context(), p)
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
		assert.ErrorContains(t, err, says)
	}
	_, err := New(aws.Config{Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}, nil)
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
	_, err = New(aws.Config{Region: "eu-central-1"}, nil)
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
}

// TestLoadOptions: what the program wants of the SDK's configuration is read.
func TestLoadOptions(t *testing.T) {
	srv := serve(t, nil)
	arn := add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify})
	file := write(t, "config", "[profile mine]\naws_access_key_id="+fakeaws.AccessKey+"\naws_secret_access_key="+fakeaws.SecretKey+"\n")
	b := connect(t, &Options{Load: []func(*config.LoadOptions) error{config.WithSharedConfigProfile("mine"), config.WithSharedConfigFiles([]string{file})}})
	open[backend.Signer](t, b, Params{KMSKey: arn, Endpoint: srv.URL()})
}

// TestSharedConnections: keys with equal settings share a connection, and others don't.
func TestSharedConnections(t *testing.T) {
	srv := serve(t, nil)
	srv.AddUser("AKIAOTHER", "other")
	b := connect(t, nil)
	assert.Equal(t, "awskms with 0 connections", b.String())
	p := at(srv, Params{KMSKey: add(t, srv, fakeaws.Key{Spec: "HMAC_256"})})
	q := at(srv, Params{KMSKey: add(t, srv, fakeaws.Key{Spec: "HMAC_256", Alias: "alias/q"})})
	open[backend.MAC](t, b, p)
	open[backend.MAC](t, b, q)
	q.KMSKey, q.Region = "alias/q", fakeaws.DefaultRegion
	open[backend.MAC](t, b, q)
	assert.Equal(t, "awskms with 1 connections", b.GoString())
	q.AccessKey, q.SecretKey = "AKIAOTHER", "other"
	open[backend.MAC](t, b, q)
	assert.Len(t, b.clients(), 2)
	srv.Script.Add(fakecloud.Fault{Op: "ListKeys", Error: &fakeaws.Error{Code: "AccessDeniedException"}})
	srv.Log.Clear()
	assert.NoError(t, b.Ping(t.Context()), "who may not list keys is known all the same")
	assert.Equal(t, 2, srv.Log.Count("ListKeys"))
}
