package pki

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// indices are where records are that find certificates.
var indices = []string{"expiry/", "by-issuer/", "names/", "texts/"}

// index returns the records that find certificates.
func (f *firm) index(tb testing.TB) (records []store.Record) {
	tb.Helper()
	for _, prefix := range indices {
		for record, err := range f.all(tb.Context(), prefix) {
			if err != nil {
				tb.Fatal(err)
			}
			records = append(records, record)
		}
	}
	return records
}

// TestIndexKeys checks keys letter by letter, because earlier and later versions must find them.
func TestIndexKeys(t *testing.T) {
	cert := &x509.Certificate{SerialNumber: big.NewInt(0xabcdef), NotBefore: time.Unix(1, 0), NotAfter: time.Unix(86400*7+5, 0), DNSNames: []string{"A.example", "a.example"}}
	cert.Subject.CommonName = "a.example"
	const serial = "0000000000000000000000000000000000abcdef"
	if got, want := indexKeys(cert, "i"), []string{"by-issuer/i/fffffffe/" + serial, "expiry/000007/fffffffe/" + serial, "names/example/a/=/fffffffe/" + serial}; !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
	if got, want := formerIndexKeys(cert, ""), []string{"expiry/000007/" + serial, "names/example/a/=/" + serial}; !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
	for begin, want := range map[time.Time]string{
		{}: "ffffffff", time.Unix(0, 0): "ffffffff", noon: fmt.Sprintf("%08x", 1<<32-1-noon.Unix()), time.Unix(1<<32-1, 0): "00000000",
		time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC): "00000000",
	} {
		if got := ageOf(begin); got != want {
			t.Errorf("%v: got %s; want %s", begin, got, want)
		}
	}
}

// TestNewestFirst: what is found by a name begins with the latest certificate.
func TestNewestFirst(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	f.root(t, "p256", "root")
	f.role(t, anyRole("r"))
	var want []string
	for range 5 {
		now = now.Add(time.Hour)
		want = append([]string{serialOf(f.issue(t, "r", "a.example"))}, want...)
	}
	var got []string
	for q := (Query{Name: "a.example", Limit: 2}); ; {
		page, err := f.Search(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.Certificates {
			got = append(got, c.Serial)
		}
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}

// former writes the index as earlier versions did.
func (f *firm) former(tb testing.TB) {
	tb.Helper()
	records := f.index(tb)
	for _, record := range records {
		parts := strings.Split(record.Key, "/")
		key := strings.Join(slices.Delete(parts, len(parts)-2, len(parts)-1), "/")
		if _, err := f.store.Apply(tb.Context(), store.Op{Key: key, Value: record.Value}, store.Op{Kind: store.Delete, Key: record.Key, Expect: store.Any}); err != nil {
			tb.Fatal(err)
		}
	}
	if now := f.index(tb); len(now) != len(records) || len(now) == 0 || strings.Count(now[0].Key, "/") != strings.Count(records[0].Key, "/")-1 {
		tb.Fatalf("%d records, of %d: %v", len(now), len(records), now)
	}
}

// TestFormerIndex: what an earlier version has stored is found beside what this one stores, and removed with its certificate.
func TestFormerIndex(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	ctx := t.Context()
	root := f.root(t, "p256", "root")
	f.role(t, anyRole("r"))
	request := IssueRequest{CommonName: "a.example", URIs: []*url.URL{mustURL("urn:x:1")}, TTL: 10 * day}
	before, err := f.Issue(ctx, "r", request)
	if err != nil {
		t.Fatal(err)
	}
	f.former(t)
	now = now.Add(time.Hour)
	after, err := f.Issue(ctx, "r", request)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []Query{{Name: "a.example"}, {Name: ".example"}, {Name: "urn:x:1"}, {Issuer: root.ID, ExpiresBefore: noon.Add(100 * day)},
		{ExpiresAfter: noon, ExpiresBefore: noon.Add(20 * day)}} {
		page, err := f.Search(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range page.Certificates {
			got = append(got, c.Serial)
		}
		if want := []string{serialOf(before), serialOf(after)}; len(got) != 2 || !slices.Contains(got, want[0]) || !slices.Contains(got, want[1]) {
			t.Errorf("%+v: got %v; want %v", q, got, want)
		}
	}
	now = now.Add(30 * day)
	if p, err := f.Tidy(ctx, nil); err != nil || p.Removed != 2 {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, record := range f.index(t) {
		if !strings.HasSuffix(record.Key, fmt.Sprintf("%040x", root.Certificate().SerialNumber)) {
			t.Errorf("%s is left", record.Key)
		}
	}
}

// narrow is a store that takes fewer ops than others, as a sealed one does.
type narrow struct{ store.Store }

func (s narrow) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	if len(ops) >= store.MaxOps {
		return 0, store.ErrTooLarge
	}
	return s.Store.Apply(ctx, ops...)
}

// TestManyNames: certificates with as many names as fill transactions, and more, are stored with all that finds them, and removed with it.
func TestManyNames(t *testing.T) {
	now := noon
	h := newHouse(t, nil)
	s := memory.New(nil)
	t.Cleanup(func() { s.Close() })
	f := firmOn(t, h, narrow{s}, &Options{Now: func() time.Time { return now }})
	f.root(t, "p256", "root")
	f.role(t, anyRole("r"))
	before := len(f.index(t))
	for _, n := range []int{store.MaxOps - 5, store.MaxOps - 4, store.MaxOps - 3, store.MaxOps - 2, store.MaxOps, 3 * store.MaxOps} {
		request := IssueRequest{CommonName: "a.example", TTL: day}
		for i := range n - 1 {
			request.AltNames = append(request.AltNames, fmt.Sprintf("n%d.example", i))
		}
		if _, err := f.Issue(t.Context(), "r", request); err != nil {
			t.Errorf("with %d names: %v", n, err)
		}
		if got := len(f.index(t)) - before; got != n+2 { // and the issuer, and the day
			t.Errorf("%d records find one with %d names", got, n)
		}
		now = now.Add(10 * day)
		if p, err := f.Tidy(t.Context(), nil); err != nil || p.Removed != 1 {
			t.Errorf("with %d names: %+v, %v", n, p, err)
		}
		if got := len(f.index(t)) - before; got != 0 {
			t.Errorf("%d records of one with %d names are left", got, n)
		}
	}
}

// TestForeignCertificateRecords: a certificate that stands where another one belongs, or has a number that none has, is not told of.
func TestForeignCertificateRecords(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	one := big.NewInt(1)
	for what, serials := range map[string][2]*big.Int{"another": {one, big.NewInt(2)}, "too long": {new(big.Int).Lsh(one, 160), new(big.Int).Lsh(one, 160)}} {
		f := newFirm(t, &Options{Now: func() time.Time { return noon }})
		template := &x509.Certificate{SerialNumber: serials[0], NotBefore: noon, NotAfter: noon.Add(time.Hour)}
		der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		cert.SerialNumber = serials[1]
		if _, err := f.insert(t.Context(), cert, certRecord{State: StateIssued, DER: der, Role: "r"}); err != nil {
			t.Fatal(err)
		}
		if c, err := f.certificate(t.Context(), serials[1]); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: %v, %v; want ErrCorrupt", what, c, err)
		}
		watch, err := f.WatchExpiry(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := watch.Check(t.Context()); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: the watch: %v; want ErrCorrupt", what, err)
		}
	}
}
