package awskms

import (
	"context"
	"crypto/mlkem"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// decapsulate implements backend.DecapsulateFunc.
func (k *key) decapsulate(ctx context.Context, ciphertext []byte) ([]byte, error) {
	out, err := call(ctx, k.conn, k.call("Decapsulate"), (*kms.Client).Decapsulate, &kms.DecapsulateInput{
		KeyId: &k.arn, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem, SharedSecretCiphertextBlob: ciphertext,
		GrantTokens: grantTokens(ctx),
	}, func(out *kms.DecapsulateOutput) error {
		if err := answersFor(k.arn, out.KeyId); err != nil {
			return err
		}
		if len(out.SharedSecret) != mlkem.SharedKeySize || out.EncapsulationAlgorithm != types.EncapsulationAlgorithmSpecMlKem {
			return damaged("has a shared key of %d bytes by %.40q; ML-KEM gives %d", len(out.SharedSecret), string(out.EncapsulationAlgorithm), mlkem.SharedKeySize)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out.SharedSecret, nil
}
