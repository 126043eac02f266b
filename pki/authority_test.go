package pki

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
)

// TestReplacedEntry: an issuer's key is an entry, not a name: another entry under the same name is not taken for it.
func TestReplacedEntry(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256", "root")
	f.role(t, anyRole("r"))
	f.issue(t, "r", "a.example")
	ctx, ref := t.Context(), namespace.Ref{Name: "p256"}
	if err := f.house.registry.Revoke(ctx, f.mount, "p256"); err != nil {
		t.Fatal(err)
	}
	if err := f.house.registry.Delete(ctx, ref); err != nil {
		t.Fatal(err)
	}
	entry := managedkey.Entry{Ref: ref, Backend: f.house.km, Params: kmParams("p256-b")}
	if err := f.house.registry.Create(ctx, entry); err != nil {
		t.Fatal(err)
	}
	if err := f.house.registry.Grant(ctx, f.mount, "p256"); err != nil {
		t.Fatal(err)
	}
	f.signed()
	_, err := f.Issue(ctx, "r", cn("a.example"))
	wantError(t, err, backend.ErrKeyNotFound)
	_, err = f.RotateCRL(ctx, "root")
	wantError(t, err, backend.ErrKeyNotFound)
	if n, err := f.Count(ctx); f.signed() != 0 || err != nil || n.Pending != 0 {
		t.Errorf("something was signed, or is pending: %+v, %v", n, err)
	}
}

// TestKeyVersions: issuers stay with the version of the key that their certificates have, and the next root takes the next version.
func TestKeyVersions(t *testing.T) {
	ctx, ref := t.Context(), namespace.Ref{Name: "ca"}
	keys := software.New(nil)
	defer keys.Close()
	registry := managedkey.NewRegistry()
	err := registry.Create(ctx, managedkey.Entry{Ref: ref, Backend: keys, AllowGenerateKey: true, AnyMount: true,
		Params: software.Params{KeyName: "ca", KeyType: software.ECDSA, Curve: software.P256}})
	if err != nil {
		t.Fatal(err)
	}
	mount, err := registry.Mount(ctx, "", "pki")
	if err != nil {
		t.Fatal(err)
	}
	a, err := OpenAuthority(ctx, mount, memory.New(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	old, err := a.GenerateRoot(ctx, KeyRef{Name: "ca"}, "old", rootTemplate())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Rotate(ctx, ref, nil); err != nil {
		t.Fatal(err)
	}
	rotation, err := a.RotateRoot(ctx, "old", KeyRef{Name: "ca"}, "next", CATemplate{Validity: 3000 * day})
	if err != nil {
		t.Fatal(err)
	}
	if old.KeyVersion != 1 || rotation.Issuer.KeyVersion != 2 || old.Key != rotation.Issuer.Key {
		t.Errorf("versions %d and %d", old.KeyVersion, rotation.Issuer.KeyVersion)
	}
	for _, issuer := range []*Issuer{old, rotation.Issuer} {
		r := anyRole("r")
		r.IssuerRef = issuer.ID
		if err := a.PutRole(ctx, r); err != nil {
			t.Fatal(err)
		}
		pair, err := a.Issue(ctx, "r", cn("a.example"))
		if err != nil {
			t.Fatal(err)
		}
		if err := pair.Certificate.CheckSignatureFrom(issuer.Certificate()); err != nil {
			t.Errorf("%s: %v", issuer.Name, err)
		}
	}
	third, err := a.GenerateRoot(ctx, KeyRef{Name: "ca", Version: 1}, "third", CATemplate{Subject: pkix.Name{CommonName: "Third"}, Validity: day})
	if err != nil || !equalKeys(third.Certificate().PublicKey, old.Certificate().PublicKey) {
		t.Errorf("a root of version 1: %v", err)
	}
	if _, err := a.GenerateRoot(ctx, KeyRef{Name: "ca", Version: 3}, "", rootTemplate()); err == nil {
		t.Error("a version that isn't there was taken")
	}
}

func TestConfig(t *testing.T) {
	f := newFirm(t, nil)
	ctx := t.Context()
	for name, try := range map[string]func() error{
		"URL":          func() error { return f.SetURLs(ctx, URLs{OCSP: []string{"ldap://x"}}) },
		"template":     func() error { return f.SetURLs(ctx, URLs{OCSP: []string{"http://x/{{y}}"}}) },
		"cluster":      func() error { return f.SetCluster(ctx, ClusterConfig{Path: "x"}) },
		"expiry":       func() error { return f.SetCRLConfig(ctx, CRLConfig{Expiry: time.Second}) },
		"grace":        func() error { return f.SetCRLConfig(ctx, CRLConfig{Expiry: time.Hour, Grace: time.Hour}) },
		"run":          func() error { return f.Run(ctx, 0, nil) },
		"role":         func() error { return f.PutRole(ctx, Role{Name: "x"}) },
		"role by name": func() error { _, err := f.Role(ctx, "a/b"); return err },
	} {
		if err := try(); err == nil {
			t.Errorf("%s was taken", name)
		} else {
			wantError(t, err, backend.ErrInvalidParams)
		}
	}
	// A template without its value is an error when something is issued, and not an address that leads nowhere.
	if err := f.SetURLs(ctx, URLs{OCSP: []string{"{{cluster_path}}/ocsp"}}); err != nil {
		t.Fatal(err)
	}
	f.root(t, "p256", "root")
	f.role(t, anyRole("b"))
	f.role(t, anyRole("a"))
	f.signed()
	_, err := f.Issue(ctx, "a", cn("a.example"))
	wantError(t, err, backend.ErrInvalidParams, "the cluster has no such path")
	if f.signed() != 0 {
		t.Error("something was signed")
	}
	if names, err := f.Roles(ctx); err != nil || len(names) != 2 || names[0] != "a" {
		t.Errorf("roles %v, %v", names, err)
	}
	if err := f.DeleteRole(ctx, "a"); err != nil {
		t.Error(err)
	}
	wantError(t, f.DeleteRole(ctx, "a"), store.ErrNotFound)
	if err := f.SetCRLConfig(ctx, CRLConfig{Expiry: 24 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	if list := f.list(t, "root"); list.NextUpdate.Sub(list.ThisUpdate) != 24*time.Hour {
		t.Errorf("a CRL for %v", list.NextUpdate.Sub(list.ThisUpdate))
	}
}

// TestRun: CRLs are made without anybody asking for them, and what goes wrong with one is told.
func TestRun(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256", "lost")
	issuer := f.root(t, "p384", "kept")
	if err := f.house.registry.Revoke(t.Context(), f.mount, "p256"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan error, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- f.Run(ctx, time.Millisecond, func(err error) {
			select {
			case told <- err:
			default:
			}
		})
	}()
	if err := <-told; !errors.Is(err, backend.ErrNotPermitted) {
		t.Errorf("told %v", err)
	}
	var r crlRecord
	for deadline := time.Now().Add(10 * time.Second); r.Number == 0 && time.Now().Before(deadline); {
		if _, err := f.readIf(t.Context(), "crl/"+signer(issuer.Certificate()), &r); err != nil {
			t.Fatal(err)
		}
	}
	if r.Number != 1 {
		t.Errorf("CRL number %d", r.Number)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run ended with %v", err)
	}
}
