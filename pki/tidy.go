package pki

import (
	"context"
	"errors"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TidyOptions are the options of [Authority.Tidy].
type TidyOptions struct {
	// Buffer is how long certificates are kept after they have expired; 0 is 72 hours. At least 1 hour, because clocks may
	// differ.
	Buffer time.Duration

	// Progress, if not nil, is told how far it is, after each day of expiry, on the caller's goroutine.
	Progress func(TidyProgress)
}

// TidyProgress is how far [Authority.Tidy] is.
type TidyProgress struct {
	Days     int `json:"days"` // of expiry that were gone through
	AllDays  int `json:"all_days"`
	Removed  int `json:"removed"`  // certificates, pending ones included
	Revoked  int `json:"revoked"`  // of them were revoked
	Unlisted int `json:"unlisted"` // revoked certificates that are kept until a CRL that is made after their end has had them (RFC 5280, Section 3.3)
}

// Tidy removes certificates that have expired, with their revocations, except those that must be in another CRL before: see
// TidyProgress.Unlisted. It goes on where it, or another process, has ended;
// when ctx ends, what is done stays done. It is StartTidy and Run in one, so that the error wraps [ErrTidying] while another one is under way,
// and [context.Canceled] after CancelTidy.
func (a *Authority) Tidy(ctx context.Context, opts *TidyOptions) (TidyProgress, error) {
	if opts == nil {
		opts = new(TidyOptions)
	}
	run, err := a.StartTidy(ctx, TidyConfig{Certificates: true, Buffer: opts.Buffer})
	if err != nil {
		return TidyProgress{}, err
	}
	run.report = opts.Progress
	status, err := run.Run(ctx)
	return status.Progress, err
}

// tidy removes the certificates, and tells progress how far it is, after each day of expiry.
func (a *Authority) tidy(ctx context.Context, buffer time.Duration, progress func(TidyProgress)) error {
	var p TidyProgress
	if buffer == 0 {
		buffer = 72 * time.Hour
	}
	var m mountRecord
	if _, err := a.read(ctx, "config/mount", &m); err != nil {
		return err
	}
	t := &tidier{a: a, limit: a.engine.now().Add(-buffer), lists: make(map[string]*crlRecord), listing: make(map[string]bool)}
	if err := t.findSigners(ctx); err != nil {
		return err
	}
	first, last := max(m.Tidied, dayOf(m.Created)-1), dayOf(t.limit)
	p.AllDays = int(max(0, last-first+1))
	done := first // the first day that something is left of
	for day := first; day <= last; day++ {
		left, err := t.day(ctx, day, &p)
		if err == nil {
			p.Days++
		}
		progress(p)
		if err != nil {
			return err
		}
		if !left && done == day && day < last {
			done++
		}
	}
	return update(ctx, a, "config/mount", func(m *mountRecord, _ uint64) error {
		if done <= m.Tidied {
			return errUnchanged
		}
		m.Tidied = done
		return nil
	})
}

// tidier is one run of Tidy.
type tidier struct {
	a       *Authority
	limit   time.Time             // certificates that ended before it go
	lists   map[string]*crlRecord // by name of the scope, as they were when first looked at
	listing map[string]bool       // signers that an issuer makes lists for
}

// findSigners finds out who makes lists, as Maintain does.
func (t *tidier) findSigners(ctx context.Context) error {
	issuers, err := t.a.Issuers(ctx)
	for _, issuer := range issuers {
		if cert := issuer.Certificate(); issuer.Usage&SignCRLs != 0 && !t.a.engine.now().After(cert.NotAfter) {
			t.listing[signer(cert)] = true
		}
	}
	return err
}

// listed reports whether a revoked certificate may leave the lists: it must have been in one that was made after its end (RFC 5280,
// Section 3.3). That doesn't count for lists that nobody was ever given, or that nobody makes any more.
func (t *tidier) listed(ctx context.Context, c *Certificate) (bool, error) {
	if !t.listing[c.signer] {
		return true, nil
	}
	name := CRLScope{Shard: c.Shard}.name(c.signer)
	r := t.lists[name]
	if r == nil {
		r = new(crlRecord)
		if _, err := t.a.readIf(ctx, "crl/"+name, r); err != nil {
			return false, err
		}
		t.lists[name] = r
	}
	// The certificate's record was last written by its revocation, together with what says that the list is an old one.
	return r.Number == 0 || r.ThisUpdate.After(c.Certificate.NotAfter) && r.Covers >= c.version, nil
}

// day removes what ended on a day, and reports whether anything is left of it.
func (t *tidier) day(ctx context.Context, day int64, p *TidyProgress) (left bool, err error) {
	a := t.a
	stale := make(map[string]*Certificate)
	for record, err := range a.all(ctx, expiryIndex(day)) {
		if err != nil {
			return left, err
		}
		serial, err := serialIn(record)
		if err != nil {
			return left, err
		}
		cert, err := a.certificate(ctx, serial)
		if errors.Is(err, store.ErrNotFound) { // an index that was left
			_, err = a.apply(ctx, store.Op{Kind: store.Delete, Key: record.Key, Expect: store.Any})
		}
		if err != nil {
			return left, err
		}
		if cert == nil {
			continue
		}
		if !cert.Certificate.NotAfter.Before(t.limit) {
			left = true
			continue
		}
		ops := []store.Op{a.remove(certKey(serial), store.Expect(cert.version)), a.remove(ocspKey(cert.signer, serial), store.Any)}
		if cert.Revocation != nil {
			if listed, err := t.listed(ctx, cert); err != nil {
				return left, err
			} else if !listed {
				p.Unlisted++
				left = true
				continue
			}
			entry, err := a.entryOps(cert, nil)
			if err != nil {
				return left, err
			}
			ops = append(ops, entry...)
		}
		if _, err := a.apply(ctx, ops...); errors.Is(err, store.ErrConflict) {
			left = true // it is being revoked; the next time
			continue
		} else if err != nil {
			return left, err
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
			return left, err
		}
	}
	return left, nil
}
