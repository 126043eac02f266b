package fakeaws

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"strings"
	"time"

	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// wrappingKey returns the RSA key for imports; the server has one of each size.
func (s *Server) wrappingKey(spec string) (*rsa.PrivateKey, error) {
	bits := map[string]int{"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}[spec]
	if bits == 0 {
		return nil, errSpec
	}
	if s.wrapping[bits] == nil {
		k, err := s.opts.NewRSA(bits)
		if err != nil {
			return nil, err
		}
		s.wrapping[bits] = k
	}
	return s.wrapping[bits], nil
}

// getParametersForImport checks the wrapping algorithm against the key spec.
//
// https://docs.aws.amazon.com/kms/latest/APIReference/API_GetParametersForImport.html
func getParametersForImport(s *Server, _ *region, k *key, req *request) (map[string]any, *Error) {
	if k.origin != "EXTERNAL" {
		return nil, errorf("UnsupportedOperationException", "%s origin is %s which is not valid for this operation.", k.arn(), k.origin)
	}
	if k.state != "PendingImport" && k.state != "Enabled" {
		return nil, k.usable()
	}
	asymmetric := strings.HasPrefix(k.spec, "RSA_") || strings.HasPrefix(k.spec, "ECC_")
	hybrid := req.WrappingAlgorithm == "RSA_AES_KEY_WRAP_SHA_256"
	switch {
	case hybrid && asymmetric, req.WrappingAlgorithm == "RSAES_OAEP_SHA_256" && !strings.HasPrefix(k.spec, "RSA_"):
	default:
		return nil, errorf("ValidationException", "WrappingAlgorithm %s is not valid for %s", req.WrappingAlgorithm, k.spec)
	}
	wrapping, err := s.wrappingKey(req.WrappingKeySpec)
	if err != nil {
		return nil, errorf("ValidationException", "WrappingKeySpec: %v", err)
	}
	der, err := x509.MarshalPKIXPublicKey(&wrapping.PublicKey)
	if err != nil {
		return nil, errorf("KMSInternalException", "%v", err)
	}
	k.wrapping, k.wrapped, k.importToken = req.WrappingAlgorithm, wrapping, make([]byte, 64)
	rand.Read(k.importToken) // never fails
	return map[string]any{"KeyId": k.arn(), "PublicKey": der, "ImportToken": k.importToken,
		"ParametersValidTo": epoch(time.Now().Add(24 * time.Hour))}, nil
}

func importKeyMaterial(_ *Server, _ *region, k *key, req *request) (map[string]any, *Error) {
	switch {
	case k.origin != "EXTERNAL":
		return nil, errorf("UnsupportedOperationException", "%s origin is %s which is not valid for this operation.", k.arn(), k.origin)
	case k.importToken == nil || !bytes.Equal(k.importToken, req.ImportToken):
		return nil, errorf("InvalidImportTokenException", "")
	case k.state != "PendingImport" && k.state != "Enabled":
		return nil, k.usable()
	}
	plain, err := k.unwrap(req.EncryptedKeyMaterial)
	if err != nil {
		return nil, errorf("InvalidCiphertextException", "")
	}
	m, err := importMaterial(k.spec, plain)
	if err != nil {
		return nil, errorf("IncorrectKeyMaterialException", "%v", err)
	}
	if k.material != nil && (!bytes.Equal(k.material.public, m.public) || !equal(k.material.secret, m.secret)) {
		return nil, errorf("IncorrectKeyMaterialException", "it is not the key material that was imported before")
	}
	k.material, k.state = m, "Enabled"
	if req.ExpirationModel == "KEY_MATERIAL_EXPIRES" {
		k.validTo = time.UnixMilli(int64(req.ValidTo * 1000))
	}
	return map[string]any{"KeyId": k.arn()}, nil
}

// unwrap decrypts imported key material: RSAES-OAEP, or an AES key under it and then AES-KWP (RFC 5649).
func (k *key) unwrap(wrapped []byte) ([]byte, error) {
	hash := hashes["SHA_256"]
	if k.wrapping == "RSAES_OAEP_SHA_256" {
		return rsa.DecryptOAEP(hash.New(), nil, k.wrapped, wrapped, nil)
	}
	if len(wrapped) <= k.wrapped.Size() {
		return nil, errMaterial
	}
	aesKey, err := rsa.DecryptOAEP(hash.New(), nil, k.wrapped, wrapped[:k.wrapped.Size()], nil)
	if err != nil {
		return nil, err
	}
	unwrapper, err := kwp.NewKWP(aesKey)
	if err != nil {
		return nil, err
	}
	return unwrapper.Unwrap(wrapped[k.wrapped.Size():])
}
