package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/pki"
)

// issuingCallers are the goroutines that have certificates signed at once.
var issuingCallers = []int{1, 8}

// requestedName is the name that requests of the tables have.
const requestedName = "www.example.com"

// newRequest returns a request for a P-256 leaf, in DER, and its key.
func newRequest() ([]byte, crypto.Signer, error) {
	leaf, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: requestedName}, DNSNames: []string{requestedName}}
	csr, err := x509.CreateCertificateRequest(rand.Reader, template, leaf)
	return csr, leaf, err
}

// issuer is one way of having a request signed.
type issuer struct {
	name  string
	after string // what it does more than this one, which is another's name
	ca    *x509.Certificate
	sign  func() (*x509.Certificate, error)

	authority *authority   // nil if it is done by hand
	asked     atomic.Int64 // certificates with a throwaway signature
}

func (i *issuer) operation() error {
	_, err := i.sign()
	return err
}

// signByHand signs a request as a program without this library would: check it, create the certificate, parse what came of it.
func signByHand(csr []byte, ca *x509.Certificate, key crypto.Signer) (*x509.Certificate, error) {
	request, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, err
	}
	if err := request.CheckSignature(); err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 142))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: serial, Subject: request.Subject, DNSNames: request.DNSNames, NotBefore: now, NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, request.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Steps of signing a request beside the signature itself.
const (
	stepThrowaway = 1 << iota // the signature of a throwaway key
	stepLint                  // by zlint, which takes the former
	stepStore                 // before and after the signature
)

// issues returns a way of signing with these steps. What closes it is never nil.
func issues(ctx context.Context, st store.Store, steps int, csr []byte) (*issuer, func(), error) {
	opts, i := new(pki.Options), new(issuer)
	if steps&stepThrowaway != 0 { // who is asked has to be shown a certificate
		opts.Linters = []pki.Linter{func(*x509.Certificate) []pki.LintFinding {
			i.asked.Add(1)
			return nil
		}}
	}
	a, closeAll, err := newAuthorityWith(ctx, st, opts)
	if err != nil {
		return nil, closeAll, err
	}
	role := pki.NewRole("r")
	role.AllowAnyName, role.KeyType, role.NoStore = true, "any", steps&stepStore == 0
	if steps&stepLint == 0 {
		role.LintProfile, role.LintOffReason = pki.LintOff, "measured without"
	}
	if err := a.PutRole(ctx, role); err != nil {
		return nil, closeAll, err
	}
	i.authority, i.ca = a, a.root.Certificate()
	i.asked.Store(0)
	i.sign = func() (*x509.Certificate, error) {
		issued, err := a.Sign(ctx, "r", csr, pki.IssueRequest{TTL: time.Hour})
		if err != nil {
			return nil, err
		}
		return issued.Certificate, nil
	}
	return i, closeAll, nil
}

// issuers returns the rows of the table, the standard library first. Without PostgreSQL that row is missing.
func (w *workplace) issuers(ctx context.Context, csr []byte) (all []*issuer, closeAll func(), err error) {
	var closers []func()
	closeAll = func() {
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
	}
	inMemory := memory.New(nil)
	closers = append(closers, func() { inMemory.Close() })
	inFile, err := bolt.Open(filepath.Join(w.dir, "pki-issuing"), nil)
	if err != nil {
		return nil, closeAll, err
	}
	closers = append(closers, func() { inFile.Close() })
	by, end, err := newAuthority(ctx, inMemory)
	closers = append(closers, end)
	if err != nil {
		return nil, closeAll, err
	}
	all = []*issuer{{name: "standard library", ca: by.bareCert, sign: func() (*x509.Certificate, error) { return signByHand(csr, by.bareCert, by.bare) }}}
	rows := []struct {
		name, after string
		st          store.Store
		steps       int
	}{
		{"no lint, no store", "standard library", inMemory, 0},
		{"throwaway signature", "no lint, no store", inMemory, stepThrowaway},
		{"throwaway signature and zlint", "throwaway signature", inMemory, stepThrowaway | stepLint},
		{"stored in memory", "no lint, no store", inMemory, stepStore},
		{"stored in bolt", "no lint, no store", inFile, stepStore},
		{"stored in PostgreSQL", "no lint, no store", nil, stepStore},
		{"all, stored in bolt", "", inFile, stepThrowaway | stepLint | stepStore},
		{"all, stored in PostgreSQL", "", nil, stepThrowaway | stepLint | stepStore},
	}
	var inServer store.Store
	started, err := w.started()
	if err == nil {
		e, err := postgresEngine(ctx, started)
		if err != nil {
			return nil, closeAll, err
		}
		closers = append(closers, e.close)
		if inServer, err = e.connect(); err != nil {
			return nil, closeAll, err
		}
		closers = append(closers, func() { inServer.Close() })
	} else if !errors.Is(err, errMissing) {
		return nil, closeAll, err
	}
	for _, row := range rows {
		if row.st == nil {
			row.st = inServer
		}
		if row.st == nil {
			continue
		}
		i, end, err := issues(ctx, row.st, row.steps, csr)
		closers = append(closers, end)
		if err != nil {
			return nil, closeAll, fmt.Errorf("%s: %w", row.name, err)
		}
		i.name, i.after = row.name, row.after
		all = append(all, i)
	}
	return all, closeAll, nil
}

// issuing prints how many requests a second are signed, and what each part of it costs.
func (w *workplace) issuing() error {
	ctx := context.Background()
	csr, _, err := newRequest()
	if err != nil {
		return err
	}
	all, closeAll, err := w.issuers(ctx, csr)
	defer closeAll()
	if err != nil {
		return err
	}
	ops := make([]operation, len(all))
	for i, how := range all {
		ops[i] = how.operation
	}
	fmt.Printf("Requests for P-256 leaves signed per second with a P-256 software key, beside the standard library doing so by hand (check,\n"+
		"create, parse); median of %d rounds of %v, ratios within a round. cpu: the ratio by processor time of this process. more: µs of\n"+
		"time, and of processor time, that it takes more than the row without that step.\n\n", *rounds, *window)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "goroutines\twhat is done\tcertificates/s\tµs\tratio\tcpu\tmore µs\tcpu\t")
	for _, n := range issuingCallers {
		rates, cpu, err := interleavedSpeeds(ops, n, *rounds, *window)
		if err != nil {
			return err
		}
		for i, how := range all {
			more, moreCPU := "", ""
			for j, other := range all {
				if other.name == how.after {
					more, moreCPU = cell("%.0f", costs(rates[i], rates[j], n)), cell("%.0f", costs(cpu[i], cpu[j], 1))
				}
			}
			fmt.Fprintf(out, "%d\t%s\t%.0f\t%.0f\t%.2f\t%.2f\t%s\t%s\t\n", n, how.name, median(rates[i]), 1e6*float64(n)/median(rates[i]),
				ratio(rates[i], rates[0]), ratio(cpu[i], cpu[0]), more, moreCPU)
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if err := w.issuingStored(); err != nil {
		return err
	}
	return w.issuingToken()
}

// costs returns how many µs more an operation takes whose rates, with n at once, are a than one whose are b: the median of the rounds.
func costs(a, b []float64, n int) float64 {
	x := make([]float64, min(len(a), len(b)))
	for i := range x {
		x[i] = 1e6 * float64(n) * (1/a[i] - 1/b[i])
	}
	return median(x)
}
