package fakeazure

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// issuer signs access tokens.
type issuer struct {
	id  string
	key *rsa.PrivateKey
}

// theIssuer is that of all fakes of a process: the SDK keeps tokens of managed identities for as long as a process lives.
var theIssuer = sync.OnceValues(func() (*issuer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	return &issuer{id: uuid.NewString(), key: key}, err
})

func issuerURL(tenant string) string { return "https://sts.windows.net/" + tenant + "/" }

// Token returns an access token for a resource, such as "https://vault.azure.net", which lives for a while, or has already
// expired if lifetime is negative.
func (s *Server) Token(resource string, lifetime time.Duration) (string, error) {
	now := time.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"aud": resource, "iss": issuerURL(TenantID), "tid": TenantID, "appid": ClientID, "oid": ClientID, "sub": ClientID,
		"iat": now.Unix(), "nbf": now.Add(min(lifetime, 0)).Add(-time.Minute).Unix(), "exp": now.Add(lifetime).Unix(), "ver": "1.0",
	})
	token.Header["kid"] = s.issuer.id
	return token.SignedString(s.issuer.key)
}

// authorized returns an error unless the request has a token of the tenant for resource. The key is found as the JWKS has
// it, by its id.
func (s *Server) authorized(r *http.Request, resource string) error {
	raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return errors.New("request is missing a Bearer or PoP token")
	}
	_, err := jwt.Parse(raw, func(t *jwt.Token) (any, error) {
		if t.Header["kid"] != s.issuer.id {
			return nil, fmt.Errorf("unknown key id %v", t.Header["kid"])
		}
		return s.issuer.key.Public(), nil
	}, jwt.WithValidMethods([]string{"RS256"}), jwt.WithAudience(resource), jwt.WithIssuer(issuerURL(TenantID)), jwt.WithExpirationRequired())
	return err
}

// serveLogin is Entra ID: instance discovery, OpenID configuration, the keys, and the token endpoint.
func (s *Server) serveLogin(w http.ResponseWriter, r *http.Request) {
	host := "https://" + r.Host
	tenant, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/common/discovery/instance":
		named := r.URL.Query().Get("authorization_endpoint")
		writeJSON(w, http.StatusOK, map[string]any{
			"tenant_discovery_endpoint": strings.TrimSuffix(named, "/oauth2/v2.0/authorize") + "/v2.0/.well-known/openid-configuration",
			"api-version":               "1.1",
			"metadata": []any{map[string]any{
				"preferred_network": r.Host, "preferred_cache": r.Host, "aliases": []string{r.Host},
			}},
		})
	case tenant != TenantID:
		writeJSON(w, http.StatusBadRequest, oauthError("invalid_tenant", "AADSTS90002: Tenant '"+tenant+"' not found."))
	case rest == "v2.0/.well-known/openid-configuration":
		writeJSON(w, http.StatusOK, map[string]any{
			"issuer":                 issuerURL(tenant),
			"authorization_endpoint": host + "/" + tenant + "/oauth2/v2.0/authorize",
			"token_endpoint":         host + "/" + tenant + "/oauth2/v2.0/token",
			"jwks_uri":               host + "/" + tenant + "/discovery/v2.0/keys",
		})
	case rest == "discovery/v2.0/keys":
		writeJSON(w, http.StatusOK, map[string]any{"keys": []any{map[string]any{
			"kty": "RSA", "use": "sig", "kid": s.issuer.id, "n": b64(s.issuer.key.N.Bytes()), "e": b64(big.NewInt(int64(s.issuer.key.E)).Bytes()),
		}}})
	case rest == "oauth2/v2.0/token" && r.Method == http.MethodPost:
		s.serveToken(w, r)
	default:
		http.NotFound(w, r)
	}
}

// serveToken grants a token for client credentials: a secret or a federated token (RFC 6749, Section 4.4; RFC 7523).
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	s.grant(w, r, func() (string, error) {
		if err := r.ParseForm(); err != nil {
			return "", err
		}
		scope := ""
		for part := range strings.FieldsSeq(r.PostForm.Get("scope")) {
			if strings.HasSuffix(part, "/.default") {
				scope = part
			}
		}
		good := r.PostForm.Get("grant_type") == "client_credentials" && r.PostForm.Get("client_id") == ClientID &&
			(equal(r.PostForm.Get("client_secret"), ClientSecret) || equal(r.PostForm.Get("client_assertion"), FederatedToken))
		if !good || scope == "" {
			return "", errors.New("AADSTS7000215: Invalid client secret provided, or no such client")
		}
		return strings.TrimSuffix(scope, "/.default"), nil
	})
}

// serveIdentity is a source of managed identities: the instance's metadata service, or App Service's.
func (s *Server) serveIdentity(w http.ResponseWriter, r *http.Request) {
	resource := r.URL.Query().Get("resource")
	if resource == "" || r.Header.Get("Metadata") != "true" && !equal(r.Header.Get("X-IDENTITY-HEADER"), IdentityHeader) {
		// As the true one does, for the probe that has no header.
		writeJSON(w, http.StatusBadRequest, oauthError("invalid_request", "Required metadata header not specified"))
		return
	}
	s.grant(w, r, func() (string, error) { return strings.TrimSuffix(resource, "/"), nil })
}

// grant answers with a token for the resource that check returns.
func (s *Server) grant(w http.ResponseWriter, r *http.Request, check func() (resource string, err error)) {
	fault, met := s.Script.Next("token")
	s.Log.Add(fakecloud.Request{Op: "token", Key: r.Host})
	if met {
		fault.Wait(r.Context())
		if s.fail(w, fault) {
			return
		}
	}
	resource, err := check()
	if err != nil {
		writeJSON(w, http.StatusUnauthorized, oauthError("invalid_client", err.Error()))
		return
	}
	token, err := s.Token(resource, s.opts.TokenLifetime)
	if err != nil {
		writeJSON(w, http.StatusInternalServerError, oauthError("server_error", err.Error()))
		return
	}
	seconds := int(s.opts.TokenLifetime / time.Second)
	answer := map[string]any{
		"token_type": "Bearer", "access_token": token, "expires_in": seconds, "ext_expires_in": seconds,
		"expires_on": fmt.Sprint(time.Now().Add(s.opts.TokenLifetime).Unix()), "resource": resource,
	}
	writeJSON(w, http.StatusOK, answer)
}

func oauthError(code, description string) map[string]any {
	return map[string]any{"error": code, "error_description": description, "correlation_id": uuid.NewString()}
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }
