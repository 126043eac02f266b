package pki

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// counting counts what is read, and fails reads.
type counting struct {
	store.Store
	gets, lists atomic.Int64
	fail        func(key string) error
}

func (s *counting) Get(ctx context.Context, key string) (store.Record, error) {
	s.gets.Add(1)
	if s.fail != nil {
		if err := s.fail(key); err != nil {
			return store.Record{}, err
		}
	}
	return s.Store.Get(ctx, key)
}

func (s *counting) List(ctx context.Context, prefix, after string, limit int) (store.Page, error) {
	s.lists.Add(1)
	if s.fail != nil {
		if err := s.fail(prefix); err != nil {
			return store.Page{}, err
		}
	}
	return s.Store.List(ctx, prefix, after, limit)
}

// leaves gives a watched firm a root and a role for certificates of 90 days that are not linted.
func (w *watched) leaves(t *testing.T) *watched {
	t.Helper()
	w.root(t, "p256", "root")
	r := offRole("r")
	r.TTL, r.MaxTTL = Duration(90*day), Duration(90*day)
	w.role(t, r)
	return w
}

func (w *watched) counts() (out []int) {
	for _, c := range w.watch.Status().Certificates {
		out = append(out, c.Count)
	}
	return out
}

// TestExpiringCertificates: a certificate is told of at each threshold and when it has expired, once, and counted in between.
func TestExpiringCertificates(t *testing.T) {
	w := newWatched(t, nil).leaves(t)
	end := w.issue(t, "r", "a.example").Certificate.NotAfter
	w.tells(t, noon)
	w.tells(t, end.Add(-30*day-time.Second))
	for _, step := range []struct {
		at     time.Time
		told   []string
		counts []int
	}{
		{end.Add(-30 * day), []string{"certificate 30d"}, []int{1, 0, 0}},
		{end.Add(-8 * day), nil, []int{1, 0, 0}},
		{end.Add(-7 * day), []string{"certificate 7d"}, []int{1, 1, 0}},
		{end.Add(-time.Hour), []string{"certificate 1d"}, []int{1, 1, 1}},
		{end.Add(-time.Second), nil, []int{1, 1, 1}},
		{end.Add(time.Second), []string{"certificate 0s"}, []int{0, 0, 0}},
		{end.Add(30 * day), nil, []int{0, 0, 0}},
	} {
		w.tells(t, step.at, step.told...)
		if got := w.counts(); !slices.Equal(got, step.counts) {
			t.Errorf("at %s: counts %v; want %v", stamp(step.at), got, step.counts)
		}
	}
	// A process that starts anew tells what has expired within a day, and nothing older.
	w.open(t, nil)
	w.tells(t, end.Add(23*time.Hour), "certificate 0s")
	w.open(t, nil)
	w.tells(t, end.Add(25*time.Hour))
}

// TestNotExpiring: what is nobody's worry is not told of, and not counted any more.
func TestNotExpiring(t *testing.T) {
	for name, act := range map[string]func(t *testing.T, w *watched, pair *KeyPair){
		"revoked": func(t *testing.T, w *watched, pair *KeyPair) {
			if _, err := w.Revoke(t.Context(), serialOf(pair), ReasonSuperseded, time.Time{}); err != nil {
				t.Fatal(err)
			}
		},
		"revoked by another process": func(t *testing.T, w *watched, pair *KeyPair) {
			other := firmOn(t, w.house, w.store, &Options{Now: w.engine.now})
			if _, err := other.Revoke(t.Context(), serialOf(pair), ReasonKeyCompromise, time.Time{}); err != nil {
				t.Fatal(err)
			}
		},
		"replaced": func(t *testing.T, w *watched, pair *KeyPair) { w.issue(t, "r", "a.example") },
		"removed": func(t *testing.T, w *watched, pair *KeyPair) {
			if _, err := w.apply(t.Context(), w.remove(certKey(pair.Certificate.SerialNumber), store.Any)); err != nil {
				t.Fatal(err)
			}
		},
		"pending": func(t *testing.T, w *watched, pair *KeyPair) {
			c, err := w.Certificate(t.Context(), serialOf(pair))
			if err != nil {
				t.Fatal(err)
			}
			c.State = StatePending
			if _, err := w.apply(t.Context(), w.put(certKey(pair.Certificate.SerialNumber), store.Any, c.record())); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatched(t, nil).leaves(t)
			pair := w.issue(t, "r", "a.example")
			end := pair.Certificate.NotAfter
			w.tells(t, end.Add(-20*day), "certificate 30d")
			act(t, w, pair)
			w.tells(t, *w.now)
			if got := w.counts(); !slices.Equal(got, []int{0, 0, 0}) {
				t.Errorf("counts %v", got)
			}
			w.tells(t, end.Add(-time.Hour))
			w.tells(t, end.Add(time.Hour))
			w.open(t, nil)
			w.tells(t, end.Add(time.Hour))
		})
	}
}

