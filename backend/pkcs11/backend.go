package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// How long calls take at most. Where the context has a deadline, that holds instead.
const (
	// OpenTimeout bounds Open, List and Ping.
	OpenTimeout = backend.DefaultCallTimeout

	// GenerateTimeout bounds Generate: small devices search minutes for the primes of an RSA key.
	GenerateTimeout = 5 * time.Minute

	// CloseTimeout is how long Close waits for the calls in flight.
	CloseTimeout = 10 * time.Second
)

// Backend is a client of PKCS#11 modules. It implements backend.Backend, Generator, Importer, Lister, Pinger and Meter.
//
// All methods are safe for concurrent use.
type Backend struct {
	libraries    map[string]library // by name in lower case; not changed
	gate         backend.Gate
	closeTimeout time.Duration

	mu      sync.Mutex
	closed  bool
	conns   map[scope]*conn // by what parameters say
	held    []*conn         // each once; this backend is counted in their refs
	refused []refusals      // to be forgiven when the backend closes
}

// library is a stanza and its module.
type library struct {
	Library
	instance *instance
}

// scope is how parameters name a token.
type scope struct{ library, slot, label, serial string }

// refusals are credentials that a module must not be tried with again.
type refusals struct {
	instance    *instance
	credentials []credential
}

var (
	_ backend.Generator     = (*Backend)(nil)
	_ backend.Importer      = (*Backend)(nil)
	_ backend.Lister        = (*Backend)(nil)
	_ backend.Pinger        = (*Backend)(nil)
	_ backend.Meter         = (*Backend)(nil)
	_ backend.ParamsDecoder = (*Backend)(nil)
	_ backend.URIParser     = (*Backend)(nil)
	_ backend.Matcher       = (*Backend)(nil)
)

// New returns a backend over the modules of the libraries, of which there must be at least one. It looks at each file,
// but loads none: that happens when the first key is opened, as do connecting and logging in.
//
// The error wraps backend.ErrInvalidParams if a name is missing, malformed or given twice, or if a path is not a shared
// object for this machine that exports C_GetFunctionList; and backend.ErrUnsupported if the program was built without
// cgo.
func New(libraries ...Library) (*Backend, error) {
	if !cryptoki.Available {
		return nil, fmt.Errorf("pkcs11: %w, which loading a PKCS#11 module needs; build it with CGO_ENABLED=1 and a C compiler: %w",
			cryptoki.ErrNoCgo, backend.ErrUnsupported)
	}
	if err := validateLibraries(libraries); err != nil {
		return nil, err
	}
	loaded := make([]library, len(libraries))
	for i, l := range libraries {
		if err := checkModuleFile(l.Path); err != nil {
			return nil, fmt.Errorf("pkcs11: library Path: of %q is %q: %w", l.Name, l.Path, err)
		}
		shared, err := share(l.Path)
		if err != nil {
			return nil, fmt.Errorf("pkcs11: library Path: of %q: %w: %w", l.Name, backend.ErrInvalidParams, err)
		}
		loaded[i] = library{l, shared}
	}
	return newBackend(loaded), nil
}

func newBackend(libraries []library) *Backend {
	b := &Backend{libraries: make(map[string]library), closeTimeout: CloseTimeout, conns: make(map[scope]*conn)}
	for _, l := range libraries {
		b.libraries[strings.ToLower(l.Name)] = l
	}
	return b
}

// Type implements backend.Backend.
func (*Backend) Type() string { return Type }

// DecodeParams implements backend.ParamsDecoder.
func (*Backend) DecodeParams(data []byte) (backend.Params, error) {
	return backend.DecodeParams[Params](data)
}

// Open implements backend.Backend. Opening makes a trial signature or decryption, to prove that the private key belongs
// to the public key that the token shows for it.
//
// When ctx ends, Open returns at once; a call to the module that was under way ends in the background, and a login that
// it made is kept for the next Open.
func (b *Backend) Open(ctx context.Context, params backend.Params) (backend.Key, error) {
	p, err := parameters(params)
	if err != nil {
		return nil, err
	}
	return aside(ctx, b, OpenTimeout, func(ctx context.Context) (backend.Key, error) {
		c, lib, err := b.connection(ctx, p)
		if err != nil {
			return nil, err
		}
		return c.open(ctx, p, b.handleConfig(lib))
	})
}

// handleConfig returns what all handles of keys of lib have in common.
func (b *Backend) handleConfig(lib Library) backend.HandleConfig {
	return backend.HandleConfig{Timeout: lib.CallTimeout, Gate: &b.gate}
}

// parameters returns params if they are of this package, valid, and of a kind of key that can be used.
func parameters(params backend.Params) (Params, error) {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return Params{}, err
	}
	if !p.Mechanism.known() {
		return Params{}, fmt.Errorf("pkcs11: mechanism: %s is of no kind of key that this package uses; it takes CKM_ECDSA, CKM_EDDSA, CKM_ECDH1_DERIVE, "+
			"CKM_RSA_PKCS, CKM_RSA_PKCS_PSS, CKM_RSA_PKCS_OAEP, CKM_ML_DSA, CKM_AES_GCM, CKM_AES_CMAC, CKM_AES_KEY_WRAP_KWP or an HMAC: %w",
			p.Mechanism, backend.ErrUnsupported)
	}
	return p, nil
}

