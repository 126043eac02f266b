package pki

import (
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

func memoryStore(tb testing.TB) store.Store {
	s := memory.New(nil)
	tb.Cleanup(func() { s.Close() })
	return s
}

// TestTidyConfig: it is kept, and refused if it could lose a revocation.
func TestTidyConfig(t *testing.T) {
	f, ctx := newFirm(t, nil), t.Context()
	if c, err := f.TidyConfig(ctx); err != nil || c != (TidyConfig{}) {
		t.Errorf("%+v, %v; want zero", c, err)
	}
	want := TidyConfig{Enabled: true, Certificates: true, Interval: time.Minute, Buffer: time.Hour}
	if err := f.SetTidyConfig(ctx, want); err != nil {
		t.Fatal(err)
	}
	if c, err := f.TidyConfig(ctx); err != nil || c != want {
		t.Errorf("%+v, %v; want %+v", c, err, want)
	}
	wantErr(t, "buffer", f.SetTidyConfig(ctx, TidyConfig{Buffer: time.Minute}), backend.ErrInvalidParams)
	wantErr(t, "interval", f.SetTidyConfig(ctx, TidyConfig{Interval: -1}), backend.ErrInvalidParams)
}

// TestTidyIssuers: what has expired long ago goes, but the default issuer stays.
func TestTidyIssuers(t *testing.T) {
	h := newHouse(t, nil)
	s, ctx := memoryStore(t), t.Context()
	f := firmOn(t, h, s, nil)
	first := f.root(t, "p256", "first")
	f.root(t, "p384", "second")
	later := firmOn(t, h, s, &Options{Now: func() time.Time { return first.Certificate().NotAfter.Add(48 * time.Hour) }})
	if n, err := later.TidyIssuers(ctx, 72*time.Hour); err != nil || n != 0 {
		t.Errorf("removed %d, %v; want none yet", n, err)
	}
	if n, err := later.TidyIssuers(ctx, 24*time.Hour); err != nil || n != 1 {
		t.Errorf("removed %d, %v; want 1", n, err)
	}
	if issuers, err := f.Issuers(ctx); err != nil || len(issuers) != 1 || issuers[0].ID != first.ID {
		t.Errorf("left are %v, %v; want the default one", issuers, err)
	}
	_, err := f.TidyIssuers(ctx, time.Minute)
	wantErr(t, "buffer", err, backend.ErrInvalidParams)
}

// TestSetRevocationConfig: both halves are set or neither, and what is nil stays.
func TestSetRevocationConfig(t *testing.T) {
	f := newFirm(t, nil)
	ctx := t.Context()
	must(t, f.SetRevocationConfig(ctx, &CRLConfig{Expiry: 36 * time.Hour}, &OCSPConfig{Validity: time.Hour}))
	must(t, f.SetRevocationConfig(ctx, nil, nil))
	for _, bad := range []struct {
		crl  *CRLConfig
		ocsp *OCSPConfig
	}{{&CRLConfig{Expiry: 48 * time.Hour}, &OCSPConfig{Validity: 1}}, {&CRLConfig{Expiry: 1}, &OCSPConfig{Validity: 2 * time.Hour}}} {
		wantError(t, f.SetRevocationConfig(ctx, bad.crl, bad.ocsp), backend.ErrInvalidParams)
	}
	crl, err := f.CRLConfig(ctx)
	ocsp, err2 := f.OCSPConfig(ctx)
	if err != nil || err2 != nil || crl.Expiry != 36*time.Hour || ocsp.Validity != time.Hour {
		t.Errorf("got %+v, %+v, %v, %v", crl, ocsp, err, err2)
	}
	must(t, f.SetRevocationConfig(ctx, nil, &OCSPConfig{Validity: 2 * time.Hour}))
	if crl, err = f.CRLConfig(ctx); err != nil || crl.Expiry != 36*time.Hour {
		t.Errorf("it did not stay: %+v, %v", crl, err)
	}
}
