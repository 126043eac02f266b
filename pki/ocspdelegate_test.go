package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestOCSPResponder: a delegated key answers although the issuer's is away, its certificate is what RFC 6960, Section 4.2.2.2, demands, is
// renewed in time, and not used once it is revoked.
func TestOCSPResponder(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	ctx := t.Context()
	root := f.root(t, "p384", "root")
	f.role(t, anyRole("r"))
	pair := f.issue(t, "r", "a.example")
	_, err := f.OCSPResponder(ctx, "root")
	wantError(t, err, store.ErrNotFound)
	made, err := f.SetOCSPResponder(ctx, "root", KeyRef{Name: "p256-b"}, OCSPResponderTemplate{Validity: 30 * day})
	if err != nil {
		t.Fatal(err)
	}
	cert := made.Certificate
	noCheck := false
	for _, e := range cert.Extensions {
		noCheck = noCheck || e.Id.Equal(oidOCSPNoCheck) && !e.Critical && bytes.Equal(e.Value, []byte{5, 0})
	}
	if !noCheck || cert.KeyUsage != x509.KeyUsageDigitalSignature || len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageOCSPSigning ||
		cert.IsCA || cert.Subject.CommonName != "OCSP responder" || !equalKeys(cert.PublicKey, testKeys()["p256-b"].Public()) {
		t.Errorf("the certificate: %+v", cert)
	}
	must(t, f.house.registry.Revoke(ctx, f.mount, "p384"))
	request := question(t, root.Certificate(), crypto.SHA1, nil, pair.Certificate.SerialNumber)
	answer := f.AnswerOCSP(ctx, request)
	got := read(t, answer, root.Certificate(), x509.ECDSAWithSHA256)
	if len(got.certs) != 1 || !got.certs[0].Equal(cert) || got.statuses[0] != 0 || string(got.byKey) != hashOf(crypto.SHA1, publicKeyBits(cert)) {
		t.Errorf("got %+v", got)
	}
	if response, err := ocsp.ParseResponse(answer.DER, root.Certificate()); err != nil || response.Status != ocsp.Good {
		t.Errorf("x/crypto/ocsp: %+v, %v", response, err)
	}
	if _, err := f.Revoke(ctx, serialOf(pair), ReasonSuperseded, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, f.AnswerOCSP(ctx, request), root.Certificate(), x509.ECDSAWithSHA256); got.statuses[0] != 1 {
		t.Error("a revocation is not told while the issuer's key is away")
	}

	now = now.Add(21 * day) // less than a third is left, and the issuer's key is away
	if err := f.Maintain(ctx); !errors.Is(err, backend.ErrNotPermitted) {
		t.Errorf("Maintain: %v", err)
	}
	must(t, f.house.registry.Grant(ctx, f.mount, "p384"))
	now = now.Add(responderTurn)
	must(t, f.Maintain(ctx))
	renewed, err := f.OCSPResponder(ctx, "root")
	if err != nil || renewed.Certificate.Equal(cert) || !renewed.Certificate.NotAfter.After(cert.NotAfter) || renewed.Key.Name != "p256-b" ||
		renewed.Template.Validity != 30*day || !bytes.Equal(renewed.Certificate.RawSubject, cert.RawSubject) {
		t.Fatalf("renewed: %+v, %v", renewed, err)
	}
	must(t, f.Maintain(ctx))
	if same, err := f.OCSPResponder(ctx, "root"); err != nil || !same.Certificate.Equal(renewed.Certificate) {
		t.Errorf("it was renewed again: %v", err)
	}
	if got := read(t, f.AnswerOCSP(ctx, request), root.Certificate(), x509.ECDSAWithSHA256); !got.certs[0].Equal(renewed.Certificate) {
		t.Error("the renewed certificate is not used")
	}

	if _, err := f.Revoke(ctx, FormatSerial(renewed.Certificate.SerialNumber), ReasonKeyCompromise, time.Time{}); err != nil {
		t.Fatal(err)
	}
	g := firmOn(t, f.house, f.store, &Options{Now: f.engine.now})
	f.forgetOCSP() // a second later
	for _, f := range []*firm{f, g} {
		if answer := f.AnswerOCSP(ctx, request); answer.Status != OCSPUnauthorized {
			t.Errorf("the responder's certificate is revoked: %s", answer.Status)
		}
	}
	now = now.Add(25 * day)
	if err := f.Maintain(ctx); err == nil {
		t.Error("a revoked responder was renewed")
	}
	must(t, f.DeleteOCSPResponder(ctx, "root"))
	if got := read(t, f.AnswerOCSP(ctx, request), root.Certificate(), x509.ECDSAWithSHA384); len(got.certs) != 0 {
		t.Error("the issuer itself answers with a certificate")
	}
}

// TestOCSPResponderRefused: nothing is signed for a responder that can't be.
func TestOCSPResponderRefused(t *testing.T) {
	f := newFirm(t, nil)
	root := f.root(t, "p384", "root")
	f.signed()
	for name, c := range map[string]struct {
		key      string
		template OCSPResponderTemplate
		sentinel error
		text     string
	}{
		"the issuer's key": {"p384", OCSPResponderTemplate{}, backend.ErrInvalidParams, "is that of the issuer"},
		"no key":           {"absent", OCSPResponderTemplate{}, backend.ErrKeyNotFound, "absent"},
		"symmetric":        {"symmetric", OCSPResponderTemplate{}, backend.ErrUnsupported, "symmetric"},
		"validity":         {"p256", OCSPResponderTemplate{Validity: time.Minute}, backend.ErrInvalidParams, "an hour or more"},
		"algorithm":        {"p256", OCSPResponderTemplate{SignatureAlgorithm: x509.PureEd25519}, backend.ErrUnsupported, "Ed25519"},
		"subject":          {"p256", OCSPResponderTemplate{Subject: pkix.Name{CommonName: "a\u0007"}}, backend.ErrInvalidParams, "control"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.SetOCSPResponder(t.Context(), "root", KeyRef{Name: c.key}, c.template)
			wantError(t, err, c.sentinel, c.text)
		})
	}
	root.Usage = IssueCertificates
	if _, err := f.UpdateIssuer(t.Context(), *root); err != nil {
		t.Fatal(err)
	}
	_, err := f.SetOCSPResponder(t.Context(), "root", KeyRef{Name: "p256"}, OCSPResponderTemplate{})
	wantError(t, err, backend.ErrNotPermitted, "ocsp-signing")
	if f.signed() != 0 {
		t.Error("something was signed")
	}
}

