package pki

import (
	"crypto/x509"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// TestRootsOfOneName: the next root has the name of the old one, as in tutorials, and their certificates by each other become issuers.
func TestRootsOfOneName(t *testing.T) {
	f, ctx := newFirm(t, nil), t.Context()
	old, err := f.GenerateRoot(ctx, KeyRef{Name: "p256"}, "old", rootTemplate())
	if err != nil {
		t.Fatal(err)
	}
	made, err := f.RotateRoot(ctx, "old", KeyRef{Name: "p384"}, "new", rootTemplate())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		cert  *x509.Certificate
		above *Issuer
	}{{"bridge", made.NewByOld, old}, {"back", made.OldByNew, made.Issuer}} {
		issuer, err := f.SetSigned(ctx, c.name, []*x509.Certificate{c.cert, c.above.Certificate()})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if len(issuer.Chain) != 2 || !issuer.Chain[1].Equal(c.above.Certificate()) {
			t.Errorf("%s: a chain of %d, to %s", c.name, len(issuer.Chain), issuer.Chain[len(issuer.Chain)-1].SerialNumber)
		}
	}
	if err := f.DeleteIssuer(ctx, "bridge"); err != nil {
		t.Fatal(err)
	}
	// Alone, it ends below the root, and what is here continues it.
	out, err := f.ImportBundle(ctx, "", []*x509.Certificate{made.NewByOld})
	if err != nil || len(out.Imported) != 1 || len(out.Imported[0].Chain) != 2 {
		t.Errorf("alone: %+v, %v", out, err)
	}
	// What the new root issues is verified by who knows the old one only.
	role := anyRole("bridged")
	role.IssuerRef = out.Imported[0].ID
	f.role(t, role)
	pair := f.issue(t, "bridged", "a.example")
	verify(t, pair.Certificate, old.Certificate(), pair.Chain...)
	wantErr(t, "replace by a cross-certificate", f.ReplaceRoot(ctx, "back"), backend.ErrInvalidParams)
	again, err := f.Reissue(ctx, "back", "again", 30*day)
	if err != nil || !again.Chain[1].Equal(made.Issuer.Certificate()) || isRoot(again.Certificate()) {
		t.Errorf("reissue of a cross-certificate: %v, %v; want one by the same issuer", again, err)
	}
}
