package pkcs11

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// Attributes that this package doesn't set itself.
const (
	attrSubject          = 0x101
	attrLocal            = 0x163
	attrNeverExtractable = 0x164
	attrAlwaysSensitive  = 0x165
	attrModifiable       = 0x170
	attrSignRecover      = 0x109
	attrVerifyRecover    = 0x10B
	attrVendorDefined    = 0x80000000
	attrWrapWithTrusted  = 0x210
	attrAbsentEverywhere = attrVendorDefined + 0x123
)

// attributesOf returns attributes of the one object of a class with p's label.
func attributesOf(tb testing.TB, b *Backend, p Params, of class, types ...uint) map[uint][]byte {
	tb.Helper()
	found := objectsOf(tb, b, p, labelled(p.KeyLabel), ofClass(of))
	if len(found) != 1 {
		tb.Fatalf("%d %s objects have the label %q, want 1", len(found), of, p.KeyLabel)
	}
	c := connectionTo(tb, b, p)
	values := make(map[uint][]byte)
	err := c.do(context.WithoutCancel(tb.Context()), false, false, func(w *worker) error {
		got, err := w.attributes().Read(w.session, found[0], types...)
		for i, v := range got {
			values[types[i]] = bytes.Clone(v)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return values
}

// usages are the attributes that say what a key may do.
var usages = []uint{attrSign, attrVerify, attrEncrypt, attrDecrypt, attrWrap, attrUnwrap, attrDerive, attrSignRecover, attrVerifyRecover}

// TestNewKeysAttributes: keys are sensitive, have never been extractable, and may do what their mechanism is for and
// nothing else.
func TestNewKeysAttributes(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	may := func(types ...uint) map[uint]bool {
		m := make(map[uint]bool)
		for _, a := range types {
			m[a] = true
		}
		return m
	}
	mac := may(attrSign, attrVerify)
	for _, p := range newKeys(r) {
		t.Run(p.KeyLabel, func(t *testing.T) {
			mustGenerate(t, b, p)
			secret, public := may(attrSign), may(attrVerify)
			kind := classPrivate
			switch p.Mechanism {
			case RSAPKCSOAEP:
				secret, public = may(attrDecrypt), may(attrEncrypt)
			case ECDH:
				secret, public = may(attrDerive), nil
			case AESGCM:
				secret, kind = may(attrEncrypt, attrDecrypt), classSecret
			case AESCMAC, SHA256HMAC, 0x271:
				secret, kind = mac, classSecret
			}
			for of, want := range map[class]map[uint]bool{kind: secret, classPublic: public} {
				if of == classPublic && kind == classSecret {
					continue
				}
				for a, value := range attributesOf(t, b, p, of, usages...) {
					if isTrue(value) != want[a] && a != attrSignRecover && a != attrVerifyRecover {
						t.Errorf("%s: attribute 0x%x is %t, want %t", of, a, isTrue(value), want[a])
					}
				}
			}
			got := attributesOf(t, b, p, kind, attrToken, attrPrivate, attrSensitive, attrAlwaysSensitive, attrExtractable,
				attrNeverExtractable, attrLocal, attrID, attrAlwaysAuthenticate, attrValue)
			for a, want := range map[uint]bool{attrToken: true, attrPrivate: true, attrSensitive: true, attrAlwaysSensitive: true,
				attrExtractable: false, attrNeverExtractable: true, attrLocal: true, attrAlwaysAuthenticate: false} {
				if isTrue(got[a]) != want {
					t.Errorf("attribute 0x%x is %t, want %t", a, isTrue(got[a]), want)
				}
			}
			if len(got[attrID]) != idLength {
				t.Errorf("id %x", got[attrID])
			}
			if got[attrValue] != nil {
				t.Error("the token shows the key")
			}
		})
	}
}

// TestLibraryAttributes: what a stanza says is added to new keys, and takes the place of what is set here.
func TestLibraryAttributes(t *testing.T) {
	r := newRig(t)
	b := connectWith(t, Library{Path: r.Path(),
		PrivateKeyAttributes: []Attribute{{attrExtractable, true}, {attrSubject, []byte{0x30, 0}}, {attrDerive, true}, {attrModifiable, false}},
		PublicKeyAttributes:  []Attribute{{attrSubject, "subject"}, {attrEncrypt, true}},
		SecretKeyAttributes:  []Attribute{{attrExtractable, true}, {attrModifiable, false}, {attrWrapWithTrusted, true}},
	})
	p := r.p256("key")
	signsWell(t, mustGenerate(t, b, p))
	private := attributesOf(t, b, p, classPrivate, attrExtractable, attrNeverExtractable, attrSubject, attrDerive, attrSensitive, attrSign, attrModifiable)
	for a, want := range map[uint]bool{attrExtractable: true, attrNeverExtractable: false, attrDerive: true, attrSensitive: true, attrSign: true, attrModifiable: false} {
		if isTrue(private[a]) != want {
			t.Errorf("attribute 0x%x is %t, want %t", a, isTrue(private[a]), want)
		}
	}
	if got := private[attrSubject]; !bytes.Equal(got, []byte{0x30, 0}) {
		t.Errorf("subject %x", got)
	}
	public := attributesOf(t, b, p, classPublic, attrSubject, attrEncrypt, attrVerify)
	if string(public[attrSubject]) != "subject" || !isTrue(public[attrEncrypt]) || !isTrue(public[attrVerify]) {
		t.Errorf("public key: %x", public)
	}
	aes := withBits(r.with("aes", AESGCM), 256)
	mustGenerate(t, b, aes)
	secret := attributesOf(t, b, aes, classSecret, attrExtractable, attrModifiable, attrWrapWithTrusted, attrSensitive)
	if !isTrue(secret[attrExtractable]) || isTrue(secret[attrModifiable]) || !isTrue(secret[attrWrapWithTrusted]) || !isTrue(secret[attrSensitive]) {
		t.Errorf("secret key: %x", secret)
	}
}

// TestAttributesThatTheTokenRefuses: what the token says to them is the error, and no key is made.
func TestAttributesThatTheTokenRefuses(t *testing.T) {
	r := newRig(t)
	b := connectWith(t, Library{Path: r.Path(), PrivateKeyAttributes: []Attribute{{attrAbsentEverywhere, []byte("?")}}})
	_, err := b.Generate(t.Context(), r.p256("key"), nil)
	wants(t, err, backend.ErrUnsupported, "C_GenerateKeyPair", "CKR_ATTRIBUTE_TYPE_INVALID", r.token.Label)
	// SoftHSM2 leaves a session object without a name behind.
	if n := len(objectsOf(t, b, r.p256("key"), labelled("key"))); n != 0 {
		t.Errorf("%d objects were made", n)
	}

	for _, value := range []any{1, int64(1), []string{"a"}, map[string]any{}} {
		_, err := New(Library{Name: "soft", Path: r.Path(), PublicKeyAttributes: []Attribute{{attrSubject, value}}})
		wants(t, err, backend.ErrInvalidParams, "library attributes", "0x101", fmt.Sprintf("%T", value))
	}
}

func TestAttributes(t *testing.T) {
	a := attributes{}.with(1, true).with(2, "two")
	b := a.with(1, false)
	if got, _ := a.of([]Attribute{{2, "zwei"}, {3, uint(3)}}); fmt.Sprint(got) != fmt.Sprint([]cryptoki.Attribute{{Type: 1, Value: true}, {Type: 2, Value: "zwei"}, {Type: 3, Value: uint(3)}}) {
		t.Errorf("got %v", got)
	}
	if fmt.Sprint(a) != fmt.Sprint([]cryptoki.Attribute{{Type: 1, Value: true}, {Type: 2, Value: "two"}}) {
		t.Errorf("the template was changed: %v", a)
	}
	if fmt.Sprint(b) != fmt.Sprint([]cryptoki.Attribute{{Type: 2, Value: "two"}, {Type: 1, Value: false}}) {
		t.Errorf("got %v", b)
	}
}
