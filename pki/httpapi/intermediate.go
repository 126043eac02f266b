package httpapi

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"

	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/pki"
)

// requestFields are the fields of a certificate signing request.
type requestFields struct {
	subject
	names
	format
	keyFields
	constraints   bool
	signatureBits int
	usePSS        bool
}

func (in *requestFields) take(f *api.Fields) {
	in.subject.take(f)
	in.names.take(f)
	in.format.take(f, false)
	in.keyFields.take(f)
	f.Bool("add_basic_constraints", &in.constraints)
	f.Int("signature_bits", &in.signatureBits)
	f.Bool("use_pss", &in.usePSS)
	var without bool
	f.Bool("exclude_cn_from_sans", &without) // no CA has its name there
}

// request makes a request for a key.
func (c *call) request(in *requestFields, k *chosen) (any, error) {
	if len(in.names.other) > 0 {
		return nil, refuse("field other_sans: requests can't have other names here")
	}
	var err error
	t := pki.CSRTemplate{Subject: in.subject.name(), DNSNames: in.names.dns, EmailAddresses: in.names.email, IPAddresses: in.names.ip, URIs: in.names.uri, CA: in.constraints}
	if t.SignatureAlgorithm, err = algorithm(k.pub, in.signatureBits, in.usePSS); err != nil {
		return nil, err
	}
	if err := c.a.CheckKeyName(c.ctx(), k.pub, in.keyFields.name); err != nil {
		return nil, err
	}
	if err := k.keep(c); err != nil {
		return nil, err
	}
	csr, err := c.a.CreateIntermediateCSR(c.ctx(), k.ref, t)
	if err != nil {
		k.drop(c)
		return nil, err
	}
	known, err := c.a.AddKey(c.ctx(), k.ref, in.keyFields.name)
	if err != nil {
		return nil, err
	}
	data := object{"csr": text(pki.EncodeCSR(csr)), "key_id": known.ID, "key_name": known.Name}
	if in.format.kind == "der" {
		data["csr"] = base64.StdEncoding.EncodeToString(csr)
	}
	if key := k.exported(); key != nil {
		return data, in.format.withKey(data, key)
	}
	return data, nil
}

func generateIntermediate(c *call) (any, error) {
	var in requestFields
	if err := c.readRequest(&in); err != nil {
		return nil, err
	}
	if in.commonName == "" {
		return nil, refuse("field common_name: it is required")
	}
	key, err := in.keyFields.find(c)
	if err != nil {
		return nil, err
	}
	return c.request(&in, key)
}

// crossSign makes a request for a key that an issuer has, with its subject unless another one is given: cross-certificates must
// keep both.
func crossSign(c *call) (any, error) {
	var in requestFields
	if err := c.readRequest(&in); err != nil {
		return nil, err
	}
	c.params = append(c.params, param{"type", "existing"})
	key, err := in.keyFields.find(c)
	if err != nil {
		return nil, err
	}
	known, err := c.a.Key(c.ctx(), in.keyFields.ref)
	if err != nil {
		return nil, err
	}
	issuers, err := c.a.Issuers(c.ctx())
	if err != nil {
		return nil, err
	}
	for _, issuer := range issuers {
		cert := issuer.Certificate()
		if keyIDOf(cert) != known.ID {
			continue
		}
		if in.subject.name().String() == "" {
			s := cert.Subject
			in.subject = subject{s.CommonName, s.SerialNumber, s.OrganizationalUnit, s.Organization, s.Country, s.Locality, s.Province, s.StreetAddress, s.PostalCode}
		}
		if got := in.subject.name().ToRDNSequence().String(); got != cert.Subject.ToRDNSequence().String() {
			c.warn("the subject %s is not that of the issuer %s, %s: its certificates won't stand for each other", got, issuer.ID, cert.Subject)
		}
		return c.request(&in, key)
	}
	return nil, refuse("key %s: no issuer has it, so that there is nothing to cross-sign; use intermediate/generate", known.ID)
}

// setSigned makes issuers of the certificates that came of a request.
func setSigned(c *call) (any, error) {
	var bundle string
	if err := c.read(func(f *api.Fields) { f.String("certificate", &bundle) }); err != nil {
		return nil, err
	}
	return c.importBundle("certificate", bundle)
}

// importCertificates makes issuers of certificates, and refuses private keys.
func importCertificates(c *call) (any, error) {
	var bundle string
	if err := c.read(func(f *api.Fields) { f.String("pem_bundle", &bundle) }); err != nil {
		return nil, err
	}
	return c.importBundle("pem_bundle", bundle)
}

// importBundle is importCertificates that takes private keys too, where the mount allows keys in software.
func importBundle(c *call) (any, error) {
	var bundle string
	if err := c.read(func(f *api.Fields) { f.String("pem_bundle", &bundle) }); err != nil {
		return nil, err
	}
	certs, keys, err := c.bundle("pem_bundle", bundle)
	if err != nil {
		return nil, err
	}
	var imported, existing []string
	var news []*chosen
	undo := func() {
		for i, k := range news {
			if err := c.a.DeleteKey(context.WithoutCancel(c.ctx()), imported[i]); err == nil { // no issuer has it
				k.drop(c)
			}
		}
	}
	for _, key := range keys {
		k := &chosen{pub: key.Public(), made: key}
		id, err := keyID(k.pub)
		if err == nil {
			_, err = c.a.Key(c.ctx(), id)
		}
		switch {
		case err == nil:
			existing = append(existing, id)
			continue
		case errors.Is(err, store.ErrNotFound):
			_, err = c.know(k, "")
		}
		if err != nil {
			undo()
			return nil, err
		}
		imported, news = append(imported, id), append(news, k)
	}
	data := object{"imported_issuers": []string{}, "existing_issuers": []string{}, "mapping": object{}}
	if len(certs) > 0 {
		if data, err = c.importIssuers(certs); err != nil {
			undo()
			return nil, err
		}
	}
	data["imported_keys"], data["existing_keys"] = list(imported), list(existing)
	return data, nil
}

func (c *call) importBundle(field, bundle string) (any, error) {
	certs, err := certificates(field, bundle)
	if err != nil {
		return nil, err
	}
	return c.importIssuers(certs)
}

func (c *call) importIssuers(certs []*x509.Certificate) (object, error) {
	out, err := c.a.ImportBundle(c.ctx(), "", certs)
	if err != nil {
		return nil, err
	}
	imported, existing, mapping := []string{}, []string{}, object{}
	for _, issuer := range out.Imported {
		imported = append(imported, issuer.ID)
		mapping[issuer.ID] = keyIDOf(issuer.Certificate())
	}
	for _, issuer := range out.Existing {
		existing = append(existing, issuer.ID)
		mapping[issuer.ID] = keyIDOf(issuer.Certificate())
	}
	for _, issuer := range out.Extended {
		c.warn("the chain of the issuer %s ends with %s now", issuer.ID, issuer.Chain[len(issuer.Chain)-1].Subject)
	}
	for _, cert := range out.Others {
		c.warn("%s (%s) is part of chains at most: no key that this mount knows is its own", cert.Subject, pki.FormatSerial(cert.SerialNumber))
	}
	return object{"imported_issuers": imported, "imported_keys": []string{}, "existing_issuers": existing, "existing_keys": []string{}, "mapping": mapping}, nil
}
