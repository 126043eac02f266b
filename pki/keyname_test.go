package pki

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

func wantErr(tb testing.TB, what string, got, want error) {
	tb.Helper()
	if !errors.Is(got, want) {
		tb.Errorf("%s: got %v; want %v", what, got, want)
	}
}

// TestKeyNames: keys have names that are theirs alone, and one is the default.
func TestKeyNames(t *testing.T) {
	f, ctx := newFirm(t, nil), t.Context()
	_, err := f.Key(ctx, "default")
	wantErr(t, "no key", err, store.ErrNotFound)
	key, err := f.AddKey(ctx, KeyRef{Name: "p256"}, "first")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.AddKey(ctx, KeyRef{Name: "p384"}, "first")
	wantErr(t, "a name twice", err, backend.ErrInvalidParams)
	for _, name := range []string{"default", key.ID, "a/b", ".x"} {
		_, err = f.AddKey(ctx, KeyRef{Name: "p384"}, name)
		wantErr(t, name, err, backend.ErrInvalidParams)
	}
	_, err = f.AddKey(ctx, KeyRef{Name: "no-such"}, "")
	wantErr(t, "no such key", err, backend.ErrKeyNotFound)
	for _, ref := range []string{"first", key.ID} {
		if got, err := f.Key(ctx, ref); err != nil || got != key {
			t.Errorf("%s: %v, %v; want %v", ref, got, err, key)
		}
	}
	issuer := f.root(t, "p384", "root")
	if got, err := f.Key(ctx, ""); err != nil || got.UUID != issuer.Key {
		t.Errorf("the default key is %v, %v; want that of the default issuer", got, err)
	}
	if err := f.SetDefaultKey(ctx, "first"); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Key(ctx, "default"); err != nil || got != key {
		t.Errorf("the default key is %v, %v; want %v", got, err, key)
	}
	if key, err = f.RenameKey(ctx, "first", "second"); err != nil {
		t.Fatal(err)
	}
	_, err = f.Key(ctx, "first")
	wantErr(t, "the old name", err, store.ErrNotFound)
	f.root(t, "p256", "other") // remembers the key again
	if got, err := f.Key(ctx, "second"); err != nil || got != key {
		t.Errorf("after its use: %v, %v; want %v", got, err, key)
	}
	keys, err := f.Keys(ctx)
	if err != nil || !slices.Contains(keys, key) {
		t.Errorf("Keys: %v, %v; want %v among them", keys, err, key)
	}
}

// TestDeleteKey: a key that an issuer has is not forgotten, and one that is has no name any more.
func TestDeleteKey(t *testing.T) {
	f, ctx := newFirm(t, nil), t.Context()
	issuer := f.root(t, "p256", "root")
	key, err := f.KeyOf(ctx, issuer)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "in use", f.DeleteKey(ctx, key.ID), backend.ErrNotPermitted)
	if err := f.SetDefaultKey(ctx, key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := f.RenameKey(ctx, key.ID, "mine"); err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteIssuer(ctx, "root"); err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteKey(ctx, "mine"); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"mine", key.ID, "default"} {
		_, err := f.Key(ctx, ref)
		wantErr(t, ref, err, store.ErrNotFound)
	}
	if _, err := f.AddKey(ctx, KeyRef{Name: "p384"}, "mine"); err != nil {
		t.Errorf("the name isn't free: %v", err)
	}
}

// TestImportBundle: every CA certificate of a known key becomes an issuer, in whatever order, once.
func TestImportBundle(t *testing.T) {
	there, ctx := newFirm(t, nil), t.Context()
	root := there.root(t, "rsa", "root")
	csr, err := there.CreateIntermediateCSR(ctx, KeyRef{Name: "p256"}, CSRTemplate{CA: true, Subject: pkix.Name{Organization: []string{"Example"}, CommonName: "Sub"}})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := there.SignIntermediate(ctx, "root", csr, CATemplate{Validity: 365 * day})
	if err != nil {
		t.Fatal(err)
	}
	here := firmOn(t, there.house, memoryStore(t), nil)
	chain := []*x509.Certificate{root.Certificate(), sub.Certificate, root.Certificate()}
	_, err = here.ImportBundle(ctx, "", chain)
	wantErr(t, "no known key", err, backend.ErrInvalidParams)
	if _, err := here.AddKey(ctx, KeyRef{Name: "p256"}, ""); err != nil {
		t.Fatal(err)
	}
	out, err := here.ImportBundle(ctx, "sub", chain)
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Imported) != 1 || out.Imported[0].Name != "sub" || len(out.Imported[0].Chain) != 2 || len(out.Others) != 1 {
		t.Errorf("imported %v, others %d; want sub under the root", out.Imported, len(out.Others))
	}
	if _, err := here.AddKey(ctx, KeyRef{Name: "rsa"}, ""); err != nil {
		t.Fatal(err)
	}
	out, err = here.ImportBundle(ctx, "", chain)
	if err != nil || len(out.Imported) != 1 || len(out.Existing) != 1 || out.Existing[0].Name != "sub" {
		t.Errorf("again: %+v, %v; want the root imported and sub there", out, err)
	}
}

