package httpapi

import (
	"crypto"
	"net"
	"time"

	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/pki"
)

// caFields are the fields of a CA certificate.
type caFields struct {
	subject
	names
	format
	validity
	maxPathLength       int
	permitted, excluded pki.Subtrees
	signatureBits       int
	usePSS              bool
}

// validity are the fields of a period.
type validity struct {
	ttl, before time.Duration
	after       time.Time
}

func (v *validity) take(f *api.Fields) {
	f.Duration("ttl", &v.ttl)
	f.Time("not_after", &v.after)
	f.Duration("not_before_duration", &v.before)
	if v.ttl != 0 && !v.after.IsZero() {
		f.Refuse("not_after", "nothing beside ttl: give one of them")
	}
}

// usualTTL is how long things are valid where neither request nor mount say.
const usualTTL = 768 * time.Hour

// period returns the first and the last second of validity. Both are part of it: an hour ends at 59:59 (RFC 5280, Section 4.1.2.5).
func (v *validity) period(c *call) (first, last time.Time) {
	now := c.opts.Now()
	if v.before != 0 {
		first = now.Add(-v.before)
	}
	if !v.after.IsZero() {
		return first, v.after
	}
	ttl := v.ttl
	if ttl == 0 {
		if ttl, _ = api.LeaseTimes(c.mount); ttl == 0 {
			ttl = usualTTL
		}
	}
	return first, now.Add(ttl - time.Second)
}

func (in *caFields) take(f *api.Fields) {
	in.subject.take(f)
	in.names.take(f)
	in.format.take(f, false)
	in.validity.take(f)
	in.maxPathLength = -1
	f.Int("max_path_length", &in.maxPathLength)
	if in.maxPathLength < -1 {
		f.Refuse("max_path_length", "0 or more, or -1 for what the issuer leaves")
	}
	for _, half := range []struct {
		prefix string
		trees  *pki.Subtrees
	}{{"permitted_", &in.permitted}, {"excluded_", &in.excluded}} {
		var networks []string
		f.Strings(half.prefix+"dns_domains", &half.trees.DNS)
		f.Strings(half.prefix+"email_addresses", &half.trees.Email)
		f.Strings(half.prefix+"uri_domains", &half.trees.URI)
		f.Strings(half.prefix+"ip_ranges", &networks)
		for _, text := range networks {
			ip, network, err := net.ParseCIDR(text)
			if err != nil || !ip.Equal(network.IP) {
				f.Refuse(half.prefix+"ip_ranges", "networks such as 10.0.0.0/8")
			}
			half.trees.IP = append(half.trees.IP, network)
		}
	}
	f.Int("signature_bits", &in.signatureBits)
	f.Bool("use_pss", &in.usePSS)
	var without bool
	f.Bool("exclude_cn_from_sans", &without) // no CA has its name there
	f.Unset("key_usage", "skid", "not_before", "not_before_bound", "not_after_bound")
}

// template returns what the fields say of a certificate that a key signs.
func (in *caFields) template(c *call, signer crypto.PublicKey) (pki.CATemplate, error) {
	if err := in.names.none(); err != nil {
		return pki.CATemplate{}, err
	}
	t := pki.CATemplate{Subject: in.subject.name(), Permitted: in.permitted, Excluded: in.excluded}
	if in.maxPathLength >= 0 {
		t.MaxPathLen = &in.maxPathLength
	}
	t.NotBefore, t.NotAfter = in.validity.period(c)
	var err error
	t.SignatureAlgorithm, err = algorithm(signer, in.signatureBits, in.usePSS)
	return t, err
}
