package pki

import (
	"context"
	"errors"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

const (
	// crlLease is for how long nobody else makes a list of the scope. Who makes one renews it, so that it is as long as that needs, and
	// ends soon when the process is gone. It is for sparing work: what keeps numbers in order is that records are compared.
	crlLease = 15 * time.Second

	// crlSkew is how far the clocks of processes that share a store may be apart.
	crlSkew = time.Minute

	// crlSigning is the longest that a key is waited for.
	crlSigning = 30 * time.Second
)

// leased reports whether somebody makes a list. A lease that ends later than one that begins now is that of a process whose clock was
// wrong, which may be gone.
func (r *crlRecord) leased(now time.Time) bool {
	return r.Owner != "" && leased(r.Until, now)
}

// leased reports whether a lease counts that ends then.
func leased(until, now time.Time) bool {
	return now.Before(until) && until.Sub(now) <= crlLease+crlSkew
}

// keepLease renews the lease of a record, which has that version, until stop is called; it returns the version that the record then has.
// The context that it returns ends when somebody else has taken the lease, with an error as its cause that wraps store.ErrConflict.
func (a *Authority) keepLease(ctx context.Context, key string, r crlRecord, version uint64) (held context.Context, stop func() uint64) {
	held, cancel := context.WithCancelCause(ctx)
	// The clock may be set meanwhile, and the renewals must go on from where the lease began.
	began, until, sure := time.Now(), r.Until, true
	renew := func() error {
		ctx, cancel := context.WithTimeout(held, crlLease/3)
		defer cancel()
		r.Until = until.Add(time.Since(began)).UTC()
		next, err := a.apply(ctx, a.put(key, store.Expect(version), r))
		if sure = err == nil; sure {
			version = next
		} else if errors.Is(err, store.ErrConflict) {
			return a.stillOurs(ctx, key, &r, &version, err)
		}
		return nil
	}
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(crlLease / 3)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-held.Done():
				return
			case <-tick.C:
			}
			if err := renew(); err != nil {
				cancel(err)
				return
			}
		}
	}()
	return held, func() uint64 {
		close(end)
		<-done
		if !sure { // whether the last renewal was done
			again, cancel := detached(held)
			defer cancel()
			_ = a.stillOurs(again, key, &r, &version, nil)
		}
		cancel(nil)
		return version
	}
}

// stillOurs fills in the version of a record that a process has the lease of: an answer that was lost may have come true after all. It
// returns err if another one has it.
func (a *Authority) stillOurs(ctx context.Context, key string, r *crlRecord, version *uint64, err error) error {
	var now crlRecord
	next, readErr := a.read(ctx, key, &now)
	if readErr != nil {
		return nil // nobody knows; the next renewal tells
	}
	if now.Owner != r.Owner {
		return err
	}
	*version = next
	return nil
}
