package httpapi

import (
	"errors"
	"net/http"

	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/pki"
)

// certRoutes are the paths of certificates that were issued, and of the default issuer's.
var certRoutes = []route{
	{path: "certs", list: listCerts},
	{path: "certs/detailed", list: listCertsDetailed},
	{path: "certs/revoked", list: listRevoked},
	{path: "cert/ca", get: certCA, public: true},
	{path: "cert/ca/raw", get: rawCA, public: true},
	{path: "cert/ca/raw/pem", get: pemCA, public: true},
	{path: "cert/ca_chain", get: certChain, public: true},
	{path: "cert/:serial", get: readCert, public: true},
	{path: "cert/:serial/raw", get: rawCert, public: true},
	{path: "cert/:serial/raw/pem", get: pemCert, public: true},
	{path: "ca", get: rawCA, public: true},
	{path: "ca/pem", get: pemCA, public: true},
	{path: "ca_chain", get: rawChain, public: true},
	{path: "revoke", post: revoke},
	{path: "revoke-with-key", post: revokeWithKey},
}

func listCerts(c *call) (any, error) {
	after, limit, err := c.page()
	if err != nil {
		return nil, err
	}
	serials, err := c.a.Serials(c.ctx(), after, limit)
	if err != nil {
		return nil, err
	}
	return named(serials, nil)
}

func listRevoked(c *call) (any, error) {
	after, limit, err := c.page()
	if err != nil {
		return nil, err
	}
	serials, err := c.a.RevokedSerials(c.ctx(), after, limit)
	if err != nil {
		return nil, err
	}
	return named(serials, nil)
}

// maxDetailed bounds a page of certs/detailed.
const maxDetailed = 1000

func listCertsDetailed(c *call) (any, error) {
	after, limit, err := c.page()
	if err != nil {
		return nil, err
	}
	if limit == 0 || limit > maxDetailed {
		limit = maxDetailed
	}
	serials, err := c.a.Serials(c.ctx(), after, limit)
	if err != nil {
		return nil, err
	}
	info := object{}
	var there []string
	for _, serial := range serials {
		cert, err := c.a.Certificate(c.ctx(), serial)
		if errors.Is(err, store.ErrNotFound) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		x := cert.Certificate
		there = append(there, serial)
		info[serial] = object{
			"common_name": x.Subject.CommonName, "issuer": x.Issuer.String(), "issuer_id": cert.IssuerID, "role": cert.Role, "state": cert.State,
			"key_type": kindOf(x.PublicKey), "key_bits": bitsOf(x.PublicKey), "not_before": x.NotBefore, "not_after": x.NotAfter,
			"dns_names": list(x.DNSNames), "revoked": cert.Revocation != nil,
		}
	}
	if len(serials) == limit {
		c.warn("there may be more: go on with after=%s", serials[len(serials)-1])
	}
	return named(there, info)
}

// cert returns the certificate that the path names. One that is pending is not given out: its signature is none.
func (c *call) cert() (*pki.Certificate, error) {
	cert, err := c.a.Certificate(c.ctx(), c.param("serial"))
	if err != nil {
		return nil, unlessThere(err)
	}
	if cert.State == pki.StatePending {
		return nil, api.Errorf(http.StatusNotFound, "certificate %s is pending: it was about to be signed, and whether it was is not known", cert.Serial)
	}
	return cert, nil
}

func readCert(c *call) (any, error) {
	cert, err := c.cert()
	if err != nil {
		return nil, err
	}
	data := object{"certificate": text(pki.EncodePEM(cert.Certificate)), "revocation_time": 0, "revocation_time_rfc3339": "", "issuer_id": cert.IssuerID}
	if cert.Revocation != nil {
		revoked(data, cert.Revocation)
	}
	return data, nil
}

func rawCert(c *call) (any, error) {
	cert, err := c.cert()
	if err != nil {
		return nil, err
	}
	return raw{kind: typeCert, body: cert.Certificate.Raw, modified: cert.Issued}, nil
}

func pemCert(c *call) (any, error) {
	cert, err := c.cert()
	if err != nil {
		return nil, err
	}
	return raw{kind: typeChain, body: pki.EncodePEM(cert.Certificate), modified: cert.Issued}, nil
}

// usual returns the default issuer, or nil and no error if there is none.
func (c *call) usual() (*pki.Issuer, error) {
	issuer, err := c.a.Issuer(c.ctx(), "")
	if unlessThere(err) == errNothing {
		return nil, nil
	}
	return issuer, err
}

func rawCA(c *call) (any, error) {
	issuer, err := c.usual()
	if issuer == nil {
		return raw{}, err
	}
	return c.rawIssuer(issuer, typeCert, issuer.Certificate().Raw)
}

func pemCA(c *call) (any, error) {
	issuer, err := c.usual()
	if issuer == nil {
		return raw{}, err
	}
	return c.rawIssuer(issuer, typeChain, pki.EncodePEM(issuer.Certificate()))
}

// rawChain answers PEM under a type that isn't PEM's, as Vault does.
func rawChain(c *call) (any, error) {
	issuer, err := c.usual()
	if issuer == nil {
		return raw{}, err
	}
	return c.rawIssuer(issuer, typeCert, pki.EncodePEM(issuer.Chain...))
}

func certCA(c *call) (any, error) {
	issuer, err := c.usual()
	if err != nil || issuer == nil {
		return nil, errors.Join(err, errNothing)
	}
	return object{"certificate": text(pki.EncodePEM(issuer.Certificate())), "revocation_time": 0, "revocation_time_rfc3339": "", "issuer_id": issuer.ID}, nil
}

func certChain(c *call) (any, error) {
	issuer, err := c.usual()
	if err != nil || issuer == nil {
		return nil, errors.Join(err, errNothing)
	}
	chain := text(pki.EncodePEM(issuer.Chain...))
	return object{"certificate": chain, "ca_chain": chain, "revocation_time": 0, "revocation_time_rfc3339": "", "issuer_id": issuer.ID}, nil
}
