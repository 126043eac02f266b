package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"os"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/pki"
)

// authority is a CA with a P-256 software key, and one that the standard library has the key of.
type authority struct {
	*pki.Authority
	mount *managedkey.Mount
	root  *pki.Issuer

	bare     crypto.Signer
	bareCert *x509.Certificate
}

func rootName() pkix.Name {
	return pkix.Name{Country: []string{"SE"}, Organization: []string{"Example"}, CommonName: "Root"}
}

// newAuthority returns an authority with a root and the role "r", for any name and EC keys. What closes it is never nil.
func newAuthority(ctx context.Context, st store.Store) (*authority, func(), error) {
	return newAuthorityWith(ctx, st, nil)
}

func newAuthorityWith(ctx context.Context, st store.Store, opts *pki.Options) (*authority, func(), error) {
	b := software.New(nil)
	keys := managedkey.NewRegistry()
	closeAll := func() { keys.Close(); b.Close() }
	err := keys.Create(ctx, managedkey.Entry{Ref: namespace.Ref{Name: "ca"}, Backend: b, AllowGenerateKey: true, AnyMount: true,
		Params: software.Params{KeyName: "ca", KeyType: software.ECDSA, Curve: software.P256}})
	if err != nil {
		return nil, closeAll, err
	}
	a := new(authority)
	if a.mount, err = keys.Mount(ctx, "", "pki"); err != nil {
		return nil, closeAll, err
	}
	if a.Authority, err = pki.OpenAuthority(ctx, a.mount, st, opts); err != nil {
		return nil, closeAll, err
	}
	if a.root, err = a.GenerateRoot(ctx, pki.KeyRef{Name: "ca"}, "root", pki.CATemplate{Subject: rootName(), Validity: 3650 * 24 * time.Hour}); err != nil {
		return nil, closeAll, err
	}
	role := pki.NewRole("r")
	role.AllowAnyName, role.KeyType = true, "ec"
	if err := a.PutRole(ctx, role); err != nil {
		return nil, closeAll, err
	}
	if a.bare, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, closeAll, err
	}
	template := *a.root.Certificate()
	template.PublicKey = a.bare.Public()
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, a.bare.Public(), a.bare)
	if err != nil {
		return nil, closeAll, err
	}
	a.bareCert, err = x509.ParseCertificate(der)
	return a, closeAll, err
}

// ocspClients are how many ask at once.
var ocspClients = []int{1, 64}

// responder is one way of answering a question about a certificate.
type responder struct {
	name   string
	signer *x509.Certificate
	answer func() (der []byte, asked *x509.Certificate, err error)
}

func (r *responder) operation() error {
	_, _, err := r.answer()
	return err
}

// ocspAsked are the certificates that are asked about.
const ocspAsked = 100

// responders returns golang.org/x/crypto/ocsp that signs, answers that are kept, and those with a nonce. What closes them is never nil.
func responders(ctx context.Context, st store.Store) ([]*responder, func(), error) {
	a, closeAll, err := newAuthority(ctx, st)
	if err != nil {
		return nil, closeAll, err
	}
	var kept [][]byte
	var certs []*x509.Certificate
	for range ocspAsked {
		pair, err := a.Issue(ctx, "r", pki.IssueRequest{CommonName: requestedName})
		if err != nil {
			return nil, closeAll, err
		}
		der, err := ocsp.CreateRequest(pair.Certificate, a.root.Certificate(), nil)
		if err != nil {
			return nil, closeAll, err
		}
		kept, certs = append(kept, der), append(certs, pair.Certificate)
	}
	fresh, err := withNonce(kept[0])
	if err != nil {
		return nil, closeAll, err
	}
	if err := a.SetOCSPConfig(ctx, pki.OCSPConfig{Nonce: true}); err != nil {
		return nil, closeAll, err
	}
	var next atomic.Int64
	ask := func(der []byte, cert *x509.Certificate) ([]byte, *x509.Certificate, error) {
		answer := a.AnswerOCSP(ctx, der)
		if answer.Status != pki.OCSPSuccessful || answer.Err != nil {
			return nil, nil, fmt.Errorf("an answer is %s: %w", answer.Status, answer.Err)
		}
		return answer.DER, cert, nil
	}
	return []*responder{{"x/crypto signs", a.bareCert, func() ([]byte, *x509.Certificate, error) {
		now := time.Now()
		template := ocsp.Response{Status: ocsp.Good, SerialNumber: certs[0].SerialNumber, ThisUpdate: now, NextUpdate: now.Add(time.Hour)}
		der, err := ocsp.CreateResponse(a.bareCert, a.bareCert, template, a.bare)
		return der, certs[0], err
	}}, {"kept", a.root.Certificate(), func() ([]byte, *x509.Certificate, error) {
		i := next.Add(1) % ocspAsked
		return ask(kept[i], certs[i])
	}}, {"with a nonce", a.root.Certificate(), func() ([]byte, *x509.Certificate, error) { return ask(fresh, certs[0]) }}}, closeAll, nil
}

// ocsp prints how many OCSP questions a second are answered.
func (w *workplace) ocsp() error {
	st := memory.New(nil)
	defer st.Close()
	all, closeAll, err := responders(context.Background(), st)
	defer closeAll()
	if err != nil {
		return err
	}
	var ops []operation
	for _, how := range all {
		ops = append(ops, how.operation)
	}
	fmt.Printf("OCSP questions answered per second, from the request's bytes to the answer's, by a P-256 software key, beside golang.org/x/crypto/ocsp\n"+
		"signing an answer with crypto/ecdsa; the store is in memory. Median of %d rounds of %v, ratios within a round.\n\n", *rounds, *window)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "clients\tx/crypto signs\tkept\tratio\twith a nonce\tratio\t")
	for _, n := range ocspClients {
		rates, err := interleaved(ops, n, *rounds, *window)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%d\t%.0f\t%.0f\t%.1f\t%.0f\t%.2f\t\n", n, median(rates[0]), median(rates[1]), ratio(rates[1], rates[0]), median(rates[2]), ratio(rates[2], rates[0]))
	}
	return out.Flush()
}

// withNonce returns an OCSP request with a nonce, so that its answer is signed.
func withNonce(der []byte) ([]byte, error) {
	var request struct {
		TBS struct {
			List asn1.RawValue
		}
	}
	if _, err := asn1.Unmarshal(der, &request); err != nil {
		return nil, err
	}
	type extension struct {
		ID    asn1.ObjectIdentifier
		Value []byte
	}
	type tbs struct {
		List       asn1.RawValue
		Extensions []extension `asn1:"explicit,tag:2"`
	}
	nonce := append([]byte{4, 16}, make([]byte, 16)...)
	return asn1.Marshal(struct{ TBS tbs }{tbs{request.TBS.List, []extension{{asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}, nonce}}}})
}
