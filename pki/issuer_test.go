package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestIssuers: names, the default, changes, and that another process sees the same.
func TestIssuers(t *testing.T) {
	f := newFirm(t, nil)
	ctx := t.Context()
	if _, err := f.Issuer(ctx, ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("without issuers: %v", err)
	}
	root := f.root(t, "p256", "root")
	inter := f.intermediate(t, "root", "p384", "issuing")
	other := firmOn(t, f.house, f.store, nil)
	for ref, want := range map[string]*Issuer{"": root, "default": root, "root": root, root.ID: root, "issuing": inter, inter.ID: inter} {
		got, err := other.Issuer(ctx, ref)
		if err != nil || got.ID != want.ID || !got.Certificate().Equal(want.Certificate()) || len(got.Chain) != len(want.Chain) || got.Version != want.Version {
			t.Errorf("issuer %q: got %+v, %v", ref, got, err)
		}
	}
	if key, err := f.mount.Key(ctx, "p384"); err != nil || inter.Key != key.UUID() || inter.KeyVersion != 1 {
		t.Errorf("key %s, version %d, %v", inter.Key, inter.KeyVersion, err)
	}
	if err := other.SetDefaultIssuer(ctx, "issuing"); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Issuer(ctx, "default"); err != nil || got.ID != inter.ID {
		t.Errorf("default: %v, %v", got, err)
	}
	change := *inter
	change.Name, change.Usage, change.LeafNotAfter = "issuing-2", SignCRLs, NotAfterTruncate
	changed, err := f.UpdateIssuer(ctx, change)
	if err != nil || changed.Name != "issuing-2" {
		t.Fatal(changed, err)
	}
	_, err = f.UpdateIssuer(ctx, change)
	wantError(t, err, store.ErrConflict)
	if _, err := f.Issuer(ctx, "issuing"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the old name: %v", err)
	}
	f.role(t, anyRole("r"))
	_, err = other.Issue(ctx, "r", IssueRequest{CommonName: "a.example"})
	wantError(t, err, backend.ErrNotPermitted, "issuing-certificates")
	for _, bad := range []Issuer{{Name: "default"}, {Name: root.ID}, {Name: "a/b"}, {Usage: 8}, {LeafNotAfter: "never"},
		{URLs: URLs{CRL: []string{"http://a.example/{{unknown}}"}}}, {URLs: URLs{CRL: []string{"ldap://a.example/"}}}} {
		bad.ID, bad.Version = changed.ID, changed.Version
		_, err := f.UpdateIssuer(ctx, bad)
		wantError(t, err, backend.ErrInvalidParams)
	}
	taken := *changed
	taken.Name = "root"
	_, err = f.UpdateIssuer(ctx, taken)
	wantError(t, err, store.ErrConflict)
	_, err = f.GenerateRoot(ctx, KeyRef{Name: "p521"}, "root", rootTemplate())
	wantError(t, err, backend.ErrInvalidParams, "there is one already")
	if err := f.DeleteIssuer(ctx, "issuing-2"); err != nil {
		t.Fatal(err)
	}
	if all, err := other.Issuers(ctx); err != nil || len(all) != 1 || all[0].ID != root.ID {
		t.Errorf("after deletion: %v, %v", all, err)
	}
	if _, err := other.Issuer(ctx, "default"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the default was deleted: %v", err)
	}
}

