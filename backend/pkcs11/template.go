package pkcs11

import (
	"fmt"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// template is what a new key is made of.
type template struct {
	generator       Mechanism
	use             mechanismUse
	public, private attributes // private also that of a secret key
	unsaid          attributes // what the private or secret key must have although it is not told
}

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
		private = private.with(attrSign, macs).with(attrVerify, macs).with(attrEncrypt, seals).with(attrDecrypt, seals).
			with(attrWrap, wraps).with(attrUnwrap, wraps).with(attrValueLen, uint(p.KeyBits/8))
		t.private, t.unsaid = private.of(c.lib.SecretKeyAttributes)
		return t, nil
	}
	t.public, _ = public.of(c.lib.PublicKeyAttributes)
	t.private, t.unsaid = private.of(c.lib.PrivateKeyAttributes)
	return t, nil
}

// plainer returns the template without the attributes that are false, which some tokens refuse to be told, and whether
// there were any.
func (t template) plainer() (template, bool) {
	var public, private attributes
	var n, m attributes
	public, n = t.public.split(func(a cryptoki.Attribute) bool { return a.Value != false })
	private, m = t.private.split(func(a cryptoki.Attribute) bool { return a.Value != false })
	t.public, t.private, t.unsaid = public, private, slices.Concat(t.unsaid, m)
	return t, len(n)+len(m) > 0
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

// split returns the attributes that meet a condition, and the others.
func (a attributes) split(meets func(cryptoki.Attribute) bool) (yes, no attributes) {
	for _, one := range a {
		if meets(one) {
			yes = append(yes, one)
		} else {
			no = append(no, one)
		}
	}
	return yes, no
}

// of returns the template with what a stanza adds or changes, and what the key must have although the stanza leaves it out:
// the stanza leaves it to the token what else a key may do, but not whether it is secret. What a key is made for is always
// said.
func (a attributes) of(more []Attribute) (said, unsaid attributes) {
	var nils []uint
	for _, m := range more {
		nils = slices.DeleteFunc(nils, func(t uint) bool { return t == m.Type })
		if m.Value == nil {
			nils = append(nils, m.Type)
			continue
		}
		a = a.with(m.Type, m.Value)
	}
	said, unsaid = a.split(func(one cryptoki.Attribute) bool {
		return !slices.Contains(nils, one.Type) || isUsage(one.Type) && one.Value == true
	})
	unsaid, _ = unsaid.split(func(one cryptoki.Attribute) bool { return !isUsage(one.Type) })
	return said, unsaid
}

// attributeNames are the attributes that new keys are judged by if they were not told.
var attributeNames = map[uint]string{
	attrPrivate: "PRIVATE", attrSensitive: "SENSITIVE", attrExtractable: "EXTRACTABLE", attrEncrypt: "ENCRYPT", attrDecrypt: "DECRYPT",
	attrWrap: "WRAP", attrUnwrap: "UNWRAP", attrSign: "SIGN", attrVerify: "VERIFY", attrDerive: "DERIVE",
}

// isUsage reports whether t says what a key may do.
func isUsage(t uint) bool {
	return attributeNames[t] != "" && t != attrPrivate && t != attrSensitive && t != attrExtractable
}

// judge returns an error that wraps backend.ErrUnsupported if a new key, of whose attributes some were left unsaid, has
// others than it would have been told.
func (w *worker) judge(key cryptoki.Handle, unsaid attributes) error {
	var types []uint
	want := map[uint]bool{}
	for _, a := range unsaid {
		if value, ok := a.Value.(bool); ok && attributeNames[a.Type] != "" {
			types = append(types, a.Type)
			want[a.Type] = value
		}
	}
	if len(types) == 0 {
		return nil
	}
	values, err := w.attributes().Short(w.session, key, types...)
	if err != nil {
		return err
	}
	for n, t := range types {
		if got := isTrue(values[n]); got != want[t] {
			return fmt.Errorf("the token, which was not told, made a key whose CKA_%s is %t; it must be %t: %w",
				attributeNames[t], got, want[t], backend.ErrUnsupported)
		}
	}
	return nil
}
