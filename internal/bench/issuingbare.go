package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// bareBatch is how many certificates one transaction fills in.
const bareBatch = 1000

var bareBucket = []byte("certificates")

// bare is a bbolt database to which nothing is done but the puts of a store that certificates like one are added to.
type bare struct {
	db   *bbolt.DB
	like *storedCertificate
}

// bareBeside returns one with n certificates. The caller closes it.
func (w *workplace) bareBeside(n int, like *storedCertificate) (*bare, error) {
	db, err := bbolt.Open(filepath.Join(w.memory, fmt.Sprintf("bare-%d", n)), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	b := &bare{db, like}
	serials := make([]string, n)
	for i := range serials {
		serials[i] = like.randomSerial()
	}
	slices.Sort(serials)
	for left := n; len(serials) > 0; {
		some := serials[:min(bareBatch, len(serials))]
		if err := b.put(left, some...); err != nil {
			b.close()
			return nil, err
		}
		serials, left = serials[len(some):], left-len(some)
	}
	err = db.View(func(tx *bbolt.Tx) error { // as in settle
		return tx.Bucket(bareBucket).ForEach(func(_, _ []byte) error { return nil })
	})
	return b, err
}

// put puts the records of certificates with these numbers, in one transaction. The first has been issued as many before the newest one.
func (b *bare) put(before int, serials ...string) error {
	return b.db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(bareBucket)
		if err != nil {
			return err
		}
		for i, serial := range serials {
			for _, record := range b.like.records {
				key, err := b.like.keyWith(record, serial, before-i)
				if err != nil {
					return err
				}
				if err := bucket.Put(key, record.Value); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// operation does what storing one more certificate does to a store: it puts the records, and then one of them again.
func (b *bare) operation() error {
	serial := b.like.randomSerial()
	if err := b.put(0, serial); err != nil {
		return err
	}
	own := b.like.records[slices.IndexFunc(b.like.records, isCertificate)]
	key, err := b.like.keyWith(own, serial, 0)
	if err != nil {
		return err
	}
	return b.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bareBucket).Put(key, own.Value) })
}

func (b *bare) close() {
	path := b.db.Path() // which it doesn't know any more afterwards
	b.db.Close()
	os.Remove(path)
}

// isCertificate reports whether a record is that of a certificate, and not of an index.
func isCertificate(r store.Record) bool { return strings.HasPrefix(string(r.Value), "{") }

// issuedEvery is how many seconds lie between certificates that are filled in.
const issuedEvery = 10

// keyWith returns the key of a record with another number, as keys have it, of a certificate that was issued as many before this one.
func (c *storedCertificate) keyWith(r store.Record, serial string, before int) ([]byte, error) {
	key := strings.TrimSuffix(r.Key, fmt.Sprintf("%040x", c.serial))
	if !isCertificate(r) { // the age is before the number
		at := len(key) - len("01234567/")
		age, err := strconv.ParseUint(key[at:len(key)-1], 16, 32)
		if err != nil {
			return nil, fmt.Errorf("the key of an index has no age: %w", err)
		}
		key = fmt.Sprintf("%s%08x/", key[:at], age+uint64(issuedEvery*before))
	}
	return []byte(key + serial), nil
}

// randomSerial returns a number of the same length, as keys have it.
func (c *storedCertificate) randomSerial() string {
	digits := c.serial.FillBytes(make([]byte, 20))
	rand.Read(digits[20-len(c.serial.Bytes())+1:])
	return hex.EncodeToString(digits)
}
