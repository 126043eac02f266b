package pki

import (
	"crypto/x509"
	"reflect"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// offRole is a role whose certificates nobody lints.
func offRole(name string) Role {
	r := anyRole(name)
	r.LintProfile, r.LintOffReason = LintOff, "test"
	return r
}

// TestDirect: without lints a certificate is made without a throwaway signature, is the one that the key has signed, once, and reads back
// as what was returned; what may not be signed is refused as ever.
func TestDirect(t *testing.T) {
	for _, key := range []string{"rsa", "p256", "p384", "p521", "ed25519"} {
		t.Run(key, func(t *testing.T) {
			f := newFirm(t, nil)
			root := f.root(t, key, "root")
			f.role(t, offRole("r"))
			f.signed()
			pair := f.issue(t, "r", "a.example")
			if n := f.signed(); n != 1 {
				t.Errorf("%d signatures", n)
			}
			again, err := x509.ParseCertificate(pair.Certificate.Raw)
			must(t, err)
			if !reflect.DeepEqual(again, pair.Certificate) {
				t.Errorf("it reads back as\n%+v\nnot\n%+v", again, pair.Certificate)
			}
			verify(t, again, root.Certificate())
			stored, err := f.Certificate(t.Context(), serialOf(pair))
			must(t, err)
			if stored.State != StateIssued || !stored.Certificate.Equal(again) {
				t.Errorf("the store has %+v", stored)
			}
		})
	}
}

// TestDirectRefused: what is left out without lints is the signature, not the checks.
func TestDirectRefused(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	ctx := t.Context()
	template := rootTemplate()
	template.Permitted.DNS = []string{"example"}
	_, err := f.GenerateRoot(ctx, KeyRef{Name: "p256"}, "root", template)
	must(t, err)
	f.role(t, offRole("r"))
	f.issue(t, "r", "a.example")
	f.signed()
	_, err = f.Issue(ctx, "r", cn("a.test"))
	wantError(t, err, backend.ErrInvalidParams, "no verifier would accept it")
	if f.signed() != 0 {
		t.Error("a name was signed that a CA above excludes")
	}
}

// TestDirectSpoiled: a signature that doesn't verify is not returned, and the certificate stays pending.
func TestDirectSpoiled(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "ed25519", "root")
	f.role(t, offRole("r"))
	f.house.km.spoil = func(signature []byte) []byte { signature[9] ^= 1; return signature }
	_, err := f.Issue(t.Context(), "r", cn("a.example"))
	wantError(t, err, backend.ErrInvalidSignature)
	n, err := f.Count(t.Context())
	must(t, err)
	if n.Pending != 1 {
		t.Errorf("got %+v", n)
	}
	page, err := f.Search(t.Context(), Query{State: StatePending})
	must(t, err)
	if c := page.Certificates[0].Certificate; len(c.Signature) != 0 || c.CheckSignatureFrom(c) == nil {
		t.Errorf("the pending one has a signature: %x", c.Signature)
	}
}

// TestWrapSigned: the encoding is that of encoding/asn1, whatever the lengths.
func TestWrapSigned(t *testing.T) {
	for _, n := range []int{0, 1, 100, 126, 127, 128, 129, 255, 256, 5000, 70_000} {
		tbs, algorithm := appendHeader(nil, 0), appendHeader(nil, 0)
		out := wrapSigned(tbs, algorithm, make([]byte, n))
		var object signedObject
		unmarshal(t, out, &object)
		if len(object.Signature.Bytes) != n || object.Signature.BitLength != 8*n {
			t.Errorf("%d bytes: got %d", n, len(object.Signature.Bytes))
		}
	}
}
