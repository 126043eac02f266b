package pkcs11

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// Mechanism is a PKCS#11 mechanism (CK_MECHANISM_TYPE). An entry's mechanism says what kind of key it names and what
// the key does by preference; see the package documentation.
//
// In text it is a hexadecimal number ("0x1041"), a decimal number ("4161"), or the name that the standard gives it, in
// any case, with or without its prefix ("CKM_ECDSA", "ecdsa"). JSON takes these as a string, or a number.
type Mechanism uint64

// The mechanisms that keys of this package can have.
const (
	RSAPKCS     Mechanism = 0x0001 // CKM_RSA_PKCS: signs with RSASSA-PKCS1-v1_5
	RSAPKCSOAEP Mechanism = 0x0009 // CKM_RSA_PKCS_OAEP: decrypts RSAES-OAEP
	RSAPKCSPSS  Mechanism = 0x000D // CKM_RSA_PKCS_PSS: signs with RSASSA-PSS
	ECDSA       Mechanism = 0x1041 // CKM_ECDSA: signs digests
)

// EdDSA is CKM_EDDSA. Keys of this kind are listed, but can't be opened yet.
const EdDSA Mechanism = 0x1057

// The mechanisms that make keys.
const (
	rsaKeyPairGen Mechanism = 0x0000
	ecKeyPairGen  Mechanism = 0x1040
)

// ParseMechanism returns the mechanism that text stands for; see [Mechanism] for its forms. The error wraps
// backend.ErrInvalidParams.
func ParseMechanism(text string) (Mechanism, error) {
	number, base := text, 10
	if rest, ok := cutPrefixFold(text, "0x"); ok {
		number, base = rest, 16
	}
	// CK_MECHANISM_TYPE is a CK_ULONG: vendors' mechanisms begin at 0x80000000 and may use all of its 64 bits.
	if n, err := strconv.ParseUint(number, base, 64); err == nil {
		return Mechanism(n), nil
	}
	name := strings.ToUpper(text)
	if m, ok := mechanismsByName[strings.TrimPrefix(name, "CKM_")]; ok {
		return m, nil
	}
	return 0, fmt.Errorf("pkcs11: mechanism: %.60q is neither a number of up to 64 bits (0x1041, 4161) nor a known name such as %s: %w",
		text, "CKM_ECDSA, CKM_RSA_PKCS, CKM_RSA_PKCS_PSS or CKM_RSA_PKCS_OAEP", backend.ErrInvalidParams)
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// String returns the standard's name, such as "CKM_ECDSA", or a hexadecimal number.
func (m Mechanism) String() string {
	if name, ok := mechanismNames[m]; ok {
		return "CKM_" + name
	}
	return m.hex()
}

func (m Mechanism) hex() string { return fmt.Sprintf("0x%04X", uint64(m)) }

// MarshalText returns the hexadecimal number, such as "0x1041".
func (m Mechanism) MarshalText() ([]byte, error) { return []byte(m.hex()), nil }

// UnmarshalText sets m as [ParseMechanism] does. If it fails, m is unchanged.
func (m *Mechanism) UnmarshalText(text []byte) error {
	parsed, err := ParseMechanism(string(text))
	if err == nil {
		*m = parsed
	}
	return err
}

// UnmarshalJSON takes a string as [ParseMechanism] does, or a number.
func (m *Mechanism) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		return m.UnmarshalText([]byte(text))
	}
	n, err := strconv.ParseUint(string(data), 10, 64)
	if err != nil {
		return fmt.Errorf("pkcs11: mechanism: %.60s is neither a string nor a whole number of up to 64 bits: %w", data, backend.ErrInvalidParams)
	}
	*m = Mechanism(n)
	return nil
}

// keyType is a PKCS#11 kind of key (CK_KEY_TYPE).
type keyType uint64

const (
	keyRSA   keyType = 0x00
	keyEC    keyType = 0x03
	keyEdDSA keyType = 0x40
)

// String returns the name that people use.
func (t keyType) String() string {
	switch t {
	case keyRSA:
		return "RSA"
	case keyEC:
		return "EC"
	case keyEdDSA:
		return "EdDSA"
	}
	return fmt.Sprintf("CKK 0x%X", uint64(t))
}

// keyType returns the kind of key that m is for, and false if this package can't use such keys.
func (m Mechanism) keyType() (keyType, bool) {
	switch m {
	case RSAPKCS, RSAPKCSPSS, RSAPKCSOAEP:
		return keyRSA, true
	case ECDSA:
		return keyEC, true
	}
	return 0, false
}
