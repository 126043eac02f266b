package config

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/seal"
	"github.com/managedkeys/managedkeys/namespace"
)

// Options are the options of Config.Open. The zero value is fine, and so is nil.
type Options struct {
	// Logger is told what goes wrong in the background; nil means slog.Default().
	Logger *slog.Logger

	// Observer sees what is done with the registry, and may refuse it, as managedkey.Options has it; nil means that nobody does.
	Observer managedkey.Observer
}

// System is what a configuration describes, running: connections, a store, and a registry on both. Its methods are safe for
// concurrent use.
type System struct {
	registry *managedkey.Registry
	store    store.Store
	log      *slog.Logger
	prints   *prints

	mu      sync.Mutex // held by Reload and Close
	closed  bool
	cfg     *Config
	live    map[string]*live // connections by name
	order   []string         // of live: each after those that it is made of
	rest    []io.Closer      // what may still be in use; closed after all else, the last first
	storeAt string           // fingerprint of store and seal
}

// live is a connection that is open.
type live struct {
	backend    backend.Backend
	namespaces []namespace.Path
	print      string
}

// Open opens everything that the configuration describes, in order: the key of the seal, the store, the connections, and the
// registry. Entries and mounts are not made: see [Config.Plan]. Connections are opened but not tried, so that a program starts
// while its HSM is away. opts may be nil. The caller closes the System.
//
// If something can't be opened, what is open is closed again, and the error, an *[Error] with its place, wraps the reason.
func (c *Config) Open(ctx context.Context, opts *Options) (*System, error) {
	if opts == nil {
		opts = new(Options)
	}
	s := &System{cfg: c, live: make(map[string]*live), prints: newPrints(), log: opts.Logger}
	if s.log == nil {
		s.log = slog.Default()
	}
	if err := s.open(ctx, opts.Observer); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func failAt(pos Pos, err error) error { return &Error{[]Problem{{pos, err}}} }

func (s *System) open(ctx context.Context, observer managedkey.Observer) error {
	c := s.cfg
	if c.builders == nil {
		return failAt(Pos{}, fmt.Errorf("the configuration was loaded without builders: %w", backend.ErrUnsupported))
	}
	var err error
	if s.storeAt, err = c.storePrint(s.prints); err != nil {
		return err
	}
	if err := s.openStore(ctx); err != nil {
		return err
	}
	var conns []managedkey.Connection
	for _, conn := range sorted(c.Connections) {
		l, err := s.openConnection(ctx, conn, s.backendOf)
		if err != nil {
			return err
		}
		s.live[conn.Name] = l
		s.order = append(s.order, conn.Name)
		conns = append(conns, managedkey.Connection{Name: conn.Name, Backend: l.backend, Namespaces: conn.Namespaces})
	}
	s.registry, err = managedkey.Open(ctx, s.store, conns, &managedkey.Options{Logger: s.log, Observer: observer})
	if err != nil {
		pos := Pos{}
		if c.Store != nil {
			pos = c.Store.Pos
		}
		return failAt(pos, err)
	}
	return nil
}

// openConnection opens a connection, which is made of others that there are.
func (s *System) openConnection(ctx context.Context, c *Connection, others func(string) backend.Backend) (*live, error) {
	print, err := s.prints.connection(c)
	if err != nil {
		return nil, failAt(c.Pos, err)
	}
	b, err := c.stanza.value.(BackendStanza).Open(ctx, c.Name, others)
	if err != nil {
		return nil, failAt(c.Pos, fmt.Errorf("connection %q: %w", c.Name, err))
	}
	return &live{b, c.Namespaces, print}, nil
}

// backendOf returns the backend of a connection, or nil.
func (s *System) backendOf(name string) backend.Backend {
	if l := s.live[name]; l != nil {
		return l.backend
	}
	return nil
}

// openStore opens the store and its seal.
func (s *System) openStore(ctx context.Context) error {
	c := s.cfg
	stanza, pos := c.builders.Stores["memory"], Pos{}
	var value StoreStanza
	switch {
	case c.Store != nil:
		value, pos = c.Store.stanza.value.(StoreStanza), c.Store.Pos
	case stanza != nil:
		value = stanza()
	default:
		return failAt(pos, fmt.Errorf(`there is no store block, and the program has no store "memory": %w`, backend.ErrUnsupported))
	}
	var key seal.Key
	var err error
	if c.Seal != nil {
		if key, err = s.sealKey(ctx); err != nil {
			return failAt(c.Seal.Pos, fmt.Errorf("seal: %w", err))
		}
	}
	inner, err := value.Open(ctx)
	if err != nil {
		return failAt(pos, fmt.Errorf("store: %w", err))
	}
	if key != nil {
		sealed, err := seal.Open(ctx, inner, key, &seal.Options{EncryptNames: c.Seal.EncryptNames, MaxValues: c.Seal.MaxValues, Logger: s.log})
		if err != nil {
			return errors.Join(failAt(c.Seal.Pos, fmt.Errorf("seal: %w", err)), inner.Close())
		}
		s.store = sealed
	} else {
		s.store = inner
	}
	return nil
}

// sealKey returns the seal key. A managed one has a client of its own: it must stay open while the store is, whatever becomes of the
// connection.
func (s *System) sealKey(ctx context.Context) (seal.Key, error) {
	c := s.cfg
	if c.Seal.Type == "passphrase" {
		return seal.Passphrase(c.Seal.Passphrase, &seal.Argon2id{Time: c.Seal.Time, MemoryKiB: c.Seal.MemoryKiB, Threads: c.Seal.Threads})
	}
	i := slices.IndexFunc(c.Connections, func(conn *Connection) bool { return conn.Name == c.Seal.Connection })
	conn := c.Connections[i] // there is one, as Load has checked
	b, err := conn.stanza.value.(BackendStanza).Open(ctx, conn.Name, s.backendOf)
	if err != nil {
		return nil, err
	}
	s.rest = append(s.rest, b)
	decoder, ok := b.(backend.ParamsDecoder)
	if !ok {
		return nil, fmt.Errorf("backend %q is no backend.ParamsDecoder: %w", b.Type(), backend.ErrUnsupported)
	}
	p, err := decoder.DecodeParams(c.Seal.key.newest)
	if err != nil {
		return nil, err
	}
	key, err := b.Open(ctx, p)
	if err != nil {
		return nil, err
	}
	if c.Seal.KeyPin != "" {
		if key.Public() == nil {
			return nil, fmt.Errorf("public_key_sha256 is given, but the key is symmetric: %w", backend.ErrKeyChanged)
		}
		pin, err := backend.Fingerprint(key.Public())
		if err != nil {
			return nil, err
		}
		if want := strings.ToLower(strings.ReplaceAll(c.Seal.KeyPin, ":", "")); hex.EncodeToString(pin[:]) != want {
			return nil, fmt.Errorf("the public key has SHA-256 %x, public_key_sha256 is %s: %w", pin, want, backend.ErrKeyChanged)
		}
	}
	return seal.Managed(key)
}

// Registry returns the registry. It is the same for as long as the System is open.
func (s *System) Registry() *managedkey.Registry { return s.registry }

// Store returns the store, unsealed: for what else the program keeps.
func (s *System) Store() store.Store { return s.store }

// Config returns the configuration that was loaded last.
func (s *System) Config() *Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg
}

// Backend returns the backend of a connection, or nil if there is none of that name. A reload may close it.
func (s *System) Backend(connection string) backend.Backend {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.backendOf(connection)
}

// Close closes the registry, the connections and the store, in this order, and waits for calls that are under way, 10 seconds for
// each connection. Closing again does nothing. The errors are joined.
func (s *System) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var err error
	if s.registry != nil {
		err = s.registry.Close()
	}
	for _, name := range slices.Backward(s.order) {
		err = errors.Join(err, s.live[name].backend.Close())
	}
	if s.store != nil {
		err = errors.Join(err, s.store.Close())
	}
	for _, c := range slices.Backward(s.rest) {
		err = errors.Join(err, c.Close())
	}
	return err
}
