package fakegcp

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// maxHSM is the longest plaintext of a hardware key together with its additional data, in bytes.
const maxHSM = 8 << 10

func (s service) AsymmetricDecrypt(_ context.Context, req *kmspb.AsymmetricDecryptRequest) (*kmspb.AsymmetricDecryptResponse, error) {
	v, err := s.usable(req.Name, kmspb.CryptoKey_ASYMMETRIC_DECRYPT)
	if err != nil {
		return nil, err
	}
	if err := check("ciphertext", req.Ciphertext, req.CiphertextCrc32C); err != nil {
		return nil, err
	}
	plaintext, err := rsa.DecryptOAEP(v.alg.hash.New(), rand.Reader, v.material.(*rsa.PrivateKey), req.Ciphertext, nil)
	if err != nil {
		return nil, refuse(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
	}
	return &kmspb.AsymmetricDecryptResponse{
		Plaintext: plaintext, PlaintextCrc32C: crc(plaintext), VerifiedCiphertextCrc32C: req.CiphertextCrc32C != nil,
		ProtectionLevel: v.pb.ProtectionLevel,
	}, nil
}

func (s service) Decapsulate(_ context.Context, req *kmspb.DecapsulateRequest) (*kmspb.DecapsulateResponse, error) {
	v, err := s.usable(req.Name, kmspb.CryptoKey_KEY_ENCAPSULATION)
	if err != nil {
		return nil, err
	}
	if err := check("ciphertext", req.Ciphertext, req.CiphertextCrc32C); err != nil {
		return nil, err
	}
	var secret []byte
	switch key := v.material.(type) {
	case *mlkem.DecapsulationKey768:
		secret, err = key.Decapsulate(req.Ciphertext)
	case *mlkem.DecapsulationKey1024:
		secret, err = key.Decapsulate(req.Ciphertext)
	}
	if err != nil {
		return nil, refuse(codes.InvalidArgument, "Decapsulation failed: the ciphertext is invalid.")
	}
	return &kmspb.DecapsulateResponse{
		Name: v.pb.Name, SharedSecret: secret, SharedSecretCrc32C: proto.Int64(crc(secret).Value),
		VerifiedCiphertextCrc32C: req.CiphertextCrc32C != nil, ProtectionLevel: v.pb.ProtectionLevel,
	}, nil
}

func (s service) MacSign(_ context.Context, req *kmspb.MacSignRequest) (*kmspb.MacSignResponse, error) {
	v, err := s.usable(req.Name, kmspb.CryptoKey_MAC)
	if err != nil {
		return nil, err
	}
	if err := check("data", req.Data, req.DataCrc32C); err != nil {
		return nil, err
	}
	if len(req.Data) == 0 || len(req.Data) > maxData {
		return nil, refuse(codes.InvalidArgument, "data is %d bytes long, the minimum is 1 and the maximum %d.", len(req.Data), maxData)
	}
	mac := v.mac(req.Data)
	return &kmspb.MacSignResponse{
		Name: v.pb.Name, Mac: mac, MacCrc32C: crc(mac), VerifiedDataCrc32C: req.DataCrc32C != nil,
		ProtectionLevel: v.pb.ProtectionLevel,
	}, nil
}

func (s service) MacVerify(_ context.Context, req *kmspb.MacVerifyRequest) (*kmspb.MacVerifyResponse, error) {
	v, err := s.usable(req.Name, kmspb.CryptoKey_MAC)
	if err != nil {
		return nil, err
	}
	if err := check("data", req.Data, req.DataCrc32C); err != nil {
		return nil, err
	}
	if err := check("mac", req.Mac, req.MacCrc32C); err != nil {
		return nil, err
	}
	success := hmac.Equal(v.mac(req.Data), req.Mac)
	return &kmspb.MacVerifyResponse{
		Name: v.pb.Name, Success: success, VerifiedSuccessIntegrity: success, VerifiedDataCrc32C: req.DataCrc32C != nil,
		VerifiedMacCrc32C: req.MacCrc32C != nil, ProtectionLevel: v.pb.ProtectionLevel,
	}, nil
}

func (v *version) mac(data []byte) []byte {
	h := hmac.New(v.alg.hash.New, v.material.([]byte))
	h.Write(data)
	return h.Sum(nil)
}

func (s service) Encrypt(_ context.Context, req *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	name := req.Name
	if keyName.MatchString(name) {
		s.mu.Lock()
		if k, err := s.key(name); err == nil && k.pb.Primary != nil {
			name = k.pb.Primary.Name
		}
		s.mu.Unlock()
	}
	v, err := s.usable(name, kmspb.CryptoKey_ENCRYPT_DECRYPT)
	if err != nil {
		return nil, err
	}
	if err := v.checkInput(req.Plaintext, req.AdditionalAuthenticatedData); err != nil {
		return nil, err
	}
	if err := check("plaintext", req.Plaintext, req.PlaintextCrc32C); err != nil {
		return nil, err
	}
	if err := check("additional_authenticated_data", req.AdditionalAuthenticatedData, req.AdditionalAuthenticatedDataCrc32C); err != nil {
		return nil, err
	}
	// The version is part of the ciphertext, as it is in the service's own format, which it does not document.
	number := binary.BigEndian.AppendUint32(nil, v.number())
	nonce := randomBytes(12)
	ciphertext := append(append(number, nonce...), v.gcm().Seal(nil, nonce, req.Plaintext, req.AdditionalAuthenticatedData)...)
	return &kmspb.EncryptResponse{
		Name: v.pb.Name, Ciphertext: ciphertext, CiphertextCrc32C: crc(ciphertext), ProtectionLevel: v.pb.ProtectionLevel,
		VerifiedPlaintextCrc32C:                   req.PlaintextCrc32C != nil,
		VerifiedAdditionalAuthenticatedDataCrc32C: req.AdditionalAuthenticatedDataCrc32C != nil,
	}, nil
}

func (s service) Decrypt(_ context.Context, req *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	invalid := refuse(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
	s.mu.Lock()
	k, err := s.key(req.Name)
	var name, primary string
	if err == nil && len(req.Ciphertext) > 16 {
		if n := binary.BigEndian.Uint32(req.Ciphertext); n >= 1 && int(n) <= len(k.versions) {
			name, primary = k.versions[n-1].pb.Name, k.pb.GetPrimary().GetName()
		}
	}
	s.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case name == "":
		return nil, invalid
	}
	v, err := s.usable(name, kmspb.CryptoKey_ENCRYPT_DECRYPT)
	if err != nil {
		return nil, err
	}
	if err := check("ciphertext", req.Ciphertext, req.CiphertextCrc32C); err != nil {
		return nil, err
	}
	if err := check("additional_authenticated_data", req.AdditionalAuthenticatedData, req.AdditionalAuthenticatedDataCrc32C); err != nil {
		return nil, err
	}
	plaintext, err := v.gcm().Open(nil, req.Ciphertext[4:16], req.Ciphertext[16:], req.AdditionalAuthenticatedData)
	if err != nil {
		return nil, invalid
	}
	return &kmspb.DecryptResponse{
		Plaintext: plaintext, PlaintextCrc32C: crc(plaintext), UsedPrimary: name == primary, ProtectionLevel: v.pb.ProtectionLevel,
	}, nil
}

func (s service) RawEncrypt(_ context.Context, req *kmspb.RawEncryptRequest) (*kmspb.RawEncryptResponse, error) {
	v, err := s.usable(req.Name, kmspb.CryptoKey_RAW_ENCRYPT_DECRYPT)
	if err != nil {
		return nil, err
	}
	if len(req.InitializationVector) > 0 {
		return nil, refuse(codes.InvalidArgument, "An initialization vector may not be given for AES-GCM.")
	}
	if err := v.checkInput(req.Plaintext, req.AdditionalAuthenticatedData); err != nil {
		return nil, err
	}
	if err := check("plaintext", req.Plaintext, req.PlaintextCrc32C); err != nil {
		return nil, err
	}
	if err := check("additional_authenticated_data", req.AdditionalAuthenticatedData, req.AdditionalAuthenticatedDataCrc32C); err != nil {
		return nil, err
	}
	iv := randomBytes(12)
	ciphertext := v.gcm().Seal(nil, iv, req.Plaintext, req.AdditionalAuthenticatedData)
	return &kmspb.RawEncryptResponse{
		Name: v.pb.Name, Ciphertext: ciphertext, CiphertextCrc32C: crc(ciphertext), InitializationVector: iv,
		InitializationVectorCrc32C: crc(iv), TagLength: 16, ProtectionLevel: v.pb.ProtectionLevel,
		VerifiedPlaintextCrc32C:                   req.PlaintextCrc32C != nil,
		VerifiedAdditionalAuthenticatedDataCrc32C: req.AdditionalAuthenticatedDataCrc32C != nil,
	}, nil
}

func (s service) RawDecrypt(_ context.Context, req *kmspb.RawDecryptRequest) (*kmspb.RawDecryptResponse, error) {
	v, err := s.usable(req.Name, kmspb.CryptoKey_RAW_ENCRYPT_DECRYPT)
	if err != nil {
		return nil, err
	}
	for field, in := range map[string]struct {
		data []byte
		sum  interface{ GetValue() int64 }
		set  bool
	}{
		"ciphertext":                    {req.Ciphertext, req.CiphertextCrc32C, req.CiphertextCrc32C != nil},
		"initialization_vector":         {req.InitializationVector, req.InitializationVectorCrc32C, req.InitializationVectorCrc32C != nil},
		"additional_authenticated_data": {req.AdditionalAuthenticatedData, req.AdditionalAuthenticatedDataCrc32C, req.AdditionalAuthenticatedDataCrc32C != nil},
	} {
		if in.set && in.sum.GetValue() != crc(in.data).Value {
			return nil, check(field, in.data, crc(append([]byte{1}, in.data...)))
		}
	}
	if len(req.InitializationVector) != 12 || req.TagLength != 0 && req.TagLength != 16 {
		return nil, refuse(codes.InvalidArgument, "The initialization vector is %d bytes long, AES-GCM takes 12.", len(req.InitializationVector))
	}
	plaintext, err := v.gcm().Open(nil, req.InitializationVector, req.Ciphertext, req.AdditionalAuthenticatedData)
	if err != nil {
		return nil, refuse(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
	}
	return &kmspb.RawDecryptResponse{
		Plaintext: plaintext, PlaintextCrc32C: crc(plaintext), ProtectionLevel: v.pb.ProtectionLevel,
		VerifiedCiphertextCrc32C:                  req.CiphertextCrc32C != nil,
		VerifiedAdditionalAuthenticatedDataCrc32C: req.AdditionalAuthenticatedDataCrc32C != nil,
		VerifiedInitializationVectorCrc32C:        req.InitializationVectorCrc32C != nil,
	}, nil
}

func (s service) GenerateRandomBytes(_ context.Context, req *kmspb.GenerateRandomBytesRequest) (*kmspb.GenerateRandomBytesResponse, error) {
	if _, err := parse(locationName, req.Location); err != nil {
		return nil, err
	}
	if req.LengthBytes < 8 || req.LengthBytes > 1024 {
		return nil, refuse(codes.InvalidArgument, "length_bytes is %d, it must be between 8 and 1024.", req.LengthBytes)
	}
	if req.ProtectionLevel != kmspb.ProtectionLevel_HSM {
		return nil, refuse(codes.InvalidArgument, "Protection level %v is not supported, only HSM is.", req.ProtectionLevel)
	}
	data := randomBytes(int(req.LengthBytes))
	return &kmspb.GenerateRandomBytesResponse{Data: data, DataCrc32C: crc(data)}, nil
}

// checkInput refuses plaintexts and additional data that are too long.
func (v *version) checkInput(plaintext, additionalData []byte) error {
	limit, n := maxData, max(len(plaintext), len(additionalData))
	if v.pb.ProtectionLevel == kmspb.ProtectionLevel_HSM {
		limit, n = maxHSM, len(plaintext)+len(additionalData)
	}
	if n > limit {
		return refuse(codes.InvalidArgument, "The plaintext or the additional authenticated data is %d bytes long, the maximum is %d.", n, limit)
	}
	return nil
}

// gcm returns AES-GCM with the key.
func (v *version) gcm() cipher.AEAD {
	block, err := aes.NewCipher(v.material.([]byte))
	if err != nil {
		panic(err) // the length is that of the algorithm
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm
}
