package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// Import implements backend.Importer for RSA, ECDSA on P-224 to P-521, Ed25519, AES and HMAC keys. The imported key has the
// attributes that Generate would give it. Params needs no KeyBits and Curve; if they are given, material must agree.
//
// The key doesn't enter the token in the clear: a pair of RSA keys is made on the token for this once, a fresh AES key is
// encrypted to it and unwrapped, and the material is unwrapped with that (RFC 5649). A token that can't do this is
// backend.ErrUnsupported, unless [Library].PlainImport allows C_CreateObject. The key that is then on the token must prove
// to be the one that was given, or it is removed again. Replacing, and the end of ctx, are as for Generate.
func (b *Backend) Import(ctx context.Context, params backend.Params, material any, opts *backend.ImportOptions) (backend.Key, error) {
	p, err := parameters(params)
	if err != nil {
		return nil, err
	}
	if err := p.creates(); err != nil {
		return nil, err
	}
	m, err := p.imports(material)
	if err != nil {
		return nil, err
	}
	key, err := b.create(ctx, p, opts != nil && opts.Replace, func(ctx context.Context, c *conn, id []byte) error {
		return c.importKey(ctx, p, id, m)
	}, m.matches)
	return key, err
}

// imported is key material that is to be imported.
type imported struct {
	kind   keyType
	curve  string           // as in Params
	public crypto.PublicKey // nil if it is secret
	value  []byte           // PKCS #8 of a private key (RFC 5958), or the secret key itself
	plain  attributes       // what C_CreateObject takes of it
	shown  attributes       // of the public key object
}

// imports returns material as p describes it. The error wraps backend.ErrInvalidParams or backend.ErrUnsupported.
func (p Params) imports(material any) (*imported, error) {
	m, err := newImported(material)
	if err != nil {
		return nil, err
	}
	if !p.Mechanism.is(m.kind) && !(m.kind == keyGeneric && p.Mechanism.is(keyAES)) {
		return nil, fmt.Errorf("pkcs11: import: material is an %s key, and mechanism %s takes %s: %w", m.kind, p.Mechanism, p.Mechanism.kinds(), backend.ErrInvalidParams)
	}
	if m.public == nil {
		bits := 8 * len(m.value)
		if p.KeyBits != 0 && p.KeyBits != bits {
			return nil, invalid("key_bits", "got %d, but the material has %d", p.KeyBits, bits)
		}
		p.KeyBits = bits
		if p.Mechanism.is(keyAES) {
			m.kind = keyAES
		}
		return m, p.validateKind()
	}
	if err := p.agree(m.public); err != nil {
		return nil, fmt.Errorf("pkcs11: import: %w", err)
	}
	return m, nil
}

func newImported(material any) (*imported, error) {
	unusable := func(why error) error {
		return fmt.Errorf("pkcs11: import: %T: %w: %w", material, backend.ErrInvalidParams, why)
	}
	switch key := material.(type) {
	case []byte:
		if len(key) == 0 {
			return nil, unusable(errors.New("it is empty"))
		}
		return &imported{kind: keyGeneric, value: bytes.Clone(key), plain: attributes{}.with(attrValue, key)}, nil
	case *rsa.PrivateKey:
		if key == nil {
			return nil, unusable(errors.New("it is nil"))
		}
		if err := key.Validate(); err != nil || len(key.Primes) != 2 {
			return nil, unusable(errors.Join(err, fmt.Errorf("it has %d primes", len(key.Primes))))
		}
		return importedRSA(key)
	case *ecdsa.PrivateKey:
		if key == nil || key.Curve == nil {
			return nil, unusable(errors.New("it is nil or has no curve"))
		}
		return importedEC(key)
	case ed25519.PrivateKey:
		if len(key) != ed25519.PrivateKeySize {
			return nil, unusable(fmt.Errorf("it has %d bytes", len(key)))
		}
		return importedEd25519(key)
	}
	return nil, fmt.Errorf("pkcs11: import: material is %T; it takes *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey or, for a secret key, []byte: %w",
		material, backend.ErrUnsupported)
}

