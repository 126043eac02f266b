package httpapi

import (
	"crypto"
	"errors"
	"net/http"
	"slices"
	"time"

	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/pki"
)

// leafRoutes are the paths that make certificates of servers, clients and people.
var leafRoutes = []route{
	{path: "issue/:role", post: issue},
	{path: "issuer/:ref/issue/:role", post: issue},
	{path: "sign/:role", post: sign},
	{path: "issuer/:ref/sign/:role", post: sign},
	{path: "sign-verbatim", post: signVerbatim},
	{path: "sign-verbatim/:role", post: signVerbatim},
	{path: "issuer/:ref/sign-verbatim", post: signVerbatim},
	{path: "issuer/:ref/sign-verbatim/:role", post: signVerbatim},
}

// leafFields are the fields of a certificate under a role.
type leafFields struct {
	pki.IssueRequest
	names
	format
}

func (in *leafFields) take(f *api.Fields) {
	in.names.take(f)
	in.format.take(f, true)
	f.String("common_name", &in.CommonName)
	f.Duration("ttl", &in.TTL)
	f.Time("not_after", &in.NotAfter)
	f.Bool("exclude_cn_from_sans", &in.ExcludeCNFromSANs)
	f.String("serial_number", &in.SerialNumber)
	f.Strings("user_ids", &in.UserIDs)
	f.Unset("cert_metadata", "not_before")
	in.AltNames = slices.Concat(in.names.dns, in.names.email)
	in.IPAddresses, in.URIs, in.OtherNames = in.names.ip, in.names.uri, in.names.other
}

// role returns the role that the path names. That there is none is a mistake of the request.
func (c *call) role() (pki.Role, error) {
	name := c.param("role")
	role, err := c.a.Role(c.ctx(), name)
	if errors.Is(err, store.ErrNotFound) {
		return role, refuse("unknown role: %.140s", name)
	}
	return role, err
}

// lease fills in and bounds the time of a certificate with those of the mount, where the role has none.
func (c *call) lease(role *pki.Role, ttl *time.Duration, after time.Time) error {
	usual, longest := api.LeaseTimes(c.mount)
	if *ttl == 0 && after.IsZero() && role.TTL == 0 && role.NotAfter.IsZero() {
		bound := time.Duration(role.MaxTTL)
		if bound == 0 {
			bound = longest
		}
		switch {
		case usual != 0:
			*ttl = usual
		case bound != 0 && bound < usualTTL:
			*ttl = bound
		}
		if bound != 0 && *ttl > bound {
			*ttl = bound
		}
	}
	if longest == 0 || role.MaxTTL != 0 {
		return nil
	}
	span, end := *ttl, after
	if span == 0 && end.IsZero() {
		span, end = time.Duration(role.TTL), role.NotAfter
	}
	if span > longest || !end.IsZero() && end.After(c.opts.Now().Add(longest)) {
		return refuse("field ttl: the mount takes at most %v (max_lease_ttl)", longest)
	}
	return nil
}

func issue(c *call) (any, error) {
	return c.leaf(false, func(in *leafFields, _ string) (*pki.Issued, crypto.Signer, error) {
		pair, err := c.a.Issue(c.ctx(), c.param("role"), in.IssueRequest)
		if err != nil {
			return nil, nil, err
		}
		return pair.Issued, pair.Key, nil
	})
}

func sign(c *call) (any, error) {
	return c.leaf(true, func(in *leafFields, csr string) (*pki.Issued, crypto.Signer, error) {
		issued, err := c.a.Sign(c.ctx(), c.param("role"), []byte(csr), in.IssueRequest)
		return issued, nil, err
	})
}

// leaf makes a certificate under a role.
func (c *call) leaf(request bool, do func(*leafFields, string) (*pki.Issued, crypto.Signer, error)) (any, error) {
	role, err := c.role()
	if err != nil {
		return nil, err
	}
	var in leafFields
	var csr string
	err = c.read(func(f *api.Fields) {
		in.take(f)
		if request {
			f.String("csr", &csr)
		}
	})
	if err != nil {
		return nil, err
	}
	if request && csr == "" {
		return nil, refuse("field csr: it is required")
	}
	if err := c.lease(&role, &in.TTL, in.NotAfter); err != nil {
		return nil, err
	}
	in.Issuer = c.param("ref")
	issued, key, err := do(&in, csr)
	if err != nil {
		return nil, err
	}
	return in.format.issued(issued.Certificate, issued.Chain, key)
}

func signVerbatim(c *call) (any, error) {
	if !c.allows(OptionVerbatim) {
		return nil, api.Errorf(http.StatusForbidden, "sign-verbatim: this mount doesn't allow it (option %s): it issues what requests ask for, under no rules", OptionVerbatim)
	}
	req := pki.VerbatimRequest{Role: c.param("role"), Issuer: c.param("ref")}
	role := pki.NewRole("verbatim")
	if req.Role != "" {
		var err error
		if role, err = c.role(); err != nil {
			return nil, err
		}
	}
	var o format
	var csr string
	err := c.read(func(f *api.Fields) {
		o.take(f, true)
		f.String("csr", &csr)
		f.Duration("ttl", &req.TTL)
		f.Time("not_after", &req.NotAfter)
		if c.param("ref") == "" {
			f.String("issuer_ref", &req.Issuer)
		}
		f.Unset("key_usage", "ext_key_usage", "ext_key_usage_oids", "signature_bits", "use_pss", "user_ids", "basic_constraints_valid_for_non_ca",
			"not_before_duration", "cert_metadata", "alt_names", "ip_sans", "uri_sans", "other_sans", "common_name")
	})
	if err != nil {
		return nil, err
	}
	if err := c.lease(&role, &req.TTL, req.NotAfter); err != nil {
		return nil, err
	}
	issued, err := c.verbatim.SignVerbatim(c.ctx(), []byte(csr), req)
	if err != nil {
		return nil, err
	}
	return o.issued(issued.Certificate, issued.Chain, nil)
}
