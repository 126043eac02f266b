package pki

import (
	"crypto"
	"encoding/asn1"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Limits of OCSP requests.
const (
	MaxOCSPRequest = 16 << 10 // bytes of DER
	MaxOCSPSerials = 64       // certificates that are asked about
	MaxOCSPNonce   = 128      // bytes (RFC 9654, Section 2.1)
)

// The extensions that a responder knows (RFC 6960, Section 4.4).
var (
	oidOCSPNonce      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidOCSPAcceptable = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 4}
	oidOCSPNoCheck    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
	oidOCSPBasic      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
)

// certID is a certificate that is asked about (RFC 6960, Section 4.1.1).
type certID struct {
	raw    string      // in DER as the client wrote it, which is how the answer has it
	hash   crypto.Hash // 0 for one that is not known
	null   bool        // the hash's parameters are NULL, as most clients write, and not absent
	name   string      // hash of the issuer's name
	key    string      // hash of the issuer's key
	serial *big.Int

	foreign bool // it is about another issuer than the one that answers
}

// ocspRequest is what is used of a request. Its requestorName and signature are not: everybody is answered.
type ocspRequest struct {
	ids        []certID
	nonce      []byte // nil if there is none
	mustNonce  bool   // its extension is critical
	nonceValue []byte // the extension's value
}

// parseOCSPRequest reads a request. The error wraps backend.ErrInvalidParams and says what is malformed.
func parseOCSPRequest(der []byte) (*ocspRequest, error) {
	if len(der) > MaxOCSPRequest {
		return nil, invalid("OCSP request: got %d bytes; it takes at most %d", len(der), MaxOCSPRequest)
	}
	input := cryptobyte.String(der)
	var request, tbs, signature cryptobyte.String
	var signed bool
	if !input.ReadASN1(&request, cbasn1.SEQUENCE) || !input.Empty() {
		return nil, invalid("OCSP request: it is no DER sequence, or bytes follow it")
	}
	if !request.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!request.ReadOptionalASN1(&signature, &signed, cbasn1.Tag(0).ContextSpecific().Constructed()) || !request.Empty() {
		return nil, invalid("OCSP request: OCSPRequest is malformed")
	}
	if signed && !wellFormedSignature(signature) {
		return nil, invalid("OCSP request: optionalSignature is malformed")
	}
	out := new(ocspRequest)
	return out, out.parseTBS(tbs)
}

// wellFormedSignature reports whether der is a Signature, whose value nobody looks at.
func wellFormedSignature(der cryptobyte.String) bool {
	var inner, part cryptobyte.String
	return der.ReadASN1(&inner, cbasn1.SEQUENCE) && der.Empty() &&
		inner.ReadASN1(&part, cbasn1.SEQUENCE) && inner.ReadASN1(&part, cbasn1.BIT_STRING) &&
		inner.SkipOptionalASN1(cbasn1.Tag(0).ContextSpecific().Constructed()) && inner.Empty()
}

func (r *ocspRequest) parseTBS(tbs cryptobyte.String) error {
	var version, list, extensions cryptobyte.String
	var hasVersion, hasExtensions bool
	tag := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }
	if !tbs.ReadOptionalASN1(&version, &hasVersion, tag(0)) || !tbs.SkipOptionalASN1(tag(1)) || !tbs.ReadASN1(&list, cbasn1.SEQUENCE) ||
		!tbs.ReadOptionalASN1(&extensions, &hasExtensions, tag(2)) || !tbs.Empty() {
		return invalid("OCSP request: TBSRequest is malformed")
	}
	if hasVersion { // the default, which some clients write all the same
		var n int
		if !version.ReadASN1Integer(&n) || !version.Empty() || n != 0 {
			return invalid("OCSP request: version; it takes v1 (0)")
		}
	}
	for !list.Empty() {
		if len(r.ids) == MaxOCSPSerials {
			return invalid("OCSP request: it asks about more than %d certificates", MaxOCSPSerials)
		}
		var single, extensions cryptobyte.String
		var hasExtensions bool
		var id certID
		if !list.ReadASN1(&single, cbasn1.SEQUENCE) || !id.parse(&single) ||
			!single.ReadOptionalASN1(&extensions, &hasExtensions, tag(0)) || !single.Empty() {
			return invalid("OCSP request: request %d is malformed", len(r.ids))
		}
		if hasExtensions {
			if err := eachExtension(extensions, func(oid asn1.ObjectIdentifier, critical bool, _ []byte) error {
				if critical {
					return invalid("OCSP request: request %d has the critical extension %s, which is not known", len(r.ids), oid)
				}
				return nil
			}); err != nil {
				return err
			}
		}
		r.ids = append(r.ids, id)
	}
	if len(r.ids) == 0 {
		return invalid("OCSP request: it asks about no certificate")
	}
	if hasExtensions {
		return eachExtension(extensions, r.extension)
	}
	return nil
}