// TestDefaultFollows: a new issuer is the default one only if that was wished.
func TestDefaultFollows(t *testing.T) {
	f, ctx := newFirm(t, nil), t.Context()
	f.root(t, "p256", "first")
	f.root(t, "p384", "second")
	name := func() string {
		issuer, err := f.Issuer(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		return issuer.Name
	}
	if name() != "first" {
		t.Errorf("the default is %s", name())
	}
	if err := f.SetDefaultFollowsLatest(ctx, true); err != nil {
		t.Fatal(err)
	}
	f.root(t, "rsa", "third")
	if name() != "third" {
		t.Errorf("the default is %s", name())
	}
	if err := f.SetDefaultIssuer(ctx, "first"); err != nil {
		t.Fatal(err)
	}
	if follows, err := f.DefaultFollowsLatest(ctx); err != nil || !follows || name() != "first" {
		t.Errorf("follows %v, %v; default %s", follows, err, name())
	}
	if err := f.DeleteIssuer(ctx, "first"); err != nil {
		t.Fatal(err)
	}
	if follows, _ := f.DefaultFollowsLatest(ctx); !follows {
		t.Error("it went with the default issuer")
	}
}

// TestRevokeIssuer: a revoked issuer issues nothing, and its own issuer's CRL has it.
func TestRevokeIssuer(t *testing.T) {
	f, ctx := newFirm(t, nil), t.Context()
	f.root(t, "rsa", "root")
	sub := f.intermediate(t, "root", "p256", "sub")
	f.role(t, anyRole("any"))
	issuer, revocation, err := f.RevokeIssuer(ctx, "sub", ReasonCACompromise)
	if err != nil || revocation == nil || revocation.Reason != ReasonCACompromise {
		t.Fatalf("%v, %v", revocation, err)
	}
	if issuer.Usage&IssueCertificates != 0 || issuer.Usage&SignCRLs == 0 {
		t.Errorf("usage %v", issuer.Usage)
	}
	_, err = f.Issue(ctx, "any", IssueRequest{CommonName: "a.example", Issuer: "sub"})
	wantErr(t, "issue", err, backend.ErrNotPermitted)
	crl, err := f.CRL(ctx, "root")
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(crl.DER)
	if err != nil || len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(sub.Certificate().SerialNumber) != 0 {
		t.Errorf("the root's CRL: %v, %v", list, err)
	}
	if _, again, err := f.RevokeIssuer(ctx, "sub", 0); err != nil || *again != *revocation {
		t.Errorf("again: %v, %v; want %v", again, err, revocation)
	}
}

// TestRevokeImportedIssuer: whose issuer isn't here is not revoked by anybody here, and yet issues nothing more.
func TestRevokeImportedIssuer(t *testing.T) {
	there, ctx := newFirm(t, nil), t.Context()
	there.root(t, "rsa", "root")
	sub := there.intermediate(t, "root", "p256", "sub")
	here := firmOn(t, there.house, memoryStore(t), nil)
	if _, err := here.Import(ctx, KeyRef{Name: "p256"}, "sub", sub.Chain); err != nil {
		t.Fatal(err)
	}
	issuer, revocation, err := here.RevokeIssuer(ctx, "sub", 0)
	if err != nil || revocation != nil || issuer.Usage&IssueCertificates != 0 {
		t.Errorf("%v, %v, %v", issuer, revocation, err)
	}
}

// TestProveKey: only the certificate's own key is taken.
func TestProveKey(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256", "root")
	for _, kind := range []string{"rsa", "ec", "ed25519"} {
		r := anyRole(kind)
		r.KeyType = kind
		f.role(t, r)
		pair, other := f.issue(t, kind, "a.example"), f.issue(t, kind, "b.example")
		if err := ProveKey(pair.Certificate, pair.Key); err != nil {
			t.Error(err)
		}
		wantErr(t, kind, ProveKey(pair.Certificate, other.Key), backend.ErrNotPermitted)
		wantErr(t, "liar", ProveKey(pair.Certificate, liar{other.Key, pair.Key.Public()}), backend.ErrInvalidParams)
		wantErr(t, "nil", ProveKey(pair.Certificate, nil), backend.ErrInvalidParams)
	}
}

// liar has another key's public half.
type liar struct {
	crypto.Signer
	public crypto.PublicKey
}

func (l liar) Public() crypto.PublicKey { return l.public }

// TestSerialLists: serial numbers come in order, page by page, and each once.
func TestSerialLists(t *testing.T) {
	f, ctx := newFirm(t, nil), t.Context()
	f.root(t, "p256", "root")
	f.role(t, anyRole("any"))
	for range 5 {
		f.issue(t, "any", "a.example")
	}
	all, err := f.Serials(ctx, "", 0)
	if err != nil || len(all) != 6 || !slices.IsSorted(all) {
		t.Fatalf("%v, %v; want 6 in order", all, err)
	}
	var paged []string
	for after := ""; ; after = paged[len(paged)-1] {
		page, err := f.Serials(ctx, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		paged = append(paged, page...)
	}
	if !slices.Equal(all, paged) {
		t.Errorf("in pages: %v; want %v", paged, all)
	}
	for _, serial := range all[:3] {
		if _, err := f.Revoke(ctx, serial, 0, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := f.RevokedSerials(ctx, all[0], 1); err != nil || !slices.Equal(got, all[1:2]) {
		t.Errorf("revoked: %v, %v; want %v", got, err, all[1:2])
	}
	if got, err := f.RevokedSerials(ctx, "", 0); err != nil || !slices.Equal(got, all[:3]) {
		t.Errorf("revoked: %v, %v; want %v", got, err, all[:3])
	}
	_, err = f.Serials(ctx, "no serial", 0)
	wantErr(t, "after", err, backend.ErrInvalidParams)
	_, err = f.RevokedSerials(ctx, "", -1)
	wantErr(t, "limit", err, backend.ErrInvalidParams)
}
