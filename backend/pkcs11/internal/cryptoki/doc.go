// Package cryptoki calls PKCS#11 modules. It adds to github.com/miekg/pkcs11 what a long-running program needs: modules
// that are no modules, or crash while they start, are errors; an operation of a key is one call from Go, with results in
// buffers of the caller; and attributes are read with bounds, whatever length a module claims.
//
// A handle of a session or object is only a number here: that it is used in the life of the module, login and session
// that it belongs to is the caller's to see to. Methods block for as long as the module does.
package cryptoki

import (
	"errors"
	"fmt"
)

// Error is a PKCS#11 function that failed.
type Error struct {
	Function string // such as "C_Login"
	Code     uint64 // CK_RV
}

// Error returns the function and the number of its return value.
func (e *Error) Error() string { return fmt.Sprintf("%s: CKR 0x%08X", e.Function, e.Code) }

// What loading a module can fail with.
var (
	ErrNoCgo     = errors.New("this program was built without cgo")
	ErrRefused   = errors.New("the dynamic linker refuses to load it")
	ErrNoModule  = errors.New("it has no function C_GetFunctionList, so it is no PKCS#11 module")
	ErrNoList    = errors.New("its C_GetFunctionList gives no function list")
	ErrCrashed   = errors.New("it crashed")
	ErrDangerous = errors.New("it crashed before and is not used again in this process")
)

// Handle is that of a session or an object.
type Handle = uint

// The numbers of return values that this package itself knows.
const (
	rvArgumentsBad         = 0x07
	rvAttributeSensitive   = 0x11
	rvAttributeTypeInvalid = 0x12
	rvBufferTooSmall       = 0x150
	rvAlreadyInitialized   = 0x191
)

// Kind says which parameter a mechanism has.
type Kind int

// The kinds, with what they take of an [Operation].
const (
	NoParameter Kind = iota
	PSS              // CK_RSA_PKCS_PSS_PARAMS: Hash, MGF, Number is the salt length in bytes
	OAEP             // CK_RSA_PKCS_OAEP_PARAMS: Hash, MGF, B is the label
	GCM              // CK_GCM_PARAMS: A is the IV, which the module may overwrite; B the additional data; Number the tag length in bits
	SignContext      // CK_SIGN_ADDITIONAL_CONTEXT: Number is the hedge variant, B the context string
)

// Op is what is done with a key.
type Op int

// The operations.
const (
	Sign Op = iota // also computes MACs
	Encrypt
	Decrypt
)

// Stage is the function at which an operation failed.
type Stage int

// The stages.
const (
	AtInit      Stage = iota // C_SignInit, C_EncryptInit, C_DecryptInit: nothing was done with the key
	AtLogin                  // C_Login with CKU_CONTEXT_SPECIFIC
	AtOperation              // C_Sign, C_Encrypt, C_Decrypt
)

// Operation is one operation of a key: CK_MECHANISM with its parameter, input and room for the output.
type Operation struct {
	Op        Op
	Mechanism uint
	Kind      Kind
	Hash, MGF uint
	Number    uint
	A, B      []byte
	PIN       string // for C_Login with CKU_CONTEXT_SPECIFIC between the two calls; "" leaves that out
	In        []byte
	Out       []byte // all of its length is room; never empty

	// Measure has CPU and Wall set: what the calls took of the processor and of time, in nanoseconds.
	Measure   bool
	CPU, Wall uint

	Stage Stage // where it failed
}

var functions = [...][3]string{
	Sign:    {"C_SignInit", "C_Login", "C_Sign"},
	Encrypt: {"C_EncryptInit", "C_Login", "C_Encrypt"},
	Decrypt: {"C_DecryptInit", "C_Login", "C_Decrypt"},
}

// TokenInfo is what a token says of itself (CK_TOKEN_INFO).
type TokenInfo struct {
	Slot                       uint
	Label, Serial              string // without padding
	Flags                      uint
	MaxSessions, MaxRWSessions uint // 0: no limit that is known
}

// MechanismInfo is one mechanism of a token.
type MechanismInfo struct{ Type, Flags uint }

// Attribute is one attribute of a template.
type Attribute struct {
	Type  uint
	Value any // bool, uint, string or []byte
}
