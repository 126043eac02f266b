//go:build cgo

package pkcs11

import (
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"
)

// findPage is how many handles are asked for in one call.
const findPage = 256

// search returns the handles of the objects that have all attributes of the template.
func (l *login) search(template ...*pkcs11.Attribute) (_ []pkcs11.ObjectHandle, err error) {
	ctx := l.module.ctx
	if err := ctx.FindObjectsInit(l.session, template); err != nil {
		return nil, failed("C_FindObjectsInit", err)
	}
	defer func() {
		if e := ctx.FindObjectsFinal(l.session); err == nil {
			err = failed("C_FindObjectsFinal", e)
		}
	}()
	var all []pkcs11.ObjectHandle
	for {
		page, _, err := ctx.FindObjects(l.session, findPage)
		if err != nil {
			return nil, failed("C_FindObjects", err)
		}
		if len(page) == 0 {
			return all, nil
		}
		all = append(all, page...)
	}
}

// get returns the value of an attribute, or nil if the object has none that can be read. Attributes are asked for one by
// one, because one that a token doesn't know fails the whole call.
func (l *login) get(h pkcs11.ObjectHandle, attribute uint) ([]byte, error) {
	values, err := l.module.ctx.GetAttributeValue(l.session, h, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
	if err != nil {
		err = failed("C_GetAttributeValue", err)
		if c, _ := code(err); c == ckrAttributeTypeInvalid || c == ckrAttributeSensitive {
			return nil, nil
		}
		return nil, err
	}
	return values[0].Value, nil
}

// criteria returns a template for objects of a class that have the id and the label, if each is not empty.
func criteria(class uint, id []byte, label string) []*pkcs11.Attribute {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class)}
	if len(id) > 0 {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	}
	if label != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	}
	return template
}

func (l *login) find(id []byte, label string) ([]object, error) {
	handles, err := l.search(criteria(pkcs11.CKO_PRIVATE_KEY, id, label)...)
	if err != nil {
		return nil, err
	}
	objects := make([]object, 0, len(handles))
	for _, h := range handles {
		o, err := l.describe(h)
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, nil
}

func (l *login) describe(h pkcs11.ObjectHandle) (object, error) {
	o := object{handle: uint(h)}
	var label, kind, sign, decrypt, always, allowed []byte
	for _, a := range []struct {
		attribute uint
		value     *[]byte
	}{
		{pkcs11.CKA_ID, &o.id}, {pkcs11.CKA_LABEL, &label}, {pkcs11.CKA_KEY_TYPE, &kind},
		{pkcs11.CKA_SIGN, &sign}, {pkcs11.CKA_DECRYPT, &decrypt},
		{pkcs11.CKA_ALWAYS_AUTHENTICATE, &always}, {pkcs11.CKA_ALLOWED_MECHANISMS, &allowed},
	} {
		value, err := l.get(h, a.attribute)
		if err != nil {
			return object{}, err
		}
		*a.value = value
	}
	o.label = string(label)
	o.kind = keyType(ulong(kind))
	o.sign, o.decrypt, o.alwaysAuthenticate = isTrue(sign), isTrue(decrypt), isTrue(always)
	for ; len(allowed) >= ulongSize; allowed = allowed[ulongSize:] {
		o.allowed = append(o.allowed, Mechanism(ulong(allowed[:ulongSize])))
	}
	return o, nil
}

func isTrue(value []byte) bool { return len(value) == 1 && value[0] != 0 }

// ulongSize is the size of a CK_ULONG in bytes: that of a Go uint where modules follow the LP64 model, as all but those of
// Windows do.
const ulongSize = bits.UintSize / 8

// ulong returns the CK_ULONG in b, in the machine's byte order, or 0 if b holds none.
func ulong(b []byte) uint64 {
	switch len(b) {
	case 4:
		return uint64(binary.NativeEndian.Uint32(b))
	case 8:
		return binary.NativeEndian.Uint64(b)
	}
	return 0
}

func (l *login) publicKeys(o object) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	if o.kind == keyRSA {
		// The private key itself knows its modulus; what stands beside it may belong to another one.
		if pub, err := l.readPublic(pkcs11.ObjectHandle(o.handle), o.kind); err != nil {
			return nil, err
		} else if pub != nil {
			return append(keys, pub), nil
		}
	}
	id, label := o.id, ""
	if len(id) == 0 {
		label = o.label
	}
	for _, class := range []uint{pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_CERTIFICATE} {
		handles, err := l.search(criteria(class, id, label)...)
		if err != nil {
			return nil, err
		}
		for _, h := range handles {
			var pub crypto.PublicKey
			if class == pkcs11.CKO_CERTIFICATE {
				pub, err = l.readCertificate(h)
			} else {
				pub, err = l.readPublic(h, o.kind)
			}
			if err != nil {
				return nil, err
			}
			if pub != nil {
				keys = append(keys, pub)
			}
		}
	}
	return keys, nil
}

// readPublic returns the public key in the attributes of h, or nil if there is none of that kind that can be used.
func (l *login) readPublic(h pkcs11.ObjectHandle, kind keyType) (crypto.PublicKey, error) {
	first, second := uint(pkcs11.CKA_MODULUS), uint(pkcs11.CKA_PUBLIC_EXPONENT)
	if kind == keyEC {
		first, second = pkcs11.CKA_EC_PARAMS, pkcs11.CKA_EC_POINT
	}
	a, err := l.get(h, first)
	if err != nil {
		return nil, err
	}
	b, err := l.get(h, second)
	if err != nil {
		return nil, err
	}
	if kind == keyEC {
		return parseEC(a, b), nil
	}
	return parseRSA(a, b), nil
}

func (l *login) readCertificate(h pkcs11.ObjectHandle) (crypto.PublicKey, error) {
	der, err := l.get(h, pkcs11.CKA_VALUE)
	if err != nil {
		return nil, err
	}
	return parseCertificate(der), nil
}

func (l *login) key(o object) (privateKey, error) {
	set := crypto11.NewAttributeSet()
	err := set.Set(crypto11.CkaKeyType, uint(o.kind))
	if len(o.id) > 0 {
		err = errors.Join(err, set.Set(crypto11.CkaId, o.id))
	}
	if o.label != "" {
		err = errors.Join(err, set.Set(crypto11.CkaLabel, o.label))
	}
	if err != nil {
		return nil, err
	}
	keys, err := l.context.FindPrivateKeysWithAttributes(set)
	if err != nil {
		return nil, failed("C_FindObjects", err)
	}
	if len(keys) != 1 {
		return nil, fmt.Errorf("the key is there %d times on a second look", len(keys))
	}
	return &cryptokiKey{l, keys[0]}, nil
}

func (l *login) destroy(o object) error {
	// The private key goes first: without its public half it could not be opened again if its removal failed.
	if err := l.module.ctx.DestroyObject(l.session, pkcs11.ObjectHandle(o.handle)); err != nil {
		return failed("C_DestroyObject", err)
	}
	handles, err := l.search(criteria(pkcs11.CKO_PUBLIC_KEY, o.id, o.label)...)
	if err != nil {
		return nil // a public key that is left over does no harm: keys are proved when they are opened
	}
	for _, h := range handles {
		// A template without an id matches every id.
		if id, err := l.get(h, pkcs11.CKA_ID); err == nil && string(id) == string(o.id) {
			l.module.ctx.DestroyObject(l.session, h)
		}
	}
	return nil
}
