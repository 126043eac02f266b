package fakegcp

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// tokens are the bearer tokens that the server has issued, and how it knows those of its service account.
type tokens struct {
	mu      sync.Mutex
	valid   map[string]time.Time // until when, by token
	issued  map[string]int       // how many, by the kind of credential they were issued for
	account *rsa.PrivateKey      // of the service account; nil until it is asked for
}

// Kinds of credential, for [Server].Issued.
const (
	Account     = "service account"
	Federation  = "workload identity federation"
	Impersonate = "impersonation"
	Instance    = "instance metadata"
)

// subjectToken is what proves the identity of a workload to the token exchange.
const subjectToken = "fakegcp-subject-token"

// Token returns a bearer token that the server takes for an hour.
func (s *Server) Token() string { return s.tokens.issue("", time.Hour) }

// Issued returns how many tokens were issued for a kind of credential, or how many signed tokens of the service account were
// taken.
func (s *Server) Issued(kind string) int {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	return s.tokens.issued[kind]
}

// Revoke makes all tokens that were issued invalid.
func (s *Server) Revoke() {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	s.tokens.valid = nil
}

// Credentials returns a credential of that kind in JSON, as gcloud and the console write them. dir is where files that it
// refers to can be written by write.
func (s *Server) Credentials(kind string, write func(name string, data []byte) (path string, err error)) ([]byte, error) {
	var cred map[string]any
	switch kind {
	case Account:
		key, err := s.tokens.serviceAccount()
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		cred = map[string]any{
			"type": "service_account", "project_id": "p", "private_key_id": "1", "client_id": "1",
			"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
			"client_email": "fake@p.iam.gserviceaccount.com", "token_uri": s.oauth.URL + "/token",
		}
	case Federation, Impersonate:
		path, err := write("subject-token", []byte(subjectToken))
		if err != nil {
			return nil, err
		}
		cred = map[string]any{
			"type": "external_account", "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/f",
			"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": s.oauth.URL + "/sts",
			"credential_source": map[string]any{"file": path},
		}
		if kind == Impersonate {
			cred["service_account_impersonation_url"] = s.oauth.URL + "/v1/projects/-/serviceAccounts/fake@p.iam.gserviceaccount.com:generateAccessToken"
		}
	}
	return json.Marshal(cred)
}

// MetadataHost returns the host and port of the fake's instance metadata server, for GCE_METADATA_HOST.
func (s *Server) MetadataHost() string { return strings.TrimPrefix(s.oauth.URL, "http://") }

func (t *tokens) serviceAccount() (*rsa.PrivateKey, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var err error
	if t.account == nil {
		t.account, err = rsaKeys.generate(2048)
	}
	return t.account, err
}

func (t *tokens) issue(kind string, lifetime time.Duration) string {
	token := "ya29.fakegcp-" + hex.EncodeToString(randomBytes(16))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.valid == nil {
		t.valid = make(map[string]time.Time)
	}
	t.valid[token] = time.Now().Add(lifetime)
	t.count(kind)
	return token
}

// count counts a token of a kind. The caller holds the lock.
func (t *tokens) count(kind string) {
	if t.issued == nil {
		t.issued = make(map[string]int)
	}
	t.issued[kind]++
}

// authenticate checks the bearer token of a call.
func (s *Server) authenticate(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	header := md.Get("authorization")
	if len(header) == 0 {
		return refuse(codes.Unauthenticated, "Request is missing required authentication credential.")
	}
	token, bearer := strings.CutPrefix(header[0], "Bearer ")
	if !bearer || !s.tokens.check(token) {
		return refuse(codes.Unauthenticated, "Request had invalid authentication credentials. Expected OAuth 2 access token.")
	}
	return nil
}

// check reports whether a token was issued here and is valid, or is a JSON Web Token of the service account.
func (t *tokens) check(token string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if until, ok := t.valid[token]; ok {
		return time.Now().Before(until)
	}
	if t.account == nil || !t.signed(token) {
		return false
	}
	t.count(Account)
	return true
}

// signed reports whether token is a JSON Web Token (RFC 7519) of the service account, with RS256, for this service and not
// expired. The caller holds the lock.
func (t *tokens) signed(token string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err != nil || rsa.VerifyPKCS1v15(&t.account.PublicKey, crypto.SHA256, digest[:], signature) != nil {
		return false
	}
	var claims struct {
		Exp   int64
		Aud   string
		Scope string
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(raw, &claims) != nil {
		return false
	}
	return time.Now().Unix() < claims.Exp && (claims.Aud == "https://cloudkms.googleapis.com/" || strings.Contains(claims.Scope, "cloud"))
}

// serveOAuth answers for the token endpoints and the metadata server.
func (s *Server) serveOAuth(w http.ResponseWriter, r *http.Request) {
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Metadata-Flavor", "Google")
		json.NewEncoder(w).Encode(v)
	}
	token := func(kind string) {
		answer(map[string]any{
			"access_token": s.tokens.issue(kind, time.Hour), "expires_in": 3600, "token_type": "Bearer",
			"issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
		})
	}
	deny := func() {
		w.WriteHeader(http.StatusBadRequest)
		answer(map[string]any{"error": "invalid_grant"})
	}
	switch {
	case r.URL.Path == "/sts":
		if r.FormValue("subject_token") != subjectToken {
			deny()
			return
		}
		token(Federation)
	case strings.HasSuffix(r.URL.Path, ":generateAccessToken"):
		bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !s.tokens.check(bearer) {
			w.WriteHeader(http.StatusUnauthorized)
			answer(map[string]any{"error": map[string]any{"code": 401, "status": "UNAUTHENTICATED"}})
			return
		}
		answer(map[string]any{
			"accessToken": s.tokens.issue(Impersonate, time.Hour),
			"expireTime":  time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		})
	case strings.HasSuffix(r.URL.Path, "/service-accounts/default/token"):
		token(Instance)
	case strings.HasPrefix(r.URL.Path, "/computeMetadata/") || r.URL.Path == "/":
		w.Header().Set("Metadata-Flavor", "Google")
		if strings.HasSuffix(r.URL.Path, "universe-domain") || strings.HasSuffix(r.URL.Path, "universe_domain") {
			w.Write([]byte("googleapis.com"))
		}
	default:
		http.NotFound(w, r)
	}
}
