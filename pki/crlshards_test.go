package pki

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// shardedFirm has an issuer whose certificates are divided among 3 lists.
func shardedFirm(t *testing.T, opts *Options) (*firm, *Issuer) {
	t.Helper()
	f := newFirm(t, opts)
	root := f.root(t, "ed25519", "root")
	f.role(t, anyRole("r"))
	must(t, f.SetURLs(t.Context(), URLs{CRL: []string{"http://{{issuer_id}}.example/{{shard}}.crl"}}))
	must(t, f.SetCRLConfig(t.Context(), CRLConfig{Shards: 3}))
	return f, root
}

// revokeIn revokes a new certificate of a shard.
func (f *firm) revokeIn(t *testing.T, shard int) string {
	t.Helper()
	for {
		c, err := f.Certificate(t.Context(), serialOf(f.issue(t, "r", "a.example")))
		must(t, err)
		if c.Shard == shard {
			_, err := f.Revoke(t.Context(), c.Serial, ReasonSuperseded, time.Time{})
			must(t, err)
			return c.Serial
		}
	}
}

// TestShardPoints: issuers that have the same name and key share the lists of their shards, which have the URLs of all of them, whoever
// makes them: a certificate names its own issuer's.
func TestShardPoints(t *testing.T) {
	f, root := shardedFirm(t, nil)
	must(t, f.SetCRLConfig(t.Context(), CRLConfig{Shards: 3, AutoRebuild: true, Delta: true}))
	must(t, f.Maintain(t.Context()))
	twin, err := f.Reissue(t.Context(), root.ID, "twin", 4000*day)
	must(t, err)
	if signer(twin.Certificate()) != signer(root.Certificate()) {
		t.Fatal("it has another name or key")
	}
	must(t, f.Maintain(t.Context()))
	f.signed()
	for _, issuer := range []*Issuer{root, twin} {
		for shard := 1; shard <= 3; shard++ {
			point := string(listExtension(f.scoped(t, issuer, CRLScope{Shard: shard}), oidIssuingPoint, true))
			if delta := listExtension(f.scoped(t, issuer, CRLScope{Shard: shard, Delta: true}), oidIssuingPoint, true); string(delta) != point {
				t.Errorf("the delta list of shard %d has another issuing distribution point than its complete one", shard)
			}
			for _, id := range []string{root.ID, twin.ID} {
				if url := fmt.Sprintf("http://%s.example/%d.crl", id, shard); !strings.Contains(point, url) {
					t.Errorf("the issuing distribution point of shard %d lacks %s", shard, url)
				}
			}
		}
	}
	if n := f.signed(); n != 0 {
		t.Errorf("%d lists were not made by Maintain", n)
	}
	// A list whose issuers have become more in between keeps its delta list in its scope.
	_, err = f.Reissue(t.Context(), root.ID, "third", 4000*day)
	must(t, err)
	job, err := f.crlJob(t.Context(), root.ID, CRLScope{Shard: 1, Delta: true}, false)
	must(t, err)
	var r crlRecord
	version, err := f.read(t.Context(), "crl/"+job.name, &r)
	must(t, err)
	der, _, err := f.makeCRL(t.Context(), job, &r, version)
	must(t, err)
	list, err := x509.ParseRevocationList(der)
	must(t, err)
	if point := string(listExtension(list, oidIssuingPoint, true)); strings.Count(point, "/1.crl") != 2 {
		t.Errorf("the delta list has the point %q, and its complete one 2 URLs", point)
	}
}

