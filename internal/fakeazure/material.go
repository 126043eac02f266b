package fakeazure

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/rsa"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// secp256k1Key is a private key on the curve that the service calls P-256K.
type secp256k1Key struct {
	crypto.Signer // nil; it signs by itself
	key           *secp256k1.PrivateKey
}

var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

// names are what the service takes for a key.
var names = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)

// ops are the operations that a kind of key has, and defaults those that one gets when none are asked for.
func ops(kty string) (all, defaults []string) {
	switch strings.TrimSuffix(kty, "-HSM") {
	case "RSA":
		all = []string{"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}
		return append(all, "import"), all
	case "EC":
		return []string{"sign", "verify"}, []string{"sign", "verify"}
	}
	defaults = []string{"encrypt", "decrypt", "wrapKey", "unwrapKey"}
	return append([]string{"sign", "verify"}, defaults...), defaults
}

// check returns an error unless the vault takes keys of the type, with these operations, under the name.
func (v *vault) check(name, kty string, want []string) ([]string, error) {
	if !names.MatchString(name) {
		return nil, badParameter("The request URI contains an invalid name: " + name)
	}
	vaultTypes, hsmTypes := []string{"RSA", "EC", "RSA-HSM", "EC-HSM"}, []string{"RSA-HSM", "EC-HSM", "oct-HSM"}
	if v.hsm && !slices.Contains(hsmTypes, kty) || !v.hsm && !slices.Contains(vaultTypes, kty) {
		return nil, badParameter("kty " + kty + " is not supported here")
	}
	all, defaults := ops(kty)
	if len(want) == 0 {
		return defaults, nil
	}
	for _, op := range want {
		if !slices.Contains(all, op) {
			return nil, badParameter("key_ops: " + op + " is not an operation of " + kty)
		}
	}
	return want, nil
}

func (v *vault) create(req request) (map[string]any, error) {
	var body struct {
		Kty        string            `json:"kty"`
		KeySize    int               `json:"key_size"`
		Crv        string            `json:"crv"`
		KeyOps     []string          `json:"key_ops"`
		Attributes *attributes       `json:"attributes"`
		Tags       map[string]string `json:"tags"`
	}
	if err := req.into(&body); err != nil {
		return nil, err
	}
	ops, err := v.check(req.name, body.Kty, body.KeyOps)
	if err != nil {
		return nil, err
	}
	at := &version{kty: body.Kty, ops: ops, tags: body.Tags}
	switch strings.TrimSuffix(body.Kty, "-HSM") {
	case "RSA":
		if body.KeySize == 0 {
			body.KeySize = 2048
		}
		if !slices.Contains([]int{2048, 3072, 4096}, body.KeySize) {
			return nil, badParameter("key_size is not one of 2048, 3072, 4096")
		}
		at.signer, err = v.newRSA(body.KeySize)
	case "EC":
		if at.crv = body.Crv; at.crv == "" {
			at.crv = "P-256"
		}
		at.signer, err = generateEC(at.crv)
	default:
		if body.KeySize == 0 {
			body.KeySize = 256
		}
		if !slices.Contains([]int{128, 192, 256}, body.KeySize) {
			return nil, badParameter("key_size is not one of 128, 192, 256")
		}
		at.secret = make([]byte, body.KeySize/8)
		crand.Read(at.secret)
	}
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.add(req.name, at, body.Attributes)
}

func generateEC(crv string) (crypto.Signer, error) {
	if crv == "P-256K" {
		key, err := secp256k1.GeneratePrivateKey()
		return secp256k1Key{key: key}, err
	}
	curve := curves[crv]
	if curve == nil {
		return nil, badParameter("crv " + crv + " is not supported")
	}
	return ecdsa.GenerateKey(curve, crand.Reader)
}

func (v *vault) importKey(req request) (map[string]any, error) {
	var body struct {
		Key        jwk               `json:"key"`
		HSM        bool              `json:"Hsm"`
		Attributes *attributes       `json:"attributes"`
		Tags       map[string]string `json:"tags"`
	}
	if err := req.into(&body); err != nil {
		return nil, err
	}
	j := body.Key
	if body.HSM && !strings.HasSuffix(j.Kty, "-HSM") {
		j.Kty += "-HSM"
	}
	ops, err := v.check(req.name, j.Kty, j.KeyOps)
	if err != nil {
		return nil, err
	}
	at := &version{kty: j.Kty, ops: ops, tags: body.Tags}
	switch strings.TrimSuffix(j.Kty, "-HSM") {
	case "RSA":
		at.signer, err = importRSA(j)
	case "EC":
		at.crv = j.Crv
		at.signer, err = importEC(j)
	default:
		if at.secret = j.K; !slices.Contains([]int{16, 24, 32}, len(j.K)) {
			err = badParameter("k is no AES key")
		}
	}
	if err != nil {
		return nil, err
	}
	return v.add(req.name, at, body.Attributes)
}

func importRSA(j jwk) (crypto.Signer, error) {
	num := func(o octets) *big.Int { return new(big.Int).SetBytes(o) }
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: num(j.N), E: int(num(j.E).Int64())},
		D:         num(j.D), Primes: []*big.Int{num(j.P), num(j.Q)},
	}
	key.Precompute()
	if err := key.Validate(); err != nil {
		return nil, badParameter("the RSA key is not valid: " + err.Error())
	}
	// What an HSM computes with must be right, too.
	if c := key.Precomputed; c.Dp.Cmp(num(j.DP)) != 0 || c.Dq.Cmp(num(j.DQ)) != 0 || c.Qinv.Cmp(num(j.QI)) != 0 {
		return nil, badParameter("dp, dq or qi is not valid")
	}
	return key, nil
}

func importEC(j jwk) (crypto.Signer, error) {
	point := slices.Concat([]byte{4}, j.X, j.Y)
	if j.Crv == "P-256K" {
		if len(j.D) != 32 {
			return nil, badParameter("d has a wrong length")
		}
		key := secp256k1.PrivKeyFromBytes(j.D)
		if !slices.Equal(key.PubKey().SerializeUncompressed(), point) {
			return nil, badParameter("x and y are not of d")
		}
		return secp256k1Key{key: key}, nil
	}
	curve := curves[j.Crv]
	if curve == nil {
		return nil, badParameter("crv " + j.Crv + " is not supported")
	}
	key, err := ecdsa.ParseRawPrivateKey(curve, j.D)
	if err != nil {
		return nil, badParameter("d: " + err.Error())
	}
	if own, err := key.PublicKey.Bytes(); err != nil || !slices.Equal(own, point) {
		return nil, badParameter("x and y are not of d")
	}
	return key, nil
}

// publicJWK is the public key of a version.
func publicJWK(at *version) jwk {
	switch key := at.signer.(type) {
	case *rsa.PrivateKey:
		return jwk{N: key.N.Bytes(), E: big.NewInt(int64(key.E)).Bytes()}
	case *ecdsa.PrivateKey:
		point, _ := key.PublicKey.Bytes() // of a key that was generated or parsed
		n := (len(point) - 1) / 2
		return jwk{Crv: at.crv, X: point[1 : 1+n], Y: point[1+n:]}
	case secp256k1Key:
		point := key.key.PubKey().SerializeUncompressed()
		return jwk{Crv: at.crv, X: point[1:33], Y: point[33:]}
	}
	return jwk{}
}
