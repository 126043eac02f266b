package managedkey

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// MaxKeyVersions is how many versions of its key an entry can have at one time. [Registry.Trim] makes room.
const MaxKeyVersions = 500

// OlderVersion is a version of an entry's key that is not the newest any more.
type OlderVersion struct {
	// Version is its number: the first key of an entry has 1.
	Version int

	// Backend, Connection, Params and PublicKeySHA256 are as in Entry.
	Backend         backend.Backend
	Connection      string
	Params          backend.Params
	PublicKeySHA256 []byte
}

// window is which versions of a key may be used.
type window struct{ decryption, encryption uint32 }

// usageNew is a usage of ours: to make something that was not there before. Usages other than mac say that by themselves.
const usageNew = backend.UsageDerive << 1

// madeNew are the usages that make something which the newest version could as well make.
const madeNew = backend.UsageSign | backend.UsageEncrypt | backend.UsageWrap | usageNew

// limit returns what of usages the version of that number may do.
func (w *window) limit(usages backend.Usage, number uint32) backend.Usage {
	switch {
	case w == nil:
		return usages
	case number < w.decryption:
		return 0
	case number < w.encryption:
		return usages &^ madeNew
	}
	return usages
}

// reason says why limit took usages away, or "".
func (w *window) reason(number uint32) string {
	switch {
	case w == nil:
	case number < w.decryption:
		return fmt.Sprintf("version %d is below min_decryption_version, %d", number, w.decryption)
	case number < w.encryption:
		return fmt.Sprintf("version %d is below min_encryption_version, %d", number, w.encryption)
	}
	return ""
}

// newWindow returns what the fields of an entry say whose newest version is number; nil if they exclude none.
func newWindow(in *Entry, number uint32) (*window, error) {
	dec, enc, newest := in.MinDecryptionVersion, in.MinEncryptionVersion, int(number)
	switch {
	case dec < 0 || dec > newest:
		return nil, fmt.Errorf("field MinDecryptionVersion is %d; it takes 0 to %d, the newest version: %w", dec, newest, backend.ErrInvalidParams)
	case enc < 0 || enc > newest:
		return nil, fmt.Errorf("field MinEncryptionVersion is %d; it takes 0 to %d, the newest version: %w", enc, newest, backend.ErrInvalidParams)
	case enc != 0 && enc < dec:
		return nil, fmt.Errorf("field MinEncryptionVersion is %d, below MinDecryptionVersion, %d: %w", enc, dec, backend.ErrInvalidParams)
	case dec <= 1 && enc <= 1:
		return nil, nil
	}
	return &window{uint32(dec), uint32(enc)}, nil
}

// lineage are the versions of an entry's key before the newest, which has the number after theirs. That of an older version
// has no more than its number. It is immutable.
type lineage struct {
	first uint32 // number of older[0]
	older []older
}

// older is a version that is not the newest.
type older struct {
	entry      *entry
	connection string
	asked      *state // as in keptEntry
}

// number returns the number of the newest version.
func (e *entry) number() uint32 {
	if l := e.lineage.Load(); l != nil {
		return l.first + uint32(len(l.older))
	}
	return 1
}

// version returns what holds the version of that number: e itself for the newest, an older one, or nil.
func (e *entry) version(number int) *entry {
	l := e.lineage.Load()
	switch {
	case number == int(e.number()):
		return e
	case l == nil || number < int(l.first) || number > int(l.first)+len(l.older):
		return nil
	}
	if i := number - int(l.first); i < len(l.older) {
		return l.older[i].entry
	}
	return e // it was the newest a moment ago
}

func (l *lineage) export() []OlderVersion {
	if l == nil {
		return nil
	}
	var out []OlderVersion
	for i, o := range l.older {
		st := o.entry.state.Load()
		v := OlderVersion{
			Version: int(l.first) + i, Backend: st.backend, Connection: o.connection, Params: st.params, PublicKeySHA256: pinBytes(st.pin),
		}
		if o.asked != nil {
			v.Backend, v.Params = o.entry.space.registry.renewed(o.asked.backend), o.asked.params
		}
		out = append(out, v)
	}
	return out
}

// put makes next the state of the entry, and its policy that of all versions; space.mu is held.
func (e *entry) put(next *state) {
	e.state.Store(next)
	l := e.lineage.Load()
	if l == nil {
		return
	}
	for i, o := range l.older {
		st := *o.entry.state.Load()
		st.govern(next, l.first+uint32(i))
		o.entry.state.Store(&st)
	}
}

// govern gives the state of an older version the policy of the newest. No key is ever made in its place.
func (s *state) govern(newest *state, number uint32) {
	s.window, s.usages = newest.window, newest.window.limit(newest.usages, number)
	s.bits = newest.bits &^ (allowGenerate | allowReplace | allowStore)
}

