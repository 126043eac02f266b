package pkcs11

import (
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// template returns what the new key that p describes is made of.
func (c *conn) template(p Params, id []byte) (template, error) {
	m := p.Mechanism
	t := template{use: useGeneratePair}
	common := attributes{}.with(attrToken, true).with(attrLabel, p.KeyLabel).with(attrID, id)
	// What is not said may be allowed: tokens differ in what they take for granted.
	public := common.with(attrVerify, false).with(attrEncrypt, false).with(attrWrap, false)
	private := common.with(attrPrivate, true).with(attrSensitive, true).with(attrExtractable, false).
		with(attrSign, false).with(attrDecrypt, false).with(attrUnwrap, false).with(attrDerive, false)
	uses := func(a, b uint) {
		public, private = public.with(a, true), private.with(b, true)
	}
	switch {
	case m.is(keyRSA):
		t.generator = rsaKeyPairGen
		public = public.with(attrModulusBits, uint(p.KeyBits)).with(attrPublicExponent, []byte{1, 0, 1})
		if m == RSAPKCSOAEP {
			uses(attrEncrypt, attrDecrypt)
		} else {
			uses(attrVerify, attrSign)
		}
	case m.is(keyEC):
		t.generator = ecKeyPairGen
		params, err := ecParams(p.Curve)
		if err != nil {
			return t, err
		}
		public = public.with(attrECParams, params)
		if m == ECDH {
			private = private.with(attrDerive, true)
		} else {
			uses(attrVerify, attrSign)
		}
	case m.is(keyEdDSA):
		t.generator = edwardsKeyPairGen
		public = public.with(attrECParams, ed25519Params[0])
		uses(attrVerify, attrSign)
	case m.is(keyMLDSA):
		t.generator = mldsaKeyPairGen
		public = public.with(attrParameterSet, mldsaSet(p.ParameterSet))
		uses(attrVerify, attrSign)
	default:
		t.use, t.generator = useGenerate, genericSecretKeyGen
		wraps, seals := m == AESKeyWrapKWP || m == AESKeyWrapPad, m == AESGCM
		macs := !wraps && !seals
		if m.is(keyAES) {
			t.generator = aesKeyGen
		}
		t.private = private.with(attrSign, macs).with(attrVerify, macs).with(attrEncrypt, seals).with(attrDecrypt, seals).
			with(attrWrap, wraps).with(attrUnwrap, wraps).with(attrValueLen, uint(p.KeyBits/8)).of(c.lib.SecretKeyAttributes)
		return t, nil
	}
	t.public, t.private = public.of(c.lib.PublicKeyAttributes), private.of(c.lib.PrivateKeyAttributes)
	return t, nil
}

// attributes is a template that is being made. Its methods return another one.
type attributes []cryptoki.Attribute

// with sets an attribute.
func (a attributes) with(t uint, value any) attributes {
	return append(a.without(t), cryptoki.Attribute{Type: t, Value: value})
}

// without removes an attribute.
func (a attributes) without(t uint) attributes {
	var out attributes
	for _, old := range a {
		if old.Type != t {
			out = append(out, old)
		}
	}
	return out
}

// of returns the template with what a stanza adds or changes.
func (a attributes) of(more []Attribute) []cryptoki.Attribute {
	for _, m := range more {
		a = a.with(m.Type, m.Value)
	}
	return a
}
