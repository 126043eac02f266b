package pki

import (
	"bytes"
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// makeCRL makes and publishes a list, and returns it. The error wraps store.ErrConflict if somebody else was faster, and is
// errCRLBusy if somebody else is at it.
func (a *Authority) makeCRL(ctx context.Context, job *crlJob, r *crlRecord, version uint64) ([]byte, *published, error) {
	if job.issuer.Usage&SignCRLs == 0 {
		return nil, nil, fmt.Errorf("pki: CRL: issuer %s: its usage doesn't allow %s: %w", job.issuer.ID, SignCRLs, backend.ErrNotPermitted)
	}
	now := a.engine.now()
	if r.Owner != "" && now.Before(r.Until) {
		return nil, nil, errCRLBusy
	}
	if _, err := job.ca.key(ctx); err != nil {
		return nil, nil, err // no number is taken for what can't be signed
	}
	next := *r
	next.Taken, next.Owner, next.Until = r.Taken+1, uuid.NewString(), now.Add(crlLease).UTC()
	version, err := a.apply(ctx, a.put("crl/"+job.name, store.Expect(version), next))
	if err != nil {
		return nil, nil, err
	}
	der, done, applied, err := a.signCRL(ctx, job, &next)
	if err == nil {
		err = a.storeCRL(ctx, job.name, done, der)
	}
	again, cancel := detached(ctx)
	defer cancel()
	next.Owner, next.Until = "", time.Time{}
	if err != nil {
		r.Taken = next.Taken
		r.Owner, r.Until = "", time.Time{}
		_, _ = a.apply(again, a.put("crl/"+job.name, store.Expect(version), r)) // else the lease ends by itself
		return nil, nil, err
	}
	if job.scope.Delta {
		next.Delta = done
	} else {
		next.published = *done
	}
	if _, err := a.apply(again, a.put("crl/"+job.name, store.Expect(version), next)); err != nil {
		return nil, nil, err
	}
	a.cacheCRL(job.name, done, der)
	a.dropCRLs(again, job.name, r, &next)
	if !job.scope.Delta { // the complete list has them
		a.dropChanges(again, applied)
	}
	return der, done, nil
}

// signCRL reads what there is to say and signs a list of it. It returns the changes that it has read, too.
func (a *Authority) signCRL(ctx context.Context, job *crlJob, r *crlRecord) ([]byte, *published, []store.Record, error) {
	done := &published{Number: r.Taken}
	var err error
	if done.Covers, err = a.staleVersion(ctx, job.name); err != nil {
		return nil, nil, nil, err
	}
	urls, err := a.urlsOf(job.config, job.issuer, job.scope.Shard)
	if err != nil && job.scope.Shard > 0 {
		return nil, nil, nil, err
	}
	l := &crlList{number: big.NewInt(r.Taken), alg: job.issuer.CRLAlgorithm, this: a.engine.now().UTC().Truncate(time.Second)}
	if job.scope.Shard > 0 {
		l.point = urls.CRL
	}
	validity := job.crl.Expiry
	if job.scope.Delta {
		done.Base = r.Number
		l.base, validity = big.NewInt(r.Number), deltaIntervals*job.crl.DeltaInterval
	} else if err == nil && !(job.scope.Shard == 0 && job.config.Shards > 0) {
		l.freshest = urls.DeltaCRL
	}
	l.next = l.this.Add(validity).Truncate(time.Second)
	t := CRLTemplate{Number: l.number, ThisUpdate: l.this, NextUpdate: l.next}
	if _, err := t.list(a.engine.now(), job.ca.cert); err != nil {
		return nil, nil, nil, err
	}
	changes, err := a.readCRL(ctx, job, l, r)
	if err != nil {
		return nil, nil, nil, err
	}
	der, err := job.ca.signList(ctx, l)
	if err != nil {
		return nil, nil, nil, err
	}
	done.ThisUpdate, done.NextUpdate, done.Entries = l.this, l.next, l.count
	return der, done, changes, nil
}

// readCRL fills in the entries of a list. It returns the records of changes that it has read.
//
// A complete list is made from the last one and the changes since, so that a revocation costs no reading of all others; from the
// revocations themselves if there is no last one, or it can't be read, or that is wanted.
func (a *Authority) readCRL(ctx context.Context, job *crlJob, l *crlList, r *crlRecord) ([]store.Record, error) {
	wholeOfShards := job.scope.Shard == 0 && job.config.Shards > 0
	var changes []store.Record
	if !wholeOfShards {
		for record, err := range a.all(ctx, "changes/"+job.name+"/") {
			if err != nil {
				return nil, err
			}
			if entrySerial(record.Value) == nil {
				return nil, fmt.Errorf("pki: %s: %w", record.Key, store.ErrCorrupt)
			}
			changes = append(changes, record)
		}
	}
	if job.scope.Delta {
		for _, record := range changes {
			if record.Version > r.Covers {
				l.add(record.Value)
			}
		}
		return changes, nil
	}
	if !job.force && !wholeOfShards && r.Number != 0 {
		if last, err := a.loadCRL(ctx, job.name, &r.published); err == nil && l.merge(last, changes) == nil {
			return changes, nil
		}
		l.entries, l.count = nil, 0
	}
	prefix := revokedPrefix(signer(job.ca.cert), job.scope.Shard)
	l.entries = make([]byte, 0, 48*r.Entries) // most are shorter, so that there is room for new ones
	sorted, before := true, []byte(nil)
	for record, err := range a.all(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		serial := entrySerial(record.Value)
		if serial == nil {
			return nil, fmt.Errorf("pki: %s: %w", record.Key, store.ErrCorrupt)
		}
		sorted = sorted && compareSerials(before, serial) < 0
		before = serial
		l.add(record.Value)
	}
	if !sorted {
		return changes, l.sort()
	}
	return changes, nil
}

// add appends an entry. One by a process whose clock is ahead gets the list's own time.
func (l *crlList) add(entry []byte) {
	l.count++
	if l.mayBeLater(entry) {
		if parsed, err := parseEntry(entry); err == nil && parsed.RevocationTime.After(l.this) {
			if der, err := crlEntry(parsed.SerialNumber, l.this, parsed.ReasonCode); err == nil {
				entry = der
			}
		}
	}
	l.entries = append(l.entries, entry...)
}

// mayBeLater reports whether the time of an entry may be after that of the list, without parsing what is not.
func (l *crlList) mayBeLater(entry []byte) bool {
	if l.text == "" {
		l.text = l.this.Format("060102150405")
	}
	if len(entry) < 5 || entry[1] >= 0x80 || entry[3] > 21 || len(entry) < 4+int(entry[3])+15 {
		return true // it isn't as short as entries are
	}
	at := entry[4+int(entry[3]):]
	if at[0] != 0x17 || at[2] >= '5' {
		return true // no UTCTime of this century
	}
	return l.this.Year() < 2050 && string(at[2:14]) > l.text
}

// merge fills in the entries of the last list with the changes since.
func (l *crlList) merge(last []byte, changes []store.Record) error {
	entries, err := entriesOf(last)
	if err != nil {
		return err
	}
	slices.SortFunc(changes, func(a, b store.Record) int { return compareSerials(entrySerial(a.Value), entrySerial(b.Value)) })
	l.entries = make([]byte, 0, len(entries)+64*len(changes))
	kept, start := 0, entries // what is taken over as it is, from start on
	flush := func() {
		l.entries = append(l.entries, start[:kept]...)
		start, kept = entries, 0
	}
	var before []byte
	for len(entries) > 0 || len(changes) > 0 {
		var entry, rest, serial []byte
		if len(entries) > 0 {
			if entry, rest, err = nextEntry(entries); err != nil {
				return err
			}
			if serial = entrySerial(entry); compareSerials(before, serial) >= 0 {
				return fmt.Errorf("pki: CRL: entries are not in order: %w", store.ErrCorrupt)
			}
		}
		order := -1
		if len(changes) > 0 {
			order = 1
			if entry != nil {
				order = compareSerials(serial, entrySerial(changes[0].Value))
			}
		}
		if order < 0 {
			entries, before = rest, serial
			kept += len(entry)
			l.count++
			continue
		}
		if order == 0 {
			flush()
			entries, before = rest, serial
			start = entries
		} else {
			flush()
		}
		if change := changes[0].Value; !isRemoval(change) {
			l.add(change)
		}
		changes = changes[1:]
	}
	flush()
	return nil
}

// sort puts the entries in order.
func (l *crlList) sort() error {
	all := make([][]byte, 0, l.count)
	for rest := l.entries; len(rest) > 0; {
		entry, next, err := nextEntry(rest)
		if err != nil {
			return err
		}
		all, rest = append(all, entry), next
	}
	slices.SortFunc(all, func(a, b []byte) int { return compareSerials(entrySerial(a), entrySerial(b)) })
	l.entries = bytes.Join(all, nil)
	return nil
}

// dropChanges removes changes that a complete list has, unless there are newer ones.
func (a *Authority) dropChanges(ctx context.Context, changes []store.Record) {
	for part := range slices.Chunk(changes, store.MaxOps) {
		ops := make([]store.Op, 0, len(part))
		for _, record := range part {
			ops = append(ops, store.Op{Kind: store.Delete, Key: record.Key, Expect: store.Expect(record.Version)})
		}
		if _, err := a.apply(ctx, ops...); err == nil {
			continue
		}
		for _, op := range ops { // one of them is newer; what is left over does no harm
			_, _ = a.apply(ctx, op)
		}
	}
}

// shardOf returns the shard of a serial number: always the same one, and each as often as others.
func shardOf(serial *big.Int, shards int) int {
	if shards == 0 {
		return 0
	}
	return int(new(big.Int).Mod(serial, big.NewInt(int64(shards))).Int64()) + 1
}

func revokedPrefix(signer string, shard int) string {
	return "revoked/" + strings.Replace(CRLScope{Shard: shard}.name(signer), ".", "/", 1) + "/"
}
