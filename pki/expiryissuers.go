package pki

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// ExpiryStatus is what an [ExpiryWatch] has seen.
type ExpiryStatus struct {
	Issuers, Responders, CRLs []Expiring

	// Certificates are how many have passed each threshold of ExpiryOptions.Thresholds and have not expired, the greatest
	// first; each count has those of smaller thresholds in it. What there is no event of isn't counted. Of 100,000 of them it is noticed that
	// they were revoked or replaced, within an hour or, of more than 10,000, within ten; those beyond are counted until the hour in which
	// they end.
	Certificates []ExpiringCount

	Checked             time.Time // when issuers, OCSP responders and CRLs were looked at; zero if they were not yet
	CertificatesChecked time.Time // when the other certificates were, to the end
}

// Expiring is an issuer, an OCSP responder, or the lists of an issuer, and when it ends.
type Expiring struct {
	IssuerID, IssuerName string
	Delta                bool      // of lists: delta lists
	NotAfter             time.Time // of lists: the earliest of all shards
}

// ExpiringCount is how many certificates have passed a threshold.
type ExpiringCount struct {
	Threshold time.Duration
	Count     int
}

// Status returns what the last checks have seen. It makes no call.
func (w *ExpiryWatch) Status() ExpiryStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.status
	s.Issuers, s.Responders, s.CRLs = slices.Clone(s.Issuers), slices.Clone(s.Responders), slices.Clone(s.CRLs)
	s.Certificates = slices.Clone(s.Certificates)
	return s
}

// look is one look at issuers, OCSP responders and CRLs.
type look struct {
	w       *ExpiryWatch
	now     time.Time
	issuers []*Issuer
	signers map[string]*Issuer // for each, the issuer that ends last
	status  ExpiryStatus
}

