package gcpckms

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"github.com/managedkeys/managedkeys/backend"
)

// Type is the backend type of this package.
const Type = "gcpckms"

// Params describe one key of Cloud KMS. Their JSON fields are those of the managed-keys API.
//
// To open a key, its place suffices; Algorithm and ProtectionLevel must be true of it if they are set. To generate or import
// one, Algorithm is required.
type Params struct {
	// Credentials are a Google credential of any type, in JSON, or the path of a file with one. If it is empty, the
	// environment variable GOOGLE_CREDENTIALS has the same; if that is empty too, Google's Application Default Credentials
	// apply: the file that GOOGLE_APPLICATION_CREDENTIALS names, that of gcloud, or the identity of the machine.
	Credentials backend.Secret `json:"credentials,omitempty"`

	Project string `json:"project,omitempty"` // id or number; the environment variable GOOGLE_PROJECT if empty
	Region  string `json:"region,omitempty"`  // location, such as "europe-west3" or "global"; GOOGLE_REGION if empty
	KeyRing string `json:"key_ring"`          // of the location; it must exist, also for a key to be made

	// CryptoKey is the id of the key within the key ring: 1 to 63 letters, digits, "-" and "_". Required.
	CryptoKey string `json:"crypto_key"`

	// CryptoKeyVersion is the number of the version, or [Latest]; "1" if it is empty.
	CryptoKeyVersion Version `json:"crypto_key_version,omitempty"`

	// Algorithm is what the version does, one of [Algorithms]. If it is set, Open takes one call less for keys that are
	// symmetric or post-quantum.
	Algorithm Algorithm `json:"algorithm,omitempty"`

	// ProtectionLevel says where the key is kept. SOFTWARE if it is empty and a key is made.
	ProtectionLevel ProtectionLevel `json:"protection_level,omitempty"`
}

// Version is the number of a key version, such as "1", or [Latest]. In JSON it may also be a number.
type Version string

// Latest is the enabled version with the highest number at the time of Open. A key that was opened stays that version: one
// that is added later is seen when the key is opened again, as another ID and another public key, which an entry that pins
// its public key reports as backend.ErrKeyChanged.
const Latest Version = "latest"

// ProtectionLevel says where a key is kept, by the service's own names. Its text, JSON included, is read in any case.
type ProtectionLevel string

// The protection levels.
const (
	Software        ProtectionLevel = "SOFTWARE"
	HSM             ProtectionLevel = "HSM"
	External        ProtectionLevel = "EXTERNAL"          // in a key manager outside of Google; such keys can't be made here
	ExternalVPC     ProtectionLevel = "EXTERNAL_VPC"      // likewise, over a private network
	HSMSingleTenant ProtectionLevel = "HSM_SINGLE_TENANT" // in an HSM of its own; such keys can't be made here
)

// Names of environment variables that stand in for fields of Params.
const (
	envProject     = "GOOGLE_PROJECT"
	envRegion      = "GOOGLE_REGION"
	envCredentials = "GOOGLE_CREDENTIALS"
)

// BackendType implements backend.Params.
func (Params) BackendType() string { return Type }

