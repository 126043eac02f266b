package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// keysRoute returns what a path below sys/managed-keys can do.
func keysRoute(path []string) *route {
	switch {
	case len(path) == 1:
		return &route{list: listKeys}
	case len(path) == 2:
		return &route{read: readKey, write: writeKey, remove: deleteKey, exists: keyExists}
	case len(path) == 4 && path[2] == "test" && path[3] == "sign":
		return &route{write: testSign}
	}
	return nil
}

// key returns the type and the reference of the entry that the path names.
func (c *call) key() (kind string, ref namespace.Ref) {
	segments := splitTail(c.tail(2))
	return segments[0], namespace.Ref{Namespace: c.ns, Name: segments[1]}
}

// entry returns the entry that the path names. An entry of that name and another type is not meant.
func (c *call) entry() (managedkey.Entry, error) {
	kind, ref := c.key()
	e, err := c.api.keys.Entry(ref)
	if err == nil && e.Backend.Type() != kind {
		err = backend.ErrKeyNotFound
	}
	if errors.Is(err, backend.ErrKeyNotFound) {
		return e, errNothing
	}
	return e, err
}

func listKeys(c *call) (any, error) {
	kind := c.tail(2)
	var names []string
	for _, name := range c.api.keys.List(c.ns) {
		if e, err := c.api.keys.Entry(namespace.Ref{Namespace: c.ns, Name: name}); err == nil && e.Backend.Type() == kind {
			names = append(names, name)
		}
	}
	names, err := c.page(names)
	if err != nil {
		return nil, err
	}
	return map[string]any{"keys": names}, nil
}

func readKey(c *call) (any, error) {
	e, err := c.entry()
	if err != nil {
		return nil, err
	}
	data, err := managedkey.EncodeEntry(e)
	return json.RawMessage(data), err
}

func keyExists(c *call) bool {
	_, ref := c.key()
	_, err := c.api.keys.Entry(ref)
	return err == nil
}

// writeKey creates an entry, or makes one that is there what the body says.
func writeKey(c *call) (any, error) {
	kind, ref := c.key()
	data, err := readBody(c.r)
	if err != nil {
		return nil, err
	}
	now, err := c.api.keys.Entry(ref)
	there := err == nil
	// What is there may have come or gone since the caller was found to be allowed the one or the other.
	want := Create
	if there {
		want = Update
	}
	if err := c.demand(want); err != nil {
		return nil, err
	}
	if there && now.Backend.Type() != kind {
		return nil, refuse(http.StatusBadRequest, "there is a key of that name and of type %q; names are unique over all types", now.Backend.Type())
	}
	if len(data) == 0 {
		data = []byte("{}")
	}
	e, err := c.api.keys.DecodeEntry(ref, kind, data)
	if err != nil {
		return nil, err
	}
	if err := c.mayRefer(e.Params, now.Params, want); err != nil {
		return nil, err
	}
	if there {
		return nil, c.api.keys.Update(c.r.Context(), e)
	}
	// Should somebody have created it meanwhile, this is an error rather than an update: the caller may not be allowed to update.
	return nil, c.api.keys.Create(c.r.Context(), e)
}

func deleteKey(c *call) (any, error) {
	_, err := c.entry()
	if err == nil {
		_, ref := c.key()
		err = c.api.keys.Delete(c.r.Context(), ref)
	}
	switch {
	case errors.Is(err, backend.ErrKeyNotFound), errors.Is(err, errNothing):
		return nil, nil
	case errors.Is(err, backend.ErrNotPermitted): // a mount has it, which is no question of who asks
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	return nil, err
}

// testSign has the key sign random data.
func testSign(c *call) (any, error) {
	f, err := ReadFields(c.r)
	if err != nil {
		return nil, err
	}
	var opts managedkey.TestSignOptions
	f.Bool("use_pss", &opts.UsePSS)
	f.String("hash_algorithm", &opts.HashAlgorithm)
	if err := f.Done(); err != nil {
		return nil, err
	}
	if _, err := c.entry(); err != nil {
		return nil, err
	}
	_, ref := c.key()
	return nil, c.api.keys.TestSign(c.r.Context(), ref, &opts)
}
