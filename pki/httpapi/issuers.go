package httpapi

import (
	"crypto/x509"
	"slices"
	"strings"

	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/pki"
)

// issuerRoutes are the paths of issuers.
var issuerRoutes = []route{
	{path: "issuers", list: listIssuers, public: true},
	{path: "issuers/import/bundle", post: importBundle},
	{path: "issuers/import/cert", post: importCertificates},
	{path: "config/ca", post: importBundle},
	{path: "config/issuers", get: readIssuersConfig, post: writeIssuersConfig},
	{path: "issuer/:ref", get: readIssuer, post: writeIssuer, patch: patchIssuer, remove: deleteIssuer},
	{path: "issuer/:ref/json", get: issuerJSON, public: true},
	{path: "issuer/:ref/der", get: issuerDER, public: true},
	{path: "issuer/:ref/pem", get: issuerPEM, public: true},
	{path: "issuer/:ref/revoke", post: revokeIssuer},
	{path: "issuer/:ref/reissue", post: reissue},
}

func listIssuers(c *call) (any, error) {
	issuers, err := c.a.Issuers(c.ctx())
	if err != nil {
		return nil, err
	}
	usual, _ := c.a.Issuer(c.ctx(), "")
	var ids []string
	info := object{}
	for _, issuer := range issuers {
		cert := issuer.Certificate()
		ids = append(ids, issuer.ID)
		info[issuer.ID] = object{
			"issuer_name": issuer.Name, "is_default": usual != nil && usual.ID == issuer.ID, "serial_number": pki.FormatSerial(cert.SerialNumber),
			"key_id": keyIDOf(cert), "key_type": kindOf(cert.PublicKey),
		}
	}
	return named(ids, info)
}

func readIssuersConfig(c *call) (any, error) {
	follows, err := c.a.DefaultFollowsLatest(c.ctx())
	if err != nil {
		return nil, err
	}
	id := ""
	issuer, err := c.a.Issuer(c.ctx(), "")
	switch {
	case err == nil:
		id = issuer.ID
	case unlessThere(err) != errNothing:
		return nil, err
	}
	return object{"default": id, "default_follows_latest_issuer": follows}, nil
}

func writeIssuersConfig(c *call) (any, error) {
	var ref string
	var follow, given bool
	err := c.read(func(f *api.Fields) {
		given = f.Has("default_follows_latest_issuer")
		f.String("default", &ref)
		f.Bool("default_follows_latest_issuer", &follow)
	})
	if err != nil {
		return nil, err
	}
	if ref != "" {
		if err := c.a.SetDefaultIssuer(c.ctx(), ref); err != nil {
			return nil, err
		}
	}
	if given {
		if err := c.a.SetDefaultFollowsLatest(c.ctx(), follow); err != nil {
			return nil, err
		}
	}
	return readIssuersConfig(c)
}

// chainOf returns the chain of an issuer in PEM, each with a line feed at its end as the certificate: the answers about issuers have it,
// and those about what was issued don't.
func chainOf(issuer *pki.Issuer) []string {
	var out []string
	for _, cert := range issuer.Chain {
		out = append(out, string(pki.EncodePEM(cert)))
	}
	return out
}

// usages returns what an issuer may do in the order of the original, which is that of the alphabet: clients compare the whole text.
func usages(u pki.IssuerUsage) string {
	names := strings.Split(u.String(), ",")
	slices.Sort(names)
	return strings.Join(names, ",")
}

// issuerData is an issuer as answers have it.
func (c *call) issuerData(issuer *pki.Issuer) (object, error) {
	data := object{
		"issuer_id": issuer.ID, "issuer_name": issuer.Name, "key_id": keyIDOf(issuer.Certificate()), "managed_key_id": issuer.Key,
		"certificate": string(pki.EncodePEM(issuer.Certificate())), "ca_chain": chainOf(issuer), "manual_chain": issuer.ManualChain,
		"leaf_not_after_behavior": issuer.LeafNotAfter, "usage": usages(issuer.Usage), "revocation_signature_algorithm": "",
		"issuing_certificates": list(issuer.URLs.Issuer), "crl_distribution_points": list(issuer.URLs.CRL), "ocsp_servers": list(issuer.URLs.OCSP),
		"delta_crl_distribution_points": list(issuer.URLs.DeltaCRL),
		"enable_aia_url_templating":     templated(issuer.URLs), "revoked": false,
	}
	if issuer.CRLAlgorithm != 0 {
		data["revocation_signature_algorithm"] = algorithmName(issuer.CRLAlgorithm)
	}
	gone, err := c.revokedIssuer(issuer)
	if gone != nil {
		revoked(data, gone)
		data["revoked"] = true
	}
	return data, err
}