func importedRSA(key *rsa.PrivateKey) (*imported, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: import: %w: %w", backend.ErrInvalidParams, err)
	}
	shown := attributes{}.with(attrModulus, key.N.Bytes()).with(attrPublicExponent, big.NewInt(int64(key.E)).Bytes())
	key.Precompute()
	plain := shown.with(attrPrivateExponent, key.D.Bytes()).
		with(attrPrime1, key.Primes[0].Bytes()).with(attrPrime2, key.Primes[1].Bytes()).
		with(attrExponent1, key.Precomputed.Dp.Bytes()).with(attrExponent2, key.Precomputed.Dq.Bytes()).
		with(attrCoefficient, key.Precomputed.Qinv.Bytes())
	return &imported{keyRSA, "", &key.PublicKey, der, plain, shown}, nil
}

func importedEC(key *ecdsa.PrivateKey) (*imported, error) {
	fail := func(err error) (*imported, error) {
		return nil, fmt.Errorf("pkcs11: import: a key on %s: %w: %w", key.Curve.Params().Name, backend.ErrUnsupported, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fail(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return fail(err)
	}
	scalar, err := key.Bytes()
	if err != nil {
		return fail(err)
	}
	for name, curve := range curves {
		if curve != key.Curve {
			continue
		}
		shown, err := pointAttributes(name, point)
		if err != nil {
			return fail(err)
		}
		return &imported{keyEC, name, &key.PublicKey, der, attributes{shown[0]}.with(attrValue, scalar), shown}, nil
	}
	return fail(errors.New("unknown curve"))
}

func importedEd25519(key ed25519.PrivateKey) (*imported, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: import: %w: %w", backend.ErrInvalidParams, err)
	}
	public := key.Public().(ed25519.PublicKey)
	shown, err := pointAttributes(curveEd25519, public)
	if err != nil {
		return nil, err
	}
	return &imported{keyEdDSA, curveEd25519, public, der, attributes{shown[0]}.with(attrValue, key.Seed()), shown}, nil
}

// pointAttributes returns CKA_EC_PARAMS and CKA_EC_POINT.
func pointAttributes(curve string, point []byte) (attributes, error) {
	params, err := ecParams(curve)
	if err != nil {
		return nil, err
	}
	octets, err := asn1.Marshal(point)
	return attributes{}.with(attrECParams, params).with(attrECPoint, octets), err
}

// matches returns an error unless key, which was imported, is the one that was given.
func (m *imported) matches(ctx context.Context, key backend.Key) error {
	if m.public != nil {
		if p, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !p.Equal(m.public) {
			return fmt.Errorf("the token made another key of the material: %w", backend.ErrKeyChanged)
		}
		return nil
	}
	mac, ok := key.(backend.MAC)
	if !ok || m.kind == keyAES {
		return nil // AES keys have fixed lengths, and were unwrapped with an integrity check
	}
	alg := key.Capabilities().MACs[0]
	message := []byte("which key is it")
	got, err := mac.ComputeMAC(ctx, alg, message)
	if err != nil {
		return err
	}
	want := hmac.New(alg.Hash().New, m.value)
	want.Write(message)
	if !hmac.Equal(got, want.Sum(nil)) {
		return fmt.Errorf("the token made another key of the material, whose length of %d bytes it may not keep: %w", len(m.value), backend.ErrUnsupported)
	}
	return nil
}

// importKey makes a key of m with that id.
func (c *conn) importKey(ctx context.Context, p Params, id []byte, m *imported) error {
	p.Curve = m.curve
	t, err := c.template(p, id)
	if err != nil {
		return err
	}
	objectClass := classPrivate
	if m.public == nil {
		objectClass = classSecret
	}
	private := t.private.without(attrValueLen).with(attrClass, uint(objectClass)).with(attrKeyType, uint(m.kind))
	public := t.public.without(attrModulusBits).with(attrClass, uint(classPublic)).with(attrKeyType, uint(m.kind))
	for _, a := range m.shown {
		public = public.with(a.Type, a.Value)
	}
	err = c.do(ctx, true, true, func(w *worker) error {
		key, err := w.unwrapMaterial(m.value, private)
		if err == nil {
			err = w.judge(key, t.unsaid) // create removes what doesn't pass
		}
		if err != nil {
			return err
		}
		if m.public == nil {
			return nil
		}
		_, err = w.module.Create(w.session, public)
		return err
	})
	if err == nil || troubleOf(err) != callersFault && functionOf(err) != "C_UnwrapKey" {
		return err
	}
	if !c.lib.PlainImport {
		return fmt.Errorf("the token can't unwrap the material, and PlainImport in the library's stanza doesn't allow handing it over in the clear: %w: %w", backend.ErrUnsupported, err)
	}
	for _, a := range m.plain {
		private = private.with(a.Type, a.Value)
	}
	return c.do(ctx, true, true, func(w *worker) error {
		key, err := w.module.Create(w.session, private)
		if err == nil {
			err = w.judge(key, t.unsaid)
		}
		if err == nil && m.public != nil {
			_, err = w.module.Create(w.session, public)
		}
		return err
	})
}

// unwrapMaterial makes an object of material, which the module sees only encrypted.
func (w *worker) unwrapMaterial(material []byte, attributes []cryptoki.Attribute) (cryptoki.Handle, error) {
	kek := make([]byte, 32)
	rand.Read(kek) // never fails
	defer clear(kek)
	wrapper, err := subtle.NewKWP(kek)
	if err != nil {
		return 0, err
	}
	blob, err := wrapper.Wrap(material)
	if err != nil {
		return 0, fmt.Errorf("wrapping %d bytes: %w: %w", len(material), backend.ErrInvalidParams, err)
	}
	m := w.module
	kekHandle, err := w.sendKEK(kek)
	if err != nil {
		return 0, err
	}
	defer m.Destroy(w.session, kekHandle)
	key, err := m.Unwrap(w.session, uint(AESKeyWrapKWP), kekHandle, blob, attributes)
	if troubleOf(err) == callersFault && err != nil {
		key, err = m.Unwrap(w.session, uint(AESKeyWrapPad), kekHandle, blob, attributes)
	}
	return key, err
}

// sendKEK makes a session object of kek, an AES key that unwraps, through a pair of RSA keys that exists for that only.
func (w *worker) sendKEK(kek []byte) (cryptoki.Handle, error) {
	m := w.module
	temporary := attributes{}.with(attrToken, false)
	public, private, err := m.GenerateKeyPair(w.session, uint(rsaKeyPairGen),
		temporary.with(attrModulusBits, uint(minModulus)).with(attrPublicExponent, []byte{1, 0, 1}).with(attrWrap, true),
		temporary.with(attrPrivate, true).with(attrSensitive, true).with(attrExtractable, false).with(attrUnwrap, true).with(attrSign, false).with(attrDecrypt, false))
	if err != nil {
		return 0, err
	}
	defer m.Destroy(w.session, public)
	defer m.Destroy(w.session, private)
	v, err := w.attributes().Read(w.session, public, attrModulus, attrPublicExponent)
	if err != nil {
		return 0, err
	}
	pub, ok := parseRSA(v[0], v[1]).(*rsa.PublicKey)
	if !ok {
		return 0, fmt.Errorf("the token shows no public key of an RSA key that it made: %w", backend.ErrUnsupported)
	}
	template := temporary.with(attrClass, uint(classSecret)).with(attrKeyType, uint(keyAES)).
		with(attrSensitive, true).with(attrExtractable, false).with(attrUnwrap, true).with(attrValueLen, uint(len(kek)))
	var refusal error
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA1} {
		wrapped, err := rsa.EncryptOAEP(h.New(), rand.Reader, pub, kek, nil)
		if err != nil {
			return 0, err
		}
		for _, attributes := range []attributes{template, template.without(attrValueLen)} { // tokens differ in whether they take it
			handle, err := m.UnwrapOAEP(w.session, uint(RSAPKCSOAEP), hashAlgorithms[h].mechanism, hashAlgorithms[h].mgf, private, wrapped, attributes)
			if err == nil {
				return handle, nil
			}
			if refusal = err; troubleOf(err) != callersFault && troubleOf(err) != deviceTrouble {
				return 0, err
			}
		}
	}
	return 0, refusal
}
