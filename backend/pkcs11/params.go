package pkcs11

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/managedkeys/managedkeys/backend"
)

// Type is the backend type of this package.
const Type = "pkcs11"

// Params describe one key on a PKCS#11 token. Their JSON fields are those of the managed-keys API.
type Params struct {
	// Library is the logical name of the module, as [Library].Name gives it; compared without case. Required.
	Library string `json:"library"`

	// KeyLabel is the CKA_LABEL of the key, at most 255 bytes. KeyID is its CKA_ID: hexadecimal with the prefix "0x", or
	// else the text itself. One of them is required; if both are given, both must match. A key that is generated needs
	// a label and gets a random id.
	KeyLabel string `json:"key_label,omitempty"`
	KeyID    string `json:"key_id,omitempty"`

	// Mechanism says what kind of key it is and what it does by preference. Required.
	Mechanism Mechanism `json:"mechanism"`

	// PIN logs the user in. Required.
	PIN backend.Secret `json:"pin"`

	// Slot is the decimal number of the slot that the token is in; TokenLabel is the label of the token, at most 32
	// bytes; TokenSerial is its serial number, at most 16 bytes (both of CK_TOKEN_INFO, without the blanks that fill
	// them). A token is named by its slot alone, or by its label, its serial number or both, which must then both match.
	Slot        string `json:"slot,omitempty"`
	TokenLabel  string `json:"token_label,omitempty"`
	TokenSerial string `json:"token_serial,omitempty"`

	// Curve is P224, P256, P384, P521 or SECP256K1 for EC keys, and may be ED25519 for CKM_EDDSA. KeyBits is 2048, 3072 or
	// 4096 for RSA, 128, 192 or 256 for AES, and 128 to 4096 for HMAC. ParameterSet is 44, 65 or 87 for ML-DSA. Generating
	// needs the one that its kind of key has; the key that is opened must agree if it is given.
	Curve        string `json:"curve,omitempty"`
	KeyBits      int    `json:"key_bits,omitempty"`
	ParameterSet int    `json:"parameter_set,omitempty"`

	// ForceRWSession asks for read/write sessions only, as AWS CloudHSM needs them. It holds for all keys of the token from
	// then on.
	ForceRWSession bool `json:"force_rw_session,omitempty"`

	// MaxParallel is how many operations of this key may be in flight at once; 0 means as many as the token takes. (The
	// managed-keys API's own default is 1; here all goroutines of a program share one handle.) The sessions of the token
	// bound all its keys together, see [Library].MaxSessions.
	MaxParallel int `json:"max_parallel,omitempty"`
}

// BackendType implements backend.Params.
func (Params) BackendType() string { return Type }

// Limits of parameters.
const (
	maxLabel       = 255  // bytes of a CKA_LABEL; the standard has no limit
	maxKeyID       = 255  // bytes of a CKA_ID; the standard has no limit
	maxTokenLabel  = 32   // bytes of CK_TOKEN_INFO.label
	maxTokenSerial = 16   // bytes of CK_TOKEN_INFO.serialNumber
	maxParallel    = 4096 // operations
)

// Validate implements backend.Params.
func (p Params) Validate() error {
	if err := p.validateScope(); err != nil {
		return err
	}
	if p.KeyLabel == "" && p.KeyID == "" {
		return invalid("key_label, key_id", "neither is given; one is required")
	}
	if err := checkText("key_label", p.KeyLabel, maxLabel); err != nil {
		return err
	}
	if _, err := p.keyID(); err != nil {
		return err
	}
	if p.MaxParallel < 0 || p.MaxParallel > maxParallel {
		return invalid("max_parallel", "got %d; it takes 0 to %d", p.MaxParallel, maxParallel)
	}
	return p.validateKind()
}

