// Package rsasize refuses RSA keys that are so long that parsing or verifying with them takes minutes, before that is begun. Package
// crypto/x509 takes them of any length, and looks whether a private key is sound with exponentiations, which take a time that grows with
// more than the cube of it.
package rsasize

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Most is the longest modulus that is taken, in bits: that of package crypto/tls.
const Most = 8192

// CheckPublic returns an error if public is an RSA key with a modulus of more than Most bits.
func CheckPublic(public crypto.PublicKey) error {
	if pub, ok := public.(*rsa.PublicKey); ok && pub != nil && pub.N != nil && pub.N.BitLen() > Most {
		return fmt.Errorf("RSA key of %d bits; it takes at most %d", pub.N.BitLen(), Most)
	}
	return nil
}

// CheckPrivate returns an error if der is an RSA private key, in PKCS #1 or PKCS #8 (RFC 8017, Appendix A.1.2; RFC 5958, Section 2), of
// which one of the numbers has more than Most bits. What is something else, or malformed, is left to those who parse it.
func CheckPrivate(der []byte) error {
	in := cryptobyte.String(der)
	for range 2 { // PKCS #8 has PKCS #1 in it
		var key, version, algorithm cryptobyte.String
		if !in.ReadASN1(&key, asn1.SEQUENCE) || !key.ReadASN1(&version, asn1.INTEGER) {
			return nil
		}
		if !key.PeekASN1Tag(asn1.SEQUENCE) {
			return checkNumbers(key)
		}
		if !key.ReadASN1(&algorithm, asn1.SEQUENCE) || !key.ReadASN1(&in, asn1.OCTET_STRING) {
			return nil
		}
	}
	return nil
}

// checkNumbers checks the numbers of an RSAPrivateKey.
func checkNumbers(key cryptobyte.String) error {
	for key.PeekASN1Tag(asn1.INTEGER) {
		var number []byte
		if !key.ReadASN1Bytes(&number, asn1.INTEGER) {
			return nil
		}
		if n := len(bytes.TrimLeft(number, "\x00")); n > Most/8 {
			return fmt.Errorf("RSA key with a number of %d bytes; it takes at most %d", n, Most/8)
		}
	}
	return nil
}
