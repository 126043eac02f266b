package fakeaws

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"maps"
	"slices"
)

// The form of a symmetric ciphertext is the service's secret, but begins with what names the key.
var ciphertextPrefix = []byte{1, 2, 2, 0}

// ciphertextKey returns the id of the key that a ciphertext says it is of, or "".
func ciphertextKey(blob []byte) string {
	if len(blob) < len(ciphertextPrefix)+1 || string(blob[:len(ciphertextPrefix)]) != string(ciphertextPrefix) {
		return ""
	}
	blob = blob[len(ciphertextPrefix):]
	n := int(blob[0])
	if len(blob) < 1+n {
		return ""
	}
	return string(blob[1 : 1+n])
}

// canonical returns an encryption context as bytes that differ for each context.
func canonical(ec map[string]string) []byte {
	var out []byte
	for _, name := range slices.Sorted(maps.Keys(ec)) {
		for _, text := range []string{name, ec[name]} {
			out = append(binary.BigEndian.AppendUint32(out, uint32(len(text))), text...)
		}
	}
	return out
}

func (k *key) gcm() (cipher.AEAD, error) {
	block, err := aes.NewCipher(k.material.secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func encrypt(_ *Server, _ *region, k *key, req *request) (map[string]any, *Error) {
	algorithm := orDefault(req.EncryptionAlgorithm, "SYMMETRIC_DEFAULT")
	if fail := k.offers("ENCRYPT_DECRYPT", algorithm); fail != nil {
		return nil, fail
	}
	if fail := tooLong("plaintext", len(req.Plaintext), 1, maxData); fail != nil {
		return nil, fail
	}
	if fail := checkContext(req.EncryptionContext); fail != nil {
		return nil, fail
	}
	if req.DryRun {
		return nil, dry()
	}
	blob, err := k.encrypt(algorithm, req)
	if err != nil {
		return nil, errorf("ValidationException", "%v", err)
	}
	return map[string]any{"KeyId": k.arn(), "CiphertextBlob": blob, "EncryptionAlgorithm": algorithm}, nil
}

// checkContext bounds an encryption context.
func checkContext(ec map[string]string) *Error {
	n := 0
	for name, value := range ec {
		n += len(name) + len(value)
	}
	return tooLong("encryptionContext", n, 0, 8192)
}

func (k *key) encrypt(algorithm string, req *request) ([]byte, error) {
	if algorithm != "SYMMETRIC_DEFAULT" {
		pub, err := x509.ParsePKIXPublicKey(k.material.public)
		if err != nil {
			return nil, err
		}
		return rsa.EncryptOAEP(hashOf(algorithm).New(), rand.Reader, pub.(*rsa.PublicKey), req.Plaintext, nil)
	}
	gcm, err := k.gcm()
	if err != nil {
		return nil, err
	}
	blob := append(append(slices.Clone(ciphertextPrefix), byte(len(k.id))), k.id...)
	return gcm.Seal(blob, nil, req.Plaintext, canonical(req.EncryptionContext)), nil
}

func decrypt(_ *Server, _ *region, k *key, req *request) (map[string]any, *Error) {
	algorithm := orDefault(req.EncryptionAlgorithm, "SYMMETRIC_DEFAULT")
	if fail := k.offers("ENCRYPT_DECRYPT", algorithm); fail != nil {
		return nil, fail
	}
	if fail := tooLong("ciphertextBlob", len(req.CiphertextBlob), 1, 6144); fail != nil {
		return nil, fail
	}
	var plaintext []byte
	var err error
	if algorithm == "SYMMETRIC_DEFAULT" {
		of := ciphertextKey(req.CiphertextBlob)
		if of != "" && of != k.id {
			return nil, errorf("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
		}
		plaintext, err = k.open(req)
	} else {
		plaintext, err = rsa.DecryptOAEP(hashOf(algorithm).New(), nil, k.material.signer.(*rsa.PrivateKey), req.CiphertextBlob, nil)
	}
	switch {
	case err != nil:
		return nil, errorf("InvalidCiphertextException", "")
	case req.DryRun:
		return nil, dry()
	}
	if plaintext == nil {
		plaintext = []byte{}
	}
	return map[string]any{"KeyId": k.arn(), "Plaintext": plaintext, "EncryptionAlgorithm": algorithm}, nil
}

func (k *key) open(req *request) ([]byte, error) {
	gcm, err := k.gcm()
	if err != nil {
		return nil, err
	}
	header := len(ciphertextPrefix) + 1 + len(k.id)
	if len(req.CiphertextBlob) < header || ciphertextKey(req.CiphertextBlob) == "" {
		return nil, errMaterial
	}
	return gcm.Open(nil, nil, req.CiphertextBlob[header:], canonical(req.EncryptionContext))
}

func generateMAC(_ *Server, _ *region, k *key, req *request) (map[string]any, *Error) {
	if fail := k.offers("GENERATE_VERIFY_MAC", req.MacAlgorithm); fail != nil {
		return nil, fail
	}
	if fail := tooLong("message", len(req.Message), 1, maxData); fail != nil {
		return nil, fail
	}
	if req.DryRun {
		return nil, dry()
	}
	return map[string]any{"KeyId": k.arn(), "Mac": k.mac(req), "MacAlgorithm": req.MacAlgorithm}, nil
}

func (k *key) mac(req *request) []byte {
	mac := hmac.New(hashOf(req.MacAlgorithm).New, k.material.secret)
	mac.Write(req.Message)
	return mac.Sum(nil)
}

func verifyMAC(_ *Server, _ *region, k *key, req *request) (map[string]any, *Error) {
	if fail := k.offers("GENERATE_VERIFY_MAC", req.MacAlgorithm); fail != nil {
		return nil, fail
	}
	if !hmac.Equal(k.mac(req), req.Mac) {
		return nil, errorf("KMSInvalidMacException", "")
	}
	return map[string]any{"KeyId": k.arn(), "MacValid": true, "MacAlgorithm": req.MacAlgorithm}, nil
}

func deriveSharedSecret(_ *Server, _ *region, k *key, req *request) (map[string]any, *Error) {
	if fail := k.offers("KEY_AGREEMENT", req.KeyAgreementAlgorithm); fail != nil {
		return nil, fail
	}
	peer, err := x509.ParsePKIXPublicKey(req.PublicKey)
	if err != nil {
		return nil, errorf("ValidationException", "PublicKey: %v", err)
	}
	own, err := k.material.signer.(*ecdsa.PrivateKey).ECDH()
	if err != nil {
		return nil, errorf("ValidationException", "%v", err)
	}
	pub, ok := peer.(*ecdsa.PublicKey)
	if !ok {
		return nil, errorf("ValidationException", "PublicKey: %T", peer)
	}
	point, err := pub.ECDH()
	if err != nil {
		return nil, errorf("ValidationException", "PublicKey: %v", err)
	}
	secret, err := own.ECDH(point)
	switch {
	case err != nil:
		return nil, errorf("ValidationException", "PublicKey: %v", err)
	case req.DryRun:
		return nil, dry()
	}
	return map[string]any{"KeyId": k.arn(), "SharedSecret": secret, "KeyAgreementAlgorithm": "ECDH", "KeyOrigin": k.origin}, nil
}

func encapsulate(_ *Server, _ *region, k *key, req *request) (map[string]any, *Error) {
	if fail := k.offers("ENCAPSULATE_DECAPSULATE", req.EncapsulationAlgorithm); fail != nil {
		return nil, fail
	}
	secret, ciphertext := k.material.kem.Encapsulator().Encapsulate()
	return map[string]any{"KeyId": k.arn(), "SharedSecret": secret, "SharedSecretCiphertextBlob": ciphertext, "EncapsulationAlgorithm": "ML_KEM"}, nil
}

func decapsulate(_ *Server, _ *region, k *key, req *request) (map[string]any, *Error) {
	if fail := k.offers("ENCAPSULATE_DECAPSULATE", req.EncapsulationAlgorithm); fail != nil {
		return nil, fail
	}
	secret, err := k.material.kem.Decapsulate(req.SharedSecretCiphertextBlob)
	if err != nil || len(secret) != mlkem.SharedKeySize {
		return nil, errorf("InvalidCiphertextException", "")
	}
	if req.DryRun {
		return nil, dry()
	}
	return map[string]any{"KeyId": k.arn(), "SharedSecret": secret, "EncapsulationAlgorithm": "ML_KEM"}, nil
}
