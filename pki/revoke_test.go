package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// list returns the parsed CRL of an issuer, which must be in force and signed by it.
func (f *firm) list(tb testing.TB, issuer string) *x509.RevocationList {
	tb.Helper()
	crl, err := f.CRL(tb.Context(), issuer)
	if err != nil {
		tb.Fatal(err)
	}
	list, err := x509.ParseRevocationList(crl.DER)
	if err != nil {
		tb.Fatal(err)
	}
	i, err := f.Issuer(tb.Context(), issuer)
	if err != nil {
		tb.Fatal(err)
	}
	if err := list.CheckSignatureFrom(i.Certificate()); err != nil || list.Number.Int64() != crl.Number || crl.Stale != nil {
		tb.Errorf("CRL %d: %v, stale %v", crl.Number, err, crl.Stale)
	}
	return list
}

// TestRevoke: reasons and times are kept, holds released, and the CRL follows.
func TestRevoke(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	ctx := t.Context()
	f.root(t, "p256", "root")
	f.role(t, anyRole("r"))
	a, b := serialOf(f.issue(t, "r", "a.example")), serialOf(f.issue(t, "r", "b.example"))
	if list := f.list(t, "root"); len(list.RevokedCertificateEntries) != 0 || list.Number.Int64() != 1 {
		t.Errorf("first CRL: %d with %d", list.Number, len(list.RevokedCertificateEntries))
	}
	now = now.Add(time.Hour)
	at := now.Add(-time.Minute)
	r, err := f.Revoke(ctx, a, ReasonKeyCompromise, at)
	if err != nil || r.Reason != ReasonKeyCompromise || !r.Time.Equal(at.Truncate(time.Second)) {
		t.Errorf("got %+v, %v", r, err)
	}
	if again, err := f.Revoke(ctx, a, ReasonSuperseded, time.Time{}); err != nil || *again != *r {
		t.Errorf("revoked twice: %+v, %v", again, err)
	}
	if _, err := f.Revoke(ctx, b, ReasonCertificateHold, time.Time{}); err != nil {
		t.Fatal(err)
	}
	entries := map[string]int{}
	list := f.list(t, "root")
	for _, e := range list.RevokedCertificateEntries {
		entries[FormatSerial(e.SerialNumber)] = e.ReasonCode
	}
	if len(entries) != 2 || entries[a] != ReasonKeyCompromise || entries[b] != ReasonCertificateHold || list.Number.Int64() != 2 {
		t.Errorf("CRL %d: %v", list.Number, entries)
	}
	if same := f.list(t, "root"); same.Number.Int64() != 2 {
		t.Errorf("nothing has changed, and the number is %d", same.Number)
	}
	wantError(t, f.Release(ctx, a), backend.ErrNotPermitted, "revoked for good")
	if err := f.Release(ctx, b); err != nil {
		t.Fatal(err)
	}
	wantError(t, f.Release(ctx, b), backend.ErrInvalidParams, "is not revoked")
	if list := f.list(t, "root"); len(list.RevokedCertificateEntries) != 1 || list.Number.Int64() != 3 {
		t.Errorf("after the release: %d with %d", list.Number, len(list.RevokedCertificateEntries))
	}
	held, err := f.Revoke(ctx, b, ReasonCertificateHold, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	if final, err := f.Revoke(ctx, b, ReasonSuperseded, time.Time{}); err != nil || final.Reason != ReasonSuperseded || !final.Time.Equal(held.Time) {
		t.Errorf("a hold that becomes final: %+v, %v", final, err)
	}
	now = now.Add(70 * time.Hour) // in the grace period
	if list := f.list(t, "root"); list.Number.Int64() != 4 || !list.NextUpdate.After(now.Add(71*time.Hour)) {
		t.Errorf("CRL %d until %s", list.Number, list.NextUpdate)
	}
	for text, try := range map[string]func() error{
		"reason code 7": func() error { _, err := f.Revoke(ctx, a, 7, time.Time{}); return err },
		"reason code 8": func() error { _, err := f.Revoke(ctx, a, 8, time.Time{}); return err },
		"in the future": func() error { _, err := f.Revoke(ctx, a, 1, now.Add(time.Minute)); return err },
		"before the certificate's first second": func() error {
			_, err := f.Revoke(ctx, serialOf(f.issue(t, "r", "c.example")), 1, noon.Add(-day))
			return err
		},
		"serial number \"xyz\"": func() error { _, err := f.Revoke(ctx, "xyz", 1, time.Time{}); return err },
	} {
		wantError(t, try(), backend.ErrInvalidParams, text)
	}
	_, err = f.Revoke(ctx, "17:8e", 1, time.Time{})
	wantError(t, err, store.ErrNotFound, "17:8e")
}

// TestRevokeCertificate: one that the store doesn't have is taken if one of the issuers signed it.
func TestRevokeCertificate(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256", "root")
	_, ca, err := f.ca(t.Context(), "root", 0)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := ca.Sign(t.Context(), testKeys()["rsa"].Public(), leafTemplate())
	if err != nil {
		t.Fatal(err)
	}
	cert := issued.Certificate
	if _, err := f.RevokeCertificate(t.Context(), cert, ReasonSuperseded, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if list := f.list(t, "root"); len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(cert.SerialNumber) != 0 {
		t.Errorf("got %v", list.RevokedCertificateEntries)
	}
	foreign := certificate(t, "x", "Example root", testKeys()["rsa"].Public(), testKeys()["p521"], func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) })
	_, err = f.RevokeCertificate(t.Context(), foreign, 1, time.Time{})
	wantError(t, err, store.ErrNotFound, "no issuer of this authority")
	clash := certificate(t, "x", "y", testKeys()["rsa"].Public(), testKeys()["p521"], func(c *x509.Certificate) { c.SerialNumber = cert.SerialNumber })
	_, err = f.RevokeCertificate(t.Context(), clash, 1, time.Time{})
	wantError(t, err, backend.ErrInvalidParams, "another one with this serial number")
}

