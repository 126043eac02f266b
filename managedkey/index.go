package managedkey

import "sync/atomic"

// index is a hash table of pointers that is read without a lock: readers never wait, neither for writers nor for one
// another. It holds no keys of its own, since its elements know their names, and so costs 8 bytes per slot.
//
// Collisions are resolved by linear probing. The zero value is an empty index.
//
// Writers hold the lock that the index belongs to; they alone use live and used. A reader may meet an element that is
// being removed, or miss one that is being added, as if it had come a moment earlier: elements tell themselves whether
// they are still valid.
type index[T any] struct {
	table atomic.Pointer[table[T]] // nil if there is no element
	live  int                      // slots with an element
	used  int                      // slots that are not nil
}

type table[T any] struct {
	slots   []atomic.Pointer[T] // a power of two of them; at least one is nil, which ends every search
	removed T                   // its address stands in slots whose element was removed
}

const minSlots = 8

// find returns the element with that hash that match accepts, or nil.
func (x *index[T]) find(hash uint64, match func(*T) bool) *T {
	t := x.table.Load()
	if t == nil {
		return nil
	}
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		switch element := t.slots[i].Load(); {
		case element == nil:
			return nil
		case element != &t.removed && match(element):
			return element
		}
	}
}

// add puts an element that is not yet there. hashOf returns the hash of any element.
func (x *index[T]) add(element *T, hashOf func(*T) uint64) {
	t := x.table.Load()
	if t == nil || 4*(x.used+1) > 3*len(t.slots) {
		t = x.resize(hashOf)
	}
	if t.place(element, hashOf(element)) {
		x.used++
	}
	x.live++
}

// place puts element in the first slot that is free, and reports whether that was a nil one.
func (t *table[T]) place(element *T, hash uint64) bool {
	mask := uint64(len(t.slots) - 1)
	i := hash & mask
	for {
		if old := t.slots[i].Load(); old == nil || old == &t.removed {
			t.slots[i].Store(element)
			return old == nil
		}
		i = (i + 1) & mask
	}
}

// resize moves all elements to a new table that is at most three quarters full when another one is added.
func (x *index[T]) resize(hashOf func(*T) uint64) *table[T] {
	size := minSlots
	for 4*(x.live+1) > 3*size {
		size *= 2
	}
	t := &table[T]{slots: make([]atomic.Pointer[T], size)}
	for element := range x.all {
		t.place(element, hashOf(element))
	}
	x.used = x.live
	x.table.Store(t)
	return t
}

// remove takes out element, which must be there.
func (x *index[T]) remove(element *T, hash uint64) {
	t := x.table.Load()
	mask := uint64(len(t.slots) - 1)
	i := hash & mask
	for t.slots[i].Load() != element {
		i = (i + 1) & mask
	}
	t.slots[i].Store(&t.removed)
	if x.live--; x.live == 0 {
		x.clear()
	}
}

// clear takes out all elements.
func (x *index[T]) clear() {
	x.table.Store(nil)
	x.live, x.used = 0, 0
}

// all yields the elements in no order.
func (x *index[T]) all(yield func(*T) bool) {
	t := x.table.Load()
	if t == nil {
		return
	}
	for i := range t.slots {
		if element := t.slots[i].Load(); element != nil && element != &t.removed && !yield(element) {
			return
		}
	}
}
