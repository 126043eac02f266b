package managedkey

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// element is what the index under test holds. Few hashes make many collisions.
type element struct {
	name string
	hash uint64
}

func findElement(x *index[element], name string, hash uint64) *element {
	return x.find(hash, func(e *element) bool { return e.name == name })
}

func hashElement(e *element) uint64 { return e.hash }

// TestIndexIsAMap compares the index with a Go map after each step. The zero element's name is among those looked for,
// since a slot whose element was removed holds a zero element.
func TestIndexIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x index[element]
		model := map[string]*element{}
		hashes := rapid.Uint64Range(1, 64).Draw(t, "hashes")
		number := rapid.IntRange(0, 40)
		name := func() (string, uint64) {
			n := number.Draw(t, "element")
			if n == 0 {
				return "", 0
			}
			return fmt.Sprint(n), uint64(n) % hashes * 0x9e3779b97f4a7c15
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				name, hash := name()
				if model[name] != nil {
					t.Skip("there")
				}
				model[name] = &element{name, hash}
				x.add(model[name], hashElement)
			},
			"remove": func(t *rapid.T) {
				name, hash := name()
				if model[name] == nil {
					t.Skip("not there")
				}
				x.remove(model[name], hash)
				delete(model, name)
			},
			"clear": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "really") == 0 {
					x.clear()
					clear(model)
				}
			},
			"": func(t *rapid.T) {
				if got := findElement(&x, "", 0); got != model[""] {
					t.Fatalf("find of the empty name gave %v, want %v", got, model[""])
				}
				for n := range 41 {
					name, hash := fmt.Sprint(n), uint64(n)%hashes*0x9e3779b97f4a7c15
					if got := findElement(&x, name, hash); got != model[name] {
						t.Fatalf("find(%s) gave %v, want %v", name, got, model[name])
					}
				}
				n := 0
				for e := range x.all {
					if n++; model[e.name] != e {
						t.Fatalf("all has %v", e)
					}
				}
				if n != len(model) || x.live != n || x.used < n {
					t.Fatalf("all has %d elements, live %d, used %d; want %d", n, x.live, x.used, len(model))
				}
				if table := x.table.Load(); (table == nil) != (n == 0) || table != nil && 4*x.used > 3*len(table.slots) {
					t.Fatalf("%d slots are used by %d elements", x.used, n)
				}
			},
		})
	})
}

// TestIndexStaysSmall adds and removes elements for long without holding many at a time.
func TestIndexStaysSmall(t *testing.T) {
	var x index[element]
	keep := &element{"keep", 1}
	x.add(keep, hashElement)
	for i := range 10_000 {
		e := &element{fmt.Sprint(i), uint64(i) * 0x9e3779b97f4a7c15}
		x.add(e, hashElement)
		x.remove(e, e.hash)
	}
	if slots := len(x.table.Load().slots); slots != minSlots || findElement(&x, "keep", 1) != keep {
		t.Errorf("%d slots for one element", slots)
	}
	for range x.all {
		break // a caller may stop
	}
}

// TestIndexReaders look for elements that stay while others come and go.
func TestIndexReaders(t *testing.T) {
	var x index[element]
	stays := make([]*element, 20)
	for i := range stays {
		stays[i] = &element{fmt.Sprint("stays", i), uint64(i)}
		x.add(stays[i], hashElement)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				for i, want := range stays {
					if got := findElement(&x, want.name, uint64(i)); got != want {
						t.Errorf("find(%s) gave %v", want.name, got)
						return
					}
				}
			}
		})
	}
	for round := range 200 {
		var others []*element
		for i := range round {
			others = append(others, &element{fmt.Sprint("other", i), uint64(i)})
			x.add(others[i], hashElement)
		}
		for _, e := range others {
			x.remove(e, e.hash)
		}
	}
	stop.Store(true)
	wg.Wait()
}