// TestCRLNumbers: over processes that make lists at once, and over restarts, no number comes twice with another list, and none after a
// greater one.
func TestCRLNumbers(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256", "root")
	f.role(t, anyRole("r"))
	var mu sync.Mutex
	lists := map[int64][]byte{}
	var wg sync.WaitGroup
	for range 4 {
		process := firmOn(t, f.house, f.store, nil)
		wg.Go(func() {
			last := int64(0)
			for i := range 10 {
				pair, err := process.Issue(t.Context(), "r", cn("a.example"))
				if err == nil && i%2 == 0 {
					_, err = process.Revoke(t.Context(), serialOf(pair), 1, time.Time{})
				}
				if err != nil {
					t.Error(err)
					return
				}
				crl, err := process.CRL(t.Context(), "root")
				if errors.Is(err, errCRLBusy) {
					continue // there is none yet
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if known := lists[crl.Number]; known != nil && !bytes.Equal(known, crl.DER) {
					t.Errorf("two lists with number %d", crl.Number)
				}
				lists[crl.Number] = crl.DER
				mu.Unlock()
				if crl.Number < last {
					t.Errorf("number %d after %d", crl.Number, last)
				}
				last = crl.Number
			}
		})
	}
	wg.Wait()
	list := firmOn(t, f.house, f.store, nil).list(t, "root")
	if len(list.RevokedCertificateEntries) != 20 {
		t.Errorf("the last list has %d of 20", len(list.RevokedCertificateEntries))
	}
	for number := range lists {
		if number > list.Number.Int64() {
			t.Errorf("number %d is greater than that of the last list, %d", number, list.Number)
		}
	}
}

// TestCRLLease: who makes a list keeps others from it, for a while, and is not heard when others had to go on without it.
func TestCRLLease(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	f.root(t, "p256", "root")
	f.list(t, "root")
	job, err := f.crlJob(t.Context(), "root", CRLScope{}, false)
	if err != nil {
		t.Fatal(err)
	}
	other := firmOn(t, f.house, f.store, &Options{Now: f.engine.now})
	f.house.km.spoil = func(signature []byte) []byte { // while the key signs, time passes, and another process makes a list
		f.house.km.spoil = nil
		crl, err := other.RotateCRL(context.Background(), "root")
		if !errors.Is(err, errCRLBusy) || crl == nil || crl.Number != 1 {
			t.Errorf("while it is being made: %v, %v", crl, err)
		}
		now = now.Add(crlLease + time.Second)
		if crl, err = other.RotateCRL(context.Background(), "root"); err != nil || crl.Number != 3 {
			t.Errorf("after the lease: %+v, %v", crl, err)
		}
		return signature
	}
	var r crlRecord
	version, err := f.read(t.Context(), "crl/"+job.name, &r)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = f.makeCRL(t.Context(), job, &r, version)
	wantError(t, err, store.ErrConflict)
	if list := f.list(t, "root"); list.Number.Int64() != 3 {
		t.Errorf("number %d; want 3", list.Number)
	}
}

// TestIssuerOutOfReach: neither revocation nor the CRLs of others wait for a key that is gone; a deleted issuer's key is not looked up
// (Vault's migration did, PR 21316).
func TestIssuerOutOfReach(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	ctx := t.Context()
	for _, key := range []string{"p256", "p384", "p521"} {
		f.root(t, key, key)
		r := anyRole(key)
		r.IssuerRef = key
		f.role(t, r)
	}
	lost, kept := f.issue(t, "p384", "a.example"), f.issue(t, "p521", "b.example")
	if err := f.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.house.registry.Revoke(ctx, f.mount, "p384"); err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteIssuer(ctx, "p256"); err != nil {
		t.Fatal(err)
	}
	if err := f.house.registry.Revoke(ctx, f.mount, "p256"); err != nil {
		t.Fatal(err)
	}
	g := firmOn(t, f.house, f.store, &Options{Now: f.engine.now})
	for _, pair := range []*KeyPair{lost, kept} {
		if _, err := g.Revoke(ctx, serialOf(pair), 1, time.Time{}); err != nil {
			t.Error(err)
		}
	}
	err := g.Maintain(ctx)
	if !errors.Is(err, backend.ErrNotPermitted) || errors.Is(err, backend.ErrKeyNotFound) {
		t.Errorf("Maintain: %v", err)
	}
	if list := g.list(t, "p521"); len(list.RevokedCertificateEntries) != 1 {
		t.Error("the CRL of another issuer was not made")
	}
	crl, err := g.CRL(ctx, "p384")
	if err != nil || crl.Number != 1 || !errors.Is(crl.Stale, backend.ErrNotPermitted) {
		t.Errorf("the last CRL of the lost key: %+v, %v", crl, err)
	}
	now = now.Add(100 * time.Hour)
	if _, err := g.CRL(ctx, "p384"); !errors.Is(err, backend.ErrNotPermitted) {
		t.Errorf("when it has expired: %v", err)
	}
	_, err = g.Issue(ctx, "p384", cn("a.example"))
	wantError(t, err, backend.ErrNotPermitted)
	if err := g.house.registry.Grant(ctx, g.mount, "p384"); err != nil {
		t.Fatal(err)
	}
	if list := g.list(t, "p384"); len(list.RevokedCertificateEntries) != 1 || list.Number.Int64() != 2 {
		t.Errorf("with the key again: CRL %d with %d", list.Number, len(list.RevokedCertificateEntries))
	}
}

// revokeMany stores revocations of certificates that never were.
func (f *firm) revokeMany(tb testing.TB, issuer *Issuer, n int) {
	tb.Helper()
	who := signer(issuer.Certificate())
	for i := 1; i <= n; i += store.MaxOps {
		var ops []store.Op
		for j := i; j < i+store.MaxOps; j++ {
			serial := new(big.Int).SetBit(big.NewInt(int64(j)), 142, 1)
			entry, err := crlEntry(serial, noon, 1)
			if err != nil {
				tb.Fatal(err)
			}
			ops = append(ops, store.Op{Key: f.prefix + revokedKey(who, 0, serial), Value: entry, Expect: store.Any})
		}
		if _, err := f.apply(tb.Context(), ops...); err != nil {
			tb.Fatal(err)
		}
	}
}

// TestLongCRL: a list is longer than what the store takes in one value.
func TestLongCRL(t *testing.T) {
	f := newFirm(t, nil)
	issuer := f.root(t, "p256", "root")
	const n = 30_000
	f.revokeMany(t, issuer, n)
	if _, err := f.RotateCRL(t.Context(), "root"); err != nil {
		t.Fatal(err)
	}
	list := firmOn(t, f.house, f.store, nil).list(t, "root") // reads it from the store
	if len(list.RevokedCertificateEntries) != n || len(list.Raw) <= 2*crlChunk {
		t.Errorf("%d entries, %d bytes", len(list.RevokedCertificateEntries), len(list.Raw))
	}
	if _, err := f.RotateCRL(t.Context(), "root"); err != nil {
		t.Fatal(err)
	}
	chunks := 0
	for record, err := range f.all(t.Context(), "crl-data/") {
		if err != nil || len(record.Value) > store.MaxValue {
			t.Fatal(err)
		}
		chunks++
	}
	if chunks != (len(list.Raw)+crlChunk-1)/crlChunk {
		t.Errorf("%d parts are left in the store for a list of %d bytes", chunks, len(list.Raw))
	}
}
