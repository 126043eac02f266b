package fakeaws

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// key is one KMS key. Its fields are guarded by Server.mu, except that the material never changes once it is set.
type key struct {
	id, region       string
	spec, usage      string
	origin, state    string
	description      string
	created, deletes time.Time
	multiRegion      bool
	tags             []tag
	material         *material       // nil until it was imported
	wrapping         string          // algorithm of the last GetParametersForImport
	wrapped          *rsa.PrivateKey // to which it encrypts
	importToken      []byte
	policy           string
	manager          string // CUSTOMER or AWS
	validTo          time.Time
}

type tag struct{ TagKey, TagValue string }

type alias struct {
	name, target     string
	created, updated time.Time
}

// arn returns the key's Amazon Resource Name.
func (k *key) arn() string { return fmt.Sprintf("arn:aws:kms:%s:%s:key/%s", k.region, Account, k.id) }

func aliasARN(region, name string) string {
	return fmt.Sprintf("arn:aws:kms:%s:%s:%s", region, Account, name)
}

var errSpec = errors.New("no such key spec")

// usages are the usages that each key spec may have, the default first.
//
// https://docs.aws.amazon.com/kms/latest/APIReference/API_CreateKey.html
var usages = map[string][]string{
	"SYMMETRIC_DEFAULT":     {"ENCRYPT_DECRYPT"},
	"RSA_2048":              {"ENCRYPT_DECRYPT", "SIGN_VERIFY"},
	"RSA_3072":              {"ENCRYPT_DECRYPT", "SIGN_VERIFY"},
	"RSA_4096":              {"ENCRYPT_DECRYPT", "SIGN_VERIFY"},
	"ECC_NIST_P256":         {"SIGN_VERIFY", "KEY_AGREEMENT"},
	"ECC_NIST_P384":         {"SIGN_VERIFY", "KEY_AGREEMENT"},
	"ECC_NIST_P521":         {"SIGN_VERIFY", "KEY_AGREEMENT"},
	"ECC_SECG_P256K1":       {"SIGN_VERIFY"},
	"ECC_NIST_EDWARDS25519": {"SIGN_VERIFY"},
	"ML_DSA_44":             {"SIGN_VERIFY"},
	"ML_DSA_65":             {"SIGN_VERIFY"},
	"ML_DSA_87":             {"SIGN_VERIFY"},
	"ML_KEM_768":            {"ENCAPSULATE_DECAPSULATE"},
	"ML_KEM_1024":           {"ENCAPSULATE_DECAPSULATE"},
	"HMAC_224":              {"GENERATE_VERIFY_MAC"},
	"HMAC_256":              {"GENERATE_VERIFY_MAC"},
	"HMAC_384":              {"GENERATE_VERIFY_MAC"},
	"HMAC_512":              {"GENERATE_VERIFY_MAC"},
}

var (
	rsaSigning = []string{"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
		"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512"}
	signing = map[string][]string{
		"RSA_2048": rsaSigning, "RSA_3072": rsaSigning, "RSA_4096": rsaSigning,
		"ECC_NIST_P256": {"ECDSA_SHA_256"}, "ECC_SECG_P256K1": {"ECDSA_SHA_256"},
		"ECC_NIST_P384": {"ECDSA_SHA_384"}, "ECC_NIST_P521": {"ECDSA_SHA_512"},
		"ECC_NIST_EDWARDS25519": {"ED25519_SHA_512", "ED25519_PH_SHA_512"},
		"ML_DSA_44":             {"ML_DSA_SHAKE_256"}, "ML_DSA_65": {"ML_DSA_SHAKE_256"}, "ML_DSA_87": {"ML_DSA_SHAKE_256"},
	}
	hashes = map[string]crypto.Hash{"SHA_1": crypto.SHA1, "SHA_224": crypto.SHA224, "SHA_256": crypto.SHA256, "SHA_384": crypto.SHA384, "SHA_512": crypto.SHA512}
)

// algorithms returns the name of the member that lists what a key does, and the list.
func (k *key) algorithms() (member string, algorithms []string) {
	switch k.usage {
	case "SIGN_VERIFY":
		return "SigningAlgorithms", signing[k.spec]
	case "GENERATE_VERIFY_MAC":
		return "MacAlgorithms", []string{"HMAC_SHA_" + strings.TrimPrefix(k.spec, "HMAC_")}
	case "KEY_AGREEMENT":
		return "KeyAgreementAlgorithms", []string{"ECDH"}
	case "ENCAPSULATE_DECAPSULATE":
		return "EncapsulationAlgorithms", []string{"ML_KEM"}
	}
	if k.spec == "SYMMETRIC_DEFAULT" {
		return "EncryptionAlgorithms", []string{"SYMMETRIC_DEFAULT"}
	}
	return "EncryptionAlgorithms", []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"}
}

