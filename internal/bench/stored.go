package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// storedEntries are the entries in the file of the table, in namespaces of 100. Tests have fewer.
var storedEntries = 100_000

// storedRounds are fewer than those of other tables because each takes seconds.
const storedRounds = 3

// plainBucket is where the records are in a file of bbolt alone.
var plainBucket = []byte("records")

// storedRecord is the record of the entry benchRef, with the UUID that is in it.
type storedRecord struct {
	store.Record
	id string
}

// template returns an entry's record, as a registry writes it.
func template(ctx context.Context) (record store.Record, id string, err error) {
	st, b := memory.New(nil), software.New(nil)
	defer b.Close()
	defer st.Close()
	r, err := openRegistry(ctx, st, b)
	if err != nil {
		return record, "", err
	}
	defer r.Close()
	err = r.Create(ctx, managedkey.Entry{Ref: benchRef, Connection: "hsm", AllowGenerateKey: true,
		Params: software.Params{KeyName: benchRef.Name, KeyType: software.ECDSA, Curve: software.P256}})
	if err != nil {
		return record, "", err
	}
	e, err := r.Entry(benchRef)
	if err != nil {
		return record, "", err
	}
	records, _, err := store.Load(ctx, st, "")
	if err != nil || len(records) != 1 {
		return record, "", fmt.Errorf("%d records of one entry: %v", len(records), err)
	}
	return records[0], e.UUID, nil
}

// record returns what puts the record of the n-th entry.
func (t storedRecord) record(n int) store.Op {
	ns, name := fmt.Sprintf("tenant-%05d", n/100), fmt.Sprintf("issuing-%02d", n%100)
	key := bytes.Replace([]byte(t.Key), []byte(benchRef.Namespace), []byte(ns), 1)
	value := bytes.Replace(t.Value, []byte(t.id), []byte(uuid.NewString()), 1)
	return store.Op{
		Key:   string(bytes.Replace(key, []byte(benchRef.Name), []byte(name), 1)),
		Value: bytes.Replace(value, []byte(benchRef.Name), []byte(name), 1),
	}
}

// fillStored makes a file of a store, and one of bbolt alone with the same records in one bucket.
func fillStored(ctx context.Context, kept, plain string) error {
	record, id, err := template(ctx)
	if err != nil {
		return err
	}
	t := storedRecord{record, id}
	st, err := bolt.Open(kept, nil)
	if err != nil {
		return err
	}
	defer st.Close()
	db, err := bbolt.Open(plain, 0o600, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.Begin(true)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	bucket, err := tx.CreateBucket(plainBucket)
	if err != nil {
		return err
	}
	var ops []store.Op
	for n := range storedEntries {
		op := t.record(n)
		if err := bucket.Put([]byte(op.Key), op.Value); err != nil {
			return err
		}
		if ops = append(ops, op); len(ops) == store.MaxOps || n == storedEntries-1 {
			if _, err := st.Apply(ctx, ops...); err != nil {
				return err
			}
			ops = ops[:0]
		}
	}
	return tx.Commit()
}

// plainRecord is the JSON of a record.
type plainRecord struct {
	Format     int             `json:"format"`
	UUID       string          `json:"uuid"`
	Type       string          `json:"type"`
	Connection string          `json:"connection"`
	Params     json.RawMessage `json:"params"`
	Usages     []string        `json:"usages"`
	Generate   bool            `json:"allow_generate_key"`
}

// readPlain reads the records with bbolt's cursor and package json, into a map by key.
func readPlain(path string) (map[string]*plainRecord, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	records := make(map[string]*plainRecord)
	err = db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(plainBucket).Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			var r plainRecord
			if err := json.Unmarshal(v, &r); err != nil {
				return err
			}
			records[string(k)] = &r
		}
		return nil
	})
	return records, err
}

// stored prints what opening a registry takes whose entries are in a file.
func (w *workplace) stored() error {
	ctx := context.Background()
	kept, plain := filepath.Join(w.memory, "stored"), filepath.Join(w.memory, "plain")
	if err := fillStored(ctx, kept, plain); err != nil {
		return err
	}
	defer os.Remove(kept)
	defer os.Remove(plain)
	b := software.New(nil)
	defer b.Close()
	var ours, direct, oursMiB, directMiB []float64
	for range min(*rounds, storedRounds) {
		before, began := heap(), time.Now()
		records, err := readPlain(plain)
		if err != nil || len(records) != storedEntries {
			return fmt.Errorf("%d records: %v", len(records), err)
		}
		direct = append(direct, time.Since(began).Seconds())
		directMiB = append(directMiB, mebibytes(heap()-before))
		runtime.KeepAlive(records)

		before, began = heap(), time.Now()
		st, err := bolt.Open(kept, nil)
		if err != nil {
			return err
		}
		r, err := openRegistry(ctx, st, b)
		if err != nil {
			return err
		}
		ours = append(ours, time.Since(began).Seconds())
		oursMiB = append(oursMiB, mebibytes(heap()-before))
		if n := len(r.List("tenant-00000")); n != min(100, storedEntries) {
			return fmt.Errorf("the registry has %d entries in its first namespace", n)
		}
		r.Close()
		if err := st.Close(); err != nil {
			return err
		}
	}
	fmt.Printf("Opening a registry whose entries are in a file (bolt), beside reading the same records with bbolt's cursor and package\n"+
		"json into a map; median of %d rounds, ratios within a round.\n\n", min(*rounds, storedRounds))
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "entries\topened in s\tbbolt and json\tratio\tMiB of heap\tbbolt and json\tratio\t")
	fmt.Fprintf(out, "%d\t%.2f\t%.2f\t%.2f\t%.1f\t%.1f\t%.2f\t\n", storedEntries, median(ours), median(direct), ratio(ours, direct),
		median(oursMiB), median(directMiB), ratio(oursMiB, directMiB))
	return out.Flush()
}

func mebibytes(n uint64) float64 { return float64(n) / (1 << 20) }
