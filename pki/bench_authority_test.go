package pki

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"path/filepath"
	"testing"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// BenchmarkAuthoritySign shows what each part of signing a CSR costs beside the same by hand: check the CSR, create, parse.
func BenchmarkAuthoritySign(b *testing.B) {
	csr := makeCSR(b, testKeys()["p256-b"], func(c *x509.CertificateRequest) {
		c.Subject.CommonName, c.DNSNames, c.EmailAddresses, c.IPAddresses, c.URIs = "a.example", []string{"a.example"}, nil, nil, nil
	})
	b.Run("by hand", func(b *testing.B) {
		h := newHouse(b, nil)
		ca := mustRoot(b, h, "p256", rootTemplate())
		for b.Loop() {
			request, err := ParseCSR(csr)
			if err != nil {
				b.Fatal(err)
			}
			template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: request.DNSNames, NotBefore: noon, NotAfter: noon.Add(day)}
			der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, request.PublicKey, testKeys()["p256"])
			if err != nil {
				b.Fatal(err)
			}
			if _, err := x509.ParseCertificate(der); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, c := range []struct {
		name    string
		profile string
		noStore bool
		open    func() (store.Store, error)
	}{
		{"no lint, no store", LintOff, true, nil}, {"no store", LintRFC5280, true, nil}, {"no lint, memory", LintOff, false, nil}, {"memory", LintRFC5280, false, nil},
		{"bolt", LintRFC5280, false, func() (store.Store, error) { return bolt.Open(filepath.Join(b.TempDir(), "store"), nil) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := store.Store(memory.New(nil))
			if c.open != nil {
				var err error
				if s, err = c.open(); err != nil {
					b.Fatal(err)
				}
			}
			defer s.Close()
			f := firmOn(b, newHouse(b, nil), s, nil)
			f.root(b, "p256", "root")
			r := anyRole("r")
			r.KeyType, r.NoStore, r.LintProfile = "any", c.noStore, c.profile
			if c.profile == LintOff {
				r.LintOffReason = "benchmark"
			}
			f.role(b, r)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Sign(b.Context(), "r", csr, IssueRequest{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAuthorityCRL shows what a list costs by the number of entries: from all revocations, from the last list after one revocation,
// and the delta list after one. With -short there are no long ones.
func BenchmarkAuthorityCRL(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		if n > 1000 && testing.Short() {
			continue
		}
		s := memory.New(nil)
		defer s.Close()
		f := firmOn(b, newHouse(b, nil), s, nil)
		issuer := f.root(b, "p256", "root")
		f.revokeMany(b, issuer, n)
		_, err := f.RotateCRL(b.Context(), "root")
		must(b, err)
		next := int64(0)
		revoke := func(b *testing.B) {
			next++
			c := &Certificate{Certificate: &x509.Certificate{SerialNumber: big.NewInt(next)}, signer: signer(issuer.Certificate())}
			ops, err := f.entryOps(c, &Revocation{noon, 1})
			must(b, err)
			_, err = f.apply(b.Context(), append(ops, f.stale(c.signer, 0)...)...)
			must(b, err)
		}
		b.Run(fmt.Sprintf("%d/all", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := f.RotateCRL(b.Context(), "root")
				must(b, err)
			}
		})
		b.Run(fmt.Sprintf("%d/one more", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				revoke(b)
				_, err := f.CRL(b.Context(), "root")
				must(b, err)
			}
		})
		must(b, f.SetCRLConfig(b.Context(), CRLConfig{AutoRebuild: true, Delta: true}))
		b.Run(fmt.Sprintf("%d/delta", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				revoke(b)
				_, err := f.RotateScopedCRL(b.Context(), "root", CRLScope{Delta: true})
				must(b, err)
			}
		})
	}
}
