package httpapi

import (
	"crypto/x509"
	"strconv"
	"strings"
	"time"

	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/pki"
)

// reasons are the names of reasons (RFC 5280, Section 5.3.1).
var reasons = map[string]int{
	"unspecified": pki.ReasonUnspecified, "keycompromise": pki.ReasonKeyCompromise, "cacompromise": pki.ReasonCACompromise,
	"affiliationchanged": pki.ReasonAffiliationChanged, "superseded": pki.ReasonSuperseded, "cessationofoperation": pki.ReasonCessationOfOperation,
	"certificatehold": pki.ReasonCertificateHold, "privilegewithdrawn": pki.ReasonPrivilegeWithdrawn, "aacompromise": pki.ReasonAACompromise,
}

// takeReason takes why something is revoked, by name or number. Vault has no such field; without it there is no reason.
func takeReason(f *api.Fields, out *int) {
	if !f.Has("reason") {
		return
	}
	var raw string
	f.Text("reason", &raw)
	if n, err := strconv.Atoi(raw); err == nil {
		*out = n
		return
	}
	reason, ok := reasons[strings.ToLower(raw)]
	if !ok && raw != "" {
		f.Refuse("reason", "a name such as keyCompromise, or its number (RFC 5280, Section 5.3.1)")
	}
	*out = reason
}

// revoked adds a revocation to data.
func revoked(data object, r *pki.Revocation) {
	data["revocation_time"], data["revocation_time_rfc3339"] = r.Time.Unix(), r.Time.UTC().Format(time.RFC3339Nano)
	data["revocation_reason"] = r.Reason
}

// revokeFields are the fields of a revocation.
type revokeFields struct {
	serial, certificate string
	reason              int
}

func (in *revokeFields) take(f *api.Fields) {
	f.String("serial_number", &in.serial)
	f.String("certificate", &in.certificate)
	takeReason(f, &in.reason)
}

// parse returns the certificate that is given, or nil if its number is.
func (in *revokeFields) parse() (*x509.Certificate, error) {
	switch {
	case (in.serial == "") == (in.certificate == ""):
		return nil, refuse("give one of serial_number and certificate")
	case in.certificate != "":
		return certificate("certificate", in.certificate)
	}
	return nil, nil
}

func revoke(c *call) (any, error) {
	var in revokeFields
	if err := c.read(in.take); err != nil {
		return nil, err
	}
	return c.revoke(&in, nil)
}

// revokeWithKey revokes a certificate for whoever shows its private key.
func revokeWithKey(c *call) (any, error) {
	var in revokeFields
	var key string
	err := c.read(func(f *api.Fields) {
		in.take(f)
		f.String("private_key", &key)
	})
	if err != nil {
		return nil, err
	}
	signer, err := privateKey("private_key", key)
	if err != nil {
		return nil, err
	}
	return c.revoke(&in, func(cert *x509.Certificate) error { return pki.ProveKey(cert, signer) })
}

// revoke revokes, if prove, which may be nil, has nothing against it.
func (c *call) revoke(in *revokeFields, prove func(*x509.Certificate) error) (any, error) {
	cert, err := in.parse()
	if err != nil {
		return nil, err
	}
	known := cert
	if known == nil {
		found, err := c.a.Certificate(c.ctx(), in.serial)
		if unlessThere(err) == errNothing {
			return nil, refuse("certificate with serial %.80s not found", in.serial)
		}
		if err != nil {
			return nil, err
		}
		known = found.Certificate
	}
	if err := c.notIssuer(known); err != nil {
		return nil, err
	}
	if prove != nil {
		if err := prove(known); err != nil {
			return nil, err
		}
	}
	var r *pki.Revocation
	if cert != nil {
		r, err = c.a.RevokeCertificate(c.ctx(), cert, in.reason, time.Time{})
	} else {
		r, err = c.a.Revoke(c.ctx(), in.serial, in.reason, time.Time{})
	}
	if unlessThere(err) == errNothing {
		return nil, refuse("%s", without(err))
	}
	if err != nil {
		return nil, err
	}
	if known.NotAfter.Before(c.opts.Now()) {
		c.warn("the certificate has expired; CRLs need not have it")
	}
	data := object{"state": "revoked"}
	revoked(data, r)
	return data, nil
}

// notIssuer refuses the certificate of an issuer, which would go on to issue: issuer/:ref/revoke is for those.
func (c *call) notIssuer(cert *x509.Certificate) error {
	if !cert.IsCA {
		return nil
	}
	issuers, err := c.a.Issuers(c.ctx())
	if err != nil {
		return err
	}
	for _, issuer := range issuers {
		if issuer.Certificate().Equal(cert) {
			return refuse("certificate %s is that of the issuer %s; use issuer/%s/revoke", pki.FormatSerial(cert.SerialNumber), issuer.ID, issuer.ID)
		}
	}
	return nil
}
