package main

import (
	"crypto/ecdsa"
	"crypto/x509"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/pki"
)

// checkIssued makes sure that a certificate is what the request asked for, signed by ca.
func checkIssued(t *testing.T, cert, ca *x509.Certificate, pub *ecdsa.PublicKey) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: requestedName}); err != nil {
		t.Error(err)
	}
	if !pub.Equal(cert.PublicKey) {
		t.Error("it has another key")
	}
	if again, err := x509.ParseCertificate(cert.Raw); err != nil || !again.Equal(cert) || !slices.Equal(again.DNSNames, cert.DNSNames) {
		t.Errorf("it reads back as %v: %v", again, err)
	}
	if left := time.Until(cert.NotAfter); left < 50*time.Minute || left > time.Hour {
		t.Errorf("it ends in %v; want an hour", left)
	}
	if cert.KeyUsage != x509.KeyUsageDigitalSignature || len(cert.ExtKeyUsage) != 2 {
		t.Errorf("usages %v, %v", cert.KeyUsage, cert.ExtKeyUsage)
	}
}

// TestIssuers: each row of the table signs the request, and never twice the same.
func TestIssuers(t *testing.T) {
	csr, key, err := newRequest()
	if err != nil {
		t.Fatal(err)
	}
	all, closeAll, err := withServers(t).issuers(t.Context(), csr)
	defer closeAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 9 {
		t.Errorf("%d rows; want 9", len(all))
	}
	serials := make(map[string]bool)
	for _, how := range all {
		t.Run(how.name, func(t *testing.T) {
			for range 2 {
				cert, err := how.sign()
				if err != nil {
					t.Fatal(err)
				}
				checkIssued(t, cert, how.ca, key.Public().(*ecdsa.PublicKey))
				if serials[cert.SerialNumber.String()] {
					t.Error("its serial number was there before")
				}
				serials[cert.SerialNumber.String()] = true
			}
			if how.after != "" && !slices.ContainsFunc(all, func(other *issuer) bool { return other.name == how.after }) {
				t.Errorf("there is no row %q", how.after)
			}
		})
	}
}

// TestIssuerSteps: a row does what its name says, and no more.
func TestIssuerSteps(t *testing.T) {
	csr, _, err := newRequest()
	if err != nil {
		t.Fatal(err)
	}
	for steps, want := range map[int]int{0: 0, stepThrowaway: 0, stepThrowaway | stepLint: 0, stepStore: 3, stepThrowaway | stepLint | stepStore: 3} {
		st := memory.New(nil)
		defer st.Close()
		a, end, err := issues(t.Context(), st, steps, csr)
		defer end()
		if err != nil {
			t.Fatal(err)
		}
		before, err := a.authority.Count(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := a.operation(); err != nil {
				t.Fatal(err)
			}
		}
		after, err := a.authority.Count(t.Context())
		if err != nil || after.Issued-before.Issued != want || after.Pending != 0 {
			t.Errorf("steps %d: %+v after %+v; want %d more: %v", steps, after, before, want, err)
		}
		role, err := a.authority.Role(t.Context(), "r")
		if err != nil || (role.LintProfile == pki.LintOff) == (steps&stepLint != 0) {
			t.Errorf("steps %d: lint profile %q: %v", steps, role.LintProfile, err)
		}
		if asked := a.asked.Load(); (asked != 0) != (steps&stepThrowaway != 0) {
			t.Errorf("steps %d: %d certificates had a throwaway signature", steps, asked)
		}
	}
}

func TestIssuingTable(t *testing.T) {
	little(t)
	smallIssuing(t)
	table := printed(t, withServers(t).issuing)
	for _, name := range []string{"standard library", "no lint, no store", "throwaway signature", "throwaway signature and zlint", "stored in memory",
		"stored in bolt", "stored in PostgreSQL", "all, stored in bolt", "all, stored in PostgreSQL"} {
		found := 0
		for line := range strings.Lines(table) {
			figures, ok := strings.CutPrefix(strings.Join(strings.Fields(line), " "), "3 "+name+" ")
			if got := strings.Fields(figures); ok && len(got) >= 4 && got[0] != "and" {
				found++
				for i := range 4 {
					number(t, got, i)
				}
				want := 6
				if name == "standard library" || strings.HasPrefix(name, "all") {
					want = 4 // nothing that it does more than another
				}
				if len(got) != want {
					t.Errorf("%q; want %d figures", line, want)
				}
			}
		}
		if found != 1 {
			t.Errorf("%d lines of %q in:\n%s", found, name, table)
		}
	}
}

func TestCosts(t *testing.T) {
	// Of 1,000 and 500 a second, one takes 1 ms longer than the other; with four at once, 4 ms.
	if got := costs([]float64{500, 500}, []float64{1000, 1000}, 1); math.Abs(got-1000) > 1e-6 {
		t.Errorf("got %v µs", got)
	}
	if got := costs([]float64{500}, []float64{1000}, 4); math.Abs(got-4000) > 1e-6 {
		t.Errorf("got %v µs", got)
	}
	if got := costs(nil, nil, 1); !math.IsNaN(got) {
		t.Errorf("got %v of nothing", got)
	}
}