// Forms of the parts of a resource name. A project is an id, an id with a domain ("example.com:p"), or a number.
var (
	projectForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.:-]{0,98}[a-z0-9]$|^[a-z0-9]$`)
	regionForm  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,38}[a-z0-9]$`)
	idForm      = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,63}$`)
	versionForm = regexp.MustCompile(`^[1-9][0-9]{0,8}$`)
)

// Validate implements backend.Params. It takes the environment variables that stand in for fields into account.
func (p Params) Validate() error {
	if err := p.validateRing(); err != nil {
		return err
	}
	p = p.complete()
	switch {
	case p.CryptoKey == "":
		return invalid("crypto_key", "is missing; it takes the id of a key")
	case !idForm.MatchString(p.CryptoKey):
		return invalid("crypto_key", "got %.80q; it takes 1 to 63 letters, digits, '-' and '_'", p.CryptoKey)
	case p.CryptoKeyVersion != Latest && !versionForm.MatchString(string(p.CryptoKeyVersion)):
		return invalid("crypto_key_version", "got %.40q; it takes a number from 1 on, or %q", string(p.CryptoKeyVersion), string(Latest))
	}
	if p.Algorithm != "" && algorithms[p.Algorithm] == nil {
		if reason := p.Algorithm.reason(); reason != "" {
			return invalid("algorithm", "got %s, which can't be used: %s", p.Algorithm, reason)
		}
		return invalid("algorithm", "got %.60q; it takes %v", string(p.Algorithm), Algorithms())
	}
	if p.ProtectionLevel != "" && p.ProtectionLevel.pb() == 0 {
		return invalid("protection_level", "got %.40q; it takes %s, %s, %s, %s or %s", string(p.ProtectionLevel), Software, HSM, External, ExternalVPC, HSMSingleTenant)
	}
	return nil
}

// validateRing checks the fields that say where the key is.
func (p Params) validateRing() error {
	p = p.complete()
	switch {
	case p.Project == "":
		return invalid("project", "is missing, and the environment variable %s is not set; it takes a project id", envProject)
	case !projectForm.MatchString(p.Project):
		return invalid("project", "got %.120q; it takes a project id or number", p.Project)
	case p.Region == "":
		return invalid("region", "is missing, and the environment variable %s is not set; it takes a location, such as europe-west3 or global", envRegion)
	case !regionForm.MatchString(p.Region):
		return invalid("region", "got %.80q; it takes a location, such as europe-west3 or global", p.Region)
	case p.KeyRing == "":
		return invalid("key_ring", "is missing; it takes the id of a key ring")
	case !idForm.MatchString(p.KeyRing):
		return invalid("key_ring", "got %.80q; it takes 1 to 63 letters, digits, '-' and '_'", p.KeyRing)
	}
	return nil
}

// complete returns p with what the environment and the defaults say where p says nothing.
func (p Params) complete() Params {
	if p.Project == "" {
		p.Project = os.Getenv(envProject)
	}
	if p.Region == "" {
		p.Region = os.Getenv(envRegion)
	}
	if p.CryptoKeyVersion == "" {
		p.CryptoKeyVersion = "1"
	}
	return p
}

// UnmarshalJSON takes a string or a number.
func (v *Version) UnmarshalJSON(data []byte) error {
	data = bytes.TrimSpace(data)
	if len(data) > 0 && data[0] != '"' && !bytes.Equal(data, []byte("null")) {
		var n json.Number
		if err := json.Unmarshal(data, &n); err != nil {
			return invalid("crypto_key_version", "got %.40q; it takes a number or a string", data)
		}
		*v = Version(n)
		return nil
	}
	return json.Unmarshal(data, (*string)(v))
}

// UnmarshalText sets l to the level that text names in any case, or to text itself, which Validate then refuses.
func (l *ProtectionLevel) UnmarshalText(text []byte) error {
	*l = ProtectionLevel(text)
	if upper := ProtectionLevel(strings.ToUpper(string(text))); upper.pb() != 0 {
		*l = upper
	}
	return nil
}

// levels are the protection levels that the service knows.
var levels = []ProtectionLevel{Software, HSM, External, ExternalVPC, HSMSingleTenant}

// pb returns the level on the wire, or 0.
func (l ProtectionLevel) pb() kmspb.ProtectionLevel {
	if !slices.Contains(levels, l) {
		return 0
	}
	return kmspb.ProtectionLevel(kmspb.ProtectionLevel_value[string(l)])
}

func invalid(field, format string, args ...any) error {
	return fmt.Errorf("gcpckms: %s: %s: %w", field, fmt.Sprintf(format, args...), backend.ErrInvalidParams)
}
