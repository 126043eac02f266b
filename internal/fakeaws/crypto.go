package fakeaws

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"slices"
	"strings"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
	mldsax509 "filippo.io/mldsa/x509"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// maxData is the most that most members of requests take, in bytes.
const maxData = 4096

// offers returns an error unless the key has the usage and the algorithm.
func (k *key) offers(usage, algorithm string) *Error {
	_, algorithms := k.algorithms()
	if k.usage != usage || !slices.Contains(algorithms, algorithm) {
		return errorf("InvalidKeyUsageException", "%s key usage is %s which is not valid for %s.", k.arn(), k.usage, algorithm)
	}
	return nil
}

// hashOf returns the hash that an algorithm's name ends with.
func hashOf(algorithm string) crypto.Hash {
	for name, h := range hashes {
		if strings.HasSuffix(algorithm, name) {
			return h
		}
	}
	return 0
}

// input returns what is signed: the digest, the message itself, or mu.
func (k *key) input(req *request) ([]byte, *Error) {
	if fail := tooLong("message", len(req.Message), 1, maxData); fail != nil {
		return nil, fail
	}
	kind := orDefault(req.MessageType, "RAW")
	h := hashOf(req.SigningAlgorithm)
	bad := func(why string) *Error { return errorf("ValidationException", "%s", why) }
	switch req.SigningAlgorithm {
	case "ED25519_SHA_512":
		if kind != "RAW" {
			return nil, bad("ED25519_SHA_512 takes MessageType RAW")
		}
		return req.Message, nil
	case "ED25519_PH_SHA_512":
		if kind != "DIGEST" || len(req.Message) != h.Size() {
			return nil, bad("ED25519_PH_SHA_512 takes MessageType DIGEST of 64 bytes")
		}
		hash := sha512.Sum512(req.Message) // the service hashes what it is given
		return hash[:], nil
	case "ML_DSA_SHAKE_256":
		if kind != "RAW" && (kind != "EXTERNAL_MU" || len(req.Message) != 64) {
			return nil, bad("ML_DSA_SHAKE_256 takes MessageType RAW, or EXTERNAL_MU of 64 bytes")
		}
		return req.Message, nil
	}
	switch {
	case kind == "DIGEST" && len(req.Message) == h.Size():
		return req.Message, nil
	case kind == "RAW":
		hash := h.New()
		hash.Write(req.Message)
		return hash.Sum(nil), nil
	}
	return nil, bad("Digest is invalid length for algorithm " + req.SigningAlgorithm + ".")
}

func signMessage(_ *Server, _ *region, k *key, req *request) (map[string]any, *Error) {
	if fail := k.offers("SIGN_VERIFY", req.SigningAlgorithm); fail != nil {
		return nil, fail
	}
	in, fail := k.input(req)
	switch {
	case fail != nil:
		return nil, fail
	case req.DryRun:
		return nil, dry()
	}
	signature, err := k.sign(in, req)
	if err != nil {
		return nil, &Error{Status: 500, Code: "KMSInternalException", Message: err.Error()}
	}
	return map[string]any{"KeyId": k.arn(), "Signature": signature, "SigningAlgorithm": req.SigningAlgorithm}, nil
}

func (k *key) sign(in []byte, req *request) ([]byte, error) {
	var opts crypto.SignerOpts = hashOf(req.SigningAlgorithm)
	switch {
	case k.material.secp != nil:
		return secpecdsa.Sign(k.material.secp, in).Serialize(), nil
	case strings.HasPrefix(req.SigningAlgorithm, "RSASSA_PSS"):
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hashOf(req.SigningAlgorithm)}
	case req.SigningAlgorithm == "ED25519_SHA_512":
		opts = crypto.Hash(0)
	case req.SigningAlgorithm == "ML_DSA_SHAKE_256":
		opts = crypto.Hash(0)
		if req.MessageType == "EXTERNAL_MU" {
			opts = mldsacrypto.MLDSAMu
		}
	}
	return k.material.signer.Sign(rand.Reader, in, opts)
}

func verifySignature(_ *Server, _ *region, k *key, req *request) (map[string]any, *Error) {
	if fail := k.offers("SIGN_VERIFY", req.SigningAlgorithm); fail != nil {
		return nil, fail
	}
	in, fail := k.input(req)
	if fail != nil {
		return nil, fail
	}
	if !k.verify(in, req) {
		return nil, errorf("KMSInvalidSignatureException", "")
	}
	return map[string]any{"KeyId": k.arn(), "SignatureValid": true, "SigningAlgorithm": req.SigningAlgorithm}, nil
}

func (k *key) verify(in []byte, req *request) bool {
	h := hashOf(req.SigningAlgorithm)
	if k.material.secp != nil {
		signature, err := secpecdsa.ParseDERSignature(req.Signature)
		return err == nil && signature.Verify(in, k.material.secp.PubKey())
	}
	pub, err := mldsax509.ParsePKIXPublicKey(k.material.public)
	if err != nil {
		return false
	}
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if strings.HasPrefix(req.SigningAlgorithm, "RSASSA_PSS") {
			return rsa.VerifyPSS(pub, h, in, req.Signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(pub, h, in, req.Signature) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(pub, in, req.Signature)
	case ed25519.PublicKey:
		opts := &ed25519.Options{}
		if req.SigningAlgorithm == "ED25519_PH_SHA_512" {
			opts.Hash = crypto.SHA512
		}
		return ed25519.VerifyWithOptions(pub, in, req.Signature, opts) == nil
	case *mldsa.PublicKey:
		return mldsa.Verify(pub, in, req.Signature, nil) == nil
	}
	return false
}

func generateRandom(_ *Server, _ *region, _ *key, req *request) (map[string]any, *Error) {
	if req.NumberOfBytes < 1 || req.NumberOfBytes > 1024 {
		return nil, errorf("ValidationException", "1 validation error detected: Value at 'numberOfBytes' failed to satisfy constraint")
	}
	out := make([]byte, req.NumberOfBytes)
	rand.Read(out) // never fails
	return map[string]any{"Plaintext": out}, nil
}

// equal compares in constant time what both are given.
func equal(a, b []byte) bool { return bytes.Equal(a, b) }
