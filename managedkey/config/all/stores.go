package all

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/regularfile"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/managedkey/store/etcd"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/managedkey/store/postgres"
)

// openedStore returns s as a store.Store that is nil if there is an error.
func openedStore[S store.Store](s S, err error) (store.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// notNegative returns an error if a number of revisions is below 0.
func notNegative(history int) error {
	if history < 0 {
		return fmt.Errorf("history is %d; it takes 1 or more: %w", history, backend.ErrInvalidParams)
	}
	return nil
}

// Memory is a store "memory".
type Memory struct {
	History int `config:"history"`
}

// Validate implements [config.StoreStanza].
func (m *Memory) Validate() error { return notNegative(m.History) }

// Open implements [config.StoreStanza].
func (m *Memory) Open(context.Context) (store.Store, error) {
	return memory.New(&memory.Options{History: m.History}), nil
}

// Bolt is a store "bolt"; see bolt.Options.
type Bolt struct {
	Path     string        `config:"path,required"`
	History  int           `config:"history"`
	LockWait time.Duration `config:"lock_wait"`
}

// Validate implements [config.StoreStanza].
func (b *Bolt) Validate() error { return notNegative(b.History) }

// Open implements [config.StoreStanza].
func (b *Bolt) Open(context.Context) (store.Store, error) {
	return openedStore(bolt.Open(b.Path, &bolt.Options{History: b.History, LockWait: b.LockWait}))
}

// Postgres is a store "postgres"; see postgres.Options.
type Postgres struct {
	URL     backend.Secret `config:"url,required"` // it may have a password in it
	Table   string         `config:"table"`
	History int            `config:"history"`
	Poll    time.Duration  `config:"poll"`
	Timeout time.Duration  `config:"timeout"`
}

// Validate implements [config.StoreStanza].
func (p *Postgres) Validate() error { return notNegative(p.History) }

// Open implements [config.StoreStanza].
func (p *Postgres) Open(ctx context.Context) (store.Store, error) {
	return openedStore(postgres.Connect(ctx, p.URL, &postgres.Options{Table: p.Table, History: p.History, Poll: p.Poll, Timeout: p.Timeout}))
}

// Etcd is a store "etcd"; see etcd.Options.
type Etcd struct {
	Endpoints []string       `config:"endpoints,required"` // HOST:PORT or URLs
	Prefix    string         `config:"prefix"`
	Timeout   time.Duration  `config:"timeout"`
	Username  string         `config:"username"`
	Password  backend.Secret `config:"password"`

	TLSCAFile     string `config:"tls_ca_file"` // the system's roots if empty, with tls
	TLSCertFile   string `config:"tls_cert_file"`
	TLSKeyFile    string `config:"tls_key_file"`
	TLSServerName string `config:"tls_server_name"`
	TLS           bool   `config:"tls"` // use TLS although no file is given
}

// Validate implements [config.StoreStanza].
func (e *Etcd) Validate() error {
	switch {
	case len(e.Endpoints) == 0:
		return fmt.Errorf("endpoints is empty; it takes one at least: %w", backend.ErrInvalidParams)
	case (e.Username == "") != (e.Password == ""):
		return fmt.Errorf("username and password belong together: %w", backend.ErrInvalidParams)
	case (e.TLSCertFile == "") != (e.TLSKeyFile == ""):
		return fmt.Errorf("tls_cert_file and tls_key_file belong together: %w", backend.ErrInvalidParams)
	}
	return nil
}

// Open implements [config.StoreStanza].
func (e *Etcd) Open(ctx context.Context) (store.Store, error) {
	password, err := e.Password.Resolve()
	if err != nil {
		return nil, err
	}
	cfg := clientv3.Config{Endpoints: e.Endpoints, Username: e.Username, Password: password}
	if cfg.TLS, err = e.tls(); err != nil {
		return nil, err
	}
	return openedStore(etcd.Connect(ctx, cfg, &etcd.Options{Prefix: e.Prefix, Timeout: e.Timeout}))
}

// tls returns how the servers are talked to, or nil for plain text.
func (e *Etcd) tls() (*tls.Config, error) {
	if !e.TLS && e.TLSCAFile == "" && e.TLSCertFile == "" && e.TLSServerName == "" {
		return nil, nil
	}
	out := &tls.Config{ServerName: e.TLSServerName, MinVersion: tls.VersionTLS12}
	if e.TLSCAFile != "" {
		data, _, err := regularfile.Read(e.TLSCAFile, maxFile)
		if err != nil {
			return nil, fmt.Errorf("tls_ca_file: %w: %w", backend.ErrCredentials, err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("tls_ca_file %q has no certificate in PEM: %w", e.TLSCAFile, backend.ErrCredentials)
		}
	}
	if e.TLSCertFile != "" {
		if err := errors.Join(regularfile.Check(e.TLSCertFile), regularfile.Check(e.TLSKeyFile)); err != nil {
			return nil, fmt.Errorf("tls_cert_file and tls_key_file: %w: %w", backend.ErrCredentials, err)
		}
		pair, err := tls.LoadX509KeyPair(e.TLSCertFile, e.TLSKeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls_cert_file and tls_key_file: %w: %w", backend.ErrCredentials, err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}
