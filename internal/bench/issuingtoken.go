package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/pki"
)

// Contenders that sign certificates with keys of a token, each in its own process.
const (
	contenderIssues = "issues"  // through package pki
	contenderByHand = "by hand" // by the standard library with the backend's own handle
)

// tokenIssuers are the labels of the token's keys, and how they sign, by algorithm.
var tokenIssuers = []struct {
	algorithm, label string
	mechanism        pkcs11.Mechanism
}{{algorithms[0], "ec", pkcs11.ECDSA}, {algorithms[1], "rsa", pkcs11.RSAPKCS}}

// issuesKeys returns the signing of a request, neither linted nor stored, by each of the token's keys.
func issuesKeys() (map[string]operation, error) {
	issuers, err := newTokenIssuers()
	return operationsOf(issuers), err
}

// byHandKeys returns the same by hand.
func byHandKeys() (map[string]operation, error) {
	issuers, err := newHandIssuers()
	return operationsOf(issuers), err
}

func operationsOf(issuers map[string]*issuer) map[string]operation {
	ops := make(map[string]operation)
	for algorithm, how := range issuers {
		ops[algorithm] = how.operation
	}
	return ops
}

func newTokenIssuers() (map[string]*issuer, error) {
	ctx := context.Background()
	b, err := oursBackend(pkcs11.Library{})
	if err != nil {
		return nil, err
	}
	r := managedkey.NewRegistry()
	m, err := r.Mount(ctx, "", "pki")
	if err != nil {
		return nil, err
	}
	a, err := pki.OpenAuthority(ctx, m, memory.New(nil), nil)
	if err != nil {
		return nil, err
	}
	csr, _, err := newRequest()
	if err != nil {
		return nil, err
	}
	role := pki.NewRole("r")
	role.AllowAnyName, role.KeyType, role.NoStore, role.LintProfile, role.LintOffReason = true, "any", true, pki.LintOff, "measured without"
	if err := a.PutRole(ctx, role); err != nil {
		return nil, err
	}
	all := make(map[string]*issuer)
	for _, k := range tokenIssuers {
		entry := managedkey.Entry{Ref: namespace.Ref{Name: k.label}, Backend: b, Params: oursParams(k.label, k.mechanism), AnyMount: true}
		if err := r.Create(ctx, entry); err != nil {
			return nil, err
		}
		root, err := a.GenerateRoot(ctx, pki.KeyRef{Name: k.label}, k.label, pki.CATemplate{Subject: rootName(), Validity: 24 * time.Hour})
		if err != nil {
			return nil, err
		}
		all[k.algorithm] = &issuer{ca: root.Certificate(), sign: func() (*x509.Certificate, error) {
			issued, err := a.Sign(ctx, "r", csr, pki.IssueRequest{TTL: time.Hour, Issuer: k.label})
			if err != nil {
				return nil, err
			}
			return issued.Certificate, nil
		}}
	}
	return all, nil
}

func newHandIssuers() (map[string]*issuer, error) {
	ctx := context.Background()
	b, err := oursBackend(pkcs11.Library{})
	if err != nil {
		return nil, err
	}
	csr, _, err := newRequest()
	if err != nil {
		return nil, err
	}
	all := make(map[string]*issuer)
	for _, k := range tokenIssuers {
		key, err := as[crypto.Signer](b.Open(ctx, oursParams(k.label, k.mechanism)))
		if err != nil {
			return nil, err
		}
		ca, err := rootByHand(key)
		if err != nil {
			return nil, err
		}
		all[k.algorithm] = &issuer{ca: ca, sign: func() (*x509.Certificate, error) { return signByHand(csr, ca, key) }}
	}
	return all, nil
}

// rootByHand returns a self-signed CA certificate of the key.
func rootByHand(key crypto.Signer) (*x509.Certificate, error) {
	template := &x509.Certificate{Subject: rootName(), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// issuingTokenCallers are the goroutines that have certificates signed on a token at once.
const issuingTokenCallers = 8

// issuingToken prints certificates signed by a token beside the signatures that it makes, where there is SoftHSM2.
func (w *workplace) issuingToken() error {
	if _, err := softhsm.Module(); err != nil || !hasCgo {
		return nil
	}
	token, err := w.token()
	if err != nil {
		return err
	}
	processes, stop, err := w.startAll([]string{contenderIssues, contenderByHand, contenderOurs, contenderC}, token)
	defer stop()
	if err != nil {
		return err
	}
	fmt.Printf("\nThe same by keys on SoftHSM2, %d at once, without lint and store, beside the signatures alone that the backend's handle and a program\n"+
		"in C have made by the token, and the standard library signing by hand with the handle. Checking a request and a new certificate\n"+
		"takes the processor's time as the token in software does; one of hardware has its own. Ratios of the first to each.\n\n", issuingTokenCallers)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "key\tcertificates/s\tby hand\tratio\tcpu\thandle\tratio\tC\tratio\tbusy%\t")
	for _, k := range tokenIssuers {
		r, err := measureRates(processes, k.algorithm, issuingTokenCallers)
		if err != nil {
			return err
		}
		ours, _, _ := r.columns(contenderIssues, contenderIssues)
		hand, byTime, byCPU := r.columns(contenderByHand, contenderIssues)
		handle, ofHandle, _ := r.columns(contenderOurs, contenderIssues)
		c, ofC, _ := r.columns(contenderC, contenderIssues)
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", k.algorithm, ours, hand, byTime, byCPU, handle, ofHandle, c, ofC, cell("%.0f", r.others()))
	}
	return out.Flush()
}
