//go:build cgo

package cryptoki

// #cgo !windows LDFLAGS: -ldl
// #cgo noescape mk_run
// #cgo nocallback mk_run
// #cgo noescape mk_attributes
// #cgo nocallback mk_attributes
// #include <stdlib.h>
// #include "cryptoki.h"
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// Available tells that this build can load modules.
const Available = true

// Module is a module that is mapped into the process. It stays there until the process ends: vendors' modules start
// threads and register exit handlers that don't survive unloading.
//
// Methods may be called at any time by any number of goroutines, as far as the module allows.
type Module struct {
	path    string
	list    *C.ck_function_list
	ctx     *pkcs11.Ctx
	crashed atomic.Bool
}

// Load maps the module in the file path. The error wraps [ErrRefused], [ErrNoModule], [ErrNoList] or [ErrCrashed].
func Load(path string) (*Module, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	why := (*C.char)(C.calloc(1, 512))
	defer C.free(unsafe.Pointer(why))
	var list *C.ck_function_list
	switch C.mk_load(name, &list, why, 512) {
	case C.load_refused:
		return nil, fmt.Errorf("%w: %s", ErrRefused, C.GoString(why))
	case C.load_no_symbol:
		return nil, ErrNoModule
	case C.load_no_list:
		return nil, fmt.Errorf("%w: CKR %s", ErrNoList, C.GoString(why))
	case C.load_crashed:
		return nil, fmt.Errorf("%w in C_GetFunctionList or before: %s", ErrCrashed, C.GoString(why))
	}
	return instance(path)
}

// instance returns the module in path through miekg/pkcs11, which was found to be safe. Each call of C_GetFunctionList may
// give another list, which is an instance of its own, as with p11-kit's client; so there is one for both.
func instance(path string) (*Module, error) {
	m := &Module{path: path, ctx: pkcs11.New(path)}
	if m.ctx == nil {
		return nil, ErrRefused
	}
	// A Ctx is a pointer to a C struct of the library's handle and the list, and doesn't show it.
	m.list = (*(**struct {
		handle unsafe.Pointer
		list   *C.ck_function_list
	})(unsafe.Pointer(m.ctx))).list
	if m.list == nil {
		return nil, ErrNoList
	}
	return m, nil
}

// Another returns another instance of the module, which shares nothing with this one, or an error if the module has one
// only.
func (m *Module) Another() (*Module, error) {
	other, err := instance(m.path)
	if err == nil && other.list == m.list {
		return nil, errors.New("it has one instance only")
	}
	return other, err
}

// call returns err, a pkcs11.Error of function, as an [Error].
func call(function string, err error) error {
	if err == nil {
		return nil
	}
	var rv pkcs11.Error
	if errors.As(err, &rv) {
		return &Error{function, uint64(rv)}
	}
	return fmt.Errorf("%s: %w", function, err)
}

// Initialize calls C_Initialize for use by several threads. already tells that other code of the process had done so.
func (m *Module) Initialize() (already bool, err error) {
	if m.crashed.Load() {
		return false, ErrDangerous
	}
	var crashed C.int
	rv := C.mk_initialize(m.list, &crashed)
	switch {
	case crashed != 0:
		m.crashed.Store(true)
		return false, fmt.Errorf("%w in C_Initialize: signal %d", ErrCrashed, int(crashed))
	case rv == rvAlreadyInitialized:
		return true, nil
	case rv != 0:
		return false, &Error{"C_Initialize", uint64(rv)}
	}
	return false, nil
}

// Finalize calls C_Finalize.
func (m *Module) Finalize() error { return call("C_Finalize", m.ctx.Finalize()) }

