package pki

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// standing is a certificate that has passed a threshold, and was neither revoked nor replaced when it was looked at.
type standing struct {
	notAfter int64 // second since 1970
	pass     uint32
}

// maxFollowed bounds how many certificates that have passed a threshold are remembered one by one, in some 80 bytes each, and maxAgain how many
// of them a pass looks at again.
const (
	maxFollowed = 100_000
	maxAgain    = 10_000

	// stretch is how many certificates are looked at without a pause.
	stretch = 100
)

// pause waits, after each stretch, for as long as that has taken: whoever issues certificates meanwhile is not to wait for the watch, which
// is in no hurry, and takes half of a processor at most.
func (v *visit) pause(ctx context.Context) error {
	if v.looked++; v.looked%stretch != 0 {
		return nil
	}
	wait := time.NewTimer(min(time.Since(v.since), time.Second))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return fmt.Errorf("pki: expiry watch: %w", ctx.Err())
	}
	v.since = time.Now()
	return nil
}

// followed are the certificates that have passed a threshold and have not expired.
type followed struct {
	standing map[serialKey]standing
	crowd    map[int64]int // those for which there was no room: how many by the hour since 1970 in which they end

	most, again int // maxFollowed and maxAgain, but for tests
}

func newFollowed() followed {
	return followed{make(map[serialKey]standing), make(map[int64]int), maxFollowed, maxAgain}
}

// follow adds a certificate that stands, or notes that it was looked at. known says that it had passed a threshold before.
func (f *followed) follow(serial serialKey, notAfter int64, pass uint32, known bool) {
	_, there := f.standing[serial]
	hour := notAfter / 3600
	switch {
	case there:
	case known && f.crowd[hour] > 0:
		return // it is one of those
	case len(f.standing) >= f.most:
		f.crowd[hour]++
		return
	}
	f.standing[serial] = standing{notAfter, pass}
}

// each calls fn for all that have not expired, those that end together perhaps at once, and forgets the others.
func (f *followed) each(now time.Time, fn func(notAfter time.Time, certificates int)) {
	for _, one := range f.standing {
		fn(time.Unix(one.notAfter, 0), 1)
	}
	for hour, n := range f.crowd {
		last := time.Unix(hour*3600+3599, 0)
		if now.After(last) {
			delete(f.crowd, hour)
			continue
		}
		fn(last, n)
	}
}

// oldest returns the pass whose certificates are the last ones that this pass, with the number pass, looks at, so that those which have waited
// longest come first.
func (f *followed) oldest(pass uint32) uint32 {
	count := make(map[uint32]int)
	for _, one := range f.standing {
		if one.pass != pass {
			count[one.pass]++
		}
	}
	n, last := 0, uint32(0)
	for _, p := range slices.Sorted(maps.Keys(count)) {
		if last = p; n+count[p] >= f.again {
			break
		}
		n += count[p]
	}
	return last
}

// again looks at what stands from earlier passes, as far as a pass does.
func (v *visit) again(ctx context.Context) error {
	s := &v.w.sweep
	for serial, known := range s.standing {
		if s.to.Unix() > known.notAfter {
			delete(s.standing, serial) // it was told of, or was gone by then
		}
	}
	last, left := s.oldest(s.pass), s.followed.again
	for _, whole := range []bool{true, false} { // of last itself perhaps not all
		for serial, known := range s.standing {
			if left == 0 {
				return nil
			}
			if known.pass == s.pass || whole != (known.pass < last) || known.pass > last {
				continue
			}
			left--
			if err := v.pause(ctx); err != nil {
				return err
			}
			c, err := v.w.a.certificate(ctx, new(big.Int).SetBytes(serial[:]))
			ok := false
			if err == nil {
				ok, err = v.stands(ctx, c)
			}
			switch {
			case errors.Is(err, store.ErrNotFound) || err == nil && !ok:
				delete(s.standing, serial)
			case err != nil:
				return err
			default:
				s.standing[serial] = standing{known.notAfter, s.pass}
			}
		}
	}
	return nil
}
