//go:build cgo

package pkcs11

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// TestCKRNames compares the table with the numbers and names of miekg/pkcs11, which come from the standard's header.
func TestCKRNames(t *testing.T) {
	known := 0
	for c := range ckr(0x1000) {
		theirs := pkcs11.Error(c).Error() // "pkcs11: 0x30: CKR_DEVICE_ERROR"
		_, name, ok := strings.Cut(theirs, "CKR_")
		r, ours := ckrs[c]
		switch {
		case c == 0:
		case ok && !ours:
			t.Errorf("0x%03X, CKR_%s, is not in the table", uint64(c), name)
		case ok && r.name != name:
			t.Errorf("0x%03X is %q, want %q", uint64(c), r.name, name)
		case ok:
			known++
		}
	}
	if known < 85 {
		t.Errorf("only %d values were compared", known)
	}
}

// TestCKRTable: each value has a kind of failure and of remedy that agree.
func TestCKRTable(t *testing.T) {
	seen := make(map[string]bool)
	for c, r := range ckrs {
		if seen[r.name] || r.name == "" || strings.HasPrefix(r.name, "CKR") || c.Error() != "CKR_"+r.name {
			t.Errorf("0x%X has the name %q", uint64(c), r.name)
		}
		seen[r.name] = true
		if !isSentinel(c.sentinel()) {
			t.Errorf("%v: %v is not known as a sentinel", c, c.sentinel())
		}
		if (c.trouble() == pinRefused) != c.refusesPIN() {
			t.Errorf("%v is %v, and refuses a PIN: %t", c, c.trouble(), c.refusesPIN())
		}
		if c.refusesPIN() && c.sentinel() != backend.ErrCredentials {
			t.Errorf("%v refuses a PIN and is %v", c, c.sentinel())
		}
		switch c.trouble() {
		case lostSession, lostLogin, tokenGone, notInitialized, exhausted:
			if c.sentinel() != backend.ErrUnavailable {
				t.Errorf("%v is %v, and yet %v", c, c.trouble(), c.sentinel())
			}
		}
		// What is tried again must not be the caller's fault.
		if c.trouble() == callersFault && c.sentinel() == backend.ErrUnavailable {
			switch {
			case strings.Contains(r.name, "SESSION"), strings.Contains(r.name, "SIGNATURE"), strings.Contains(r.name, "STATE"):
			case r.name == "BUFFER_TOO_SMALL", r.name == "EXCEEDED_MAX_ITERATIONS", r.name == "CRYPTOKI_ALREADY_INITIALIZED":
			default:
				t.Errorf("%v may pass, and is never tried again", c)
			}
		}
	}
}

func TestCKR(t *testing.T) {
	for c, want := range map[ckr]struct {
		text     string
		sentinel error
		trouble  trouble
	}{
		ckrPINIncorrect:     {"CKR_PIN_INCORRECT", backend.ErrCredentials, pinRefused},
		ckrPINLocked:        {"CKR_PIN_LOCKED", backend.ErrCredentials, pinRefused},
		ckrUserNotLoggedIn:  {"CKR_USER_NOT_LOGGED_IN", backend.ErrUnavailable, lostLogin},
		ckrTokenNotPresent:  {"CKR_TOKEN_NOT_PRESENT", backend.ErrUnavailable, tokenGone},
		ckrKeyHandleInvalid: {"CKR_KEY_HANDLE_INVALID", backend.ErrUnavailable, staleHandle},
		ckrSessionCount:     {"CKR_SESSION_COUNT", backend.ErrUnavailable, exhausted},
		0x090:               {"CKR_OPERATION_ACTIVE", backend.ErrUnavailable, lostSession},
		0x0B3:               {"CKR_SESSION_HANDLE_INVALID", backend.ErrUnavailable, lostSession},
		0x190:               {"CKR_CRYPTOKI_NOT_INITIALIZED", backend.ErrUnavailable, notInitialized},
		0x030:               {"CKR_DEVICE_ERROR", backend.ErrUnavailable, deviceTrouble},
		0x070:               {"CKR_MECHANISM_INVALID", backend.ErrUnsupported, callersFault},
		0x068:               {"CKR_KEY_FUNCTION_NOT_PERMITTED", backend.ErrNotPermitted, callersFault},
		0x040:               {"CKR_ENCRYPTED_DATA_INVALID", backend.ErrDecryption, callersFault},
		0x203:               {"CKR_KEY_EXHAUSTED", backend.ErrKeyDisabled, callersFault},
		0x7FF:               {"CKR 0x000007FF", backend.ErrUnavailable, deviceTrouble},
		0x80000042:          {"vendor-defined CKR 0x80000042", backend.ErrUnavailable, deviceTrouble},
	} {
		if c.Error() != want.text || c.sentinel() != want.sentinel || c.trouble() != want.trouble {
			t.Errorf("%#x is %q, %v and %v; want %q, %v and %v", uint64(c), c.Error(), c.sentinel(), c.trouble(), want.text, want.sentinel, want.trouble)
		}
	}
	for kind := deviceTrouble; kind <= pinRefused; kind++ {
		if kind.String() == "" {
			t.Errorf("trouble %d has no name", kind)
		}
	}
}