// connection returns the connection that p names, and the library's stanza. It logs in if no backend of this process has
// done so.
func (b *Backend) connection(ctx context.Context, p Params) (*conn, Library, error) {
	lib, err := b.library(p.Library)
	if err != nil {
		return nil, Library{}, err
	}
	c, err := b.connect(ctx, lib, p)
	return c, lib.Library, err
}

// library returns the library of a name.
func (b *Backend) library(name string) (library, error) {
	if lib, ok := b.libraries[strings.ToLower(name)]; ok {
		return lib, nil
	}
	var names []string
	for _, l := range b.libraries {
		names = append(names, fmt.Sprintf("%q", l.Name))
	}
	slices.Sort(names)
	return library{}, invalid("library", "%q is not configured; libraries: %s", name, shorten(names))
}

func (b *Backend) connect(ctx context.Context, lib library, p Params) (*conn, error) {
	pin, err := p.PIN.Resolve()
	if err != nil {
		return nil, fmt.Errorf("pkcs11: pin: %w", err)
	}
	if slot, _ := p.slot(); p.Slot != "" { // was validated
		p.Slot = fmt.Sprint(slot) // without leading zeros
	}
	s := scope{strings.ToLower(lib.Name), p.Slot, p.TokenLabel, p.TokenSerial}
	b.mu.Lock()
	c := b.conns[s]
	b.mu.Unlock()
	if c != nil {
		if !c.holds(newCredential(pin, c.id)) {
			return nil, c.errorf("this program is logged in with another PIN: %w", backend.ErrCredentials)
		}
		return c, nil
	}
	if err := lib.instance.refusal(scopeCredential(pin, p)); err != nil {
		return nil, err
	}
	c, refused, err := lib.instance.connection(ctx, lib.Library, p, pin, b.adopt)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(refused) > 0 {
		b.refused = append(b.refused, refusals{lib.instance, refused})
	}
	if err != nil {
		return nil, err
	}
	b.conns[s] = c
	return c, nil
}

// adopt makes c one of the connections that this backend gives up when it closes, and returns false if it is one
// already: through a concurrent call, or one that named the token in another way.
func (b *Backend) adopt(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Contains(b.held, c) {
		return false
	}
	b.held = append(b.held, c)
	return true
}

// aside calls fn on a goroutine of its own, because calls to a module can't be interrupted, and returns when it is done
// or ctx has ended. fn must obey ctx wherever it waits for other goroutines, so that no more goroutines than callers and
// hanging modules exist.
func aside[T any](ctx context.Context, b *Backend, timeout time.Duration, fn func(context.Context) (T, error)) (T, error) {
	var zero T
	if err := ctx.Err(); err != nil {
		return zero, fmt.Errorf("pkcs11: %w", err)
	}
	if err := b.gate.Enter(); err != nil {
		return zero, fmt.Errorf("pkcs11: %w", err)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	type result struct {
		out T
		err error
	}
	done := make(chan result, 1) // the goroutine ends even if nobody waits
	go func() {
		defer b.gate.Leave()
		out, err := contain(func() (T, error) { return fn(ctx) })
		done <- result{out, err}
	}()
	select {
	case r := <-done:
		return r.out, r.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return zero, fmt.Errorf("pkcs11: the module did not answer in time: %w: %w", backend.ErrUnavailable, ctx.Err())
		}
		return zero, fmt.Errorf("pkcs11: %w", ctx.Err())
	}
}

// Close implements backend.Backend. It waits for at most [CloseTimeout] until no call is in flight. Logins that no other
// backend of this process uses then end, and the module is finalised with the last of them.
//
// If calls hang in a module, the error wraps backend.ErrUnavailable, and what they use stays as it is until they return:
// pulling it away from under them would crash the program.
func (b *Backend) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.mu.Unlock()

	end := time.Now().Add(b.closeTimeout)
	released := make(chan int, 1)
	go func() {
		for b.gate.Close(time.Hour) > 0 {
			continue // calls hang, and nothing may be released before they return
		}
		released <- b.release(time.Until(end))
	}()
	timer := time.NewTimer(b.closeTimeout + time.Second)
	defer timer.Stop()
	select {
	case hung := <-released:
		if hung == 0 {
			return nil
		}
	case <-timer.C:
	}
	return fmt.Errorf("pkcs11: closing: calls into a module have not ended within %v; it is released when they do: %w",
		b.closeTimeout, backend.ErrUnavailable)
}

// release gives up all connections and returns how many calls hang in them. No call of this backend is in flight that
// anybody waits for, and none can begin.
func (b *Backend) release(wait time.Duration) int {
	b.mu.Lock()
	held, refused := b.held, b.refused
	b.conns, b.held, b.refused = nil, nil, nil
	b.mu.Unlock()
	for _, r := range refused {
		r.instance.forgive(r.credentials)
	}
	hung := 0
	for _, c := range held {
		hung += c.instance.release(c, wait)
	}
	return hung
}

// contain calls fn and turns a panic into an error. miekg/pkcs11 does panic on answers that it doesn't expect.
func contain[T any](fn func() (T, error)) (out T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("pkcs11: panic: %v: %w", r, backend.ErrUnavailable)
		}
	}()
	return fn()
}