// TestRotateRoot: whoever trusts one of two roots verifies what the other one issued.
func TestRotateRoot(t *testing.T) {
	f := newFirm(t, nil)
	ctx := t.Context()
	old := f.root(t, "p256", "old")
	f.role(t, anyRole("r"))
	before := f.issue(t, "r", "a.example").Certificate
	rotation, err := f.RotateRoot(ctx, "old", KeyRef{Name: "p384"}, "next", CATemplate{Validity: 3000 * day})
	if err != nil {
		t.Fatal(err)
	}
	if now, err := f.Issuer(ctx, ""); err != nil || now.ID != old.ID {
		t.Error("rotating must not change the default")
	}
	if err := f.ReplaceRoot(ctx, "next"); err != nil {
		t.Fatal(err)
	}
	after := f.issue(t, "r", "a.example").Certificate
	verify(t, after, old.Certificate(), rotation.NewByOld)
	verify(t, after, rotation.Issuer.Certificate())
	verify(t, before, rotation.Issuer.Certificate(), rotation.OldByNew)
	for _, cert := range []*x509.Certificate{rotation.NewByOld, rotation.OldByNew} {
		if c, err := f.Certificate(ctx, FormatSerial(cert.SerialNumber)); err != nil || c.State != StateIssued {
			t.Errorf("the cross-certificate is not in the store: %v", err)
		}
	}
	f.signed()
	for key, text := range map[string]string{"p256": "it is the old root's", "symmetric": "can't sign", "nobody": "nobody"} {
		if _, err := f.RotateRoot(ctx, "old", KeyRef{Name: key}, "", CATemplate{Validity: day}); err == nil || !bytes.Contains([]byte(err.Error()), []byte(text)) {
			t.Errorf("key %s: %v", key, err)
		}
	}
	inter := f.intermediate(t, "old", "p521", "inter")
	f.signed()
	_, err = f.RotateRoot(ctx, inter.ID, KeyRef{Name: "p256-b"}, "", CATemplate{Validity: day})
	wantError(t, err, backend.ErrInvalidParams, "it is no root")
	wantError(t, f.ReplaceRoot(ctx, inter.ID), backend.ErrInvalidParams, "it is no root")
	if f.signed() != 0 {
		t.Error("something was signed")
	}
}

// TestCrossSign: what verifiers compare stays the same, between authorities too.
func TestCrossSign(t *testing.T) {
	f, g := newFirm(t, nil), newFirm(t, nil)
	f.root(t, "p256", "root")
	rt := rootTemplate()
	rt.Subject.CommonName, rt.Permitted.DNS, rt.MaxPathLen = "Another", []string{"example"}, new(1)
	other, err := g.GenerateRoot(t.Context(), KeyRef{Name: "rsa"}, "root", rt)
	if err != nil {
		t.Fatal(err)
	}
	cert := other.Certificate()
	for name, sign := range map[string]func() (*x509.Certificate, error){
		"cross-sign":       func() (*x509.Certificate, error) { return f.CrossSign(t.Context(), "", cert, CrossTemplate{}) },
		"sign-self-issued": func() (*x509.Certificate, error) { return f.SignSelfIssued(t.Context(), "", cert, CrossTemplate{}) },
	} {
		cross, err := sign()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case !bytes.Equal(cross.RawSubject, cert.RawSubject), !bytes.Equal(cross.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo),
			!bytes.Equal(cross.SubjectKeyId, cert.SubjectKeyId), cross.MaxPathLen != 1, cross.KeyUsage != cert.KeyUsage,
			len(cross.PermittedDNSDomains) != 1, !cross.PermittedDNSDomainsCritical, cross.NotAfter.After(cert.NotAfter):
			t.Errorf("%s: got %+v", name, cross)
		}
	}
	inter := f.intermediate(t, "", "p384", "limited") // has path length 0
	f.signed()
	leaf, err := f.engine.CreateRoot(t.Context(), "p521", rootTemplate())
	if err != nil {
		t.Fatal(err)
	}
	unsigned := *cert
	unsigned.Signature = bytes.Repeat([]byte{1}, 256)
	noCA := *leaf.Certificate()
	noCA.IsCA = false
	critical := *cert
	critical.UnhandledCriticalExtensions = append(critical.UnhandledCriticalExtensions, oidCPS)
	f.signed()
	for name, c := range map[string]struct {
		issuer string
		cert   *x509.Certificate
		text   string
	}{
		"nil": {"", nil, "there is no certificate"}, "no CA": {"", &noCA, "it is not a CA certificate"}, "path length": {inter.ID, cert, "allows no further CA"},
		"itself": {"", inter.Chain[1], "its key is that of the issuer"}, "critical extension": {"", &critical, "critical extension"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.CrossSign(t.Context(), c.issuer, c.cert, CrossTemplate{})
			wantError(t, err, backend.ErrInvalidParams, c.text)
		})
	}
	_, err = f.SignSelfIssued(t.Context(), "", inter.Certificate(), CrossTemplate{})
	wantError(t, err, backend.ErrInvalidParams, "its issuer is")
	_, err = f.SignSelfIssued(t.Context(), "", &unsigned, CrossTemplate{})
	wantError(t, err, backend.ErrInvalidSignature)
	_, err = f.CrossSign(t.Context(), "", cert, CrossTemplate{Validity: 5000 * day})
	wantError(t, err, backend.ErrInvalidParams, "is after the issuer's")
	if f.signed() != 0 {
		t.Error("something was signed")
	}
}

