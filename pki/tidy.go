package pki

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TidyOptions are the options of [Authority.Tidy].
type TidyOptions struct {
	// Buffer is how long certificates are kept after they have expired; 0 is 72 hours. At least 1 hour, so that a
	// revocation is in one CRL after the certificate's end (RFC 5280, Section 3.3) and clocks may differ.
	Buffer time.Duration

	// Progress, if not nil, is told how far it is, after each day of expiry, on the caller's goroutine.
	Progress func(TidyProgress)
}

// TidyProgress is how far [Authority.Tidy] is.
type TidyProgress struct {
	Days, AllDays int // of expiry that were gone through, and that there are
	Removed       int // certificates, pending ones included
	Revoked       int // of them were revoked
}

// Tidy removes certificates that have expired, with their revocations. It goes on where it, or another process, has ended;
// when ctx ends, what is done stays done.
func (a *Authority) Tidy(ctx context.Context, opts *TidyOptions) (TidyProgress, error) {
	var p TidyProgress
	if opts == nil {
		opts = new(TidyOptions)
	}
	buffer := opts.Buffer
	if buffer == 0 {
		buffer = 72 * time.Hour
	}
	if buffer < time.Hour {
		return p, invalid("tidy: buffer %v; it takes an hour or more", buffer)
	}
	var m mountRecord
	if _, err := a.read(ctx, "config/mount", &m); err != nil {
		return p, err
	}
	limit := a.engine.now().Add(-buffer)
	first, last := max(m.Tidied, dayOf(m.Created)-1), dayOf(limit)
	p.AllDays = int(max(0, last-first+1))
	for day := first; day <= last; day++ {
		if err := a.tidyDay(ctx, day, limit, &p); err != nil {
			return p, err
		}
		p.Days++
		if opts.Progress != nil {
			opts.Progress(p)
		}
	}
	return p, update(ctx, a, "config/mount", func(m *mountRecord, _ uint64) error {
		if last <= m.Tidied { // the last day has certificates that are kept
			return errUnchanged
		}
		m.Tidied = last
		return nil
	})
}

func (a *Authority) tidyDay(ctx context.Context, day int64, limit time.Time, p *TidyProgress) error {
	stale := make(map[string]*Certificate)
	prefix := fmt.Sprintf("expiry/%06d/", day)
	for record, err := range a.all(ctx, prefix) {
		if err != nil {
			return err
		}
		serial, ok := new(big.Int).SetString(strings.TrimPrefix(record.Key, a.prefix+prefix), 16)
		if !ok {
			return fmt.Errorf("pki: %s: %w", record.Key, store.ErrCorrupt)
		}
		cert, err := a.certificate(ctx, serial)
		if errors.Is(err, store.ErrNotFound) { // an index that was left
			_, err = a.apply(ctx, store.Op{Kind: store.Delete, Key: record.Key, Expect: store.Any})
		}
		if err != nil {
			return err
		}
		if cert == nil || !cert.Certificate.NotAfter.Before(limit) {
			continue
		}
		ops := []store.Op{a.remove(certKey(serial), store.Expect(cert.version)), a.remove(ocspKey(cert.signer, serial), store.Any)}
		if cert.Revocation != nil {
			entry, err := a.entryOps(cert, nil)
			if err != nil {
				return err
			}
			ops = append(ops, entry...)
		}
		if _, err := a.apply(ctx, ops...); errors.Is(err, store.ErrConflict) {
			continue // it is being revoked; the next time
		} else if err != nil {
			return err
		}
		p.Removed++
		if cert.Revocation != nil {
			p.Revoked++
			stale[CRLScope{Shard: cert.Shard}.name(cert.signer)] = cert
		}
		a.unindex(ctx, cert.Certificate, cert.IssuerID)
	}
	for _, cert := range stale {
		if _, err := a.apply(ctx, a.stale(cert.signer, cert.Shard)...); err != nil {
			return err
		}
	}
	return nil
}
