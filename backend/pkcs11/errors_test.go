package pkcs11

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

func TestCKR(t *testing.T) {
	for c, want := range map[ckr]struct {
		text     string
		sentinel error
	}{
		ckrPINIncorrect: {"CKR_PIN_INCORRECT", backend.ErrCredentials},
		ckrPINLocked:    {"CKR_PIN_LOCKED", backend.ErrCredentials},
		0x101:           {"CKR_USER_NOT_LOGGED_IN", backend.ErrCredentials},
		0x0E0:           {"CKR_TOKEN_NOT_PRESENT", backend.ErrUnavailable},
		0x0B3:           {"CKR_SESSION_HANDLE_INVALID", backend.ErrUnavailable},
		0x030:           {"CKR_DEVICE_ERROR", backend.ErrUnavailable},
		0x070:           {"CKR_MECHANISM_INVALID", backend.ErrUnsupported},
		0x063:           {"CKR_KEY_TYPE_INCONSISTENT", backend.ErrUnsupported},
		0x068:           {"CKR_KEY_FUNCTION_NOT_PERMITTED", backend.ErrNotPermitted},
		0x040:           {"CKR_ENCRYPTED_DATA_INVALID", backend.ErrDecryption},
		0x203:           {"CKR_KEY_EXHAUSTED", backend.ErrKeyDisabled},
		0x7FF:           {"CKR 0x000007FF", backend.ErrUnavailable},
		0x80000042:      {"vendor-defined CKR 0x80000042", backend.ErrUnavailable},
	} {
		if c.Error() != want.text || c.sentinel() != want.sentinel {
			t.Errorf("%#x is %q and %v, want %q and %v", uint64(c), c.Error(), c.sentinel(), want.text, want.sentinel)
		}
	}
	seen := make(map[string]bool)
	for c, r := range ckrs {
		if seen[r.name] || r.name == "" || strings.HasPrefix(r.name, "CKR") {
			t.Errorf("name %q", r.name)
		}
		seen[r.name] = true
		if !isSentinel(c.sentinel()) {
			t.Errorf("%v: %v is not known as a sentinel", c, c.sentinel())
		}
		if c.refusesPIN() && c.sentinel() != backend.ErrCredentials {
			t.Errorf("%v refuses a PIN and is %v", c, c.sentinel())
		}
	}
	if len(ckrs) < 90 {
		t.Errorf("the table has %d entries", len(ckrs))
	}
}

func TestClassify(t *testing.T) {
	if classify(nil) != nil {
		t.Error("nil became an error")
	}
	cause := errors.New("cause")
	call := &callError{"C_Sign", 0x030, cause}
	err := classify(fmt.Errorf("around: %w", call))
	for _, want := range []error{backend.ErrUnavailable, ckr(0x030), call, cause} {
		if !errors.Is(err, want) {
			t.Errorf("%v is not in the chain of %v", want, err)
		}
	}
	if c, ok := code(err); !ok || c != 0x030 {
		t.Errorf("code = %v, %t", c, ok)
	}
	if err := classify(cause); !errors.Is(err, backend.ErrUnavailable) || !errors.Is(err, cause) {
		t.Errorf("error = %v", err)
	}
	has := fmt.Errorf("x: %w", backend.ErrKeyNotFound)
	if classify(has) != has {
		t.Error("an error that has a sentinel was wrapped again")
	}
	if !errors.Is(&callError{"C_Sign", 0x030, nil}, ckr(0x030)) {
		t.Error("a call without a cause has no code")
	}
}
