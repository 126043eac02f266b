package pkcs11

import "github.com/managedkeys/managedkeys/backend"

// The return values that the code tells apart.
const (
	ckrGeneralError          ckr = 0x005
	ckrFunctionFailed        ckr = 0x006
	ckrArgumentsBad          ckr = 0x007
	ckrAttributeSensitive    ckr = 0x011
	ckrAttributeReadOnly     ckr = 0x010
	ckrAttributeTypeInvalid  ckr = 0x012
	ckrAttributeValueInvalid ckr = 0x013
	ckrTemplateInconsistent  ckr = 0x0D1
	ckrDataInvalid           ckr = 0x020
	ckrDataLenRange          ckr = 0x021
	ckrEncryptedDataInvalid  ckr = 0x040
	ckrEncryptedDataLenRange ckr = 0x041
	ckrKeyHandleInvalid      ckr = 0x060
	ckrObjectHandleInvalid   ckr = 0x082

	ckrKeyFunctionNotPermitted ckr = 0x068

	ckrPINIncorrect          ckr = 0x0A0
	ckrPINInvalid            ckr = 0x0A1
	ckrPINLenRange           ckr = 0x0A2
	ckrPINExpired            ckr = 0x0A3
	ckrPINLocked             ckr = 0x0A4
	ckrSessionClosed         ckr = 0x0B0
	ckrSessionCount          ckr = 0x0B1
	ckrSessionHandleInvalid  ckr = 0x0B3
	ckrUserAlreadyLoggedIn   ckr = 0x100
	ckrTokenNotPresent       ckr = 0x0E0
	ckrUserNotLoggedIn       ckr = 0x101
	ckrUserPINNotInitialized ckr = 0x102
	ckrAlreadyInitialized    ckr = 0x191
	ckrFunctionRejected      ckr = 0x200
	ckrVendorDefined         ckr = 0x80000000
)

// trouble is a kind of failure, by what helps against it.
type trouble uint8

const (
	deviceTrouble  trouble = iota // the token or module has a problem, or the value is unknown: try another session, then look closer
	callersFault                  // what was asked can't be done; asking again doesn't help
	lostSession                   // another session
	lostLogin                     // log in once, for everybody
	staleHandle                   // look the key up again and compare
	tokenGone                     // find the token again, in whatever slot
	notInitialized                // initialise the module again
	exhausted                     // sessions or memory of the token are used up: give some back and wait
	pinRefused                    // never try this PIN again
)

func (t trouble) String() string {
	return [...]string{"device trouble", "caller's fault", "session lost", "login lost", "handle stale", "token gone",
		"module not initialised", "exhausted", "PIN refused"}[t]
}

// trouble returns the kind of c.
func (c ckr) trouble() trouble { return ckrs[c].trouble }

