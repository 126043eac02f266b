package httpapi

import (
	"time"

	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/pki"
)

// responderRoutes are the paths of delegated OCSP responders, which Vault doesn't have.
var responderRoutes = []route{
	{path: "issuer/:ref/ocsp-responder", get: readResponder, post: writeResponder, remove: deleteResponder},
}

// responderFields are the fields of a responder.
type responderFields struct {
	subject
	format
	keyFields
	ttl           time.Duration
	signatureBits int
	usePSS        bool
}

func (in *responderFields) take(f *api.Fields) {
	in.subject.take(f)
	in.format.take(f, false)
	in.keyFields.take(f)
	f.Duration("ttl", &in.ttl)
	f.Int("signature_bits", &in.signatureBits)
	f.Bool("use_pss", &in.usePSS)
}

// find returns the key of a responder: a managed key, in whatever version is the newest at each renewal, or one that the mount knows, which
// stays at its version.
func (in *responderFields) find(c *call) (*chosen, error) {
	kind := "kms"
	if in.keyFields.ref != "" && in.managedName == "" && in.managedID == "" {
		kind = "existing"
	}
	c.params = append(c.params, param{"type", kind})
	return in.keyFields.find(c)
}

// responderData is a responder as answers have it.
func (c *call) responderData(o *format, issuer *pki.Issuer, r *pki.OCSPResponder) (object, error) {
	data, err := o.issued(r.Certificate, issuer.Chain, nil)
	if err != nil {
		return nil, err
	}
	data["issuer_id"], data["managed_key_ref"], data["managed_key_version"] = issuer.ID, r.Key.Name, r.Key.Version
	data["common_name"], data["key_id"], data["key_type"] = r.Certificate.Subject.CommonName, keyIDOf(r.Certificate), kindOf(r.Certificate.PublicKey)
	data["ttl"], data["signature_algorithm"] = int(r.Template.Validity/time.Second), ""
	if r.Template.SignatureAlgorithm != 0 {
		data["signature_algorithm"] = algorithmName(r.Template.SignatureAlgorithm)
	}
	return data, nil
}

func readResponder(c *call) (any, error) {
	issuer, err := c.issuer()
	if err != nil {
		return nil, unlessThere(err)
	}
	r, err := c.a.OCSPResponder(c.ctx(), issuer.ID)
	if err != nil {
		return nil, unlessThere(err)
	}
	return c.responderData(&format{kind: "pem", roots: true}, issuer, r)
}

// writeResponder certifies a key that answers in place of the issuer's from now on. It replaces the one that there was.
func writeResponder(c *call) (any, error) {
	var in responderFields
	if err := c.read(in.take); err != nil {
		return nil, err
	}
	issuer, err := c.issuer()
	if err != nil {
		return nil, err
	}
	k, err := in.find(c)
	if err != nil {
		return nil, err
	}
	t := pki.OCSPResponderTemplate{Subject: in.subject.name(), Validity: in.ttl}
	if t.SignatureAlgorithm, err = algorithm(k.pub, in.signatureBits, in.usePSS); err != nil {
		return nil, err
	}
	if err := c.a.CheckKeyName(c.ctx(), k.pub, in.keyFields.name); err != nil {
		return nil, err
	}
	r, err := c.a.SetOCSPResponder(c.ctx(), issuer.ID, k.ref, t)
	if err != nil {
		return nil, err
	}
	if err := in.keyFields.called(c, k); err != nil {
		return nil, err
	}
	return c.responderData(&in.format, issuer, r)
}

// deleteResponder has the issuer answer itself again. Clients don't ask whether the responder's certificate is revoked (RFC 6960,
// Section 4.2.2.2.1), so that it goes on to count elsewhere until it ends.
func deleteResponder(c *call) (any, error) {
	issuer, err := c.issuer()
	if unlessThere(err) == errNothing {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := c.a.OCSPResponder(c.ctx(), issuer.ID)
	if unlessThere(err) == errNothing {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := c.a.DeleteOCSPResponder(c.ctx(), issuer.ID); err != nil {
		return nil, err
	}
	c.warn("its certificate %s is valid until %s for whoever has its key; clients don't ask whether it is revoked",
		pki.FormatSerial(r.Certificate.SerialNumber), r.Certificate.NotAfter.UTC().Format(time.RFC3339))
	return nil, nil
}
