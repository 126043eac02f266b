package httpapi

import (
	"errors"
	"net/http"
	"time"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// authenticate finds out who makes the request.
func (c *call) authenticate() error {
	if c.api.opts.Authenticator == nil {
		return c.deny(classDenied, "this server lets nobody in", nil)
	}
	id, err := c.api.opts.Authenticator.Authenticate(c.r)
	if answer, ok := errors.AsType[*Error](err); ok {
		c.denial = denial{classDenied, "the credentials were refused", id}
		return answer
	}
	switch {
	case errors.Is(err, ErrNoCredentials):
		return c.deny(classNone, "no credentials", id)
	case err != nil || id == nil:
		return c.deny(classDenied, "the credentials were refused", id)
	case !id.Expires.IsZero() && !time.Now().Before(id.Expires):
		return c.deny(classDenied, "the credentials have expired", id)
	case !id.Namespace.Contains(c.ns):
		return c.deny(classNotPermitted, "outside the namespace of the caller", id)
	}
	c.id = id
	c.r = c.r.WithContext(managedkey.WithActor(c.r.Context(), managedkey.Actor{
		ID: id.ID, Name: id.Name, Address: c.api.limits.ClientAddress(c.r), RequestID: c.requestID,
	}))
	return nil
}

// may returns what the caller may do with a path of a namespace.
func (c *call) may(ns namespace.Path, path string) (Capability, error) {
	if c.api.opts.Authorizer == nil || !c.id.Namespace.Contains(ns) {
		return Deny, nil
	}
	return c.api.opts.Authorizer.Capabilities(c.r.Context(), c.id, ns, path)
}

// demand returns an error unless the caller may do that with the path.
func (c *call) demand(want Capability) error {
	path := c.path
	if want&List != 0 {
		path += "/"
	}
	may, err := c.may(c.ns, path)
	if err != nil {
		c.api.log.ErrorContext(c.r.Context(), "httpapi: the authorizer", "request_id", c.requestID, "error", err)
		return c.deny(managedkey.ErrorClass(err), "the authorizer failed", c.id)
	}
	if !may.allows(want) {
		c.wanted = want
		return c.deny(classNotPermitted, "no policy allows it", c.id)
	}
	return nil
}

// capability returns what the method takes.
func (c *call) capability(exists func() bool) Capability {
	switch c.method {
	case "LIST":
		return List
	case http.MethodDelete:
		return Delete
	case http.MethodPatch:
		return Patch
	case http.MethodPost:
		if exists != nil && !exists() {
			return Create
		}
		return Update
	}
	return Read
}

// authorize returns an error unless the caller may do what it asks of a path of the system, which may be unknown.
func (c *call) authorize(to *route) error {
	if to == nil {
		return c.demand(c.capability(nil))
	}
	if to.self {
		return nil
	}
	var exists func() bool
	if to.exists != nil {
		exists = func() bool { return to.exists(c) }
	}
	want := c.capability(exists)
	if to.sudo {
		want |= Sudo
	}
	return c.demand(want)
}
