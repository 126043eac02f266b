package awskms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mlkem"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"

	"filippo.io/mldsa"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/managedkeys/managedkeys/backend"
)

// The KeyUsages of the service.
const (
	signVerify   = string(types.KeyUsageTypeSignVerify)
	encrypts     = string(types.KeyUsageTypeEncryptDecrypt)
	macs         = string(types.KeyUsageTypeGenerateVerifyMac)
	agreement    = string(types.KeyUsageTypeKeyAgreement)
	encapsulates = string(types.KeyUsageTypeEncapsulateDecapsulate)
)

var allUsages = []string{signVerify, encrypts, macs, agreement, encapsulates}

// spec is a KeySpec of the service as Params describe it.
type spec struct {
	name   types.KeySpec
	kind   KeyType
	bits   int      // of RSA, AES and HMAC
	curve  string   // of ECDSA
	set    int      // of ML-DSA and ML-KEM
	usages []string // that it can have, what it is made with by default first
}

var (
	rsaUsages   = []string{signVerify, encrypts}
	ecUsages    = []string{signVerify, agreement}
	signUsages  = []string{signVerify}
	macUsages   = []string{macs}
	crypts      = []string{encrypts}
	capsulating = []string{encapsulates}
)

// specs are the key specs that this package knows. SM2, which only the Regions in China have, is left out because Go has
// no SM2, and ML_KEM_512 because Go has no ML-KEM-512.
var specs = []spec{
	{types.KeySpecRsa2048, RSA, 2048, "", 0, rsaUsages},
	{types.KeySpecRsa3072, RSA, 3072, "", 0, rsaUsages},
	{types.KeySpecRsa4096, RSA, 4096, "", 0, rsaUsages},
	{types.KeySpecEccNistP256, ECDSA, 0, "P256", 0, ecUsages},
	{types.KeySpecEccNistP384, ECDSA, 0, "P384", 0, ecUsages},
	{types.KeySpecEccNistP521, ECDSA, 0, "P521", 0, ecUsages},
	{types.KeySpecEccSecgP256k1, ECDSA, 0, "SECP256K1", 0, ecUsages},
	{types.KeySpecEccNistEdwards25519, Ed25519, 0, "", 0, signUsages},
	{types.KeySpecMlDsa44, MLDSA, 0, "", 44, signUsages},
	{types.KeySpecMlDsa65, MLDSA, 0, "", 65, signUsages},
	{types.KeySpecMlDsa87, MLDSA, 0, "", 87, signUsages},
	{types.KeySpecMlKem768, MLKEM, 0, "", 768, capsulating},
	{types.KeySpecMlKem1024, MLKEM, 0, "", 1024, capsulating},
	{types.KeySpecSymmetricDefault, AES, 256, "", 0, crypts},
	{types.KeySpecHmac224, HMAC, 224, "", 0, macUsages},
	{types.KeySpecHmac256, HMAC, 256, "", 0, macUsages},
	{types.KeySpecHmac384, HMAC, 384, "", 0, macUsages},
	{types.KeySpecHmac512, HMAC, 512, "", 0, macUsages},
}

// specsOf returns the specs of a key type.
func specsOf(t KeyType) []spec {
	return slices.DeleteFunc(slices.Clone(specs), func(s spec) bool { return s.kind != t })
}

// specNamed returns the spec that the service calls name, and whether this package knows it.
func specNamed(name types.KeySpec) (spec, bool) {
	i := slices.IndexFunc(specs, func(s spec) bool { return s.name == name })
	if i < 0 {
		return spec{}, false
	}
	return specs[i], true
}

// specFor returns the spec of a key that p, which is valid, describes completely, with its usage.
func (p Params) specFor() (spec, string, error) {
	if p.KeyType == "" {
		return spec{}, "", invalid("key_type", "is missing; to make a key it takes %s", joined(keyTypes))
	}
	kinds := specsOf(p.KeyType)
	fits := slices.DeleteFunc(kinds, func(s spec) bool {
		return p.KeyBits != s.bits && (p.KeyBits != 0 || p.KeyType != AES) || p.Curve != s.curve || p.ParameterSet != s.set
	})
	if len(fits) != 1 {
		field := map[KeyType]string{RSA: "key_bits", HMAC: "key_bits", ECDSA: "curve"}[p.KeyType]
		if field == "" {
			field = "parameter_set"
		}
		return spec{}, "", invalid(field, "is missing; it is needed to make a key of key_type %s", p.KeyType)
	}
	s := fits[0]
	usage := p.KeyUsage
	if usage == "" {
		usage = s.usages[0]
	}
	if !slices.Contains(s.usages, usage) {
		return spec{}, "", invalid("key_usage", "got %s; a key of key_type %s takes %s", usage, s.kind, strings.Join(s.usages, ", "))
	}
	if usage == agreement && s.curve == "SECP256K1" {
		return spec{}, "", invalid("key_usage", "got %s, which curve SECP256K1 can't have; it takes %s", usage, signVerify)
	}
	return s, usage, nil
}

// match returns an error unless what p says of the key's kind is true of it.
func (p Params) match(s spec, usage string) error {
	differ := func(field string, got, has any) error { return invalid(field, "got %v, but the key has %v", got, has) }
	switch {
	case p.KeyType != "" && p.KeyType != s.kind:
		return differ("key_type", p.KeyType, s.kind)
	case p.KeyBits != 0 && p.KeyBits != s.bits:
		return differ("key_bits", p.KeyBits, s.bits)
	case p.Curve != "" && p.Curve != s.curve:
		return differ("curve", p.Curve, s.curve)
	case p.ParameterSet != 0 && p.ParameterSet != s.set:
		return differ("parameter_set", p.ParameterSet, s.set)
	case p.KeyUsage != "" && p.KeyUsage != usage:
		return differ("key_usage", p.KeyUsage, usage)
	}
	return nil
}

// algorithm is what Capabilities.Algorithm says.
func (s spec) algorithm(pub crypto.PublicKey) string {
	switch {
	case s.kind == AES:
		return fmt.Sprintf("AES-%d", s.bits)
	case s.kind == HMAC:
		return "HMAC"
	}
	return backend.Describe(pub)
}

// symmetric reports whether keys of the kind have no public key.
func (s spec) symmetric() bool { return s.kind == AES || s.kind == HMAC }

var curves = map[string]elliptic.Curve{"P256": elliptic.P256(), "P384": elliptic.P384(), "P521": elliptic.P521(), "SECP256K1": backend.Secp256k1()}

// has reports whether pub is a public key of the kind.
func (s spec) has(pub crypto.PublicKey) bool {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return s.kind == RSA && pub.N.BitLen() == s.bits
	case *ecdsa.PublicKey:
		return s.kind == ECDSA && pub.Curve == curves[s.curve]
	case ed25519.PublicKey:
		return s.kind == Ed25519
	case *mldsa.PublicKey, *mlkem.EncapsulationKey768, *mlkem.EncapsulationKey1024:
		return backend.Describe(pub) == fmt.Sprintf("%s-%d", s.kind, s.set)
	}
	return false
}
