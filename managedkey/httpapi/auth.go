package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/namespace"
)

// Identity is who makes a request.
type Identity struct {
	ID   string // stable, and no secret: it is recorded with everything that the identity does
	Name string // for people

	// Namespace confines the identity: it may act in it and in those below, and nowhere else. The paths of its policies are
	// relative to it.
	Namespace namespace.Path

	Policies []string  // names; what they mean is the Authorizer's
	Created  time.Time // zero if unknown
	Expires  time.Time // zero if never
}

// Authenticator says who makes a request. It is called concurrently.
//
// The error wraps [ErrNoCredentials] if the request has none of the kind that the Authenticator takes. Whatever else the error is,
// the client only learns that it was refused. An Identity beside an error is who it seems to be, for the record: it may do nothing.
type Authenticator interface {
	Authenticate(r *http.Request) (*Identity, error)
}

// Authorizer says what an identity may do. It is called concurrently.
type Authorizer interface {
	// Capabilities returns what id may do with a path of a namespace, such as "sys/mounts/pki"; Deny or 0 for nothing. The path
	// ends in a slash if it is to be listed. ns is id.Namespace or below.
	Capabilities(ctx context.Context, id *Identity, ns namespace.Path, path string) (Capability, error)
}

// Reacher is an Authorizer that can say whether an identity may do anything with what is under a path, the mount's, which
// sys/internal/ui/mounts shows only then. Of other Authorizers the capabilities for the path itself are asked.
type Reacher interface {
	Reaches(ctx context.Context, id *Identity, ns namespace.Path, path string) (bool, error)
}

var (
	// ErrNoCredentials is wrapped by the error of an Authenticator for a request that has no credentials of its kind.
	ErrNoCredentials = errors.New("httpapi: no credentials")

	// ErrDenied is wrapped by the error of an Authenticator for credentials that it refuses.
	ErrDenied = errors.New("httpapi: credentials refused")
)

// AnyOf returns an Authenticator that asks all in turn. The first whose kind of credentials the request has decides: a token that is
// refused is not made good by a certificate.
func AnyOf(all ...Authenticator) Authenticator { return anyOf(all) }

type anyOf []Authenticator

func (all anyOf) Authenticate(r *http.Request) (*Identity, error) {
	for _, one := range all {
		id, err := one.Authenticate(r)
		if !errors.Is(err, ErrNoCredentials) {
			return id, err
		}
	}
	return nil, ErrNoCredentials
}

// tokenOf returns the token that a request has, in X-Vault-Token or as a bearer token; "" if none. There may be one only: which of
// two decides must not depend on who reads them.
func tokenOf(h http.Header) (string, error) {
	tokens := h.Values("X-Vault-Token")
	for _, value := range h.Values("Authorization") {
		scheme, token, _ := strings.Cut(value, " ")
		if strings.EqualFold(scheme, "Bearer") {
			tokens = append(tokens[:len(tokens):len(tokens)], strings.TrimSpace(token))
		}
	}
	switch {
	case len(tokens) == 0:
		return "", nil
	case len(tokens) > 1:
		return "", refuse(http.StatusBadRequest, "the request has several tokens; it takes one")
	case len(tokens[0]) > maxToken:
		return "", ErrDenied
	}
	return tokens[0], nil
}

// maxToken is the length of the longest token that is looked at, in bytes.
const maxToken = 4096

type contextKey struct{}

// callOf returns the call that ctx is of, or nil.
func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(contextKey{}).(*call)
	return c
}

// IdentityOf returns who made the request that ctx is of, for engines; nil for a path that is public.
func IdentityOf(ctx context.Context) *Identity {
	if c := callOf(ctx); c != nil {
		return c.id
	}
	return nil
}

// RequestID returns the id of the request that ctx is of; "" if there is none.
func RequestID(ctx context.Context) string {
	if c := callOf(ctx); c != nil {
		return c.requestID
	}
	return ""
}
