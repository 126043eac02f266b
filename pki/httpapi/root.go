package httpapi

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/pki"
)

// rootRoutes are the paths that make CAs and certificates of CAs.
var rootRoutes = []route{
	{path: "root", remove: deleteRoot, sudo: true},
	{path: "root/generate/:type", post: generateRoot},
	{path: "issuers/generate/root/:type", post: generateRoot},
	{path: "root/rotate/:type", post: rotateRoot},
	{path: "root/replace", post: replaceRoot},
	{path: "root/sign-intermediate", post: signIntermediate},
	{path: "issuer/:ref/sign-intermediate", post: signIntermediate},
	{path: "root/sign-self-issued", post: signSelfIssued, sudo: true},
	{path: "issuer/:ref/sign-self-issued", post: signSelfIssued, sudo: true},
	{path: "intermediate/generate/:type", post: generateIntermediate},
	{path: "issuers/generate/intermediate/:type", post: generateIntermediate},
	{path: "intermediate/cross-sign", post: crossSign},
	{path: "intermediate/set-signed", post: setSigned},
}

// rootFields are the fields of a root that is made.
type rootFields struct {
	caFields
	keyFields
	issuerName string
}

func (in *rootFields) take(f *api.Fields) {
	in.caFields.take(f)
	in.keyFields.take(f)
	f.String("issuer_name", &in.issuerName)
}

// prepare returns the key and the template of a root. A new key is kept once all that can be looked at before is right.
func (in *rootFields) prepare(c *call) (*chosen, pki.CATemplate, error) {
	var t pki.CATemplate
	k, err := in.keyFields.find(c)
	if err != nil {
		return nil, t, err
	}
	if t, err = in.caFields.template(c, k.pub); err != nil {
		return nil, t, err
	}
	if err := c.a.CheckKeyName(c.ctx(), k.pub, in.keyFields.name); err != nil {
		return nil, t, err
	}
	return k, t, k.keep(c)
}

func generateRoot(c *call) (any, error) {
	var in rootFields
	if err := c.read(in.take); err != nil {
		return nil, err
	}
	if in.commonName == "" {
		return nil, refuse("field common_name: it is required")
	}
	k, t, err := in.prepare(c)
	if err != nil {
		return nil, err
	}
	issuer, err := c.a.GenerateRoot(c.ctx(), k.ref, in.issuerName, t)
	if err != nil {
		k.drop(c)
		return nil, err
	}
	if err := in.keyFields.called(c, k); err != nil {
		return nil, err
	}
	return c.rootData(&in.format, issuer, k.exported())
}

// rootData is a root that was made, with its key if that is given out.
func (c *call) rootData(o *format, issuer *pki.Issuer, key crypto.Signer) (object, error) {
	data, err := o.issued(issuer.Certificate(), nil, key)
	if err != nil {
		return nil, err
	}
	data["issuing_ca"] = o.certificate(issuer.Certificate())
	data["issuer_id"], data["issuer_name"] = issuer.ID, issuer.Name
	known, err := c.a.KeyOf(c.ctx(), issuer)
	if err != nil {
		return nil, err
	}
	data["key_id"], data["key_name"] = known.ID, known.Name
	return data, nil
}

// rotateRoot makes the next root. Beside what Vault answers, the answer has the certificates of both roots by each other.
func rotateRoot(c *call) (any, error) {
	in := rootFields{issuerName: "next"}
	if err := c.read(in.take); err != nil {
		return nil, err
	}
	k, t, err := in.prepare(c)
	if err != nil {
		return nil, err
	}
	made, err := c.a.RotateRoot(c.ctx(), "default", k.ref, in.issuerName, t)
	if made == nil || made.Issuer == nil {
		k.drop(c)
		return nil, err
	}
	if err != nil {
		c.warn("the root was made, but not all certificates that join it with the old one: %v", err)
	}
	if err := in.keyFields.called(c, k); err != nil {
		return nil, err
	}
	data, err := c.rootData(&in.format, made.Issuer, k.exported())
	if err != nil {
		return nil, err
	}
	for name, cert := range map[string]*x509.Certificate{"new_by_old": made.NewByOld, "old_by_new": made.OldByNew} {
		if cert != nil {
			data[name] = in.format.certificate(cert)
		}
	}
	return data, nil
}