// checkIssuers returns the issuers.
func (w *ExpiryWatch) checkIssuers(ctx context.Context) ([]*Issuer, error) {
	issuers, err := w.a.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	config, err := w.a.config(ctx)
	if err != nil {
		return nil, err
	}
	l := &look{w: w, now: w.a.engine.now(), issuers: issuers, signers: make(map[string]*Issuer)}
	w.round++
	for _, i := range issuers {
		who := signer(i.Certificate())
		if best := l.signers[who]; best == nil || i.Certificate().NotAfter.After(best.Certificate().NotAfter) {
			l.signers[who] = i
		}
	}
	for _, i := range issuers {
		if err := l.issuer(ctx, i); err != nil {
			return nil, err
		}
	}
	for record, err := range w.a.all(ctx, "ocsp-responders/") {
		if err == nil {
			err = l.responder(ctx, record)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := l.lists(ctx, &config); err != nil {
		return nil, err
	}
	for id, t := range w.told {
		if t.round != w.round {
			delete(w.told, id)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status.Issuers, w.status.Responders, w.status.CRLs, w.status.Checked = l.status.Issuers, l.status.Responders, l.status.CRLs, l.now
	return issuers, nil
}

func (l *look) issuer(ctx context.Context, i *Issuer) error {
	cert := i.Certificate()
	if best := l.signers[signer(cert)]; best != i && best.Certificate().NotAfter.After(cert.NotAfter) {
		return nil
	}
	if revoked, err := l.revoked(ctx, cert); revoked || err != nil {
		return err
	}
	l.status.Issuers = append(l.status.Issuers, Expiring{IssuerID: i.ID, IssuerName: i.Name, NotAfter: cert.NotAfter})
	l.certificate(ctx, "issuer/"+i.ID, l.w.opts.IssuerThresholds, ExpiryEvent{Kind: ExpiringIssuer, IssuerID: i.ID, IssuerName: i.Name, Certificate: cert})
	return nil
}

func (l *look) responder(ctx context.Context, record store.Record) error {
	who := strings.TrimPrefix(record.Key, l.w.a.prefix+"ocsp-responders/")
	i := l.signers[who]
	if i == nil {
		return nil // nobody whom it could answer for
	}
	var r delegateRecord
	if err := decodeRecord(record, &r); err != nil {
		return err
	}
	responder, err := r.responder()
	if err != nil {
		return err
	}
	cert := responder.Certificate
	if revoked, err := l.revoked(ctx, cert); revoked || err != nil {
		return err
	}
	l.status.Responders = append(l.status.Responders, Expiring{IssuerID: i.ID, IssuerName: i.Name, NotAfter: cert.NotAfter})
	l.certificate(ctx, "responder/"+who, l.w.opts.Thresholds, ExpiryEvent{Kind: ExpiringResponder, IssuerID: i.ID, IssuerName: i.Name, Certificate: cert})
	return nil
}

// revoked reports whether the store has a certificate, and that it is revoked.
func (l *look) revoked(ctx context.Context, cert *x509.Certificate) (bool, error) {
	stored, err := l.w.a.certificate(ctx, cert.SerialNumber)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && stored.Revocation != nil && string(stored.Certificate.Raw) == string(cert.Raw), err
}

func (l *look) certificate(ctx context.Context, id string, thresholds []time.Duration, e ExpiryEvent) {
	e.NotAfter = e.Certificate.NotAfter
	stage := stageOf(e.NotAfter.Sub(l.now), e.NotAfter.Sub(e.Certificate.NotBefore), thresholds)
	l.tell(ctx, id, string(e.Certificate.Raw), stage, e)
}

// tell tells an event if stage is news.
func (l *look) tell(ctx context.Context, id, identity string, stage time.Duration, e ExpiryEvent) {
	before, ok := l.w.told[id]
	if !ok || before.identity != identity {
		before.stage = notYet
	}
	if further(stage, before.stage) {
		e.Threshold, e.Time = stage, l.now
		l.w.tell(ctx, e)
	} else {
		stage = before.stage // a clock that goes back makes nothing news
	}
	l.w.told[id] = toldOf{identity, stage, l.w.round}
}

// lists looks at the lists that Maintain makes.
func (l *look) lists(ctx context.Context, config *configRecord) error {
	full := config.CRL.orDefault()
	ends := make(map[string][2]time.Time) // by signer: of complete lists and of delta lists
	for record, err := range l.w.a.all(ctx, "crl/") {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(record.Key, l.w.a.prefix+"crl/")
		who, shard, err := parseScope(name)
		if err != nil {
			return err
		}
		i := l.signers[who]
		if i == nil || !l.makesLists(who) || shard > config.Shards || (shard == 0) != (config.Shards == 0) {
			continue
		}
		var r crlRecord
		if err := decodeRecord(record, &r); err != nil {
			return err
		}
		end := ends[who]
		for n, due := range [...]time.Duration{full.Grace, full.DeltaInterval} {
			scope := CRLScope{Shard: shard, Delta: n == 1}
			list := r.of(scope)
			if list.Number == 0 || scope.Delta && !full.Delta {
				continue
			}
			if end[n].IsZero() || list.NextUpdate.Before(end[n]) {
				end[n] = list.NextUpdate
			}
			left := list.NextUpdate.Sub(l.now)
			e := ExpiryEvent{Kind: ExpiringCRL, IssuerID: i.ID, IssuerName: i.Name, NotAfter: list.NextUpdate, CRL: scope, CRLNumber: list.Number}
			stage := stageOf(left, due, []time.Duration{due / 2})
			l.tell(ctx, "crl/"+name+"/"+strconv.Itoa(n), strconv.FormatInt(list.Number, 10), stage, e)
		}
		ends[who] = end
	}
	for who, end := range ends {
		for n, at := range end {
			if i := l.signers[who]; !at.IsZero() {
				l.status.CRLs = append(l.status.CRLs, Expiring{IssuerID: i.ID, IssuerName: i.Name, Delta: n == 1, NotAfter: at})
			}
		}
	}
	slices.SortFunc(l.status.CRLs, func(a, b Expiring) int { return strings.Compare(a.IssuerID, b.IssuerID) })
	return nil
}

// makesLists reports whether lists of a signer are made: see Maintain.
func (l *look) makesLists(who string) bool {
	return slices.ContainsFunc(l.issuers, func(i *Issuer) bool {
		return i.Usage&SignCRLs != 0 && signer(i.Certificate()) == who && !l.now.After(i.Certificate().NotAfter)
	})
}

// parseScope is what CRLScope.name has made.
func parseScope(name string) (signer string, shard int, err error) {
	signer, text, sharded := strings.Cut(name, ".s")
	if sharded {
		if shard, err = strconv.Atoi(text); err != nil || shard <= 0 {
			return "", 0, fmt.Errorf("pki: crl/%s: %w", name, store.ErrCorrupt)
		}
	}
	return signer, shard, nil
}
