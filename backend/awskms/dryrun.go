package awskms

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/managedkeys/managedkeys/backend"
)

// dryRunSucceeds is the error code of a request with DryRun that would have succeeded.
const dryRunSucceeds = "DryRunOperationException"

// dryRun asks the service whether the caller may use the key for what its usage is. The error is why not.
func (k *key) dryRun(ctx context.Context) error {
	err := k.tryUse(ctx)
	if err == nil {
		return fmt.Errorf("the service did what it was asked to try: %w", backend.ErrIntegrity)
	}
	if code(err) == dryRunSucceeds {
		return nil
	}
	// The service checks the permission before what is to be decrypted, which isn't anything here.
	if errors.Is(err, backend.ErrDecryption) {
		return nil
	}
	return err
}

func (k *key) tryUse(ctx context.Context) (err error) {
	dry, tokens := aws.Bool(true), grantTokens(ctx)
	switch {
	case k.caps.Usages.Has(backend.UsageSign):
		req := backend.SignRequest{Scheme: k.caps.Signatures[0].Scheme, Hash: k.caps.Signatures[0].Hash, Message: []byte{0}}
		if req.Hash != 0 {
			req.Digest = make([]byte, req.Hash.Size())
		}
		in := k.signInput(req)
		in.DryRun, in.GrantTokens = dry, tokens
		_, err = call(ctx, k.conn, k.call("Sign"), (*kms.Client).Sign, in, nil)
	case k.caps.Usages.Has(backend.UsageMAC):
		_, err = call(ctx, k.conn, k.call("GenerateMac"), (*kms.Client).GenerateMac, &kms.GenerateMacInput{
			KeyId: &k.arn, MacAlgorithm: macNames[k.caps.MACs[0]], Message: []byte{0}, DryRun: dry, GrantTokens: tokens}, nil)
	case k.caps.Usages.Has(backend.UsageDecrypt) && k.public == nil:
		_, err = call(ctx, k.conn, k.call("Encrypt"), (*kms.Client).Encrypt, &kms.EncryptInput{
			KeyId: &k.arn, Plaintext: []byte{0}, DryRun: dry, GrantTokens: tokens}, nil)
	case k.caps.Usages.Has(backend.UsageDecrypt):
		ciphertext, wrapErr := k.wrap(ctx, []byte{0})
		if wrapErr != nil {
			return wrapErr
		}
		_, err = call(ctx, k.conn, k.call("Decrypt"), (*kms.Client).Decrypt, &kms.DecryptInput{KeyId: &k.arn, CiphertextBlob: ciphertext,
			EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256, DryRun: dry, GrantTokens: tokens}, nil)
	case k.caps.Usages.Has(backend.UsageDerive) && k.spec.kind == MLKEM:
		_, ciphertext := k.public.(crypto.Encapsulator).Encapsulate()
		_, err = call(ctx, k.conn, k.call("Decapsulate"), (*kms.Client).Decapsulate, &kms.DecapsulateInput{KeyId: &k.arn,
			EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem, SharedSecretCiphertextBlob: ciphertext, DryRun: dry, GrantTokens: tokens}, nil)
	case k.caps.Usages.Has(backend.UsageDerive):
		der, derErr := backend.SubjectPublicKeyInfo(k.public)
		if derErr != nil {
			return derErr
		}
		_, err = call(ctx, k.conn, k.call("DeriveSharedSecret"), (*kms.Client).DeriveSharedSecret, &kms.DeriveSharedSecretInput{
			KeyId: &k.arn, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh, PublicKey: der, DryRun: dry, GrantTokens: tokens}, nil)
	}
	return err
}
