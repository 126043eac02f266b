package pki

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// ClusterConfig are the values of templates in URLs: {{cluster_path}} and {{cluster_aia_path}}, http or https URLs.
type ClusterConfig struct {
	Path    string `json:"path"`
	AIAPath string `json:"aia_path"`
}

// CRLConfig says which CRLs there are, and how long they are valid.
type CRLConfig struct {
	Expiry time.Duration `json:"expiry"` // from one CRL until the next one must be there; 0 is 72 hours
	Grace  time.Duration `json:"grace"`  // a CRL is made anew when less than this is left of it; 0 is a sixth of Expiry

	// AutoRebuild says that a complete CRL is made only when it is due by Grace, and not for every revocation as well.
	AutoRebuild bool `json:"auto_rebuild"`

	// Delta says that there are delta CRLs, which takes AutoRebuild. URLs.DeltaCRL then goes into certificates and complete CRLs.
	Delta         bool          `json:"delta"`
	DeltaInterval time.Duration `json:"delta_interval"` // the least time from one delta CRL to the next; 0 is 15 minutes

	// Shards divides certificates, by serial number, among that many CRLs (RFC 5280, Section 5.2.5), so that none of them is
	// long; at most MaxShards. 0 is one CRL for all. URLs.CRL and URLs.DeltaCRL must have {{shard}} then, which a
	// certificate has the number of its shard for. A shard's CRL names its URLs, so that these must not be changed while
	// there are certificates that have them. More or fewer shards count for new certificates; the others keep theirs.
	// 0 doesn't go with such URLs any more; 1 does. A certificate that names no CRL is in the list of everything.
	Shards int `json:"shards"`
}

// MaxShards is the most CRLs that the certificates of an issuer can be divided among.
const MaxShards = 10_000

// deltaIntervals is how many of them a delta CRL is valid for.
const deltaIntervals = 4

func (c CRLConfig) orDefault() CRLConfig {
	if c.Expiry == 0 {
		c.Expiry = 72 * time.Hour
	}
	if c.Grace == 0 {
		c.Grace = c.Expiry / 6
	}
	if c.DeltaInterval == 0 {
		c.DeltaInterval = 15 * time.Minute
	}
	return c
}

func (c CRLConfig) check() error {
	full := c.orDefault()
	switch {
	case full.Expiry < time.Minute || full.Grace < 0 || full.Grace >= full.Expiry:
		return invalid("CRL config: expiry %v, grace %v; it takes an expiry of a minute or more, and less grace than that", c.Expiry, c.Grace)
	case c.Delta && !c.AutoRebuild:
		return invalid("CRL config: delta CRLs take auto_rebuild: a complete CRL for every revocation leaves nothing to them")
	case full.DeltaInterval < time.Second || c.Delta && full.DeltaInterval >= full.Expiry:
		return invalid("CRL config: delta interval %v; it takes a second or more, and less than the expiry, %v", c.DeltaInterval, full.Expiry)
	case c.Shards < 0 || c.Shards > MaxShards:
		return invalid("CRL config: %d shards; it takes 0 to %d", c.Shards, MaxShards)
	}
	return nil
}

type configRecord struct {
	URLs    URLs          `json:"urls"`
	Cluster ClusterConfig `json:"cluster"`
	CRL     CRLConfig     `json:"crl"`
	OCSP    OCSPConfig    `json:"ocsp"`
	Shards  int           `json:"shards,omitempty"` // the most that there ever were
}

// config returns the settings. They must not be modified.
func (a *Authority) config(ctx context.Context) (configRecord, error) {
	c, err := recallIf[configRecord](ctx, a, "config/main")
	if err != nil {
		return configRecord{}, err
	}
	return *c, nil
}

// Settings are what holds for all issuers of an authority. Zeros stand for defaults.
type Settings struct {
	URLs    URLs // of issuers that have none of their own; they may have templates, as in [Issuer]
	Cluster ClusterConfig
	CRL     CRLConfig
	OCSP    OCSPConfig
}

// UpdateSettings changes settings, all of them or none. change gets them as they are, and is called again if another process was
// faster, so that of two changes none is lost; its error ends the update. CRLs and OCSP answers that are there stay as they are.
func (a *Authority) UpdateSettings(ctx context.Context, change func(*Settings) error) error {
	ocsp := false
	err := update(ctx, a, "config/main", func(c *configRecord, _ uint64) error {
		s := Settings{c.URLs.clone(), c.Cluster, c.CRL, c.OCSP}
		if err := change(&s); err != nil {
			return err
		}
		if err := s.check(c); err != nil {
			return err
		}
		ocsp = s.OCSP != c.OCSP
		c.URLs, c.Cluster, c.CRL, c.OCSP, c.Shards = s.URLs, s.Cluster, s.CRL, s.OCSP, max(c.Shards, s.CRL.Shards)
		return nil
	})
	if ocsp { // also if whether they were stored is not known
		a.forgetOCSP()
	}
	return err
}

