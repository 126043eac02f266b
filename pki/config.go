package pki

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// ClusterConfig are the values of templates in URLs: {{cluster_path}} and {{cluster_aia_path}}, http or https URLs.
type ClusterConfig struct {
	Path    string `json:"path"`
	AIAPath string `json:"aia_path"`
}

// CRLConfig says how long CRLs are valid.
type CRLConfig struct {
	Expiry time.Duration `json:"expiry"` // from one CRL until the next one must be there; 0 is 72 hours
	Grace  time.Duration `json:"grace"`  // a CRL is made anew when less than this is left of it; 0 is a sixth of Expiry
}

func (c CRLConfig) orDefault() CRLConfig {
	if c.Expiry == 0 {
		c.Expiry = 72 * time.Hour
	}
	if c.Grace == 0 {
		c.Grace = c.Expiry / 6
	}
	return c
}

type configRecord struct {
	URLs    URLs          `json:"urls"`
	Cluster ClusterConfig `json:"cluster"`
	CRL     CRLConfig     `json:"crl"`
	OCSP    OCSPConfig    `json:"ocsp"`
}

func (a *Authority) config(ctx context.Context) (c configRecord, err error) {
	_, err = a.readIf(ctx, "config/main", &c)
	return c, err
}

// SetURLs sets the URLs of issuers that have none of their own. They may have templates, as in [Issuer].
func (a *Authority) SetURLs(ctx context.Context, urls URLs) error {
	if _, err := urls.expand("id", ClusterConfig{"http://cluster.example/pki", "http://cluster.example/aia"}); err != nil {
		return err
	}
	return update(ctx, a, "config/main", func(c *configRecord, _ uint64) error {
		c.URLs = urls
		return nil
	})
}

// SetCluster sets the values of templates in URLs.
func (a *Authority) SetCluster(ctx context.Context, cluster ClusterConfig) error {
	for _, text := range []string{cluster.Path, cluster.AIAPath} {
		if text == "" {
			continue
		}
		if err := (&URLs{Issuer: []string{text}}).check(); err != nil {
			return err
		}
	}
	return update(ctx, a, "config/main", func(c *configRecord, _ uint64) error {
		c.Cluster = cluster
		return nil
	})
}

// SetCRLConfig says how long CRLs are valid. What is there stays as it is.
func (a *Authority) SetCRLConfig(ctx context.Context, crl CRLConfig) error {
	full := crl.orDefault()
	if full.Expiry < time.Minute || full.Grace < 0 || full.Grace >= full.Expiry {
		return invalid("CRL config: expiry %v, grace %v; it takes an expiry of a minute or more, and less grace than that", crl.Expiry, crl.Grace)
	}
	return update(ctx, a, "config/main", func(c *configRecord, _ uint64) error {
		c.CRL = crl
		return nil
	})
}

// URLs returns what SetURLs has set.
func (a *Authority) URLs(ctx context.Context) (URLs, error) {
	c, err := a.config(ctx)
	return c.URLs, err
}

// Cluster returns what SetCluster has set.
func (a *Authority) Cluster(ctx context.Context) (ClusterConfig, error) {
	c, err := a.config(ctx)
	return c.Cluster, err
}

// CRLConfig returns what SetCRLConfig has set, with the defaults in place of zeros.
func (a *Authority) CRLConfig(ctx context.Context) (CRLConfig, error) {
	c, err := a.config(ctx)
	return c.CRL.orDefault(), err
}

// urls returns what goes into certificates of an issuer.
func (a *Authority) urls(ctx context.Context, issuer *Issuer) (URLs, error) {
	c, err := a.config(ctx)
	if err != nil {
		return URLs{}, err
	}
	urls := issuer.URLs
	if len(urls.Issuer)+len(urls.OCSP)+len(urls.CRL) == 0 {
		urls = c.URLs
	}
	out, err := urls.expand(issuer.ID, c.Cluster)
	if err != nil {
		return URLs{}, invalid("issuer %s: %w", issuer.ID, plain(err))
	}
	return out, nil
}

// expand returns the URLs with values in place of templates.
func (u *URLs) expand(issuer string, cluster ClusterConfig) (URLs, error) {
	var out URLs
	replace := strings.NewReplacer("{{issuer_id}}", issuer, "{{cluster_path}}", cluster.Path, "{{cluster_aia_path}}", cluster.AIAPath)
	for _, list := range []struct {
		from []string
		to   *[]string
	}{{u.Issuer, &out.Issuer}, {u.OCSP, &out.OCSP}, {u.CRL, &out.CRL}} {
		for _, text := range list.from {
			if cluster.Path == "" && strings.Contains(text, "{{cluster_path}}") || cluster.AIAPath == "" && strings.Contains(text, "{{cluster_aia_path}}") {
				return out, invalid("URL %.80q: the cluster has no such path", text)
			}
			if text = replace.Replace(text); strings.ContainsAny(text, "{}") {
				return out, invalid("URL %.80q: unknown template; it takes {{issuer_id}}, {{cluster_path}} and {{cluster_aia_path}}", text)
			}
			*list.to = append(*list.to, text)
		}
	}
	return out, out.check()
}

// all yields the records under a prefix of the authority, with errors that say which.
func (a *Authority) all(ctx context.Context, prefix string) func(func(store.Record, error) bool) {
	return func(yield func(store.Record, error) bool) {
		for record, err := range store.All(ctx, a.store, a.prefix+prefix) {
			if err != nil {
				err = fmt.Errorf("pki: %s: %w", prefix, err)
			}
			if !yield(record, err) {
				return
			}
		}
	}
}
