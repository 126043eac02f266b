package pki

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// ExpiryKind says what an [ExpiryEvent] is about.
type ExpiryKind string

// The kinds of what expires.
const (
	ExpiringIssuer      ExpiryKind = "issuer"
	ExpiringResponder   ExpiryKind = "ocsp_responder" // the certificate of a delegated one
	ExpiringCRL         ExpiryKind = "crl"            // which was due and has not been made anew
	ExpiringCertificate ExpiryKind = "certificate"    // any other that the store has
)

// ExpiryEvent says that something expires, or has expired.
type ExpiryEvent struct {
	Kind      ExpiryKind
	Threshold time.Duration // of those that are watched, the last one that it has passed; 0 if it has expired
	Time      time.Time     // when this was found
	NotAfter  time.Time     // its last second; of a CRL, when the next one must be there

	IssuerID, IssuerName string // the issuer itself, or the one that has signed; empty if it is none of the authority's any more

	Certificate *x509.Certificate // must not be modified; nil for CRLs
	Role        string            // of a certificate; may be empty

	CRL       CRLScope // of CRLs: which one
	CRLNumber int64
}

// String returns a line for people.
func (e ExpiryEvent) String() string {
	what := string(e.Kind) + " of issuer " + e.issuer()
	switch {
	case e.Kind == ExpiringIssuer:
		what = "issuer " + e.issuer()
	case e.Certificate != nil:
		what = fmt.Sprintf("%s %s of issuer %s", e.Kind, FormatSerial(e.Certificate.SerialNumber), e.issuer())
	}
	if e.Threshold == 0 {
		return fmt.Sprintf("%s has expired: %s", what, stamp(e.NotAfter))
	}
	return fmt.Sprintf("%s expires within %s: %s", what, days(e.Threshold), stamp(e.NotAfter))
}

func (e *ExpiryEvent) issuer() string {
	switch {
	case e.IssuerName != "":
		return e.IssuerName
	case e.IssuerID != "":
		return e.IssuerID
	}
	return "(unknown)"
}

// ExpiryOptions are the options of [Authority.WatchExpiry]. The zero value is fine, and so is nil.
type ExpiryOptions struct {
	// Thresholds are how long before the end of certificates, those of OCSP responders included, there is an event; one for
	// those that have expired comes always. nil is 30, 7 and 1 days. A threshold of more than half of a certificate's validity
	// is none for it, so that one that is made for an hour is no news every hour.
	Thresholds []time.Duration

	// IssuerThresholds are those of issuers, which take longer to be replaced. nil is 180, 90, 30, 7 and 1 days.
	IssuerThresholds []time.Duration

	// Interval is from one look at issuers, OCSP responders and CRLs to the next; 0 is a minute. CertificateInterval is
	// that of all other certificates; 0 is an hour.
	Interval, CertificateInterval time.Duration

	// Notify, if not nil, is told each event, one after the other, by whoever calls Check or Run. While it has not returned
	// there is no other event; nothing else waits for it.
	Notify func(context.Context, ExpiryEvent)

	// Logger is told events: of issuers, OCSP responders and CRLs, as warnings, and as errors once they have expired; of other
	// certificates, how many there were, and each on the level Debug. nil means slog.Default().
	Logger *slog.Logger
}

const (
	maxThreshold  = 100 * 365 * 24 * time.Hour
	maxThresholds = 16
)

// expiryLookback is how far back certificates that expired before the watch began have an event, so that nothing is missed
// while a process starts anew.
const expiryLookback = 24 * time.Hour

// ExpiryWatch tells when something expires, before it does. Use [Authority.WatchExpiry].
//
// There is one event for each threshold that is passed, by issuer, responder, CRL and certificate, and none for thresholds that were
// passed together with a smaller one. What was told is not written down: each process tells it by itself, and once more
// when it starts anew.
//
// Nothing is told of what was revoked, and of what was replaced: an issuer by one with the same name and key that
// ends later; a certificate by one that ends later and has the same names and the same role, whoever issued it; a CRL by the
// next one. Neither of pending certificates, nor of such as roles don't store. A CRL is told of when half of the
// time is left in which it was due (see [CRLConfig]), and when the next one should have been there.
//
// All methods are safe for concurrent use.
type ExpiryWatch struct {
	a    *Authority
	opts ExpiryOptions

	checking chan struct{} // holds a token while a check is under way, which owns what follows
	told     map[string]toldOf
	round    uint64
	sweep    certificateSweep

	mu     sync.Mutex
	status ExpiryStatus
}

// toldOf is what was told last of an issuer, a responder or a CRL.
type toldOf struct {
	identity string // of the certificate, or number of the CRL: another one is told of anew
	stage    time.Duration
	round    uint64 // in which it was last there
}

// notYet is the stage of what has passed no threshold. Others are the last threshold that was passed, and 0 for what has expired.
const notYet = time.Duration(-1)