// revokedIssuer returns when an issuer was revoked by an issuer of this mount; nil if it wasn't.
func (c *call) revokedIssuer(issuer *pki.Issuer) (*pki.Revocation, error) {
	cert, err := c.a.Certificate(c.ctx(), pki.FormatSerial(issuer.Certificate().SerialNumber))
	switch {
	case unlessThere(err) == errNothing:
		return nil, nil
	case err != nil:
		return nil, err
	case !cert.Certificate.Equal(issuer.Certificate()):
		return nil, nil
	}
	return cert.Revocation, nil
}

func list(items []string) []string { return append([]string{}, items...) }

// templated reports whether URLs have templates, which are always filled in.
func templated(u pki.URLs) bool {
	return strings.Contains(strings.Join(slices.Concat(u.Issuer, u.CRL, u.OCSP, u.DeltaCRL), " "), "{{")
}

// crlAlgorithms are the values of revocation_signature_algorithm, which are the names that crypto/x509 has for its constants.
var crlAlgorithms = map[string]x509.SignatureAlgorithm{
	"SHA256WithRSA": x509.SHA256WithRSA, "SHA384WithRSA": x509.SHA384WithRSA, "SHA512WithRSA": x509.SHA512WithRSA,
	"SHA256WithRSAPSS": x509.SHA256WithRSAPSS, "SHA384WithRSAPSS": x509.SHA384WithRSAPSS, "SHA512WithRSAPSS": x509.SHA512WithRSAPSS,
	"ECDSAWithSHA256": x509.ECDSAWithSHA256, "ECDSAWithSHA384": x509.ECDSAWithSHA384, "ECDSAWithSHA512": x509.ECDSAWithSHA512,
	"PureEd25519": x509.PureEd25519,
}

func algorithmName(alg x509.SignatureAlgorithm) string {
	for name, one := range crlAlgorithms {
		if one == alg {
			return name
		}
	}
	return alg.String()
}

func readIssuer(c *call) (any, error) {
	issuer, err := c.issuer()
	if err != nil {
		return nil, unlessThere(err)
	}
	return c.issuerData(issuer)
}

// takeIssuer takes what of an issuer can be changed; what is not there stays.
func takeIssuer(f *api.Fields, i *pki.Issuer) {
	f.String("issuer_name", &i.Name)
	f.String("leaf_not_after_behavior", &i.LeafNotAfter)
	if f.Has("usage") {
		var usages []string
		f.Strings("usage", &usages)
		i.Usage = 0
		for _, name := range usages {
			switch name {
			case "read-only":
			case "issuing-certificates":
				i.Usage |= pki.IssueCertificates
			case "crl-signing":
				i.Usage |= pki.SignCRLs
			case "ocsp-signing":
				i.Usage |= pki.SignOCSP
			default:
				f.Refuse("usage", "read-only, issuing-certificates, crl-signing and ocsp-signing")
			}
		}
	}
	if f.Has("revocation_signature_algorithm") {
		var name string
		f.String("revocation_signature_algorithm", &name)
		alg, ok := crlAlgorithms[name]
		if !ok && name != "" {
			f.Refuse("revocation_signature_algorithm", "SHA256WithRSA, SHA256WithRSAPSS, ECDSAWithSHA256, the same with SHA384 and SHA512, or PureEd25519")
		}
		i.CRLAlgorithm = alg
	}
	takeURLs(f, &i.URLs, "enable_aia_url_templating")
	f.Strings("manual_chain", &i.ManualChain)
	f.Unset("disable_critical_extension_checks", "disable_path_length_checks", "disable_name_checks", "disable_name_constraint_checks")
}

// writeIssuer sets all of an issuer: what isn't given has its default.
func writeIssuer(c *call) (any, error) {
	return c.changeIssuer(func(i *pki.Issuer) {
		i.Name, i.LeafNotAfter, i.Usage, i.CRLAlgorithm, i.URLs, i.ManualChain = "", pki.NotAfterErr, pki.AllIssuerUsages, 0, pki.URLs{}, nil
		if i.Certificate().KeyUsage&x509.KeyUsageCRLSign == 0 {
			i.Usage &^= pki.SignCRLs
		}
	})
}

// patchIssuer changes of an issuer what is given.
func patchIssuer(c *call) (any, error) { return c.changeIssuer(func(*pki.Issuer) {}) }

