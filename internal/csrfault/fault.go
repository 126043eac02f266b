// Package csrfault says what is wrong with a certificate signing request that can't be parsed.
package csrfault

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var oidExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14} // RFC 2985, Section 5.4.2

// Of returns what is wrong with a certificate signing request in DER that x509.ParseCertificateRequest refused with err, for whoever has sent
// it: the first of its parts (RFC 2986, Section 4) that can't be read, or what x509 says of its content. It is a line; the texts of package
// asn1, which are about Go's types, are not in it.
func Of(der []byte, err error) string {
	in := cryptobyte.String(der)
	var request, info cryptobyte.String
	switch {
	case len(der) == 0 || der[0] != 0x30:
		return "it is no SEQUENCE"
	case !in.ReadASN1(&request, cbasn1.SEQUENCE):
		return fmt.Sprintf("its length is malformed, or it is cut off after %d bytes", len(der))
	case !in.Empty():
		return fmt.Sprintf("%d bytes after its end", len(in))
	case !request.ReadASN1(&info, cbasn1.SEQUENCE):
		return "the part that is signed is no SEQUENCE"
	}
	if fault := infoFault(info); fault != "" {
		return fault
	}
	var signature asn1.BitString
	switch {
	case !readsAs(&request, cbasn1.SEQUENCE, new(pkix.AlgorithmIdentifier)):
		return "the signature algorithm is malformed"
	case !request.ReadASN1BitString(&signature):
		return "the signature is no BIT STRING"
	case !request.Empty():
		return fmt.Sprintf("%d bytes after the signature", len(request))
	}
	text := strings.TrimPrefix(err.Error(), "x509: ")
	if isASN1(err) || strings.Contains(text, "asn1:") {
		return "a part of it is malformed"
	}
	return text
}

// infoFault is Of for what is signed.
func infoFault(info cryptobyte.String) string {
	var version int
	switch {
	case !info.ReadASN1Integer(&version):
		return "the version is no INTEGER"
	case !readsAs(&info, cbasn1.SEQUENCE, new(pkix.RDNSequence)):
		return "the subject is malformed"
	}
	rest := info
	var key cryptobyte.String
	if !readsAs(&info, cbasn1.SEQUENCE, new(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	})) {
		return "the public key is malformed"
	}
	if rest.ReadASN1Element(&key, cbasn1.SEQUENCE) {
		_, err := x509.ParsePKIXPublicKey(key)
		if isASN1(err) {
			return "the public key is malformed"
		}
	}
	var attributes cryptobyte.String
	switch {
	case !info.ReadASN1(&attributes, cbasn1.Tag(0).ContextSpecific().Constructed()):
		return "the attributes are missing or malformed"
	case !info.Empty():
		return fmt.Sprintf("%d bytes after the attributes", len(info))
	}
	for n := 0; !attributes.Empty(); n++ {
		var attribute struct {
			ID     asn1.ObjectIdentifier
			Values []asn1.RawValue `asn1:"set"`
		}
		if !readsAs(&attributes, cbasn1.SEQUENCE, &attribute) {
			return fmt.Sprintf("attribute %d is malformed", n)
		}
		if !attribute.ID.Equal(oidExtensionRequest) {
			continue
		}
		for _, value := range attribute.Values {
			if rest, err := asn1.Unmarshal(value.FullBytes, new([]pkix.Extension)); err != nil || len(rest) > 0 {
				return fmt.Sprintf("the extensions that attribute %d asks for are malformed", n)
			}
		}
	}
	return ""
}

// isASN1 reports whether an error is one of package asn1.
func isASN1(err error) bool {
	return errors.As(err, new(asn1.SyntaxError)) || errors.As(err, new(asn1.StructuralError))
}

// readsAs reads an element with a tag, and reports whether it can be decoded into out, with nothing behind it.
func readsAs(in *cryptobyte.String, tag cbasn1.Tag, out any) bool {
	var element cryptobyte.String
	if !in.ReadASN1Element(&element, tag) {
		return false
	}
	rest, err := asn1.Unmarshal(element, out)
	return err == nil && len(rest) == 0
}
