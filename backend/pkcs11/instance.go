package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// semaphore is a lock for as many holders as its capacity, whose waiters can leave.
type semaphore chan struct{}

// acquire waits until there is room. what says, for the error, who doesn't make room.
func (s semaphore) acquire(ctx context.Context, what string) error {
	select {
	case s <- struct{}{}:
		return nil
	default:
	}
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w: %w", what, backend.ErrUnavailable, ctx.Err())
	}
}

func (s semaphore) release() { <-s }

// instance is one module file of this process. C_Initialize, logins and sessions belong to the process, whatever the
// number of backends, so all backends that name the same file share one. Instances stay, as modules do.
type instance struct {
	path string // without symbolic links

	// foreign is set once other code of the process is known to initialise or finalise the module as well. Handles can
	// then become those of other keys without notice, and each signature is verified.
	foreign atomic.Bool
	broken  atomic.Bool // finalised here and not initialised again, because that failed

	// busy is held while connections begin and end. It guards up, rest and the refs of each connection.
	busy semaphore
	up   bool      // C_Initialize was called, and C_Finalize was not
	rest time.Time // before which afresh does nothing

	loaded atomic.Pointer[incarnation] // nil until it is loaded; changed with busy, or when the module starts again
	left   atomic.Int64                // calls that hang in incarnations that were given up

	mu      sync.Mutex
	conns   map[string]*conn     // by token; changed under busy as well
	refused map[credential]error // not tried again; an entry lives until the backend closes that got it
}

// instances are the module files that this process has used.
var instances struct {
	sync.Mutex
	all []*instance
}

// share returns the instance of the file path, which exists.
func share(path string) (*instance, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	if real, err = filepath.Abs(real); err != nil {
		return nil, err
	}
	info, err := os.Stat(real)
	if err != nil {
		return nil, err
	}
	instances.Lock()
	defer instances.Unlock()
	for _, i := range instances.all {
		if i.path == real {
			return i, nil
		}
		// The dynamic linker also takes hard links for the same module.
		if other, err := os.Stat(i.path); err == nil && os.SameFile(info, other) {
			return i, nil
		}
	}
	i := &instance{path: real, busy: make(semaphore, 1), conns: make(map[string]*conn), refused: make(map[credential]error)}
	instances.all = append(instances.all, i)
	return i, nil
}

// start loads and initialises the module, unless that was done. busy is held.
func (i *instance) start() error {
	if i.loaded.Load() == nil {
		m, err := cryptoki.Load(i.path)
		if err != nil {
			return fmt.Errorf("loading it: %w%s: %w", err, neededLibraries(err, i.path), backend.ErrUnavailable)
		}
		i.loaded.Store(&incarnation{Module: m})
	}
	if i.up {
		return nil
	}
	if err := i.initialize(); err != nil {
		return err
	}
	i.up = true
	return nil
}

// initialize calls C_Initialize. Other code may have done so before; the module is then shared.
func (i *instance) initialize() error {
	already, err := i.module().Initialize()
	if errors.Is(err, cryptoki.ErrCrashed) || errors.Is(err, cryptoki.ErrDangerous) {
		return fmt.Errorf("the module: %w; it needs a process of its own: %w", err, backend.ErrUnavailable)
	}
	if already {
		i.foreign.Store(true)
	}
	return classify(wrap(err))
}

// stop finalises the module, if no connection is left and it was initialised here and for nobody else. busy is held.
func (i *instance) stop() {
	if !i.up || len(i.conns) > 0 || i.foreign.Load() {
		return
	}
	m, done, ok := i.exclusive(stopTimeout)
	if !ok {
		return // a call hangs in it; the next connection goes on with what is there
	}
	defer done()
	m.Finalize()
	i.up = false
}

// connection returns the connection to the token that p names, logged in with pin, and counts a user of it in if adopt,
// which is called with it, returns true. The credentials are those that the token has just refused.
func (i *instance) connection(ctx context.Context, lib Library, p Params, pin string, adopt func(*conn) bool) (_ *conn, refused []credential, err error) {
	if err := i.busy.acquire(ctx, "pkcs11: another call to the module has not ended"); err != nil {
		return nil, nil, err
	}
	defer i.busy.release()
	if err := i.start(); err != nil {
		return nil, nil, fmt.Errorf("pkcs11: library %q (%s): %w", lib.Name, i.path, err)
	}
	defer i.stop()
	f := i.afresh()
	for {
		c, refused, err := i.attach(ctx, f, lib, p, pin, adopt)
		if !f.mayHelp(err) {
			return c, refused, err
		}
	}
}

