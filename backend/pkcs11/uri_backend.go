package pkcs11

import (
	"fmt"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// ParseURI implements backend.URIParser: it takes what the function [ParseURI] takes. scope is a [Params] or nil. It gives
// the PIN, the token, Library, Mechanism (with Curve, KeyBits and ParameterSet), MaxParallel and ForceRWSession where the URI
// says nothing about them; and if neither names a library, it is the only one that the backend has. A scope that names
// another library or another token is refused: its PIN is not for that one, and a token locks after a few wrong ones.
func (b *Backend) ParseURI(uri string, scope backend.Params) (backend.Params, error) {
	p, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}
	s, ok := scope.(Params)
	if !ok && scope != nil {
		return nil, fmt.Errorf("pkcs11: scope is %T, want %T: %w", scope, s, backend.ErrInvalidParams)
	}
	if err := p.fill(s); err != nil {
		return nil, err
	}
	if p.Library == "" && len(b.libraries) == 1 {
		for _, l := range b.libraries {
			p.Library = l.Name
		}
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return p, nil
}

// fill sets what p, which a URI said, says nothing about.
func (p *Params) fill(scope Params) error {
	for _, f := range []struct {
		name string
		own  *string
		from string
		same func(a, b string) bool
	}{
		{"module-name", &p.Library, scope.Library, strings.EqualFold},
		{"token", &p.TokenLabel, scope.TokenLabel, equal},
		{"serial", &p.TokenSerial, scope.TokenSerial, equal},
		{"slot-id", &p.Slot, scope.slotNumber(), equal},
	} {
		if *f.own != "" && f.from != "" && !f.same(*f.own, f.from) {
			return invalid(field(f.name), "is %.80q, but the scope is of %.80q", *f.own, f.from)
		}
		if f.name == "module-name" && *f.own == "" {
			*f.own = f.from
		}
	}
	if p.TokenLabel == "" && p.TokenSerial == "" && p.Slot == "" {
		p.TokenLabel, p.TokenSerial, p.Slot = scope.TokenLabel, scope.TokenSerial, scope.Slot
	}
	if p.PIN == "" {
		p.PIN = scope.PIN
	}
	if p.Mechanism == 0 {
		p.Mechanism = scope.Mechanism
		if p.Curve == "" && p.KeyBits == 0 && p.ParameterSet == 0 {
			p.Curve, p.KeyBits, p.ParameterSet = scope.Curve, scope.KeyBits, scope.ParameterSet
		}
	}
	if p.MaxParallel == 0 {
		p.MaxParallel = scope.MaxParallel
	}
	p.ForceRWSession = p.ForceRWSession || scope.ForceRWSession
	return nil
}

func equal(a, b string) bool { return a == b }

// slotNumber returns Slot as a URI has it, without leading zeros.
func (p Params) slotNumber() string {
	if n, err := p.slot(); err == nil && p.Slot != "" {
		return fmt.Sprint(n)
	}
	return p.Slot
}

// uri returns the URI of a key of the token that has the parameters p: the same for everyone who lists it, by whatever they
// name the token, and without their PIN.
func (c *conn) uri(p Params) string {
	p.PIN = ""
	named := p
	named.Slot, named.TokenLabel, named.TokenSerial = "", c.info.Label, c.info.Serial
	if named.TokenLabel == "" && named.TokenSerial == "" {
		return p.URI()
	}
	uri := named.URI()
	if _, err := ParseURI(uri); err != nil { // the token's label is nothing that Params take
		return p.URI()
	}
	return uri
}

// Matches implements backend.Matcher: the backend has the library.
func (b *Backend) Matches(params backend.Params) error {
	p, err := parameters(params)
	if err != nil {
		return err
	}
	_, err = b.library(p.Library)
	return err
}
