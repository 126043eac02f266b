package main

import (
	"context"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// fill stores revocations of certificates that never were, as package pki does once a list has been made of them: n of them, divided
// among as many shards, or 0.
func (a *authority) fill(ctx context.Context, st store.Store, n, shards int) error {
	return a.record(ctx, st, 0, n, func(serial *big.Int, entry []byte) []store.Op {
		key := fmt.Sprintf("revoked/%s/%040x", a.scope(0), serial)
		if shards > 0 {
			shard := new(big.Int).Mod(serial, big.NewInt(int64(shards))).Int64() + 1
			key = fmt.Sprintf("revoked/%s/s%05d/%040x", a.scope(0), shard, serial)
		}
		return []store.Op{a.put(key, entry)}
	})
}

// change stores revocations that no list has yet.
func (a *authority) change(ctx context.Context, st store.Store, from, n int) error {
	err := a.record(ctx, st, from, n, func(serial *big.Int, entry []byte) []store.Op {
		return []store.Op{a.put(fmt.Sprintf("revoked/%s/%040x", a.scope(0), serial), entry), a.put(fmt.Sprintf("changes/%s/%040x", a.scope(0), serial), entry)}
	})
	if err == nil {
		_, err = st.Apply(ctx, a.put("stale/"+a.scope(0), []byte{}))
	}
	return err
}

func (a *authority) put(key string, value []byte) store.Op {
	return store.Op{Key: "pki/" + a.mount.ID() + "/" + key, Value: value, Expect: store.Any}
}

// scope is what package pki calls the lists of the root, or of one of its shards.
func (a *authority) scope(shard int) string {
	cert := a.root.Certificate()
	sum := sha256.Sum256(slices.Concat(cert.RawSubject, cert.RawSubjectPublicKeyInfo))
	if shard > 0 {
		return fmt.Sprintf("%x.s%05d", sum[:16], shard)
	}
	return fmt.Sprintf("%x", sum[:16])
}

// record stores what ops says of n serial numbers, many at once, since a store commits together what comes together.
func (a *authority) record(ctx context.Context, st store.Store, from, n int, ops func(serial *big.Int, entry []byte) []store.Op) error {
	at := time.Now().UTC().Add(-time.Hour)
	var group errgroup.Group
	group.SetLimit(100)
	const step = store.MaxOps / 2
	for i := from; i < from+n; i += step {
		group.Go(func() error {
			var all []store.Op
			for j := i; j < min(from+n, i+step); j++ {
				serial := fullSerial(j)
				entry, err := asn1.Marshal(struct {
					Serial *big.Int
					At     time.Time
				}{serial, at})
				if err != nil {
					return err
				}
				all = append(all, ops(serial, entry)...)
			}
			_, err := st.Apply(ctx, all...)
			return err
		})
	}
	return group.Wait()
}

// fullSerial is as long as those that are issued.
func fullSerial(i int) *big.Int { return new(big.Int).SetBit(big.NewInt(int64(i)), 142, 1) }
