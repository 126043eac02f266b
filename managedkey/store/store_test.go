package store_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

func TestExpect(t *testing.T) {
	var zero store.Expect
	for _, c := range []struct {
		expect  store.Expect
		version uint64
		holds   bool
	}{
		{zero, 0, true}, {zero, 1, false}, {store.Absent, 0, true}, {store.Absent, 1, false},
		{store.Any, 0, true}, {store.Any, 1, true}, {store.Any, math.MaxUint64, true},
		{5, 5, true}, {5, 4, false}, {5, 0, false},
	} {
		if got := c.expect.Holds(c.version); got != c.holds {
			t.Errorf("%d holds for version %d: %t", c.expect, c.version, got)
		}
	}
}

func TestErrors(t *testing.T) {
	for err, wraps := range map[error]error{
		store.ErrTooLarge:       backend.ErrInvalidParams,
		store.ErrUnavailable:    backend.ErrUnavailable,
		store.ErrUnknownOutcome: store.ErrUnavailable,
		store.ErrClosed:         backend.ErrClosed,
	} {
		if !errors.Is(err, wraps) {
			t.Errorf("%q does not wrap %q", err, wraps)
		}
		if strings.Contains(err.Error(), "key manager") {
			t.Errorf("%q speaks of key managers", err)
		}
	}
	if errors.Is(store.ErrUnavailable, store.ErrUnknownOutcome) || errors.Is(store.ErrCorrupt, store.ErrUnavailable) {
		t.Error("sentinels wrap too much")
	}
	for _, c := range []struct {
		err  *store.ConflictError
		says string
	}{
		{&store.ConflictError{Key: "a/b", Version: 7}, `"a/b": expected no record, found version 7`},
		{&store.ConflictError{Key: "a", Expect: 3}, `"a": expected version 3, found no record`},
	} {
		if !errors.Is(c.err, store.ErrConflict) || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("error = %v, want %s in it", c.err, c.says)
		}
	}
}

// TestMessages checks that refusals name the field, what was got and what is taken, and don't repeat megabytes.
func TestMessages(t *testing.T) {
	long := strings.Repeat("k", 1<<20)
	for _, c := range []struct {
		err  error
		kind error
		says string
	}{
		{store.ValidateKey(""), store.ErrInvalid, "key: it is empty"},
		{store.ValidateKey(long), store.ErrTooLarge, "key: got 1048576 bytes"},
		{store.ValidateKey("a//b"), store.ErrInvalid, `"a//b" has an empty segment`},
		{store.ValidateKey("\xff"), store.ErrInvalid, `"\xff" is not UTF-8`},
		{store.ValidateKey("a\tb"), store.ErrInvalid, "control character"},
		{store.ValidatePrefix("a"), store.ErrInvalid, `prefix: got "a"; it takes nothing, or a path that ends in a slash`},
		{store.ValidatePrefix("/"), store.ErrInvalid, "prefix: it is empty"},
		{store.ValidateList("", long, 1), store.ErrTooLarge, "after: got 1048576"},
		{store.ValidateList("", "", 0), store.ErrInvalid, "limit: got 0; it takes 1 to 1000"},
		{store.ValidateOps(nil), store.ErrInvalid, "got no ops"},
		{store.ValidateOps(make([]store.Op, store.MaxOps+1)), store.ErrTooLarge, "got 51 ops; it takes at most 50"},
		{store.ValidateOps([]store.Op{{Key: "a"}, {Key: "a"}}), store.ErrInvalid, `"a" appears twice`},
		{store.ValidateOps([]store.Op{{Key: "a", Value: make([]byte, store.MaxValue+1)}}), store.ErrTooLarge, `value of "a": got 1048577 bytes; it takes at most 1048576`},
		{store.ValidateOps([]store.Op{{Key: "a", Kind: 7}}), store.ErrInvalid, "got kind 7"},
		{store.ValidateOps([]store.Op{{Key: "a", Kind: store.Check, Encode: func(uint64, []byte) ([]byte, error) { return nil, nil }}}), store.ErrInvalid, "only Put takes a value"},
	} {
		if !errors.Is(c.err, c.kind) || !strings.Contains(c.err.Error(), c.says) || len(c.err.Error()) > 300 {
			t.Errorf("error = %.300v, want %q in it", c.err, c.says)
		}
	}
	for _, prefix := range []string{"", "a/", "a b/c/", strings.Repeat("p", store.MaxKey) + "/"} {
		if err := store.ValidatePrefix(prefix); err != nil {
			t.Errorf("prefix %.20q: %v", prefix, err)
		}
	}
}

// paged is a store that only lists, in pages of two.
type paged struct {
	store.Store
	records []store.Record
	fail    int // the page that fails
	pages   int
}

var errPage = errors.New("page")

func (p *paged) List(_ context.Context, prefix, after string, _ int) (store.Page, error) {
	if p.pages++; p.pages == p.fail {
		return store.Page{}, errPage
	}
	page := store.Page{Revision: uint64(100 + p.pages)}
	for _, r := range p.records {
		if r.Key > after && strings.HasPrefix(r.Key, prefix) {
			if page.More = len(page.Records) == 2; page.More {
				break
			}
			page.Records = append(page.Records, r)
		}
	}
	return page, nil
}

func (*paged) Watch(context.Context, string, uint64) iter.Seq2[store.Event, error] { return nil }

func TestLoadAndAll(t *testing.T) {
	var records []store.Record
	for i := range 5 {
		records = append(records, store.Record{Key: fmt.Sprintf("a/%d", i)})
	}
	records = append(records, store.Record{Key: "b"})
	got, revision, err := store.Load(t.Context(), &paged{records: records}, "a/")
	if err != nil || len(got) != 5 || revision != 101 {
		t.Errorf("Load: %d records, revision %d, %v; want that of the first page", len(got), revision, err)
	}
	if _, _, err := store.Load(t.Context(), &paged{records: records, fail: 2}, ""); !errors.Is(err, errPage) {
		t.Errorf("Load with a page that fails: %v", err)
	}
	if got, _, err := store.Load(t.Context(), &paged{}, ""); err != nil || len(got) != 0 {
		t.Errorf("Load of nothing: %d records, %v", len(got), err)
	}
	n := 0
	for record, err := range store.All(t.Context(), &paged{records: records, fail: 3}, "") {
		if (err != nil) != (n == 4) || err == nil && record.Key != records[n].Key {
			t.Errorf("All: record %d is %q, %v", n, record.Key, err)
		}
		n++
	}
	p := &paged{records: records}
	for range store.All(t.Context(), p, "") {
		break
	}
	if n != 5 || p.pages != 1 {
		t.Errorf("All went on: %d records, %d pages", n, p.pages)
	}
}
