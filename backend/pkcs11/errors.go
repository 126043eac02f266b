package pkcs11

import (
	"errors"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// ckr is a return value of a PKCS#11 function (CK_RV).
type ckr uint64

// Error returns the standard's name, or the number where the standard has none.
func (c ckr) Error() string {
	if r, ok := ckrs[c]; ok {
		return "CKR_" + r.name
	}
	if c&ckrVendorDefined != 0 {
		return fmt.Sprintf("vendor-defined CKR 0x%08X", uint64(c))
	}
	return fmt.Sprintf("CKR 0x%08X", uint64(c))
}

// sentinel returns the kind of failure that c is for whoever uses a key. What is unknown may pass.
func (c ckr) sentinel() error {
	if r, ok := ckrs[c]; ok {
		return r.sentinel
	}
	return backend.ErrUnavailable
}

// refusesPIN reports whether c, from C_Login, says that the same PIN would be refused again. Trying it again could lock
// the token.
func (c ckr) refusesPIN() bool {
	switch c {
	case ckrPINIncorrect, ckrPINInvalid, ckrPINLenRange, ckrPINExpired, ckrPINLocked, ckrUserPINNotInitialized:
		return true
	}
	return false
}

// failsDecryption reports whether c, from decryption, may mean that the ciphertext is not one. SoftHSM2 and others have
// only general errors for that. They all look alike to the caller, who could use a difference to decrypt (RFC 8017,
// Section 7.1.2).
func (c ckr) failsDecryption() bool {
	switch c {
	case ckrGeneralError, ckrFunctionFailed, ckrArgumentsBad, ckrDataInvalid, ckrDataLenRange, ckrEncryptedDataInvalid,
		ckrEncryptedDataLenRange, ckrFunctionRejected:
		return true
	}
	return false
}

// refusesParameters reports whether c, from an operation that was tried out, says that the token doesn't do it, and not
// that the token is in trouble.
func (c ckr) refusesParameters() bool {
	return c.failsDecryption() || errors.Is(c.sentinel(), backend.ErrUnsupported)
}

// callError is a PKCS#11 function that failed.
type callError struct {
	function string // such as "C_Login"
	code     ckr    // what that means
	returned ckr    // what it returned, if that is something else
}

func (e *callError) Error() string {
	if e.returned != 0 {
		return e.function + ": " + e.returned.Error() + ", which is " + e.code.Error() + " there"
	}
	return e.function + ": " + e.code.Error()
}

func (e *callError) Unwrap() error { return e.code }

// wrap returns err with a ckr in place of the number, if it is the failure of a PKCS#11 function.
func wrap(err error) error {
	failure, ok := err.(*cryptoki.Error)
	if !ok {
		return err
	}
	e := &callError{function: failure.Function, code: ckr(failure.Code)}
	if e.function == "C_GetAttributeValue" && e.code == ckrAttributeValueInvalid {
		// It reads no value that could be invalid (PKCS #11 3.1, Section 5.7.5). SoftHSM2 says so of an object that another process
		// has just removed, whose class is gone.
		e.returned, e.code = e.code, ckrObjectHandleInvalid
	}
	return e
}

// troubleOf returns what helps against err. An error without a PKCS#11 return value is the caller's fault.
func troubleOf(err error) trouble {
	if c, ok := code(wrap(err)); ok && !isFinal(err) {
		return c.trouble()
	}
	return callersFault
}

// isFinal reports whether err was judged already, and recovering doesn't help against it.
func isFinal(err error) bool {
	for _, s := range []error{backend.ErrCredentials, backend.ErrKeyNotFound, backend.ErrKeyExists, backend.ErrAmbiguousKey,
		backend.ErrKeyChanged, backend.ErrInvalidParams, backend.ErrNotPermitted} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

// isForbidden reports whether err says that the token does not permit what the key was asked for.
func isForbidden(err error) bool {
	c, ok := code(err)
	return ok && c == ckrKeyFunctionNotPermitted
}

func isUnsupported(err error) bool { return errors.Is(err, backend.ErrUnsupported) }

// functionOf returns the PKCS#11 function that failed, or "".
func functionOf(err error) string {
	var failure *callError
	if errors.As(err, &failure) {
		return failure.function
	}
	return ""
}

// code returns the PKCS#11 return value in err's chain, and whether there is one.
func code(err error) (ckr, bool) {
	if err == nil {
		return 0, false // without the allocation that follows, since that is the usual case
	}
	var c ckr
	ok := errors.As(err, &c)
	return c, ok
}

// isSentinel reports whether err wraps a sentinel of package backend already.
func isSentinel(err error) bool {
	for _, s := range []error{backend.ErrKeyNotFound, backend.ErrKeyExists, backend.ErrAmbiguousKey, backend.ErrUnsupported,
		backend.ErrNotPermitted, backend.ErrUnavailable, backend.ErrCredentials, backend.ErrKeyDisabled, backend.ErrKeyChanged,
		backend.ErrDecryption, backend.ErrInvalidParams} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

// classify returns err with the sentinel that it stands for in its chain, and nil for nil. Errors without a PKCS#11
// return value, such as an answer that can't be parsed, are ErrUnavailable.
func classify(err error) error {
	if err == nil || isSentinel(err) {
		return err
	}
	if c, ok := code(err); ok {
		return fmt.Errorf("%w: %w", c.sentinel(), err)
	}
	return fmt.Errorf("%w: %w", backend.ErrUnavailable, err)
}
