package fakeazure

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hmac"
	crand "crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	_ "crypto/sha512" // HS384, HS512
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// operation is the body of a cryptographic request.
type operation struct {
	Alg    string  `json:"alg"`
	Value  *octets `json:"value"` // what is operated on; the signature to verify
	IV     *octets `json:"iv"`
	AAD    *octets `json:"aad"`
	Tag    *octets `json:"tag"`
	Digest *octets `json:"digest"` // whose signature is verified
}

func (o *octets) get() []byte {
	if o == nil {
		return nil
	}
	return *o
}

// keyOps are the members of key_ops that allow an operation.
var keyOps = map[string]string{"wrapkey": "wrapKey", "unwrapkey": "unwrapKey"}

func (v *vault) crypto(req request) (map[string]any, error) {
	var body operation
	if err := req.into(&body); err != nil {
		return nil, err
	}
	v.mu.Lock()
	k, at, err := v.find(req)
	if err == nil {
		err = at.allows(req.op)
	}
	kid := ""
	if err == nil {
		kid = v.kid(k, at)
	}
	v.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if body.Value == nil {
		return nil, badParameter("Property value is required")
	}
	answer := map[string]any{"kid": kid}
	var out octets
	switch req.op {
	case "verify":
		valid, err := at.verify(body.Alg, body.Digest.get(), *body.Value)
		return map[string]any{"value": valid}, err
	case "sign":
		out, err = at.sign(body.Alg, *body.Value)
	case "encrypt", "wrapkey":
		out, err = at.encrypt(req.op, body, answer)
	case "decrypt", "unwrapkey":
		out, err = at.decrypt(req.op, body)
	}
	if err != nil {
		return nil, err
	}
	answer["value"] = out
	return answer, nil
}

// allows checks the state of a key and what it is for. Keys that have expired still decrypt and verify.
func (at *version) allows(op string) error {
	forbidden := func(inner, why string) error {
		return &Error{Status: 403, Code: "Forbidden", Inner: inner, Message: "Operation " + op + " is not allowed on " + why + "."}
	}
	old := op == "decrypt" || op == "unwrapkey" || op == "verify"
	now := time.Now().Unix()
	name := op
	if mapped := keyOps[op]; mapped != "" {
		name = mapped
	}
	switch {
	case !*at.attrs.Enabled:
		return forbidden("KeyDisabled", "a disabled key")
	case !old && at.attrs.Expires != nil && *at.attrs.Expires <= now:
		return forbidden("KeyExpired", "an expired key")
	case !old && at.attrs.NotBefore != nil && *at.attrs.NotBefore > now:
		return forbidden("KeyNotYetValid", "a key that is not yet valid")
	case !slices.Contains(at.ops, name):
		return forbidden("KeyOperationForbidden", "this key, whose key_ops lack it")
	}
	return nil
}

var hashes = map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}

