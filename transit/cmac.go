package transit

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

// cmac is AES-CMAC (NIST SP 800-38B, RFC 4493). It is safe for concurrent use.
type cmac struct {
	block  cipher.Block
	k1, k2 [aes.BlockSize]byte
}

func newCMAC(key []byte) (*cmac, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	c := &cmac{block: block}
	block.Encrypt(c.k1[:], c.k1[:])
	double(&c.k1)
	c.k2 = c.k1
	double(&c.k2)
	return c, nil
}

// double multiplies by x in GF(2¹²⁸) (SP 800-38B, Section 6.1), in constant time.
func double(b *[aes.BlockSize]byte) {
	carry := byte(0)
	for i := len(b) - 1; i >= 0; i-- {
		next := b[i] >> 7
		b[i] = b[i]<<1 | carry
		carry = next
	}
	b[len(b)-1] ^= byte(subtle.ConstantTimeSelect(int(carry), 0x87, 0))
}

// sum returns the MAC of message, 16 bytes.
func (c *cmac) sum(message []byte) []byte {
	mac := make([]byte, aes.BlockSize)
	for len(message) > aes.BlockSize {
		subtle.XORBytes(mac, mac, message[:aes.BlockSize])
		c.block.Encrypt(mac, mac)
		message = message[aes.BlockSize:]
	}
	last, mask := make([]byte, aes.BlockSize), &c.k1
	if copy(last, message) < aes.BlockSize {
		last[len(message)] = 0x80
		mask = &c.k2
	}
	subtle.XORBytes(mac, mac, last)
	subtle.XORBytes(mac, mac, mask[:])
	c.block.Encrypt(mac, mac)
	return mac
}