// extension takes one of the whole request's extensions.
func (r *ocspRequest) extension(oid asn1.ObjectIdentifier, critical bool, value []byte) error {
	switch {
	case oid.Equal(oidOCSPNonce):
		// Other lengths must be refused, whether the nonce is used or not (RFC 9654, Section 2.1).
		input := cryptobyte.String(value)
		var nonce cryptobyte.String
		if !input.ReadASN1(&nonce, cbasn1.OCTET_STRING) || !input.Empty() || len(nonce) == 0 || len(nonce) > MaxOCSPNonce {
			return invalid("OCSP request: nonce; it takes an octet string of 1 to %d bytes", MaxOCSPNonce)
		}
		r.nonce, r.nonceValue, r.mustNonce = nonce, value, critical
		return nil
	case oid.Equal(oidOCSPAcceptable):
		input := cryptobyte.String(value)
		var list cryptobyte.String
		basic := false
		if !input.ReadASN1(&list, cbasn1.SEQUENCE) || !input.Empty() {
			return invalid("OCSP request: acceptable responses are malformed")
		}
		for !list.Empty() {
			var kind asn1.ObjectIdentifier
			if !list.ReadASN1ObjectIdentifier(&kind) {
				return invalid("OCSP request: acceptable responses are malformed")
			}
			basic = basic || kind.Equal(oidOCSPBasic)
		}
		if !basic {
			return invalid("OCSP request: it doesn't accept basic responses (%s), and there are no others", oidOCSPBasic)
		}
		return nil
	case critical:
		return invalid("OCSP request: the critical extension %s is not known", oid)
	}
	return nil
}

// eachExtension calls take for each of Extensions. None may come twice (RFC 5280, Section 4.2).
func eachExtension(der cryptobyte.String, take func(oid asn1.ObjectIdentifier, critical bool, value []byte) error) error {
	var list cryptobyte.String
	if !der.ReadASN1(&list, cbasn1.SEQUENCE) || !der.Empty() || list.Empty() {
		return invalid("OCSP request: extensions are malformed, or none")
	}
	var seen []asn1.ObjectIdentifier
	for !list.Empty() {
		var one, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		critical := false
		if !list.ReadASN1(&one, cbasn1.SEQUENCE) || !one.ReadASN1ObjectIdentifier(&oid) ||
			one.PeekASN1Tag(cbasn1.BOOLEAN) && !one.ReadASN1Boolean(&critical) ||
			!one.ReadASN1(&value, cbasn1.OCTET_STRING) || !one.Empty() {
			return invalid("OCSP request: extension %d is malformed", len(seen))
		}
		if slices.ContainsFunc(seen, oid.Equal) {
			return invalid("OCSP request: extension %s comes twice", oid)
		}
		if len(seen) == 16 {
			return invalid("OCSP request: more than 16 extensions")
		}
		seen = append(seen, oid)
		if err := take(oid, critical, value); err != nil {
			return err
		}
	}
	return nil
}

// ocspHashes are the hashes of CertIDs. SHA-1 only finds the issuer here, so that nothing rests on its strength; it is what all clients
// write by default (RFC 5019, Section 2.1.1).
var ocspHashes = []struct {
	hash crypto.Hash
	oid  asn1.ObjectIdentifier
	name string // in the store
}{
	{crypto.SHA1, asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, "sha1"},
	{crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, "sha256"},
	{crypto.SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, "sha384"},
	{crypto.SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, "sha512"},
}

func (id *certID) parse(in *cryptobyte.String) bool {
	var raw, inner, algorithm, null, name, key cryptobyte.String
	var oid asn1.ObjectIdentifier
	id.serial = new(big.Int)
	if !in.ReadASN1Element(&raw, cbasn1.SEQUENCE) {
		return false
	}
	element := raw
	if !element.ReadASN1(&inner, cbasn1.SEQUENCE) || !inner.ReadASN1(&algorithm, cbasn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&oid) ||
		!algorithm.ReadOptionalASN1(&null, &id.null, cbasn1.NULL) || !null.Empty() || !algorithm.Empty() ||
		!inner.ReadASN1(&name, cbasn1.OCTET_STRING) || !inner.ReadASN1(&key, cbasn1.OCTET_STRING) ||
		!inner.ReadASN1Integer(id.serial) || !inner.Empty() || id.serial.BitLen() > 8*64 {
		return false
	}
	id.raw, id.name, id.key = string(raw), string(name), string(key)
	for _, h := range ocspHashes {
		if oid.Equal(h.oid) {
			id.hash = h.hash
			return len(name) == h.hash.Size() && len(key) == h.hash.Size()
		}
	}
	return len(name) <= 64 && len(key) <= 64 // no issuer has it
}

// form names the way in which a client wrote the id: answers differ by it.
func (id *certID) form() string {
	for _, h := range ocspHashes {
		if h.hash == id.hash && id.null {
			return h.name
		} else if h.hash == id.hash {
			return h.name + "-bare"
		}
	}
	return ""
}
