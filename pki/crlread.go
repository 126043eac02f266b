package pki

import (
	"context"
	"fmt"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// readCRL fills in the entries of a list.
//
// A complete list is made from the last one and the changes since, so that a revocation costs no reading of all others; from the
// revocations themselves if there is no last one, or it can't be read, or that is wanted. Pages of the store are read one at a time, and
// nothing is kept of them but what goes into the list.
func (a *Authority) readCRL(ctx context.Context, job *crlJob, l *crlList, r *crlRecord) error {
	if job.scope.Delta {
		return a.readEntries(ctx, "changes/"+job.name+"/", &l.entryList, func(record *store.Record) {
			if record.Version > r.Covers {
				l.add(record.Value)
			}
		})
	}
	wholeOfShards := job.scope.Shard == 0 && job.config.Shards > 0 // whose changes are those of the shards, and go with their lists
	// One from the future has times that this one can't have.
	if !job.force && !wholeOfShards && r.Number != 0 && !r.ThisUpdate.After(l.this) {
		if err := a.readChanges(ctx, job, l, r); err == nil {
			return nil
		} else if ctx.Err() != nil {
			return fmt.Errorf("pki: CRL: %w", ctx.Err())
		}
		l.entryList = entryList{}
	}
	l.reserve(min(64*r.Entries, r.Chunks*crlChunk)) // what the last list had, and some more
	return a.readEntries(ctx, revokedPrefix(signer(job.ca.cert), job.scope.Shard), &l.entryList, func(record *store.Record) { l.add(record.Value) })
}

// readChanges fills in the entries of the last list with the changes since.
func (a *Authority) readChanges(ctx context.Context, job *crlJob, l *crlList, r *crlRecord) error {
	last, err := a.loadCRL(ctx, job.name, &r.published)
	if err != nil {
		return err
	}
	entries, err := entriesOf(last)
	if err != nil {
		return err
	}
	var changes entryList
	err = a.readEntries(ctx, "changes/"+job.name+"/", &changes, func(record *store.Record) { changes.put(record.Value, 1) })
	if err != nil {
		return err
	}
	return l.merge(entries, changes.der())
}

// readEntries tells add of each entry under a prefix, and sorts the list that it adds to if the engine's order is another one.
func (a *Authority) readEntries(ctx context.Context, prefix string, to *entryList, add func(*store.Record)) error {
	sorted, before := true, []byte(nil)
	for record, err := range a.all(ctx, prefix) {
		if err != nil {
			return err
		}
		serial := entrySerial(record.Value)
		if serial == nil {
			return fmt.Errorf("pki: %s: %w", record.Key, store.ErrCorrupt)
		}
		sorted = sorted && compareSerials(before, serial) < 0
		before = serial
		add(&record)
	}
	if !sorted {
		return to.sort()
	}
	return nil
}

// add appends an entry. One by a process whose clock is ahead gets the list's own time.
func (l *crlList) add(entry []byte) {
	if l.mayBeLater(entry) {
		if parsed, err := parseEntry(entry); err == nil && parsed.RevocationTime.After(l.this) {
			if der, err := crlEntry(parsed.SerialNumber, l.this, parsed.ReasonCode); err == nil {
				entry = der
			}
		}
	}
	l.put(entry, 1)
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

// merge fills in entries with changes to them, both in order.
func (l *crlList) merge(entries, changes []byte) error {
	l.reserve(len(entries) + len(changes))
	kept, start := 0, 0 // entries that are taken over as they are, and where they begin
	var before []byte
	rest := entries
	at := func() int { return len(entries) - len(rest) }
	flush := func() {
		l.put(entries[start:at()], kept)
		kept = 0
	}
	for len(changes) > 0 {
		change, nextChange, err := nextEntry(changes)
		if err != nil {
			return err
		}
		changed := entrySerial(change)
		for len(rest) > 0 {
			entry, next, err := nextEntry(rest)
			if err != nil {
				return err
			}
			serial := entrySerial(entry)
			if order := compareSerials(serial, changed); order > 0 {
				break
			} else if compareSerials(before, serial) >= 0 {
				return fmt.Errorf("pki: CRL: entries are not in order: %w", store.ErrCorrupt)
			} else if order == 0 {
				flush()
				rest, before = next, serial
				start = at()
				break
			}
			rest, before = next, serial
			kept++
		}
		flush()
		start = at()
		if !isRemoval(change) {
			l.add(change)
		}
		changes = nextChange
	}
	for len(rest) > 0 {
		_, next, err := nextEntry(rest)
		if err != nil {
			return err
		}
		rest = next
		kept++
	}
	flush()
	return nil
}

// dropChanges removes the changes that a complete list has, which are those up to the version that it covers.
func (a *Authority) dropChanges(ctx context.Context, name string, covers uint64) {
	drop := func(ops []store.Op) {
		if len(ops) == 0 {
			return
		}
		if _, err := a.apply(ctx, ops...); err == nil {
			return
		}
		for _, op := range ops { // one of them is newer; what is left over does no harm
			_, _ = a.apply(ctx, op)
		}
	}
	var ops []store.Op
	for record, err := range a.all(ctx, "changes/"+name+"/") {
		if err != nil {
			return
		}
		if record.Version <= covers {
			ops = append(ops, store.Op{Kind: store.Delete, Key: record.Key, Expect: store.Expect(record.Version)})
		}
		if len(ops) == maxOps {
			drop(ops)
			ops = nil
		}
	}
	drop(ops)
}
