package awskms

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// Type is the backend type of this package.
const Type = "awskms"

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

var keyTypes = []KeyType{RSA, ECDSA, Ed25519, MLDSA, MLKEM, AES, HMAC}

// Params describe one key of AWS KMS. Their JSON fields are those of the managed-keys API; KeyUsage, ParameterSet,
// MultiRegion and SessionToken are this package's own.
type Params struct {
	// KMSKey says which key: its ARN, its id (those of multi-Region keys begin with "mrk-"), an alias ("alias/NAME") or the
	// ARN of an alias. Required. A key that is generated or imported gets the alias.
	KMSKey string `json:"kms_key"`

	// KeyType is what kind of key it is. It is required to make a key; a key that is opened must be of that type if it is
	// given, and so with the three that follow.
	KeyType KeyType `json:"key_type,omitempty"`

	// KeyBits is 2048, 3072 or 4096 for RSA, 256 for AES, and 224, 256, 384 or 512 for HMAC, where it also names the hash.
	// Curve is P256, P384, P521 or SECP256K1 for ECDSA. ParameterSet is 44, 65 or 87 for ML-DSA and 768 or 1024 for ML-KEM.
	KeyBits      int    `json:"key_bits,omitempty"`
	Curve        string `json:"curve,omitempty"`
	ParameterSet int    `json:"parameter_set,omitempty"`

	// KeyUsage is the KeyUsage of the service, of which a key has one for life: SIGN_VERIFY, ENCRYPT_DECRYPT,
	// GENERATE_VERIFY_MAC, KEY_AGREEMENT or ENCAPSULATE_DECAPSULATE. When a key is made it is what the key type is for if
	// empty, and SIGN_VERIFY for RSA and ECDSA.
	KeyUsage string `json:"key_usage,omitempty"`

	// MultiRegion makes a primary key that can be replicated to other Regions.
	MultiRegion bool `json:"multi_region,omitempty"`

	// Region is the AWS Region. If it is empty, it is that of the ARN in KMSKey, and else what the SDK is configured with:
	// AWS_REGION, AWS_DEFAULT_REGION, the shared configuration, the instance's metadata; and us-east-1 if nothing says more.
	Region string `json:"region,omitempty"`

	// AccessKey, SecretKey and, for temporary credentials, SessionToken are what requests are signed with. If they are
	// empty, the SDK's default chain finds credentials.
	AccessKey    backend.Secret `json:"access_key,omitempty"`
	SecretKey    backend.Secret `json:"secret_key,omitempty"`
	SessionToken backend.Secret `json:"session_token,omitempty"`

	// Endpoint is the base URL of the service, https or http, in place of the Region's own.
	Endpoint string `json:"endpoint,omitempty"`
}

// BackendType implements backend.Params.
func (Params) BackendType() string { return Type }

// UnmarshalText sets t to the key type that text names in any case, or to text itself, which Validate then refuses.
func (t *KeyType) UnmarshalText(text []byte) error {
	*t = KeyType(text)
	for _, known := range keyTypes {
		if strings.EqualFold(string(known), string(text)) {
			*t = known
		}
	}
	return nil
}

// Validate implements backend.Params.
func (p Params) Validate() error {
	id, err := parseIdentifier(p.KMSKey)
	if err != nil {
		return err
	}
	if id.region != "" && p.Region != "" && id.region != p.Region {
		return invalid("region", "got %.64q, but kms_key is an ARN of %s; leave region out", p.Region, id.region)
	}
	if err := p.validateConnection(); err != nil {
		return err
	}
	return p.validateKind()
}

// validateConnection checks the fields that say how the service is reached.
func (p Params) validateConnection() error {
	if p.Region != "" && !isRegion(p.Region) {
		return invalid("region", "%.64q is not the code of a Region, such as eu-central-1", p.Region)
	}
	switch {
	case (p.AccessKey == "") != (p.SecretKey == ""):
		return invalid("access_key, secret_key", "one is given without the other; it takes both or none")
	case p.SessionToken != "" && p.AccessKey == "":
		return invalid("session_token", "is given without access_key and secret_key")
	case p.Endpoint != "":
		return checkEndpoint(p.Endpoint)
	}
	return nil
}

func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return invalid("endpoint", "%.100q is not a URL of scheme https or http with a host and without user, query and fragment", redactURL(u, endpoint))
	}
	return nil
}

// redactURL returns an endpoint for an error, without a password that it may hold.
func redactURL(u *url.URL, endpoint string) string {
	switch {
	case u != nil:
		return u.Redacted()
	case strings.Contains(endpoint, "@"):
		return backend.Redacted
	}
	return endpoint
}

// isRegion reports whether s can be the code of a Region: what becomes part of a host name must not be anything else.
func isRegion(s string) bool {
	return len(s) <= 32 && strings.Count(s, "-") >= 2 && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	}) && s[0] != '-' && s[len(s)-1] != '-'
}

// validateKind checks the fields that say what the key is.
func (p Params) validateKind() error {
	if p.KeyType == "" {
		for _, field := range []struct {
			name string
			set  bool
		}{{"key_bits", p.KeyBits != 0}, {"curve", p.Curve != ""}, {"parameter_set", p.ParameterSet != 0}} {
			if field.set {
				return invalid(field.name, "is given without key_type")
			}
		}
		return p.validateUsage(allUsages)
	}
	kinds := specsOf(p.KeyType)
	if len(kinds) == 0 {
		return invalid("key_type", "got %.40q; it takes %s", string(p.KeyType), joined(keyTypes))
	}
	if err := validateSize("key_bits", p.KeyType, p.KeyBits, kinds, func(s spec) int { return s.bits }); err != nil {
		return err
	}
	if err := validateSize("curve", p.KeyType, p.Curve, kinds, func(s spec) string { return s.curve }); err != nil {
		return err
	}
	if err := validateSize("parameter_set", p.KeyType, p.ParameterSet, kinds, func(s spec) int { return s.set }); err != nil {
		return err
	}
	return p.validateUsage(kinds[0].usages)
}

// validateSize checks the field of a key type's size, of which of gives what the kinds of that type have.
func validateSize[T comparable](field string, t KeyType, got T, kinds []spec, of func(spec) T) error {
	var none T
	if got == none {
		return nil
	}
	var takes []string
	for _, s := range kinds {
		if of(s) == got {
			return nil
		}
		if of(s) != none {
			takes = append(takes, fmt.Sprint(of(s)))
		}
	}
	if len(takes) == 0 {
		return invalid(field, "got %.40q; key_type %s takes none", fmt.Sprint(got), t)
	}
	return invalid(field, "got %.40q; with key_type %s it takes %s", fmt.Sprint(got), t, strings.Join(takes, ", "))
}

func (p Params) validateUsage(takes []string) error {
	if p.KeyUsage == "" || slices.Contains(takes, p.KeyUsage) {
		return nil
	}
	if p.KeyType == "" {
		return invalid("key_usage", "got %.40q; it takes %s", p.KeyUsage, strings.Join(takes, ", "))
	}
	return invalid("key_usage", "got %.40q; with key_type %s it takes %s", p.KeyUsage, p.KeyType, strings.Join(takes, ", "))
}

func joined[T ~string](items []T) string {
	names := make([]string, len(items))
	for i, item := range items {
		names[i] = string(item)
	}
	return strings.Join(names, ", ")
}

func invalid(field, format string, args ...any) error {
	return fmt.Errorf("awskms: %s: %s: %w", field, fmt.Sprintf(format, args...), backend.ErrInvalidParams)
}
