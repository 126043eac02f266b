package pki

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// serialKey is a serial number, for maps.
type serialKey [20]byte

func keyOfSerial(serial *big.Int) (k serialKey) {
	serial.FillBytes(k[:])
	return k
}

// certificateSweep is how far the look at certificates is. A pass finds what passes a threshold after from and up to to, or has
// passed one by to if from is zero; it reads those days of the index that this can be in, and then some of what stands from earlier
// passes. One that fails is gone on with, so that nothing is told twice.
type certificateSweep struct {
	from, to time.Time
	underWay bool
	days     []int64 // that are left
	after    string  // the last key that was read of the first of them
	pass     uint32
	told     map[time.Duration]int // events by threshold

	followed
	renewals map[string]time.Time // by identity: the end of the last certificate
}

// maxRenewals bounds what is read to find out whether a certificate was replaced, and maxIdentities what is remembered of that in
// a pass.
const (
	maxRenewals   = 1000
	maxIdentities = 10_000
)

// checkCertificates makes or goes on with a pass, if it is time for that.
func (w *ExpiryWatch) checkCertificates(ctx context.Context, issuers []*Issuer) error {
	s, now := &w.sweep, w.a.engine.now()
	if !s.underWay {
		switch {
		case s.to.Sub(now) > w.opts.CertificateInterval:
			s.to = now // the clock was wrong
		case !s.to.IsZero() && now.Sub(s.to) < w.opts.CertificateInterval:
			return nil
		}
		s.begin(now, w.opts.Thresholds)
	}
	own := make(map[serialKey]*x509.Certificate, len(issuers))
	names := make(map[string]string, len(issuers))
	for _, i := range issuers {
		names[i.ID] = i.Name
		if cert := i.Certificate(); cert.SerialNumber.BitLen() <= 160 && cert.SerialNumber.Sign() > 0 {
			own[keyOfSerial(cert.SerialNumber)] = cert
		}
	}
	v := &visit{w: w, own: own, names: names, since: time.Now()}
	for len(s.days) > 0 {
		if err := v.day(ctx, s.days[0]); err != nil {
			return err
		}
		s.days, s.after = s.days[1:], ""
	}
	if err := v.again(ctx); err != nil {
		return err
	}
	s.underWay, s.renewals = false, nil
	w.sum(ctx)
	return nil
}

// begin begins a pass.
func (s *certificateSweep) begin(now time.Time, thresholds []time.Duration) {
	s.from, s.to, s.underWay, s.after = s.to, now, true, ""
	s.pass++
	s.told, s.renewals = make(map[time.Duration]int), make(map[string]time.Time)
	s.days = nil
	if s.from.IsZero() {
		last := s.to
		if len(thresholds) > 0 {
			last = last.Add(thresholds[0])
		}
		s.add(s.to.Add(-expiryLookback), last)
	} else {
		s.add(s.from, s.to)
		for _, t := range thresholds {
			s.add(s.from.Add(t), s.to.Add(t))
		}
	}
	slices.Sort(s.days)
	s.days = slices.Compact(s.days)
}

func (s *certificateSweep) add(first, last time.Time) {
	for day := dayOf(first); day <= dayOf(last); day++ {
		s.days = append(s.days, day)
	}
}

// stages returns what a certificate has passed before the pass, and by now.
func (s *certificateSweep) stages(notAfter time.Time, life time.Duration, thresholds []time.Duration) (before, now time.Duration) {
	before, now = notYet, stageOf(notAfter.Sub(s.to), life, thresholds)
	if !s.from.IsZero() {
		before = stageOf(notAfter.Sub(s.from), life, thresholds)
	} else if notAfter.Before(s.to.Add(-expiryLookback)) {
		before = 0
	}
	return before, now
}

// visit looks at certificates.
type visit struct {
	w     *ExpiryWatch
	own   map[serialKey]*x509.Certificate // of issuers, which are told of as such
	names map[string]string               // of issuers

	looked int // at certificates
	since  time.Time
}

// day looks at the certificates that end on a day.
func (v *visit) day(ctx context.Context, day int64) error {
	s, a := &v.w.sweep, v.w.a
	prefix := a.prefix + expiryIndex(day)
	for {
		page, err := a.store.List(ctx, prefix, s.after, store.MaxPage)
		if err != nil {
			return fmt.Errorf("pki: expiry watch: %w", err)
		}
		for _, record := range page.Records {
			// Most of a day is outside of what the pass is about, and is seen to be so without being read.
			skip := false
			if end, err := strconv.ParseInt(string(record.Value), 10, 64); err == nil {
				before, now := s.stages(time.Unix(end, 0), maxThreshold*2, v.w.opts.Thresholds)
				skip = !further(now, before)
			}
			if !skip {
				if err := v.pause(ctx); err != nil {
					return err
				}
				cert, err := a.indexed(ctx, record)
				if err == nil {
					err = v.certificate(ctx, cert)
				}
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					return err
				}
			}
			s.after = record.Key
		}
		if !page.More || len(page.Records) == 0 {
			return nil
		}
	}
}

