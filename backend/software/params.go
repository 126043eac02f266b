package software

import (
	"fmt"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// Type is the backend type, as [Backend.Type] and the managed-keys API have it.
const Type = "software"

// MaxKeyName is the length of the longest key name, in bytes.
const MaxKeyName = 256

// KeyType is a kind of key. Its text, JSON included, is read in any case; in Go only the constants are valid.
type KeyType string

// The key types.
const (
	RSA     KeyType = "RSA"
	ECDSA   KeyType = "ECDSA"
	Ed25519 KeyType = "ED25519"
	MLDSA   KeyType = "ML-DSA"
	MLKEM   KeyType = "ML-KEM"
	AES     KeyType = "AES"
	HMAC    KeyType = "HMAC"
)

// Curve is a curve of FIPS 186-5 for ECDSA. Its text, JSON included, is read in any case; in Go only the constants are
// valid.
type Curve string

// The curves.
const (
	P256 Curve = "P256"
	P384 Curve = "P384"
	P521 Curve = "P521"
)

var (
	keyTypes = []KeyType{RSA, ECDSA, Ed25519, MLDSA, MLKEM, AES, HMAC}
	curves   = []Curve{P256, P384, P521}
)

// Params describe one key of a [Backend].
//
// To open a key, KeyName suffices; whatever else is set must be true of it. To generate one, KeyType and the one of
// KeyBits, Curve and ParameterSet that the type has are required. To import one, KeyType is required for symmetric keys,
// and the rest must be true of the material if it is set.
type Params struct {
	// KeyName says which key of the store: 1 to MaxKeyName bytes of printable ASCII without space.
	KeyName string `json:"key_name"`

	KeyType      KeyType `json:"key_type,omitempty"`
	KeyBits      int     `json:"key_bits,omitempty"`      // RSA: 2048, 3072, 4096; AES: 128, 256; HMAC: 256 to 4096, a multiple of 8
	Curve        Curve   `json:"curve,omitempty"`         // ECDSA
	ParameterSet int     `json:"parameter_set,omitempty"` // ML-DSA: 44, 65, 87 (FIPS 204, Section 4); ML-KEM: 768, 1024 (FIPS 203, Section 8)

	// Store is the name of the store that the key is meant to be in (see Options). If it is set, a Backend with another
	// store refuses the parameters.
	Store string `json:"store,omitempty"`
}

// BackendType implements [backend.Params].
func (p Params) BackendType() string { return Type }

// Validate implements [backend.Params].
func (p Params) Validate() error {
	if err := validateName(p.KeyName); err != nil {
		return err
	}
	if p.KeyType != "" && !slices.Contains(keyTypes, p.KeyType) {
		return fmt.Errorf("software: key_type: got %.40q; it takes %s: %w", string(p.KeyType), list(keyTypes), backend.ErrInvalidParams)
	}
	if p.KeyBits != 0 && !validBits(p.KeyType, p.KeyBits) {
		return p.refuse("key_bits", fmt.Sprint(p.KeyBits), bitsTaken[p.KeyType])
	}
	if p.Curve != "" && (p.KeyType != ECDSA || !slices.Contains(curves, p.Curve)) {
		return p.refuse("curve", fmt.Sprintf("%.40q", string(p.Curve)), map[KeyType]string{ECDSA: list(curves)}[p.KeyType])
	}
	if p.ParameterSet != 0 && !slices.Contains(parameterSets[p.KeyType], p.ParameterSet) {
		return p.refuse("parameter_set", fmt.Sprint(p.ParameterSet), setsTaken[p.KeyType])
	}
	return nil
}

// parameterSets are those of the key types that have some, and setsTaken says so for people.
var (
	parameterSets = map[KeyType][]int{MLDSA: {44, 65, 87}, MLKEM: {768, 1024}}
	setsTaken     = map[KeyType]string{MLDSA: "44, 65, 87", MLKEM: "768, 1024"}
)

// bitsTaken says for people what validBits checks.
var bitsTaken = map[KeyType]string{RSA: "2048, 3072, 4096", AES: "128, 256", HMAC: "256 to 4096 in multiples of 8"}

func validBits(t KeyType, bits int) bool {
	switch t {
	case RSA:
		return bits == 2048 || bits == 3072 || bits == 4096
	case AES:
		return bits == 128 || bits == 256
	case HMAC:
		return 256 <= bits && bits <= 4096 && bits%8 == 0
	}
	return false
}

// refuse returns the error about a field's value; taken is what the field takes with this key type, or empty if it takes
// nothing there.
func (p Params) refuse(field, got, taken string) error {
	switch {
	case taken != "":
		return fmt.Errorf("software: %s: got %s; with key_type %s it takes %s: %w", field, got, p.KeyType, taken, backend.ErrInvalidParams)
	case p.KeyType == "":
		return fmt.Errorf("software: %s: got %s, which needs a key_type beside it: %w", field, got, backend.ErrInvalidParams)
	}
	return fmt.Errorf("software: %s: got %s; key_type %s takes none: %w", field, got, p.KeyType, backend.ErrInvalidParams)
}

// complete returns an error unless p, which is valid, says all that is needed to generate the key.
func (p Params) complete() error {
	field, taken := "", ""
	switch {
	case p.KeyType == "":
		return fmt.Errorf("software: key_type is required to generate a key; it takes %s: %w", list(keyTypes), backend.ErrInvalidParams)
	case bitsTaken[p.KeyType] != "" && p.KeyBits == 0:
		field, taken = "key_bits", bitsTaken[p.KeyType]
	case p.KeyType == ECDSA && p.Curve == "":
		field, taken = "curve", list(curves)
	case setsTaken[p.KeyType] != "" && p.ParameterSet == 0:
		field, taken = "parameter_set", setsTaken[p.KeyType]
	default:
		return nil
	}
	return fmt.Errorf("software: %s is required to generate a key of key_type %s; it takes %s: %w", field, p.KeyType, taken, backend.ErrInvalidParams)
}

// match returns an error unless everything that p says of a key's kind is true of has. what names has for people.
func (p Params) match(has Params, what string) error {
	differ := func(field string, got, has any) error {
		return fmt.Errorf("software: %s: got %v, but %s has %v: %w", field, got, what, has, backend.ErrInvalidParams)
	}
	switch {
	case p.KeyType != "" && p.KeyType != has.KeyType:
		return differ("key_type", p.KeyType, has.KeyType)
	case p.KeyBits != 0 && p.KeyBits != has.KeyBits:
		return differ("key_bits", p.KeyBits, has.KeyBits)
	case p.Curve != "" && p.Curve != has.Curve:
		return differ("curve", p.Curve, has.Curve)
	case p.ParameterSet != 0 && p.ParameterSet != has.ParameterSet:
		return differ("parameter_set", p.ParameterSet, has.ParameterSet)
	}
	return nil
}

func validateName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("software: key_name is required: %w", backend.ErrInvalidParams)
	case len(name) > MaxKeyName:
		return fmt.Errorf("software: key_name: got %d bytes; it takes at most %d: %w", len(name), MaxKeyName, backend.ErrInvalidParams)
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
		return fmt.Errorf("software: key_name: got %.40q; it takes printable ASCII without space: %w", name, backend.ErrInvalidParams)
	}
	return nil
}

// UnmarshalText sets t to the key type that text names in any case, or to text itself, which Validate then refuses.
func (t *KeyType) UnmarshalText(text []byte) error {
	*t = canonical(keyTypes, text)
	return nil
}

// UnmarshalText sets c to the curve that text names in any case, or to text itself, which Validate then refuses.
func (c *Curve) UnmarshalText(text []byte) error {
	*c = canonical(curves, text)
	return nil
}

func canonical[T ~string](known []T, text []byte) T {
	for _, k := range known {
		if strings.EqualFold(string(k), string(text)) {
			return k
		}
	}
	return T(text)
}

func list[T ~string](items []T) string {
	names := make([]string, len(items))
	for i, item := range items {
		names[i] = string(item)
	}
	return strings.Join(names, ", ")
}
