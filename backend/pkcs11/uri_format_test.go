package pkcs11

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/managedkeys/managedkeys/backend"
)

func TestURI(t *testing.T) {
	for want, p := range map[string]Params{
		"pkcs11:": {},
		"pkcs11:token=a%20b%2F%3B%C3%A9~%26;serial=01;id=%61%62;object=x%3Fy;type=private?module-name=hsm1&pin-source=env:HSM_PIN&x-mechanism=CKM_ECDSA&x-curve=P256": {
			Library: "hsm1", TokenLabel: "a b/;é~&", TokenSerial: "01", KeyID: "ab", KeyLabel: "x?y", PIN: "env:HSM_PIN", Mechanism: ECDSA, Curve: "P256"},
		"pkcs11:slot-id=7;id=%0A?pin-source=file:/run/a%20b%25&x-mechanism=0x80000042&x-key-bits=2048&x-max-parallel=3&x-force-rw-session=true": {
			Slot: "007", KeyID: "0X0a", PIN: "file:/run/a b%", Mechanism: 0x80000042, KeyBits: 2048, MaxParallel: 3, ForceRWSession: true},
		"pkcs11:token=a?x-mechanism=CKM_RSA_PKCS": {TokenLabel: "a", Mechanism: RSAPKCS}, // no key, so no type
		"pkcs11:slot-id=x;id=%30%78%7A":           {Slot: "x", KeyID: "0xz"},             // not valid: doesn't match more
		"pkcs11:?pin-source=file:////nas/pin":     {PIN: "file://nas/pin"},
		"pkcs11:?pin-source=file:pin":             {PIN: "file:pin"},
	} {
		if got := p.URI(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestURIHidesPINs: what isn't a reference that ParseURI takes is not there at all.
func TestURIHidesPINs(t *testing.T) {
	for _, pin := range []backend.Secret{"hunter2", "ENV:hunter2", "File:/hunter2", "/hunter2", "|hunter2", "env:hunter2\x00", "file:hunter2\xff", "env:", "file:",
		backend.Secret("file:/" + strings.Repeat("hunter2", 600))} {
		p := Params{TokenLabel: "a", PIN: pin}
		if got := p.URI(); got != "pkcs11:token=a" {
			t.Errorf("PIN %.20q: %.80s", string(pin), got)
		}
	}
}

// TestURIHasAllFields fails when a field is added to Params that URI and ParseURI don't know.
func TestURIHasAllFields(t *testing.T) {
	full := Params{Library: "hsm1", TokenLabel: "a", TokenSerial: "b", Slot: "1", KeyLabel: "c", KeyID: "0x01", PIN: "env:D", Mechanism: ECDSA, Curve: "P256",
		KeyBits: 2048, ParameterSet: 65, ForceRWSession: true, MaxParallel: 2}
	for field := range reflect.TypeFor[Params]().Fields() {
		less := full
		v := reflect.ValueOf(&less).Elem().FieldByIndex(field.Index)
		if v.IsZero() {
			t.Errorf("%s: the test does not set it", field.Name)
		}
		v.SetZero()
		if less.URI() == full.URI() {
			t.Errorf("%s: not in the URI", field.Name)
		}
	}
}

func text(limit int) *rapid.Generator[string] {
	runes := rapid.OneOf(rapid.RuneFrom([]rune(" %;?&=/#|+:[]@!$'()*,~^\"<>é鍵")), rapid.Rune())
	return rapid.StringOfN(runes, 1, -1, limit).Filter(func(s string) bool { return checkText("", s, limit) == nil })
}

// validParams draws parameters that Validate accepts, in the form that ParseURI returns, with a reference as PIN.
func validParams(t *rapid.T) Params {
	draw := func(name string, g *rapid.Generator[string]) string { return g.Draw(t, name) }
	p := Params{
		Library:        draw("library", rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,63}`)),
		PIN:            backend.Secret(draw("kind", rapid.SampledFrom([]string{"env:", "file:", "file:/", "file://", "file:///"})) + draw("pin", text(100))),
		Mechanism:      rapid.OneOf(rapid.SampledFrom([]Mechanism{ECDSA, RSAPKCS, RSAPKCSPSS, RSAPKCSOAEP}), rapid.Custom(func(t *rapid.T) Mechanism { return Mechanism(rapid.Uint64().Draw(t, "m")) })).Draw(t, "mechanism"),
		Curve:          draw("curve", rapid.SampledFrom([]string{"", "P256", "P384", "P521"})),
		KeyBits:        rapid.SampledFrom([]int{0, 2048, 3072, 4096}).Draw(t, "bits"),
		ParameterSet:   rapid.SampledFrom([]int{0, 44, 87}).Draw(t, "set"),
		MaxParallel:    rapid.IntRange(0, maxParallel).Draw(t, "parallel"),
		ForceRWSession: rapid.Bool().Draw(t, "rw"),
	}
	which := rapid.IntRange(0, 3).Draw(t, "token")
	if which == 0 {
		p.Slot = rapid.StringMatching(`0|[1-9][0-9]{0,17}`).Draw(t, "slot")
	}
	if which&1 != 0 {
		p.TokenLabel = draw("label", text(maxTokenLabel))
	}
	if which&2 != 0 {
		p.TokenSerial = draw("serial", text(maxTokenSerial))
	}
	named := rapid.IntRange(1, 3).Draw(t, "key")
	if named&1 != 0 {
		p.KeyLabel = draw("object", text(maxLabel))
	}
	if named&2 != 0 {
		p.KeyID = "0x" + hex.EncodeToString(rapid.SliceOfN(rapid.Byte(), 1, maxKeyID).Draw(t, "id"))
	}
	switch p.Mechanism {
	case rsaKeyPairGen, ecKeyPairGen, edwardsKeyPairGen, mldsaKeyPairGen, aesKeyGen, genericSecretKeyGen:
		p.Mechanism = EdDSA
	}
	if m := p.Mechanism; m.known() {
		if !m.is(keyEC) {
			p.Curve = ""
		}
		if !m.is(keyRSA) {
			p.KeyBits = 0
		}
		if !m.is(keyMLDSA) {
			p.ParameterSet = 0
		}
	}
	return p
}

// TestURIRoundTrip: ParseURI(p.URI()) is p.
func TestURIRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := validParams(t)
		if err := p.Validate(); err != nil {
			t.Fatalf("the generator is wrong: %v", err)
		}
		uri := p.URI()
		if got, err := ParseURI(uri); err != nil || got != p {
			t.Fatalf("%s\ngot  %+v with PIN %q, %v\nwant %+v with PIN %q", uri, got, string(got.PIN), err, p, string(p.PIN))
		}
	})
}

// TestLongestURI: what URI writes is never too long for ParseURI.
func TestLongestURI(t *testing.T) {
	p := Params{Library: strings.Repeat("a", 64), TokenLabel: strings.Repeat(" ", 32), TokenSerial: strings.Repeat(" ", 16), KeyLabel: strings.Repeat(" ", 255),
		KeyID: "0x" + strings.Repeat("00", 255), PIN: backend.Secret("file:" + strings.Repeat(" ", maxPINSource-5)), Mechanism: noMechanism, Curve: "P256", KeyBits: 4096,
		ForceRWSession: true, MaxParallel: 4096}
	if got, err := ParseURI(p.URI()); err != nil || got != p {
		t.Errorf("%d bytes: %v", len(p.URI()), err)
	}
}

func FuzzParseURI(f *testing.F) {
	for uri := range rfcExamples {
		f.Add(uri)
	}
	for _, uri := range []string{
		"", "pkcs11:;", "pkcs11:?", "pkcs11:??", "pkcs11:?&", "pkcs11:token=%", "pkcs11:token=%f", "pkcs11:token=%%20", "pkcs11:token=a;token=b", "pKcs11:=",
		"pkcs11:slot-id=00000000000000000000000001;id=%00", "pkcs11:serial=1?pin-source=file:////a", "pkcs11:?pin-source=FILE://LOCALHOST//x", "pkcs11:?pin-source=//x",
		"pkcs11:?pin-source=env:a=b%25&module-name=a.B-c_d", "pkcs11:?pin-value=%25", "pkcs11:?x-mechanism=18446744073709551615&x-curve=P521&x-key-bits=4096",
		"pkcs11:model=a;serial=b;id=%FF?x-max-parallel=4096&x-force-rw-session=true", "pkcs11:type=secret-key?x-mechanism=0x250",
	} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		p, err := ParseURI(uri)
		if err != nil {
			wants(t, err, backend.ErrInvalidParams, "pkcs11: ")
			if p != (Params{}) {
				t.Errorf("parameters beside an error: %+v", p)
			}
			return
		}
		out := p.URI()
		if !p.PIN.IsReference() {
			p.PIN = ""
		}
		if again, err := ParseURI(out); err != nil || again != p || again.URI() != out {
			t.Errorf("%s\nbecame %s\ngot  %#v, %v\nwant %#v", uri, out, again, err, p)
		}
	})
}

func TestObjectURI(t *testing.T) {
	for want, got := range map[string]string{
		"pkcs11:token=a%20token%2F1;serial=s-one;id=%00%AB;object=ca%3B%C3%BC;type=private": objectURI("a token/1", "s-one", []byte{0, 0xab}, "ca;ü", "private"),
		"pkcs11:token=a;serial=;id=%61;type=secret-key":                                     objectURI("a", "", []byte("a"), "", "secret-key"),
		"pkcs11:token=a;serial=b;object=c;type=private":                                     objectURI("a", "b", nil, "c", "private"),
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	// What a key is known as can be opened again.
	rapid.Check(t, func(t *rapid.T) {
		want := Params{TokenLabel: text(maxTokenLabel).Draw(t, "token"), TokenSerial: text(maxTokenSerial).Draw(t, "serial"), KeyLabel: text(maxLabel).Draw(t, "label")}
		id := rapid.SliceOfN(rapid.Byte(), 1, maxKeyID).Draw(t, "id")
		want.KeyID = "0x" + hex.EncodeToString(id)
		uri := objectURI(want.TokenLabel, want.TokenSerial, id, want.KeyLabel, "private")
		if got, err := ParseURI(uri); err != nil || got != want {
			t.Fatalf("%s\ngot  %+v, %v\nwant %+v", uri, got, err, want)
		}
	})
}
