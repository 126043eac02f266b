package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"maps"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
)

// trials are what a token was found to do when the first key of a kind was opened, since mechanism lists don't tell.
type trials struct {
	pkcs1   []crypto.Hash
	pss     []crypto.Hash
	pssSalt backend.SaltRule
	oaep    []crypto.Hash
	digests map[elliptic.Curve][]crypto.Hash // of ECDSA
	labels  bool
}

// may reports whether the key and the token allow a use of a mechanism.
func (c *conn) may(o object, m Mechanism, use mechanismUse) bool {
	return c.uses[m]&use == use && (len(o.allowed) == 0 || slices.Contains(o.allowed, m))
}

// candidate is a private key that is being opened.
type candidate struct {
	conn   *conn
	object object
	at     handle
	pin    string // if each operation needs it
	public crypto.PublicKey
	caps   backend.Capabilities
}

// signs and decrypts and derives report what attributes and mechanism list allow.
func (k *candidate) signs(m Mechanism) bool {
	return k.object.sign && k.conn.may(k.object, m, useSign)
}

func (k *candidate) decrypts() bool {
	return k.object.kind == keyRSA && k.object.decrypt && k.conn.may(k.object, RSAPKCSOAEP, useDecrypt)
}

func (k *candidate) derives() bool {
	return k.object.kind == keyEC && k.object.derive && k.conn.may(k.object, ECDH, useDerive) && k.pin == ""
}

// first returns an algorithm that the key signs with if it signs at all.
func (k *candidate) first() (backend.SignatureAlgorithm, bool) {
	switch {
	case k.object.kind == keyRSA && k.signs(RSAPKCS):
		return backend.SignatureAlgorithm{Scheme: backend.RSAPKCS1v15, Hash: crypto.SHA256}, true
	case k.object.kind == keyRSA && k.signs(RSAPKCSPSS):
		return backend.SignatureAlgorithm{Scheme: backend.RSAPSS, Hash: crypto.SHA256}, true
	case k.object.kind == keyEC && k.signs(ECDSA):
		return backend.SignatureAlgorithm{Scheme: backend.ECDSA, Hash: crypto.SHA256}, true
	case k.object.kind == keyEdDSA && k.signs(EdDSA):
		return backend.SignatureAlgorithm{Scheme: backend.Ed25519}, true
	case k.object.kind == keyMLDSA && k.signs(MLDSA):
		return backend.SignatureAlgorithm{Scheme: backend.MLDSA}, true
	}
	return backend.SignatureAlgorithm{}, false
}

// prove returns the public key, among those that may be it, that belongs to the private key, and how the key proves that
// again. The error wraps a sentinel.
func (k *candidate) prove(ctx context.Context, publics []crypto.PublicKey) (proves func(context.Context, handle) error, err error) {
	test := k.test()
	if test == nil {
		return nil, fmt.Errorf("its attributes or the mechanisms of the token allow neither signing, decryption nor key agreement: %w", backend.ErrNotPermitted)
	}
	var refusal error
	for _, pub := range publics {
		valid, why, err := test(ctx, k.at, pub)
		if err != nil {
			return nil, classify(err)
		}
		if valid {
			k.public = pub
			return func(ctx context.Context, o handle) error {
				valid, why, err := test(ctx, o, pub)
				switch {
				case err != nil:
					return classify(err)
				case inTrouble(why) || isForbidden(why): // which says nothing of whose key it is
					return classify(why)
				case !valid && why != nil:
					return fmt.Errorf("%w: %w", errNotIts, why)
				case !valid:
					return errNotIts
				}
				return nil
			}, nil
		}
		if why != nil {
			refusal = why
		}
	}
	if refusal != nil {
		return nil, fmt.Errorf("the token refuses to try it: %w", classify(refusal))
	}
	return nil, fmt.Errorf("a trial shows that the public key beside it is not its own: %w", backend.ErrKeyChanged)
}

// test returns the cheapest way to find out whether an object is the private half of a public key, or nil.
func (k *candidate) test() func(context.Context, handle, crypto.PublicKey) (valid bool, refusal, err error) {
	c, pin := k.conn, k.pin
	if alg, ok := k.first(); ok {
		return func(ctx context.Context, o handle, pub crypto.PublicKey) (bool, error, error) {
			return signsWith(ctx, c.expect, o, pub, alg, saltOf(alg), pin)
		}
	}
	if k.decrypts() {
		return func(ctx context.Context, o handle, pub crypto.PublicKey) (bool, error, error) {
			var last, trouble error
			for _, h := range oaepHashes {
				ok, why, err := c.tryDecrypt(ctx, o, pub.(*rsa.PublicKey), h, nil, pin)
				if ok || err != nil {
					return ok, nil, err
				}
				if inTrouble(why) {
					trouble = why
				}
				last = fmt.Errorf("it decrypts OAEP with none of %v, or is another one: %w", oaepHashes, backend.ErrUnsupported)
			}
			if trouble != nil {
				last = trouble
			}
			return false, last, nil
		}
	}
	if k.derives() {
		return func(ctx context.Context, o handle, pub crypto.PublicKey) (bool, error, error) {
			return c.tryAgree(ctx, o, pub.(*ecdsa.PublicKey))
		}
	}
	return nil
}