// TestReplacing: which certificate replaces which.
func TestReplacing(t *testing.T) {
	w := newWatched(t, nil).leaves(t)
	other := offRole("other")
	other.TTL, other.MaxTTL = Duration(90*day), Duration(90*day)
	w.role(t, other)
	end := w.issue(t, "r", "a.example").Certificate.NotAfter
	*w.now = end.Add(-25 * day)
	w.issue(t, "other", "a.example")
	if _, err := w.Issue(t.Context(), "r", IssueRequest{CommonName: "a.example", AltNames: []string{"b.example"}}); err != nil {
		t.Fatal(err)
	}
	w.tells(t, *w.now, "certificate 30d") // another role, and more names
	next := w.issue(t, "r", "a.example")
	w.tells(t, end.Add(-6*day))
	if _, err := w.Revoke(t.Context(), serialOf(next), ReasonCertificateHold, time.Time{}); err != nil {
		t.Fatal(err)
	}
	w.tells(t, end.Add(-time.Hour), "certificate 1d") // its replacement is none any more
}

// TestShortLived: a threshold of more than half of a validity is none, so that certificates that are made for a day don't make noise.
func TestShortLived(t *testing.T) {
	w := newWatched(t, nil).leaves(t)
	r := offRole("short")
	r.TTL = Duration(day)
	w.role(t, r)
	end := w.issue(t, "short", "a.example").Certificate.NotAfter
	w.tells(t, noon)
	w.tells(t, end.Add(-time.Minute))
	w.tells(t, end.Add(time.Minute), "certificate 0s")
}

// plainCertificate makes a certificate fast.
func plainCertificate(t *testing.T, serial int64, name string, from, to time.Time) *x509.Certificate {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

// TestExpiringMany: what is read follows what passes a threshold and what stands, and not what there is; a store that fails in the
// middle makes nothing told twice or forgotten; records of earlier versions, which don't say when a certificate ends, do as well.
func TestExpiringMany(t *testing.T) {
	now := noon
	h := newHouse(t, &Options{Now: func() time.Time { return now }})
	s := &counting{Store: memoryStore(t)}
	w := &watched{firm: firmOn(t, h, s, nil), now: &now}
	w.leaves(t).open(t, nil)
	const n = store.MaxPage + 200 // in one day, hence on two pages of the index
	root, err := w.Issuer(t.Context(), "root")
	must(t, err)
	for i := range n {
		cert := plainCertificate(t, int64(i+1), fmt.Sprintf("n%d.example", i), noon, noon.Add(90*day))
		r := certRecord{State: StateIssued, DER: cert.Raw, Issuer: root.ID, Signer: signer(root.Certificate()), Role: "r", Issued: noon}
		_, err := w.insert(t.Context(), cert, r)
		must(t, err)
	}
	end := noon.Add(90 * day)
	w.tells(t, noon.Add(time.Hour))
	*w.now = end.Add(-31 * day)
	s.gets.Store(0)
	s.lists.Store(0)
	if got := w.told(t); len(got) > 0 || s.gets.Load() > 50 || s.lists.Load() > 100 {
		t.Errorf("told %d; %d were read, and %d pages of lists", len(got), s.gets.Load(), s.lists.Load())
	}
	var records []store.Record
	for record, err := range w.all(t.Context(), fmt.Sprintf("expiry/%06d/", dayOf(end))) {
		must(t, err)
		records = append(records, record)
	}
	for n, record := range records {
		if n%4 == 0 { // as an earlier version has written it
			_, err := s.Apply(t.Context(), store.Op{Kind: store.Put, Key: record.Key, Value: []byte{}, Expect: store.Any})
			must(t, err)
		}
	}
	*w.now = end.Add(-30*day + time.Hour)
	away, calls := errors.New("away"), 0
	s.fail = func(key string) error {
		if strings.Contains(key, "/certs/") {
			if calls++; calls%400 == 399 {
				return away
			}
		}
		return nil
	}
	told, failed := map[string]int{}, 0
	for range 100 {
		w.events = nil
		err := w.watch.Check(t.Context())
		for _, e := range w.events {
			told[FormatSerial(e.Certificate.SerialNumber)]++
		}
		if err == nil {
			break
		}
		if failed++; !errors.Is(err, away) {
			t.Fatal(err)
		}
	}
	for serial, times := range told {
		if times != 1 {
			t.Errorf("%s was told %d times", serial, times)
		}
	}
	if got := w.counts(); len(told) != n || failed < 3 || !slices.Equal(got, []int{n, 0, 0}) {
		t.Errorf("%d were told, after %d failures; counts %v", len(told), failed, got)
	}
}
