package bolt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
)

// made returns a file with n records of 300 bytes.
func made(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store")
	s := open(t, path, nil)
	for i := range n {
		if _, err := s.Apply(t.Context(), store.Op{Key: fmt.Sprintf("k/%03d", i), Value: bytes.Repeat([]byte{byte(i)}, 300)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// edit changes a file by bbolt.
func edit(t *testing.T, path string, change func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(change); err != nil {
		t.Fatal(err)
	}
}

func meta(tx *bbolt.Tx, key string, value []byte) error {
	return tx.Bucket([]byte("meta")).Put([]byte(key), value)
}

// TestForeign opens what is no store, or none that this version can read. Each file must be as it was afterwards.
func TestForeign(t *testing.T) {
	write := func(content string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	update := func(change func(tx *bbolt.Tx) error) func(t *testing.T, path string) {
		return func(t *testing.T, path string) { edit(t, path, change) }
	}
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		want error
		says string
	}{
		"text":   {write(strings.Repeat("this is not a database\n", 1000)), store.ErrForeign, "no bbolt database"},
		"short":  {write("x"), store.ErrForeign, "no bbolt database"},
		"zeroes": {write(strings.Repeat("\x00", 1<<16)), store.ErrForeign, "no bbolt database"},
		"other database": {update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte("somebody else's"))
			return err
		}), store.ErrForeign, `not of the format "managedkeys/store"`},
		"other format": {func(t *testing.T, path string) {
			os.Rename(made(t, 1), path)
			edit(t, path, func(tx *bbolt.Tx) error { return meta(tx, "format", []byte("other")) })
		}, store.ErrForeign, "not of the format"},
		"newer schema": {func(t *testing.T, path string) {
			os.Rename(made(t, 1), path)
			edit(t, path, func(tx *bbolt.Tx) error { return meta(tx, "schema", binary.BigEndian.AppendUint64(nil, 2)) })
		}, store.ErrForeign, "schema: got 2; this version takes 1"},
		"no revision": {func(t *testing.T, path string) {
			os.Rename(made(t, 1), path)
			edit(t, path, func(tx *bbolt.Tx) error { return meta(tx, "revision", nil) })
		}, store.ErrCorrupt, `meta "revision" has 0 bytes`},
		"bucket missing": {func(t *testing.T, path string) {
			os.Rename(made(t, 1), path)
			edit(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("log")) })
		}, store.ErrCorrupt, "a bucket is missing"},
		"folder": {func(t *testing.T, path string) { os.Mkdir(path, 0o700) }, store.ErrForeign, "not a regular file"},
		"open to all": {func(t *testing.T, path string) {
			os.Rename(made(t, 1), path)
			os.Chmod(path, 0o644)
		}, backend.ErrNotPermitted, "chmod 600"},
		"no folder": {func(t *testing.T, path string) { os.Remove(filepath.Dir(path)) }, store.ErrUnavailable, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "folder", "store")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			c.make(t, path)
			before, _ := os.ReadFile(path)
			for range 2 { // the file is closed, and unlocked, after the first
				s, err := bolt.Open(path, nil)
				if err == nil {
					s.Close()
				}
				if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), filepath.Dir(path)) {
					t.Fatalf("error = %v, want %v, %q and the path in it", err, c.want, c.says)
				}
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for _, opts := range []bolt.Options{{History: -1}, {LockWait: -1}} {
		path := filepath.Join(t.TempDir(), "store")
		if _, err := bolt.Open(path, &opts); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%+v: error = %v", opts, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("it made a file")
		}
	}
}

// use does everything with a file that may be damaged, and returns the errors.
func use(t *testing.T, path string) (errs []error) {
	s, err := bolt.Open(path, nil)
	if err != nil {
		return []error{err}
	}
	ctx := context.Background()
	seen := 0
	for record, err := range store.All(ctx, s, "") {
		if err != nil {
			errs = append(errs, err)
			break
		}
		seen++
		var n int
		fmt.Sscanf(record.Key, "k/%d", &n)
		if !bytes.Equal(record.Value, bytes.Repeat([]byte{byte(n)}, 300)) {
			t.Errorf("%q has another value, and no error told", record.Key)
		}
	}
	page, err := s.List(ctx, "", "", 1)
	errs = append(errs, err)
	for _, err := range s.Watch(ctx, "", 0) {
		if errs = append(errs, err); err != nil || page.Revision == 0 {
			break
		}
		if page.Revision--; page.Revision == 0 {
			break
		}
	}
	errs = append(errs, s.Verify(ctx))
	_, err = s.Apply(ctx, store.Op{Key: "new", Value: make([]byte, 10_000), Expect: store.Any})
	errs = append(errs, err)
	_, err = s.Apply(ctx, store.Op{Kind: store.Delete, Key: "k/001", Expect: store.Any})
	errs = append(errs, err, s.Close())
	return errs
}

// TestDamage flips bits and cuts files off. Nothing may panic or give a wrong value, and all errors have their kind.
func TestDamage(t *testing.T) {
	whole, err := os.ReadFile(made(t, 100))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "store")
	told := 0
	check := func(what string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, err := range use(t, path) {
			if err == nil {
				continue
			}
			told++
			if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrForeign) && !errors.Is(err, store.ErrCompacted) {
				t.Errorf("%s: error of no kind: %v", what, err)
			}
		}
	}
	check("undamaged", whole)
	if told > 0 {
		t.Fatal("errors without damage")
	}
	for at := 3; at < len(whole); at += 1571 {
		data := bytes.Clone(whole)
		data[at] ^= 0x81
		check(fmt.Sprintf("byte %d of %d", at, len(whole)), data)
	}
	for _, size := range []int{1, 100, 4096, 8192, 12288, 16384, 20000, len(whole) / 2, len(whole) - 4096} {
		check(fmt.Sprintf("cut off after %d of %d", size, len(whole)), whole[:size])
	}
	if told < 20 {
		t.Errorf("only %d errors for all that damage", told)
	}
}

// TestChecksum changes a value in a file that is otherwise in order.
func TestChecksum(t *testing.T) {
	path := made(t, 3)
	edit(t, path, func(tx *bbolt.Tx) error {
		log := tx.Bucket([]byte("log"))
		key, value := log.Cursor().First()
		value = bytes.Clone(value)
		value[len(value)-1]++
		return log.Put(bytes.Clone(key), value)
	})
	s := open(t, path, nil)
	defer s.Close()
	_, err := s.Get(t.Context(), "k/000")
	if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "checksum is wrong") || !strings.Contains(err.Error(), `"k/000"`) {
		t.Errorf("Get: %v", err)
	}
	if _, err := s.Get(t.Context(), "k/001"); err != nil {
		t.Errorf("Get of another record: %v", err)
	}
	if err := s.Verify(t.Context()); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), `"k/000"`) {
		t.Errorf("Verify: %v", err)
	}
}