// ckrs are the return values of PKCS #11 Specification Version 3.1, Section 5.1, what each means for whoever uses a key
// (what the token can't do or doesn't allow, refused credentials, a token that is away or in trouble), and what helps.
var ckrs = map[ckr]struct {
	name     string
	sentinel error
	trouble  trouble
}{
	0x001: {"CANCEL", backend.ErrUnavailable, deviceTrouble},
	0x002: {"HOST_MEMORY", backend.ErrUnavailable, exhausted},
	0x003: {"SLOT_ID_INVALID", backend.ErrUnavailable, tokenGone},
	0x005: {"GENERAL_ERROR", backend.ErrUnavailable, deviceTrouble},
	0x006: {"FUNCTION_FAILED", backend.ErrUnavailable, deviceTrouble},
	0x007: {"ARGUMENTS_BAD", backend.ErrUnsupported, callersFault},
	0x008: {"NO_EVENT", backend.ErrUnavailable, deviceTrouble},
	0x009: {"NEED_TO_CREATE_THREADS", backend.ErrUnsupported, callersFault},
	0x00A: {"CANT_LOCK", backend.ErrUnsupported, deviceTrouble},
	0x010: {"ATTRIBUTE_READ_ONLY", backend.ErrUnsupported, callersFault},
	0x011: {"ATTRIBUTE_SENSITIVE", backend.ErrNotPermitted, callersFault},
	0x012: {"ATTRIBUTE_TYPE_INVALID", backend.ErrUnsupported, callersFault},
	0x013: {"ATTRIBUTE_VALUE_INVALID", backend.ErrUnsupported, callersFault},
	0x01B: {"ACTION_PROHIBITED", backend.ErrNotPermitted, callersFault},
	0x020: {"DATA_INVALID", backend.ErrUnsupported, callersFault},
	0x021: {"DATA_LEN_RANGE", backend.ErrUnsupported, callersFault},
	0x030: {"DEVICE_ERROR", backend.ErrUnavailable, deviceTrouble},
	0x031: {"DEVICE_MEMORY", backend.ErrUnavailable, exhausted},
	0x032: {"DEVICE_REMOVED", backend.ErrUnavailable, tokenGone},
	0x040: {"ENCRYPTED_DATA_INVALID", backend.ErrDecryption, callersFault},
	0x041: {"ENCRYPTED_DATA_LEN_RANGE", backend.ErrDecryption, callersFault},
	0x042: {"AEAD_DECRYPT_FAILED", backend.ErrDecryption, callersFault},
	0x050: {"FUNCTION_CANCELED", backend.ErrUnavailable, deviceTrouble},
	0x051: {"FUNCTION_NOT_PARALLEL", backend.ErrUnavailable, deviceTrouble},
	0x054: {"FUNCTION_NOT_SUPPORTED", backend.ErrUnsupported, callersFault},
	0x060: {"KEY_HANDLE_INVALID", backend.ErrUnavailable, staleHandle},
	0x062: {"KEY_SIZE_RANGE", backend.ErrUnsupported, callersFault},
	0x063: {"KEY_TYPE_INCONSISTENT", backend.ErrUnsupported, callersFault},
	0x064: {"KEY_NOT_NEEDED", backend.ErrUnsupported, callersFault},
	0x065: {"KEY_CHANGED", backend.ErrUnavailable, staleHandle}, // of a saved operation; that a key is another one takes proof
	0x066: {"KEY_NEEDED", backend.ErrUnsupported, callersFault},
	0x067: {"KEY_INDIGESTIBLE", backend.ErrUnsupported, callersFault},
	0x068: {"KEY_FUNCTION_NOT_PERMITTED", backend.ErrNotPermitted, callersFault},
	0x069: {"KEY_NOT_WRAPPABLE", backend.ErrNotPermitted, callersFault},
	0x06A: {"KEY_UNEXTRACTABLE", backend.ErrNotPermitted, callersFault},
	0x070: {"MECHANISM_INVALID", backend.ErrUnsupported, callersFault},
	0x071: {"MECHANISM_PARAM_INVALID", backend.ErrUnsupported, callersFault},
	0x082: {"OBJECT_HANDLE_INVALID", backend.ErrUnavailable, staleHandle},
	0x090: {"OPERATION_ACTIVE", backend.ErrUnavailable, lostSession},
	0x091: {"OPERATION_NOT_INITIALIZED", backend.ErrUnavailable, lostSession},
	0x0A0: {"PIN_INCORRECT", backend.ErrCredentials, pinRefused},
	0x0A1: {"PIN_INVALID", backend.ErrCredentials, pinRefused},
	0x0A2: {"PIN_LEN_RANGE", backend.ErrCredentials, pinRefused},
	0x0A3: {"PIN_EXPIRED", backend.ErrCredentials, pinRefused},
	0x0A4: {"PIN_LOCKED", backend.ErrCredentials, pinRefused},
	0x0B0: {"SESSION_CLOSED", backend.ErrUnavailable, lostSession},
	0x0B1: {"SESSION_COUNT", backend.ErrUnavailable, exhausted},
	0x0B3: {"SESSION_HANDLE_INVALID", backend.ErrUnavailable, lostSession},
	0x0B4: {"SESSION_PARALLEL_NOT_SUPPORTED", backend.ErrUnavailable, lostSession},
	0x0B5: {"SESSION_READ_ONLY", backend.ErrNotPermitted, callersFault},
	0x0B6: {"SESSION_EXISTS", backend.ErrUnavailable, callersFault},
	0x0B7: {"SESSION_READ_ONLY_EXISTS", backend.ErrUnavailable, callersFault},
	0x0B8: {"SESSION_READ_WRITE_SO_EXISTS", backend.ErrUnavailable, callersFault},
	0x0C0: {"SIGNATURE_INVALID", backend.ErrUnavailable, callersFault},
	0x0C1: {"SIGNATURE_LEN_RANGE", backend.ErrUnavailable, callersFault},
	0x0D0: {"TEMPLATE_INCOMPLETE", backend.ErrUnsupported, callersFault},
	0x0D1: {"TEMPLATE_INCONSISTENT", backend.ErrUnsupported, callersFault},
	0x0E0: {"TOKEN_NOT_PRESENT", backend.ErrUnavailable, tokenGone},
	0x0E1: {"TOKEN_NOT_RECOGNIZED", backend.ErrUnavailable, tokenGone},
	0x0E2: {"TOKEN_WRITE_PROTECTED", backend.ErrNotPermitted, callersFault},
	0x0F0: {"UNWRAPPING_KEY_HANDLE_INVALID", backend.ErrUnavailable, staleHandle},
	0x0F1: {"UNWRAPPING_KEY_SIZE_RANGE", backend.ErrUnsupported, callersFault},
	0x0F2: {"UNWRAPPING_KEY_TYPE_INCONSISTENT", backend.ErrUnsupported, callersFault},
	0x100: {"USER_ALREADY_LOGGED_IN", backend.ErrCredentials, callersFault},
	0x101: {"USER_NOT_LOGGED_IN", backend.ErrUnavailable, lostLogin},
	0x102: {"USER_PIN_NOT_INITIALIZED", backend.ErrCredentials, pinRefused},
	0x103: {"USER_TYPE_INVALID", backend.ErrCredentials, callersFault},
	0x104: {"USER_ANOTHER_ALREADY_LOGGED_IN", backend.ErrCredentials, callersFault},
	0x105: {"USER_TOO_MANY_TYPES", backend.ErrCredentials, callersFault},
	0x110: {"WRAPPED_KEY_INVALID", backend.ErrDecryption, callersFault},
	0x112: {"WRAPPED_KEY_LEN_RANGE", backend.ErrDecryption, callersFault},
	0x113: {"WRAPPING_KEY_HANDLE_INVALID", backend.ErrUnavailable, staleHandle},
	0x114: {"WRAPPING_KEY_SIZE_RANGE", backend.ErrUnsupported, callersFault},
	0x115: {"WRAPPING_KEY_TYPE_INCONSISTENT", backend.ErrUnsupported, callersFault},
	0x120: {"RANDOM_SEED_NOT_SUPPORTED", backend.ErrUnsupported, callersFault},
	0x121: {"RANDOM_NO_RNG", backend.ErrUnsupported, callersFault},
	0x130: {"DOMAIN_PARAMS_INVALID", backend.ErrUnsupported, callersFault},
	0x140: {"CURVE_NOT_SUPPORTED", backend.ErrUnsupported, callersFault},
	0x150: {"BUFFER_TOO_SMALL", backend.ErrUnavailable, callersFault},
	0x160: {"SAVED_STATE_INVALID", backend.ErrUnavailable, deviceTrouble},
	0x170: {"INFORMATION_SENSITIVE", backend.ErrNotPermitted, callersFault},
	0x180: {"STATE_UNSAVEABLE", backend.ErrUnavailable, callersFault},
	0x190: {"CRYPTOKI_NOT_INITIALIZED", backend.ErrUnavailable, notInitialized},
	0x191: {"CRYPTOKI_ALREADY_INITIALIZED", backend.ErrUnavailable, callersFault},
	0x1A0: {"MUTEX_BAD", backend.ErrUnavailable, deviceTrouble},
	0x1A1: {"MUTEX_NOT_LOCKED", backend.ErrUnavailable, deviceTrouble},
	0x1B0: {"NEW_PIN_MODE", backend.ErrCredentials, callersFault},
	0x1B1: {"NEXT_OTP", backend.ErrCredentials, callersFault},
	0x1B5: {"EXCEEDED_MAX_ITERATIONS", backend.ErrUnavailable, callersFault},
	0x1B6: {"FIPS_SELF_TEST_FAILED", backend.ErrUnavailable, deviceTrouble},
	0x1B7: {"LIBRARY_LOAD_FAILED", backend.ErrUnavailable, deviceTrouble},
	0x1B8: {"PIN_TOO_WEAK", backend.ErrCredentials, callersFault},
	0x1B9: {"PUBLIC_KEY_INVALID", backend.ErrUnsupported, callersFault},
	0x200: {"FUNCTION_REJECTED", backend.ErrNotPermitted, callersFault},
	0x201: {"TOKEN_RESOURCE_EXCEEDED", backend.ErrUnavailable, exhausted},
	0x202: {"OPERATION_CANCEL_FAILED", backend.ErrUnavailable, lostSession},
	0x203: {"KEY_EXHAUSTED", backend.ErrKeyDisabled, callersFault},
}