// certificate tells of a certificate, if there is something new to tell.
func (v *visit) certificate(ctx context.Context, c *Certificate) error {
	s, cert := &v.w.sweep, c.Certificate
	before, now := s.stages(cert.NotAfter, cert.NotAfter.Sub(cert.NotBefore), v.w.opts.Thresholds)
	if !further(now, before) {
		return nil
	}
	if ok, err := v.stands(ctx, c); !ok || err != nil {
		return err
	}
	if serial := keyOfSerial(cert.SerialNumber); now == 0 {
		delete(s.standing, serial)
	} else {
		s.follow(serial, cert.NotAfter.Unix(), s.pass, before != notYet)
	}
	s.told[now]++
	v.w.tell(ctx, ExpiryEvent{Kind: ExpiringCertificate, Threshold: now, Time: s.to, NotAfter: cert.NotAfter,
		IssuerID: c.IssuerID, IssuerName: v.names[c.IssuerID], Certificate: cert, Role: c.Role})
	return nil
}

// stands reports whether a certificate is one to tell of.
func (v *visit) stands(ctx context.Context, c *Certificate) (bool, error) {
	cert := c.Certificate
	if c.State != StateIssued || c.Revocation != nil {
		return false, nil
	}
	if own := v.own[keyOfSerial(cert.SerialNumber)]; own != nil && string(own.Raw) == string(cert.Raw) {
		return false, nil
	}
	if c.Role == "" && slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}) {
		return false, nil // of a delegated responder, or what was one
	}
	if cert.IsCA && string(cert.RawIssuer) == string(cert.RawSubject) {
		return false, nil // a root that is no issuer any more
	}
	last, err := v.lastLike(ctx, c)
	return !last.After(cert.NotAfter), err
}

// identity is equal for certificates that replace each other; it is empty for one without names.
func identity(c *Certificate) string {
	names := namesOf(c.Certificate)
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	parts := append([]string{c.Role, strconv.FormatBool(c.Certificate.IsCA)}, slices.Compact(names)...)
	if c.Certificate.IsCA {
		parts = append(parts, c.IssuerID, string(c.Certificate.RawSubject))
	}
	return strings.Join(parts, "\x00")
}

// lastLike returns the end of the last certificate that could replace c.
func (v *visit) lastLike(ctx context.Context, c *Certificate) (last time.Time, err error) {
	s, a, who := &v.w.sweep, v.w.a, identity(c)
	if who == "" {
		return last, nil
	}
	if last, ok := s.renewals[who]; ok {
		return last, nil
	}
	// The longest name is likely to have the fewest certificates.
	name := slices.MaxFunc(namesOf(c.Certificate), func(a, b string) int {
		return cmp.Or(len(a)-len(b), strings.Compare(a, b))
	})
	n, own := 0, fmt.Sprintf("/%040x", c.Certificate.SerialNumber)
	for record, err := range a.all(ctx, nameIndex(name)) {
		if err != nil {
			return last, err
		}
		if n++; n > maxRenewals {
			break
		}
		if strings.HasSuffix(record.Key, own) { // mostly the only one, and read already
			if c.Certificate.NotAfter.After(last) {
				last = c.Certificate.NotAfter
			}
			continue
		}
		other, err := a.indexed(ctx, record)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return last, err
		}
		if end := other.Certificate.NotAfter; other.State == StateIssued && other.Revocation == nil && end.After(last) && identity(other) == who {
			last = end
		}
	}
	if len(s.renewals) >= maxIdentities {
		clear(s.renewals)
	}
	s.renewals[who] = last
	return last, nil
}

// sum publishes what a pass has found.
func (w *ExpiryWatch) sum(ctx context.Context) {
	s := &w.sweep
	counts := make([]ExpiringCount, len(w.opts.Thresholds))
	for n, t := range w.opts.Thresholds {
		counts[n].Threshold = t
	}
	s.each(s.to, func(notAfter time.Time, certificates int) {
		for n, t := range w.opts.Thresholds {
			if notAfter.Sub(s.to) <= t {
				counts[n].Count += certificates
			}
		}
	})
	for _, t := range append(slices.Clone(w.opts.Thresholds), 0) {
		if n := s.told[t]; n > 0 {
			attrs := []slog.Attr{slog.String("mount", w.a.mount.Path()), slog.Int("certificates", n)}
			text := "pki: certificates have expired"
			if t > 0 {
				text, attrs = "pki: certificates expire", append(attrs, slog.String("threshold", days(t)))
			}
			w.opts.Logger.LogAttrs(ctx, slog.LevelInfo, text, attrs...)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status.Certificates, w.status.CertificatesChecked = counts, s.to
}