// TestShardWithoutPoint: what doesn't say which shard it is in is in the list of everything, and the list of a shard is not made if it
// would pass for that.
func TestShardWithoutPoint(t *testing.T) {
	f := newFirm(t, nil)
	root := f.root(t, "ed25519", "root")
	f.role(t, anyRole("r"))
	must(t, f.SetCRLConfig(t.Context(), CRLConfig{Shards: 3}))
	c, err := f.Certificate(t.Context(), serialOf(f.issue(t, "r", "a.example")))
	if must(t, err); c.Shard != 0 {
		t.Errorf("it is in shard %d, and doesn't say so", c.Shard)
	}
	must(t, f.Maintain(t.Context()))
	f.signed()
	f.list(t, "root")
	if f.signed() != 0 {
		t.Error("Maintain has not made the list that all certificates are in")
	}
	for range 2 {
		_, err = f.ScopedCRL(t.Context(), "root", CRLScope{Shard: 1})
		wantError(t, err, errNoPoint, "no URL of CRLs")
	}
	var r crlRecord
	if version, err := f.readIf(t.Context(), "crl/"+CRLScope{Shard: 1}.name(signer(root.Certificate())), &r); err != nil || version != 0 {
		t.Errorf("numbers were taken in vain: %+v, %v", r, err)
	}

	must(t, f.SetURLs(t.Context(), URLs{CRL: []string{"http://a.example/{{shard}}"}}))
	must(t, f.Maintain(t.Context()))
	f.scoped(t, root, CRLScope{Shard: 1})
	must(t, f.SetURLs(t.Context(), URLs{}))
	f.revokeMany(t, root, 1)
	must(t, update(t.Context(), f.Authority, "crl/"+CRLScope{Shard: 1}.name(signer(root.Certificate())), func(r *crlRecord, _ uint64) error {
		r.NextUpdate = noon
		return nil
	}))
	if err := f.Maintain(t.Context()); !errors.Is(err, errNoPoint) {
		t.Errorf("a list that was published and can't be made any more: %v", err)
	}
}

// TestAdoptedShard: a certificate that was not kept, or that another process lost, is revoked in the list that it names, also if there
// are more or fewer shards now.
func TestAdoptedShard(t *testing.T) {
	f, root := shardedFirm(t, nil)
	r := anyRole("unkept")
	r.NoStore = true
	f.role(t, r)
	var pairs []*KeyPair
	for range 6 {
		pairs = append(pairs, f.issue(t, "unkept", "a.example"))
	}
	must(t, f.SetCRLConfig(t.Context(), CRLConfig{Shards: 5}))
	pairs = append(pairs, f.issue(t, "unkept", "a.example"))
	for _, pair := range pairs {
		_, err := f.RevokeCertificate(t.Context(), pair.Certificate, ReasonKeyCompromise, time.Time{})
		must(t, err)
		found := false
		for shard := 1; shard <= 5; shard++ {
			named := slices.Contains(pair.Certificate.CRLDistributionPoints, fmt.Sprintf("http://%s.example/%d.crl", root.ID, shard))
			_, listed := reasons(f.scoped(t, root, CRLScope{Shard: shard}))[serialOf(pair)]
			if found = found || named; listed != named {
				t.Errorf("shard %d: the certificate names it: %v; it lists the certificate: %v", shard, named, listed)
			}
		}
		if !found {
			t.Fatalf("it names %v", pair.Certificate.CRLDistributionPoints)
		}
	}
}

// TestShardsBegin: a list of everything that was begun before there were shards has what is in them.
func TestShardsBegin(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "ed25519", "root")
	f.role(t, anyRole("r"))
	f.list(t, "root")
	job, err := f.crlJob(t.Context(), "root", CRLScope{}, false)
	must(t, err)
	must(t, f.SetURLs(t.Context(), URLs{CRL: []string{"http://a.example/{{shard}}"}}))
	must(t, f.SetCRLConfig(t.Context(), CRLConfig{Shards: 3}))
	serial := f.revokeIn(t, 2)
	_, err = f.freshCRL(t.Context(), job)
	must(t, err)
	if got := reasons(f.list(t, "root")); len(got) != 1 || got[serial] != ReasonSuperseded {
		t.Errorf("the list has %v; want %s", got, serial)
	}

	// And without them again, new certificates are in the list of everything, which Maintain makes.
	must(t, f.SetURLs(t.Context(), URLs{}))
	must(t, f.SetCRLConfig(t.Context(), CRLConfig{}))
	must(t, f.Maintain(t.Context()))
	f.revokeIn(t, 0)
	must(t, f.Maintain(t.Context()))
	f.signed()
	if list := f.list(t, "root"); len(list.RevokedCertificateEntries) != 2 || f.signed() != 0 {
		t.Errorf("%d entries; Maintain has not made the list", len(list.RevokedCertificateEntries))
	}
}

