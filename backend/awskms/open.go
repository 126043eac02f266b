package awskms

import (
	"context"
	"crypto"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// described is a key as DescribeKey has it.
type described struct {
	*types.KeyMetadata
	id   identifier // of its ARN
	spec spec
}

// open opens the key that p, which is valid, describes.
func (b *Backend) open(ctx context.Context, c *conn, p Params) (backend.Key, error) {
	d, err := c.describe(ctx, p.KMSKey)
	if err != nil {
		return nil, err
	}
	if err := d.usable(time.Now()); err != nil {
		return nil, err
	}
	if d.spec.name == "" {
		return nil, fmt.Errorf("awskms: key %q is a %s key, which Go has no cryptography for: %w", aws.ToString(d.Arn), d.KeySpec, backend.ErrUnsupported)
	}
	if err := p.match(d.spec, string(d.KeyUsage)); err != nil {
		return nil, err
	}
	var pub crypto.PublicKey
	if !d.spec.symmetric() {
		if pub, err = c.publicKey(ctx, d); err != nil {
			return nil, err
		}
	}
	k, key, err := b.newKey(c, d, pub)
	if err != nil {
		return nil, err
	}
	if b.opts.CheckPermissions {
		if err := k.dryRun(ctx); err != nil {
			return nil, fmt.Errorf("awskms: key %q: a trial with DryRun: %w", k.arn, err)
		}
	}
	return key, nil
}

// describe returns the key that an identifier names.
func (c *conn) describe(ctx context.Context, name string) (described, error) {
	var d described
	_, err := call(ctx, c, remote.Call{Op: "DescribeKey of " + name}, (*kms.Client).DescribeKey,
		&kms.DescribeKeyInput{KeyId: &name, GrantTokens: grantTokens(ctx)}, func(out *kms.DescribeKeyOutput) error {
			if out.KeyMetadata == nil {
				return damaged("has no metadata")
			}
			var err error
			d, err = newDescribed(out.KeyMetadata, c.region, name)
			return err
		})
	return d, err
}

// newDescribed checks that metadata are of the key that was asked for: name, or any key of the Region if name is "".
func newDescribed(m *types.KeyMetadata, region, name string) (described, error) {
	id, err := parseIdentifier(aws.ToString(m.Arn))
	if err != nil || id.key == "" || id.region != region {
		return described{}, damaged("names the key %.100q, which is no ARN of a key in %s", aws.ToString(m.Arn), region)
	}
	if asked, err := parseIdentifier(name); err == nil {
		if asked.key != "" && asked.key != id.key || asked.account != "" && asked.account != id.account {
			return described{}, damaged("is of the key %s", id)
		}
	}
	d := described{KeyMetadata: m, id: id}
	d.spec, _ = specNamed(m.KeySpec)
	return d, nil
}

// usable returns why a key can't be used.
func (d described) usable(now time.Time) error {
	refuse := func(sentinel error, format string, args ...any) error {
		return fmt.Errorf("awskms: key %q %s: %w", aws.ToString(d.Arn), fmt.Sprintf(format, args...), sentinel)
	}
	switch d.KeyState {
	case types.KeyStateEnabled:
		if d.ValidTo != nil && !d.ValidTo.After(now) {
			return refuse(backend.ErrKeyDisabled, "has key material that expired at %s", d.ValidTo.Format(time.RFC3339))
		}
		return nil
	case types.KeyStatePendingDeletion, types.KeyStatePendingReplicaDeletion:
		when := ""
		if d.DeletionDate != nil {
			when = " at " + d.DeletionDate.Format(time.RFC3339)
		}
		return refuse(backend.ErrKeyDisabled, "is scheduled for deletion%s", when)
	case types.KeyStatePendingImport:
		return refuse(backend.ErrKeyDisabled, "has no key material yet, or it expired")
	case types.KeyStateDisabled:
		return refuse(backend.ErrKeyDisabled, "is disabled")
	}
	return refuse(backend.ErrUnavailable, "is in the state %s", d.KeyState) // Creating, Updating, Unavailable
}

// publicKey returns the public key of a key.
func (c *conn) publicKey(ctx context.Context, d described) (crypto.PublicKey, error) {
	arn := aws.ToString(d.Arn)
	var pub crypto.PublicKey
	_, err := call(ctx, c, remote.Call{Op: "GetPublicKey of " + arn}, (*kms.Client).GetPublicKey,
		&kms.GetPublicKeyInput{KeyId: d.Arn, GrantTokens: grantTokens(ctx)}, func(out *kms.GetPublicKeyOutput) error {
			if err := answersFor(arn, out.KeyId); err != nil {
				return err
			}
			if out.KeySpec != d.KeySpec || out.KeyUsage != d.KeyUsage {
				return damaged("says that the key is %s for %s, and its description %s for %s", out.KeySpec, out.KeyUsage, d.KeySpec, d.KeyUsage)
			}
			var err error
			if pub, err = backend.ParsePublicKey(out.PublicKey); err != nil {
				return fmt.Errorf("%w: %w", damaged("has a public key of %d bytes that can't be read", len(out.PublicKey)), err)
			}
			if !d.spec.has(pub) {
				return damaged("has a public key %s, but the key is %s", backend.Describe(pub), d.KeySpec)
			}
			return nil
		})
	return pub, err
}

// answersFor returns an error unless an answer is of the key.
func answersFor(arn string, got *string) error {
	if aws.ToString(got) == arn {
		return nil
	}
	return damaged("is of the key %.100q", aws.ToString(got))
}

// The limits of the service's operations, in bytes.
//
// https://docs.aws.amazon.com/kms/latest/APIReference/
const (
	maxData       = 4096 // Sign with MessageType RAW, Encrypt, GenerateMac
	maxCiphertext = 6144 // Decrypt
	maxRandom     = 1024 // GenerateRandom
	maxContext    = 8192 // an encryption context
)

// signingAlgorithms are the signing algorithms by name. ED25519_PH_SHA_512 is left out: the service hashes the digest that it
// is given, which is not Ed25519ph as RFC 8032 and crypto/ed25519 have it.
var signingAlgorithms = map[types.SigningAlgorithmSpec]backend.SignatureAlgorithm{
	types.SigningAlgorithmSpecRsassaPkcs1V15Sha256: {Scheme: backend.RSAPKCS1v15, Hash: crypto.SHA256},
	types.SigningAlgorithmSpecRsassaPkcs1V15Sha384: {Scheme: backend.RSAPKCS1v15, Hash: crypto.SHA384},
	types.SigningAlgorithmSpecRsassaPkcs1V15Sha512: {Scheme: backend.RSAPKCS1v15, Hash: crypto.SHA512},
	types.SigningAlgorithmSpecRsassaPssSha256:      {Scheme: backend.RSAPSS, Hash: crypto.SHA256, Salt: backend.SaltEqualsHash},
	types.SigningAlgorithmSpecRsassaPssSha384:      {Scheme: backend.RSAPSS, Hash: crypto.SHA384, Salt: backend.SaltEqualsHash},
	types.SigningAlgorithmSpecRsassaPssSha512:      {Scheme: backend.RSAPSS, Hash: crypto.SHA512, Salt: backend.SaltEqualsHash},
	types.SigningAlgorithmSpecEcdsaSha256:          {Scheme: backend.ECDSA, Hash: crypto.SHA256},
	types.SigningAlgorithmSpecEcdsaSha384:          {Scheme: backend.ECDSA, Hash: crypto.SHA384},
	types.SigningAlgorithmSpecEcdsaSha512:          {Scheme: backend.ECDSA, Hash: crypto.SHA512},
	types.SigningAlgorithmSpecEd25519Sha512:        {Scheme: backend.Ed25519},
	types.SigningAlgorithmSpecMlDsaShake256:        {Scheme: backend.MLDSA},
}

var macAlgorithms = map[types.MacAlgorithmSpec]backend.MACAlgorithm{
	types.MacAlgorithmSpecHmacSha224: backend.HMACSHA224, types.MacAlgorithmSpecHmacSha256: backend.HMACSHA256,
	types.MacAlgorithmSpecHmacSha384: backend.HMACSHA384, types.MacAlgorithmSpecHmacSha512: backend.HMACSHA512,
}

var oaepAlgorithms = map[types.EncryptionAlgorithmSpec]crypto.Hash{
	types.EncryptionAlgorithmSpecRsaesOaepSha256: crypto.SHA256, types.EncryptionAlgorithmSpecRsaesOaepSha1: crypto.SHA1,
}

// capabilities returns what the service says that a key does, as far as this package can.
func (d described) capabilities(pub crypto.PublicKey) backend.Capabilities {
	caps := backend.Capabilities{Algorithm: d.spec.algorithm(pub), Usages: backend.UsageGenerateRandom, MaxRandom: maxRandom}
	switch string(d.KeyUsage) {
	case signVerify:
		d.signs(&caps)
	case macs:
		for _, name := range d.MacAlgorithms {
			if alg, ok := macAlgorithms[name]; ok {
				caps.MACs = append(caps.MACs, alg)
			}
		}
		caps.Usages |= backend.UsageMAC
		caps.MinMessage, caps.MaxMessage = 1, maxData
	case agreement, encapsulates:
		caps.Usages |= backend.UsageDerive
	case encrypts:
		d.encrypts(&caps)
	}
	return caps
}

func (d described) signs(caps *backend.Capabilities) {
	for _, name := range d.SigningAlgorithms {
		if alg, ok := signingAlgorithms[name]; ok {
			caps.Signatures = append(caps.Signatures, alg)
		}
	}
	// The service lists them in no order that means anything.
	slices.SortFunc(caps.Signatures, func(a, b backend.SignatureAlgorithm) int {
		if a.Scheme != b.Scheme {
			return int(a.Scheme) - int(b.Scheme)
		}
		return int(a.Hash) - int(b.Hash)
	})
	if len(caps.Signatures) == 0 {
		return
	}
	caps.Usages |= backend.UsageSign | backend.UsageVerify
	switch d.spec.kind {
	case Ed25519:
		caps.MinMessage, caps.MaxMessage = 1, maxData
	case MLDSA:
		caps.SignatureContexts = true // by the message representative mu, which this package computes
	}
}

func (d described) encrypts(caps *backend.Capabilities) {
	if d.spec.kind == AES {
		caps.Usages |= backend.UsageEncrypt | backend.UsageDecrypt
		caps.MinPlaintext, caps.MaxPlaintext = 1, maxData
		return
	}
	for _, name := range d.EncryptionAlgorithms {
		if h, ok := oaepAlgorithms[name]; ok {
			caps.OAEPHashes = append(caps.OAEPHashes, h)
		}
	}
	slices.Sort(caps.OAEPHashes)
	slices.Reverse(caps.OAEPHashes) // SHA-256 is preferred to SHA-1
	if len(caps.OAEPHashes) > 0 {
		caps.Usages |= backend.UsageEncrypt | backend.UsageDecrypt
	}
	if slices.Contains(caps.OAEPHashes, crypto.SHA256) {
		caps.Usages |= backend.UsageWrap | backend.UsageUnwrap
	}
}
