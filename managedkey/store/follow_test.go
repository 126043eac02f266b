package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// mirror is a reader.
type mirror struct {
	mu    sync.Mutex
	state map[string]string
	loads int
	until string // change fails with errDone when this key comes
}

var errDone = errors.New("done")

func (m *mirror) load(records []store.Record, _ uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loads++
	m.state = make(map[string]string)
	for _, r := range records {
		m.state[r.Key] = fmt.Sprintf("%d %s", r.Version, r.Value)
	}
	return nil
}

func (m *mirror) change(event store.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range event.Changes {
		if c.Key == m.until {
			return errDone
		}
		if m.state[c.Key] = fmt.Sprintf("%d %s", c.Version, c.Value); c.Deleted {
			delete(m.state, c.Key)
		}
	}
	return nil
}

// changing is a store in which things change between pages.
type changing struct {
	store.Store
	page func(after string)
}

func (c changing) List(ctx context.Context, prefix, after string, _ int) (store.Page, error) {
	page, err := c.Store.List(ctx, prefix, after, 2)
	c.page(after)
	return page, err
}

func apply(t *testing.T, s store.Store, ops ...store.Op) {
	t.Helper()
	if _, err := s.Apply(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
}

// TestFollow checks that a reader ends with what the store holds, although records change while their pages are read.
func TestFollow(t *testing.T) {
	s := memory.New(nil)
	defer s.Close()
	for i := range 6 {
		apply(t, s, store.Op{Key: fmt.Sprintf("k/%d", i), Value: []byte("old")})
	}
	apply(t, s, store.Op{Key: "other"})
	m := &mirror{until: "k/end"}
	put := func(key string) store.Op { return store.Op{Key: key, Value: []byte("new"), Expect: store.Any} }
	err := store.Follow(t.Context(), changing{s, func(after string) {
		if after == "" { // between the first page and the second: before and behind where the reader is
			apply(t, s, put("k/0"), put("k/5"), store.Op{Kind: store.Delete, Key: "k/1", Expect: store.Any})
			apply(t, s, put("k/5"), store.Op{Kind: store.Delete, Key: "k/4", Expect: store.Any})
			apply(t, s, store.Op{Key: "k/4", Value: []byte("again")}, put("k/9"))
			apply(t, s, store.Op{Kind: store.Delete, Key: "k/9", Expect: store.Any})
		}
	}}, "k/", func(records []store.Record, revision uint64) error {
		apply(t, s, put("k/0"))
		apply(t, s, put("k/end"))
		return m.load(records, revision)
	}, m.change)
	if !errors.Is(err, errDone) {
		t.Fatalf("Follow: %v", err)
	}
	want := map[string]string{}
	for record, err := range store.All(t.Context(), s, "k/") {
		if err != nil {
			t.Fatal(err)
		}
		want[record.Key] = fmt.Sprintf("%d %s", record.Version, record.Value)
	}
	delete(want, "k/end")
	if m.loads != 1 || !maps.Equal(m.state, want) {
		t.Errorf("after %d loads the reader has %v, the store %v", m.loads, m.state, want)
	}
}

// TestFollowLoadsAgain checks that a reader whose history is gone begins anew, and how it ends.
func TestFollowLoadsAgain(t *testing.T) {
	s := memory.New(&memory.Options{History: 2})
	apply(t, s, store.Op{Key: "k/a", Value: []byte("1")})
	first := true
	m := &mirror{until: "k/end"}
	load := func(records []store.Record, revision uint64) error {
		if first {
			first = false
			for range 5 { // while the reader is busy, more happens than is kept
				apply(t, s, store.Op{Key: "k/a", Value: []byte("2"), Expect: store.Any})
			}
		} else {
			go s.Apply(context.Background(), store.Op{Key: "k/end"})
		}
		return m.load(records, revision)
	}
	if err := store.Follow(t.Context(), s, "k/", load, m.change); !errors.Is(err, errDone) {
		t.Errorf("Follow: %v", err)
	}
	if m.loads != 2 || m.state["k/a"] != "6 2" {
		t.Errorf("%d loads, then %v", m.loads, m.state)
	}
	broken := errors.New("broken")
	if err := store.Follow(t.Context(), s, "k/", func([]store.Record, uint64) error { return broken }, m.change); !errors.Is(err, broken) {
		t.Errorf("a load that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := store.Follow(ctx, s, "k/", func([]store.Record, uint64) error { cancel(); return nil }, m.change)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ends: %v", err)
	}
	err = store.Follow(t.Context(), s, "k/", func([]store.Record, uint64) error { return s.Close() }, m.change)
	if !errors.Is(err, store.ErrClosed) {
		t.Errorf("a store that is closed: %v", err)
	}
}