// Tokens returns what is in the slots, in the module's order. Slots whose token can't be asked are left out: it was removed
// meanwhile, or is of an unknown kind. If that holds for all of them, the error of the first is returned.
func (m *Module) Tokens() ([]TokenInfo, error) {
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return nil, call("C_GetSlotList", err)
	}
	var tokens []TokenInfo
	var first error
	for _, slot := range slots {
		info, err := m.Token(slot)
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		tokens = append(tokens, info)
	}
	if len(tokens) == 0 {
		return nil, first
	}
	return tokens, nil
}

// Token returns what is in one slot.
func (m *Module) Token(slot uint) (TokenInfo, error) {
	info, err := m.ctx.GetTokenInfo(slot)
	if err != nil {
		return TokenInfo{}, call("C_GetTokenInfo", err)
	}
	return TokenInfo{
		Slot: slot, Label: trim(info.Label), Serial: trim(info.SerialNumber), Flags: info.Flags,
		MaxSessions: limit(info.MaxSessionCount), MaxRWSessions: limit(info.MaxRwSessionCount),
	}, nil
}

// trim removes the padding of a fixed-length field: blanks by the standard, NULs by some modules.
func trim(s string) string { return strings.TrimRight(s, " \x00") }

func limit(n uint) uint {
	if n == pkcs11.CK_UNAVAILABLE_INFORMATION {
		return 0
	}
	return n // CK_EFFECTIVELY_INFINITE is 0
}

// Mechanisms returns the mechanisms of the token in slot. Those that are listed but can't be asked about are left out.
func (m *Module) Mechanisms(slot uint) ([]MechanismInfo, error) {
	list, err := m.ctx.GetMechanismList(slot)
	if err != nil {
		return nil, call("C_GetMechanismList", err)
	}
	var infos []MechanismInfo
	for _, mechanism := range list {
		if info, err := m.ctx.GetMechanismInfo(slot, []*pkcs11.Mechanism{mechanism}); err == nil {
			infos = append(infos, MechanismInfo{mechanism.Mechanism, info.Flags})
		}
	}
	return infos, nil
}

// OpenSession opens a session on the token in slot, read/write or read-only.
func (m *Module) OpenSession(slot uint, rw bool) (Handle, error) {
	flags := uint(pkcs11.CKF_SERIAL_SESSION)
	if rw {
		flags |= pkcs11.CKF_RW_SESSION
	}
	session, err := m.ctx.OpenSession(slot, flags)
	return Handle(session), call("C_OpenSession", err)
}

// CloseSession closes a session.
func (m *Module) CloseSession(session Handle) error {
	return call("C_CloseSession", m.ctx.CloseSession(pkcs11.SessionHandle(session)))
}

// CloseAllSessions closes all sessions of this process on the token in slot.
func (m *Module) CloseAllSessions(slot uint) error {
	return call("C_CloseAllSessions", m.ctx.CloseAllSessions(slot))
}

// LoggedIn asks a session whether the user is logged in.
func (m *Module) LoggedIn(session Handle) (bool, error) {
	info, err := m.ctx.GetSessionInfo(pkcs11.SessionHandle(session))
	if err != nil {
		return false, call("C_GetSessionInfo", err)
	}
	return info.State == pkcs11.CKS_RW_USER_FUNCTIONS || info.State == pkcs11.CKS_RO_USER_FUNCTIONS, nil
}

// Login logs the user in, with exactly one C_Login.
func (m *Module) Login(session Handle, pin string) error {
	return call("C_Login", m.ctx.Login(pkcs11.SessionHandle(session), pkcs11.CKU_USER, pin))
}

// Logout ends the user's login, for all sessions.
func (m *Module) Logout(session Handle) error {
	return call("C_Logout", m.ctx.Logout(pkcs11.SessionHandle(session)))
}

// Random fills b, which must not be empty.
func (m *Module) Random(session Handle, b []byte) error {
	out, err := m.ctx.GenerateRandom(pkcs11.SessionHandle(session), len(b))
	if err != nil {
		return call("C_GenerateRandom", err)
	}
	copy(b, out)
	clear(out)
	return nil
}