func replaceRoot(c *call) (any, error) {
	ref := "next"
	if err := c.read(func(f *api.Fields) { f.String("default", &ref) }); err != nil {
		return nil, err
	}
	if err := c.a.ReplaceRoot(c.ctx(), ref); err != nil {
		return nil, err
	}
	return readIssuersConfig(c)
}

// deleteRoot removes all issuers, and has the mount forget their keys, which stay in their key managers.
func deleteRoot(c *call) (any, error) {
	issuers, err := c.a.Issuers(c.ctx())
	if err != nil {
		return nil, err
	}
	for _, issuer := range issuers {
		if err := c.a.DeleteIssuer(c.ctx(), issuer.ID); err != nil {
			return nil, err
		}
	}
	keys, err := c.a.Keys(c.ctx())
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := c.a.DeleteKey(c.ctx(), key.ID); err != nil {
			return nil, err
		}
	}
	if len(issuers) > 0 {
		c.warn("removed %d issuers; their managed keys were not touched, and what they issued stays in the store", len(issuers))
	}
	return nil, nil
}

func signIntermediate(c *call) (any, error) {
	var in caFields
	var csr, keyID string
	var fromCSR bool
	ref := c.param("ref")
	err := c.read(func(f *api.Fields) {
		f.String("skid", &keyID)
		in.take(f)
		c.pass(f, "of the request, and not of the certificate for it", ofRequests)
		f.String("csr", &csr)
		f.Bool("use_csr_values", &fromCSR)
		var enforce bool
		f.Bool("enforce_leaf_not_after_behavior", &enforce) // no CA outlives its issuer here
		if c.param("ref") == "" {
			f.String("issuer_ref", &ref)
		}
	})
	if err != nil {
		return nil, err
	}
	issuer, err := c.a.Issuer(c.ctx(), ref)
	if err != nil {
		return nil, err
	}
	t, err := in.template(c, issuer.Certificate().PublicKey)
	if err != nil {
		return nil, err
	}
	switch {
	case fromCSR:
		t.Subject = (&subject{}).name()
	case in.commonName == "": // is the request's
		request, err := pki.ParseCSR([]byte(csr))
		if err != nil {
			return nil, err
		}
		if t.Subject.CommonName = request.Subject.CommonName; t.Subject.CommonName == "" {
			return nil, refuse("field common_name: it is required, unless the request has one or use_csr_values is set")
		}
	}
	if keyID != "" { // of another certificate for that key, as a rule
		if t.SubjectKeyID, err = hex.DecodeString(strings.ReplaceAll(keyID, ":", "")); err != nil {
			return nil, refuse("field skid: it takes hexadecimal digits")
		}
	}
	issued, err := c.a.SignIntermediate(c.ctx(), issuer.ID, []byte(csr), t)
	if err != nil {
		return nil, err
	}
	data, err := in.format.issued(issued.Certificate, issued.Chain, nil)
	if err != nil {
		return nil, err
	}
	// Of an intermediate, the chain begins with itself.
	data["ca_chain"] = append([]string{in.format.certificate(issued.Certificate)}, in.format.chain(issued.Chain)...)
	return data, nil
}

func signSelfIssued(c *call) (any, error) {
	var bundle string
	var matching bool
	ref := c.param("ref")
	err := c.read(func(f *api.Fields) {
		f.String("certificate", &bundle)
		f.Bool("require_matching_certificate_algorithms", &matching)
		if ref == "" {
			f.String("issuer_ref", &ref)
		}
	})
	if err != nil {
		return nil, err
	}
	cert, err := certificate("certificate", bundle)
	if err != nil {
		return nil, err
	}
	issuer, err := c.a.Issuer(c.ctx(), ref)
	if err != nil {
		return nil, err
	}
	if own := issuer.Certificate(); matching && own.PublicKeyAlgorithm != cert.PublicKeyAlgorithm {
		return nil, refuse("require_matching_certificate_algorithms: the key of the certificate is %s, and that of the issuer %s", cert.PublicKeyAlgorithm, own.PublicKeyAlgorithm)
	}
	signed, err := c.a.SignSelfIssued(c.ctx(), issuer.ID, cert, pki.CrossTemplate{})
	if err != nil {
		return nil, err
	}
	return object{"certificate": text(pki.EncodePEM(signed)), "issuing_ca": text(pki.EncodePEM(issuer.Certificate()))}, nil
}

// keyIDOf returns the id that the key of a certificate has here.
func keyIDOf(cert *x509.Certificate) string {
	sum, err := backend.Fingerprint(cert.PublicKey)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%x", sum)
}
