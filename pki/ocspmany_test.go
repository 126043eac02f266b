package pki

import (
	"crypto"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"
	"time"
)

// idOf returns the DER of the id of an issuer's certificate.
func idOf(tb testing.TB, issuer *x509.Certificate, serial *big.Int) string {
	tb.Helper()
	id, err := newCertID(crypto.SHA1, &ocspIssuer{ca: &CA{cert: issuer}}, serial)
	if err != nil {
		tb.Fatal(err)
	}
	return id.raw
}

// TestOCSPSeveralIssuers: of a request about several issuers, that of the first id that is known here answers, and every other id is
// unknown, whatever the store says of its number.
func TestOCSPSeveralIssuers(t *testing.T) {
	f := newFirm(t, nil)
	ctx := t.Context()
	a, b := f.root(t, "p256", "a"), f.root(t, "p384", "b")
	stranger := certificate(t, "x", "x", testKeys()["p521"].Public(), testKeys()["p521"], nil)
	role := anyRole("a")
	role.IssuerRef = "a"
	f.role(t, role)
	role.Name, role.IssuerRef = "b", "b"
	f.role(t, role)
	ofA, ofB, revokedB := f.issue(t, "a", "a.example"), f.issue(t, "b", "b.example"), f.issue(t, "b", "gone.example")
	if _, err := f.Revoke(ctx, serialOf(revokedB), ReasonKeyCompromise, time.Time{}); err != nil {
		t.Fatal(err)
	}
	certA, certB := a.Certificate(), b.Certificate()
	idA, idB := idOf(t, certA, ofA.Certificate.SerialNumber), idOf(t, certB, ofB.Certificate.SerialNumber)
	idGone := idOf(t, certB, revokedB.Certificate.SerialNumber)
	strange := idOf(t, stranger, ofA.Certificate.SerialNumber)
	crossed := idOf(t, certB, ofA.Certificate.SerialNumber) // the number is A's, and B has issued none of it
	const good, revoked, unknown = 0, 1, 2
	for name, c := range map[string]struct {
		ids    []string
		issuer *x509.Certificate
		alg    x509.SignatureAlgorithm
		want   []int
	}{
		"A and B":          {[]string{idA, idB}, certA, x509.ECDSAWithSHA256, []int{good, unknown}},
		"B and A":          {[]string{idB, idGone, idA}, certB, x509.ECDSAWithSHA384, []int{good, revoked, unknown}},
		"a stranger first": {[]string{strange, idGone, idA}, certB, x509.ECDSAWithSHA384, []int{unknown, revoked, unknown}},
		"A and revoked":    {[]string{idA, idGone}, certA, x509.ECDSAWithSHA256, []int{good, unknown}},
		"A's number of B":  {[]string{idA, crossed}, certA, x509.ECDSAWithSHA256, []int{good, unknown}},
		"the same of B":    {[]string{crossed, idA}, certB, x509.ECDSAWithSHA384, []int{unknown, unknown}},
		"twice":            {[]string{idA, idB, idA}, certA, x509.ECDSAWithSHA256, []int{good, unknown, good}},
	} {
		for range 2 { // signed, and as it is kept
			answer := f.AnswerOCSP(ctx, questionOf(t, nil, c.ids...))
			if got := read(t, answer, c.issuer, c.alg); !slices.Equal(got.statuses, c.want) {
				t.Errorf("%s: got %v; want %v", name, got.statuses, c.want)
			}
		}
	}
	// A revocation of the one that answers counts at once; one of the other changes nothing.
	f.signed()
	if _, err := f.Revoke(ctx, serialOf(ofB), ReasonSuperseded, time.Time{}); err != nil {
		t.Fatal(err)
	}
	request := questionOf(t, nil, idA, idB)
	if got := read(t, f.AnswerOCSP(ctx, request), certA, x509.ECDSAWithSHA256); !slices.Equal(got.statuses, []int{good, unknown}) || f.signed() != 0 {
		t.Errorf("got %v", got.statuses)
	}
	if _, err := f.Revoke(ctx, serialOf(ofA), ReasonSuperseded, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, f.AnswerOCSP(ctx, request), certA, x509.ECDSAWithSHA256); !slices.Equal(got.statuses, []int{revoked, unknown}) {
		t.Errorf("got %v", got.statuses)
	}
	if answer := f.AnswerOCSP(ctx, questionOf(t, nil, strange, strange)); answer.Status != OCSPUnauthorized {
		t.Errorf("about nobody here: %s", answer.Status)
	}
	// An issuer that may not answer is as good as not here.
	a.Usage = IssueCertificates
	if _, err := f.UpdateIssuer(ctx, *a); err != nil {
		t.Fatal(err)
	}
	if got := read(t, f.AnswerOCSP(ctx, request), certB, x509.ECDSAWithSHA384); !slices.Equal(got.statuses, []int{unknown, revoked}) {
		t.Errorf("got %v", got.statuses)
	}
}