// saltOf returns the length of the salt that everybody takes.
func saltOf(alg backend.SignatureAlgorithm) int {
	if alg.Scheme != backend.RSAPSS {
		return 0
	}
	return alg.Hash.Size()
}

// capabilities finds out what the key can do, what mechanism names first. The error wraps a sentinel.
func (k *candidate) capabilities(ctx context.Context, mechanism Mechanism) error {
	k.caps.Algorithm = backend.Describe(k.public)
	var err error
	switch pub := k.public.(type) {
	case *rsa.PublicKey:
		err = k.rsaCapabilities(ctx, pub, mechanism)
	case *ecdsa.PublicKey:
		err = k.ecCapabilities(ctx, pub)
	default:
		if alg, ok := k.first(); ok {
			k.caps.Signatures = append(k.caps.Signatures, alg)
			k.caps.SignatureContexts = alg.Scheme == backend.MLDSA
		}
	}
	if err != nil {
		return classify(err)
	}
	if len(k.caps.Signatures) > 0 {
		k.caps.Usages |= backend.UsageSign | backend.UsageVerify
	}
	if k.caps.Usages == 0 {
		return fmt.Errorf("a trial shows that the token does nothing with it that can be used here: %w", backend.ErrUnsupported)
	}
	k.conn.addRandom(&k.caps)
	return nil
}

// addRandom adds what the token does without a key.
func (c *conn) addRandom(caps *backend.Capabilities) {
	if c.info.Flags&flagRNG != 0 {
		caps.Usages |= backend.UsageGenerateRandom
		caps.MaxRandom = maxRandom
	}
}

func (k *candidate) ecCapabilities(ctx context.Context, pub *ecdsa.PublicKey) error {
	if k.signs(ECDSA) {
		hashes, err := k.tryDigests(ctx, pub)
		if err != nil {
			return err
		}
		k.add(backend.ECDSA, hashes, 0)
	}
	if k.derives() {
		ok, _, err := k.conn.tryAgree(ctx, k.at, pub)
		if err != nil {
			return err
		}
		if ok {
			k.caps.Usages |= backend.UsageDerive
		}
	}
	return nil
}