// WatchExpiry returns a watch on what the authority has. It makes no call: [ExpiryWatch.Run] does. opts may be nil. The error
// wraps backend.ErrInvalidParams.
func (a *Authority) WatchExpiry(opts *ExpiryOptions) (*ExpiryWatch, error) {
	w := &ExpiryWatch{a: a, checking: make(chan struct{}, 1), told: make(map[string]toldOf)}
	if opts != nil {
		w.opts = *opts
	}
	var err error
	if w.opts.Thresholds, err = thresholds("thresholds", w.opts.Thresholds, 30, 7, 1); err != nil {
		return nil, err
	}
	if w.opts.IssuerThresholds, err = thresholds("issuer thresholds", w.opts.IssuerThresholds, 180, 90, 30, 7, 1); err != nil {
		return nil, err
	}
	if w.opts.Interval < 0 || w.opts.CertificateInterval < 0 {
		return nil, invalid("expiry watch: intervals %v and %v; it takes positive ones, or 0", w.opts.Interval, w.opts.CertificateInterval)
	}
	if w.opts.Interval == 0 {
		w.opts.Interval = time.Minute
	}
	if w.opts.CertificateInterval == 0 {
		w.opts.CertificateInterval = time.Hour
	}
	if w.opts.Logger == nil {
		w.opts.Logger = slog.Default()
	}
	w.sweep.followed = newFollowed()
	return w, nil
}

// thresholds returns given, or so many days, the greatest first.
func thresholds(what string, given []time.Duration, usual ...int) ([]time.Duration, error) {
	out := slices.Clone(given)
	if given == nil {
		for _, n := range usual {
			out = append(out, time.Duration(n)*24*time.Hour)
		}
	}
	for _, d := range out {
		if d <= 0 || d > maxThreshold {
			return nil, invalid("expiry watch: %s: %v; it takes positive ones of at most 100 years", what, d)
		}
	}
	if len(out) > maxThresholds {
		return nil, invalid("expiry watch: %s: %d of them; it takes at most %d", what, len(out), maxThresholds)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	slices.Reverse(out)
	return out, nil
}

// stageOf returns the last threshold that has been passed by what is valid for life and has left of it.
func stageOf(left, life time.Duration, thresholds []time.Duration) time.Duration {
	stage := notYet
	if left < 0 {
		return 0
	}
	for _, t := range thresholds { // the greatest first
		if left <= t && t <= life/2 {
			stage = t
		}
	}
	return stage
}

// further reports whether stage comes after the one before.
func further(stage, before time.Duration) bool {
	return stage != notYet && (before == notYet || stage < before)
}

// Check looks at issuers, OCSP responders and CRLs, and at the other certificates if their interval has passed, or if the last
// time it could not get to the end. The first look tells of everything that has passed a threshold already. Later ones read
// what passes one meanwhile, whatever else the store has, and up to 10,000 of those that have and still stand, the ones that were looked at
// longest ago, to see whether they still do. It rests as long as it works, so that others are not held up. One check is made at a time.
//
// The error says what could not be looked at: the next check goes on there, and tells nothing twice.
func (w *ExpiryWatch) Check(ctx context.Context) error {
	select {
	case w.checking <- struct{}{}:
		defer func() { <-w.checking }()
	case <-ctx.Done():
		return fmt.Errorf("pki: expiry watch: %w", ctx.Err())
	}
	names, err := w.checkIssuers(ctx)
	if err != nil {
		return err
	}
	return w.checkCertificates(ctx, names)
}

// Run calls Check now and then every Interval, until ctx ends, and tells report, which may be nil, each error. It returns
// ctx.Err().
func (w *ExpiryWatch) Run(ctx context.Context, report func(error)) error {
	tick := time.NewTicker(w.opts.Interval)
	defer tick.Stop()
	for {
		if err := w.Check(ctx); err != nil && ctx.Err() == nil && report != nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// tell logs an event and passes it on.
func (w *ExpiryWatch) tell(ctx context.Context, e ExpiryEvent) {
	level := slog.LevelWarn
	switch {
	case e.Kind == ExpiringCertificate:
		level = slog.LevelDebug
	case e.Threshold == 0:
		level = slog.LevelError
	}
	if w.opts.Logger.Enabled(ctx, level) {
		attrs := []slog.Attr{slog.String("kind", string(e.Kind)), slog.String("mount", w.a.mount.Path()), slog.Time("not_after", e.NotAfter),
			slog.String("issuer_id", e.IssuerID), slog.String("issuer", e.IssuerName)}
		if e.Threshold > 0 {
			attrs = append(attrs, slog.String("threshold", days(e.Threshold)))
		}
		if e.Certificate != nil {
			attrs = append(attrs, slog.String("serial", FormatSerial(e.Certificate.SerialNumber)))
		} else {
			attrs = append(attrs, slog.Int64("number", e.CRLNumber), slog.Int("shard", e.CRL.Shard), slog.Bool("delta", e.CRL.Delta))
		}
		text := "pki: " + string(e.Kind) + " expires"
		if e.Threshold == 0 {
			text = "pki: " + string(e.Kind) + " has expired"
		}
		w.opts.Logger.LogAttrs(ctx, level, text, attrs...)
	}
	if w.opts.Notify != nil {
		w.opts.Notify(ctx, e)
	}
}

// days returns a time as people write thresholds: 30d, 36h0m0s.
func days(d time.Duration) string {
	if d >= 24*time.Hour && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	return d.String()
}
