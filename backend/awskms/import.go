package awskms

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"filippo.io/mldsa"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// material is key material that is to be imported.
type material struct {
	public crypto.PublicKey // nil if it is secret
	bytes  []byte           // PKCS #8 of a private key (RFC 5958), or the secret key itself
}

// Import implements backend.Importer for RSA, ECDSA, Ed25519, AES and HMAC keys; the service has no form for the others. KMSKey
// must be an alias as for Generate. KeyType, KeyBits and Curve are those of material if they are not given, except that a
// []byte needs KeyType; an AES key has 32 bytes, and an HMAC key KeyBits/8 to 128. The key gets the origin EXTERNAL and
// doesn't expire. Replacing, and what is left if the program stops, are as for Generate, except that an orphan is never
// completed.
//
// The material doesn't leave the process in the clear: it is encrypted to an RSA-4096 key that the service makes for the
// purpose, directly (RSAES-OAEP with SHA-256) or, private keys, with an AES key of its own (RFC 5649). After that the public
// key that the service has must be the material's.
func (b *Backend) Import(ctx context.Context, params backend.Params, key any, opts *backend.ImportOptions) (backend.Key, error) {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return nil, err
	}
	m, kind, err := newMaterial(p, key)
	if err != nil {
		return nil, err
	}
	defer clear(m.bytes)
	if err := p.match(kind, p.KeyUsage); err != nil {
		return nil, err
	}
	p.KeyType, p.KeyBits, p.Curve = kind.kind, kind.bits, kind.curve
	return b.create(ctx, p, creation{replace: opts != nil && opts.Replace, material: m})
}

// newMaterial returns key material and the spec that it is of.
func newMaterial(p Params, key any) (*material, spec, error) {
	unusable := func(why error) (*material, spec, error) {
		return nil, spec{}, fmt.Errorf("awskms: import: %T: %w: %w", key, backend.ErrInvalidParams, why)
	}
	var public crypto.PublicKey
	switch k := key.(type) {
	case []byte:
		return secretMaterial(p, k)
	case *rsa.PrivateKey:
		if k == nil || k.Validate() != nil || len(k.Primes) != 2 {
			return unusable(errors.New("it is not a valid key with two primes"))
		}
		public = &k.PublicKey
	case *ecdsa.PrivateKey:
		if !isComplete(k) {
			return unusable(errors.New("it is nil or incomplete, or its halves don't belong together"))
		}
		public = &k.PublicKey
	case ed25519.PrivateKey:
		if len(k) != ed25519.PrivateKeySize || !bytes.Equal(k, ed25519.NewKeyFromSeed(k.Seed())) {
			return unusable(fmt.Errorf("it has %d bytes, or its halves don't belong together", len(k)))
		}
		public = k.Public()
	case *mldsa.PrivateKey, *mlkem.DecapsulationKey768, *mlkem.DecapsulationKey1024:
		return nil, spec{}, fmt.Errorf("awskms: import: %T: the service documents no form to import such a key in: %w", key, backend.ErrUnsupported)
	default:
		return nil, spec{}, fmt.Errorf("awskms: import: material is %T; it takes *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey or, for a secret key, []byte: %w",
			key, backend.ErrUnsupported)
	}
	for _, s := range specs {
		if !s.has(public) {
			continue
		}
		der, err := marshalPrivate(key)
		if err != nil {
			return unusable(err)
		}
		return &material{public: public, bytes: der}, s, nil
	}
	return nil, spec{}, fmt.Errorf("awskms: import: the service takes no %s key: %w", backend.Describe(public), backend.ErrUnsupported)
}

// secretMaterial returns a secret key and the spec that it is of.
func secretMaterial(p Params, secret []byte) (*material, spec, error) {
	const longest = 128 // https://docs.aws.amazon.com/kms/latest/developerguide/importing-keys-conceptual.html
	var fits []spec
	for _, s := range specsOf(p.KeyType) {
		if p.KeyBits == s.bits || p.KeyBits == 0 && 8*len(secret) == s.bits {
			fits = append(fits, s)
		}
	}
	switch {
	case len(secret) == 0:
		return nil, spec{}, fmt.Errorf("awskms: import: the material is empty: %w", backend.ErrInvalidParams)
	case p.KeyType != AES && p.KeyType != HMAC:
		return nil, spec{}, invalid("key_type", "got %.40q for a secret key; it takes AES, HMAC", string(p.KeyType))
	case len(fits) != 1:
		return nil, spec{}, invalid("key_bits", "is missing, or the material of %d bytes doesn't fit it", len(secret))
	case p.KeyType == AES && 8*len(secret) != fits[0].bits, 8*len(secret) < fits[0].bits, len(secret) > longest:
		return nil, spec{}, invalid("key_bits", "got %d for material of %d bytes; AES has 32, and HMAC %d to %d", fits[0].bits, len(secret), fits[0].bits/8, longest)
	}
	return &material{bytes: bytes.Clone(secret)}, fits[0], nil
}