// tryDigests returns the hashes whose digests the token signs on the curve: some take certain lengths only.
func (k *candidate) tryDigests(ctx context.Context, pub *ecdsa.PublicKey) ([]crypto.Hash, error) {
	c := k.conn
	c.mu.Lock()
	hashes := c.trials.digests[pub.Curve]
	c.mu.Unlock()
	if hashes != nil {
		return hashes, nil
	}
	hashes = slices.Clone(ecdsaHashes)
	for _, h := range []crypto.Hash{crypto.SHA224, crypto.SHA384, crypto.SHA512} {
		ok, _, err := c.trySign(ctx, k.at, pub, backend.SignatureAlgorithm{Scheme: backend.ECDSA, Hash: h}, 0, k.pin)
		if err != nil {
			return nil, err
		}
		if !ok {
			hashes = slices.DeleteFunc(hashes, func(other crypto.Hash) bool { return other.Size() == h.Size() })
		}
	}
	// RFC 8446 ties each curve to a hash, which is as strong as the curve; that one is preferred.
	own := map[int]crypto.Hash{256: crypto.SHA256, 384: crypto.SHA384, 521: crypto.SHA512}[pub.Curve.Params().BitSize]
	slices.SortStableFunc(hashes, func(a, b crypto.Hash) int {
		switch {
		case a == own && b != own:
			return -1
		case a != own && b == own:
			return 1
		}
		return 0
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	digests := maps.Clone(c.trials.digests) // others may be reading the old one
	if digests == nil {
		digests = make(map[elliptic.Curve][]crypto.Hash)
	}
	digests[pub.Curve] = hashes
	c.trials.digests = digests
	return hashes, nil
}

func (k *candidate) add(scheme backend.Scheme, hashes []crypto.Hash, salt backend.SaltRule) {
	for _, h := range hashes {
		k.caps.Signatures = append(k.caps.Signatures, backend.SignatureAlgorithm{Scheme: scheme, Hash: h, Salt: salt})
	}
}

func (k *candidate) rsaCapabilities(ctx context.Context, pub *rsa.PublicKey, mechanism Mechanism) error {
	found, err := k.tryRSA(ctx, pub)
	if err != nil {
		return err
	}
	if k.signs(RSAPKCS) && mechanism == RSAPKCS {
		k.add(backend.RSAPKCS1v15, found.pkcs1, 0)
	}
	if k.signs(RSAPKCSPSS) {
		k.add(backend.RSAPSS, found.pss, found.pssSalt)
	}
	if k.signs(RSAPKCS) && mechanism != RSAPKCS {
		k.add(backend.RSAPKCS1v15, found.pkcs1, 0)
	}
	k.caps.UnhashedPKCS1v15 = k.signs(RSAPKCS) && len(found.pkcs1) > 0 // the hash is made, and named, by this package
	if k.conn.lib.RawRSA && k.object.decrypt && k.conn.may(k.object, rsaX509, useDecrypt) {
		k.caps.RawRSA = true
		k.caps.Usages |= backend.UsageDecrypt
	}
	if k.decrypts() && len(found.oaep) > 0 {
		k.caps.Usages |= backend.UsageDecrypt | backend.UsageEncrypt
		k.caps.OAEPHashes, k.caps.OAEPLabels = slices.Clone(found.oaep), found.labels
		if slices.Contains(found.oaep, crypto.SHA256) {
			k.caps.Usages |= backend.UsageWrap | backend.UsageUnwrap
		}
	}
	return nil
}

// tryRSA returns what the token does with RSA keys, as far as this one shows it.
func (k *candidate) tryRSA(ctx context.Context, pub *rsa.PublicKey) (trials, error) {
	c := k.conn
	c.mu.Lock()
	t := *c.trials
	c.mu.Unlock()
	try := func(scheme backend.Scheme, h crypto.Hash, salt int) (bool, error) {
		ok, _, err := c.trySign(ctx, k.at, pub, backend.SignatureAlgorithm{Scheme: scheme, Hash: h}, salt, k.pin)
		return ok, err
	}
	if k.signs(RSAPKCS) && t.pkcs1 == nil {
		// A token that takes one DigestInfo that it can't know takes all.
		ok, err := try(backend.RSAPKCS1v15, crypto.SHA3_512, 0)
		if err != nil {
			return t, err
		}
		t.pkcs1 = pkcs1Hashes[:4]
		if ok {
			t.pkcs1 = pkcs1Hashes
		}
	}
	if k.signs(RSAPKCSPSS) && t.pss == nil {
		t.pss = []crypto.Hash{}
		for _, h := range pssHashes {
			if isSHA3(h) && c.uses[Mechanism(hashAlgorithms[h].mechanism)] == 0 && c.uses[sha3PSS[h]] == 0 {
				continue
			}
			ok, err := try(backend.RSAPSS, h, h.Size())
			if err != nil {
				return t, err
			}
			if ok {
				t.pss = append(t.pss, h)
			}
		}
		if len(t.pss) > 0 {
			ok, err := try(backend.RSAPSS, t.pss[0], 0)
			if err != nil {
				return t, err
			}
			if !ok {
				t.pssSalt = backend.SaltEqualsHash
			}
		}
	}
	if k.decrypts() && t.oaep == nil {
		if err := k.tryOAEP(ctx, pub, &t); err != nil {
			return t, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t.digests = c.trials.digests
	*c.trials = t
	return t, nil
}

func (k *candidate) tryOAEP(ctx context.Context, pub *rsa.PublicKey, t *trials) error {
	t.oaep = []crypto.Hash{}
	for _, h := range oaepHashes {
		ok, _, err := k.conn.tryDecrypt(ctx, k.at, pub, h, nil, k.pin)
		if err != nil {
			return err
		}
		if ok {
			t.oaep = append(t.oaep, h)
		}
	}
	if len(t.oaep) > 0 {
		var err error
		if t.labels, _, err = k.conn.tryDecrypt(ctx, k.at, pub, t.oaep[0], []byte("label"), k.pin); err != nil {
			return err
		}
	}
	return nil
}

// sha3PSS are the mechanisms that a token lists if it does PSS with SHA-3.
var sha3PSS = map[crypto.Hash]Mechanism{crypto.SHA3_224: 0x67, crypto.SHA3_256: 0x63, crypto.SHA3_384: 0x64, crypto.SHA3_512: 0x65}

func isSHA3(h crypto.Hash) bool { return sha3PSS[h] != 0 }