// TestCorruptShard: what the store has lost of one shard keeps no other one from being made.
func TestCorruptShard(t *testing.T) {
	f, root := shardedFirm(t, nil)
	who := signer(root.Certificate())
	serial := f.revokeIn(t, 1)
	number, err := ParseSerial(serial)
	must(t, err)
	key := f.prefix + revokedKey(who, 1, number)
	_, err = f.apply(t.Context(), store.Op{Key: key, Value: []byte("x"), Expect: store.Any})
	must(t, err)
	if err := f.Maintain(t.Context()); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Maintain: %v", err)
	}
	f.signed()
	for shard := 2; shard <= 3; shard++ {
		f.scoped(t, root, CRLScope{Shard: shard})
	}
	if n := f.signed(); n != 0 {
		t.Errorf("%d shards were not made", n)
	}
	must(t, f.house.registry.Revoke(t.Context(), f.mount, "ed25519"))
	f.outdate(t, serial)
	if err := f.Maintain(t.Context()); !errors.Is(err, backend.ErrNotPermitted) {
		t.Errorf("without the key: %v", err)
	}
}

// outdate makes all lists old ones.
func (f *firm) outdate(t *testing.T, serial string) {
	t.Helper()
	c, err := f.Certificate(t.Context(), serial)
	must(t, err)
	for shard := 1; shard <= 3; shard++ {
		_, err := f.apply(t.Context(), f.stale(c.signer, shard)...)
		must(t, err)
	}
}

// reading is a store that counts the parts of lists that are read.
type reading struct {
	store.Store
	parts, records atomic.Int64
}

func (r *reading) Get(ctx context.Context, key string) (store.Record, error) {
	if strings.Contains(key, "/crl-data/") {
		r.parts.Add(1)
	}
	return r.Store.Get(ctx, key)
}

func (r *reading) List(ctx context.Context, prefix, after string, limit int) (store.Page, error) {
	page, err := r.Store.List(ctx, prefix, after, limit)
	if strings.Contains(prefix, "/revoked/") {
		r.records.Add(int64(len(page.Records)))
	}
	return page, err
}

// TestListsAreNotRead: neither Maintain nor a delta list reads lists that are not due, and a revocation costs no reading of the others.
func TestListsAreNotRead(t *testing.T) {
	now := noon
	s := &reading{Store: memory.New(nil)}
	defer s.Close()
	opts := &Options{Now: func() time.Time { return now }}
	f := firmOn(t, newHouse(t, opts), s, opts)
	root := f.root(t, "ed25519", "root")
	f.role(t, anyRole("r"))
	must(t, f.SetURLs(t.Context(), URLs{CRL: []string{"http://a.example/crl"}, DeltaCRL: []string{"http://a.example/delta"}}))
	must(t, f.SetCRLConfig(t.Context(), CRLConfig{AutoRebuild: true, Delta: true, DeltaInterval: time.Hour}))
	f.revokeMany(t, root, 2000)
	must(t, f.Maintain(t.Context()))
	now = now.Add(2 * time.Hour)
	f.revokeIn(t, 0)
	g := firmOn(t, f.house, s, opts) // which has no list in memory
	s.parts.Store(0)
	s.records.Store(0)
	must(t, g.Maintain(t.Context()))
	delta, err := g.DeltaCRL(t.Context(), "root")
	if must(t, err); delta.Entries != 1 || s.parts.Load() != 0 || s.records.Load() != 0 {
		t.Errorf("a delta list of %d was made with %d parts of lists and %d revocations", delta.Entries, s.parts.Load(), s.records.Load())
	}
	must(t, g.SetCRLConfig(t.Context(), CRLConfig{}))
	full, err := g.CRL(t.Context(), "root")
	if must(t, err); full.Entries != 2001 || s.parts.Load() != 1 || s.records.Load() != 0 {
		t.Errorf("a list of %d was made with %d parts of the last one and %d revocations", full.Entries, s.parts.Load(), s.records.Load())
	}
}
