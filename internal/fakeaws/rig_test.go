package fakeaws

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, opts *Options) *Server {
	t.Helper()
	s, err := New(opts)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// post is a request that is written by hand, without the SDK's client.
type post struct {
	op, body string
	creds    aws.Credentials
	service  string
	region   string
	at       time.Time
	spoil    func(*http.Request) // after it was signed
}

// send sends a request and returns the status and the members of the answer.
func (s *Server) send(t *testing.T, p post) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/", bytes.NewReader([]byte(p.body)))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", target+p.op)
	if p.creds.AccessKeyID == "" {
		p.creds = aws.Credentials{AccessKeyID: AccessKey, SecretAccessKey: SecretKey}
	}
	if p.service == "" {
		p.service = "kms"
	}
	if p.region == "" {
		p.region = DefaultRegion
	}
	if p.at.IsZero() {
		p.at = time.Now().UTC()
	}
	hash := sha256.Sum256([]byte(p.body))
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), p.creds, req, hex.EncodeToString(hash[:]), p.service, p.region, p.at))
	if p.spoil != nil {
		p.spoil(req)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.NotEmpty(t, res.Header.Get("X-Amzn-Requestid"))
	answer := make(map[string]any)
	require.NoError(t, json.NewDecoder(res.Body).Decode(&answer))
	return res.StatusCode, answer
}

// do sends a request whose members are given, and returns the answer or the error code.
func (s *Server) do(t *testing.T, op string, members map[string]any) (map[string]any, string) {
	t.Helper()
	body, err := json.Marshal(members)
	require.NoError(t, err)
	status, answer := s.send(t, post{op: op, body: string(body)})
	if status != http.StatusOK {
		return nil, answer["__type"].(string)
	}
	return answer, ""
}

// add makes a key and returns its ARN.
func add(t *testing.T, s *Server, k Key) string {
	t.Helper()
	arn, err := s.AddKey(k)
	require.NoError(t, err)
	return arn
}