// attach is one attempt of connection.
func (i *instance) attach(ctx context.Context, f *afresh, lib Library, p Params, pin string, adopt func(*conn) bool) (_ *conn, refused []credential, err error) {
	info, err := i.look(ctx, f, p)
	if err != nil {
		return nil, nil, fmt.Errorf("pkcs11: library %q (%s): %w", lib.Name, i.path, err)
	}
	if f.failed != nil && info.countsWrongPIN() {
		f.left = 0
		return nil, nil, f.failed
	}
	login := newCredential(pin, info.identity())
	if c := i.conns[info.identity()]; c != nil {
		if !c.holds(login) {
			return nil, nil, c.errorf("this program is logged in with another PIN: %w", backend.ErrCredentials)
		}
		if adopt(c) {
			c.refs++
		}
		return c, nil, nil
	}
	if err := i.refusal(login); err != nil {
		return nil, nil, err
	}
	c := newConn(i, info, lib, p.PIN, login)
	err = c.usable()
	// Whoever asked may have left while the module was busy; a login for nobody would be wasted.
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", backend.ErrUnavailable, ctx.Err())
	}
	if err != nil {
		c.close(0)
		return nil, nil, c.errorf("%w", err)
	}
	if err := c.connect(); err != nil {
		wasRefused := i.refusal(login) != nil
		c.close(stopTimeout) // which forgives; a session that it opened is closed before the module is finalised
		if wasRefused {
			refused = []credential{login, scopeCredential(pin, p)}
			i.refuse(err, refused...)
		}
		return nil, refused, err
	}
	adopt(c)
	c.refs = 1
	i.mu.Lock()
	i.conns[c.id] = c
	i.mu.Unlock()
	return c, nil, nil
}

// look returns the token that p names. busy is held.
func (i *instance) look(ctx context.Context, f *afresh, p Params) (tokenInfo, error) {
	for {
		tokens, err := i.tokens()
		if err != nil {
			return tokenInfo{}, err
		}
		info, err := choose(tokens, p)
		if !errors.Is(err, backend.ErrUnavailable) || ctx.Err() != nil {
			return info, err
		}
		if again, e := f.again(); e != nil {
			return info, fmt.Errorf("%w; then the module could not be initialised again: %w", err, e)
		} else if !again {
			return info, err
		}
	}
}

// tokens returns what is in the slots. A module that other code has finalised, or that has lost whatever it reaches its
// tokens through, is initialised again. busy is held.
func (i *instance) tokens() ([]tokenInfo, error) {
	list := func() ([]cryptoki.TokenInfo, error) {
		m := i.enter()
		defer m.leave()
		return m.Tokens()
	}
	found, err := list()
	if needsMore(err) {
		if e := i.restart(nil, troubleOf(err) == notInitialized); e != nil {
			return nil, classify(fmt.Errorf("%w; before that: %w", e, wrap(err)))
		}
		found, err = list()
	}
	if err != nil {
		return nil, classify(wrap(err))
	}
	tokens := make([]tokenInfo, len(found))
	for n, t := range found {
		tokens[n] = tokenInfo{t}
	}
	return tokens, nil
}

// release counts a user of c out. The last one closes it. It returns how many calls hang in it.
func (i *instance) release(c *conn, wait time.Duration) int {
	i.busy <- struct{}{}
	defer i.busy.release()
	if c.refs--; c.refs > 0 {
		return 0
	}
	i.mu.Lock()
	delete(i.conns, c.id)
	i.mu.Unlock()
	hung := c.close(wait)
	c.mu.Lock()
	i.forgive(c.refused)
	c.mu.Unlock()
	i.stop()
	return hung
}

// choose returns the token that p names. The error wraps a sentinel and says what there is.
func choose(tokens []tokenInfo, p Params) (tokenInfo, error) {
	var found []tokenInfo
	var there []string
	for _, t := range tokens {
		if p.names(t) {
			found = append(found, t)
		}
		if t.initialized() {
			there = append(there, fmt.Sprintf("%q with serial number %q in slot %d", t.Label, t.Serial, t.Slot))
		}
	}
	slices.Sort(there)
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return tokenInfo{}, fmt.Errorf("%s names %d tokens; give the slot or serial number instead; tokens: %s: %w",
			p.wantedToken(), len(found), shorten(there), backend.ErrInvalidParams)
	}
	// A token that is not there now may be plugged in or come back.
	return tokenInfo{}, fmt.Errorf("%s names no token that is present; tokens: %s: %w", p.wantedToken(), shorten(there), backend.ErrUnavailable)
}

// names reports whether p means the token.
func (p Params) names(t tokenInfo) bool {
	if p.Slot != "" {
		slot, _ := p.slot() // was validated
		return t.Slot == slot
	}
	return t.initialized() && (p.TokenLabel == "" || t.Label == p.TokenLabel) && (p.TokenSerial == "" || t.Serial == p.TokenSerial)
}

// wantedToken says which token p names.
func (p Params) wantedToken() string {
	var parts []string
	for _, field := range []struct{ name, value string }{{"slot", p.Slot}, {"token_label", p.TokenLabel}, {"token_serial", p.TokenSerial}} {
		if field.value != "" {
			parts = append(parts, fmt.Sprintf("%s %q", field.name, field.value))
		}
	}
	return strings.Join(parts, " with ")
}

// shorten joins what an error lists.
func shorten(items []string) string {
	const most = 10
	switch {
	case len(items) == 0:
		return "none"
	case len(items) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(items[:most], ", "), len(items)-most)
	}
	return strings.Join(items, ", ")
}