func TestClassify(t *testing.T) {
	if classify(nil) != nil || wrap(nil) != nil {
		t.Error("nil became an error")
	}
	call := &callError{function: "C_Sign", code: 0x030}
	err := classify(fmt.Errorf("around: %w", call))
	for _, want := range []error{backend.ErrUnavailable, ckr(0x030), call} {
		if !errors.Is(err, want) {
			t.Errorf("%v is not in the chain of %v", want, err)
		}
	}
	if c, ok := code(err); !ok || c != 0x030 || functionOf(err) != "C_Sign" || troubleOf(err) != deviceTrouble {
		t.Errorf("code = %v, %t; function %q; %v", c, ok, functionOf(err), troubleOf(err))
	}
	cause := errors.New("cause")
	if err := classify(cause); !errors.Is(err, backend.ErrUnavailable) || !errors.Is(err, cause) || functionOf(err) != "" || troubleOf(err) != callersFault {
		t.Errorf("error = %v", err)
	}
	has := fmt.Errorf("x: %w", backend.ErrKeyNotFound)
	if classify(has) != has {
		t.Error("an error that has a sentinel was wrapped again")
	}
	if got := wrap(&cryptoki.Error{Function: "C_Login", Code: 0xA0}); got.Error() != "C_Login: CKR_PIN_INCORRECT" {
		t.Errorf("got %v", got)
	}
	// What is said of a value that was read is about the object.
	const gone = "C_GetAttributeValue: CKR_ATTRIBUTE_VALUE_INVALID, which is CKR_OBJECT_HANDLE_INVALID there"
	if got := wrap(&cryptoki.Error{Function: "C_GetAttributeValue", Code: 0x13}); got.Error() != gone || troubleOf(got) != staleHandle || !errors.Is(classify(got), backend.ErrUnavailable) {
		t.Errorf("got %v, %v", got, troubleOf(got))
	}
	if got := wrap(&cryptoki.Error{Function: "C_GenerateKey", Code: 0x13}); troubleOf(got) != callersFault || !errors.Is(classify(got), backend.ErrUnsupported) {
		t.Errorf("got %v, %v", got, troubleOf(got))
	}
	if judged := fmt.Errorf("%w: %w", backend.ErrKeyChanged, ckr(0x0E0)); troubleOf(judged) != callersFault {
		t.Errorf("what was judged is %v", troubleOf(judged))
	}
}

// TestOperationErrors: what an operation fails with has its name, its function and its token in the error, and the session
// serves the next one. What recovers is proved elsewhere.
func TestOperationErrors(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	key := mustOpen(t, b, r.bothRSA(t, b))
	ciphertext := encryptOAEP(t, key)
	for c, row := range ckrs {
		if row.trouble != callersFault {
			continue
		}
		for _, function := range []string{"C_SignInit", "C_Sign"} {
			r.failing(function, c)
			_, err := signSHA256(t, key)
			wants(t, err, c.sentinel(), function, c.Error(), r.token.Label, "slot "+r.token.Slot)
		}
		r.failing("C_GenerateRandom", c)
		_, err := key.(backend.Random).GenerateRandom(t.Context(), 8)
		wants(t, err, c.sentinel(), "C_GenerateRandom", c.Error())
		r.failing("C_Decrypt", c)
		_, err = key.(backend.Decrypter).DecryptContext(t.Context(), ciphertext, oaepSHA1)
		if c.failsDecryption() || c.sentinel() == backend.ErrDecryption {
			if err != backend.ErrDecryption {
				t.Errorf("%v: error = %v, want exactly ErrDecryption", c, err)
			}
		} else {
			wants(t, err, c.sentinel(), "C_Decrypt", c.Error())
		}
		r.Set()
		signsWell(t, key)
	}
	// All that a ciphertext can cause look alike.
	for _, c := range []ckr{ckrGeneralError, ckrFunctionFailed} {
		r.failing("C_Decrypt", c)
		if _, err := key.(backend.Decrypter).DecryptContext(t.Context(), ciphertext, oaepSHA1); err != backend.ErrDecryption {
			t.Errorf("%v: error = %v, want exactly ErrDecryption", c, err)
		}
	}
	r.Set()
	ciphertext[0] ^= 1
	if _, err := key.(backend.Decrypter).DecryptContext(t.Context(), ciphertext, oaepSHA1); err != backend.ErrDecryption {
		t.Errorf("error = %v, want exactly ErrDecryption", err)
	}
}
