package config

import (
	"context"
	"maps"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Builders say how connections and stores are made. A program that has only some of them links no others; package config/all has
// them all. It is not modified once it is in use.
type Builders struct {
	Backends map[string]BackendBuilder     // by type, such as "awskms"
	Stores   map[string]func() StoreStanza // by type, such as "bolt"
}

// BackendBuilder says how connections of a type are made.
type BackendBuilder struct {
	// New returns a pointer to a new struct, whose fields with a tag `config:"NAME"`, or `config:"NAME,required"`, are the arguments
	// that a connection block takes. Fields are strings, numbers, bool, time.Duration, backend.Secret, lists of these,
	// map[string]string or what implements encoding.TextUnmarshaler.
	New func() BackendStanza

	// Params reads parameters of a key, as backend.ParamsDecoder does. If it is nil, those of keys are checked when there is a
	// connection.
	Params func(data []byte) (backend.Params, error)
}

// BackendStanza is a connection block that was read.
type BackendStanza interface {
	// Validate returns an error if arguments contradict one another. It makes no call.
	Validate() error

	// Open makes the backend of the connection. connection returns the backends of those that Uses names.
	Open(ctx context.Context, name string, connection func(name string) backend.Backend) (backend.Backend, error)
}

// User is a BackendStanza that is made of other connections.
type User interface {
	BackendStanza

	// Uses returns the names of the other connections.
	Uses() []string
}

// StoreStanza is a store block that was read, as a BackendStanza is.
type StoreStanza interface {
	// Validate is as for a BackendStanza.
	Validate() error

	// Open opens the store.
	Open(ctx context.Context) (store.Store, error)
}

func (b *Builders) backendTypes() []string { return slices.Sorted(maps.Keys(b.Backends)) }

func (b *Builders) storeTypes() []string { return slices.Sorted(maps.Keys(b.Stores)) }

// params is a backend that can do nothing but read parameters.
type params struct {
	kind   string
	decode func([]byte) (backend.Params, error)
}

func (p params) Type() string { return p.kind }

func (params) Close() error { return nil }

func (params) Open(context.Context, backend.Params) (backend.Key, error) {
	return nil, backend.ErrUnsupported // not reached
}

func (p params) DecodeParams(data []byte) (backend.Params, error) { return p.decode(data) }
