package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// scoped returns a parsed list, which must be signed by its issuer.
func (f *firm) scoped(tb testing.TB, issuer *Issuer, scope CRLScope) *x509.RevocationList {
	tb.Helper()
	crl, err := f.ScopedCRL(tb.Context(), issuer.ID, scope)
	if err != nil {
		tb.Fatal(err)
	}
	list, err := x509.ParseRevocationList(crl.DER)
	if err != nil {
		tb.Fatal(err)
	}
	if err := list.CheckSignatureFrom(issuer.Certificate()); err != nil || list.Number.Int64() != crl.Number || crl.Stale != nil ||
		len(list.RevokedCertificateEntries) != crl.Entries || !list.NextUpdate.Equal(crl.NextUpdate) {
		tb.Errorf("CRL %d: %v, stale %v", crl.Number, err, crl.Stale)
	}
	return list
}

// reasons are the reasons in a list by serial number.
func reasons(list *x509.RevocationList) map[string]int {
	out := map[string]int{}
	for _, e := range list.RevokedCertificateEntries {
		out[FormatSerial(e.SerialNumber)] = e.ReasonCode
	}
	return out
}

// listExtension returns the value of a list's extension, nil if it is absent.
func listExtension(list *x509.RevocationList, oid asn1.ObjectIdentifier, critical bool) []byte {
	for _, e := range list.Extensions {
		if e.Id.Equal(oid) && e.Critical == critical {
			return e.Value
		}
	}
	return nil
}

// TestDeltaCRL: a delta list says what has changed since the complete one, releases and the end of certificates included, and begins
// anew with the next complete one.
func TestDeltaCRL(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	ctx := t.Context()
	_, err := f.DeltaCRL(ctx, "root")
	wantError(t, err, store.ErrNotFound)
	root := f.root(t, "p256", "root")
	_, err = f.DeltaCRL(ctx, "root")
	wantError(t, err, store.ErrNotFound, "not configured")
	f.role(t, anyRole("r"))
	must(t, f.SetURLs(ctx, URLs{CRL: []string{"http://a.example/crl"}, DeltaCRL: []string{"http://a.example/delta"}}))
	must(t, f.SetCRLConfig(ctx, CRLConfig{AutoRebuild: true, Delta: true, DeltaInterval: time.Hour}))
	var serials []string
	for range 4 {
		pair := f.issue(t, "r", "a.example")
		serials = append(serials, serialOf(pair))
		if der, _ := distributionPoints([]string{"http://a.example/delta"}); !slices.ContainsFunc(pair.Certificate.Extensions, isExtension(oidFreshestCRL, der)) {
			t.Error("the certificate doesn't say where delta lists are")
		}
	}
	revoke := func(i, reason int) {
		t.Helper()
		_, err := f.Revoke(ctx, serials[i], reason, time.Time{})
		must(t, err)
	}
	complete, delta := CRLScope{}, CRLScope{Delta: true}
	revoke(0, ReasonCertificateHold)
	revoke(1, ReasonSuperseded)
	first := f.scoped(t, root, delta)
	base := f.scoped(t, root, complete)
	if len(base.RevokedCertificateEntries) != 2 || len(first.RevokedCertificateEntries) != 0 || first.Number.Cmp(base.Number) <= 0 {
		t.Errorf("complete list %d has %d entries, delta %d %d", base.Number, len(base.RevokedCertificateEntries), first.Number, len(first.RevokedCertificateEntries))
	}
	if got := listExtension(first, oidDeltaCRL, true); !bytes.Equal(got, []byte{2, 1, byte(base.Number.Int64())}) {
		t.Errorf("deltaCRLIndicator %x; want %d", got, base.Number)
	}
	if listExtension(base, oidFreshestCRL, false) == nil || listExtension(first, oidFreshestCRL, false) != nil {
		t.Error("freshestCRL belongs into the complete list only")
	}
	now = now.Add(30 * time.Minute)
	revoke(2, ReasonKeyCompromise)
	must(t, f.Release(ctx, serials[0]))
	if same := f.scoped(t, root, delta); same.Number.Cmp(first.Number) != 0 {
		t.Error("a delta list was made before its time")
	}
	now = now.Add(30 * time.Minute)
	next := f.scoped(t, root, delta)
	if got := reasons(next); len(got) != 2 || got[serials[2]] != ReasonKeyCompromise || got[serials[0]] != reasonRemoveFromCRL {
		t.Errorf("changes %v", got)
	}
	if same := f.scoped(t, root, complete); same.Number.Cmp(base.Number) != 0 {
		t.Error("the complete list was made anew, and it isn't due")
	}
	now = now.Add(66 * time.Hour)
	last := f.scoped(t, root, delta)
	full := f.scoped(t, root, complete)
	if got := reasons(full); len(got) != 2 || got[serials[1]] != ReasonSuperseded || got[serials[2]] != ReasonKeyCompromise || len(last.RevokedCertificateEntries) != 0 ||
		last.Number.Cmp(full.Number) <= 0 || full.Number.Cmp(next.Number) <= 0 {
		t.Errorf("the next complete list %d has %v, its delta %d %d", full.Number, got, last.Number, len(last.RevokedCertificateEntries))
	}
	left := 0
	for range f.all(ctx, "changes/") {
		left++
	}
	if left != 0 {
		t.Errorf("%d changes are left that the complete list has", left)
	}
	now = now.Add(1200 * day / 2)
	if p, err := f.Tidy(ctx, nil); err != nil || p.Unlisted != 2 {
		t.Fatalf("tidied %+v, %v; the last list that has the two is from before their end", p, err)
	}
	if list := f.scoped(t, root, complete); len(list.RevokedCertificateEntries) != 2 {
		t.Errorf("the list that is made after their end has %d entries", len(list.RevokedCertificateEntries))
	}
	if p, err := f.Tidy(ctx, nil); err != nil || p.Unlisted != 0 || p.Revoked != 2 {
		t.Fatalf("tidied %+v, %v", p, err)
	}
	if got := reasons(f.scoped(t, root, delta)); len(got) != 2 || got[serials[1]] != reasonRemoveFromCRL || got[serials[2]] != reasonRemoveFromCRL {
		t.Errorf("the first delta list after they were removed has %v", got)
	}
	now = now.Add(66 * time.Hour)
	g := firmOn(t, f.house, f.store, &Options{Now: f.engine.now})
	if list := g.scoped(t, root, complete); len(list.RevokedCertificateEntries) != 0 {
		t.Errorf("%d entries are left of certificates that have expired", len(list.RevokedCertificateEntries))
	}
}

