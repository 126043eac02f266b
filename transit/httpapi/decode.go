package httpapi

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/internal/nearest"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
)

// form is what a member of a request takes.
type form uint8

const (
	text   form = iota // a string
	mixed              // a string or a number, as it is written
	data               // a string, in base64
	number             // a whole number, which may be a string
	flag               // true or false, which may be a string
	list               // batch_input
	unset              // nothing that says anything: there is no such setting here
	named              // what stands in the path as well, and there it counts
)

// slot is where a member is stored.
type slot uint8

const (
	none slot = iota

	// of each item
	inputSlot
	contextSlot
	nonceSlot
	associatedSlot
	ciphertextSlot
	signatureSlot
	hmacSlot
	cmacSlot
	referenceSlot
	paddingSlot
	newPaddingSlot // of what is encrypted again
	versionSlot

	// of the request
	batchSlot
	hashSlot
	legacySlot // the hash as well
	schemeSlot
	saltSlot
	marshalingSlot
	signatureContextSlot
	prehashedSlot
	typeSlot
	convergentSlot
	statusSlot
	lengthSlot
)

// member is a name that an object may have, and what it means.
type member struct {
	name string
	form form
	slot slot
}

// members are those of an object, by name.
type members map[string]member

func takes(all ...member) members {
	m := make(members, len(all))
	for _, one := range all {
		m[one.name] = one
	}
	return m
}

// with returns the members of both.
func (m members) with(all ...member) members {
	both := maps.Clone(m)
	maps.Copy(both, takes(all...))
	return both
}

// item is one thing to do.
type item struct {
	input, context, nonce, associated []byte
	value                             string // ciphertext, signature or MAC
	reference                         string
	padding, newPadding               string
	version                           int

	given uint32 // a bit for each slot
	bad   error  // base64 that could not be decoded, for the item alone
}

func (it *item) has(s slot) bool { return it.given&(1<<s) != 0 }

// request is what a client asks of an operation that has batches. Where there is a batch, the item of the request itself has only
// what is common to all.
type request struct {
	item
	items []item // nil if it is no batch

	hash, legacy, scheme, salt, marshaling, signatureContext, keyType string
	prehashed, convergent                                             bool
	status, length                                                    int
}

// decoder makes a request of a body.
type decoder struct {
	scanner
	request
	common, each members // of the request and of an item
	maxItems     int
	bytes        []byte // what base64 was decoded to; all of it fits from the beginning
}

// decode returns the request of a body; an empty one if there is none. The error is an *httpapi.Error that says which item and which
// field is wrong, and no value.
func decode(body []byte, common, each members, maxItems int) (*request, error) {
	if len(body) == 0 {
		return new(request), nil
	}
	d := &decoder{scanner: scanner{data: body}, common: common, each: each, maxItems: maxItems}
	err := d.object(func(name []byte) error { return d.member(&d.item, d.common, name) })
	if err == nil {
		err = d.end()
	}
	if err != nil {
		return nil, malformed(err)
	}
	return &d.request, nil
}

// malformed returns the answer to an error of a scanner or a decoder.
func malformed(err error) error {
	if answer, ok := errors.AsType[*httpapi.Error](err); ok {
		return answer
	}
	return httpapi.Errorf(http.StatusBadRequest, "failed to decode JSON input: %v", err)
}

// member reads the value of a member into it, or into the request.
func (d *decoder) member(it *item, takes members, name []byte) error {
	m, known := takes[string(name)]
	if !known {
		return unknown(string(name), slices.Sorted(maps.Keys(takes)))
	}
	if it.has(m.slot) && m.slot != none {
		return refuse("failed to decode JSON input: field %s is given twice", m.name)
	}
	it.given |= 1 << m.slot
	c, err := d.next()
	switch {
	case err != nil:
		return err
	case c == 'n':
		it.given &^= 1 << m.slot
		return d.null()
	case m.form == list:
		return d.batch()
	case c == '"':
		value, err := d.string()
		if err != nil {
			return err
		}
		return d.store(it, m, value, true)
	case c == '{' || c == '[':
		return d.empty(m)
	}
	word, err := d.word()
	if err != nil {
		return err
	}
	return d.store(it, m, word, false)
}

func refuse(format string, args ...any) error {
	return httpapi.Errorf(http.StatusBadRequest, format, args...)
}

func unknown(name string, known []string) error {
	hint := ""
	if near := nearest.Name(name, known); near != "" {
		hint = " (is it " + near + "?)"
	}
	return refuse("field %.60q is unknown%s; there are: %s", name, hint, strings.Join(known, ", "))
}

// wrong is the answer to a value of the wrong form.
func (m member) wrong() error {
	return refuse("field %s: it takes %s", m.name, [...]string{text: "a string", mixed: "a string or a number", data: "a string in base64",
		number: "a whole number", flag: "true or false", list: "a list of objects",
		unset: "no value here: this server has no such setting", named: "a string"}[m.form])
}

// null consumes null.
func (d *decoder) null() error {
	word, err := d.word()
	if err == nil && string(word) != "null" {
		err = errSyntax
	}
	return err
}

// empty consumes an array or object that must have nothing in it, for members that take nothing.
func (d *decoder) empty(m member) error {
	if m.form != unset {
		return m.wrong()
	}
	end := d.data[d.pos] + 2 // ']' and '}' come two after '[' and '{' in ASCII
	d.pos++
	if c, err := d.next(); err != nil || c != end {
		return m.wrong()
	}
	d.pos++
	return nil
}

// batch consumes the items of a batch.
func (d *decoder) batch() error {
	if c, err := d.next(); err != nil || c != '[' {
		return member{name: "batch_input", form: list}.wrong()
	}
	d.pos++
	d.items = []item{}
	begin := d.pos
	for first := true; ; first = false {
		more, err := d.more(']', first)
		if err != nil || !more {
			return err
		}
		if len(d.items) == d.maxItems {
			return refuse("field batch_input: it takes at most %d items", d.maxItems)
		}
		at := len(d.items)
		if at == 1 { // the others are about as long as the first, which spares the list from growing
			d.items = slices.Grow(d.items, min(d.maxItems-1, (len(d.data)-begin)/(d.pos-begin)))
		}
		d.items = append(d.items, item{})
		if c, err := d.next(); err == nil && c != '{' {
			return refuse("field batch_input: item %d: it takes an object", at)
		}
		err = d.object(func(name []byte) error { return d.member(&d.items[at], d.each, name) })
		if answer, ok := errors.AsType[*httpapi.Error](err); ok {
			return refuse("field batch_input: item %d: %s", at, answer.Messages[0])
		}
		if err != nil {
			return err
		}
	}
}
