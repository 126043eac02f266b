package pkcs11

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// class is a kind of object (CK_OBJECT_CLASS).
type class uint64

const (
	classCertificate class = 1
	classPublic      class = 2
	classPrivate     class = 3
	classSecret      class = 4
)

// String returns what people call it.
func (c class) String() string {
	switch c {
	case classCertificate:
		return "certificate"
	case classPublic:
		return "public"
	case classPrivate:
		return "private"
	case classSecret:
		return "secret"
	}
	return fmt.Sprintf("class 0x%X", uint64(c))
}

// Attributes (PKCS #11 Specification Version 3.1, Section 4; CKA_PARAMETER_SET is of Version 3.2).
const (
	attrClass              = 0x000
	attrToken              = 0x001
	attrPrivate            = 0x002
	attrLabel              = 0x003
	attrValue              = 0x011
	attrKeyType            = 0x100
	attrID                 = 0x102
	attrSensitive          = 0x103
	attrEncrypt            = 0x104
	attrDecrypt            = 0x105
	attrWrap               = 0x106
	attrUnwrap             = 0x107
	attrSign               = 0x108
	attrVerify             = 0x10A
	attrDerive             = 0x10C
	attrModulus            = 0x120
	attrModulusBits        = 0x121
	attrPublicExponent     = 0x122
	attrPrivateExponent    = 0x123
	attrPrime1             = 0x124
	attrPrime2             = 0x125
	attrExponent1          = 0x126
	attrExponent2          = 0x127
	attrCoefficient        = 0x128
	attrPublicKeyInfo      = 0x129
	attrValueLen           = 0x161
	attrExtractable        = 0x162
	attrECParams           = 0x180
	attrECPoint            = 0x181
	attrAlwaysAuthenticate = 0x202
	attrAllowedMechanisms  = 0x40000600
	attrParameterSet       = 0x61D
)

// entry is what the index knows of an object.
type entry struct {
	handle    cryptoki.Handle
	class     class
	kind      keyType
	id, label string
}

// object is a private or secret key on a token.
type object struct {
	entry
	epoch uint64 // that the handle belongs to

	sign, decrypt, encrypt, wrap, unwrap, derive bool        // CKA_SIGN and so on
	alwaysAuthenticate                           bool        // each operation needs the PIN
	allowed                                      []Mechanism // CKA_ALLOWED_MECHANISMS; empty if the key has no such list
	bits                                         int         // of a secret key, if it says so
	own                                          material    // what the private key itself says of the public one
}

// describe returns how an error message lists it.
func (e entry) describe() string {
	return fmt.Sprintf("%s key with label %.255q and id 0x%.510s", e.kind, e.label, hex.EncodeToString([]byte(e.id)))
}

// name returns the object's URI (RFC 7512): what people and other programs know the key by.
func (c *conn) name(e entry) string {
	kind := "private"
	if e.class == classSecret {
		kind = "secret-key"
	}
	return objectURI(c.info.Label, c.info.Serial, []byte(e.id), e.label, kind)
}

// describeKey reads the attributes of the key e.
func (w *worker) describeKey(r *cryptoki.Reader, e entry) (object, error) {
	o := object{entry: e, epoch: w.pool.conn.epoch.Load()}
	types := append(make([]uint, 0, 12), attrSign, attrDecrypt, attrEncrypt, attrWrap, attrUnwrap, attrDerive,
		attrAlwaysAuthenticate, attrAllowedMechanisms, attrValueLen)
	// What most private keys say of the public one is read in the same call, since each takes some modules long.
	common := len(types)
	switch {
	case e.class != classPrivate:
	case e.kind == keyRSA:
		types = append(types, attrModulus, attrPublicExponent)
	case e.kind == keyEC || e.kind == keyEdDSA:
		types = append(types, attrECParams, attrECPoint, attrPublicKeyInfo)
	}
	v, err := r.Short(w.session, e.handle, types...)
	if err != nil {
		return object{}, err
	}
	o.sign, o.decrypt, o.encrypt, o.wrap, o.unwrap, o.derive = isTrue(v[0]), isTrue(v[1]), isTrue(v[2]), isTrue(v[3]), isTrue(v[4]), isTrue(v[5])
	o.alwaysAuthenticate = isTrue(v[6])
	for list := v[7]; len(list) >= ulongSize; list = list[ulongSize:] {
		o.allowed = append(o.allowed, Mechanism(ulong(list[:ulongSize])))
	}
	o.bits = int(min(ulong(v[8]), 1<<16)) * 8
	own := v[common:]
	switch {
	case e.class != classPrivate:
	case len(own) == 3:
		o.own = material{params: bytes.Clone(own[0]), point: bytes.Clone(own[1]), info: bytes.Clone(own[2])}
	case len(own) == 2 && len(own[0]) > 0 && len(own[1]) > 0:
		o.own = material{modulus: bytes.Clone(own[0]), exponent: bytes.Clone(own[1])}
	default: // there is none, or it is long
		o.own, err = w.readMaterial(r, e.handle, e.class, e.kind)
	}
	return o, err
}

