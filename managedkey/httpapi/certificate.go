package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/namespace"
)

// Certificate says which client certificates are an identity: those that have everything that is set of SPKI, URI, DNS and Subject,
// of which one is required.
type Certificate struct {
	SPKI    string // SHA-256 of the SubjectPublicKeyInfo, in hexadecimal
	URI     string // one of the URI subject alternative names, exactly, such as spiffe://example.org/issuer
	DNS     string // one of the DNS names, in lower case, exactly: wildcards in certificates have no meaning
	Subject string // the subject as RFC 2253 text, as crypto/x509/pkix.Name.String writes it

	Name      string // required: the identity's name, and its ID after "cert:"
	Namespace namespace.Path
	Policies  []string
}

// Certificates is an Authenticator of TLS clients. Their certificates must have been verified by the server: its tls.Config needs
// ClientCAs, and VerifyClientCertIfGiven or RequireAndVerifyClientCert in ClientAuth. It is immutable.
type Certificates struct{ all []certificate }

type certificate struct {
	Certificate
	spki []byte
	id   Identity
}

// NewCertificates returns an Authenticator that takes these certificates, the first that fits. The error names the field.
func NewCertificates(all ...Certificate) (*Certificates, error) {
	out := new(Certificates)
	for i, c := range all {
		refuse := func(text string) (*Certificates, error) {
			return nil, fmt.Errorf("httpapi: certificate %d, %.40q: %s", i, c.Name, text)
		}
		spki, err := hex.DecodeString(c.SPKI)
		switch {
		case err != nil || len(spki) != 0 && len(spki) != sha256.Size:
			return refuse("field SPKI takes 64 hexadecimal digits")
		case c.SPKI+c.URI+c.DNS+c.Subject == "":
			return refuse("one of the fields SPKI, URI, DNS and Subject is required")
		case c.Name == "" || len(c.Name) > 128:
			return refuse("field Name takes 1 to 128 bytes")
		case c.Namespace.Validate() != nil:
			return refuse("field Namespace: " + c.Namespace.Validate().Error())
		}
		id := Identity{ID: "cert:" + c.Name, Name: c.Name, Namespace: c.Namespace, Policies: slices.Clone(c.Policies)}
		out.all = append(out.all, certificate{c, spki, id})
	}
	return out, nil
}

// Authenticate implements [Authenticator]. Beside the error about a verified certificate that is nobody's is its subject, as Name.
func (c *Certificates) Authenticate(r *http.Request) (*Identity, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, ErrNoCredentials
	}
	if len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return nil, fmt.Errorf("%w: the server did not verify the certificate", ErrDenied)
	}
	// A browser sends the certificate with whatever request a page has it make.
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return nil, errors.Join(ErrDenied, err)
	}
	leaf := r.TLS.VerifiedChains[0][0]
	for i := range c.all {
		if one := &c.all[i]; one.fits(leaf) {
			id := one.id
			id.Created, id.Expires = leaf.NotBefore, leaf.NotAfter
			return &id, nil
		}
	}
	return &Identity{Name: leaf.Subject.String()}, fmt.Errorf("%w: no identity has this certificate", ErrDenied)
}

func (c *certificate) fits(leaf *x509.Certificate) bool {
	if len(c.spki) > 0 {
		if got := sha256.Sum256(leaf.RawSubjectPublicKeyInfo); subtle.ConstantTimeCompare(got[:], c.spki) != 1 {
			return false
		}
	}
	if c.URI != "" {
		has := false
		for _, uri := range leaf.URIs {
			has = has || uri.String() == c.URI
		}
		if !has {
			return false
		}
	}
	if c.DNS != "" && !slices.ContainsFunc(leaf.DNSNames, func(name string) bool { return strings.ToLower(name) == c.DNS }) {
		return false
	}
	return c.Subject == "" || leaf.Subject.String() == c.Subject
}
