package software

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// scheme begins the URI of every key.
const scheme = Type + ":"

// maxURI is the longest URI that is read, in bytes.
const maxURI = 4096

// URI returns "software:STORE/NAME" of p's Store and KeyName, each percent-encoded as a segment of a path (RFC 3986, Section
// 3.3). The name is that of whatever key the store has under it, as in Params.
func (p Params) URI() string {
	return scheme + url.PathEscape(p.Store) + "/" + url.PathEscape(p.KeyName)
}

// ParseURI returns the parameters that a URI of [Params.URI] names: KeyName, and Store if it isn't empty. Each key has one URI;
// other spellings are refused. The error wraps backend.ErrInvalidParams.
func ParseURI(uri string) (Params, error) {
	refuse := func() (Params, error) {
		return Params{}, fmt.Errorf("software: URI: got %.300q; it takes %sSTORE/NAME, percent-encoded where that is needed and nowhere else: %w", uri, scheme, backend.ErrInvalidParams)
	}
	rest, ok := strings.CutPrefix(uri, scheme)
	store, name, both := strings.Cut(rest, "/")
	if !ok || !both || len(uri) > maxURI {
		return refuse()
	}
	var p Params
	var err error
	if p.Store, err = url.PathUnescape(store); err != nil {
		return refuse()
	}
	if p.KeyName, err = url.PathUnescape(name); err != nil || p.URI() != uri {
		return refuse()
	}
	return p, p.Validate()
}

// ParseURI implements [backend.URIParser] with the function [ParseURI]. There is nothing that scope could add.
func (b *Backend) ParseURI(uri string, scope backend.Params) (backend.Params, error) {
	s, ok := scope.(Params)
	if !ok && scope != nil {
		return nil, fmt.Errorf("software: scope is %T, want %T: %w", scope, s, backend.ErrInvalidParams)
	}
	p, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}
	if s.Store != "" && p.Store != "" && s.Store != p.Store {
		return nil, fmt.Errorf("software: URI: the store is %.40q, but the scope is of %.40q: %w", p.Store, s.Store, backend.ErrInvalidParams)
	}
	return p, nil
}

// Matches implements [backend.Matcher]: the store is that of the backend.
func (b *Backend) Matches(params backend.Params) error {
	_, err := b.params(params)
	return err
}
