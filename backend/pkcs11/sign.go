package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// maxDigestInfo is the length in bytes of the longest DigestInfo.
const maxDigestInfo = 19 + 64

// signCall returns the call that signs as req says with a key whose public half is pub.
func signCall(pub crypto.PublicKey, req backend.SignRequest) *call {
	c := newSignCall(pub, req)
	c.exact = true
	return c
}

func newSignCall(pub crypto.PublicKey, req backend.SignRequest) *call {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		h := hashAlgorithms[req.Hash]
		if req.Scheme == backend.RSAPSS {
			c := newCall(cryptoki.Sign, req.Digest, nil, nil, pub.Size())
			c.Mechanism, c.Kind = uint(RSAPKCSPSS), cryptoki.PSS
			c.Hash, c.MGF, c.Number = h.mechanism, h.mgf, uint(req.SaltLength)
			return c
		}
		if req.Hash == 0 {
			c := newCall(cryptoki.Sign, req.Message, nil, nil, pub.Size())
			c.Mechanism = uint(RSAPKCS)
			return c
		}
		var info [maxDigestInfo]byte
		c := newCall(cryptoki.Sign, append(append(info[:0], h.prefix...), req.Digest...), nil, nil, pub.Size())
		c.Mechanism = uint(RSAPKCS)
		return c
	case *ecdsa.PublicKey:
		c := newCall(cryptoki.Sign, leftmost(req.Digest, pub), nil, nil, 2*orderSize(pub))
		c.Mechanism, c.form = uint(ECDSA), formECDSA
		return c
	case *mldsa.PublicKey:
		c := newCall(cryptoki.Sign, req.Message, nil, []byte(req.Context), pub.Parameters().SignatureSize())
		c.Mechanism = uint(MLDSA)
		if req.Context != "" {
			c.Kind = cryptoki.SignContext // hedged as the token prefers: CKH_HEDGE_PREFERRED is 0
		}
		return c
	default:
		c := newCall(cryptoki.Sign, req.Message, nil, nil, 64)
		c.Mechanism = uint(EdDSA)
		return c
	}
}

// orderSize is the length in bytes of r and of s.
func orderSize(pub *ecdsa.PublicKey) int { return (pub.Curve.Params().N.BitLen() + 7) / 8 }

// sign implements backend.SignFunc.
func (k *liveKey) sign(ctx context.Context, req backend.SignRequest) ([]byte, error) {
	signature, err := k.run(ctx, signCall(k.public, req))
	if err != nil {
		return nil, err
	}
	if k.checks() && !verifies(k.public, req, signature) {
		return nil, k.disowned()
	}
	return signature, nil
}

func verifies(pub crypto.PublicKey, req backend.SignRequest, signature []byte) bool {
	if req.Hash == 0 {
		return backend.Verify(pub, req.Message, signature, messageOpts(pub, req)) == nil
	}
	return backend.Verify(pub, req.Digest, signature, signerOpts(req)) == nil
}

func messageOpts(pub crypto.PublicKey, req backend.SignRequest) crypto.SignerOpts {
	if _, ok := pub.(*mldsa.PublicKey); ok && req.Context != "" {
		return &mldsa.Options{Context: req.Context}
	}
	return crypto.Hash(0)
}

// trySign makes a trial signature and reports whether the object signs so with the private half of pub. The error says
// that the token didn't come to try.
func (c *conn) trySign(ctx context.Context, o handle, pub crypto.PublicKey, alg backend.SignatureAlgorithm, salt int, pin string) (valid bool, refusal, err error) {
	return signsWith(ctx, c.try, o, pub, alg, salt, pin)
}

// signsWith is trySign by means of [conn.try] or [conn.expect].
func signsWith(ctx context.Context, try func(context.Context, handle, *call, string) ([]byte, error), o handle, pub crypto.PublicKey, alg backend.SignatureAlgorithm, salt int, pin string) (valid bool, refusal, err error) {
	req := backend.SignRequest{Scheme: alg.Scheme, Hash: alg.Hash, SaltLength: salt}
	input := make([]byte, 32)
	if alg.Hash != 0 {
		input = make([]byte, alg.Hash.Size())
		req.Digest = input
	} else {
		req.Message = input
	}
	rand.Read(input) // never fails
	signature, err := try(ctx, o, signCall(pub, req), pin)
	if refused(err) {
		return false, err, nil
	}
	if err != nil {
		return false, nil, err
	}
	return verifies(pub, req, signature), nil, nil
}
