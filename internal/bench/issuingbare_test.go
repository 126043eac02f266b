package main

import (
	"math/big"
	"os"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// TestSettle: a store that was settled has more history than it keeps.
func TestSettle(t *testing.T) {
	smallIssuing(t)
	st := memory.New(&memory.Options{History: issuingHistory})
	defer st.Close()
	if err := settle(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	page, err := st.List(t.Context(), "", "", 10)
	if err != nil || page.Revision <= uint64(issuingHistory+issuingHistory/100) || len(page.Records) != 1 {
		t.Errorf("revision %d, %d records, %v", page.Revision, len(page.Records), err)
	}
}

// TestBareBeside: the database has all records of each certificate under its own number, and one more certificate with each operation.
func TestBareBeside(t *testing.T) {
	serial := strings.Repeat("0", 4) + "41" + strings.Repeat("07", 17)
	number, _ := new(big.Int).SetString(serial, 16)
	like := &storedCertificate{serial: number, records: []store.Record{
		{Key: "p/by/90000000/" + serial, Value: []byte{}}, {Key: "p/certs/" + serial, Value: []byte(`{"state":"issued"}`)}}}
	const n = 30
	b, err := place(t, false).bareBeside(n, like)
	if err != nil {
		t.Fatal(err)
	}
	path := b.db.Path()
	count := func(want int) {
		t.Helper()
		got, values := make(map[string]int), 0
		err := b.db.View(func(tx *bbolt.Tx) error {
			return tx.Bucket(bareBucket).ForEach(func(k, v []byte) error {
				at := strings.LastIndexByte(string(k), '/')
				got[string(k[at+1:])]++
				values += len(v)
				return nil
			})
		})
		if err != nil || len(got) != want || values != want*len(like.records[1].Value) {
			t.Errorf("%d numbers and %d bytes, %v; want %d numbers", len(got), values, err, want)
		}
		for digits, records := range got {
			if len(digits) != len(serial) || !strings.HasPrefix(digits, "000041") || records != 2 {
				t.Errorf("%s has %d records", digits, records)
			}
		}
	}
	count(n)
	first := func(want string) {
		t.Helper()
		err := b.db.View(func(tx *bbolt.Tx) error {
			if key, _ := tx.Bucket(bareBucket).Cursor().First(); !strings.HasPrefix(string(key), want) {
				t.Errorf("the newest one is %s; want %s", key, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	first("p/by/9000000a/") // 10 seconds before what it is like
	before := b.db.Stats().TxStats
	if err := b.operation(); err != nil {
		t.Fatal(err)
	}
	count(n + 1)
	first("p/by/90000000/")
	after := b.db.Stats().TxStats
	if puts := after.Sub(&before); puts.GetWrite() < 6 { // of two transactions, each at least a page, the free list, and what makes it count
		t.Errorf("%d writes", puts.GetWrite())
	}
	b.close()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file is left: %v", err)
	}
}
