package fakeazure

import (
	"bytes"
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// alternativeIV is the first half of the AIV (RFC 5649, Section 3).
var alternativeIV = []byte{0xa6, 0x59, 0x59, 0xa6}

// wrapPad wraps key material under kek (RFC 5649, Section 4.1).
func wrapPad(kek, material []byte) ([]byte, error) {
	if len(material) == 0 {
		return nil, badParameter("value is empty")
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	a := append(bytes.Clone(alternativeIV), 0, 0, 0, 0)
	binary.BigEndian.PutUint32(a[4:], uint32(len(material)))
	out := append(a, material...)
	for len(out)%8 != 0 {
		out = append(out, 0)
	}
	if len(out) == 16 {
		block.Encrypt(out, out)
		return out, nil
	}
	// RFC 3394, Section 2.2.1, with the AIV in place of the IV.
	n := len(out)/8 - 1
	var b [16]byte
	copy(b[:8], out[:8])
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(b[8:], out[8*i:])
			block.Encrypt(b[:], b[:])
			t := uint64(n*j + i)
			binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])^t)
			copy(out[8*i:], b[8:])
		}
	}
	copy(out, b[:8])
	return out, nil
}

// unwrapPad unwraps what wrapPad returned (RFC 5649, Section 4.2).
func unwrapPad(kek, wrapped []byte) ([]byte, error) {
	if len(wrapped) < 16 || len(wrapped)%8 != 0 {
		return nil, errors.New("the wrapped key has a wrong length")
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	out := bytes.Clone(wrapped)
	n := len(out)/8 - 1
	if n == 1 {
		block.Decrypt(out, out)
	} else {
		// RFC 3394, Section 2.2.2.
		var b [16]byte
		copy(b[:8], out[:8])
		for j := 5; j >= 0; j-- {
			for i := n; i >= 1; i-- {
				binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])^uint64(n*j+i))
				copy(b[8:], out[8*i:])
				block.Decrypt(b[:], b[:])
				copy(out[8*i:], b[8:])
			}
		}
		copy(out, b[:8])
	}
	length := int(binary.BigEndian.Uint32(out[4:8]))
	padding := 8*n - length
	if subtle.ConstantTimeCompare(out[:4], alternativeIV) != 1 || padding < 0 || padding > 7 ||
		subtle.ConstantTimeCompare(out[8+length:8+length+padding], make([]byte, padding)) != 1 {
		return nil, errors.New("the wrapped key is damaged")
	}
	return out[8 : 8+length], nil
}