// metadata is the KeyMetadata of the service.
func (k *key) metadata() map[string]any {
	member, algorithms := k.algorithms()
	m := map[string]any{
		"AWSAccountId": Account, "KeyId": k.id, "Arn": k.arn(), "CreationDate": epoch(k.created), "Enabled": k.state == "Enabled",
		"Description": k.description, "KeyUsage": k.usage, "KeyState": k.state, "Origin": k.origin, "KeyManager": k.manager,
		"KeySpec": k.spec, "CustomerMasterKeySpec": k.spec, "MultiRegion": k.multiRegion, member: algorithms,
	}
	if k.state == "PendingDeletion" {
		m["DeletionDate"] = epoch(k.deletes)
	}
	if k.origin == "EXTERNAL" && k.material != nil {
		m["ExpirationModel"] = "KEY_MATERIAL_DOES_NOT_EXPIRE"
		if !k.validTo.IsZero() {
			m["ExpirationModel"], m["ValidTo"] = "KEY_MATERIAL_EXPIRES", epoch(k.validTo)
		}
	}
	return m
}

func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// Key is a key that a test makes.
type Key struct {
	Spec, Usage string // as CreateKey takes them; no usage means the spec's first
	Alias       string // "alias/…", or "" for none
	Region      string // DefaultRegion if empty
	State       string // Enabled if empty
	MultiRegion bool
	AWSManaged  bool              // as those that other AWS services keep
	Tags        map[string]string // of the key
	Description string
	Created     time.Time // now if zero
}

// AddKey makes a key and returns its ARN.
func (s *Server) AddKey(k Key) (arn string, err error) {
	if k.Region == "" {
		k.Region = DefaultRegion
	}
	made, err := s.newKey(k.Region, k.Spec, k.Usage, "AWS_KMS", k.MultiRegion)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.State != "" {
		made.state = k.State
	}
	if k.AWSManaged {
		made.manager = "AWS"
	}
	if !k.Created.IsZero() {
		made.created = k.Created
	}
	made.description = k.Description
	for name, value := range k.Tags {
		made.tags = append(made.tags, tag{name, value})
	}
	r := s.inRegion(k.Region)
	r.add(made)
	if k.Alias != "" {
		r.aliases[k.Alias] = &alias{name: k.Alias, target: made.id, created: made.created, updated: made.created}
	}
	return made.arn(), nil
}

// SetState puts a key in a state, such as "Disabled".
func (s *Server) SetState(arn, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.regions {
		for _, k := range r.keys {
			if k.arn() == arn {
				k.state = state
				k.deletes = time.Now().AddDate(0, 0, 7)
			}
		}
	}
}

// States returns the states of all keys of [DefaultRegion], by ARN.
func (s *Server) States() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := make(map[string]string)
	for _, k := range s.inRegion(DefaultRegion).keys {
		states[k.arn()] = k.state
	}
	return states
}

// newKey makes a key that is in no Region yet. No usage means the spec's first. s.mu is not held, since it takes long.
func (s *Server) newKey(region, spec, usage, origin string, multiRegion bool) (*key, error) {
	takes := usages[spec]
	if usage == "" && len(takes) > 0 {
		usage = takes[0]
	}
	if !slices.Contains(takes, usage) {
		return nil, fmt.Errorf("%w: %q with usage %q", errSpec, spec, usage)
	}
	k := &key{id: uuid.NewString(), region: region, spec: spec, usage: usage, origin: origin, state: "Enabled",
		created: time.Now(), multiRegion: multiRegion, manager: "CUSTOMER"}
	if multiRegion {
		k.id = "mrk-" + strings.ReplaceAll(k.id, "-", "")
	}
	if origin == "EXTERNAL" {
		k.state = "PendingImport"
		return k, nil
	}
	var err error
	k.material, err = s.newMaterial(spec)
	return k, err
}

// add puts a key in the Region. Server.mu is held.
func (r *region) add(k *key) {
	r.keys[k.id] = k
	r.order = append(r.order, k.id)
}