// TestOCSPResponderOfLimitedIssuer: an issuer whose extended key usages don't have OCSPSigning, and must not, has a responder all the same.
func TestOCSPResponderOfLimitedIssuer(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p384", "root")
	csr, err := f.CreateIntermediateCSR(t.Context(), KeyRef{Name: "p256"}, CSRTemplate{CA: true, Subject: pkix.Name{Organization: []string{"Example"}, CommonName: "Sub"}})
	if err != nil {
		t.Fatal(err)
	}
	issued, err := f.SignIntermediate(t.Context(), "root", csr, CATemplate{Validity: 365 * day, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := f.SetSigned(t.Context(), "sub", append([]*x509.Certificate{issued.Certificate}, issued.Chain...))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.SetOCSPResponder(t.Context(), "sub", KeyRef{Name: "p521"}, OCSPResponderTemplate{}); err != nil {
		t.Fatal(err)
	}
	answer := f.AnswerOCSP(t.Context(), question(t, issuer.Certificate(), crypto.SHA1, nil, big.NewInt(1)))
	read(t, answer, issuer.Certificate(), x509.ECDSAWithSHA512)
}

// TestPresignOCSP: what was signed ahead is given without the key, and nothing is signed twice.
func TestPresignOCSP(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	ctx := t.Context()
	root := f.root(t, "p384", "root")
	f.role(t, anyRole("r"))
	var serials []*big.Int
	for range 3 {
		serials = append(serials, f.issue(t, "r", "a.example").Certificate.SerialNumber)
	}
	if _, err := f.Revoke(ctx, FormatSerial(serials[0]), ReasonSuperseded, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := f.SetOCSPConfig(ctx, OCSPConfig{Presign: true}); err != nil {
		t.Fatal(err)
	}
	must(t, f.Maintain(ctx))
	if n, err := f.PresignOCSP(ctx, "root"); n != 0 || err != nil {
		t.Errorf("%d answers were signed again, %v", n, err)
	}
	must(t, f.house.registry.Revoke(ctx, f.mount, "p384"))
	g := firmOn(t, f.house, f.store, &Options{Now: f.engine.now})
	for i, serial := range serials {
		for _, hash := range presignedHashes {
			got := read(t, g.AnswerOCSP(ctx, question(t, root.Certificate(), hash, nil, serial)), root.Certificate(), x509.ECDSAWithSHA384)
			if want := map[bool]int{true: 1}[i == 0]; got.statuses[0] != want {
				t.Errorf("certificate %d: status %d; want %d", i, got.statuses[0], want)
			}
		}
	}
	now = now.Add(7 * time.Hour)
	n, err := g.PresignOCSP(ctx, "root")
	if n != 0 || !errors.Is(err, backend.ErrNotPermitted) {
		t.Errorf("without the key: %d, %v", n, err)
	}
	must(t, f.house.registry.Grant(ctx, f.mount, "p384"))
	if n, err := g.PresignOCSP(ctx, "root"); n != 2*4 || err != nil { // and the root itself
		t.Errorf("after half of the time: %d, %v", n, err)
	}
	now = now.Add(1000 * day)
	f.list(t, "root")
	if p, err := f.Tidy(ctx, nil); err != nil || p.Removed != 3 {
		t.Fatalf("tidied %+v, %v", p, err)
	}
	for record, err := range f.all(ctx, "ocsp/") {
		if serial, _ := serialIn(record); err != nil || serial.Cmp(root.Certificate().SerialNumber) != 0 {
			t.Errorf("an answer is left: %s, %v", record.Key, err)
		}
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// TestResponderEndsWithIssuer: a responder goes with the last issuer of its name and key, so that nobody tries to renew it, and its key is
// not forgotten before.
func TestResponderEndsWithIssuer(t *testing.T) {
	ctx := t.Context()
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	f.root(t, "p384", "root")
	if _, err := f.Reissue(ctx, "root", "again", 300*day); err != nil {
		t.Fatal(err)
	}
	made, err := f.SetOCSPResponder(ctx, "root", KeyRef{Name: "p256-b"}, OCSPResponderTemplate{})
	if err != nil {
		t.Fatal(err)
	}
	sum, err := backend.Fingerprint(made.Certificate.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	id := hex.EncodeToString(sum[:])
	if err := f.DeleteKey(ctx, id); !errors.Is(err, backend.ErrNotPermitted) {
		t.Errorf("the responder's key was forgotten: %v", err)
	}
	must(t, f.DeleteIssuer(ctx, "root"))
	if r, err := f.OCSPResponder(ctx, "again"); err != nil || !r.Certificate.Equal(made.Certificate) {
		t.Errorf("it is still that of the other issuer: %v", err)
	}
	must(t, f.DeleteIssuer(ctx, "again"))
	must(t, f.DeleteKey(ctx, id))
	now = now.Add(25 * day)
	must(t, f.Maintain(ctx))
}