// succeed makes next the newest version of the entry's key, and what was the newest an older one, which its handles follow;
// space.mu is held. exact are the parameters of the version that becomes an older one.
func (e *entry) succeed(next *state, exact backend.Params, connection string) {
	now, number := e.state.Load(), e.number()
	o := e.older(number)
	past := *now
	past.params = exact
	past.govern(next, number)
	o.state.Store(&past)
	if past.bound != nil {
		past.bound.entry.Store(o) // before the entry itself has another key, so that the handles find theirs
	}
	l := &lineage{first: number}
	if was := e.lineage.Load(); was != nil {
		l = &lineage{was.first, slices.Clone(was.older)} // readers have the one that was
	}
	l.older = append(l.older, older{o, connection, nil})
	next.version = now.version + 1
	e.lineage.Store(l)
	e.put(next)
}

// older returns an entry for the older version of that number.
func (e *entry) older(number uint32) *entry {
	o := &entry{name: e.name, id: e.id, space: e.space, kept: e.kept}
	o.lineage.Store(&lineage{first: number})
	return o
}

// trim takes the versions below first out of the entry and ends their handles; space.mu is held.
func (e *entry) trim(first uint32) {
	l := e.lineage.Load()
	if l == nil || first <= l.first {
		return
	}
	n := min(int(first-l.first), len(l.older))
	for _, o := range l.older[:n] {
		o.entry.state.Store(deletedState)
	}
	e.lineage.Store(&lineage{l.first + uint32(n), l.older[n:]})
}

// newLineage returns the number of the first of the older versions of in, and their states. It fills in the number of the
// newest, and its window.
func newLineage(in *Entry, newest *state) (first uint32, past []*state, err error) {
	if first, err = firstVersion(in); err != nil {
		return 0, nil, err
	}
	in.KeyVersion = int(first) + len(in.Older)
	if newest.window, err = newWindow(in, uint32(in.KeyVersion)); err != nil {
		return 0, nil, err
	}
	for _, v := range in.Older {
		st, err := newOlder(in, &v)
		if err != nil {
			return 0, nil, err
		}
		st.govern(newest, uint32(v.Version))
		past = append(past, st)
	}
	return first, past, nil
}

// newOlder returns the state of an older version of in, still without policy.
func newOlder(in *Entry, v *OlderVersion) (*state, error) {
	if !isNil(v.Backend) && v.Backend.Type() != in.Backend.Type() {
		return nil, fmt.Errorf("field Older, version %d: backend %q; the entry has %q: %w", v.Version, v.Backend.Type(), in.Backend.Type(), backend.ErrInvalidParams)
	}
	st, err := newState(&Entry{Ref: in.Ref, Backend: v.Backend, Params: v.Params, PublicKeySHA256: v.PublicKeySHA256})
	if err != nil {
		return nil, fmt.Errorf("field Older, version %d: %w", v.Version, err)
	}
	return st, nil
}

// firstVersion checks the numbers of the versions of in, and returns the first.
func firstVersion(in *Entry) (uint32, error) {
	newest := in.KeyVersion
	if len(in.Older) > 0 && newest == 0 {
		newest = in.Older[len(in.Older)-1].Version + 1
	}
	newest = max(newest, 1)
	first := newest - len(in.Older)
	if len(in.Older) >= MaxKeyVersions {
		return 0, fmt.Errorf("field Older has %d versions; it takes %d: %w", len(in.Older), MaxKeyVersions-1, backend.ErrInvalidParams)
	}
	if in.KeyVersion < 0 || first < 1 || newest > maxVersion {
		return 0, fmt.Errorf("field KeyVersion is %d with %d older versions; versions are 1 to %d: %w", in.KeyVersion, len(in.Older), maxVersion, backend.ErrInvalidParams)
	}
	for i, v := range in.Older {
		if v.Version != first+i {
			return 0, fmt.Errorf("field Older has version %d where %d is expected: they are in order, without gaps, and end before KeyVersion: %w", v.Version, first+i, backend.ErrInvalidParams)
		}
	}
	return uint32(first), nil
}

const maxVersion = 1 << 30

// inherit gives a new entry its older versions; space.mu is held.
func (e *entry) inherit(first uint32, past []*state, in *Entry) {
	if in.KeyVersion == 1 {
		return
	}
	l := &lineage{first: first}
	for i, st := range past {
		o := e.older(first + uint32(i))
		o.state.Store(st)
		l.older = append(l.older, older{o, in.Older[i].Connection, nil})
	}
	e.lineage.Store(l)
}

