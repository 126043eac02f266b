//go:build cgo

package cryptoki

// #include "cryptoki.h"
import "C"

import (
	"encoding/binary"

	"github.com/miekg/pkcs11"
)

const (
	findPage = 512 // handles asked for in one call

	// MaxObjects bounds how many objects a search returns. A module that never ends its list must not fill memory.
	MaxObjects = 1 << 20

	// attributeRoom is the room for each value that is read together with others, and maxAttribute the longest that is
	// read alone, in bytes. A module that leaves a length as it was has not served that attribute.
	attributeRoom = 1031
	maxAttribute  = 64 << 10
	maxTogether   = 16 // MAX_ATTRIBUTES in C
)

func template(attributes []Attribute) []*pkcs11.Attribute {
	out := make([]*pkcs11.Attribute, len(attributes))
	for i, a := range attributes {
		out[i] = pkcs11.NewAttribute(a.Type, a.Value)
	}
	return out
}

// Find returns the handles of the objects that have all the attributes, at most [MaxObjects].
func (m *Module) Find(session Handle, attributes ...Attribute) (found []Handle, err error) {
	s := pkcs11.SessionHandle(session)
	if err := m.ctx.FindObjectsInit(s, template(attributes)); err != nil {
		return nil, call("C_FindObjectsInit", err)
	}
	defer func() {
		if e := m.ctx.FindObjectsFinal(s); err == nil {
			err = call("C_FindObjectsFinal", e)
		}
	}()
	for len(found) < MaxObjects {
		page, _, err := m.ctx.FindObjects(s, findPage)
		if err != nil {
			return nil, call("C_FindObjects", err)
		}
		if len(page) == 0 {
			break
		}
		for _, h := range page {
			found = append(found, Handle(h))
		}
	}
	return found, nil
}

// Reader reads attributes into buffers that it reuses. It serves one goroutine.
type Reader struct {
	module  *Module
	buffer  []byte
	large   []byte // for one value; nil until it is needed
	types   [maxTogether]C.ck_ulong
	lengths [maxTogether]C.ck_ulong
	values  [maxTogether][]byte
}

// NewReader returns a reader of the module's objects.
func (m *Module) NewReader() *Reader {
	return &Reader{module: m, buffer: make([]byte, maxTogether*attributeRoom)}
}

// unavailable is the length of a value that an object has not, that is secret, or that there was no room for.
const unavailable = ^C.ck_ulong(0)

// Short returns the values of up to 16 attributes of an object in a session, in one call, unless the module is one of those
// that need more: nil for those that it has not, that are secret, or that are longer than a kilobyte. The values are
// valid until the next use of the reader.
func (r *Reader) Short(session, object Handle, types ...uint) ([][]byte, error) {
	_, err := r.read(session, object, types)
	return r.values[:len(types)], err
}

// Read is Short for values of up to 64 KiB, each of which takes a call of its own if it is longer than a kilobyte. The
// values are valid until the next use of the reader, and only one of them may be that long.
func (r *Reader) Read(session, object Handle, types ...uint) ([][]byte, error) {
	rv, err := r.read(session, object, types)
	if err != nil {
		return nil, err
	}
	for i, t := range types {
		if rv != 0 && r.lengths[i] == unavailable {
			if r.values[i], err = r.one(session, object, t); err != nil {
				return nil, err
			}
		}
	}
	return r.values[:len(types)], nil
}

// read reads attributes together.
func (r *Reader) read(session, object Handle, types []uint) (C.ck_rv, error) {
	for i, t := range types {
		r.types[i] = C.ck_ulong(t)
	}
	rv := C.mk_attributes(r.module.list, C.ck_ulong(session), C.ck_ulong(object), &r.types[0], C.ck_ulong(len(types)),
		first(r.buffer), attributeRoom, &r.lengths[0])
	switch rv {
	case 0, rvAttributeSensitive, rvAttributeTypeInvalid, rvBufferTooSmall:
	case rvArgumentsBad: // of modules that refuse the whole call for one attribute
		for i := range types {
			r.lengths[i] = attributeRoom
		}
	default:
		return rv, &Error{"C_GetAttributeValue", uint64(rv)}
	}
	for i, t := range types {
		r.values[i] = nil
		switch n := r.lengths[i]; {
		case n < attributeRoom:
			r.values[i] = r.buffer[i*attributeRoom:][:n:n]
		case n == attributeRoom: // the module has stopped at another attribute, or the value just fills the room
			value, err := r.one(session, object, t)
			if err != nil {
				return rv, err
			}
			if len(value) <= attributeRoom && value != nil {
				r.values[i] = append(r.buffer[i*attributeRoom:][:0:attributeRoom], value...)
			} else if value != nil {
				r.lengths[i] = unavailable
			}
		case rv == 0: // it claims more than there was room for
			r.lengths[i] = unavailable
		}
	}
	return rv, nil
}

// one returns the value of one attribute, or nil.
func (r *Reader) one(session, object Handle, t uint) ([]byte, error) {
	if r.large == nil {
		r.large = make([]byte, maxAttribute+1) // which no value fills
	}
	kind, length := C.ck_ulong(t), C.ck_ulong(0)
	rv := C.mk_attributes(r.module.list, C.ck_ulong(session), C.ck_ulong(object), &kind, 1, first(r.large), maxAttribute+1, &length)
	switch {
	case rv == rvAttributeSensitive, rv == rvAttributeTypeInvalid, rv == rvBufferTooSmall, rv == rvArgumentsBad:
		return nil, nil
	case rv != 0:
		return nil, &Error{"C_GetAttributeValue", uint64(rv)}
	case length > maxAttribute:
		return nil, nil
	}
	return append([]byte(nil), r.large[:length]...), nil
}

// Ulong returns the CK_ULONG in b, in the machine's byte order, or 0 if b holds none.
func Ulong(b []byte) uint64 {
	switch len(b) {
	case 4:
		return uint64(binary.NativeEndian.Uint32(b))
	case 8:
		return binary.NativeEndian.Uint64(b)
	}
	return 0
}
