package together

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// The states of an entry, a mount or a grant.
const (
	absent, signing, verifying = "absent", "signing", "verifying"
	present                    = "present"
)

// facts are, for each thing that one worker alone changes, the states in which it may be: one after an acknowledged
// change, more after one whose outcome the worker was not told.
type facts map[string][]string

func (f facts) may(what string, states ...string) bool {
	return slices.ContainsFunc(states, func(s string) bool { return slices.Contains(f[what], s) })
}

// acknowledged notes that something is in that state for certain.
func (f facts) acknowledged(what, state string) { f[what] = []string{state} }

// note notes the result of a change to that state.
func (f facts) note(what, state string, err error) {
	switch {
	case err == nil:
		f.acknowledged(what, state)
	case errors.Is(err, store.ErrUnknownOutcome) && !f.may(what, state):
		f[what] = append(f[what], state)
	}
}

// worker changes entries and a mount of its own, and the grants of its mounts for the entry that all share.
type worker struct {
	*program
	id     int
	random *rand.Rand
	done   report
	mount  *managedkey.Mount

	acknowledged, refused atomic.Int64 // changes
}

// report is what a worker tells at its end.
type report struct {
	Facts                 facts
	Acknowledged, Refused int64    // changes
	Wrong                 []string // what must not be
	Longest               time.Duration
	Ended                 time.Time // by the clock of the process
}

func paths(id int) []string {
	return []string{fmt.Sprintf("pki-%d", id), fmt.Sprintf("pki-%d/moved", id), fmt.Sprintf("transit-%d", id)}
}

const ownEntries = 2

func newWorker(p *program, id int) (*worker, error) {
	w := &worker{program: p, id: id, random: rand.New(rand.NewPCG(uint64(id), uint64(time.Now().UnixNano()))), done: report{Facts: facts{}}}
	var err error
	if w.mount, err = p.Mount(context.Background(), team, paths(id)[0]); err != nil {
		return nil, err
	}
	w.done.Facts.acknowledged("path", paths(id)[0])
	w.done.Facts.acknowledged("grant", absent)
	w.done.Facts.acknowledged("other mount", absent)
	for i := range ownEntries {
		w.done.Facts.acknowledged(w.name(i), absent)
	}
	return w, nil
}

func (w *worker) name(i int) string { return fmt.Sprintf("own-%d-%d", w.id, i) }

// wrong notes what must not be.
func (w *worker) wrong(format string, args ...any) {
	w.done.Wrong = append(w.done.Wrong, fmt.Sprintf("worker %d: ", w.id)+fmt.Sprintf(format, args...))
}

// work makes changes until stop is closed.
func (w *worker) work(stop <-chan struct{}) report {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			w.done.Ended = time.Now()
			w.done.Acknowledged, w.done.Refused = w.acknowledged.Load(), w.refused.Load()
			return w.done
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 3*callTime)
		began := time.Now()
		var err error
		switch w.random.IntN(8) {
		case 0, 1, 2:
			err = w.changeEntry(ctx, w.name(w.random.IntN(ownEntries)))
		case 3, 4, 5:
			err = w.changeGrant(ctx)
		case 6:
			err = w.move(ctx)
		default:
			err = w.otherMount(ctx)
		}
		cancel()
		w.done.Longest = max(w.done.Longest, time.Since(began))
		if err == nil {
			w.acknowledged.Add(1)
		} else {
			w.refused.Add(1)
		}
	}
}

// check notes an error that says something else than that the engine was away or that another change was faster.
func (w *worker) check(what string, err error) error {
	if err != nil && !errors.Is(err, backend.ErrUnavailable) && !errors.Is(err, store.ErrConflict) {
		w.wrong("%s: an error of another kind: %v", what, err)
	}
	return err
}

