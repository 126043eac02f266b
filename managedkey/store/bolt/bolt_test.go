package bolt_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/managedkey/store/storetest"
)

// open opens the store in path.
func open(tb testing.TB, path string, opts *bolt.Options) *bolt.Store {
	tb.Helper()
	s, err := bolt.Open(path, opts)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Config{
		New: func(tb testing.TB) func() store.Store {
			path := filepath.Join(tb.TempDir(), "store")
			return func() store.Store { return open(tb, path, nil) }
		},
		Compact: func(tb testing.TB) (store.Store, func()) {
			s := open(tb, filepath.Join(tb.TempDir(), "store"), &bolt.Options{History: 3})
			return s, func() { churn(tb, s, 3) }
		},
	})
}

// churn makes n commits.
func churn(tb testing.TB, s store.Store, n int) {
	tb.Helper()
	for range n {
		if _, err := s.Apply(context.Background(), store.Op{Key: "churn", Expect: store.Any}); err != nil {
			tb.Fatal(err)
		}
	}
}

// TestHistoryIsDropped checks that a file does not grow for ever under a record that changes, that its history survives
// reopening, and that a shorter one drops the rest.
func TestHistoryIsDropped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := open(t, path, &bolt.Options{History: 50})
	write := func(n int) (last uint64) {
		t.Helper()
		for range n {
			var err error
			last, err = s.Apply(t.Context(), store.Op{Key: "a", Value: make([]byte, 10_000), Expect: store.Any},
				store.Op{Kind: store.Delete, Key: "b", Expect: store.Any})
			if err == nil {
				_, err = s.Apply(t.Context(), store.Op{Key: "b"})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return last
	}
	// events counts what a watch shows, up to a revision.
	events := func(from, to uint64) (n int, err error) {
		for event, err := range s.Watch(t.Context(), "", from) {
			if err != nil {
				return n, err
			}
			if n++; event.Revision >= to {
				break
			}
		}
		return n, nil
	}
	last := write(400)
	info, err := os.Stat(path)
	if err != nil || info.Size() > 4<<20 {
		t.Errorf("after 400 versions of 10 kB and a history of 50 the file has %d bytes, %v", info.Size(), err)
	}
	s.Close()
	s = open(t, path, &bolt.Options{History: 10})
	defer s.Close()
	if n, err := events(last-49, last); n != 49 || err != nil {
		t.Errorf("after reopening a watch shows %d events, %v", n, err)
	}
	if _, err := events(last-51, last); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("a watch from before the history: %v", err)
	}
	last = write(1)
	if n, err := events(last-9, last); n != 9 || err != nil {
		t.Errorf("with a shorter history a watch shows %d events, %v", n, err)
	}
	if _, err := events(last-11, last); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("a watch from before the shorter history: %v", err)
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestHistoryIsDroppedInSteps checks that history goes when there is a hundredth more of it than is to be kept, and no less is kept.
func TestHistoryIsDroppedInSteps(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store"), &bolt.Options{History: 200})
	defer s.Close()
	begins := func(from uint64) error {
		for _, err := range s.Watch(t.Context(), "", from) {
			return err
		}
		return nil
	}
	churn(t, s, 201)
	if err := begins(0); err != nil {
		t.Errorf("with one revision more than are kept: %v", err)
	}
	churn(t, s, 1)
	if err := begins(1); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("with two more, before them: %v", err)
	}
	if err := begins(2); err != nil {
		t.Errorf("with two more, after them: %v", err)
	}
}

func TestVerifyAndBackupEnd(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store"), nil)
	defer s.Close()
	churn(t, s, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify: %v", err)
	}
	if _, err := s.Backup(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("Backup: %v", err)
	}
	full := errors.New("full")
	if _, err := s.Backup(t.Context(), writerFunc(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
		t.Errorf("Backup to a writer that fails: %v", err)
	}
	if n, err := s.Backup(t.Context(), io.Discard); n == 0 || err != nil {
		t.Errorf("Backup: %d bytes, %v", n, err)
	}
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(data []byte) (int, error) { return w(data) }