// changeIssuer changes an issuer that has what begin leaves, by the body, and nothing else that another process has changed meanwhile.
func (c *call) changeIssuer(begin func(*pki.Issuer)) (any, error) {
	return merge(c, func() (*pki.Issuer, uint64, error) {
		issuer, err := c.issuer()
		if err != nil {
			return nil, 0, err
		}
		return issuer, issuer.Version, nil
	}, func(issuer *pki.Issuer) (any, error) { return c.updateIssuer(issuer, begin) })
}

func (c *call) updateIssuer(issuer *pki.Issuer, begin func(*pki.Issuer)) (any, error) {
	next := *issuer
	begin(&next)
	asked := false
	err := c.read(func(f *api.Fields) {
		asked = f.Has("usage")
		takeIssuer(f, &next)
	})
	if err != nil {
		return nil, err
	}
	if gone, err := c.revokedIssuer(issuer); err != nil {
		return nil, err
	} else if gone != nil && next.Usage&pki.IssueCertificates != 0 {
		if asked {
			return nil, refuse("field usage: the issuer was revoked, and issues nothing any more")
		}
		next.Usage &^= pki.IssueCertificates
	}
	if issuer, err = c.a.UpdateIssuer(c.ctx(), next); err != nil {
		return nil, err
	}
	return c.issuerData(issuer)
}

func deleteIssuer(c *call) (any, error) {
	issuer, err := c.issuer()
	if unlessThere(err) == errNothing {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	usual, _ := c.a.Issuer(c.ctx(), "")
	if err := c.a.DeleteIssuer(c.ctx(), issuer.ID); err != nil {
		return nil, err
	}
	if usual != nil && usual.ID == issuer.ID {
		c.warn("deleted the default issuer %s; what refers to the default one fails until config/issuers names another", issuer.ID)
	}
	return nil, nil
}

func issuerJSON(c *call) (any, error) {
	issuer, err := c.issuer()
	if err != nil {
		return nil, unlessThere(err)
	}
	return object{"certificate": string(pki.EncodePEM(issuer.Certificate())), "ca_chain": chainOf(issuer), "issuer_id": issuer.ID, "issuer_name": issuer.Name}, nil
}

// The types of what is answered without the envelope (RFC 2585, Section 4; RFC 8555, Section 9.1).
const (
	typeCert  = "application/pkix-cert"
	typeChain = "application/pem-certificate-chain"
	typeCRL   = "application/pkix-crl"
	typePEM   = "application/x-pem-file"
)

// rawIssuer answers with something of an issuer.
func (c *call) rawIssuer(issuer *pki.Issuer, kind string, body []byte) (any, error) {
	at, err := c.modified(issuer, issuer.Created)
	if err != nil {
		return nil, err
	}
	return raw{kind, body, at}, nil
}

func issuerDER(c *call) (any, error) {
	issuer, err := c.issuer()
	if err != nil {
		return nil, unlessThere(err)
	}
	return c.rawIssuer(issuer, typeCert, issuer.Certificate().Raw)
}

func issuerPEM(c *call) (any, error) {
	issuer, err := c.issuer()
	if err != nil {
		return nil, unlessThere(err)
	}
	return c.rawIssuer(issuer, typeChain, pki.EncodePEM(issuer.Certificate()))
}

func revokeIssuer(c *call) (any, error) {
	reason := pki.ReasonUnspecified
	if err := c.read(func(f *api.Fields) { takeReason(f, &reason) }); err != nil {
		return nil, err
	}
	issuer, revocation, err := c.a.RevokeIssuer(c.ctx(), c.param("ref"), reason)
	if err != nil {
		return nil, err
	}
	data, err := c.issuerData(issuer)
	if err == nil && revocation == nil {
		c.warn("the issuer issues nothing any more; its certificate must be revoked by %s, which is not here", issuer.Certificate().Issuer)
	}
	return data, err
}

// reissue gives the issuer's key another certificate, as a further issuer.
func reissue(c *call) (any, error) {
	var in validity
	var name string
	var o format
	err := c.read(func(f *api.Fields) {
		o.take(f, false)
		f.Duration("ttl", &in.ttl)
		f.String("issuer_name", &name)
	})
	if err != nil {
		return nil, err
	}
	if in.ttl == 0 {
		return nil, refuse("field ttl: it is required")
	}
	issuer, err := c.a.Reissue(c.ctx(), c.param("ref"), name, in.ttl)
	if err != nil {
		return nil, err
	}
	return c.rootData(&o, issuer, nil)
}
