package bolt_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
)

// A store in a file is there again when it is opened, and a backup of it is a store, too.
func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "bolt")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	s, err := bolt.Open(filepath.Join(dir, "store"), nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := s.Apply(ctx, store.Op{Key: "entries/a", Value: []byte("value")}); err != nil {
		log.Fatal(err)
	}
	var backup bytes.Buffer
	if _, err := s.Backup(ctx, &backup); err != nil {
		log.Fatal(err)
	}
	s.Close()

	restored := filepath.Join(dir, "restored")
	if err := os.WriteFile(restored, backup.Bytes(), 0o600); err != nil {
		log.Fatal(err)
	}
	s, err = bolt.Open(restored, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	record, err := s.Get(ctx, "entries/a")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, version %d\n", record.Value, record.Version)
	// Output: value, version 1
}
