package awskms

import (
	"context"
	"crypto"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/time/rate"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// key is what the operations of an open key need. It never changes.
type key struct {
	conn    *conn
	arn     string
	spec    spec
	usage   string
	public  crypto.PublicKey // nil if it is symmetric
	caps    backend.Capabilities
	limiter *rate.Limiter
	tr      []byte // of an ML-DSA key: the hash of its public key (FIPS 204, Algorithm 7)
}

// The kinds of key.
type (
	signingKey struct {
		*backend.Handle
		backend.SignOps
		backend.RandomOps
	}
	decryptingKey struct {
		*backend.Handle
		backend.DecryptOps
		backend.WrapOps
		backend.RandomOps
	}
	agreeingKey struct {
		*backend.Handle
		backend.AgreeOps
		backend.RandomOps
	}
	kemKey struct {
		*backend.Handle
		backend.DecapsulateOps
		backend.RandomOps
	}
	aesKey struct {
		*backend.Handle
		backend.AEADOps
		backend.RandomOps
	}
	macKey struct {
		*backend.Handle
		backend.MACOps
		backend.RandomOps
	}
)

// newKey returns the open key that d describes.
func (b *Backend) newKey(c *conn, d described, pub crypto.PublicKey) (*key, backend.Key, error) {
	k := &key{conn: c, arn: aws.ToString(d.Arn), spec: d.spec, usage: string(d.KeyUsage), public: pub, caps: d.capabilities(pub), limiter: c.remote.Limiter()}
	h := backend.NewHandle(backend.HandleConfig{
		ID: k.arn, Public: pub, Capabilities: k.caps, Mode: backend.CallContext, Timeout: b.remotes.CallTimeout, Gate: &b.gate,
		VerifySignatures: !b.remotes.TrustSignatures,
	})
	random := h.Random(k.random)
	switch {
	case k.caps.Usages.Has(backend.UsageSign):
		if d.spec.kind == MLDSA {
			k.tr = publicKeyHash(pub)
		}
		return k, signingKey{h, h.Signing(k.sign), random}, nil
	case k.caps.Usages.Has(backend.UsageDecrypt) && pub != nil:
		return k, decryptingKey{h, h.Decrypting(k.decryptOAEP), h.Wrapping(k.wrap, k.unwrap), random}, nil
	case k.caps.Usages.Has(backend.UsageDecrypt):
		return k, aesKey{h, h.AEAD(k.seal, k.unseal), random}, nil
	case k.caps.Usages.Has(backend.UsageDerive) && d.spec.kind == MLKEM:
		return k, kemKey{h, h.Decapsulating(k.decapsulate), random}, nil
	case k.caps.Usages.Has(backend.UsageDerive):
		return k, agreeingKey{h, h.Agreeing(k.agree), random}, nil
	case k.caps.Usages.Has(backend.UsageMAC):
		return k, macKey{h, h.MAC(k.mac), random}, nil
	}
	return nil, nil, fmt.Errorf("awskms: key %q is %s for %s with algorithms that this package doesn't know: %w", k.arn, d.KeySpec, d.KeyUsage, backend.ErrUnsupported)
}

// call describes a call about the key to package remote.
func (k *key) call(op string) remote.Call {
	return remote.Call{Op: op + " with " + k.arn, Limiter: k.limiter}
}

type grantTokensKey struct{}

// WithGrantTokens returns a context with which operations, Open included, present grant tokens: for permissions by a grant
// that is so new that it isn't known everywhere yet, which takes up to five minutes. They have no effect on Generate, Import
// and List.
//
// https://docs.aws.amazon.com/kms/latest/developerguide/using-grant-token.html
func WithGrantTokens(ctx context.Context, tokens ...string) context.Context {
	return context.WithValue(ctx, grantTokensKey{}, tokens)
}

func grantTokens(ctx context.Context) []string {
	tokens, _ := ctx.Value(grantTokensKey{}).([]string)
	return tokens
}
