package storetest

import (
	"fmt"
	"slices"
	"sync"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

func keysOf(records []store.Record) []string {
	var keys []string
	for _, r := range records {
		keys = append(keys, r.Key)
	}
	return keys
}

// pages lists everything under prefix in pages of that many records.
func (s *suite) pages(st store.Store, prefix string, limit int) (records []store.Record) {
	s.Helper()
	for after := ""; ; {
		page, err := st.List(s.ctx, prefix, after, limit)
		if err != nil {
			s.Fatalf("List %q after %q: %v", prefix, after, err)
		}
		if len(page.Records) > limit {
			s.Fatalf("List: %d records with limit %d", len(page.Records), limit)
		}
		records = append(records, page.Records...)
		if !page.More {
			return records
		}
		if len(page.Records) == 0 {
			s.Fatal("List: an empty page with more to follow")
		}
		after = page.Records[len(page.Records)-1].Key
	}
}

// testListOrder checks that keys are in the order of their bytes, and that a prefix ends at a slash.
func testListOrder(s *suite) {
	st := s.open()
	keys := []string{"A", "a", "a b", "a!b", "a-b", "a/", "a.b", "a/a", "a/b", "a/b/c", "a/b-", "a0", "aa", "ab/c", "é", "z", "日"}
	keys = slices.DeleteFunc(keys, func(k string) bool { return k == "a/" })
	for _, key := range keys {
		s.apply(st, store.Op{Key: key, Value: []byte(key)})
	}
	slices.Sort(keys)
	check := func(prefix string, want []string) {
		s.Helper()
		for _, limit := range []int{1, 3, store.MaxPage} {
			records := s.pages(st, prefix, limit)
			got := keysOf(records)
			if s.cfg.Unordered {
				slices.Sort(got)
			}
			if !slices.Equal(got, want) {
				s.Errorf("List %q by %d: got %q, want %q", prefix, limit, got, want)
			}
			for _, r := range records {
				if string(r.Value) != r.Key || r.Version == 0 {
					s.Errorf("List %q: record %q has value %q and version %d", prefix, r.Key, r.Value, r.Version)
				}
			}
		}
	}
	check("", keys)
	check("a/", []string{"a/a", "a/b", "a/b-", "a/b/c"})
	check("a/b/", []string{"a/b/c"})
	check("ab/", []string{"ab/c"})
	check("z/", nil)
	for _, prefix := range []string{"a", "/", "a//", "\xff/", "\n/"} {
		_, err := st.List(s.ctx, prefix, "", 1)
		s.fails(fmt.Sprintf("List %q", prefix), err, store.ErrInvalid)
	}
	for _, limit := range []int{-1, 0, store.MaxPage + 1} {
		_, err := st.List(s.ctx, "", "", limit)
		s.fails(fmt.Sprintf("List with limit %d", limit), err, store.ErrInvalid)
	}
}

// testListPages checks paging at its edges: After need not exist, and More is exact.
func testListPages(s *suite) {
	st := s.open()
	page, err := st.List(s.ctx, "", "", 1)
	if err != nil || len(page.Records) != 0 || page.More {
		s.Errorf("List of an empty store: %d records, more %t, %v", len(page.Records), page.More, err)
	}
	keys, revision := s.fill(st, "p/", 25)
	s.apply(st, store.Op{Key: "other"})
	for _, limit := range []int{1, 5, 24, 25, 26} {
		page, err := st.List(s.ctx, "p/", "", limit)
		if err != nil || len(page.Records) != min(limit, 25) || page.More != (limit < 25) || page.Revision < revision {
			s.Errorf("List by %d: %d records, more %t, revision %d, %v", limit, len(page.Records), page.More, page.Revision, err)
		}
		if got := keysOf(s.pages(st, "p/", limit)); len(got) != 25 {
			s.Errorf("pages of %d: %d records", limit, len(got))
		}
	}
	if s.cfg.Unordered {
		return
	}
	for after, want := range map[string]string{keys[3]: keys[4], keys[3] + "x": keys[4], "a": keys[0], keys[24]: "", "q": ""} {
		page, err := st.List(s.ctx, "p/", after, 1)
		got := ""
		if len(page.Records) > 0 {
			got = page.Records[0].Key
		}
		if err != nil || got != want {
			s.Errorf("List after %q: got %q, want %q; %v", after, got, want, err)
		}
	}
}

// testListBytes checks that a page of large values ends early.
func testListBytes(s *suite) {
	st := s.open()
	const n = 7
	for i := range n {
		s.apply(st, store.Op{Key: fmt.Sprintf("large/%d", i), Value: make([]byte, s.cfg.MaxValue)})
	}
	page, err := st.List(s.ctx, "large/", "", store.MaxPage)
	if err != nil || !page.More || len(page.Records) < 3 || len(page.Records) > 5 {
		s.Errorf("List: %d records, more %t, %v; want a page of about %d bytes", len(page.Records), page.More, err, store.PageBytes)
	}
	if got := s.pages(st, "large/", store.MaxPage); len(got) != n {
		s.Errorf("pages: %d records, want %d", len(got), n)
	}
}

// testListChanging checks paging while others write: records that are there all the time come exactly once, and each
// page is a state that the store had.
func testListChanging(s *suite) {
	handles := s.handles(2)
	st, writer := handles[0], handles[len(handles)-1]
	keys, _ := s.fill(st, "l/", 100)
	var steady []string
	for i, key := range keys {
		if i%2 == 0 {
			steady = append(steady, key)
		}
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		// Two keys that change places: exactly one of them is there at any instant.
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			a, b := keys[1+i%50*2], fmt.Sprintf("l/x%05d", i%50)
			_, err := writer.Apply(s.ctx, store.Op{Kind: store.Delete, Key: a, Expect: store.Any}, store.Op{Key: b, Expect: store.Any})
			if err == nil {
				_, err = writer.Apply(s.ctx, store.Op{Kind: store.Delete, Key: b, Expect: store.Any}, store.Op{Key: a, Value: []byte(a)})
			}
			if err != nil {
				s.Errorf("writer: %v", err)
				return
			}
		}
	})
	for range 5 {
		got := keysOf(s.pages(st, "l/", 7))
		sorted := slices.Sorted(slices.Values(got))
		if !s.cfg.Unordered && !slices.Equal(got, sorted) {
			s.Errorf("pages are out of order: %q", got)
		}
		if len(slices.Compact(slices.Clone(sorted))) != len(got) {
			s.Errorf("a record came twice: %q", sorted)
		}
		for _, key := range steady {
			if !slices.Contains(got, key) {
				s.Errorf("%q is missing", key)
			}
		}
		page, err := st.List(s.ctx, "l/", "", store.MaxPage)
		if err != nil || len(page.Records) != len(keys) {
			s.Errorf("one page has %d records, %v; %d are there at any instant", len(page.Records), err, len(keys))
		}
	}
	close(stop)
	wg.Wait()
}