// sign signs a digest, or authenticates a message.
func (at *version) sign(alg string, value []byte) ([]byte, error) {
	if strings.HasPrefix(alg, "HS") {
		return at.mac(alg, value)
	}
	if alg == "ES256K" {
		key, ok := at.signer.(secp256k1Key)
		if !ok || len(value) != 32 {
			return nil, badParameter("Invalid length of 'value', or alg does not suit the key: " + alg)
		}
		signature := secpecdsa.Sign(key.key, value)
		r, s := signature.R(), signature.S()
		rb, sb := r.Bytes(), s.Bytes()
		return slices.Concat(rb[:], sb[:]), nil
	}
	hash := hashes[strings.TrimLeft(alg, "RPES")]
	if hash == 0 || len(value) != hash.Size() {
		return nil, badParameter(fmt.Sprintf("Invalid length of 'value': %d bytes for %s", len(value), alg))
	}
	switch key := at.signer.(type) {
	case *rsa.PrivateKey:
		switch alg[:2] {
		case "RS":
			return rsa.SignPKCS1v15(crand.Reader, key, hash, value)
		case "PS":
			return rsa.SignPSS(crand.Reader, key, hash, value, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
	case *ecdsa.PrivateKey:
		if curves[map[string]string{"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[alg]] != key.Curve {
			break
		}
		der, err := ecdsa.SignASN1(crand.Reader, key, value)
		if err != nil {
			return nil, err
		}
		var rs struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(der, &rs); err != nil {
			return nil, err
		}
		out := make([]byte, 2*((key.Params().BitSize+7)/8))
		rs.R.FillBytes(out[:len(out)/2])
		rs.S.FillBytes(out[len(out)/2:])
		return out, nil
	}
	return nil, badParameter("Key and signing algorithm are incompatible: " + alg)
}

// verify reports whether a signature or MAC is the key's.
func (at *version) verify(alg string, digest, signature []byte) (bool, error) {
	if strings.HasPrefix(alg, "HS") {
		mac, err := at.mac(alg, digest)
		return err == nil && hmac.Equal(mac, signature), err
	}
	hash := hashes[strings.Trim(alg, "RPESK")]
	if hash == 0 || len(digest) != hash.Size() {
		return false, badParameter("Invalid length of 'digest'")
	}
	switch key := at.signer.(type) {
	case *rsa.PrivateKey:
		if alg[:1] == "P" {
			return rsa.VerifyPSS(&key.PublicKey, hash, digest, signature, nil) == nil, nil
		}
		return rsa.VerifyPKCS1v15(&key.PublicKey, hash, digest, signature) == nil, nil
	case *ecdsa.PrivateKey:
		n := len(signature) / 2
		r, s := new(big.Int).SetBytes(signature[:n]), new(big.Int).SetBytes(signature[n:])
		return len(signature) == 2*((key.Params().BitSize+7)/8) && ecdsa.Verify(&key.PublicKey, digest, r, s), nil
	}
	return false, badParameter("Key and signing algorithm are incompatible: " + alg)
}

func (at *version) mac(alg string, message []byte) ([]byte, error) {
	hash := hashes[strings.TrimPrefix(alg, "HS")]
	if at.secret == nil || hash == 0 {
		return nil, badParameter("Key and signing algorithm are incompatible: " + alg)
	}
	h := hmac.New(hash.New, at.secret)
	h.Write(message)
	return h.Sum(nil), nil
}

// cipher checks that alg is one of the key and returns its kind: "RSA-OAEP", "RSA-OAEP-256", "GCM" or "WRAP_PAD".
func (at *version) cipher(op, alg string) (string, error) {
	wraps := op == "wrapkey" || op == "unwrapkey"
	switch {
	case at.secret == nil && (alg == "RSA-OAEP" || alg == "RSA-OAEP-256"):
		if _, ok := at.signer.(*rsa.PrivateKey); ok {
			return alg, nil
		}
	case at.secret != nil && !wraps && alg == fmt.Sprintf("A%dGCM", 8*len(at.secret)):
		return "GCM", nil
	case at.secret != nil && wraps && alg == "CKM_AES_KEY_WRAP_PAD":
		return "WRAP_PAD", nil
	}
	return "", badParameter("Key and " + op + " algorithm are incompatible: " + alg)
}

func (at *version) encrypt(op string, body operation, answer map[string]any) ([]byte, error) {
	kind, err := at.cipher(op, body.Alg)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "GCM":
		if body.IV != nil {
			return nil, badParameter("iv: the HSM makes it")
		}
		block, err := aes.NewCipher(at.secret)
		if err != nil {
			return nil, err
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		iv := make([]byte, gcm.NonceSize())
		crand.Read(iv)
		sealed := gcm.Seal(nil, iv, *body.Value, body.AAD.get())
		n := len(sealed) - gcm.Overhead()
		answer["iv"], answer["tag"] = octets(iv), octets(sealed[n:])
		if body.AAD != nil {
			answer["aad"] = *body.AAD
		}
		return sealed[:n], nil
	case "WRAP_PAD":
		return wrapPad(at.secret, *body.Value)
	case "RSA-OAEP":
		return rsa.EncryptOAEP(sha1.New(), crand.Reader, &at.signer.(*rsa.PrivateKey).PublicKey, *body.Value, nil)
	}
	return rsa.EncryptOAEP(sha256.New(), crand.Reader, &at.signer.(*rsa.PrivateKey).PublicKey, *body.Value, nil)
}

func (at *version) decrypt(op string, body operation) ([]byte, error) {
	kind, err := at.cipher(op, body.Alg)
	if err != nil {
		return nil, err
	}
	var out []byte
	switch kind {
	case "GCM":
		var block cipher.Block
		var gcm cipher.AEAD
		if block, err = aes.NewCipher(at.secret); err != nil {
			return nil, err
		}
		if gcm, err = cipher.NewGCM(block); err != nil {
			return nil, err
		}
		if len(body.IV.get()) != gcm.NonceSize() || len(body.Tag.get()) != gcm.Overhead() {
			return nil, badParameter("iv or tag has a wrong length")
		}
		out, err = gcm.Open(nil, *body.IV, slices.Concat(*body.Value, *body.Tag), body.AAD.get())
	case "WRAP_PAD":
		out, err = unwrapPad(at.secret, *body.Value)
	case "RSA-OAEP":
		out, err = rsa.DecryptOAEP(sha1.New(), nil, at.signer.(*rsa.PrivateKey), *body.Value, nil)
	default:
		out, err = rsa.DecryptOAEP(sha256.New(), nil, at.signer.(*rsa.PrivateKey), *body.Value, nil)
	}
	if err != nil {
		return nil, badParameter("The parameter is incorrect.")
	}
	return append([]byte{}, out...), nil
}

func (v *vault) random(req request) (map[string]any, error) {
	var body struct {
		Count int `json:"count"`
	}
	if err := req.into(&body); err != nil {
		return nil, err
	}
	if !v.hsm || body.Count < 1 || body.Count > 128 {
		return nil, badParameter("count is not 1 to 128, or this is no Managed HSM")
	}
	out := make(octets, body.Count)
	crand.Read(out)
	return map[string]any{"value": out}, nil
}

// attest makes a statement about a key: what it is, signed by the fake's authority.
func (v *vault) attest(k *key, at *version) (map[string]any, error) {
	if !v.hsm {
		return nil, badParameter("attestation is not supported here")
	}
	answer := v.bundle(k, at)
	statement, err := json.Marshal(answer["key"])
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(statement)
	signature, err := ecdsa.SignASN1(crand.Reader, v.attests.key, digest[:])
	if err != nil {
		return nil, err
	}
	attestation := map[string]any{
		"certificatePemFile": octets(v.attests.pem), "version": "fakeazure 1",
		"privateKeyAttestation": octets(slices.Concat(signature, statement)),
	}
	if at.signer != nil {
		attestation["publicKeyAttestation"] = octets(statement)
	}
	answer["attributes"] = map[string]any{"enabled": true, "attestation": attestation}
	return answer, nil
}
