package awskms

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/managedkeys/managedkeys/backend"
)

// contextName is the name in the encryption context under which additional data go, in hexadecimal. Tink's AWS KMS
// extension has the same, so that each can read what the other wrote.
const contextName = "associatedData"

// encryptionContext returns additional data as the service takes them, and nil for none.
func encryptionContext(additionalData []byte) map[string]string {
	if len(additionalData) == 0 {
		return nil
	}
	return map[string]string{contextName: hex.EncodeToString(additionalData)}
}

// maxAdditionalData is how many bytes of additional data fit into an encryption context.
const maxAdditionalData = (maxContext - len(contextName)) / 2

// seal implements backend.CipherFunc.
func (k *key) seal(ctx context.Context, plaintext, additionalData []byte) ([]byte, error) {
	if len(additionalData) > maxAdditionalData {
		return nil, fmt.Errorf("awskms: key %q: got %d bytes of additional data; it takes at most %d: %w", k.arn, len(additionalData), maxAdditionalData, backend.ErrInvalidParams)
	}
	out, err := call(ctx, k.conn, k.call("Encrypt"), (*kms.Client).Encrypt, &kms.EncryptInput{
		KeyId: &k.arn, Plaintext: plaintext, EncryptionContext: encryptionContext(additionalData), GrantTokens: grantTokens(ctx),
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
	}, func(out *kms.EncryptOutput) error {
		if err := answersFor(k.arn, out.KeyId); err != nil {
			return err
		}
		if n := len(out.CiphertextBlob); n <= len(plaintext) || n > maxCiphertext || out.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
			return damaged("has %d bytes of %.40q for a plaintext of %d", n, string(out.EncryptionAlgorithm), len(plaintext))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out.CiphertextBlob, nil
}

// unseal implements backend.CipherFunc.
func (k *key) unseal(ctx context.Context, ciphertext, additionalData []byte) ([]byte, error) {
	if len(ciphertext) == 0 || len(ciphertext) > maxCiphertext || len(additionalData) > maxAdditionalData {
		return nil, backend.ErrDecryption // the service would say so
	}
	return k.decrypt(ctx, &kms.DecryptInput{
		CiphertextBlob: ciphertext, EncryptionContext: encryptionContext(additionalData),
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
	}, min(len(ciphertext), maxData))
}

// decrypt decrypts to at most longest bytes.
func (k *key) decrypt(ctx context.Context, in *kms.DecryptInput, longest int) ([]byte, error) {
	in.KeyId, in.GrantTokens = &k.arn, grantTokens(ctx)
	out, err := call(ctx, k.conn, k.call("Decrypt"), (*kms.Client).Decrypt, in, func(out *kms.DecryptOutput) error {
		if err := answersFor(k.arn, out.KeyId); err != nil {
			return err
		}
		if out.EncryptionAlgorithm != in.EncryptionAlgorithm || len(out.Plaintext) > longest || out.Plaintext == nil {
			return damaged("has %d bytes by %.40q; %s gives at most %d", len(out.Plaintext), string(out.EncryptionAlgorithm), in.EncryptionAlgorithm, longest)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out.Plaintext, nil
}

// oaepNames are the names of RSAES-OAEP with each hash.
var oaepNames = map[crypto.Hash]types.EncryptionAlgorithmSpec{
	crypto.SHA1: types.EncryptionAlgorithmSpecRsaesOaepSha1, crypto.SHA256: types.EncryptionAlgorithmSpecRsaesOaepSha256,
}

// longestOAEP is the length of the longest plaintext of RSAES-OAEP in bytes (RFC 8017, Section 7.1.1).
func longestOAEP(pub crypto.PublicKey, h crypto.Hash) int {
	return pub.(*rsa.PublicKey).Size() - 2*h.Size() - 2
}

// decryptOAEP implements backend.DecryptFunc.
func (k *key) decryptOAEP(ctx context.Context, req backend.DecryptRequest) ([]byte, error) {
	return k.decrypt(ctx, &kms.DecryptInput{CiphertextBlob: req.Ciphertext, EncryptionAlgorithm: oaepNames[req.Hash]}, longestOAEP(k.public, req.Hash))
}

// wrap implements backend.WrapFunc, in this process: it needs the public key alone.
func (k *key) wrap(_ context.Context, material []byte) ([]byte, error) {
	if longest := longestOAEP(k.public, crypto.SHA256); len(material) < 1 || len(material) > longest {
		return nil, fmt.Errorf("awskms: wrap with key %q: got %d bytes; it takes 1 to %d: %w", k.arn, len(material), longest, backend.ErrInvalidParams)
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, k.public.(*rsa.PublicKey), material, nil)
	if err != nil {
		return nil, fmt.Errorf("awskms: wrap with key %q: %w: %w", k.arn, backend.ErrUnavailable, err)
	}
	return wrapped, nil
}

// unwrap implements backend.WrapFunc.
func (k *key) unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	if len(wrapped) != k.public.(*rsa.PublicKey).Size() {
		return nil, backend.ErrDecryption
	}
	return k.decryptOAEP(ctx, backend.DecryptRequest{Ciphertext: wrapped, Hash: crypto.SHA256})
}

// macNames are the names of message authentication codes.
var macNames = func() map[backend.MACAlgorithm]types.MacAlgorithmSpec {
	names := make(map[backend.MACAlgorithm]types.MacAlgorithmSpec)
	for name, alg := range macAlgorithms {
		names[alg] = name
	}
	return names
}()

// mac implements backend.MACFunc.
func (k *key) mac(ctx context.Context, alg backend.MACAlgorithm, message []byte) ([]byte, error) {
	name := macNames[alg]
	out, err := call(ctx, k.conn, k.call("GenerateMac"), (*kms.Client).GenerateMac, &kms.GenerateMacInput{
		KeyId: &k.arn, MacAlgorithm: name, Message: message, GrantTokens: grantTokens(ctx),
	}, func(out *kms.GenerateMacOutput) error {
		if err := answersFor(k.arn, out.KeyId); err != nil {
			return err
		}
		if out.MacAlgorithm != name || len(out.Mac) != alg.Hash().Size() {
			return damaged("is a MAC of %d bytes by %.40q; %s gives %d", len(out.Mac), string(out.MacAlgorithm), name, alg.Hash().Size())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out.Mac, nil
}

// random implements backend.RandomFunc. The bytes are of no key, so that they count for the connection alone.
func (k *key) random(ctx context.Context, n int) ([]byte, error) {
	what := k.call("GenerateRandom")
	what.Limiter = nil
	out, err := call(ctx, k.conn, what, (*kms.Client).GenerateRandom, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(int32(n))},
		func(out *kms.GenerateRandomOutput) error {
			if len(out.Plaintext) != n {
				return damaged("has %d random bytes; %d were asked for", len(out.Plaintext), n)
			}
			return nil
		})
	if err != nil {
		return nil, err
	}
	return out.Plaintext, nil
}

// agree implements backend.AgreeFunc.
func (k *key) agree(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(peer)
	if err != nil {
		return nil, fmt.Errorf("awskms: agree with key %q: %w: %w", k.arn, backend.ErrInvalidParams, err)
	}
	size := (len(peer.Bytes()) - 1) / 2 // 04 ‖ x ‖ y (SEC 1, Section 2.3.3)
	out, err := call(ctx, k.conn, k.call("DeriveSharedSecret"), (*kms.Client).DeriveSharedSecret, &kms.DeriveSharedSecretInput{
		KeyId: &k.arn, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh, PublicKey: der, GrantTokens: grantTokens(ctx),
	}, func(out *kms.DeriveSharedSecretOutput) error {
		if err := answersFor(k.arn, out.KeyId); err != nil {
			return err
		}
		if len(out.SharedSecret) != size || out.KeyAgreementAlgorithm != types.KeyAgreementAlgorithmSpecEcdh {
			return damaged("has a secret of %d bytes by %.40q; ECDH on the curve gives %d", len(out.SharedSecret), string(out.KeyAgreementAlgorithm), size)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out.SharedSecret, nil
}
