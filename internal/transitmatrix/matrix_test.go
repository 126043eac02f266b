package transitmatrix

import (
	"errors"
	"flag"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/managedkeys/managedkeys/backend"
)

// dimension is something that an operation can be asked in several ways.
type dimension struct {
	name   string
	values []string
}

// operation is one that a key is asked for, in all combinations of its dimensions.
type operation struct {
	name       string
	row        string // of the README's table; "" if it isn't in there
	dimensions []dimension

	// do does it, checks what comes of it, and returns the error of the operation itself.
	do func(t *testing.T, p *place, k *key, c combination) error

	// applies tells with which keys a combination can be tried, or says something else than another one; nil means all.
	applies func(k *key, c combination) bool
}

// combination is one way to ask for an operation: a value of each dimension.
type combination struct {
	op     *operation
	values []string
}

// get returns the value of a dimension.
func (c combination) get(name string) string {
	for i, d := range c.op.dimensions {
		if d.name == name {
			return c.values[i]
		}
	}
	panic("operation " + c.op.name + " has no dimension " + name)
}

func (c combination) String() string {
	var b strings.Builder
	b.WriteString(c.op.name)
	for i, d := range c.op.dimensions {
		fmt.Fprintf(&b, " %s=%s", d.name, c.values[i])
	}
	return b.String()
}

// combinations returns all of op.
func (op *operation) combinations() []combination {
	all := []combination{{op: op}}
	for _, d := range op.dimensions {
		var longer []combination
		for _, c := range all {
			for _, value := range d.values {
				longer = append(longer, combination{op, append(slices.Clone(c.values), value)})
			}
		}
		all = longer
	}
	return all
}

// refusal says that keys refuse an operation, and with which words.
type refusal struct {
	keys   string // patterns of "place/row/key", separated by spaces
	what   string // operations, separated by commas, and "dimension=values" as far as it is not for all; "=!" is for the others
	reason string // stands in the error; {hash} is the hash that was asked for
}

// rule is a refusal for one key and operation.
type rule struct {
	index int // in refused
	takes []map[string]bool
}

// rules returns the refusals that are about a key and an operation, in their order.
func rules(p *place, k *key, op *operation) (all []rule) {
	for i, r := range refused {
		words := strings.Fields(r.what)
		if !matches(strings.Fields(r.keys), p.name+"/"+k.row+"/"+k.name) || !matches(strings.Split(words[0], ","), op.name) {
			continue
		}
		made := rule{i, make([]map[string]bool, len(op.dimensions))}
		for _, word := range words[1:] {
			name, patterns, _ := strings.Cut(word, "=")
			patterns, not := strings.CutPrefix(patterns, "!")
			d := slices.IndexFunc(op.dimensions, func(d dimension) bool { return d.name == name })
			if d < 0 {
				panic(fmt.Sprintf("refusal %q: operation %s has no dimension %s", r.what, op.name, name))
			}
			made.takes[d] = make(map[string]bool)
			for _, value := range op.dimensions[d].values {
				made.takes[d][value] = matches(strings.Split(patterns, ","), value) != not
			}
		}
		all = append(all, made)
	}
	return all
}

func matches(patterns []string, text string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(pattern, text)
		if err != nil {
			panic(err)
		}
		return ok
	})
}

func (r rule) takesAll(c combination) bool {
	for i, takes := range r.takes {
		if takes != nil && !takes[c.values[i]] {
			return false
		}
	}
	return true
}

type starting struct {
	name  string
	start func(t *testing.T) *place
}

var (
	local  = []starting{{"types", softTypes}, {"software", managedSoftware}, {"pkcs11", token}}
	places = append(local, starting{"awskms", aws}, starting{"azurekeyvault", vault}, starting{"managedhsm", hsm}, starting{"gcpckms", google})
)

var surprises = flag.Bool("surprises", false, "list what the table of refusals doesn't say, by key and error, and nothing else")

// results are what came of a place: how often each refusal was met, and which rows of the table work with which kinds of key.
type results struct {
	sync.Mutex
	met   map[int]int
	works map[string]map[string]map[string]bool // by row, place and kind
	kinds map[string]map[string]bool            // that there are, by place
	done  int                                   // combinations that work
}

func newResults() *results {
	return &results{met: make(map[int]int), works: make(map[string]map[string]map[string]bool), kinds: make(map[string]map[string]bool)}
}

