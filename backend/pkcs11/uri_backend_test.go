package pkcs11

import (
	"errors"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// named returns a backend that has libraries of these names, and no modules.
func named(libraries ...string) *Backend {
	var all []library
	for _, name := range libraries {
		all = append(all, library{Library: Library{Name: name}})
	}
	return newBackend(all)
}

// TestFillURI: a scope gives what a URI doesn't say, and the backend its only library.
func TestFillURI(t *testing.T) {
	one, two := named("HSM1"), named("hsm1", "hsm2")
	for _, c := range []struct {
		b     *Backend
		uri   string
		scope backend.Params
		want  Params
	}{
		{one, "pkcs11:token=a;object=k?pin-source=env:PIN&x-mechanism=ECDSA", nil, Params{Library: "HSM1", TokenLabel: "a", KeyLabel: "k", PIN: "env:PIN", Mechanism: ECDSA}},
		{two, "pkcs11:token=a;object=k?module-name=hsm2&pin-source=env:PIN&x-mechanism=ECDSA", Params{Library: "HSM2", PIN: "x"}, Params{Library: "hsm2", TokenLabel: "a", KeyLabel: "k", PIN: "env:PIN", Mechanism: ECDSA}},
		{two, "pkcs11:object=k", Params{Library: "hsm1", Slot: "007", PIN: "1234", Mechanism: RSAPKCS, KeyBits: 2048, KeyLabel: "other", MaxParallel: 3, ForceRWSession: true},
			Params{Library: "hsm1", Slot: "007", KeyLabel: "k", PIN: "1234", Mechanism: RSAPKCS, KeyBits: 2048, MaxParallel: 3, ForceRWSession: true}},
		{one, "pkcs11:slot-id=7;object=k?x-mechanism=ECDSA&x-curve=P384", Params{Slot: "007", PIN: "1234", Mechanism: RSAPKCS, KeyBits: 2048}, Params{Library: "HSM1", Slot: "7", KeyLabel: "k", PIN: "1234", Mechanism: ECDSA, Curve: "P384"}},
		{one, "pkcs11:token=a;serial=1;id=%01?x-mechanism=ECDSA", Params{TokenLabel: "a", PIN: "1234", KeyID: "0x02"}, Params{Library: "HSM1", TokenLabel: "a", TokenSerial: "1", KeyID: "0x01", PIN: "1234", Mechanism: ECDSA}},
	} {
		got, err := c.b.ParseURI(c.uri, c.scope)
		if err != nil || got != c.want || !got.(Params).PIN.Equal(c.want.PIN) {
			t.Errorf("%s: got %+v, %v; want %+v", c.uri, got, err, c.want)
		} else if err := c.b.Matches(got); err != nil {
			t.Errorf("%s: Matches: %v", c.uri, err)
		}
	}
	if err := one.Matches(Params{Library: "hsm2", TokenLabel: "a", KeyLabel: "k", PIN: "1234", Mechanism: ECDSA}); !errors.Is(err, backend.ErrInvalidParams) || !strings.Contains(err.Error(), `"hsm2" is not configured`) {
		t.Errorf("Matches of another library: %v", err)
	}
}

// TestURIOfAnotherToken: a PIN is never taken to a token or a module that it isn't for.
func TestURIOfAnotherToken(t *testing.T) {
	b := named("hsm1", "hsm2")
	const query = "?module-name=hsm1&x-mechanism=ECDSA"
	for uri, scope := range map[string]Params{
		"pkcs11:token=a;object=k" + query:            {TokenLabel: "b", PIN: "12345678"},
		"pkcs11:token=a;serial=1;object=k" + query:   {TokenSerial: "2", PIN: "12345678"},
		"pkcs11:slot-id=1;object=k" + query:          {Slot: "2", PIN: "12345678"},
		"pkcs11:token=a;object=k;id=%01" + query:     {Library: "hsm2", PIN: "12345678"},
		"pkcs11:token=a;object=k?x-mechanism=ECDSA":  {PIN: "12345678"}, // which of two libraries?
		"pkcs11:token=a;object=k?module-name=hsm1":   {PIN: "12345678"}, // which mechanism?
		"pkcs11:token=a" + query:                     {PIN: "12345678"}, // which key?
		"pkcs11:object=k" + query:                    {PIN: "12345678"}, // which token?
		"pkcs11:token=a;object=kk" + query:           {},                // which PIN?
		"pkcs11:token=a;object=k;type=cert" + query:  {PIN: "12345678"},
		"pkcs11:token=a;object=k?pin-value=12345678": {TokenLabel: "b"},
	} {
		_, err := b.ParseURI(uri, scope)
		if !errors.Is(err, backend.ErrInvalidParams) || strings.Contains(err.Error(), "12345678") {
			t.Errorf("%s with %+v: %v", uri, scope, err)
		}
	}
}

// TestListedURI: a key has one URI, by whatever its token is named, and no PIN is in it, not even a reference to one.
func TestListedURI(t *testing.T) {
	token := softhsm.Require(t)
	b := connectWith(t, Library{Path: token.Module})
	p := on(token, "listed;uri=&ä", ECDSA)
	mustGenerate(t, b, withCurve(p, "P256"))
	t.Setenv("LISTED_PIN", token.PIN)
	list := func(scope Params) (uris []string) {
		for info, err := range b.List(t.Context(), scope) {
			if err != nil {
				t.Fatal(err)
			}
			if info.Label == p.KeyLabel {
				uris = append(uris, info.URI)
			}
		}
		return uris
	}
	byLabel := list(p)
	if len(byLabel) != 1 || !strings.HasPrefix(byLabel[0], "pkcs11:token=") || strings.Contains(byLabel[0], "pin") {
		t.Fatalf("got %q", byLabel)
	}
	parsed, err := ParseURI(byLabel[0])
	if err != nil {
		t.Fatal(err)
	}
	bySerial := p
	bySerial.TokenLabel, bySerial.TokenSerial, bySerial.PIN = "", parsed.TokenSerial, "env:LISTED_PIN"
	if got := list(bySerial); len(got) != 1 || got[0] != byLabel[0] {
		t.Errorf("by serial number: got %q, want %q", got, byLabel)
	}
	found, err := b.ParseURI(byLabel[0], Params{PIN: "env:LISTED_PIN"})
	if err != nil {
		t.Fatal(err)
	}
	if key := mustOpen(t, b, found.(Params)); !same(key.Public(), mustOpen(t, b, p).Public()) {
		t.Error("the URI opens another key")
	}
}
