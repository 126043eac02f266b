package httpapi

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/pki"
)

// crlRoutes are the paths of revocation lists and of OCSP. Processes share what was revoked, so that every list is a unified one.
var crlRoutes = []route{
	{path: "crl", get: rawCRL(false), public: true},
	{path: "crl/pem", get: pemCRL(false), public: true},
	{path: "crl/delta", get: rawCRL(true), public: true},
	{path: "crl/delta/pem", get: pemCRL(true), public: true},
	{path: "crl/shard/:shard", get: rawCRL(false), public: true},
	{path: "crl/shard/:shard/delta", get: rawCRL(true), public: true},
	{path: "unified-crl", get: rawCRL(false), public: true},
	{path: "unified-crl/pem", get: pemCRL(false), public: true},
	{path: "unified-crl/delta", get: rawCRL(true), public: true},
	{path: "unified-crl/delta/pem", get: pemCRL(true), public: true},
	{path: "cert/crl", get: certCRL(false), public: true},
	{path: "cert/crl/raw", get: rawCRL(false), public: true},
	{path: "cert/crl/raw/pem", get: pemCRL(false), public: true},
	{path: "cert/delta-crl", get: certCRL(true), public: true},
	{path: "cert/delta-crl/raw", get: rawCRL(true), public: true},
	{path: "cert/delta-crl/raw/pem", get: pemCRL(true), public: true},
	{path: "issuer/:ref/crl", get: issuerCRL(false), public: true},
	{path: "issuer/:ref/crl/der", get: rawCRL(false), public: true},
	{path: "issuer/:ref/crl/pem", get: pemCRL(false), public: true},
	{path: "issuer/:ref/crl/delta", get: issuerCRL(true), public: true},
	{path: "issuer/:ref/crl/delta/der", get: rawCRL(true), public: true},
	{path: "issuer/:ref/crl/delta/pem", get: pemCRL(true), public: true},
	{path: "issuer/:ref/crl/shard/:shard", get: rawCRL(false), public: true},
	{path: "issuer/:ref/crl/shard/:shard/delta", get: rawCRL(true), public: true},
	{path: "issuer/:ref/unified-crl", get: issuerCRL(false), public: true},
	{path: "issuer/:ref/unified-crl/der", get: rawCRL(false), public: true},
	{path: "issuer/:ref/unified-crl/pem", get: pemCRL(false), public: true},
	{path: "issuer/:ref/unified-crl/delta", get: issuerCRL(true), public: true},
	{path: "issuer/:ref/unified-crl/delta/der", get: rawCRL(true), public: true},
	{path: "issuer/:ref/unified-crl/delta/pem", get: pemCRL(true), public: true},
	{path: "crl/rotate", get: rotate(false), post: rotate(false)},
	{path: "crl/rotate-delta", get: rotate(true), post: rotate(true)},
	{path: "ocsp", post: ocsp, open: true},
	{path: "ocsp/*request", get: ocsp, public: true},
	{path: "unified-ocsp", post: ocsp, open: true},
	{path: "unified-ocsp/*request", get: ocsp, public: true},
}

// publishedCRL is a list of an issuer, and when the path began to lead to it.
type publishedCRL struct {
	*pki.CRL
	modified time.Time
}

// crl returns the list that the path names, or nil and no error if it is of the default issuer and there is none.
func (c *call) crl(delta bool) (*publishedCRL, error) {
	scope := pki.CRLScope{Delta: delta}
	if text := c.param("shard"); text != "" {
		var err error
		if scope.Shard, err = strconv.Atoi(text); err != nil || scope.Shard < 1 {
			return nil, refuse("shard %.20q: it takes a number from 1 on", text)
		}
	}
	issuer, err := c.issuer()
	if unlessThere(err) == errNothing && c.param("ref") == "" {
		return nil, nil
	}
	if err != nil {
		return nil, unlessThere(err)
	}
	crl, err := c.a.ScopedCRL(c.ctx(), issuer.ID, scope)
	if err != nil {
		return nil, unlessThere(err)
	}
	if crl.Stale != nil {
		c.opts.Logger.WarnContext(c.ctx(), "pki/httpapi: a CRL is not the newest", "issuer", issuer.ID, "number", crl.Number, "error", crl.Stale)
	}
	at, err := c.modified(issuer, crl.ThisUpdate)
	return &publishedCRL{crl, at}, err
}

func rawCRL(delta bool) action {
	return func(c *call) (any, error) {
		crl, err := c.crl(delta)
		if crl == nil || err != nil {
			return raw{}, err
		}
		return raw{typeCRL, crl.DER, crl.modified}, nil
	}
}

func pemCRL(delta bool) action {
	return func(c *call) (any, error) {
		crl, err := c.crl(delta)
		if crl == nil || err != nil {
			return raw{}, err
		}
		return raw{typePEM, pki.EncodeCRL(crl.DER), crl.modified}, nil
	}
}

func certCRL(delta bool) action {
	return func(c *call) (any, error) {
		crl, err := c.crl(delta)
		if err != nil || crl == nil {
			return nil, errors.Join(err, errNothing)
		}
		return object{"certificate": text(pki.EncodeCRL(crl.DER)), "revocation_time": 0, "revocation_time_rfc3339": "", "issuer_id": ""}, nil
	}
}

func issuerCRL(delta bool) action {
	return func(c *call) (any, error) {
		crl, err := c.crl(delta)
		if err != nil || crl == nil {
			return nil, errors.Join(err, errNothing)
		}
		return object{"crl": string(pki.EncodeCRL(crl.DER)), "crl_number": crl.Number}, nil
	}
}

func rotate(delta bool) action {
	return func(c *call) (any, error) { return c.rotateCRLs(delta) }
}

// rotateCRLs makes the next list of each issuer. One whose key is out of reach keeps none of the others from having its own.
func (c *call) rotateCRLs(delta bool) (any, error) {
	if err := c.nothing(); err != nil {
		return nil, err
	}
	issuers, err := c.a.Issuers(c.ctx())
	if err != nil {
		return nil, err
	}
	config, err := c.a.CRLConfig(c.ctx())
	if err != nil {
		return nil, err
	}
	if delta && !config.Delta {
		return nil, refuse("crl/rotate-delta: there are no delta CRLs; config/crl enables them (auto_rebuild, enable_delta)")
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
		if err := c.rotateLists(issuer.ID, delta, config.Shards); err != nil {
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

// rotateLists makes the next lists of an issuer: the complete one, or the delta to it, and those of its shards. What is wrong with one
// shard is wrong with all of them, unless the store has lost something of it.
func (c *call) rotateLists(issuer string, delta bool, shards int) error {
	var errs []error
	for shard := range shards + 1 {
		_, err := c.a.RotateScopedCRL(c.ctx(), issuer, pki.CRLScope{Shard: shard, Delta: delta})
		errs = append(errs, err)
		if err != nil && !errors.Is(err, store.ErrCorrupt) {
			break
		}
	}
	return errors.Join(errs...)
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