// worked notes that a combination works.
func (r *results) worked(p *place, k *key, c combination) {
	r.done++
	rows := []string{c.op.row}
	switch {
	case c.op.name == "encrypt" && c.get("associated") != "":
		rows = append(rows, rowAssociated)
	case c.op.name == "random" && c.get("source") != "managed_key":
		return // everybody can
	}
	for _, row := range rows {
		if r.works[row] == nil {
			r.works[row] = make(map[string]map[string]bool)
		}
		if r.works[row][p.name] == nil {
			r.works[row][p.name] = make(map[string]bool)
		}
		r.works[row][p.name][k.row] = true
	}
}

// has notes that there is a kind of key.
func (r *results) has(p *place, k *key) {
	r.Lock()
	defer r.Unlock()
	if r.kinds[p.name] == nil {
		r.kinds[p.name] = make(map[string]bool)
	}
	r.kinds[p.name][k.row] = true
}

// TestMatrix asks each key for each operation in each way. What works is checked independently of the library; the rest must be refused
// for the reason that stands in the table, before the key manager is asked.
func TestMatrix(t *testing.T) {
	all := newResults()
	t.Run("places", func(t *testing.T) {
		for i, start := range places {
			if raceEnabled && i >= len(local) {
				continue // the services are for runs without it
			}
			t.Run(start.name, func(t *testing.T) {
				t.Parallel()
				p := start.start(t)
				for _, k := range p.keys {
					t.Run(k.name, func(t *testing.T) { all.try(t, p, k) })
				}
			})
		}
	})
	if t.Failed() || len(all.kinds) < len(places) { // -run has chosen some
		return
	}
	refusals := 0
	for i, r := range refused {
		refusals += all.met[i]
		if all.met[i] == 0 {
			t.Errorf("refusal %q of %q was never met; is it true?", r.what, r.keys)
		}
	}
	t.Logf("%d combinations work, and %d are refused", all.done, refusals)
	checkTable(t, all)
}

// try asks one key for everything.
func (r *results) try(t *testing.T, p *place, k *key) {
	r.has(p, k)
	for i := range operations {
		op := &operations[i]
		rules := rules(p, k, op)
		found := make(map[string][]string) // surprises by error
		for _, c := range op.combinations() {
			if op.applies != nil && !op.applies(k, c) {
				continue
			}
			i := slices.IndexFunc(rules, func(r rule) bool { return r.takesAll(c) })
			p.begin()
			err := op.do(t, p, k, c)
			if *surprises {
				if err != nil && (i < 0 || !strings.Contains(err.Error(), k.reason(c, refused[rules[i].index].reason))) {
					found[err.Error()] = append(found[err.Error()], c.String())
				} else if err == nil && i >= 0 {
					found["works"] = append(found["works"], c.String())
				}
				continue
			}
			r.Lock()
			switch {
			case err == nil && i < 0:
				r.worked(p, k, c)
			case i >= 0:
				r.met[rules[i].index]++
			}
			r.Unlock()
			switch {
			case i < 0 && err != nil:
				t.Errorf("%s: %v", c, err)
			case i >= 0 && err == nil:
				t.Errorf("%s: it works, although the table of refusals has %q", c, refused[rules[i].index].reason)
			case i >= 0:
				checkRefusal(t, p, c, err, k.reason(c, refused[rules[i].index].reason))
			}
		}
		for text, all := range found {
			t.Errorf("SURPRISE %s: %d of %s: %s\n\tfirst: %s\n\tlast: %s", op.name, len(all), k.name, text, all[0], all[len(all)-1])
		}
	}
}

// reason completes the reason of a refusal of c.
func (k *key) reason(c combination, reason string) string {
	if !strings.Contains(reason, "{hash}") {
		return reason
	}
	h := k.manner(c.get("hash"), c.get("scheme"), "").hash
	if h == 0 {
		h = hashes[c.get("hash")]
	}
	return strings.ReplaceAll(reason, "{hash}", h.String())
}

// checkRefusal checks that an error is a refusal for that reason, and that it was told without asking the key manager.
func checkRefusal(t *testing.T, p *place, c combination, err error, reason string) {
	t.Helper()
	assert.ErrorContains(t, err, reason, "%s", c)
	if !errors.Is(err, backend.ErrUnsupported) && !errors.Is(err, backend.ErrInvalidParams) {
		t.Errorf("%s: %v; want ErrUnsupported or ErrInvalidParams", c, err)
	}
	if text := err.Error(); !strings.HasPrefix(text, "transit: ") || strings.Count(text, "transit: ") != 1 {
		t.Errorf("%s: %q; want \"transit: \" at the beginning and nowhere else", c, text)
	}
	p.made(t, 0)
}
