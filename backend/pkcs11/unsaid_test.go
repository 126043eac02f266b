package pkcs11

import (
	"fmt"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
	"github.com/managedkeys/managedkeys/internal/faultp11"
)

// takesNothingForGranted has the token show each usage as it would be by default on most tokens, which SoftHSM2 isn't one
// of: what was not said is not allowed.
func (r *rig) takesNothingForGranted(of class, but ...uint) {
	for _, a := range []uint{attrSign, attrVerify, attrEncrypt, attrDecrypt, attrWrap, attrUnwrap, attrDerive} {
		r.SetAttribute("key", uint64(of), uint64(a), []byte{0})
	}
	for _, a := range but {
		r.SetAttribute("key", uint64(of), uint64(a), []byte{1})
	}
}

// TestTokenRefusesFalse: a token that takes offence at attributes that are false makes the key without them, and the key
// must then be what it would have been.
func TestTokenRefusesFalse(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	for _, code := range []ckr{ckrAttributeReadOnly, ckrAttributeTypeInvalid, ckrAttributeValueInvalid, ckrTemplateInconsistent} {
		for _, kind := range []struct {
			function string
			p        Params
			of       class
			may      []uint
			objects  int
		}{
			{"C_GenerateKeyPair", r.p256("key"), classPrivate, []uint{attrSign}, 2},
			{"C_GenerateKey", withBits(r.with("key", AESGCM), 256), classSecret, []uint{attrEncrypt, attrDecrypt}, 1},
		} {
			t.Run(fmt.Sprintf("%s/%s", code, kind.function), func(t *testing.T) {
				refusal := faultp11.Rule{Function: kind.function, Code: uint64(code), Times: 1}
				generate := func() (backend.Key, error) {
					r.Set(refusal)
					r.ResetCounts()
					defer r.RestoreAttributes()
					return b.Generate(t.Context(), kind.p, nil)
				}
				r.takesNothingForGranted(kind.of, kind.may...)
				key, err := generate()
				if err != nil {
					t.Fatal(err)
				}
				if n := r.Count(kind.function); n != 2 {
					t.Errorf("%s was called %d times, want 2", kind.function, n)
				}
				if _, ok := key.(backend.Signer); ok {
					signsWell(t, key)
				}
				has(t, b, kind.p, kind.objects)
				if err := b.Delete(t.Context(), kind.p); err != nil {
					t.Fatal(err)
				}

				_, err = generate() // SoftHSM2 takes usages for granted
				wants(t, err, backend.ErrUnsupported, "was not told", "is true; it must be false")
				for name, wrong := range map[string]uint{"CKA_EXTRACTABLE": attrExtractable, "CKA_UNWRAP": attrUnwrap, "CKA_DERIVE": attrDerive} {
					r.takesNothingForGranted(kind.of, append(kind.may, wrong)...)
					_, err := generate()
					wants(t, err, backend.ErrUnsupported, name+" is true; it must be false", r.token.Label)
				}
				refusal.Times = 0
				_, err = generate()
				wants(t, err, backend.ErrUnsupported, kind.function, code.Error())
				if n := r.Count(kind.function); n != 2 {
					t.Errorf("%s, which fails for good, was called %d times, want 2", kind.function, n)
				}
				r.Set()
				has(t, b, kind.p, 0)
			})
		}
	}
}

// TestSecondTryFails: what fails when a key is made without saying what it may not do is the error, and nothing is left.
func TestSecondTryFails(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	mustGenerate(t, b, r.p256("other"))
	refusal := faultp11.Rule{Function: "C_GenerateKeyPair", Code: uint64(ckrTemplateInconsistent), Times: 1}
	for _, when := range []faultp11.When{faultp11.Before, faultp11.After} {
		r.Set(refusal, faultp11.Rule{Function: "C_GenerateKeyPair", When: when, Code: uint64(ckrGeneralError), Skip: 1, Times: 1})
		_, err := b.Generate(t.Context(), r.p256("key"), nil)
		wants(t, err, backend.ErrUnavailable, "C_GenerateKeyPair", "CKR_GENERAL_ERROR")
		has(t, b, r.p256("key"), 2)
	}
	r.Set(refusal, faultp11.Rule{Function: "C_GetAttributeValue", Skip: 2, Code: uint64(ckrGeneralError), Times: 1})
	_, err := b.Generate(t.Context(), r.p256("key"), nil) // the search before reads two objects
	wants(t, err, backend.ErrUnavailable, "C_GetAttributeValue", "CKR_GENERAL_ERROR")
	r.Set()
	has(t, b, r.p256("key"), 2)
}