// KeyVersion returns a handle to one version of the key, as [Registry.Key] does to the newest. It opens the version if that was
// not done before; an older one is never generated. The error wraps backend.ErrKeyNotFound if there is no such version.
func (r *Registry) KeyVersion(ctx context.Context, ref namespace.Ref, version int) (*Key, error) {
	e, err := r.lookup("open", ref)
	if err != nil {
		return nil, r.refused(ctx, ref, nil, err)
	}
	st, err := e.openVersion(ctx, nil, version)
	if err != nil {
		return nil, fail("open", ref, e.kind(), err)
	}
	return &st.bound.handle, nil
}

// KeyVersion returns a handle to one version of a key, as [Registry.KeyVersion] does, for this mount.
func (m *Mount) KeyVersion(ctx context.Context, nameOrUUID string, version int) (*Key, error) {
	return m.opened(ctx, nameOrUUID, func(e *entry) (*state, error) { return e.openVersion(ctx, m, version) })
}

// KeyFor returns a handle to the version of a key that has this public key, the newest or an older one. Versions
// whose public key isn't known yet are opened to see it. The error is that of [Mount.Key], or wraps backend.ErrKeyChanged if no
// version has it.
func (m *Mount) KeyFor(ctx context.Context, nameOrUUID string, public crypto.PublicKey) (*Key, error) {
	pin, err := backend.Fingerprint(public)
	if err != nil {
		return nil, m.fail("open", nameOrUUID, "", err)
	}
	return m.opened(ctx, nameOrUUID, func(e *entry) (*state, error) { return e.openPinned(ctx, m, pin) })
}

// openPinned returns the state of the version that has the pin, with an open key, for a handle of m. Versions that nobody has seen
// yet are opened to see whether they have it.
func (e *entry) openPinned(ctx context.Context, m *Mount, pin [sha256.Size]byte) (*state, error) {
	refusal := fmt.Errorf("no version of the key has the public key with SHA-256 %x: %w", pin, backend.ErrKeyChanged)
	tried := make(map[uint32]bool)
	for {
		v, st := e.pinned(pin)
		if v == nil {
			number, unseen := e.unseen(tried)
			if unseen == nil {
				return nil, e.refused(ctx, m, refusal)
			}
			if _, err := unseen.opening(ctx, m, unseen.open); err != nil {
				refusal = fmt.Errorf("version %d: %w", number, err)
			}
			tried[number] = true
			continue
		}
		if st.key == nil {
			var err error
			if st, err = v.opening(ctx, m, v.open); err != nil {
				return nil, err
			}
		}
		if st.bound.pin != nil && *st.bound.pin == pin { // it may have become an older one meanwhile
			return st, nil
		}
	}
}

// unseen returns the newest version whose key was never opened, and its number, but none of tried; or nil.
func (e *entry) unseen(tried map[uint32]bool) (uint32, *entry) {
	e.space.mu.Lock()
	defer e.space.mu.Unlock()
	for n := e.number(); ; n-- {
		v := e.version(int(n))
		if v == nil {
			return 0, nil
		}
		if st := v.state.Load(); st.key == nil && st.pin == nil && !tried[n] {
			return n, v
		}
	}
}

// pinned returns the version that has the pin, and its state; or nil.
func (e *entry) pinned(pin [sha256.Size]byte) (*entry, *state) {
	e.space.mu.Lock()
	defer e.space.mu.Unlock()
	for n := int(e.number()); ; n-- {
		v := e.version(n)
		if v == nil {
			return nil, nil
		}
		if st := v.state.Load(); st.pin != nil && *st.pin == pin {
			return v, st
		}
	}
}

func (m *Mount) opened(ctx context.Context, nameOrUUID string, open func(*entry) (*state, error)) (*Key, error) {
	e := m.space.resolve(nameOrUUID)
	if e == nil {
		return nil, m.refused(ctx, nameOrUUID, m.fail("open", nameOrUUID, "", m.absent()))
	}
	s := m.seat(e)
	if s == nil || !s.admits(e.state.Load()) {
		var err error
		if s, err = m.take(e); err != nil {
			return nil, m.refused(ctx, nameOrUUID, m.fail("open", nameOrUUID, e.kind(), err))
		}
	}
	st, err := open(e)
	if err != nil {
		return nil, m.fail("open", nameOrUUID, e.kind(), err)
	}
	return &Key{bound: st.bound, seat: s}, nil
}

// openVersion returns the state of a version with an open key, for a handle of m, or of the registry if m is nil.
func (e *entry) openVersion(ctx context.Context, m *Mount, version int) (*state, error) {
	for {
		v := e.version(version)
		if v == nil {
			return nil, e.refused(ctx, m, fmt.Errorf("no version %d; the newest is %d: %w", version, e.number(), backend.ErrKeyNotFound))
		}
		st := v.state.Load()
		if st.key == nil {
			var err error
			if st, err = v.opening(ctx, m, v.open); err != nil {
				return nil, err
			}
		}
		if int(st.bound.number) == version { // it may have become an older one meanwhile
			return st, nil
		}
	}
}
