package pki

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/csrfault"
	"github.com/managedkeys/managedkeys/managedkey"
)

// MaxCSR is the largest certificate signing request that is read, in bytes of PEM or DER. One of ML-DSA-87, the largest
// of the supported kinds, has about 10,000.
const MaxCSR = 64 << 10

// CSRTemplate says what a certificate signing request shall ask for. It needs a subject or a subject alternative name.
type CSRTemplate struct {
	Subject pkix.Name

	// The subject alternative names, as in LeafTemplate.
	DNSNames       []string
	IPAddresses    []net.IP
	EmailAddresses []string
	URIs           []*url.URL

	// SignatureAlgorithm is that of the key; 0 is the best that it has: see Options.PSS; ECDSA signs with the hash of
	// its curve's strength.
	SignatureAlgorithm x509.SignatureAlgorithm

	// CA asks for a CA certificate, by a critical basicConstraints extension, for issuers that want to be asked.
	CA bool
}

// CreateCSR returns a certificate signing request in DER (RFC 2986) for the managed key of that name or UUID: for an
// intermediate CA, or for a server or client whose own key is managed. [EncodeCSR] makes PEM of it.
//
// The error wraps [backend.ErrInvalidParams] if the template doesn't fit, [backend.ErrUnsupported] if the key can't sign
// so, or what the managed key returned.
func (e *Engine) CreateCSR(ctx context.Context, key string, t CSRTemplate) ([]byte, error) {
	handle, err := e.key(ctx, key)
	if err != nil {
		return nil, err
	}
	return e.createCSR(ctx, handle, t)
}

func (e *Engine) createCSR(ctx context.Context, handle *managedkey.Key, t CSRTemplate) ([]byte, error) {
	names, err := altNames{dns: t.DNSNames, ip: t.IPAddresses, email: t.EmailAddresses, uri: t.URIs}.normal()
	if err != nil {
		return nil, err
	}
	if err := checkSubject(t.Subject); err != nil {
		return nil, err
	}
	if isEmpty(t.Subject) && names.count() == 0 {
		return nil, invalid("CSR: there is neither a subject nor a subject alternative name")
	}
	alg, err := e.algorithm(handle, t.SignatureAlgorithm)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: t.Subject, SignatureAlgorithm: alg,
		DNSNames: names.dns, IPAddresses: names.ip, EmailAddresses: names.email, URIs: names.uri,
		ExtraExtensions: t.extensions(),
	}, handle.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("pki: CSR: %w", err)
	}
	if _, err := parseRequest(der); err != nil {
		return nil, err
	}
	return der, nil
}

func (t *CSRTemplate) extensions() []pkix.Extension {
	if !t.CA {
		return nil
	}
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}} // CA:TRUE
}

// ParseCSR reads one certificate signing request, in DER or as a single PEM block, and verifies its signature and that
// its key is strong enough to be certified: RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, Ed25519, and with
// Go 1.27 ML-DSA.
//
// Nothing may stand before or after the request but white space around PEM. It may ask for subject alternative names of
// the kinds DNS, IP address, email address and URI; it is refused if it asks for another kind, so that none is dropped
// in silence. [Authority.Sign] and [Authority.SignVerbatim] take other names as well. The error wraps [backend.ErrInvalidParams], and [backend.ErrInvalidSignature] as well if that is the
// reason.
func ParseCSR(data []byte) (*x509.CertificateRequest, error) {
	request, err := readCSR(data)
	if err != nil {
		return nil, err
	}
	if err := checkNameKinds(request, false); err != nil {
		return nil, err
	}
	return request, nil
}

