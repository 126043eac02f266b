package azurekeyvault

import (
	"crypto"
	"fmt"
	"slices"

	"golang.org/x/time/rate"

	"github.com/managedkeys/managedkeys/backend"
)

// MaxRandom is the largest number of bytes that one GenerateRandom of a key in a Managed HSM returns.
const MaxRandom = 128

// key is one version of a key, and the way to it.
type key struct {
	*connection
	kid
	limiter  *rate.Limiter
	public   crypto.PublicKey
	curve    curveInfo
	decrypts bool // by decrypt; else by unwrapKey, if it decrypts at all
	unwraps  bool // by unwrapKey; else by decrypt
	bits     int  // of a symmetric key
}

// The kinds of key. Those in a Managed HSM give random bytes and can be attested, too.
type (
	rsaKey struct {
		*backend.Handle
		backend.SignOps
		backend.DecryptOps
		backend.WrapOps
	}
	ecKey struct {
		*backend.Handle
		backend.SignOps
	}
	hsmRSAKey struct {
		rsaKey
		hsmOps
	}
	hsmECKey struct {
		ecKey
		hsmOps
	}
	octKey struct {
		*backend.Handle
		backend.AEADOps
		backend.WrapOps
		backend.MACOps
		hsmOps
	}
	hsmOps struct {
		backend.RandomOps
		attester
	}
)

var (
	_ backend.MessageSigner = (*hsmRSAKey)(nil)
	_ backend.Decrypter     = (*hsmRSAKey)(nil)
	_ backend.Wrapper       = (*hsmRSAKey)(nil)
	_ backend.Random        = (*hsmECKey)(nil)
	_ backend.Attester      = (*hsmECKey)(nil)
	_ backend.AEAD          = (*octKey)(nil)
	_ backend.MAC           = (*octKey)(nil)
)

// handle returns the key that d describes, which p must agree with.
func (b *Backend) handle(c *connection, d description, p Params) (backend.Key, error) {
	if err := p.match(d); err != nil {
		return nil, err
	}
	if d.kind.KeyType == OctHSM && d.kind.KeyBits == 0 {
		if d.kind.KeyBits = p.KeyBits; p.KeyBits == 0 {
			d.kind.KeyBits = 256 // what the service itself makes
		}
	}
	caps := d.capabilities(c.hsm)
	if caps.Usages&^backend.UsageGenerateRandom == 0 {
		return nil, fmt.Errorf("azurekeyvault: key %q has the key_ops %s, with which this library can do nothing: %w", d.id, opList(d.ops), backend.ErrUnsupported)
	}
	k := &key{
		connection: c, kid: d.kid, limiter: c.remote.Limiter(), public: d.public, curve: curveInfos[d.kind.Curve], bits: d.kind.KeyBits,
		decrypts: slices.Contains(d.ops, "decrypt"), unwraps: slices.Contains(d.ops, "unwrapKey"),
	}
	h := backend.NewHandle(backend.HandleConfig{
		ID: d.id, Public: d.public, Capabilities: caps,
		Mode: backend.CallContext, Timeout: b.opts.Remote.CallTimeout, Gate: &b.gate,
		VerifySignatures: !b.opts.Remote.TrustSignatures,
	})
	hsm := hsmOps{h.Random(k.random), attester{b, k}}
	switch d.kind.KeyType {
	case RSA, RSAHSM:
		r := rsaKey{h, h.Signing(k.sign), h.Decrypting(k.decryptOAEP), h.Wrapping(k.wrapRSA, k.unwrapRSA)}
		if c.hsm {
			return &hsmRSAKey{r, hsm}, nil
		}
		return &r, nil
	case EC, ECHSM:
		e := ecKey{h, h.Signing(k.sign)}
		if c.hsm {
			return &hsmECKey{e, hsm}, nil
		}
		return &e, nil
	}
	return &octKey{h, h.AEAD(k.seal, k.open), h.Wrapping(k.wrapAES, k.unwrapAES), h.MAC(k.mac), hsm}, nil
}

// capabilities returns what a key can do that is kept in a vault or a Managed HSM. What its key_ops don't allow is refused
// by the service, and here before.
func (d description) capabilities(hsm bool) backend.Capabilities {
	var caps backend.Capabilities
	has := func(op string) bool { return slices.Contains(d.ops, op) }
	if hsm {
		caps.Usages, caps.MaxRandom = backend.UsageGenerateRandom, MaxRandom
	}
	if d.kind.KeyType == OctHSM {
		d.symmetric(&caps, has)
		return caps
	}
	caps.Algorithm = backend.Describe(d.public)
	if has("verify") || has("sign") {
		caps.Usages |= backend.UsageVerify // with the public key
	}
	if has("sign") {
		caps.Usages |= backend.UsageSign
		caps.Signatures = d.signatures()
	}
	if d.kind.Curve != "" {
		return caps
	}
	if has("encrypt") || has("wrapKey") {
		caps.Usages |= backend.UsageEncrypt | backend.UsageWrap // with the public key
	}
	if has("decrypt") || has("unwrapKey") {
		caps.Usages |= backend.UsageEncrypt | backend.UsageWrap | backend.UsageDecrypt | backend.UsageUnwrap
		caps.OAEPHashes = []crypto.Hash{crypto.SHA256, crypto.SHA1}
	}
	return caps
}

func (d description) symmetric(caps *backend.Capabilities, has func(string) bool) {
	caps.Algorithm = fmt.Sprintf("AES-%d", d.kind.KeyBits)
	for op, usage := range map[string]backend.Usage{
		"encrypt": backend.UsageEncrypt, "decrypt": backend.UsageDecrypt, "wrapKey": backend.UsageWrap, "unwrapKey": backend.UsageUnwrap,
	} {
		if has(op) {
			caps.Usages |= usage
		}
	}
	if has("sign") {
		if caps.Usages&^backend.UsageGenerateRandom == 0 {
			caps.Algorithm = "HMAC"
		}
		caps.Usages |= backend.UsageMAC
		caps.MACs = []backend.MACAlgorithm{backend.HMACSHA256, backend.HMACSHA384, backend.HMACSHA512}
	}
}

// signatures returns the algorithms of an asymmetric key, the preferred one first.
func (d description) signatures() []backend.SignatureAlgorithm {
	if d.kind.Curve != "" {
		return []backend.SignatureAlgorithm{{Scheme: backend.ECDSA, Hash: curveInfos[d.kind.Curve].hash}}
	}
	var algs []backend.SignatureAlgorithm
	for _, scheme := range []backend.Scheme{backend.RSAPKCS1v15, backend.RSAPSS} {
		for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			alg := backend.SignatureAlgorithm{Scheme: scheme, Hash: hash}
			if scheme == backend.RSAPSS {
				alg.Salt = backend.SaltEqualsHash // RFC 7518, Section 3.5
			}
			algs = append(algs, alg)
		}
	}
	return algs
}
