package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestPages: branches that lead out of the file or in circles, and elements that are not in their pages, are found before anything
// follows them.
func TestPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		for i := 0; i < 2000 && err == nil; i++ {
			err = b.Put(fmt.Appendf(nil, "key %04d", i), make([]byte, 100+i%7*1000))
		}
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(data []byte) error {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		return db.View(checkPages)
	}
	if err := check(whole); err != nil {
		t.Fatal(err)
	}
	branch, size := uint64(0), uint64(os.Getpagesize())
	for at := 2 * size; at < uint64(len(whole)); at += size {
		if binary.NativeEndian.Uint16(whole[at+8:]) == branchPage {
			branch = at
		}
	}
	if branch == 0 {
		t.Fatal("the file has no branch")
	}
	for what, change := range map[string]func(page []byte){
		"out of the file": func(page []byte) { binary.NativeEndian.PutUint64(page[pageHeader+8:], 1<<40) },
		"in circles":      func(page []byte) { binary.NativeEndian.PutUint64(page[pageHeader+8:], branch/size) },
		"to another kind": func(page []byte) { binary.NativeEndian.PutUint64(page[pageHeader+8:], 0) },
		"key elsewhere":   func(page []byte) { binary.NativeEndian.PutUint32(page[pageHeader:], 1<<20) },
		"too many":        func(page []byte) { binary.NativeEndian.PutUint16(page[10:], 60000) },
		"too long":        func(page []byte) { binary.NativeEndian.PutUint32(page[12:], 1<<31) },
	} {
		data := append([]byte(nil), whole...)
		change(data[branch:])
		if err := check(data); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: error %v", what, err)
		}
	}
}
