package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
)

// rsaHashes are the hashes that crypto11 has DigestInfo and PSS parameters for, less SHA-1, the preferred one first.
var rsaHashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA224}

// ecdsaHashes are the hashes whose digests ECDSA signs. CKM_ECDSA takes a digest whatever made it.
var ecdsaHashes = []crypto.Hash{
	crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA224, crypto.SHA512_256,
	crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512, crypto.SHA3_224,
}

// oaepHashes are the hashes that are tried, the preferred one first. SHA-1 is safe here, and all that some tokens do.
var oaepHashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA1}

// oaepSupport is what a token can decrypt.
type oaepSupport struct {
	hashes []crypto.Hash
	labels bool
}

// may reports whether the key and the token allow a use of a mechanism.
func (c *conn) may(o object, m Mechanism, use mechanismUse) bool {
	return c.uses[m]&use != 0 && (len(o.allowed) == 0 || slices.Contains(o.allowed, m))
}

// capabilities returns what o can do as far as attributes and mechanism list tell, what mechanism names first.
func (c *conn) capabilities(o object, mechanism Mechanism) backend.Capabilities {
	var caps backend.Capabilities
	add := func(scheme backend.Scheme, hashes []crypto.Hash) {
		for _, h := range hashes {
			caps.Signatures = append(caps.Signatures, backend.SignatureAlgorithm{Scheme: scheme, Hash: h})
		}
	}
	if o.sign && o.kind == keyEC && c.may(o, ECDSA, useSign) {
		add(backend.ECDSA, ecdsaHashes)
	}
	if o.sign && o.kind == keyRSA {
		pss, pkcs1 := c.may(o, RSAPKCSPSS, useSign), c.may(o, RSAPKCS, useSign)
		if pkcs1 && mechanism == RSAPKCS {
			add(backend.RSAPKCS1v15, rsaHashes)
		}
		if pss {
			add(backend.RSAPSS, rsaHashes)
		}
		if pkcs1 && mechanism != RSAPKCS {
			add(backend.RSAPKCS1v15, rsaHashes)
		}
	}
	if len(caps.Signatures) > 0 {
		caps.Usages |= backend.UsageSign | backend.UsageVerify
	}
	if o.decrypt && o.kind == keyRSA && c.may(o, RSAPKCSOAEP, useDecrypt) {
		caps.Usages |= backend.UsageDecrypt | backend.UsageEncrypt
	}
	if c.info.random {
		caps.Usages |= backend.UsageGenerateRandom
		caps.MaxRandom = maxRandom
	}
	return caps
}

// complete adds to caps what is known once the key is proved. search is held.
func (c *conn) complete(ctx context.Context, caps *backend.Capabilities, key privateKey, pub crypto.PublicKey) error {
	caps.Algorithm = backend.Describe(pub)
	if ec, ok := pub.(*ecdsa.PublicKey); ok {
		// RFC 8446 ties each curve to a hash, which is as strong as the curve; that one is preferred.
		own := map[int]crypto.Hash{256: crypto.SHA256, 384: crypto.SHA384, 521: crypto.SHA512}[ec.Curve.Params().BitSize]
		slices.SortStableFunc(caps.Signatures, func(a, b backend.SignatureAlgorithm) int {
			switch {
			case a.Hash == own && b.Hash != own:
				return -1
			case a.Hash != own && b.Hash == own:
				return 1
			}
			return 0
		})
	}
	if !caps.Usages.Has(backend.UsageDecrypt) {
		return nil
	}
	if c.oaep == nil {
		support, err := c.tryOAEP(ctx, key, pub.(*rsa.PublicKey))
		if err != nil {
			return err
		}
		c.oaep = &support
	}
	caps.OAEPHashes, caps.OAEPLabels = slices.Clone(c.oaep.hashes), c.oaep.labels
	if len(caps.OAEPHashes) == 0 {
		caps.Usages &^= backend.UsageDecrypt | backend.UsageEncrypt
		if !caps.Usages.Has(backend.UsageSign) {
			return fmt.Errorf("the token decrypts OAEP with none of %v: %w", oaepHashes, backend.ErrUnsupported)
		}
	}
	return nil
}

