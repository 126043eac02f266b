package pkcs11

import (
	"context"
	"fmt"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// index is what one sweep over a token found. Searching a token takes time in proportion to its objects, so opening many
// keys takes one sweep and not one search each.
type index struct {
	epoch   uint64    // that the handles belong to
	made    time.Time // when the sweep began
	until   time.Time // for how long it serves to open keys by
	entries []entry
	byLabel map[string][]int
	byID    map[string][]int
}

// How long an index serves: a while that is long beside what it took, but not longer than people wait for a key that
// another program made or doubled.
const (
	indexLife   = time.Second
	indexFactor = 10 // times the duration of the sweep
)

// sweeps is how often a token is searched until nothing changes meanwhile.
const sweeps = 3

// sweep lists all keys and certificates of the token, which the user must be logged in to: private objects are not seen
// otherwise. A list that something may be missing from is made again.
func (w *worker) sweep() (*index, error) {
	for n := 1; ; n++ {
		epoch := w.pool.conn.epoch.Load()
		if err := w.alive(); err != nil {
			return nil, err
		}
		x, unread, err := w.list(epoch)
		if err != nil {
			return nil, err
		}
		if err := w.alive(); err != nil { // others may have logged out meanwhile
			return nil, err
		}
		switch same := epoch == w.pool.conn.epoch.Load(); {
		case same && (unread == 0 || n == sweeps):
			return x, nil
		case n == sweeps:
			return nil, fmt.Errorf("the connection began anew during each of %d searches: %w", n, backend.ErrUnavailable)
		}
	}
}

// list lists the keys and certificates that the session sees, and returns how many objects it could not read.
func (w *worker) list(epoch uint64) (x *index, unread int, err error) {
	began := time.Now()
	x = &index{epoch: epoch, made: began, byLabel: make(map[string][]int), byID: make(map[string][]int)}
	handles, err := w.module.Find(w.session)
	if err != nil {
		return nil, 0, err
	}
	r := w.attributes()
	for _, h := range handles {
		v, err := r.Short(w.session, h, attrClass, attrKeyType, attrID, attrLabel)
		if t := troubleOf(err); err != nil {
			if t == staleHandle {
				unread++ // it was removed meanwhile, and is not there the next time
				continue
			}
			return nil, 0, err
		}
		e := entry{handle: h, class: class(ulong(v[0])), kind: keyType(ulong(v[1]))}
		if e.class < classCertificate || e.class > classSecret {
			continue
		}
		e.id, e.label = string(v[2]), string(v[3])
		x.byID[e.id] = append(x.byID[e.id], len(x.entries))
		x.byLabel[e.label] = append(x.byLabel[e.label], len(x.entries))
		x.entries = append(x.entries, e)
	}
	x.until = time.Now().Add(max(indexLife, indexFactor*time.Since(began)))
	return x, unread, nil
}

// where returns the entries that meet a condition among those with the id, if it is not empty, or else with the label.
func (x *index) where(id, label string, ok func(entry) bool) []entry {
	places := x.byLabel[label]
	if id != "" {
		places = x.byID[id]
	}
	var found []entry
	for _, n := range places {
		if ok(x.entries[n]) {
			found = append(found, x.entries[n])
		}
	}
	return found
}

// keys returns the keys that p names, of whatever kind.
func (x *index) keys(p Params) []entry {
	id, _ := p.keyID() // was validated
	return x.where(string(id), p.KeyLabel, func(e entry) bool {
		return (e.class == classPrivate || e.class == classSecret) && p.fits(e)
	})
}

// beside returns the objects of a class that may belong to the private key e: those with its id, or else its label.
func (x *index) beside(e entry, c class) []entry {
	return x.where(e.id, e.label, func(other entry) bool { return other.class == c })
}

// indexed returns an index that was begun after a time and is of this epoch. search must not be held.
func (c *conn) indexed(ctx context.Context, after time.Time) (*index, error) {
	if err := c.search.acquire(ctx, "another search or generation on the token has not ended"); err != nil {
		return nil, c.errorf("%w", err)
	}
	defer c.search.release()
	return c.refreshed(ctx, after)
}

// refreshed is indexed with search held.
func (c *conn) refreshed(ctx context.Context, after time.Time) (*index, error) {
	if x := c.index; x != nil && x.epoch == c.epoch.Load() && x.made.After(after) && time.Now().Before(x.until) {
		return x, nil
	}
	x, err := doResult(ctx, c, false, false, (*worker).sweep)
	if err != nil {
		return nil, c.explain(err)
	}
	c.index = x
	return x, nil
}

// locate returns the key that p names, and the index that knows it.
func (c *conn) locate(ctx context.Context, p Params) (entry, *index, error) {
	x, err := c.indexed(ctx, time.Time{})
	if err != nil {
		return entry{}, nil, err
	}
	found := x.keys(p)
	if len(found) == 0 { // another program may have made it meanwhile
		if x, err = c.indexed(ctx, x.made); err != nil {
			return entry{}, nil, err
		}
		found = x.keys(p)
	}
	e, err := c.pick(found, p)
	return e, x, err
}

// inspect reads the attributes of the key e, and of the objects beside it what may be its public key, the likeliest first.
func (c *conn) inspect(ctx context.Context, x *index, e entry) (object, []material, error) {
	type result struct {
		o      object
		others []material
	}
	got, err := doResult(ctx, c, false, false, func(w *worker) (result, error) {
		if x.epoch != c.epoch.Load() {
			return result{}, errStale
		}
		r := w.attributes()
		o, err := w.describeKey(r, e)
		if err != nil {
			return result{}, err
		}
		o.epoch = x.epoch
		got := result{o: o}
		if e.class != classPrivate || e.kind == keyRSA && len(o.own.modulus) > 0 {
			return got, nil // the private key itself knows its modulus; what stands beside it may belong to another one
		}
		for _, class := range []class{classPublic, classCertificate} {
			for _, other := range x.beside(e, class) {
				m, err := w.readMaterial(r, other.handle, class, e.kind)
				if err != nil {
					if troubleOf(err) == staleHandle {
						continue
					}
					return result{}, err
				}
				got.others = append(got.others, m)
			}
		}
		return got, nil
	})
	if err != nil {
		return object{}, nil, c.explain(err)
	}
	return got.o, got.others, nil
}