// TestReissue: the same name and key, another period; what was issued before verifies, and there is one CRL.
func TestReissue(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	ctx := t.Context()
	root := f.root(t, "p256", "root")
	inter := f.intermediate(t, "root", "p384", "inter")
	r := anyRole("r")
	r.IssuerRef = "inter"
	f.role(t, r)
	pair := f.issue(t, "r", "a.example")
	now = now.Add(30 * day)
	root2, err := f.Reissue(ctx, "root", "root-2", 5000*day)
	if err != nil {
		t.Fatal(err)
	}
	inter2, err := f.Reissue(ctx, "inter", "inter-2", 400*day)
	if err != nil {
		t.Fatal(err)
	}
	if !root2.Certificate().NotAfter.After(root.Certificate().NotAfter) || !bytes.Equal(inter2.Certificate().SubjectKeyId, inter.Certificate().SubjectKeyId) {
		t.Error("not the same CA for longer")
	}
	roots := x509.NewCertPool()
	roots.AddCert(root2.Certificate())
	pool := x509.NewCertPool()
	pool.AddCert(inter2.Certificate())
	if _, err := pair.Certificate.Verify(x509.VerifyOptions{Roots: roots, Intermediates: pool, CurrentTime: now}); err != nil {
		t.Error(err)
	}
	if _, err := f.Revoke(ctx, serialOf(pair), ReasonKeyCompromise, time.Time{}); err != nil {
		t.Fatal(err)
	}
	a, err1 := f.CRL(ctx, "inter")
	b, err2 := f.CRL(ctx, "inter-2")
	if err1 != nil || err2 != nil || !bytes.Equal(a.DER, b.DER) {
		t.Errorf("two CRLs for one name and key: %v, %v", err1, err2)
	}
	g := newFirm(t, nil)
	far, err := g.Import(ctx, KeyRef{Name: "p384"}, "far", inter.Chain)
	if err != nil {
		t.Fatal(err)
	}
	_, err = g.Reissue(ctx, far.ID, "", day)
	wantError(t, err, backend.ErrInvalidParams, "is not in this authority")
}

// TestImport: only a chain whose key is the managed key makes an issuer.
func TestImport(t *testing.T) {
	f := newFirm(t, nil)
	ctx := t.Context()
	root := certificate(t, "root", "root", testKeys()["rsa-b"].Public(), testKeys()["rsa-b"], nil)
	ca := certificate(t, "ca", "root", testKeys()["p256"].Public(), testKeys()["rsa-b"], nil)
	_, err := f.SetSigned(ctx, "ca", []*x509.Certificate{root, ca})
	wantError(t, err, backend.ErrInvalidParams, "whose key is known here")
	_, err = f.Import(ctx, KeyRef{Name: "p384"}, "ca", []*x509.Certificate{ca, root})
	wantError(t, err, backend.ErrInvalidParams, "another public key")
	_, err = f.Import(ctx, KeyRef{Name: "p256", Version: 2}, "ca", []*x509.Certificate{ca, root})
	wantError(t, err, backend.ErrInvalidParams, "is of version 1")
	issuer, err := f.Import(ctx, KeyRef{Name: "p256"}, "ca", []*x509.Certificate{ca, root})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Import(ctx, KeyRef{Name: "p256"}, "", []*x509.Certificate{ca, root})
	wantError(t, err, backend.ErrKeyExists, issuer.ID)
	f.role(t, anyRole("r"))
	verify(t, f.issue(t, "r", "a.example").Certificate, root, ca)
	if keys, err := f.Keys(ctx); err != nil || len(keys) != 1 || keys[0].UUID != issuer.Key {
		t.Errorf("keys %v, %v", keys, err)
	}
	_, err = f.CreateIntermediateCSR(ctx, KeyRef{Name: "p256"}, CSRTemplate{DNSNames: []string{"a.example"}})
	wantError(t, err, backend.ErrInvalidParams, "a CA has a subject")
	der, err := f.CreateIntermediateCSR(ctx, KeyRef{Name: "p521"}, CSRTemplate{Subject: pkix.Name{CommonName: "x"}, CA: true})
	if err != nil {
		t.Fatal(err)
	}
	if csr, err := ParseCSR(der); err != nil || len(csr.Extensions) != 1 || !csr.Extensions[0].Id.Equal(oidBasicConstraints) || !csr.Extensions[0].Critical {
		t.Errorf("CSR: %+v, %v", csr, err)
	}
}