func (w *worker) changeEntry(ctx context.Context, name string) error {
	f := w.done.Facts
	ref := named(name)
	handle, _ := w.Registry.Key(ctx, ref)
	switch w.random.IntN(4) {
	case 0:
		before := slices.Clone(f[name])
		err := w.Create(ctx, entry(name, fmt.Sprintf("key-%d", w.id)))
		f.note(name, signing, err)
		switch {
		case err == nil && !slices.Contains(before, absent):
			w.wrong("created %s, which was there", name)
		case errors.Is(err, backend.ErrKeyExists):
			if !f.may(name, signing, verifying) {
				w.wrong("create: %s is there although it was deleted", name)
			}
			return nil
		}
		return w.check("create", err)
	case 1:
		err := w.Delete(ctx, ref)
		if w.lost("delete", name, err) {
			return nil
		}
		f.note(name, absent, err)
		if err == nil && handle != nil && !errors.Is(signs(handle), backend.ErrKeyNotFound) {
			w.wrong("a handle of %s, which was deleted: %v", name, signs(handle))
		}
		return w.check("delete", err)
	default:
		in := entry(name, fmt.Sprintf("key-%d", w.id))
		state := signing
		if w.random.IntN(2) == 0 {
			state, in.Usages = verifying, backend.UsageVerify
		}
		err := w.Update(ctx, in)
		if w.lost("update", name, err) {
			return nil
		}
		f.note(name, state, err)
		if err == nil && handle != nil {
			if now := signs(handle); state == signing && now != nil || state == verifying && !errors.Is(now, backend.ErrNotPermitted) {
				w.wrong("a handle of %s, which was made %s: %v", name, state, now)
			}
		}
		return w.check("update", err)
	}
}

// lost reports whether an entry was not found, and notes if it had to be there.
func (w *worker) lost(what, name string, err error) bool {
	if !errors.Is(err, backend.ErrKeyNotFound) {
		return false
	}
	if !w.done.Facts.may(name, absent) {
		w.wrong("%s: %s was acknowledged and is not there: %v", what, name, err)
	}
	return true
}

func (w *worker) changeGrant(ctx context.Context) error {
	change, state := w.Grant, present
	if w.random.IntN(2) == 0 {
		change, state = w.Revoke, absent
	}
	err := change(ctx, w.mount, shared)
	w.done.Facts.note("grant", state, err)
	if err == nil {
		if now := mountSigns(ctx, w.mount); state == present && now != nil || state == absent && !errors.Is(now, backend.ErrNotPermitted) {
			w.wrong("the grant is %s, and a signature ends with %v", state, now)
		}
	}
	return w.check("grant or revoke", err)
}

func (w *worker) move(ctx context.Context) error {
	path := paths(w.id)[w.random.IntN(2)]
	err := w.Rename(ctx, w.mount, path)
	w.done.Facts.note("path", path, err)
	if errors.Is(err, backend.ErrKeyExists) && w.done.Facts.may("path", path) {
		return nil // a move that was not acknowledged happened
	}
	return w.check("rename", err)
}

// otherMount makes or removes a mount with a grant. That is more than one transaction.
func (w *worker) otherMount(ctx context.Context) error {
	f, path := w.done.Facts, paths(w.id)[2]
	m, err := w.OpenMount(team, path)
	if err != nil {
		m, err = w.Mount(ctx, team, path, shared)
		switch {
		case err == nil:
			f.acknowledged("other mount", present)
			if now := mountSigns(ctx, m); now != nil {
				w.wrong("a new mount: %v", now)
			}
		case errors.Is(err, backend.ErrKeyExists):
			if !f.may("other mount", present) {
				w.wrong("a mount that was removed is there: %v", err)
			}
			return nil
		default:
			f["other mount"] = []string{present, absent}
		}
		return w.check("mount", err)
	}
	err = w.Unmount(ctx, m)
	if err != nil {
		f["other mount"] = []string{present, absent}
		return w.check("unmount", err)
	}
	f.acknowledged("other mount", absent)
	if now := mountSigns(ctx, m); now == nil {
		w.wrong("a mount that was removed signs")
	}
	return nil
}

// confirm compares what workers were told with what is in the store.
func (r report) confirm(id int, in view) (wrong []string) {
	actual := facts{}
	for i := range ownEntries {
		name := fmt.Sprintf("own-%d-%d", id, i)
		actual[name] = []string{absent}
		if e, ok := in["entry "+name]; ok {
			actual[name] = []string{signing}
			if !containsUsage(e, backend.UsageDefault) {
				actual[name] = []string{verifying}
			}
		}
	}
	p := paths(id)
	for _, path := range p[:2] {
		if m, ok := in["mount "+path]; ok {
			actual["path"] = append(actual["path"], path)
			actual["grant"] = []string{absent}
			if containsSigns(m) {
				actual["grant"] = []string{present}
			}
		}
	}
	actual["other mount"] = []string{absent}
	if _, ok := in["mount "+p[2]]; ok {
		actual["other mount"] = []string{present}
	}
	for what, may := range r.Facts {
		if len(actual[what]) != 1 || !slices.Contains(may, actual[what][0]) {
			wrong = append(wrong, fmt.Sprintf("worker %d: %s is %v; it was told %v", id, what, actual[what], may))
		}
	}
	return wrong
}