// TestShardedCRL: each certificate is in the list that it names, that names itself, and that has no others; all are in the whole list.
func TestShardedCRL(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	ctx := t.Context()
	root := f.root(t, "p256", "root")
	f.role(t, anyRole("r"))
	must(t, f.SetURLs(ctx, URLs{CRL: []string{"http://a.example/crl"}}))
	before := f.issue(t, "r", "a.example")
	must(t, f.SetCRLConfig(ctx, CRLConfig{Shards: 3, AutoRebuild: true, Delta: true}))
	_, err := f.Issue(ctx, "r", cn("a.example"))
	wantError(t, err, backend.ErrInvalidParams, "it has no {{shard}}")
	must(t, f.SetURLs(ctx, URLs{CRL: []string{"http://a.example/{{shard}}.crl"}, DeltaCRL: []string{"http://a.example/{{shard}}.delta"}}))
	want := map[int][]string{}
	for range 12 {
		pair := f.issue(t, "r", "a.example")
		cert, err := f.Certificate(ctx, serialOf(pair))
		must(t, err)
		if url := fmt.Sprintf("http://a.example/%d.crl", cert.Shard); cert.Shard < 1 || cert.Shard > 3 || pair.Certificate.CRLDistributionPoints[0] != url {
			t.Errorf("shard %d, URL %v", cert.Shard, pair.Certificate.CRLDistributionPoints)
		}
		want[cert.Shard] = append(want[cert.Shard], cert.Serial)
		_, err = f.Revoke(ctx, cert.Serial, ReasonSuperseded, time.Time{})
		must(t, err)
	}
	_, err = f.Revoke(ctx, serialOf(before), ReasonSuperseded, time.Time{})
	must(t, err)
	must(t, f.SetCRLConfig(ctx, CRLConfig{Shards: 2, AutoRebuild: true, Delta: true})) // the others keep theirs
	must(t, f.Maintain(ctx))
	f.signed()
	for shard := 1; shard <= 3; shard++ {
		list := f.scoped(t, root, CRLScope{Shard: shard})
		var got []string
		for _, e := range list.RevokedCertificateEntries {
			got = append(got, FormatSerial(e.SerialNumber))
		}
		slices.Sort(want[shard])
		slices.Sort(got)
		if !slices.Equal(got, want[shard]) {
			t.Errorf("shard %d has %v; want %v", shard, got, want[shard])
		}
		point := listExtension(list, oidIssuingPoint, true)
		if !strings.Contains(string(point), fmt.Sprintf("http://a.example/%d.crl", shard)) {
			t.Errorf("shard %d: issuing distribution point %q", shard, point)
		}
		if delta := f.scoped(t, root, CRLScope{Shard: shard, Delta: true}); !bytes.Equal(listExtension(delta, oidIssuingPoint, true), point) || len(delta.RevokedCertificateEntries) != 0 {
			t.Errorf("shard %d: its delta list has another scope, or entries", shard)
		}
	}
	if n := f.signed(); n != 0 {
		t.Errorf("%d lists were not made by Maintain", n)
	}
	if whole := f.scoped(t, root, CRLScope{}); len(whole.RevokedCertificateEntries) != 13 || listExtension(whole, oidIssuingPoint, true) != nil {
		t.Errorf("the whole list has %d entries", len(whole.RevokedCertificateEntries))
	}
	for _, scope := range []CRLScope{{Shard: 4}, {Shard: -1}, {Delta: true}} {
		_, err := f.ScopedCRL(ctx, "root", scope)
		wantError(t, err, store.ErrNotFound)
	}
	for _, c := range []CRLConfig{{Shards: -1}, {Shards: MaxShards + 1}, {Delta: true}, {AutoRebuild: true, Delta: true, DeltaInterval: time.Millisecond},
		{AutoRebuild: true, Delta: true, DeltaInterval: 100 * time.Hour}} {
		wantError(t, f.SetCRLConfig(ctx, c), backend.ErrInvalidParams, "CRL config")
	}
}

