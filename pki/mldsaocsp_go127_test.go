//go:build go1.27

package pki

import (
	"crypto"
	"crypto/x509"
	"math/big"
	"testing"
)

// TestOCSPMLDSA: ML-DSA keys sign answers, as issuers and as delegated responders (RFC 9881).
func TestOCSPMLDSA(t *testing.T) {
	f := newFirm(t, nil)
	root := f.root(t, "mldsa65", "root")
	request := question(t, root.Certificate(), crypto.SHA256, nil, big.NewInt(1))
	if got := read(t, f.AnswerOCSP(t.Context(), request), root.Certificate(), x509.MLDSA65); got.statuses[0] != 2 || got.certs != nil {
		t.Errorf("got %+v", got)
	}
	_, err := f.SetOCSPResponder(t.Context(), "root", KeyRef{Name: "mldsa87"}, OCSPResponderTemplate{})
	must(t, err)
	if got := read(t, f.AnswerOCSP(t.Context(), request), root.Certificate(), x509.MLDSA87); len(got.certs) != 1 {
		t.Errorf("got %+v", got)
	}
}
