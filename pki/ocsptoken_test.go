//go:build cgo

package pki

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
)

// TestOCSPOfToken: keys of a token sign answers, the issuer's and a delegated one's, RSASSA-PSS included; when the token is gone, what was
// answered is answered still.
func TestOCSPOfToken(t *testing.T) {
	token := softhsm.Require(t)
	hsm, err := pkcs11.New(pkcs11.Library{Name: "softhsm", Path: token.Module})
	must(t, err)
	defer hsm.Close()
	registry := managedkey.NewRegistry()
	for name, params := range map[string]pkcs11.Params{
		"ec":  {Mechanism: pkcs11.ECDSA, Curve: "P256"},
		"rsa": {Mechanism: pkcs11.RSAPKCSPSS, KeyBits: 2048},
	} {
		params.Library, params.TokenLabel, params.PIN, params.KeyLabel = "softhsm", token.Label, backend.Secret(token.PIN), "ocsp-"+name
		must(t, registry.Create(t.Context(), managedkey.Entry{Ref: namespace.Ref{Name: name}, Backend: hsm, Params: params, AnyMount: true, AllowGenerateKey: true}))
	}
	mount, err := registry.Mount(t.Context(), "", "pki")
	must(t, err)
	ca, err := OpenAuthority(t.Context(), mount, memory.New(nil), nil)
	must(t, err)
	root, err := ca.GenerateRoot(t.Context(), KeyRef{Name: "ec"}, "root", CATemplate{Subject: pkix.Name{Organization: []string{"Example"}, CommonName: "Root"}, Validity: 365 * day})
	must(t, err)
	ask := func(serial int64, alg x509.SignatureAlgorithm, certs int) {
		t.Helper()
		answer := ca.AnswerOCSP(t.Context(), question(t, root.Certificate(), crypto.SHA256, nil, big.NewInt(serial)))
		if got := read(t, answer, root.Certificate(), alg); got.statuses[0] != 2 || len(got.certs) != certs {
			t.Errorf("got %+v", got)
		}
	}
	ask(1, x509.ECDSAWithSHA256, 0)
	_, err = ca.SetOCSPResponder(t.Context(), "root", KeyRef{Name: "rsa"}, OCSPResponderTemplate{SignatureAlgorithm: x509.SHA256WithRSAPSS})
	must(t, err)
	ask(1, x509.SHA256WithRSAPSS, 1)
	must(t, hsm.Close())
	ask(1, x509.SHA256WithRSAPSS, 1)
	if answer := ca.AnswerOCSP(t.Context(), question(t, root.Certificate(), crypto.SHA256, nil, big.NewInt(2))); answer.Status == OCSPSuccessful {
		t.Error("something was signed without the token")
	} else if answer.Status != OCSPTryLater {
		t.Errorf("got %s: %v", answer.Status, answer.Err)
	}
}
