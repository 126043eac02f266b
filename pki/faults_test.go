package pki

import (
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestEveryWriteFails lets each write of each operation fail: before it is made, after it was made, and with its answer lost either
// way. Whatever happens, the store knows of every certificate that was signed, no CRL number goes back, and the next attempt succeeds.
func TestEveryWriteFails(t *testing.T) {
	operations := map[string]func(*firm) error{
		"issue": func(f *firm) error { _, err := f.Issue(t.Context(), "r", cn("a.example")); return err },
		"root": func(f *firm) error {
			_, err := f.GenerateRoot(t.Context(), KeyRef{Name: "ed25519"}, "", rootTemplate())
			return err
		},
		"rotate": func(f *firm) error {
			_, err := f.RotateRoot(t.Context(), "root", KeyRef{Name: "p384"}, "", CATemplate{Validity: day})
			return err
		},
		"reissue": func(f *firm) error { _, err := f.Reissue(t.Context(), "root", "", 4000*day); return err },
		"revoke": func(f *firm) error {
			page, err := f.Search(t.Context(), Query{Name: "held.example", Limit: 1})
			if err == nil {
				_, err = f.Revoke(t.Context(), page.Certificates[0].Serial, ReasonSuperseded, time.Time{})
			}
			return err
		},
		"CRL": func(f *firm) error {
			crl, err := f.RotateCRL(t.Context(), "root")
			if err == nil {
				_, err = x509.ParseRevocationList(crl.DER)
			}
			return err
		},
	}
	faults := map[string]func(s *failing, at func() bool){
		"before": func(s *failing, at func() bool) {
			s.before = func([]store.Op) error { return fault(at(), store.ErrUnavailable) }
		},
		"lost before": func(s *failing, at func() bool) {
			s.before = func([]store.Op) error { return fault(at(), store.ErrUnknownOutcome) }
		},
		"lost after": func(s *failing, at func() bool) {
			s.after = func([]store.Op) error { return fault(at(), store.ErrUnknownOutcome) }
		},
	}
	for name, operation := range operations {
		for kind, arm := range faults {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				everyWrite(t, operation, arm)
			})
		}
	}
}

func fault(now bool, err error) error {
	if !now {
		return nil
	}
	return fmt.Errorf("a fault of the test: %w", err)
}

func everyWrite(t *testing.T, operation func(*firm) error, arm func(*failing, func() bool)) {
	for k := 0; ; k++ {
		now := noon
		f := newFirm(t, &Options{Now: func() time.Time { return now }})
		var signed [][]byte
		f.house.km.seen = func(message []byte) { signed = append(signed, message) }
		f.root(t, "ed25519", "root")
		f.role(t, anyRole("r"))
		f.issue(t, "r", "held.example")
		first := f.list(t, "root").Number.Int64()

		s := &failing{Store: f.store}
		n, failed := 0, false
		arm(s, func() bool { n++; hit := n == k+1; failed = failed || hit; return hit })
		err := operation(firmOn(t, f.house, s, &Options{Now: f.engine.now}))
		if !failed {
			if err != nil {
				t.Errorf("without a fault: %v", err)
			}
			if k == 0 {
				t.Error("there was no write to fail")
			}
			return
		}
		known := map[string]bool{}
		for record, err := range f.all(t.Context(), "certs/") {
			if err != nil {
				t.Fatal(err)
			}
			c, err := decodeCertificate(record)
			if err != nil {
				t.Fatal(err)
			}
			known[string(c.Certificate.RawTBSCertificate)] = true
		}
		last := int64(0)
		for _, tbs := range signed {
			if list := parseTBSList(tbs); list != nil {
				if list.Number.Int64() <= last {
					t.Errorf("write %d: CRL %d after %d", k, list.Number, last)
				}
				last = list.Number.Int64()
			} else if tbs != nil && !known[string(tbs)] {
				t.Errorf("write %d: a certificate was signed that the store doesn't know", k)
			}
		}
		now = now.Add(crlLease + time.Second) // a list that was begun holds nobody up for longer
		if err := operation(firmOn(t, f.house, f.store, &Options{Now: f.engine.now})); err != nil {
			t.Errorf("write %d: the next attempt: %v", k, err)
		}
		if list := f.list(t, "root"); list.Number.Int64() < first {
			t.Errorf("write %d: CRL %d after %d", k, list.Number, first)
		}
	}
}
