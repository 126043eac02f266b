package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"math/big"

	"github.com/managedkeys/managedkeys/backend"
)

// curves are the curves by their name in [Params].
var curves = map[string]elliptic.Curve{
	"P256": elliptic.P256(),
	"P384": elliptic.P384(),
	"P521": elliptic.P521(),
}

// curvesByOID are the curves by the namedCurve in CKA_EC_PARAMS (RFC 5480, Section 2.1.1.1).
var curvesByOID = map[string]elliptic.Curve{
	"1.2.840.10045.3.1.7": elliptic.P256(),
	"1.3.132.0.34":        elliptic.P384(),
	"1.3.132.0.35":        elliptic.P521(),
}

// RSA moduli in bits that are accepted. Shorter ones are not safe (SP 800-131A, Section 3); longer ones would stall the
// program when signatures are verified.
const (
	minModulus = 2048
	maxModulus = 16384
)

// parseRSA returns the key of CKA_MODULUS and CKA_PUBLIC_EXPONENT, both big-endian, or nil if they make no key.
func parseRSA(modulus, exponent []byte) crypto.PublicKey {
	n, e := new(big.Int).SetBytes(modulus), new(big.Int).SetBytes(exponent)
	if n.Sign() == 0 || n.BitLen() > maxModulus || e.BitLen() > 31 || e.Int64() < 3 || e.Bit(0) == 0 {
		return nil
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}
}

// parseEC returns the key of CKA_EC_PARAMS and CKA_EC_POINT, or nil if they make no point on a known curve. The point is
// a DER OCTET STRING by PKCS #11 Specification Version 2.40, and the bare point with some older modules.
func parseEC(params, point []byte) crypto.PublicKey {
	var oid asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(params, &oid); err != nil || len(rest) > 0 {
		return nil
	}
	curve, ok := curvesByOID[oid.String()]
	if !ok {
		return nil
	}
	var octets []byte
	if rest, err := asn1.Unmarshal(point, &octets); err == nil && len(rest) == 0 {
		if pub, err := ecdsa.ParseUncompressedPublicKey(curve, octets); err == nil {
			return pub
		}
	}
	if pub, err := ecdsa.ParseUncompressedPublicKey(curve, point); err == nil {
		return pub
	}
	return nil
}

// parseCertificate returns the public key of a certificate in DER, or nil if it is none of this package's kinds.
func parseCertificate(der []byte) crypto.PublicKey {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	if kindOf(certificate.PublicKey) == 0 {
		return nil
	}
	return certificate.PublicKey
}

// kindOf returns the scheme that tells the kinds of public keys of this package apart, or 0 for others.
func kindOf(pub crypto.PublicKey) backend.Scheme {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return backend.RSAPKCS1v15
	case *ecdsa.PublicKey:
		for _, curve := range curves {
			if pub.Curve == curve {
				return backend.ECDSA
			}
		}
	}
	return 0
}

// leftmost returns the digest that ECDSA signs: the leftmost bytes, as many as the order of the curve has (FIPS 186-5,
// Section 6.4.1, step 2). The orders of all curves that are shorter than a digest are whole bytes long. Tokens refuse
// longer digests.
func leftmost(digest []byte, pub *ecdsa.PublicKey) []byte {
	return digest[:min(len(digest), (pub.Curve.Params().N.BitLen()+7)/8)]
}

// signerOpts returns what a caller of crypto.Signer would have given for req.
func signerOpts(req backend.SignRequest) crypto.SignerOpts {
	if req.Scheme == backend.RSAPSS {
		return &rsa.PSSOptions{SaltLength: req.SaltLength, Hash: req.Hash}
	}
	return req.Hash
}