// material is everything on an object that a public key can be made of.
type material struct {
	modulus, exponent []byte // CKA_MODULUS, CKA_PUBLIC_EXPONENT
	params, point     []byte // CKA_EC_PARAMS, CKA_EC_POINT
	info              []byte // CKA_PUBLIC_KEY_INFO
	value             []byte // CKA_VALUE of a certificate or public key
	set               uint64 // CKA_PARAMETER_SET
}

// readMaterial reads what an object of that class says of the public key of a key of that kind. The CKA_VALUE of a private
// key is never asked for.
func (w *worker) readMaterial(r *cryptoki.Reader, object cryptoki.Handle, c class, kind keyType) (material, error) {
	var m material
	read := func(get func(cryptoki.Handle, cryptoki.Handle, ...uint) ([][]byte, error), into map[uint]*[]byte) error {
		types := slices.Sorted(maps.Keys(into))
		v, err := get(w.session, object, types...)
		for i, t := range types {
			if err == nil {
				*into[t] = append([]byte(nil), v[i]...)
			}
		}
		return err
	}
	if c == classCertificate {
		return m, read(r.Read, map[uint]*[]byte{attrValue: &m.value})
	}
	var err error
	switch kind {
	case keyRSA:
		err = read(r.Read, map[uint]*[]byte{attrModulus: &m.modulus, attrPublicExponent: &m.exponent})
		if err == nil && len(m.modulus) == 0 {
			err = read(r.Read, map[uint]*[]byte{attrPublicKeyInfo: &m.info})
		}
	case keyEC, keyEdDSA:
		err = read(r.Short, map[uint]*[]byte{attrECParams: &m.params, attrECPoint: &m.point, attrPublicKeyInfo: &m.info})
	case keyMLDSA:
		var set []byte
		err = read(r.Short, map[uint]*[]byte{attrParameterSet: &set})
		m.set = ulong(set)
		if err == nil {
			err = read(r.Read, map[uint]*[]byte{attrPublicKeyInfo: &m.info})
		}
		if err == nil && c == classPublic {
			err = read(r.Read, map[uint]*[]byte{attrValue: &m.value})
		}
	}
	return m, err
}

func isTrue(value []byte) bool { return len(value) == 1 && value[0] != 0 }

// ulongSize is the size of a CK_ULONG in bytes: that of a Go uint where modules follow the LP64 model, as all but those of
// Windows do.
const ulongSize = bits.UintSize / 8

func ulong(b []byte) uint64 { return cryptoki.Ulong(b) }

// fits reports whether the key may be what p names, but for its kind. Tokens compare in their own ways, so this is done
// here.
func (p Params) fits(e entry) bool {
	id, _ := p.keyID() // was validated
	return (p.KeyLabel == "" || e.label == p.KeyLabel) && (len(id) == 0 || e.id == string(id))
}

// pick returns the one key that p names among those that fit. The error wraps a sentinel.
func (c *conn) pick(found []entry, p Params) (entry, error) {
	kinds := p.Mechanism.kinds()
	var fitting []entry
	var there []string
	for _, e := range found {
		there = append(there, e.describe())
		if kinds.has(e.kind) {
			fitting = append(fitting, e)
		}
	}
	switch {
	case len(found) == 0:
		hint := ""
		if id, err := hex.DecodeString(p.KeyID); err == nil && len(id) > 0 {
			hint = fmt.Sprintf(" (key_id is text; hexadecimal is written 0x%s)", strings.ToLower(p.KeyID))
		}
		return entry{}, c.errorf("no private or secret key has %s%s: %w", p.wanted(), hint, backend.ErrKeyNotFound)
	case len(fitting) == 0:
		return entry{}, c.errorf("mechanism: %s takes an %s key; there is: %s: %w", p.Mechanism, kinds, shorten(there), backend.ErrInvalidParams)
	case len(fitting) > 1:
		return entry{}, c.errorf("%d keys have %s: %s: %w", len(fitting), p.wanted(), shorten(there), backend.ErrAmbiguousKey)
	}
	return fitting[0], nil
}

// wanted says which key p names.
func (p Params) wanted() string {
	id, _ := p.keyID() // was validated
	switch {
	case p.KeyID == "":
		return fmt.Sprintf("key_label %q", p.KeyLabel)
	case p.KeyLabel == "":
		return fmt.Sprintf("key_id 0x%x", id)
	}
	return fmt.Sprintf("key_label %q and key_id 0x%x", p.KeyLabel, id)
}