// TestLeftOut: attributes that a stanza leaves out are not sent. Usages are then the token's choice; that the key is secret
// is not.
func TestLeftOut(t *testing.T) {
	r := newRig(t)
	leave := []Attribute{{attrDecrypt, nil}, {attrSign, nil}, {attrUnwrap, nil}, {attrUnwrap, false}, {attrPrivate, nil}, {attrExtractable, nil}}
	b := connectWith(t, Library{Path: r.Path(), PrivateKeyAttributes: leave, SecretKeyAttributes: leave})
	for of, p := range map[class]Params{classPrivate: r.p256("key"), classSecret: withBits(r.with("aes", AESGCM), 256)} {
		mustGenerate(t, b, p)
		got := attributesOf(t, b, p, of, attrDecrypt, attrUnwrap, attrDerive, attrSensitive, attrExtractable)
		for a, want := range map[uint]bool{attrDecrypt: true, attrUnwrap: false, attrDerive: false, attrSensitive: true, attrExtractable: false} {
			if isTrue(got[a]) != want {
				t.Errorf("%s: attribute 0x%x is %t, want %t", of, a, isTrue(got[a]), want)
			}
		}
		for a, wrong := range map[uint64][]byte{attrPrivate: {0}, attrExtractable: {1}} {
			r.SetAttribute("new", uint64(of), a, wrong)
			p.KeyLabel = "new"
			_, err := b.Generate(t.Context(), p, nil)
			wants(t, err, backend.ErrUnsupported, "CKA_"+attributeNames[uint(a)])
			r.RestoreAttributes()
			if n := len(objectsOf(t, b, p, labelled("new"))); n != 0 {
				t.Errorf("%d objects are left of a key that is not secret", n)
			}
		}
	}
	r.SetAttribute("imported", uint64(classSecret), attrExtractable, []byte{1})
	_, err := b.Import(t.Context(), r.with("imported", AESGCM), secret(32), nil)
	wants(t, err, backend.ErrUnsupported, "CKA_EXTRACTABLE")
	r.RestoreAttributes()
	if n := len(objectsOf(t, b, r.p256("imported"), labelled("imported"))); n != 0 {
		t.Errorf("%d objects are left of an import that is not secret", n)
	}
	for _, a := range []uint{attrToken, attrLabel, attrID} {
		_, err := New(Library{Name: "soft", Path: r.Path(), PublicKeyAttributes: []Attribute{{a, nil}}})
		wants(t, err, backend.ErrInvalidParams, fmt.Sprintf("0x%X", a), "leave out")
	}
}

// TestNotSensitive: a token that makes keys that are not secret unless it is told, as SoftHSM2 does, makes none.
func TestNotSensitive(t *testing.T) {
	r := newRig(t)
	b := connectWith(t, Library{Path: r.Path(), PrivateKeyAttributes: []Attribute{{attrSensitive, nil}}})
	_, err := b.Generate(t.Context(), r.p256("key"), nil)
	wants(t, err, backend.ErrUnsupported, "CKA_SENSITIVE is false; it must be true")
	has(t, b, r.p256("key"), 0)
}

func TestPlainer(t *testing.T) {
	a := attributes{}.with(attrSign, true).with(attrDecrypt, false).with(attrLabel, "label")
	if got, ok := (template{public: a, private: a, unsaid: a[:1]}).plainer(); !ok || len(got.public) != 2 || len(got.private) != 2 ||
		fmt.Sprint(got.unsaid) != fmt.Sprint(attributes{a[0], cryptoki.Attribute{Type: attrDecrypt, Value: false}}) {
		t.Errorf("got %v, %t", got, ok)
	}
	if got, ok := (template{private: a.without(attrDecrypt)}).plainer(); ok || len(got.private) != 2 {
		t.Errorf("got %v, %t, of a template that says nothing false", got, ok)
	}
}
