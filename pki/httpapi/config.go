package httpapi

import (
	"strconv"
	"time"

	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/pki"
)

// configRoutes are the paths of what is set for all issuers.
var configRoutes = []route{
	{path: "config/urls", get: readURLs, post: writeURLs},
	{path: "config/cluster", get: readCluster, post: writeCluster},
	{path: "config/crl", get: readCRLConfig, post: writeCRLConfig},
	{path: "config/acme", get: readACME, post: writeACME},
}

// readACME says that there is no ACME, to those who look whether it is on: "pki health-check" takes anything else for an old server.
func readACME(*call) (any, error) { return object{"enabled": false}, nil }

func writeACME(c *call) (any, error) {
	err := c.read(func(f *api.Fields) {
		var on bool
		if f.Bool("enabled", &on); on {
			f.Refuse("enabled", "false: there is no ACME here")
		}
		c.pass(f, "of ACME, which is off", []string{"allowed_issuers", "allowed_roles", "allow_role_ext_key_usage", "default_directory_policy", "dns_resolver", "eab_policy"})
	})
	if err != nil {
		return nil, err
	}
	return readACME(c)
}

// takeURLs takes URLs; lists that are not there stay. Templates are always filled in, so that those who don't want that must have none.
func takeURLs(f *api.Fields, u *pki.URLs, templating string) {
	f.Strings("issuing_certificates", &u.Issuer)
	f.Strings("crl_distribution_points", &u.CRL)
	f.Strings("ocsp_servers", &u.OCSP)
	f.Strings("delta_crl_distribution_points", &u.DeltaCRL)
	fill := true
	if f.Bool(templating, &fill); !fill && templated(*u) {
		f.Refuse(templating, "true, for URLs with {{…}}: those are always filled in")
	}
}

func readURLs(c *call) (any, error) {
	u, err := c.a.URLs(c.ctx())
	if err != nil {
		return nil, err
	}
	return object{"issuing_certificates": list(u.Issuer), "crl_distribution_points": list(u.CRL), "ocsp_servers": list(u.OCSP),
		"delta_crl_distribution_points": list(u.DeltaCRL), "enable_templating": templated(u)}, nil
}

func writeURLs(c *call) (any, error) {
	err := c.a.UpdateSettings(c.ctx(), func(s *pki.Settings) error {
		return c.read(func(f *api.Fields) { takeURLs(f, &s.URLs, "enable_templating") })
	})
	if err != nil {
		return nil, err
	}
	return readURLs(c)
}

func readCluster(c *call) (any, error) {
	cluster, err := c.a.Cluster(c.ctx())
	if err != nil {
		return nil, err
	}
	return object{"path": cluster.Path, "aia_path": cluster.AIAPath}, nil
}

func writeCluster(c *call) (any, error) {
	err := c.a.UpdateSettings(c.ctx(), func(s *pki.Settings) error {
		return c.read(func(f *api.Fields) {
			f.String("path", &s.Cluster.Path)
			f.String("aia_path", &s.Cluster.AIAPath)
		})
	})
	if err != nil {
		return nil, err
	}
	return readCluster(c)
}

// span returns a time as people write it: 72h, 90m, 45s.
func span(d time.Duration) string {
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d%unit.size == 0 && d != 0 {
			return strconv.FormatInt(int64(d/unit.size), 10) + unit.name
		}
	}
	return d.String()
}

func readCRLConfig(c *call) (any, error) {
	crl, err := c.a.CRLConfig(c.ctx())
	if err != nil {
		return nil, err
	}
	ocsp, err := c.a.OCSPConfig(c.ctx())
	if err != nil {
		return nil, err
	}
	return object{
		"expiry": span(crl.Expiry), "disable": false, "auto_rebuild": crl.AutoRebuild, "auto_rebuild_grace_period": span(crl.Grace),
		"ocsp_disable": ocsp.Disabled, "ocsp_expiry": span(ocsp.Validity), "ocsp_nonce": ocsp.Nonce, "ocsp_store": ocsp.Store, "ocsp_presign": ocsp.Presign,
		"enable_delta": crl.Delta, "delta_rebuild_interval": span(crl.DeltaInterval), "shards": crl.Shards, "max_crl_entries": -1,
		"unified_crl": true, "unified_crl_on_existing_paths": true, "cross_cluster_revocation": true,
	}, nil
}

// writeCRLConfig changes what is given. Lists that are due are always made by themselves; auto_rebuild says that they are not made for
// each revocation too. Processes share a store, so that what Vault does for clusters is always done.
func writeCRLConfig(c *call) (any, error) {
	entries, unified := -1, true
	err := c.a.UpdateSettings(c.ctx(), func(s *pki.Settings) error {
		expiry, validity, grace := s.CRL.Expiry, s.OCSP.Validity, false
		err := c.read(func(f *api.Fields) {
			grace = f.Has("auto_rebuild_grace_period")
			f.Duration("expiry", &s.CRL.Expiry)
			f.Duration("auto_rebuild_grace_period", &s.CRL.Grace)
			f.Bool("auto_rebuild", &s.CRL.AutoRebuild)
			f.Bool("enable_delta", &s.CRL.Delta)
			f.Duration("delta_rebuild_interval", &s.CRL.DeltaInterval)
			f.Int("shards", &s.CRL.Shards)
			f.Int("max_crl_entries", &entries)
			for _, name := range []string{"cross_cluster_revocation", "unified_crl", "unified_crl_on_existing_paths"} {
				f.Bool(name, &unified)
			}
			f.Bool("ocsp_disable", &s.OCSP.Disabled)
			f.Duration("ocsp_expiry", &s.OCSP.Validity)
			f.Bool("ocsp_nonce", &s.OCSP.Nonce)
			f.Bool("ocsp_store", &s.OCSP.Store)
			f.Bool("ocsp_presign", &s.OCSP.Presign)
			f.Unset("disable", "allow_expired_cert_revocation")
		})
		if s.CRL.Expiry != expiry && !grace {
			s.CRL.Grace = 0 // its default goes with the expiry
		}
		if s.OCSP.Validity != validity {
			s.OCSP.MaxAge = 0
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if entries > 0 {
		c.warn("max_crl_entries: lists have no bound; shards divides them")
	}
	if !unified {
		c.warn("unified_crl and cross_cluster_revocation: processes share one store, so that it is always so")
	}
	return readCRLConfig(c)
}
