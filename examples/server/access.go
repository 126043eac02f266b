package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/managedkeys/managedkeys/managedkey/config"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/namespace"
)

// admission is what a configuration says about who may do what, and the certificates of its listeners. It is immutable.
type admission struct {
	who      httpapi.Authenticator
	policies *httpapi.Policies
	ports    map[string]port // by nameOf
}

// newAdmission reads all that it needs; what it returns reads nothing more.
func newAdmission(cfg *config.Config) (*admission, error) {
	var tokens []httpapi.Token
	var certs []certificate
	for _, a := range cfg.Auth {
		if a.Type == "cert" {
			one, err := newCertificate(a)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", a.Pos, err)
			}
			certs = append(certs, one)
			continue
		}
		hash := strings.ReplaceAll(a.TokenSHA256, ":", "")
		if a.Token != "" {
			token, err := a.Token.Resolve()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", a.Pos, err)
			}
			hash = httpapi.HashToken(token)
		}
		tokens = append(tokens, httpapi.Token{SHA256: hash, Accessor: "token:" + a.Name, Name: a.Name, Namespace: a.Namespace, Policies: a.Policies})
	}
	known, err := httpapi.NewTokens(tokens...)
	if err != nil {
		return nil, err
	}
	var policies []httpapi.Policy
	for _, p := range cfg.Policies {
		one := httpapi.Policy{Name: p.Name}
		for _, r := range p.Rules {
			one.Rules = append(one.Rules, httpapi.Rule{Path: r.Pattern, Capabilities: r.Capabilities})
		}
		policies = append(policies, one)
	}
	may, err := httpapi.NewPolicies(policies...)
	if err != nil {
		return nil, err
	}
	out := &admission{httpapi.AnyOf(known, certificates(certs)), may, make(map[string]port)}
	for _, l := range cfg.Listeners {
		p, err := newPort(l, certs)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.Pos, err)
		}
		out.ports[nameOf(l)] = p
	}
	return out, nil
}

// access is an admission that can be replaced. A request is under the same one from its beginning to its end: one that knows the
// caller by a former file, and the policies by the next, could refuse what both allow.
type access struct{ now atomic.Pointer[admission] }

// entered is what a request knows of its admission.
type entered struct {
	*admission
	port port
}

type enteredKey struct{}

// through lets the requests of a listener in.
func (a *access) through(listener string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := a.now.Load()
		ctx := context.WithValue(r.Context(), enteredKey{}, entered{now, now.ports[listener]})
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// tls returns the TLS configuration of a listener, each connection of which has the certificates of its time; nil without TLS.
func (a *access) tls(l *config.Listener) *tls.Config {
	name := nameOf(l)
	if a.now.Load().ports[name].tls == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return a.now.Load().ports[name].tls, nil },
	}
}

// Authenticate implements httpapi.Authenticator.
func (*access) Authenticate(r *http.Request) (*httpapi.Identity, error) {
	return r.Context().Value(enteredKey{}).(entered).who.Authenticate(r)
}

// Capabilities implements httpapi.Authorizer.
func (*access) Capabilities(ctx context.Context, id *httpapi.Identity, ns namespace.Path, path string) (httpapi.Capability, error) {
	return ctx.Value(enteredKey{}).(entered).policies.Capabilities(ctx, id, ns, path)
}

// Reaches implements httpapi.Reacher.
func (*access) Reaches(ctx context.Context, id *httpapi.Identity, ns namespace.Path, path string) (bool, error) {
	return ctx.Value(enteredKey{}).(entered).policies.Reaches(ctx, id, ns, path)
}
