package awskms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha3"
	"math/big"

	"filippo.io/mldsa"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/managedkeys/managedkeys/backend"
)

// signingNames are the names of signing algorithms.
var signingNames = func() map[backend.SignatureAlgorithm]types.SigningAlgorithmSpec {
	names := make(map[backend.SignatureAlgorithm]types.SigningAlgorithmSpec)
	for name, alg := range signingAlgorithms {
		names[backend.SignatureAlgorithm{Scheme: alg.Scheme, Hash: alg.Hash}] = name
	}
	return names
}()

// muSize is the length of the message representative mu of ML-DSA in bytes (FIPS 204, Algorithm 7).
const muSize = 64

// sign implements backend.SignFunc.
func (k *key) sign(ctx context.Context, req backend.SignRequest) ([]byte, error) {
	in := k.signInput(req)
	in.GrantTokens = grantTokens(ctx)
	out, err := call(ctx, k.conn, k.call("Sign"), (*kms.Client).Sign, in, func(out *kms.SignOutput) error {
		if err := answersFor(k.arn, out.KeyId); err != nil {
			return err
		}
		if out.SigningAlgorithm != in.SigningAlgorithm {
			return damaged("is a signature of %.40q, and %s was asked for", string(out.SigningAlgorithm), in.SigningAlgorithm)
		}
		return checkSignature(k.public, out.Signature)
	})
	if err != nil {
		return nil, err
	}
	return out.Signature, nil
}

// signInput returns the request for a signature. An ML-DSA message that the service doesn't take, because it is empty or
// long or has a context string, is signed by its representative mu.
func (k *key) signInput(req backend.SignRequest) *kms.SignInput {
	in := &kms.SignInput{KeyId: &k.arn, SigningAlgorithm: signingNames[backend.SignatureAlgorithm{Scheme: req.Scheme, Hash: req.Hash}]}
	switch {
	case req.Hash != 0:
		in.MessageType, in.Message = types.MessageTypeDigest, req.Digest
	case req.Scheme == backend.MLDSA && (req.Context != "" || len(req.Message) == 0 || len(req.Message) > maxData):
		in.MessageType, in.Message = types.MessageTypeExternalMu, messageRepresentative(k.tr, req.Context, req.Message)
	default:
		in.MessageType, in.Message = types.MessageTypeRaw, req.Message
	}
	return in
}

// publicKeyHash returns tr, the hash of an ML-DSA public key (FIPS 204, Algorithm 6).
func publicKeyHash(pub crypto.PublicKey) []byte {
	return sha3.SumSHAKE256(pub.(*mldsa.PublicKey).Bytes(), 64)
}

// messageRepresentative returns mu: SHAKE256 of tr, a zero byte, the length of the context string, that string and the message
// (FIPS 204, Algorithms 2 and 7). The context string has at most 255 bytes.
func messageRepresentative(tr []byte, context string, message []byte) []byte {
	h := sha3.NewSHAKE256()
	h.Write(tr)
	h.Write([]byte{0, byte(len(context))})
	h.Write([]byte(context))
	h.Write(message)
	mu := make([]byte, muSize)
	h.Read(mu)
	return mu
}

// checkSignature returns an error unless a signature has the form that those of pub have.
func checkSignature(pub crypto.PublicKey, signature []byte) error {
	want := 0
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		want = pub.Size()
	case ed25519.PublicKey:
		want = ed25519.SignatureSize
	case *mldsa.PublicKey:
		want = pub.Parameters().SignatureSize()
	case *ecdsa.PublicKey:
		if !isECDSASignature(pub, signature) {
			return damaged("has %d bytes that are no ECDSA signature of the curve", len(signature))
		}
		return nil
	}
	if len(signature) != want {
		return damaged("has a signature of %d bytes; one of the key has %d", len(signature), want)
	}
	return nil
}

// isECDSASignature reports whether a signature is DER (RFC 3279, Section 2.2.3) of two numbers between 0 and the order of the
// curve.
func isECDSASignature(pub *ecdsa.PublicKey, signature []byte) bool {
	var inner cryptobyte.String
	in := cryptobyte.String(signature)
	r, s := new(big.Int), new(big.Int)
	if !in.ReadASN1(&inner, asn1.SEQUENCE) || !in.Empty() || !inner.ReadASN1Integer(r) || !inner.ReadASN1Integer(s) || !inner.Empty() {
		return false
	}
	n := pub.Curve.Params().N
	return r.Sign() > 0 && s.Sign() > 0 && r.Cmp(n) < 0 && s.Cmp(n) < 0
}
