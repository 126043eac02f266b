package fakeaws

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// user is an access key.
type user struct {
	secret  string
	token   string    // of temporary credentials
	expires time.Time // of temporary credentials
}

// skew is how far the time of a request may be off.
const skew = 5 * time.Minute

// dateFormat is the form of X-Amz-Date.
const dateFormat = "20060102T150405Z"

// AddUser has the server take another access key.
func (s *Server) AddUser(accessKey, secretKey string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[accessKey] = &user{secret: secretKey}
}

// RemoveUser has the server refuse an access key from now on.
func (s *Server) RemoveUser(accessKey string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.users, accessKey)
}

// ExpireTokens ends all temporary credentials that were given out.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.users {
		if u.token != "" {
			u.expires = s.opts.Now().Add(-time.Minute)
		}
	}
}

// authenticate checks the signature of a request to a service and returns the Region that it is for.
//
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
func (s *Server) authenticate(r *http.Request, body []byte, service string) (at string, fail *Error) {
	fields, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return "", errorf("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	parts := make(map[string]string)
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		parts[name] = value
	}
	scope := strings.Split(parts["Credential"], "/")
	signed := strings.Split(parts["SignedHeaders"], ";")
	if len(scope) != 5 || scope[3] != service || scope[4] != "aws4_request" {
		return "", errorf("InvalidSignatureException", "Credential should be scoped to correct service: '%s'.", service)
	}
	for _, name := range []string{"host", "x-amz-date"} {
		if !slices.Contains(signed, name) {
			return "", errorf("IncompleteSignatureException", "'%s' must be a signed header", name)
		}
	}
	if service == "kms" && !slices.Contains(signed, "x-amz-target") {
		return "", errorf("IncompleteSignatureException", "'x-amz-target' must be a signed header")
	}
	date, err := time.Parse(dateFormat, r.Header.Get("X-Amz-Date"))
	if err != nil || scope[1] != date.Format("20060102") {
		return "", errorf("IncompleteSignatureException", "Date must be in ISO-8601 'basic format'")
	}
	s.mu.Lock()
	var u user
	known := s.users[scope[0]]
	if known != nil {
		u = *known
	}
	s.mu.Unlock()
	if known == nil || u.token != r.Header.Get("X-Amz-Security-Token") {
		return "", errorf("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	if u.token != "" && s.opts.Now().After(u.expires) {
		return "", errorf("ExpiredTokenException", "The security token included in the request is expired")
	}
	now := s.opts.Now()
	if age := now.Sub(date); age > skew || age < -skew {
		return "", errorf("InvalidSignatureException", "Signature expired: %s is now earlier than %s", date.Format(dateFormat), now.UTC().Format(dateFormat))
	}
	want, err := sign(r, body, aws.Credentials{AccessKeyID: scope[0], SecretAccessKey: u.secret, SessionToken: u.token}, signed, service, scope[2], date)
	if err != nil || subtle.ConstantTimeCompare([]byte(want), []byte(parts["Signature"])) != 1 {
		return "", errorf("InvalidSignatureException", "The request signature we calculated does not match the signature you provided.")
	}
	return scope[2], nil
}

// sign signs a copy of a request that has the signed headers alone, and returns the signature.
func sign(r *http.Request, body []byte, c aws.Credentials, signed []string, service, region string, date time.Time) (string, error) {
	again, err := http.NewRequestWithContext(context.Background(), r.Method, "http://"+r.Host+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	for _, name := range signed {
		if values := r.Header.Values(name); len(values) > 0 {
			again.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	// The signer signs the length if there is one, whereas clients differ in that.
	again.ContentLength = 0
	if slices.Contains(signed, "content-length") {
		again.ContentLength = r.ContentLength
	}
	hash := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(context.Background(), c, again, hex.EncodeToString(hash[:]), service, region, date); err != nil {
		return "", err
	}
	_, signature, _ := strings.Cut(again.Header.Get("Authorization"), "Signature=")
	return signature, nil
}
