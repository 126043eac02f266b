package pkcs11

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/managedkeys/managedkeys/backend"
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

// sharedModule is one module file of this process. C_Initialize, logins and sessions belong to the process, whatever the
// number of backends, so all backends that name the same file share one.
type sharedModule struct {
	path string // without symbolic links

	// busy is held while the module is initialised or finalised or a login begins or ends. It guards module, conns, and
	// the refs of each conn.
	busy   semaphore
	module module
	conns  map[uint]*conn // by slot

	// mu guards refused: the credentials that the token has refused and that are therefore not tried again. An entry
	// lives until the backend closes that got it.
	mu      sync.Mutex
	refused map[credential]error
}

func newSharedModule(path string, m module) *sharedModule {
	return &sharedModule{path: path, busy: make(semaphore, 1), module: m, conns: make(map[uint]*conn), refused: make(map[credential]error)}
}

// modules are the module files that this process has used. They stay, as the modules themselves do.
var modules struct {
	sync.Mutex
	all []*sharedModule
}

// shareModule returns the module in the file path, which exists.
func shareModule(path string) (*sharedModule, error) {
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
	modules.Lock()
	defer modules.Unlock()
	for _, m := range modules.all {
		if m.path == real {
			return m, nil
		}
		// The dynamic linker also takes hard links for the same module.
		if other, err := os.Stat(m.path); err == nil && os.SameFile(info, other) {
			return m, nil
		}
	}
	m := newSharedModule(real, newModule(real))
	modules.all = append(modules.all, m)
	return m, nil
}

// credential is a keyed hash of a PIN and what it is for, so that PINs can be compared and not be read from memory.
type credential [sha256.Size]byte

var credentialKey = sync.OnceValue(func() []byte {
	key := make([]byte, 32)
	rand.Read(key) // never fails
	return key
})

// newCredential returns the credential of pin for what.
func newCredential(pin string, what ...any) credential {
	h := hmac.New(sha256.New, credentialKey())
	fmt.Fprintf(h, "%q %q", what, pin)
	return credential(h.Sum(nil))
}

func (m *sharedModule) refusal(c credential) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refused[c]
}

func (m *sharedModule) refuse(err error, cs ...credential) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range cs {
		m.refused[c] = fmt.Errorf("pkcs11: this PIN was refused before and is not tried again until the backend is closed: %w", err)
	}
}

func (m *sharedModule) forgive(cs []credential) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range cs {
		delete(m.refused, c)
	}
}

// acquire returns the connection to the token that p names, logged in with pin, and counts a user of it in if adopt, which
// is called with it, returns true. The credentials are those that the token has just refused.
func (m *sharedModule) acquire(ctx context.Context, lib Library, p Params, pin string, adopt func(*conn) bool) (_ *conn, refused []credential, err error) {
	if err := m.busy.acquire(ctx, "pkcs11: another call to the module has not ended"); err != nil {
		return nil, nil, err
	}
	defer m.busy.release()
	tokens, err := m.module.tokens()
	if err != nil {
		return nil, nil, fmt.Errorf("pkcs11: library %q (%s): %w", lib.Name, m.path, classify(err))
	}
	info, err := choose(tokens, p)
	if err != nil {
		return nil, nil, fmt.Errorf("pkcs11: library %q: %w", lib.Name, err)
	}
	login := newCredential(pin, info.slot, info.label, info.serial)
	if c := m.conns[info.slot]; c != nil {
		if !hmac.Equal(c.login[:], login[:]) {
			return nil, nil, c.errorf("this program is logged in with another PIN: %w", backend.ErrCredentials)
		}
		if adopt(c) {
			c.refs++
		}
		return c, nil, nil
	}
	if err := m.refusal(login); err != nil {
		return nil, nil, err
	}
	c := newConn(m, info)
	c.login = login
	sessions, err := usable(info, lib)
	if err != nil {
		return nil, nil, c.errorf("%w", err)
	}
	// Whoever asked may have left while the module was busy; a login for nobody would be wasted.
	if ctx.Err() != nil {
		return nil, nil, c.errorf("%w: %w", backend.ErrUnavailable, ctx.Err())
	}
	if err := c.connect(pin, sessions); err != nil {
		if r, ok := code(err); ok && r.refusesPIN() {
			refused = []credential{login, scopeCredential(pin, p)}
			m.refuse(err, refused...)
		}
		return nil, refused, err
	}
	adopt(c)
	c.refs = 1
	m.conns[info.slot] = c
	return c, nil, nil
}

// scopeCredential is the credential of pin for the token as p names it, with which a refusal can be found without
// looking at the token.
func scopeCredential(pin string, p Params) credential {
	return newCredential(pin, "scope", p.Slot, p.TokenLabel)
}

// release counts a user of c out. The last one closes it. It waits as long as the module is busy.
func (m *sharedModule) release(c *conn) {
	m.busy <- struct{}{}
	defer m.busy.release()
	if c.refs--; c.refs == 0 {
		delete(m.conns, c.info.slot)
		c.token.close()
	}
}

// choose returns the token that p names. The error wraps a sentinel and says what there is.
func choose(tokens []tokenInfo, p Params) (tokenInfo, error) {
	var found []tokenInfo
	var there []string
	slot, _ := p.slot() // was validated
	for _, t := range tokens {
		if p.Slot != "" && t.slot == slot || p.TokenLabel != "" && t.initialized && t.label == p.TokenLabel {
			found = append(found, t)
		}
		if t.initialized {
			there = append(there, fmt.Sprintf("%q in slot %d", t.label, t.slot))
		}
	}
	slices.Sort(there)
	what := fmt.Sprintf("slot %s", p.Slot)
	if p.TokenLabel != "" {
		what = fmt.Sprintf("token_label %q", p.TokenLabel)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return tokenInfo{}, fmt.Errorf("%s names %d tokens; give the slot instead; tokens: %s: %w",
			what, len(found), shorten(there), backend.ErrInvalidParams)
	}
	// A token that is not there now may be plugged in or come back.
	return tokenInfo{}, fmt.Errorf("%s names no token that is present; tokens: %s: %w", what, shorten(there), backend.ErrUnavailable)
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

// usable returns how many sessions may be opened on a token, or an error that wraps a sentinel and says why it can't be
// logged in to. Asking costs no login attempt.
func usable(info tokenInfo, lib Library) (int, error) {
	sessions := lib.MaxSessions
	if sessions == 0 {
		sessions = defaultSessions
	}
	if info.sessions > 0 {
		sessions = min(sessions, info.sessions)
	}
	switch {
	case !info.initialized:
		return 0, fmt.Errorf("the token is not initialised: %w", backend.ErrUnavailable)
	case info.pinLocked:
		return 0, fmt.Errorf("the user's PIN is locked; the security officer must set a new one: %w", backend.ErrCredentials)
	case !info.pinSet:
		return 0, fmt.Errorf("the user's PIN was never set; the security officer must do that: %w", backend.ErrCredentials)
	case sessions < minSessions:
		return 0, fmt.Errorf("the token allows %d sessions; at least %d are needed: %w", info.sessions, minSessions, backend.ErrUnsupported)
	}
	return sessions, nil
}
