package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// TestChainsAreContinued: certificates of CAs without a key here are no issuers, but what chains lack. They come one by one, as stock
// command lines send them.
func TestChainsAreContinued(t *testing.T) {
	there, ctx := newFirm(t, nil), t.Context()
	root := there.root(t, "rsa", "root")
	sign := func(issuer, key, name string) *Issued {
		csr, err := there.CreateIntermediateCSR(ctx, KeyRef{Name: key}, CSRTemplate{CA: true, Subject: pkix.Name{CommonName: name}})
		if err != nil {
			t.Fatal(err)
		}
		out, err := there.SignIntermediate(ctx, issuer, csr, CATemplate{Validity: 365 * day})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	sub := sign("root", "p384", "Sub")
	if _, err := there.SetSigned(ctx, "sub", append([]*x509.Certificate{sub.Certificate}, sub.Chain...)); err != nil {
		t.Fatal(err)
	}
	leaf := sign("sub", "p256", "Issuing").Certificate

	here := firmOn(t, there.house, memoryStore(t), nil)
	if _, err := here.AddKey(ctx, KeyRef{Name: "p256"}, ""); err != nil {
		t.Fatal(err)
	}
	length := func() int {
		issuer, err := here.Issuer(ctx, "issuing")
		if err != nil {
			t.Fatal(err)
		}
		return len(issuer.Chain)
	}
	if _, err := here.ImportBundle(ctx, "issuing", []*x509.Certificate{leaf}); err != nil || length() != 1 {
		t.Fatalf("the CA alone: %v, chain of %d", err, length())
	}
	_, err := here.ImportBundle(ctx, "", []*x509.Certificate{root.Certificate()})
	wantErr(t, "a certificate that nothing leads to", err, backend.ErrInvalidParams)
	for i, cert := range []*x509.Certificate{sub.Certificate, root.Certificate()} {
		out, err := here.ImportBundle(ctx, "", []*x509.Certificate{cert})
		if err != nil || len(out.Imported) != 0 || len(out.Others) != 1 || len(out.Extended) != 1 || out.Extended[0].Name != "issuing" {
			t.Fatalf("%s: %+v, %v; want the chain of one issuer extended", cert.Subject, out, err)
		}
		if length() != i+2 {
			t.Errorf("%s: a chain of %d", cert.Subject, length())
		}
	}
	out, err := here.ImportBundle(ctx, "", []*x509.Certificate{root.Certificate()})
	if err != nil || len(out.Extended) != 0 || length() != 3 {
		t.Errorf("again: %+v, %v, chain of %d; want no change and no error", out, err, length())
	}
	if _, err := here.UpdateIssuer(ctx, *mustIssuer(t, here, "issuing")); err != nil {
		t.Errorf("the issuer can't be changed any more: %v", err)
	}
}

// TestChosenChainsStay: a chain that an operator has chosen isn't continued.
func TestChosenChainsStay(t *testing.T) {
	there, ctx := newFirm(t, nil), t.Context()
	root := there.root(t, "rsa", "root")
	csr, err := there.CreateIntermediateCSR(ctx, KeyRef{Name: "p256"}, CSRTemplate{CA: true, Subject: pkix.Name{CommonName: "Sub"}})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := there.SignIntermediate(ctx, "root", csr, CATemplate{Validity: 365 * day, SubjectKeyID: []byte("0123456789abcdefghij")})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(sub.Certificate.SubjectKeyId); got != "0123456789abcdefghij" {
		t.Errorf("its key identifier is %q", got)
	}
	here := firmOn(t, there.house, memoryStore(t), nil)
	if _, err := here.AddKey(ctx, KeyRef{Name: "p256"}, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := here.ImportBundle(ctx, "sub", []*x509.Certificate{sub.Certificate}); err != nil {
		t.Fatal(err)
	}
	chosen := *mustIssuer(t, here, "sub")
	chosen.ManualChain = []string{chosen.ID}
	if _, err := here.UpdateIssuer(ctx, chosen); err != nil {
		t.Fatal(err)
	}
	_, err = here.ImportBundle(ctx, "", []*x509.Certificate{root.Certificate()})
	wantErr(t, "an issuer with a chosen chain", err, backend.ErrInvalidParams)
	if n := len(mustIssuer(t, here, "sub").Chain); n != 1 {
		t.Errorf("the chain has %d certificates", n)
	}
}

func mustIssuer(t *testing.T, f *firm, ref string) *Issuer {
	t.Helper()
	issuer, err := f.Issuer(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}
