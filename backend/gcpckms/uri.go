package gcpckms

import (
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// ParseURI implements [backend.URIParser]: it takes the resource name of a key version, as [ParseName] does. scope is a [Params]
// or nil; it gives Credentials.
func (b *Backend) ParseURI(uri string, scope backend.Params) (backend.Params, error) {
	s, ok := scope.(Params)
	if !ok && scope != nil {
		return nil, fmt.Errorf("gcpckms: scope is %T, want %T: %w", scope, s, backend.ErrInvalidParams)
	}
	p, err := ParseName(uri)
	if err != nil {
		return nil, err
	}
	p.Credentials = s.Credentials
	return p, nil
}

// Matches implements [backend.Matcher]: a backend whose client the program made takes no credentials.
func (b *Backend) Matches(params backend.Params) error {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return err
	}
	return b.agrees(p)
}

// agrees returns an error if p has credentials that b can't use.
func (b *Backend) agrees(p Params) error {
	if b.given != nil && p.Credentials != "" {
		return invalid("credentials", "are given, but this backend's client was made by the program; leave them out")
	}
	return nil
}
