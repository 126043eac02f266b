package azurekeyvault

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// Type is the backend type of this package.
const Type = "azurekeyvault"

// KeyType is a kind of key, as Key Vault names it. Its text, JSON included, is read in any case; in Go only the constants
// are valid.
type KeyType string

// The key types. Those that end in HSM are kept in hardware: vaults have them in the Premium tier, and Managed HSM has no
// others.
const (
	RSA    KeyType = "RSA"
	RSAHSM KeyType = "RSA-HSM"
	EC     KeyType = "EC"
	ECHSM  KeyType = "EC-HSM"
	OctHSM KeyType = "oct-HSM" // AES and HMAC
)

// Curve is an elliptic curve. Its text, JSON included, is read in any case and with or without a hyphen, as in "P-256"; in
// Go only the constants are valid.
type Curve string

// The curves.
const (
	P256  Curve = "P256"
	P384  Curve = "P384"
	P521  Curve = "P521"
	P256K Curve = "P256K" // secp256k1
)

var (
	keyTypes = []KeyType{RSA, RSAHSM, EC, ECHSM, OctHSM}
	curves   = []Curve{P256, P384, P521, P256K}
)

// Params describe one key in a vault or Managed HSM. Their JSON fields are those of the managed-keys API; key_version,
// curve and key_ops are our own.
//
// To open a key, VaultName and KeyName suffice, and KeyName alone where [New] was told the vault; what else is set about
// the key must be true of it. To generate one, KeyType is required, and KeyBits for RSA or Curve for EC.
type Params struct {
	// TenantID, ClientID and ClientSecret say who the program is: a service principal, for [Connect]. Without a secret, the
	// credential is found in the surroundings of the program (see [Connect]). They must be empty where [New] was given a
	// credential.
	TenantID     string         `json:"tenant_id,omitempty"`
	ClientID     string         `json:"client_id,omitempty"`
	ClientSecret backend.Secret `json:"client_secret,omitempty"`

	// Environment is the cloud: AZUREPUBLICCLOUD, AZUREUSGOVERNMENTCLOUD or AZURECHINACLOUD, in any case. If it is empty,
	// that is what Resource says, else the environment variable AZURE_ENVIRONMENT, else the public cloud, whose authority
	// AZURE_AUTHORITY_HOST then replaces.
	Environment string `json:"environment,omitempty"`

	// VaultName is the name of the vault or Managed HSM: the first label of its host name.
	VaultName string `json:"vault_name,omitempty"`

	// Resource is the domain that the vault's host name ends in: vault.azure.net, managedhsm.azure.net for Managed HSM,
	// or their like of another cloud. If it is empty, that is AZURE_AD_RESOURCE, else the environment's domain of vaults.
	Resource string `json:"resource,omitempty"`

	// KeyName is the name of the key: 1 to 127 letters, digits and hyphens. KeyVersion is its version, 32 hexadecimal
	// digits; if it is empty, Open takes the newest version that is enabled, and stays with it.
	KeyName    string `json:"key_name"`
	KeyVersion string `json:"key_version,omitempty"`

	KeyType KeyType `json:"key_type,omitempty"`
	KeyBits int     `json:"key_bits,omitempty"` // RSA: 2048, 3072, 4096; oct-HSM: 128, 192, 256, and 256 if it is 0
	Curve   Curve   `json:"curve,omitempty"`    // EC

	// KeyOps are the operations that a key is made for, separated by commas: sign, verify, encrypt, decrypt, wrapKey,
	// unwrapKey. If it is empty, a key is made for all that its type does, and one of oct-HSM for all but sign and verify,
	// which make it an HMAC key. Opening ignores it: what counts there is what the vault says.
	KeyOps string `json:"key_ops,omitempty"`
}

// BackendType implements [backend.Params].
func (Params) BackendType() string { return Type }

var (
	keyNames    = regexp.MustCompile(`^[0-9A-Za-z-]{1,127}$`)
	keyVersions = regexp.MustCompile(`^[0-9A-Fa-f]{32}$`)
	vaultNames  = regexp.MustCompile(`^[A-Za-z](-?[0-9A-Za-z]){2,23}$`)
	tenants     = regexp.MustCompile(`^[0-9A-Za-z.-]{1,255}$`)
	hostNames   = regexp.MustCompile(`^([0-9a-z]([0-9a-z-]{0,61}[0-9a-z])?\.)+[0-9a-z]([0-9a-z-]{0,61}[0-9a-z])?$`)
	keyOps      = []string{"sign", "verify", "encrypt", "decrypt", "wrapKey", "unwrapKey"}
)