// validateKind checks the fields that say what the key is.
func (p Params) validateKind() error {
	switch p.Mechanism {
	case rsaKeyPairGen:
		return invalid("mechanism", "is missing; it takes CKM_ECDSA (0x1041), CKM_RSA_PKCS (0x0001), CKM_RSA_PKCS_PSS (0x000D), CKM_RSA_PKCS_OAEP (0x0009) or another of the constants of this package")
	case ecKeyPairGen, edwardsKeyPairGen, mldsaKeyPairGen, aesKeyGen, genericSecretKeyGen:
		return invalid("mechanism", "got %s, which makes keys; it takes what the key does, such as CKM_ECDSA", p.Mechanism)
	}
	m, known := p.Mechanism, p.Mechanism.known()
	if p.Curve != "" {
		if known && !m.is(keyEC) && !m.is(keyEdDSA) {
			return invalid("curve", "got %.20q with mechanism %s, which has none; leave it out", p.Curve, m)
		}
		if _, ok := curves[p.Curve]; p.Curve != curveEd25519 && !ok || known && m.is(keyEdDSA) != (p.Curve == curveEd25519) {
			return invalid("curve", "got %.20q with mechanism %s; it takes P224, P256, P384, P521 or SECP256K1 for EC keys, and ED25519 for CKM_EDDSA", p.Curve, m)
		}
	}
	if p.ParameterSet != 0 && known && !m.is(keyMLDSA) {
		return invalid("parameter_set", "got %d with mechanism %s, which has none; leave it out", p.ParameterSet, m)
	}
	if p.ParameterSet != 0 && mldsaSet(p.ParameterSet) == 0 {
		return invalid("parameter_set", "got %d; it takes 44, 65 or 87", p.ParameterSet)
	}
	rsa := p.KeyBits == 2048 || p.KeyBits == 3072 || p.KeyBits == 4096
	aes := p.KeyBits == 128 || p.KeyBits == 192 || p.KeyBits == 256
	secret := p.KeyBits >= 128 && p.KeyBits <= 4096 && p.KeyBits%8 == 0
	switch {
	case p.KeyBits == 0:
	case !known && (rsa || secret):
	case m.is(keyRSA) && !rsa:
		return invalid("key_bits", "got %d; RSA takes 2048, 3072 or 4096", p.KeyBits)
	case m.is(keyAES) && !aes:
		return invalid("key_bits", "got %d; AES takes 128, 192 or 256", p.KeyBits)
	case m.is(keyGeneric) && !secret:
		return invalid("key_bits", "got %d; HMAC takes whole bytes of 128 to 4096 bits", p.KeyBits)
	case !m.is(keyRSA) && !m.is(keyAES) && !m.is(keyGeneric):
		return invalid("key_bits", "got %d with mechanism %s, which takes none; leave it out", p.KeyBits, m)
	}
	return nil
}

// validateScope checks the fields that say which token it is and how to log in.
func (p Params) validateScope() error {
	switch {
	case p.Library == "":
		return invalid("library", "is missing; it takes the name of a configured library")
	case !isLibraryName(p.Library):
		return invalid("library", "%.80q is not the name of a library; %s", p.Library, libraryNameRule)
	case p.Slot == "" && p.TokenLabel == "" && p.TokenSerial == "":
		return invalid("slot, token_label, token_serial", "none is given; it takes the slot, or the label, the serial number or both")
	case p.Slot != "" && (p.TokenLabel != "" || p.TokenSerial != ""):
		return invalid("slot", "is given together with token_label or token_serial; it takes the slot alone, or the others without it")
	case p.PIN == "":
		return invalid("pin", "is missing; it takes the user's PIN, env:NAME or file:/path")
	}
	if _, err := p.slot(); err != nil {
		return err
	}
	if err := checkText("token_label", p.TokenLabel, maxTokenLabel); err != nil {
		return err
	}
	return checkText("token_serial", p.TokenSerial, maxTokenSerial)
}

// slot returns the number of the slot, or 0 if none is given.
func (p Params) slot() (uint, error) {
	if p.Slot == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(p.Slot, 10, strconv.IntSize-1)
	if err != nil {
		return 0, invalid("slot", "%.40q is not a decimal number of at most %d bits", p.Slot, strconv.IntSize-1)
	}
	return uint(n), nil
}

// keyID returns the bytes of the key's id, or nil if none is given.
func (p Params) keyID() ([]byte, error) {
	digits, isHex := cutPrefixFold(p.KeyID, "0x")
	if !isHex {
		if err := checkText("key_id", p.KeyID, maxKeyID); err != nil {
			return nil, err
		}
		return []byte(p.KeyID), nil
	}
	id, err := hex.DecodeString(digits)
	switch {
	case err != nil:
		return nil, invalid("key_id", "%.40q is not pairs of hexadecimal digits after 0x, such as 0x01", p.KeyID)
	case len(id) == 0 || len(id) > maxKeyID:
		return nil, invalid("key_id", "has %d bytes; it takes 1 to %d", len(id), maxKeyID)
	}
	return id, nil
}

// checkText refuses text that is too long, not UTF-8 or has characters that can't be seen.
func checkText(field, text string, limit int) error {
	switch {
	case len(text) > limit:
		return invalid(field, "has %d bytes; it takes at most %d", len(text), limit)
	case !utf8.ValidString(text):
		return invalid(field, "is not UTF-8")
	case strings.ContainsFunc(text, unicode.IsControl):
		return invalid(field, "%.40q has control characters", text)
	}
	return nil
}

func invalid(field, format string, args ...any) error {
	return fmt.Errorf("pkcs11: %s: %s: %w", field, fmt.Sprintf(format, args...), backend.ErrInvalidParams)
}
