package gcpckms

import (
	"context"
	"crypto"
	"crypto/sha3"
	"encoding/asn1"
	"fmt"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"crypto/x509/pkix"
	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// sign signs in one call.
func (v *version) sign(ctx context.Context, req backend.SignRequest) ([]byte, error) {
	in, err := v.signRequest(req)
	if err != nil {
		return nil, err
	}
	return call(ctx, v.conn, v.call("AsymmetricSign"), func(ctx context.Context) ([]byte, error) {
		resp, err := v.conn.client.AsymmetricSign(ctx, in, once)
		if err != nil {
			return nil, v.failed(err)
		}
		a := v.answer().from(resp.GetName()).carries("the signature", resp.GetSignature(), resp.GetSignatureCrc32C())
		if in.Digest != nil {
			a.received("the digest", resp.GetVerifiedDigestCrc32C())
		} else {
			a.received("the data", resp.GetVerifiedDataCrc32C())
		}
		if a.err != nil {
			return nil, a.err
		}
		return resp.GetSignature(), nil
	})
}

// signRequest returns the request for a signature. Which algorithms take data, and which a digest, is as the service
// documents it for each (cloud.google.com/kms/docs/algorithms).
func (v *version) signRequest(req backend.SignRequest) (*kmspb.AsymmetricSignRequest, error) {
	switch v.alg.kind {
	case kindEd25519, kindMLDSA:
		return v.signData(req.Message), nil
	case kindMLDSAMu:
		mu := messageRepresentative(v.public.(*mldsa.PublicKey), req.Message, req.Context)
		return v.signDigest(mu, &kmspb.Digest{Digest: &kmspb.Digest_ExternalMu{ExternalMu: mu}}), nil
	case kindRawPKCS1:
		if req.Hash == 0 {
			return v.signData(req.Message), nil
		}
		info, err := digestInfo(req.Hash, req.Digest)
		if err != nil {
			return nil, fmt.Errorf("gcpckms: key %q: %w", v.name, err)
		}
		return v.signData(info), nil
	}
	if v.external() {
		if req.Message == nil {
			return nil, fmt.Errorf("gcpckms: key %q is kept outside of Google and hashes messages itself: it signs no digest; use SignMessage: %w", v.name, backend.ErrUnsupported)
		}
		if n := len(req.Message); n < minData || n > maxData {
			return nil, fmt.Errorf("gcpckms: key %q: got a message of %d bytes; it takes %d to %d: %w", v.name, n, minData, maxData, backend.ErrInvalidParams)
		}
		return v.signData(req.Message), nil
	}
	digest := &kmspb.Digest{Digest: &kmspb.Digest_Sha256{Sha256: req.Digest}}
	switch req.Hash {
	case crypto.SHA384:
		digest.Digest = &kmspb.Digest_Sha384{Sha384: req.Digest}
	case crypto.SHA512:
		digest.Digest = &kmspb.Digest_Sha512{Sha512: req.Digest}
	}
	return v.signDigest(req.Digest, digest), nil
}

func (v *version) signData(data []byte) *kmspb.AsymmetricSignRequest {
	return &kmspb.AsymmetricSignRequest{Name: v.name, Data: data, DataCrc32C: sum(data)}
}

func (v *version) signDigest(data []byte, digest *kmspb.Digest) *kmspb.AsymmetricSignRequest {
	return &kmspb.AsymmetricSignRequest{Name: v.name, Digest: digest, DigestCrc32C: sum(data)}
}

// messageRepresentative returns what ML-DSA signs of a message (FIPS 204, Algorithm 2, line 10, and Algorithm 7, line 6):
// SHAKE256(SHAKE256(pk, 64) ‖ 0 ‖ |ctx| ‖ ctx ‖ M, 64).
func messageRepresentative(pub *mldsa.PublicKey, message []byte, context string) []byte {
	h := sha3.NewSHAKE256()
	h.Write(sha3.SumSHAKE256(pub.Bytes(), 64))
	h.Write([]byte{0, byte(len(context))}) // at most 255, as package backend checks
	h.Write([]byte(context))
	h.Write(message)
	mu := make([]byte, 64)
	h.Read(mu)
	return mu
}

// hashOIDs identify the hashes of pkcs1Hashes (RFC 8017, Appendix B.1; csrc.nist.gov, Computer Security Objects Register).
var hashOIDs = map[crypto.Hash]asn1.ObjectIdentifier{
	crypto.SHA1:       {1, 3, 14, 3, 2, 26},
	crypto.SHA256:     {2, 16, 840, 1, 101, 3, 4, 2, 1},
	crypto.SHA384:     {2, 16, 840, 1, 101, 3, 4, 2, 2},
	crypto.SHA512:     {2, 16, 840, 1, 101, 3, 4, 2, 3},
	crypto.SHA224:     {2, 16, 840, 1, 101, 3, 4, 2, 4},
	crypto.SHA512_224: {2, 16, 840, 1, 101, 3, 4, 2, 5},
	crypto.SHA512_256: {2, 16, 840, 1, 101, 3, 4, 2, 6},
	crypto.SHA3_224:   {2, 16, 840, 1, 101, 3, 4, 2, 7},
	crypto.SHA3_256:   {2, 16, 840, 1, 101, 3, 4, 2, 8},
	crypto.SHA3_384:   {2, 16, 840, 1, 101, 3, 4, 2, 9},
	crypto.SHA3_512:   {2, 16, 840, 1, 101, 3, 4, 2, 10},
}

// digestInfo returns the DigestInfo of a digest in DER (RFC 8017, Section 9.2).
func digestInfo(h crypto.Hash, digest []byte) ([]byte, error) {
	oid, ok := hashOIDs[h]
	if !ok {
		return nil, fmt.Errorf("%v has no DigestInfo: %w", h, backend.ErrUnsupported)
	}
	return asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}{pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: asn1.NullRawValue}, digest})
}