// TestMergedCRL: a list that is made from the last one and the changes since is the one that is made from all revocations, whatever has
// happened in between, in whatever process, and also if the last one can't be read.
func TestMergedCRL(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	issuer := f.root(t, "ed25519", "root")
	who := signer(issuer.Certificate())
	for round := range 40 {
		now = now.Add(time.Minute)
		for range random.IntN(6) {
			// Serial numbers of all lengths: their order in the list is that of numbers.
			serial := new(big.Int).SetUint64(random.Uint64N(40) + 1)
			serial.Lsh(serial, 7*uint(random.IntN(20)))
			c := &Certificate{Certificate: &x509.Certificate{SerialNumber: serial}, signer: who}
			r := &Revocation{now, []int{0, 1, 4, 6}[random.IntN(4)]}
			if random.IntN(3) == 0 {
				r = nil
			}
			ops, err := f.entryOps(c, r)
			must(t, err)
			_, err = f.apply(t.Context(), append(ops, f.stale(who, 0)...)...)
			must(t, err)
		}
		if random.IntN(5) == 0 {
			f = firmOn(t, f.house, f.store, &Options{Now: f.engine.now})
		}
		if random.IntN(7) == 0 {
			for record := range f.all(t.Context(), "crl-data/") { // the last list is lost
				_, err := f.apply(t.Context(), store.Op{Kind: store.Delete, Key: record.Key, Expect: store.Any})
				must(t, err)
			}
			f = firmOn(t, f.house, f.store, &Options{Now: f.engine.now})
		}
		merged, err := f.CRL(t.Context(), "root")
		must(t, err)
		full, err := f.RotateCRL(t.Context(), "root")
		must(t, err)
		a, err := entriesOf(merged.DER)
		must(t, err)
		b, err := entriesOf(full.DER)
		must(t, err)
		if !bytes.Equal(a, b) || merged.Entries != full.Entries || full.Number <= merged.Number && round > 0 {
			t.Fatalf("round %d: %d entries, and %d from all revocations\n%x\n%x", round, merged.Entries, full.Entries, a, b)
		}
		list, err := x509.ParseRevocationList(merged.DER)
		must(t, err)
		if len(list.RevokedCertificateEntries) != merged.Entries {
			t.Errorf("%d entries; it says %d", len(list.RevokedCertificateEntries), merged.Entries)
		}
	}
}

func isExtension(oid asn1.ObjectIdentifier, value []byte) func(pkix.Extension) bool {
	return func(e pkix.Extension) bool { return e.Id.Equal(oid) && !e.Critical && bytes.Equal(e.Value, value) }
}
