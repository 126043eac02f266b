package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// otherName is a name of a kind that an object identifier says, with a text as its value (RFC 5280, Section 4.2.1.6).
type otherName struct {
	oid  asn1.ObjectIdentifier
	text string
}

func (n otherName) String() string { return n.oid.String() + ";UTF8:" + n.text }

func (n otherName) equal(m otherName) bool { return n.text == m.text && n.oid.Equal(m.oid) }

// parseOtherName reads "oid;UTF8:text"; UTF-8 is the only kind of text, as in Vault.
func parseOtherName(text string) (otherName, error) {
	id, rest, ok := strings.Cut(text, ";")
	kind, value, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 || !strings.EqualFold(kind, "UTF8") && !strings.EqualFold(kind, "UTF-8") {
		return otherName{}, invalid("other name %.80q: it takes oid;UTF8:text", text)
	}
	oid, err := parseOID(id)
	if err != nil {
		return otherName{}, err
	}
	if problem := checkOtherText(value); problem != "" {
		return otherName{}, invalid("other name %.80q: %s", text, problem)
	}
	return otherName{oid, value}, nil
}

// checkOtherText returns what is wrong with the text of an other name, or "".
func checkOtherText(text string) string {
	if text == "" || len(text) > 1024 || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return "it takes 1 to 1024 bytes of UTF-8 without control characters"
	}
	return ""
}

// der returns the name as GeneralName, [0] IMPLICIT OtherName, whose value is [0] EXPLICIT UTF8String.
func (n otherName) der() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(n.oid)
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(n.text)) })
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, invalid("other name %.80q: %w", n.text, err)
	}
	return der, nil
}

// requestedOther is an other name of a CSR. If problem says why it can't be in a certificate, only what it shows is known.
type requestedOther struct {
	otherName
	shown, problem string
}

func (n requestedOther) String() string {
	if n.problem != "" {
		return n.shown
	}
	return n.otherName.String()
}

// otherNamesOf returns the other names of a CSR. Each that has no problem is, as der returns it, what the CSR has, byte for byte.
func otherNamesOf(request *x509.CertificateRequest) ([]requestedOther, error) {
	names, err := requestedNames(request)
	if err != nil {
		return nil, err
	}
	var out []requestedOther
	for _, name := range names {
		if name.Tag == 0 && name.Class == asn1.ClassContextSpecific {
			out = append(out, readOtherName(name.FullBytes))
		}
	}
	return out, nil
}

// readOtherName reads a GeneralName that is an other name.
func readOtherName(der []byte) requestedOther {
	bad := func(shown, problem string) requestedOther { return requestedOther{shown: shown, problem: problem} }
	in := cryptobyte.String(der)
	var name, value, text cryptobyte.String
	var oid asn1.ObjectIdentifier
	tag := cbasn1.Tag(0).ContextSpecific().Constructed()
	if !in.ReadASN1(&name, tag) || !in.Empty() || !name.ReadASN1ObjectIdentifier(&oid) || !name.ReadASN1(&value, tag) || !name.Empty() {
		return bad(hex.EncodeToString(der), "it is malformed")
	}
	shown := oid.String() + ";" + hex.EncodeToString(value)
	if _, err := parseOID(oid.String()); err != nil {
		return bad(shown, "its object identifier is out of range")
	}
	if !value.PeekASN1Tag(cbasn1.UTF8String) {
		return bad(shown, "its value is no UTF8String, the only kind that is taken")
	}
	if !value.ReadASN1(&text, cbasn1.UTF8String) || !value.Empty() {
		return bad(shown, "its value is malformed")
	}
	n := otherName{oid, string(text)}
	if problem := checkOtherText(n.text); problem != "" {
		return bad(shown, problem)
	}
	if again, err := n.der(); err != nil || !bytes.Equal(again, der) {
		return bad(shown, "it is not encoded in DER")
	}
	return requestedOther{otherName: n}
}

// otherNames takes the other names of the request, and of the CSR if the role uses its names.
func (l *leaf) otherNames() error {
	add := func(n otherName) {
		if !slices.ContainsFunc(l.others, n.equal) {
			l.others = append(l.others, n)
		}
	}
	for _, text := range l.req.OtherNames {
		n, err := parseOtherName(text)
		if err != nil {
			return err
		}
		add(n)
	}
	if l.csr == nil || !l.role.UseCSRSANs {
		return nil
	}
	names, err := otherNamesOf(l.csr)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n.problem != "" {
			return l.role.refuse("allowed_other_sans", n.String(), "%s", n.problem)
		}
		add(n.otherName)
	}
	return nil
}

func (r *Role) checkOtherName(n otherName) error {
	for _, text := range r.AllowedOtherSANs {
		if text == "*" {
			return nil
		}
		if allowed, err := parseOtherName(text); err == nil && allowed.oid.Equal(n.oid) && glob(allowed.text, n.text) {
			return nil
		}
	}
	return r.refuse("allowed_other_sans", n.String(), "it matches none of %.200q", []string(r.AllowedOtherSANs))
}
