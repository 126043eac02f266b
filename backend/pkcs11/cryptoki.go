//go:build cgo

package pkcs11

import (
	"debug/elf"
	"errors"
	"fmt"
	"strings"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/managedkeys/managedkeys/backend"
)

// errNoCgo is nil: this build can load modules.
var errNoCgo error

// cryptoki is a module over crypto11, which has sessions, generates and does the operations of keys, and over
// miekg/pkcs11 directly for what crypto11 does not or not safely: looking at tokens before login, login itself (crypto11
// leaks a session if it fails, and takes any PIN if somebody is logged in), and searching (crypto11 fails as a whole on
// one key of a kind that it doesn't know, and pairs private with unrelated public keys).
//
// C_Initialize and C_Finalize are crypto11's while a login exists.
type cryptoki struct {
	path   string      // also what crypto11 knows the module by
	ctx    *pkcs11.Ctx // nil until it is loaded
	logins int         // open tokens
}

func newModule(path string) module { return &cryptoki{path: path} }

// load maps the module into the process. It stays there until the process ends: vendors' modules start threads and
// register exit handlers that don't survive unloading.
func (m *cryptoki) load() error {
	if m.ctx == nil {
		m.ctx = pkcs11.New(m.path)
	}
	if m.ctx == nil {
		return fmt.Errorf("the dynamic linker refuses to load it%s: %w", neededLibraries(m.path), backend.ErrUnavailable)
	}
	return nil
}

func (m *cryptoki) tokens() ([]tokenInfo, error) {
	if err := m.load(); err != nil {
		return nil, err
	}
	if m.logins == 0 {
		// crypto11 initialises the module itself and would fail if that had been done, so it is undone here.
		if err := failed("C_Initialize", m.ctx.Initialize()); err != nil {
			if c, _ := code(err); c == ckrAlreadyInitialized {
				return nil, fmt.Errorf("other code of this program has initialised the module, which this backend needs for itself: %w", classify(err))
			}
			return nil, err
		}
		defer m.ctx.Finalize()
	}
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return nil, failed("C_GetSlotList", err)
	}
	var tokens []tokenInfo
	for _, slot := range slots {
		info, err := m.ctx.GetTokenInfo(slot)
		if err != nil {
			continue // removed meanwhile or of an unknown kind; it can't be the one that is meant
		}
		tokens = append(tokens, tokenInfo{
			slot:        slot,
			label:       trim(info.Label),
			serial:      trim(info.SerialNumber),
			initialized: info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0,
			pinSet:      info.Flags&pkcs11.CKF_USER_PIN_INITIALIZED != 0,
			pinLocked:   info.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0,
			random:      info.Flags&pkcs11.CKF_RNG != 0,
			sessions:    sessionLimit(info.MaxSessionCount, info.MaxRwSessionCount),
		})
	}
	return tokens, nil
}

// trim removes the padding of a fixed-length field: blanks by the standard, NULs by some modules.
func trim(s string) string { return strings.TrimRight(s, " \x00") }

// sessionLimit returns the lowest limit, or 0 if there is none.
func sessionLimit(counts ...uint) int {
	limit := 0
	for _, n := range counts {
		if n == pkcs11.CK_EFFECTIVELY_INFINITE || n == pkcs11.CK_UNAVAILABLE_INFORMATION || n > maxSessions {
			continue
		}
		if limit == 0 || int(n) < limit {
			limit = int(n)
		}
	}
	return limit
}

func (m *cryptoki) open(slot uint, pin string, sessions int) (token, error) {
	if err := m.load(); err != nil {
		return nil, err
	}
	number := int(slot)
	context, err := configure(&crypto11.Config{
		Path: m.path, SlotNumber: &number, LoginNotSupported: true,
		MaxSessions: sessions - 1, // one is opened here
	})
	if err != nil {
		return nil, failed("C_OpenSession", err)
	}
	session, err := m.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		context.Close()
		return nil, failed("C_OpenSession", err)
	}
	if err := m.ctx.Login(session, pkcs11.CKU_USER, pin); err != nil {
		m.ctx.CloseSession(session)
		context.Close()
		return nil, failed("C_Login", err)
	}
	m.logins++
	return &login{module: m, slot: slot, context: context, session: session, sessions: sessions}, nil
}

// neededLibraries returns the libraries that the module in path is linked with, for an error message.
func neededLibraries(path string) string {
	f, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil || len(libraries) == 0 {
		return ""
	}
	return "; it needs " + strings.Join(libraries, ", ") + " (see ldd)"
}

// configure contains the panics of crypto11.Configure.
func configure(cfg *crypto11.Config) (_ *crypto11.Context, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("crypto11 panicked: %v: %w", r, backend.ErrUnavailable)
		}
	}()
	return crypto11.Configure(cfg)
}

// failed returns err as the failure of function, with its ckr, or nil.
func failed(function string, err error) error {
	if err == nil {
		return nil
	}
	var e pkcs11.Error
	if errors.As(err, &e) {
		return &callError{function, ckr(e), err}
	}
	return fmt.Errorf("%s: %w", function, err)
}

// login is a token over crypto11.
type login struct {
	module   *cryptoki
	slot     uint
	context  *crypto11.Context
	session  pkcs11.SessionHandle // of the search; it did the login
	sessions int
}

func (l *login) close() {
	l.module.ctx.CloseSession(l.session)
	l.context.Close() // with the last one, C_Finalize
	l.module.logins--
}

func (l *login) mechanisms() (map[Mechanism]mechanismUse, error) {
	list, err := l.module.ctx.GetMechanismList(l.slot)
	if err != nil {
		return nil, failed("C_GetMechanismList", err)
	}
	uses := make(map[Mechanism]mechanismUse, len(list))
	for _, m := range list {
		info, err := l.module.ctx.GetMechanismInfo(l.slot, []*pkcs11.Mechanism{m})
		if err != nil {
			continue // listed but not there
		}
		var use mechanismUse
		for flag, u := range map[uint]mechanismUse{
			pkcs11.CKF_SIGN: useSign, pkcs11.CKF_DECRYPT: useDecrypt, pkcs11.CKF_GENERATE_KEY_PAIR: useGenerate,
		} {
			if info.Flags&flag != 0 {
				use |= u
			}
		}
		uses[Mechanism(m.Mechanism)] = use
	}
	return uses, nil
}

func (l *login) alive() error {
	info, err := l.module.ctx.GetSessionInfo(l.session)
	if err != nil {
		return failed("C_GetSessionInfo", err)
	}
	if info.State != pkcs11.CKS_RW_USER_FUNCTIONS {
		return fmt.Errorf("the user is no longer logged in: %w", backend.ErrUnavailable)
	}
	return nil
}

// randomChunk is how many random bytes are asked for in one call. Devices refuse large amounts.
const randomChunk = 1024

func (l *login) random(b []byte) error {
	reader, err := l.context.NewRandomReader()
	if err != nil {
		return failed("C_GenerateRandom", err)
	}
	for len(b) > 0 {
		n, err := reader.Read(b[:min(len(b), randomChunk)])
		if err != nil {
			return failed("C_GenerateRandom", err)
		}
		if n == 0 {
			return fmt.Errorf("C_GenerateRandom: no bytes: %w", backend.ErrUnavailable)
		}
		b = b[n:]
	}
	return nil
}
