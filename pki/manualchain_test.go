package pki

import (
	"crypto/x509"
	"slices"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

func ids(chain []*x509.Certificate) []string {
	var out []string
	for _, cert := range chain {
		out = append(out, FormatSerial(cert.SerialNumber))
	}
	return out
}

// TestManualChain: of two ways to a root the one that is chosen goes with what is issued, in every process, until the choice is taken back;
// a chain that isn't one is refused.
func TestManualChain(t *testing.T) {
	f := newFirm(t, nil)
	ctx := t.Context()
	a, b := f.root(t, "p256", "a"), f.root(t, "p384", "b")
	inter := f.intermediate(t, "a", "p521", "inter")
	found := ids(inter.Chain)
	crossed, err := f.CrossSign(ctx, "b", a.Certificate(), CrossTemplate{})
	if err != nil {
		t.Fatal(err)
	}
	cross, err := f.Import(ctx, KeyRef{Name: "p256"}, "a-by-b", []*x509.Certificate{crossed, b.Certificate()})
	if err != nil {
		t.Fatal(err)
	}
	change := func(refs ...string) (*Issuer, error) {
		now, err := f.Issuer(ctx, "inter")
		if err != nil {
			t.Fatal(err)
		}
		now.ManualChain = refs
		return f.UpdateIssuer(ctx, *now)
	}
	got, err := change("inter", "a-by-b", b.ID)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{inter.ID, cross.ID, b.ID}
	chosen := ids([]*x509.Certificate{inter.Certificate(), crossed, b.Certificate()})
	other := firmOn(t, f.house, f.store, nil)
	read, err := other.Issuer(ctx, "inter")
	if err != nil || !slices.Equal(read.ManualChain, want) || !slices.Equal(ids(read.Chain), chosen) || !slices.Equal(ids(got.Chain), chosen) {
		t.Fatalf("got %+v, %v", read, err)
	}
	role := anyRole("r")
	role.IssuerRef = "inter"
	f.role(t, role)
	for _, f := range []*firm{f, other} {
		if pair := f.issue(t, "r", "a.example"); !slices.Equal(ids(pair.Chain), chosen) {
			t.Errorf("got %v; want %v", ids(pair.Chain), chosen)
		}
	}
	for name, refs := range map[string][]string{
		"not itself first": {"a-by-b", "b"}, "not the issuer": {"inter", "b"}, "twice": {"inter", "inter"}, "none": {"inter", "nobody"}, "more than a root": {"inter", "a", "b"},
		"no name": {"inter", "a/b"}, "too many": slices.Repeat([]string{"inter"}, maxChain+1),
	} {
		if _, err := change(refs...); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			wantError(t, err, backend.ErrInvalidParams)
		}
	}
	if now, err := f.Issuer(ctx, "inter"); err != nil || now.Version != read.Version {
		t.Errorf("a refused chain has changed something: %v", err)
	}
	// What was chosen stays, whatever else is changed, and though an issuer in it is removed.
	must(t, f.DeleteIssuer(ctx, "a-by-b"))
	now, err := f.Issuer(ctx, "inter")
	if err != nil {
		t.Fatal(err)
	}
	now.Name = "renamed"
	if now, err = f.UpdateIssuer(ctx, *now); err != nil || !slices.Equal(ids(now.Chain), chosen) {
		t.Fatal(now, err)
	}
	now.Name, now.ManualChain = "inter", nil
	if now, err = f.UpdateIssuer(ctx, *now); err != nil || now.ManualChain != nil || !slices.Equal(ids(now.Chain), found) {
		t.Fatal(now, err)
	}
	if pair := f.issue(t, "r", "a.example"); !slices.Equal(ids(pair.Chain), found) {
		t.Errorf("got %v; want %v", ids(pair.Chain), found)
	}
}

// TestManualChainLimits: a chain that ends early takes no limit of those above away, with lint and without.
func TestManualChainLimits(t *testing.T) {
	f := newFirm(t, nil)
	ctx := t.Context()
	template := rootTemplate()
	template.Permitted = Subtrees{DNS: []string{"example.com"}}
	template.MaxPathLen = new(1)
	if _, err := f.GenerateRoot(ctx, KeyRef{Name: "p256"}, "root", template); err != nil {
		t.Fatal(err)
	}
	inter := f.intermediate(t, "root", "p384", "inter")
	inter.ManualChain = []string{"inter"}
	inter, err := f.UpdateIssuer(ctx, *inter)
	if err != nil || len(inter.Chain) != 1 {
		t.Fatal(inter, err)
	}
	role := anyRole("r")
	role.IssuerRef = "inter"
	f.role(t, role)
	role.Name, role.LintProfile, role.LintOffReason = "fast", LintOff, "a test"
	f.role(t, role)
	for _, name := range []string{"r", "fast"} {
		if pair := f.issue(t, name, "a.example.com"); len(pair.Chain) != 1 {
			t.Errorf("%d certificates", len(pair.Chain))
		}
		_, err := f.Issue(ctx, name, IssueRequest{CommonName: "a.other.example"})
		wantError(t, err, backend.ErrInvalidParams)
	}
}

// TestChainsInCircles: roots that have certified each other lead nowhere but to a root, whatever the order in which they are known.
func TestChainsInCircles(t *testing.T) {
	f := newFirm(t, nil)
	ctx := t.Context()
	a, b := f.root(t, "p256", "a"), f.root(t, "p384", "b")
	aByB, err := f.CrossSign(ctx, "b", a.Certificate(), CrossTemplate{})
	if err != nil {
		t.Fatal(err)
	}
	bByA, err := f.CrossSign(ctx, "a", b.Certificate(), CrossTemplate{})
	if err != nil {
		t.Fatal(err)
	}
	csr, err := f.CreateIntermediateCSR(ctx, KeyRef{Name: "p521"}, CSRTemplate{CA: true, Subject: rootTemplate().Subject})
	if err != nil {
		t.Fatal(err)
	}
	issued, err := f.SignIntermediate(ctx, "a", csr, CATemplate{Validity: 365 * day, MaxPathLen: new(0)})
	if err != nil {
		t.Fatal(err)
	}
	leafCA, rootA, rootB := issued.Certificate, a.Certificate(), b.Certificate()
	for _, c := range []struct {
		pool []*x509.Certificate
		want []*x509.Certificate
	}{
		{[]*x509.Certificate{aByB, bByA}, []*x509.Certificate{leafCA, aByB, bByA}},
		{[]*x509.Certificate{aByB, bByA, rootA}, []*x509.Certificate{leafCA, rootA}},
		{[]*x509.Certificate{bByA, aByB, rootB}, []*x509.Certificate{leafCA, aByB, rootB}},
		{[]*x509.Certificate{nil, leafCA, rootB}, []*x509.Certificate{leafCA}},
	} {
		if got := inOrder(leafCA, c.pool); !slices.Equal(ids(got), ids(c.want)) {
			t.Errorf("got %v; want %v", ids(got), ids(c.want))
		}
	}
	out, err := f.ImportBundle(ctx, "inter", []*x509.Certificate{bByA, aByB, leafCA, rootA})
	if err != nil || len(out.Imported) != 3 {
		t.Fatalf("got %+v, %v", out, err)
	}
	if inter, err := f.Issuer(ctx, "inter"); err != nil || !slices.Equal(ids(inter.Chain), ids([]*x509.Certificate{leafCA, rootA})) {
		t.Errorf("got %+v, %v", inter, err)
	}
}
