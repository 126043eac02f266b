package fakegcp

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"hash/crc32"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/managedkeys/managedkeys/backend"
)

// maxData is the longest input of an operation, in bytes.
const maxData = 64 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crc(data []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(data, castagnoli)))
}

// check compares data with the checksum that came with it, if one did.
func check(field string, data []byte, sum *wrapperspb.Int64Value) error {
	if sum != nil && sum.Value != crc(data).Value {
		return refuse(codes.InvalidArgument, "The checksum in field %s_crc32c did not match the data in field %s.", field, field)
	}
	return nil
}

func (s service) GetPublicKey(_ context.Context, req *kmspb.GetPublicKeyRequest) (*kmspb.PublicKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.version(req.Name)
	if err != nil {
		return nil, err
	}
	if err := v.enabled(); err != nil {
		v.see()
		return nil, err
	}
	if !v.alg.asymmetric() {
		return nil, refuse(codes.FailedPrecondition, "Keys with algorithm %v do not contain a public key.", v.pb.Algorithm)
	}
	answer := &kmspb.PublicKey{Name: v.pb.Name, Algorithm: v.pb.Algorithm, ProtectionLevel: v.pb.ProtectionLevel}
	data, err := v.public(req.PublicKeyFormat)
	if err != nil {
		return nil, err
	}
	if req.PublicKeyFormat == kmspb.PublicKey_PUBLIC_KEY_FORMAT_UNSPECIFIED {
		answer.Pem, answer.PemCrc32C = string(data), crc(data)
		return answer, nil
	}
	answer.PublicKeyFormat = req.PublicKeyFormat
	answer.PublicKey = &kmspb.ChecksummedData{Data: data, Crc32CChecksum: crc(data)}
	return answer, nil
}

// public returns the public key in the format.
func (v *version) public(format kmspb.PublicKey_PublicKeyFormat) ([]byte, error) {
	if !v.alg.has(format) && !v.alg.has(kmspb.PublicKey_PEM) {
		return nil, refuse(codes.InvalidArgument, "Only NIST_PQC format is supported for algorithm %v.", v.pb.Algorithm)
	}
	if !v.alg.has(format) {
		return nil, refuse(codes.InvalidArgument, "Public key format %v is not supported for algorithm %v.", format, v.pb.Algorithm)
	}
	if format == kmspb.PublicKey_NIST_PQC {
		return rawPublic(v.material), nil
	}
	der, err := backend.SubjectPublicKeyInfo(publicOf(v.material))
	if err != nil {
		return nil, refuse(codes.Internal, "%v", err)
	}
	if format == kmspb.PublicKey_DER {
		return der, nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

func (s service) AsymmetricSign(_ context.Context, req *kmspb.AsymmetricSignRequest) (*kmspb.AsymmetricSignResponse, error) {
	v, err := s.usable(req.Name, kmspb.CryptoKey_ASYMMETRIC_SIGN)
	if err != nil {
		return nil, err
	}
	input, err := v.input(req)
	if err != nil {
		return nil, err
	}
	signature, err := v.sign(input)
	if err != nil {
		return nil, refuse(codes.InvalidArgument, "Signing failed: %v.", err)
	}
	return &kmspb.AsymmetricSignResponse{
		Name: v.pb.Name, Signature: signature, SignatureCrc32C: crc(signature), ProtectionLevel: v.pb.ProtectionLevel,
		VerifiedDataCrc32C: req.DataCrc32C != nil, VerifiedDigestCrc32C: req.DigestCrc32C != nil,
	}, nil
}

// input returns what a request asks to sign: a digest, or the data where the algorithm takes no digest.
func (v *version) input(req *kmspb.AsymmetricSignRequest) ([]byte, error) {
	external := v.pb.ProtectionLevel == kmspb.ProtectionLevel_EXTERNAL || v.pb.ProtectionLevel == kmspb.ProtectionLevel_EXTERNAL_VPC
	takesData := external || v.alg.hash == 0 && !v.alg.mu
	if req.Digest == nil {
		if v.alg.mu {
			return nil, refuse(codes.InvalidArgument, "Algorithm %v takes digest.external_mu.", v.pb.Algorithm)
		}
		if len(req.Data) == 0 { // the wire format has no difference between empty and absent
			return nil, refuse(codes.InvalidArgument, "At least one of digest or data must be set.")
		}
		if len(req.Data) > maxData {
			return nil, refuse(codes.InvalidArgument, "data is %d bytes long, the maximum is %d.", len(req.Data), maxData)
		}
		if err := check("data", req.Data, req.DataCrc32C); err != nil {
			return nil, err
		}
		if v.alg.hash == 0 {
			return req.Data, nil
		}
		h := v.alg.hash.New()
		h.Write(req.Data)
		return h.Sum(nil), nil
	}
	if takesData || len(req.Data) > 0 {
		return nil, refuse(codes.InvalidArgument, "Algorithm %v at level %v takes data and no digest.", v.pb.Algorithm, v.pb.ProtectionLevel)
	}
	digest, size := req.Digest.GetExternalMu(), 64
	switch {
	case v.alg.hash == crypto.SHA256:
		digest, size = req.Digest.GetSha256(), 32
	case v.alg.hash == crypto.SHA384:
		digest, size = req.Digest.GetSha384(), 48
	case v.alg.hash == crypto.SHA512:
		digest, size = req.Digest.GetSha512(), 64
	}
	if len(digest) != size {
		return nil, refuse(codes.InvalidArgument, "The digest is %d bytes long, %v takes %d.", len(digest), v.pb.Algorithm, size)
	}
	return digest, check("digest", digest, req.DigestCrc32C)
}

func (v *version) sign(input []byte) ([]byte, error) {
	switch key := v.material.(type) {
	case *rsa.PrivateKey:
		if v.alg.pss {
			return rsa.SignPSS(rand.Reader, key, v.alg.hash, input, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.SignPKCS1v15(rand.Reader, key, v.alg.hash, input) // hash 0 pads the input as it is
	case *ecdsa.PrivateKey:
		return ecdsa.SignASN1(rand.Reader, key, input)
	case *secp256k1.PrivateKey:
		return secpecdsa.Sign(key, input).Serialize(), nil
	case ed25519.PrivateKey:
		return ed25519.Sign(key, input), nil
	case *mldsa.PrivateKey:
		if v.alg.mu {
			return key.Sign(rand.Reader, input, mldsacrypto.MLDSAMu)
		}
		return key.Sign(rand.Reader, input, &mldsa.Options{})
	}
	return randomBytes(7856), nil // as long as a signature of SLH-DSA-SHA2-128s
}