// readCSR is ParseCSR for those who take other names: see otherNamesOf.
func readCSR(data []byte) (*x509.CertificateRequest, error) {
	if len(data) == 0 || len(data) > MaxCSR {
		return nil, invalid("CSR: got %d bytes; it takes 1 to %d", len(data), MaxCSR)
	}
	const sequence = 0x30 // the first byte of every request in DER, and the digit zero, with which no PEM begins
	if data[0] == sequence {
		return parseRequest(data)
	}
	data = bytes.TrimSpace(data)
	begin := []byte("-----BEGIN ")
	if !bytes.HasPrefix(data, begin) {
		return nil, invalid("CSR: it is neither DER nor PEM; PEM begins with -----BEGIN CERTIFICATE REQUEST-----")
	}
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, invalid("CSR: malformed PEM")
	case bytes.Count(data, begin) != 1:
		return nil, invalid("CSR: got %d PEM blocks; it takes one", bytes.Count(data, begin))
	case block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST":
		return nil, invalid("CSR: got a PEM block of type %.40q; it takes CERTIFICATE REQUEST", block.Type)
	case len(block.Headers) > 0:
		return nil, invalid("CSR: got PEM headers; it takes none")
	case len(rest) > 0:
		return nil, invalid("CSR: %d bytes after the end of the PEM block", len(rest))
	}
	return parseRequest(block.Bytes)
}

// requestAlgorithms are those with which a request may prove possession of its key: none with SHA-1 or MD5.
var requestAlgorithms = slices.Concat(pkcs1Algorithms, pssAlgorithms, p256Algorithms, []x509.SignatureAlgorithm{x509.PureEd25519}, mldsaAlgorithms)

func parseRequest(der []byte) (*x509.CertificateRequest, error) {
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, invalid("CSR: malformed DER: %s", csrfault.Of(der, err))
	}
	if request.Version != 0 {
		return nil, invalid("CSR: version %d; it takes 0 (RFC 2986, Section 4.1)", request.Version)
	}
	if request.PublicKeyAlgorithm == x509.UnknownPublicKeyAlgorithm {
		return nil, invalid("CSR: unknown kind of public key; it takes %s", takenKeys)
	}
	if err := checkPublicKey(request.PublicKey); err != nil {
		return nil, fmt.Errorf("pki: CSR: %w", err)
	}
	if !slices.Contains(requestAlgorithms, request.SignatureAlgorithm) {
		return nil, invalid("CSR: signature algorithm %s; it takes RSA, ECDSA and Ed25519 with SHA-256, SHA-384 or SHA-512, "+
			"and RSASSA-PSS only with the same hash for MGF1 and a salt of its length", request.SignatureAlgorithm)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, invalid("CSR: %w: %w", backend.ErrInvalidSignature, err)
	}
	if err := checkNameKinds(request, true); err != nil {
		return nil, err
	}
	return request, nil
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// nameKinds are the choices of GeneralName by tag (RFC 5280, Section 4.2.1.6).
var nameKinds = [...]string{"otherName", "rfc822Name", "dNSName", "x400Address", "directoryName", "ediPartyName",
	"uniformResourceIdentifier", "iPAddress", "registeredID"}

// requestedNames returns the subject alternative names of a request, of whatever kinds. crypto/x509 refuses more than one extension.
func requestedNames(request *x509.CertificateRequest) ([]asn1.RawValue, error) {
	var names []asn1.RawValue
	for _, extension := range request.Extensions {
		if !extension.Id.Equal(oidSubjectAltName) {
			continue
		}
		if rest, err := asn1.Unmarshal(extension.Value, &names); err != nil || len(rest) > 0 {
			return nil, invalid("CSR: malformed subject alternative names")
		}
	}
	return names, nil
}

// checkNameKinds refuses names that crypto/x509 skips, but for other names where they are taken.
func checkNameKinds(request *x509.CertificateRequest, others bool) error {
	names, err := requestedNames(request)
	if err != nil {
		return err
	}
	for i, name := range names {
		switch name.Tag {
		case 1, 2, 6, 7:
		case 0:
			if others && name.Class == asn1.ClassContextSpecific {
				continue
			}
			fallthrough
		default:
			kind := fmt.Sprintf("[%d]", name.Tag)
			if name.Tag >= 0 && name.Tag < len(nameKinds) {
				kind = nameKinds[name.Tag]
			}
			return invalid("CSR: subject alternative name %d is of kind %s; it takes DNS names, IP addresses, email addresses and URIs", i, kind)
		}
	}
	return nil
}
