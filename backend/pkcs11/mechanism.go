package pkcs11

import (
	"encoding/json"
	"fmt"
	"slices"
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

// The mechanisms that keys of this package can have. Those of a key's kind that are not named here, such as
// CKM_SHA384_HMAC, may be given as well.
const (
	RSAPKCS       Mechanism = 0x0001 // CKM_RSA_PKCS: signs with RSASSA-PKCS1-v1_5
	RSAPKCSOAEP   Mechanism = 0x0009 // CKM_RSA_PKCS_OAEP: decrypts RSAES-OAEP
	RSAPKCSPSS    Mechanism = 0x000D // CKM_RSA_PKCS_PSS: signs with RSASSA-PSS
	MLDSA         Mechanism = 0x001D // CKM_ML_DSA: signs messages (PKCS #11 Specification Version 3.2)
	SHA256HMAC    Mechanism = 0x0251 // CKM_SHA256_HMAC: authenticates messages
	ECDSA         Mechanism = 0x1041 // CKM_ECDSA: signs digests
	ECDH          Mechanism = 0x1050 // CKM_ECDH1_DERIVE: agrees on secrets
	EdDSA         Mechanism = 0x1057 // CKM_EDDSA: signs messages with Ed25519
	AESGCM        Mechanism = 0x1087 // CKM_AES_GCM: encrypts with authentication
	AESCMAC       Mechanism = 0x108A // CKM_AES_CMAC: authenticates messages
	AESKeyWrapPad Mechanism = 0x210A // CKM_AES_KEY_WRAP_PAD: wraps keys
	AESKeyWrapKWP Mechanism = 0x210B // CKM_AES_KEY_WRAP_KWP: wraps keys (RFC 5649)
)

// rsaX509 is CKM_RSA_X_509, the bare RSA operation.
const rsaX509 Mechanism = 0x0003

// The mechanisms that make keys.
const (
	rsaKeyPairGen       Mechanism = 0x0000
	mldsaKeyPairGen     Mechanism = 0x001C
	genericSecretKeyGen Mechanism = 0x0350
	ecKeyPairGen        Mechanism = 0x1040
	edwardsKeyPairGen   Mechanism = 0x1055
	aesKeyGen           Mechanism = 0x1080
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

// mechanismUse is what a mechanism can be used for: flags of CK_MECHANISM_INFO (PKCS #11 Specification Version 3.1,
// Section 3.5).
type mechanismUse uint

const (
	useEncrypt      mechanismUse = 0x00000100
	useDecrypt      mechanismUse = 0x00000200
	useSign         mechanismUse = 0x00000800
	useGenerate     mechanismUse = 0x00008000 // a secret key
	useGeneratePair mechanismUse = 0x00010000
	useWrap         mechanismUse = 0x00020000
	useUnwrap       mechanismUse = 0x00040000
	useDerive       mechanismUse = 0x00080000
)

// keyType is a PKCS#11 kind of key (CK_KEY_TYPE).
type keyType uint64

const (
	keyRSA     keyType = 0x00
	keyEC      keyType = 0x03
	keyGeneric keyType = 0x10
	keyAES     keyType = 0x1F
	keyEdDSA   keyType = 0x40
	keyMLDSA   keyType = 0x4A
)

// hmacTypes are the kinds of keys that are for one HMAC each; most tokens call them all generic.
var hmacTypes = []keyType{keyGeneric, 0x28, 0x2B, 0x2C, 0x2D, 0x2E, 0x33, 0x34, 0x35, 0x36}

var keyTypeNames = map[keyType]string{keyRSA: "RSA", keyEC: "EC", keyGeneric: "generic secret", keyAES: "AES", keyEdDSA: "EdDSA", keyMLDSA: "ML-DSA"}

// String returns the name that people use.
func (t keyType) String() string {
	if name, ok := keyTypeNames[t]; ok {
		return name
	}
	return fmt.Sprintf("CKK 0x%X", uint64(t))
}

// keyTypes are the kinds of key that a mechanism is for, what is generated first; none if this package can't use them.
type keyTypes []keyType

func (k keyTypes) has(t keyType) bool { return slices.Contains(k, t) }

// String returns the name of the first.
func (k keyTypes) String() string {
	if len(k) == 0 {
		return "unknown"
	}
	return k[0].String()
}

// kinds returns the kinds of key that m is for.
func (m Mechanism) kinds() keyTypes {
	switch m {
	case RSAPKCS, RSAPKCSPSS, RSAPKCSOAEP:
		return keyTypes{keyRSA}
	case ECDSA, ECDH:
		return keyTypes{keyEC}
	case EdDSA:
		return keyTypes{keyEdDSA}
	case MLDSA:
		return keyTypes{keyMLDSA}
	case AESGCM, AESCMAC, AESKeyWrapKWP, AESKeyWrapPad:
		return keyTypes{keyAES}
	}
	if _, ok := macMechanisms[m]; ok {
		return hmacTypes
	}
	return nil
}

// is reports whether m is for keys of type t and no others.
func (m Mechanism) is(t keyType) bool {
	k := m.kinds()
	return len(k) > 0 && k[0] == t
}

// known reports whether this package can use keys of m.
func (m Mechanism) known() bool { return m.kinds() != nil }
