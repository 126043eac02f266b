package managedkey

import (
	"encoding/binary"
	"hash"
)

// Content is what went into an operation, or came out of it. It can't be read: all that an observer gets of it is a keyed hash,
// so that who has the data and the key can find the operation again. The zero value is no content.
type Content struct {
	parts *parts // a pointer, so that package fmt doesn't print what is behind it
}

type parts [][]byte

// NewContent returns a Content of these parts, for tests of observers and to find what was recorded. It shares the parts' memory.
func NewContent(all ...[]byte) Content {
	if len(all) == 0 {
		return Content{}
	}
	return Content{(*parts)(&all)}
}

// Len returns how many bytes there are; 0 if there is no content.
func (c Content) Len() (n int) {
	if c.parts != nil {
		for _, p := range *c.parts {
			n += len(p)
		}
	}
	return n
}

// Sum resets mac, which should be an HMAC, and returns its sum over the number of parts and each part after its length, all
// numbers in 8 bytes, big-endian. The parts are the function's arguments in their order, such as plaintext and additional data, or
// digest and signature; a result has one. It returns nil if there is no content.
//
// Until End returns it may be called; the caller of the operation may then change the memory behind it.
func (c Content) Sum(mac hash.Hash) []byte {
	if c.parts == nil {
		return nil
	}
	mac.Reset()
	var length [8]byte
	number := func(n int) {
		binary.BigEndian.PutUint64(length[:], uint64(n))
		mac.Write(length[:])
	}
	number(len(*c.parts))
	for _, p := range *c.parts {
		number(len(p))
		mac.Write(p)
	}
	return mac.Sum(nil)
}

// String returns "content", whatever it is.
func (Content) String() string { return "content" }
