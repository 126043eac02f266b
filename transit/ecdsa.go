package transit

import (
	"crypto/ecdsa"
	"encoding/asn1"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cryptobyteasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/managedkeys/managedkeys/backend"
)

type ecdsaSignature struct{ R, S *big.Int }

// parseECDSA reads a signature in ASN.1 (RFC 3279, Section 2.2.3), and reports whether it is that, in DER and nothing else: package
// encoding/asn1 lets more numbers follow.
func parseECDSA(der []byte) (sig ecdsaSignature, ok bool) {
	sig = ecdsaSignature{new(big.Int), new(big.Int)}
	outer, inner := cryptobyte.String(der), cryptobyte.String(nil)
	ok = outer.ReadASN1(&inner, cryptobyteasn1.SEQUENCE) && outer.Empty() && inner.ReadASN1Integer(sig.R) && inner.ReadASN1Integer(sig.S) && inner.Empty()
	return sig, ok
}

// joinECDSA turns an ASN.1 signature (RFC 3279, Section 2.2.3) into r ‖ s, each as long as the curve's order.
func joinECDSA(pub *ecdsa.PublicKey, der []byte) ([]byte, error) {
	n := (pub.Curve.Params().N.BitLen() + 7) / 8
	sig, ok := parseECDSA(der)
	if !ok || !fits(pub, sig.R) || !fits(pub, sig.S) {
		return nil, fmt.Errorf("the key manager returned a malformed ECDSA signature: %w", backend.ErrInvalidSignature)
	}
	out := make([]byte, 2*n)
	sig.R.FillBytes(out[:n])
	sig.S.FillBytes(out[n:])
	return out, nil
}

// splitECDSA returns a signature in ASN.1, and whether it is well formed for the curve.
func splitECDSA(pub *ecdsa.PublicKey, raw []byte, jws bool) ([]byte, bool) {
	if !jws {
		sig, ok := parseECDSA(raw)
		return raw, ok && fits(pub, sig.R) && fits(pub, sig.S)
	}
	n := (pub.Curve.Params().N.BitLen() + 7) / 8
	if len(raw) != 2*n {
		return nil, false
	}
	sig := ecdsaSignature{new(big.Int).SetBytes(raw[:n]), new(big.Int).SetBytes(raw[n:])}
	if !fits(pub, sig.R) || !fits(pub, sig.S) {
		return nil, false
	}
	der, err := asn1.Marshal(sig)
	return der, err == nil
}

// fits reports whether x is in [1, n-1] (FIPS 186-5, Section 6.4.2).
func fits(pub *ecdsa.PublicKey, x *big.Int) bool {
	return x.Sign() > 0 && x.Cmp(pub.Curve.Params().N) < 0
}
