package managedkey

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// Connection is a Backend under a name, so that entries in a store can say which one they mean. Credentials and endpoints
// are then in one place; entries say only which key. A Backend whose parameters have those too, as awskms.Connect's do,
// serves entries in the flat form of the managed-keys API.
type Connection struct {
	// Name is 1 to 64 lower-case letters, digits, "-" and "_"; the backend's type if it is empty.
	Name string

	// Backend must implement backend.ParamsDecoder. It remains the program's, which closes it after the registry.
	Backend backend.Backend

	// Namespaces are those whose entries may use the connection, with all the namespaces in them; nil means every one.
	Namespaces []namespace.Path

	former []backend.Backend // those that Reconnect replaced, the last of them last
}

// connections are those of a registry with a store, by name. It is immutable.
type connections map[string]Connection

func newConnections(all []Connection) (connections, error) {
	out := make(connections, len(all))
	for i, c := range all {
		refuse := func(format string, args ...any) (connections, error) {
			return nil, fmt.Errorf("connection %d, %.40q: %s: %w", i, c.Name, fmt.Sprintf(format, args...), backend.ErrInvalidParams)
		}
		if isNil(c.Backend) {
			return refuse("field Backend is nil")
		}
		if c.Name == "" {
			c.Name = c.Backend.Type()
		}
		if _, ok := c.Backend.(backend.ParamsDecoder); !ok {
			return refuse("backend %q is no backend.ParamsDecoder, so that its entries could not be read back", c.Backend.Type())
		}
		bad := func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}
		if len(c.Name) > 64 || strings.ContainsFunc(c.Name, bad) {
			return refuse(`field Name takes 1 to 64 lower-case letters, digits, "-" and "_"`)
		}
		if _, twice := out[c.Name]; twice {
			return refuse("there is another one of that name")
		}
		for _, ns := range c.Namespaces {
			if err := ns.Validate(); err != nil {
				return refuse("field Namespaces: %v", err)
			}
		}
		c.Namespaces = slices.Clone(c.Namespaces)
		out[c.Name] = c
	}
	return out, nil
}

// names lists the connections for an error.
func (c connections) names() string { return strings.Join(slices.Sorted(maps.Keys(c)), ", ") }

// admits reports whether entries of the namespace may use the connection.
func (c Connection) admits(ns namespace.Path) bool {
	return c.Namespaces == nil || slices.ContainsFunc(c.Namespaces, func(p namespace.Path) bool { return p.Contains(ns) })
}

// is reports whether b is the connection's backend, or was until a moment ago: an entry that was read then may be written back.
func (c Connection) is(b backend.Backend) bool {
	return sameBackend(c.Backend, b) || slices.ContainsFunc(c.former, func(f backend.Backend) bool { return sameBackend(f, b) })
}

// complete fills in which connection of the namespace is meant and its backend, whichever of the two is given.
func (c connections) complete(ns namespace.Path, connection *string, b *backend.Backend) error {
	if *connection == "" && !isNil(*b) {
		for _, name := range slices.Sorted(maps.Keys(c)) {
			if at := c[name]; at.is(*b) && at.admits(ns) {
				*connection, *b = name, at.Backend
				return nil
			}
		}
		return fmt.Errorf("field Backend is of no connection of this registry that the namespace may use; they are %s: %w", c.names(), backend.ErrInvalidParams)
	}
	at, ok := c[*connection]
	switch {
	case *connection == "":
		return fmt.Errorf("fields Connection and Backend are empty; one is required: %w", backend.ErrInvalidParams)
	case !ok:
		return fmt.Errorf("field Connection is %.40q; the registry has %s: %w", *connection, c.names(), backend.ErrInvalidParams)
	case !at.admits(ns):
		return fmt.Errorf("connection %q may not be used in this namespace: %w", *connection, backend.ErrNotPermitted)
	case !isNil(*b) && !at.is(*b):
		return fmt.Errorf("field Backend is not that of connection %q; leave one of them out: %w", *connection, backend.ErrInvalidParams)
	}
	*b = at.Backend
	return nil
}

// absentBackend stands for a connection that this process doesn't have, and rawParams for its parameters: the entry is there,
// and can be read, listed and deleted.
type absentBackend struct{ kind, connection string }

func (b absentBackend) Type() string { return b.kind }
func (absentBackend) Close() error   { return nil }

func (b absentBackend) Open(context.Context, backend.Params) (backend.Key, error) {
	return nil, fmt.Errorf("this process has no connection %q: %w", b.connection, backend.ErrUnavailable)
}

type rawParams struct {
	kind string
	json json.RawMessage
}

func (p rawParams) BackendType() string           { return p.kind }
func (rawParams) Validate() error                 { return nil }
func (p rawParams) EncodeParams() ([]byte, error) { return p.json, nil }

// MarshalJSON shows nothing: which fields are secret isn't known here.
func (rawParams) MarshalJSON() ([]byte, error) { return []byte(`"redacted"`), nil }

func (p rawParams) String() string   { return p.kind + " parameters" }
func (p rawParams) GoString() string { return p.String() }
