package awskms

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// hosts notes where requests go and answers none.
type hosts struct {
	mu   sync.Mutex
	seen []string
}

func (h *hosts) Do(r *http.Request) (*http.Response, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, r.URL.Scheme+"://"+r.URL.Host)
	return &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// TestEndpoints: where requests go for each way to say so.
func TestEndpoints(t *testing.T) {
	const arn = "arn:aws:kms:eu-west-3:111122223333:key/" + testID
	for name, test := range map[string]struct {
		env  map[string]string
		opts Options
		p    Params
		want string
	}{
		"nothing says":         {p: Params{KMSKey: "alias/a"}, want: "https://kms.us-east-1.amazonaws.com"},
		"region":               {p: Params{KMSKey: "alias/a", Region: "eu-central-1"}, want: "https://kms.eu-central-1.amazonaws.com"},
		"ARN":                  {env: map[string]string{"AWS_REGION": "us-west-1"}, p: Params{KMSKey: arn}, want: "https://kms.eu-west-3.amazonaws.com"},
		"China":                {p: Params{KMSKey: "alias/a", Region: "cn-north-1"}, want: "https://kms.cn-north-1.amazonaws.com.cn"},
		"AWS_REGION":           {env: map[string]string{"AWS_REGION": "us-west-1", "AWS_DEFAULT_REGION": "us-west-2"}, p: Params{KMSKey: "alias/a"}, want: "https://kms.us-west-1.amazonaws.com"},
		"AWS_DEFAULT_REGION":   {env: map[string]string{"AWS_DEFAULT_REGION": "us-west-2"}, p: Params{KMSKey: "alias/a"}, want: "https://kms.us-west-2.amazonaws.com"},
		"shared configuration": {env: map[string]string{"AWS_CONFIG_FILE": "[default]\nregion=ap-south-1\n"}, p: Params{KMSKey: "alias/a"}, want: "https://kms.ap-south-1.amazonaws.com"},
		"FIPS":                 {opts: Options{UseFIPS: true}, p: Params{KMSKey: "alias/a"}, want: "https://kms-fips.us-east-1.amazonaws.com"},
		"FIPS, environment":    {env: map[string]string{"AWS_USE_FIPS_ENDPOINT": "true"}, p: Params{KMSKey: "alias/a"}, want: "https://kms-fips.us-east-1.amazonaws.com"},
		"dual stack":           {opts: Options{UseDualStack: true}, p: Params{KMSKey: "alias/a"}, want: "https://kms.us-east-1.api.aws"},
		"both":                 {opts: Options{UseFIPS: true, UseDualStack: true}, p: Params{KMSKey: "alias/a"}, want: "https://kms-fips.us-east-1.api.aws"},
		"dual stack, env":      {env: map[string]string{"AWS_USE_DUALSTACK_ENDPOINT": "true"}, p: Params{KMSKey: "alias/a"}, want: "https://kms.us-east-1.api.aws"},
		"endpoint":             {env: map[string]string{"AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:1"}, p: Params{KMSKey: "alias/a", Endpoint: "https://vpce.example"}, want: "https://vpce.example"},
		"AWS_ENDPOINT_URL":     {env: map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:2"}, p: Params{KMSKey: "alias/a"}, want: "http://127.0.0.1:2"},
		"AWS_ENDPOINT_URL_KMS": {env: map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:2", "AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:3"}, p: Params{KMSKey: "alias/a"}, want: "http://127.0.0.1:3"},
	} {
		t.Run(name, func(t *testing.T) {
			seen := new(hosts)
			test.opts.KMS = append(test.opts.KMS, func(o *kms.Options) { o.HTTPClient = seen })
			b := connect(t, &test.opts)
			for k, v := range test.env {
				if strings.Contains(v, "\n") {
					v = write(t, "config", v)
				}
				t.Setenv(k, v)
			}
			test.p.AccessKey, test.p.SecretKey = "AKIA", "secret"
			_, err := b.Open(t.Context(), test.p)
			require.Error(t, err)
			assert.Equal(t, []string{test.want}, seen.seen)
		})
	}
}

// TestInstanceRegion: on an instance the metadata service says what Region it is; where it doesn't answer, nobody waits for long.
func TestInstanceRegion(t *testing.T) {
	srv := serve(t, nil)
	add(t, srv, fakeaws.Key{Spec: "HMAC_256", Alias: "alias/here"})
	b := connect(t, nil)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", srv.URL())
	key := open[backend.MAC](t, b, Params{KMSKey: "alias/here", Endpoint: srv.URL()})
	assert.Contains(t, key.ID(), ":"+fakeaws.DefaultRegion+":")

	seen := new(hosts)
	b = connect(t, &Options{KMS: []func(*kms.Options){func(o *kms.Options) { o.HTTPClient = seen }}})
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
	began := time.Now()
	_, err := b.Open(t.Context(), Params{KMSKey: "alias/a", AccessKey: "AKIA", SecretKey: "x"})
	require.Error(t, err)
	assert.Less(t, time.Since(began), 5*time.Second)
	assert.Equal(t, []string{"https://kms.us-east-1.amazonaws.com"}, seen.seen)
}

// TestInstanceRegionLeft: who leaves while the metadata service is asked doesn't decide where the others go.
func TestInstanceRegionLeft(t *testing.T) {
	srv := serve(t, nil)
	add(t, srv, fakeaws.Key{Spec: "HMAC_256", Alias: "alias/here"})
	b := connect(t, nil)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", srv.URL())
	srv.Script.Add(fakecloud.Fault{Op: "InstanceMetadata", Delay: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p := Params{KMSKey: "alias/here", Endpoint: srv.URL()}
	_, err := b.Open(ctx, p)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Contains(t, open[backend.MAC](t, b, p).ID(), ":"+fakeaws.DefaultRegion+":")
}

// TestFIPSWithEndpoint: what the SDK refuses to make of contradicting settings is an error that says so, and nothing is sent.
func TestFIPSWithEndpoint(t *testing.T) {
	srv := serve(t, nil)
	b := connect(t, &Options{UseFIPS: true})
	_, err := b.Open(t.Context(), at(srv, Params{KMSKey: "alias/a"}))
	assert.ErrorContains(t, err, "FIPS")
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
	assert.Zero(t, b.Retries())
	assert.Zero(t, srv.Log.Count(""))
}