// Validate implements [backend.Params].
func (p Params) Validate() error {
	if err := p.validateScope(); err != nil {
		return err
	}
	switch {
	case p.KeyName == "":
		return invalid("key_name", "is missing; it takes the name of the key")
	case !keyNames.MatchString(p.KeyName):
		return invalid("key_name", "got %.130q; it takes 1 to 127 letters, digits and hyphens", p.KeyName)
	case p.KeyVersion != "" && !keyVersions.MatchString(p.KeyVersion):
		return invalid("key_version", "got %.40q; it takes 32 hexadecimal digits", p.KeyVersion)
	case p.KeyType != "" && !slices.Contains(keyTypes, p.KeyType):
		return invalid("key_type", "got %.40q; it takes %s", string(p.KeyType), list(keyTypes))
	case p.KeyBits != 0 && !slices.Contains(p.KeyType.sizes(), p.KeyBits):
		return invalid("key_bits", "got %d with key_type %q; it takes 2048, 3072 or 4096 with RSA and RSA-HSM, and 128, 192 or 256 with oct-HSM", p.KeyBits, string(p.KeyType))
	case p.Curve != "" && (!p.KeyType.isEC() || !slices.Contains(curves, p.Curve)):
		return invalid("curve", "got %.40q with key_type %q; it takes %s with EC and EC-HSM", string(p.Curve), string(p.KeyType), list(curves))
	}
	if p.KeyOps == "" {
		return nil
	}
	for _, op := range p.ops() {
		if !slices.Contains(p.KeyType.ops(), op) {
			return invalid("key_ops", "got %.40q with key_type %q; it takes %s", op, string(p.KeyType), strings.Join(p.KeyType.ops(), ", "))
		}
	}
	return nil
}

// validateScope checks the fields that say which vault it is and who asks.
func (p Params) validateScope() error {
	switch {
	case p.VaultName != "" && (len(p.VaultName) > 24 || !vaultNames.MatchString(p.VaultName)):
		return invalid("vault_name", "got %.40q; it takes 3 to 24 letters, digits and single hyphens, beginning with a letter", p.VaultName)
	case p.TenantID != "" && !tenants.MatchString(p.TenantID):
		return invalid("tenant_id", "got %.60q; it takes the tenant's id or domain name", p.TenantID)
	case p.ClientID != "" && !tenants.MatchString(p.ClientID):
		return invalid("client_id", "got %.60q; it takes the application's id", p.ClientID)
	}
	_, err := p.place(noEnv)
	return err
}

// sizes are the values of KeyBits that the type has.
func (t KeyType) sizes() []int {
	switch t {
	case RSA, RSAHSM:
		return []int{2048, 3072, 4096}
	case OctHSM:
		return []int{128, 192, 256}
	}
	return nil
}

// ops are the operations that keys of the type can have.
func (t KeyType) ops() []string {
	if t.isEC() {
		return keyOps[:2]
	}
	return keyOps
}

func (t KeyType) isEC() bool { return t == EC || t == ECHSM }

// ops returns the operations of KeyOps.
func (p Params) ops() []string {
	var ops []string
	for op := range strings.SplitSeq(p.KeyOps, ",") {
		ops = append(ops, strings.TrimSpace(op))
	}
	return ops
}

// complete returns an error unless p, which is valid, says all that is needed to generate the key.
func (p Params) complete() error {
	switch {
	case p.KeyVersion != "":
		return invalid("key_version", "is given; the vault chooses the version of a key that is made")
	case p.KeyType == "":
		return invalid("key_type", "is missing; to generate a key it takes %s", list(keyTypes))
	case p.KeyType.isEC() && p.Curve == "":
		return invalid("curve", "is missing; to generate a key of key_type %s it takes %s", p.KeyType, list(curves))
	case (p.KeyType == RSA || p.KeyType == RSAHSM) && p.KeyBits == 0:
		return invalid("key_bits", "is missing; to generate a key of key_type %s it takes 2048, 3072 or 4096", p.KeyType)
	}
	return nil
}

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

// UnmarshalText sets c to the curve that text names, or to text itself, which Validate then refuses.
func (c *Curve) UnmarshalText(text []byte) error {
	*c = Curve(text)
	for _, known := range curves {
		if strings.EqualFold(string(known), strings.Replace(string(text), "-", "", 1)) {
			*c = known
		}
	}
	return nil
}

func invalid(field, format string, args ...any) error {
	return fmt.Errorf("azurekeyvault: %s: %s: %w", field, fmt.Sprintf(format, args...), backend.ErrInvalidParams)
}

func list[T ~string](items []T) string {
	names := make([]string, len(items))
	for i, item := range items {
		names[i] = string(item)
	}
	return strings.Join(names, ", ")
}
