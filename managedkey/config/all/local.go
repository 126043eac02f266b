package all

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/replicated"
	"github.com/managedkeys/managedkeys/backend/software"
)

// PKCS11 is a connection "pkcs11", or a kms_library; see pkcs11.Library. Keys name it in their argument library.
type PKCS11 struct {
	Library string `config:"library,required"` // the file of the module
	Name    string `config:"name"`             // that of the connection if empty

	MaxSessions      int           `config:"max_sessions"`
	CallTimeout      time.Duration `config:"call_timeout"`
	IdleTimeout      time.Duration `config:"idle_timeout"`
	MinIdle          int           `config:"min_idle"`
	KeepAlive        time.Duration `config:"keep_alive"`
	InlineCalls      bool          `config:"inline_calls"`
	VerifySignatures bool          `config:"verify_signatures"`
	RawRSA           bool          `config:"raw_rsa"`
	TokenNonces      bool          `config:"token_nonces"`
	PlainImport      bool          `config:"plain_import"`
}

// Validate implements [config.BackendStanza].
func (p *PKCS11) Validate() error {
	if p.MaxSessions < 0 || p.MinIdle < 0 {
		return fmt.Errorf("max_sessions and min_idle take 0 or more: %w", backend.ErrInvalidParams)
	}
	return nil
}

// Open implements [config.BackendStanza]. The module is looked at, and loaded when the first key is opened.
func (p *PKCS11) Open(_ context.Context, name string, _ func(string) backend.Backend) (backend.Backend, error) {
	if p.Name != "" {
		name = p.Name
	}
	return opened(pkcs11.New(pkcs11.Library{
		Name: name, Path: p.Library, MaxSessions: p.MaxSessions, CallTimeout: p.CallTimeout, IdleTimeout: p.IdleTimeout, MinIdle: p.MinIdle,
		KeepAlive: p.KeepAlive, InlineCalls: p.InlineCalls, VerifySignatures: p.VerifySignatures, RawRSA: p.RawRSA,
		TokenNonces: p.TokenNonces, PlainImport: p.PlainImport,
	}))
}

// opened returns b as a backend.Backend that is nil if there is an error.
func opened[B backend.Backend](b B, err error) (backend.Backend, error) {
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Software is a connection "software": keys in memory, or in a file under a passphrase.
type Software struct {
	File       string         `config:"file"`
	Passphrase backend.Secret `config:"passphrase"`
	Store      string         `config:"store"` // the name that keys may give in their argument store; "memory" or "file" if empty
	Time       uint32         `config:"time"`  // costs of Argon2id, as software.Argon2id
	MemoryKiB  uint32         `config:"memory_kib"`
	Threads    uint8          `config:"threads"`
}

// Validate implements [config.BackendStanza].
func (s *Software) Validate() error {
	if (s.File == "") != (s.Passphrase == "") {
		return fmt.Errorf("file and passphrase belong together; without both, keys are in memory: %w", backend.ErrInvalidParams)
	}
	if s.File == "" && (s.Time != 0 || s.MemoryKiB != 0 || s.Threads != 0) {
		return fmt.Errorf("time, memory_kib and threads are for a file: %w", backend.ErrInvalidParams)
	}
	return nil
}

// Open implements [config.BackendStanza].
func (s *Software) Open(context.Context, string, func(string) backend.Backend) (backend.Backend, error) {
	opts := &software.Options{Store: s.Store, Argon2id: software.Argon2id{Time: s.Time, MemoryKiB: s.MemoryKiB, Threads: s.Threads}}
	if s.File == "" {
		return software.New(opts), nil
	}
	return opened(software.OpenFile(s.File, s.Passphrase, opts))
}

// Replicated is a connection "replicated", which is made of others: its places have their names.
type Replicated struct {
	Places         []string      `config:"places,required"` // names of connections, two at least
	CallTimeout    time.Duration `config:"call_timeout"`
	AttemptTimeout time.Duration `config:"attempt_timeout"`
}

// Validate implements [config.BackendStanza].
func (r *Replicated) Validate() error {
	if names := slices.Compact(slices.Sorted(slices.Values(r.Places))); len(names) < 2 || len(names) != len(r.Places) {
		return fmt.Errorf("places are %q; it takes two or more connections, each once: %w", r.Places, backend.ErrInvalidParams)
	}
	return nil
}

// Uses implements [config.User].
func (r *Replicated) Uses() []string { return r.Places }

// Open implements [config.BackendStanza].
func (r *Replicated) Open(_ context.Context, _ string, connection func(string) backend.Backend) (backend.Backend, error) {
	var places []replicated.Place
	for _, name := range r.Places {
		places = append(places, replicated.Place{Name: name, Backend: connection(name)})
	}
	return opened(replicated.New(places, &replicated.Options{CallTimeout: r.CallTimeout, AttemptTimeout: r.AttemptTimeout}))
}
