package httpapi

import (
	"errors"
	"net/http"

	"github.com/managedkeys/managedkeys/pki"
)

// crlRoutes are the paths of revocation lists and of OCSP.
var crlRoutes = []route{
	{path: "crl", get: rawCRL, public: true},
	{path: "crl/pem", get: pemCRL, public: true},
	{path: "cert/crl", get: certCRL, public: true},
	{path: "cert/crl/raw", get: rawCRL, public: true},
	{path: "cert/crl/raw/pem", get: pemCRL, public: true},
	{path: "issuer/:ref/crl", get: issuerCRL, public: true},
	{path: "issuer/:ref/crl/der", get: rawCRL, public: true},
	{path: "issuer/:ref/crl/pem", get: pemCRL, public: true},
	{path: "crl/rotate", get: rotateCRLs, post: rotateCRLs},
	{path: "ocsp", post: ocsp, open: true},
	{path: "ocsp/*request", get: ocsp, public: true},
}

// crl returns the list of the issuer that the path names, or nil and no error if that is the default one and there is none.
func (c *call) crl() (*pki.CRL, error) {
	issuer, err := c.issuer()
	if unlessThere(err) == errNothing && c.param("ref") == "" {
		return nil, nil
	}
	if err != nil {
		return nil, unlessThere(err)
	}
	crl, err := c.a.CRL(c.ctx(), issuer.ID)
	if err != nil {
		return nil, err
	}
	if crl.Stale != nil {
		c.opts.Logger.WarnContext(c.ctx(), "pki/httpapi: a CRL is not the newest", "issuer", issuer.ID, "number", crl.Number, "error", crl.Stale)
	}
	return crl, nil
}

func rawCRL(c *call) (any, error) {
	crl, err := c.crl()
	if crl == nil {
		return raw{}, err
	}
	return raw{typeCRL, crl.DER, crl.ThisUpdate}, nil
}

func pemCRL(c *call) (any, error) {
	crl, err := c.crl()
	if crl == nil {
		return raw{}, err
	}
	return raw{typePEM, pki.EncodeCRL(crl.DER), crl.ThisUpdate}, nil
}

func certCRL(c *call) (any, error) {
	crl, err := c.crl()
	if err != nil || crl == nil {
		return nil, errors.Join(err, errNothing)
	}
	return object{"certificate": text(pki.EncodeCRL(crl.DER)), "revocation_time": 0, "revocation_time_rfc3339": "", "issuer_id": ""}, nil
}

func issuerCRL(c *call) (any, error) {
	crl, err := c.crl()
	if err != nil || crl == nil {
		return nil, errors.Join(err, errNothing)
	}
	return object{"crl": text(pki.EncodeCRL(crl.DER)), "crl_number": crl.Number}, nil
}

// rotateCRLs makes the next list of each issuer. One whose key is out of reach keeps none of the others from having its own.
func rotateCRLs(c *call) (any, error) {
	if err := c.nothing(); err != nil {
		return nil, err
	}
	issuers, err := c.a.Issuers(c.ctx())
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool) // issuers with the same name and key have one list
	made := 0
	var errs []error
	for _, issuer := range issuers {
		cert := issuer.Certificate()
		who := string(cert.RawSubject) + string(cert.RawSubjectPublicKeyInfo)
		if issuer.Usage&pki.SignCRLs == 0 || seen[who] {
			continue
		}
		if _, err := c.a.RotateCRL(c.ctx(), issuer.ID); err != nil {
			c.warn("issuer %s: %v", issuer.ID, err)
			errs = append(errs, err)
			continue
		}
		seen[who] = true
		made++
	}
	if made == 0 && len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return object{"success": true}, nil
}

// ocsp answers requests about certificates: in the body of a POST, or in base64 in the path.
func ocsp(c *call) (any, error) {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner, u := *r, *r.URL
		u.Path, u.RawPath = "/"+c.param("request"), ""
		inner.URL = &u
		c.a.OCSPHandler().ServeHTTP(w, &inner)
	}), nil
}