// prove returns the candidate that belongs to the private key. The error wraps a sentinel.
func (c *conn) prove(ctx context.Context, key privateKey, candidates []crypto.PublicKey, caps backend.Capabilities) (crypto.PublicKey, error) {
	switch {
	case caps.Usages.Has(backend.UsageSign):
		return c.proveSigning(ctx, key, candidates, caps.Signatures[0])
	case caps.Usages.Has(backend.UsageDecrypt):
		return c.proveDecrypting(ctx, key, candidates)
	}
	return nil, fmt.Errorf("its attributes or the mechanisms of the token allow neither signing nor decryption: %w", backend.ErrNotPermitted)
}

func (c *conn) proveSigning(ctx context.Context, key privateKey, candidates []crypto.PublicKey, alg backend.SignatureAlgorithm) (crypto.PublicKey, error) {
	for _, pub := range candidates {
		if kindOf(pub) != kindOf(candidates[0]) || kindOf(pub) == 0 {
			continue
		}
		req := backend.SignRequest{Scheme: alg.Scheme, Hash: alg.Hash, SaltLength: alg.Hash.Size(), Digest: make([]byte, alg.Hash.Size())}
		rand.Read(req.Digest) // never fails
		signature, err := doResult(ctx, c, func() ([]byte, error) { return signWith(key, pub, req) })
		if err != nil {
			return nil, classify(err)
		}
		if backend.Verify(pub, req.Digest, signature, signerOpts(req)) == nil {
			return pub, nil
		}
	}
	return nil, fmt.Errorf("a trial signature shows that the public key beside it is not its own: %w", backend.ErrKeyChanged)
}

func (c *conn) proveDecrypting(ctx context.Context, key privateKey, candidates []crypto.PublicKey) (crypto.PublicKey, error) {
	hashes := oaepHashes
	if c.oaep != nil {
		hashes = c.oaep.hashes
	}
	for _, pub := range candidates {
		pub, ok := pub.(*rsa.PublicKey)
		if !ok {
			continue
		}
		for _, h := range hashes {
			if ok, err := c.decrypts(ctx, key, pub, h, nil); err != nil {
				return nil, err
			} else if ok {
				return pub, nil
			}
		}
	}
	if c.oaep == nil {
		return nil, fmt.Errorf("the token decrypts OAEP with none of %v, or the public key beside it is not its own: %w", hashes, backend.ErrUnsupported)
	}
	return nil, fmt.Errorf("a trial decryption shows that the public key beside it is not its own: %w", backend.ErrKeyChanged)
}

// tryOAEP finds out what the token can decrypt; its mechanism list has no word for it.
func (c *conn) tryOAEP(ctx context.Context, key privateKey, pub *rsa.PublicKey) (oaepSupport, error) {
	var support oaepSupport
	for _, h := range oaepHashes {
		ok, err := c.decrypts(ctx, key, pub, h, nil)
		if err != nil {
			return oaepSupport{}, err
		}
		if ok {
			support.hashes = append(support.hashes, h)
		}
	}
	if len(support.hashes) > 0 {
		var err error
		if support.labels, err = c.decrypts(ctx, key, pub, support.hashes[0], []byte("label")); err != nil {
			return oaepSupport{}, err
		}
	}
	return support, nil
}

// decrypts reports whether key decrypts what was encrypted to pub. The error wraps a sentinel and says that the token
// didn't come to try.
func (c *conn) decrypts(ctx context.Context, key privateKey, pub *rsa.PublicKey, h crypto.Hash, label []byte) (bool, error) {
	message := make([]byte, 16)
	rand.Read(message) // never fails
	ciphertext, err := rsa.EncryptOAEP(h.New(), rand.Reader, pub, message, label)
	if err != nil {
		return false, nil // too short a key, or a hash that this process doesn't allow
	}
	req := backend.DecryptRequest{Ciphertext: ciphertext, Hash: h, Label: label}
	plaintext, err := doResult(ctx, c, func() ([]byte, error) { return key.decrypt(req) })
	if r, ok := code(err); ok && r.refusesParameters() || errors.Is(err, backend.ErrDecryption) {
		return false, nil
	}
	if err != nil {
		return false, classify(err)
	}
	return bytes.Equal(plaintext, message), nil
}