// check returns what is wrong with what is not as it was.
func (s *Settings) check(was *configRecord) error {
	if !reflect.DeepEqual(s.URLs, was.URLs) {
		if _, err := s.URLs.expand("id", ClusterConfig{"http://cluster.example/pki", "http://cluster.example/aia"}, 1); err != nil {
			return err
		}
	}
	for _, text := range []string{s.Cluster.Path, s.Cluster.AIAPath} {
		if text == "" || s.Cluster == was.Cluster {
			continue
		}
		if err := (&URLs{Issuer: []string{text}}).check(); err != nil {
			return err
		}
	}
	if s.CRL != was.CRL {
		if err := s.CRL.check(); err != nil {
			return err
		}
	}
	if s.OCSP != was.OCSP {
		return s.OCSP.check()
	}
	return nil
}

// SetURLs sets the URLs of issuers that have none of their own. They may have templates, as in [Issuer].
func (a *Authority) SetURLs(ctx context.Context, urls URLs) error {
	return a.UpdateSettings(ctx, func(s *Settings) error { s.URLs = urls; return nil })
}

// SetCluster sets the values of templates in URLs.
func (a *Authority) SetCluster(ctx context.Context, cluster ClusterConfig) error {
	return a.UpdateSettings(ctx, func(s *Settings) error { s.Cluster = cluster; return nil })
}

// SetCRLConfig says which CRLs there are, and how long they are valid. What is there stays as it is.
func (a *Authority) SetCRLConfig(ctx context.Context, crl CRLConfig) error {
	return a.SetRevocationConfig(ctx, &crl, nil)
}

// SetRevocationConfig is SetCRLConfig and SetOCSPConfig in one: both are set, or neither. What is nil stays.
func (a *Authority) SetRevocationConfig(ctx context.Context, crl *CRLConfig, ocsp *OCSPConfig) error {
	return a.UpdateSettings(ctx, func(s *Settings) error {
		if crl != nil {
			s.CRL = *crl
		}
		if ocsp != nil {
			s.OCSP = *ocsp
		}
		return nil
	})
}

// URLs returns what SetURLs has set.
func (a *Authority) URLs(ctx context.Context) (URLs, error) {
	c, err := a.config(ctx)
	return c.URLs.clone(), err
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

// place is where a certificate will be found in CRLs, and what it says of that.
type place struct {
	serial *big.Int
	shard  int
	urls   URLs
}

// place chooses the serial number of a certificate, with as many random bits or 0, and what depends on it.
func (a *Authority) place(ctx context.Context, issuer *Issuer, bits int) (*place, error) {
	c, err := a.config(ctx)
	if err != nil {
		return nil, err
	}
	p := new(place)
	if p.serial, err = serialOfBits(rand.Reader, bits); err != nil {
		return nil, err
	}
	p.shard = shardOf(p.serial, c.CRL.Shards)
	if p.urls, err = a.urlsOf(c, issuer, p.shard); err == nil && len(p.urls.CRL) == 0 {
		p.shard = 0 // what doesn't say where its list is belongs to that of all
	}
	return p, err
}

// urlsOf returns the URLs that go into what an issuer signs.
func (a *Authority) urlsOf(c configRecord, issuer *Issuer, shard int) (URLs, error) {
	urls := issuer.URLs
	if urls.none() {
		urls = c.URLs
	}
	if !c.CRL.Delta {
		urls.DeltaCRL = nil
	}
	if shard > 0 {
		for _, text := range slices.Concat(urls.CRL, urls.DeltaCRL) {
			if !strings.Contains(text, "{{shard}}") {
				return URLs{}, invalid("issuer %s: URL %.80q: there are shards, and it has no {{shard}}", issuer.ID, text)
			}
		}
	}
	out, err := urls.expand(issuer.ID, c.Cluster, shard)
	if err != nil {
		return URLs{}, invalid("issuer %s: %w", issuer.ID, plain(err))
	}
	return out, nil
}

// expand returns the URLs with values in place of templates.
func (u *URLs) expand(issuer string, cluster ClusterConfig, shard int) (URLs, error) {
	var out URLs
	values := []string{"{{issuer_id}}", issuer, "{{cluster_path}}", cluster.Path, "{{cluster_aia_path}}", cluster.AIAPath}
	if shard > 0 {
		values = append(values, "{{shard}}", strconv.Itoa(shard))
	}
	replace := strings.NewReplacer(values...)
	for _, list := range []struct {
		from []string
		to   *[]string
	}{{u.Issuer, &out.Issuer}, {u.OCSP, &out.OCSP}, {u.CRL, &out.CRL}, {u.DeltaCRL, &out.DeltaCRL}} {
		for _, text := range list.from {
			if cluster.Path == "" && strings.Contains(text, "{{cluster_path}}") || cluster.AIAPath == "" && strings.Contains(text, "{{cluster_aia_path}}") {
				return out, invalid("URL %.80q: the cluster has no such path", text)
			}
			if shard == 0 && strings.Contains(text, "{{shard}}") {
				return out, invalid("URL %.80q: there are no shards", text)
			}
			if text = replace.Replace(text); strings.ContainsAny(text, "{}") {
				return out, invalid("URL %.80q: unknown template; it takes {{issuer_id}}, {{cluster_path}}, {{cluster_aia_path}} and, for CRLs, {{shard}}", text)
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