// algorithm returns the wrapping algorithm for a kind of material: the service takes no other for RSA, and this one for private
// keys only.
//
// https://docs.aws.amazon.com/kms/latest/APIReference/API_GetParametersForImport.html
func (m *material) algorithm() types.AlgorithmSpec {
	if m.public == nil {
		return types.AlgorithmSpecRsaesOaepSha256
	}
	return types.AlgorithmSpecRsaAesKeyWrapSha256
}

// importMaterial puts material into a key that has none and checks that it is there.
func (c *conn) importMaterial(ctx context.Context, arn string, n creation) error {
	wrapped, token, err := c.wrapMaterial(ctx, arn, n.material)
	if err != nil {
		return err
	}
	_, err = call(ctx, c, remote.Call{Op: "ImportKeyMaterial to " + arn}, (*kms.Client).ImportKeyMaterial, &kms.ImportKeyMaterialInput{
		KeyId: &arn, EncryptedKeyMaterial: wrapped, ImportToken: token, ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
	}, nil)
	if errors.Is(err, backend.ErrDecryption) {
		err = fmt.Errorf("the service can't decrypt what was encrypted to it (%w): %v", backend.ErrIntegrity, err)
	}
	if err != nil || n.material.public == nil {
		return err
	}
	d, err := c.describe(ctx, arn)
	if err != nil {
		return err
	}
	pub, err := c.publicKey(ctx, d)
	if err != nil {
		return err
	}
	if !pub.(interface{ Equal(crypto.PublicKey) bool }).Equal(n.material.public) {
		return fmt.Errorf("the service has another public key than the material: %w", backend.ErrIntegrity)
	}
	return nil
}

// wrapMaterial encrypts material to a key of the service's, and returns the token that goes with it.
func (c *conn) wrapMaterial(ctx context.Context, arn string, m *material) (wrapped, token []byte, err error) {
	var to *rsa.PublicKey
	out, err := call(ctx, c, remote.Call{Op: "GetParametersForImport of " + arn}, (*kms.Client).GetParametersForImport, &kms.GetParametersForImportInput{
		KeyId: &arn, WrappingAlgorithm: m.algorithm(), WrappingKeySpec: types.WrappingKeySpecRsa4096,
	}, func(out *kms.GetParametersForImportOutput) error {
		if err := answersFor(arn, out.KeyId); err != nil {
			return err
		}
		pub, err := x509.ParsePKIXPublicKey(out.PublicKey)
		var ok bool
		if to, ok = pub.(*rsa.PublicKey); err != nil || !ok || to.N.BitLen() != 4096 || len(out.ImportToken) == 0 {
			return damaged("has no RSA-4096 public key of %d bytes or no token", len(out.PublicKey))
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	wrapped, err = m.encryptTo(to)
	if err != nil {
		return nil, nil, fmt.Errorf("encrypting the material: %w: %w", backend.ErrInvalidParams, err)
	}
	return wrapped, out.ImportToken, nil
}

// encryptTo encrypts the material as its wrapping algorithm says.
func (m *material) encryptTo(to *rsa.PublicKey) ([]byte, error) {
	if m.public == nil {
		return rsa.EncryptOAEP(sha256.New(), rand.Reader, to, m.bytes, nil)
	}
	key := make([]byte, 32)
	defer clear(key)
	rand.Read(key) // never fails
	head, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, to, key, nil)
	if err != nil {
		return nil, err
	}
	wrapper, err := kwp.NewKWP(key)
	if err != nil {
		return nil, err
	}
	tail, err := wrapper.Wrap(m.bytes)
	return append(head, tail...), err
}
