package pki

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// watched is a firm with a clock, and a watch that writes down what it tells.
type watched struct {
	*firm
	now    *time.Time
	watch  *ExpiryWatch
	events []ExpiryEvent
}

func newWatched(t *testing.T, opts *ExpiryOptions) *watched {
	t.Helper()
	now := noon
	w := &watched{firm: newFirm(t, &Options{Now: func() time.Time { return now }}), now: &now}
	w.open(t, opts)
	return w
}

// open begins to watch, as a process does that starts anew.
func (w *watched) open(t *testing.T, opts *ExpiryOptions) {
	t.Helper()
	o := ExpiryOptions{CertificateInterval: time.Nanosecond, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if opts != nil {
		o = *opts
	}
	o.Notify = func(_ context.Context, e ExpiryEvent) { w.events = append(w.events, e) }
	var err error
	if w.watch, err = w.WatchExpiry(&o); err != nil {
		t.Fatal(err)
	}
}

// told returns what a check tells, as kind and threshold, sorted.
func (w *watched) told(t *testing.T) []string {
	t.Helper()
	w.events = nil
	if err := w.watch.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, e := range w.events {
		out = append(out, string(e.Kind)+" "+days(e.Threshold))
	}
	slices.Sort(out)
	return out
}

// tells checks what is told at a time before the end of something.
func (w *watched) tells(t *testing.T, at time.Time, want ...string) {
	t.Helper()
	*w.now = at
	if got := w.told(t); !slices.Equal(got, want) {
		t.Errorf("at %s: told %q; want %q", stamp(at), got, want)
	}
	*w.now = at.Add(time.Nanosecond) // so that it is time for certificates again
	if got := w.told(t); len(got) > 0 {
		t.Errorf("at %s: told %q once more", stamp(at), got)
	}
}

// TestExpiringIssuer: an issuer is told of at each threshold, once; thresholds that were passed meanwhile are not made up for; and
// one that was replaced, revoked or removed is told of no more.
func TestExpiringIssuer(t *testing.T) {
	w := newWatched(t, nil)
	root := w.root(t, "p256", "root")
	end := root.Certificate().NotAfter
	w.tells(t, noon)
	w.tells(t, end.Add(-180*day-time.Second))
	w.tells(t, end.Add(-180*day), "issuer 180d")
	w.tells(t, end.Add(-20*day), "issuer 30d")
	w.open(t, nil)
	w.tells(t, end.Add(-20*day), "issuer 30d") // a process that starts anew
	*w.now = end.Add(-19 * day)
	sub, err := w.Reissue(t.Context(), "root", "again", 20*day)
	if err != nil {
		t.Fatal(err)
	}
	if s := w.watch.Status(); len(s.Issuers) != 1 || !s.Issuers[0].NotAfter.Equal(end) {
		t.Errorf("status %+v", s.Issuers)
	}
	w.tells(t, end.Add(-7*day)) // of the issuers with that key the last one counts, and it has half of its time before it
	if s := w.watch.Status(); len(s.Issuers) != 1 || s.Issuers[0].IssuerID != sub.ID || s.Issuers[0].IssuerName != "again" {
		t.Errorf("status %+v", s.Issuers)
	}
	w.tells(t, sub.Certificate().NotAfter.Add(-12*time.Hour), "issuer 1d")
	w.tells(t, sub.Certificate().NotAfter.Add(time.Second), "issuer 0s")
	if err := w.DeleteIssuer(t.Context(), "again"); err != nil {
		t.Fatal(err)
	}
	w.tells(t, *w.now, "issuer 0s") // the older one is not replaced any more
	if err := w.DeleteIssuer(t.Context(), "root"); err != nil {
		t.Fatal(err)
	}
	w.open(t, nil)
	w.tells(t, *w.now)
	if s := w.watch.Status(); len(s.Issuers)+len(s.CRLs)+len(s.Responders) > 0 {
		t.Errorf("status %+v", s)
	}
}

func TestExpiringIssuerRevoked(t *testing.T) {
	w := newWatched(t, nil)
	w.root(t, "p256", "root")
	sub := w.intermediate(t, "root", "p384", "sub")
	end := sub.Certificate().NotAfter
	w.tells(t, end.Add(-80*day), "issuer 90d")
	if e := w.watch.Status().Issuers; len(e) != 2 {
		t.Errorf("issuers %+v", e)
	}
	if _, _, err := w.RevokeIssuer(t.Context(), "sub", ReasonSuperseded); err != nil {
		t.Fatal(err)
	}
	w.tells(t, end.Add(-time.Hour))
	if e := w.watch.Status().Issuers; len(e) != 1 || e[0].IssuerName != "root" {
		t.Errorf("issuers %+v", e)
	}
}

// TestExpiringResponder: the certificate of a delegated responder is told of only if it was not renewed in time.
func TestExpiringResponder(t *testing.T) {
	w := newWatched(t, nil)
	w.root(t, "p384", "root")
	if _, err := w.SetOCSPResponder(t.Context(), "root", KeyRef{Name: "p256-b"}, OCSPResponderTemplate{}); err != nil {
		t.Fatal(err)
	}
	w.tells(t, noon) // 30 days are all that it has
	*w.now = noon.Add(21 * day)
	if err := w.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	responder, err := w.OCSPResponder(t.Context(), "root")
	if err != nil {
		t.Fatal(err)
	}
	end := responder.Certificate.NotAfter
	w.tells(t, noon.Add(29*day), "crl 0s") // neither the one that was replaced, nor that of now
	w.tells(t, end.Add(-6*day), "ocsp_responder 7d")
	w.tells(t, end.Add(time.Minute), "ocsp_responder 0s")
	if s := w.watch.Status().Responders; len(s) != 1 || s[0].IssuerName != "root" || !s[0].NotAfter.Equal(end) {
		t.Errorf("responders %+v", s)
	}
	w.open(t, nil)
	if _, err := w.Revoke(t.Context(), FormatSerial(responder.Certificate.SerialNumber), ReasonSuperseded, time.Time{}); err != nil {
		t.Fatal(err)
	}
	w.tells(t, *w.now, "crl 0s")
}

// TestExpiringCRL: a list that is due and not made is told of before it ends, and when it has; the next one begins anew.
func TestExpiringCRL(t *testing.T) {
	w := newWatched(t, nil)
	w.root(t, "p256", "root")
	for name, config := range map[string]CRLConfig{
		"complete": {Expiry: 12 * time.Hour, Grace: 2 * time.Hour},
		"sharded":  {Expiry: 12 * time.Hour, Grace: 2 * time.Hour, Shards: 2},
		"delta":    {Expiry: 240 * time.Hour, AutoRebuild: true, Delta: true, DeltaInterval: 4 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			f := newWatched(t, nil)
			f.root(t, "p256", "root")
			if config.Shards > 0 {
				if err := f.SetURLs(t.Context(), URLs{CRL: []string{"http://ca.example/{{shard}}"}}); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.SetCRLConfig(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			if err := f.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.tells(t, noon)
			s := f.watch.Status().CRLs
			if len(s) == 0 || s[0].IssuerName != "root" {
				t.Fatalf("lists %+v", s)
			}
			first, end, unit := 1, s[0].NotAfter, "1h0m0s"
			if config.Delta {
				if len(s) != 2 {
					t.Fatalf("lists %+v", s)
				}
				if !s[1].Delta {
					s[0], s[1] = s[1], s[0]
				}
				end, unit = s[1].NotAfter, "2h0m0s"
			}
			if config.Shards > 0 {
				first = config.Shards
			}
			several := func(what string) []string { return slices.Repeat([]string{what}, first) }
			f.tells(t, end.Add(-3*time.Hour))
			f.tells(t, end.Add(-time.Minute), several("crl "+unit)...)
			f.tells(t, end.Add(time.Minute), several("crl 0s")...)
			if err := f.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.tells(t, *f.now)
			if s := f.watch.Status().CRLs; !s[0].NotAfter.After(end) && !s[len(s)-1].NotAfter.After(end) {
				t.Errorf("lists %+v", s)
			}
		})
	}
	// Lists of an issuer that makes none are nobody's worry.
	if err := w.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	root, err := w.Issuer(t.Context(), "root")
	if err != nil {
		t.Fatal(err)
	}
	root.Usage = IssueCertificates
	if _, err := w.UpdateIssuer(t.Context(), *root); err != nil {
		t.Fatal(err)
	}
	w.tells(t, noon.Add(100*day))
}

func TestWatchExpiryRefused(t *testing.T) {
	f := newFirm(t, nil)
	for name, o := range map[string]ExpiryOptions{
		"0":       {Thresholds: []time.Duration{0}},
		"issuers": {IssuerThresholds: []time.Duration{-day}},
		"long":    {Thresholds: []time.Duration{101 * 365 * day}},
		"many": {Thresholds: slices.Collect(func(yield func(time.Duration) bool) {
			for d := day; d < 18*day && yield(d); d += day {
			}
		})},
		"interval": {Interval: -1},
		"other":    {CertificateInterval: -1},
	} {
		if _, err := f.WatchExpiry(&o); err == nil {
			t.Errorf("%s was taken", name)
		} else {
			wantError(t, err, backend.ErrInvalidParams, "expiry watch")
		}
	}
	w, err := f.WatchExpiry(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.checking <- struct{}{}
	cancel()
	if err := w.Check(ctx); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("a check that waits for another one: %v", err)
	}
	<-w.checking
}

// TestExpiryClock: a clock that was far ahead for one look doesn't keep the next ones away until it is that late.
func TestExpiryClock(t *testing.T) {
	w := newWatched(t, nil)
	for _, now := range []time.Time{noon.AddDate(5, 0, 0), noon} {
		*w.now = now
		if err := w.watch.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := w.watch.Status(); !s.CertificatesChecked.Equal(now) {
			t.Errorf("at %v: certificates were looked at at %v", now, s.CertificatesChecked)
		}
	}
}

// TestExpiryRun: what happens while nobody asks, with the clock of the bubble; a consumer that doesn't return keeps nobody from issuing.
func TestExpiryRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFirm(t, &Options{Now: time.Now})
		f.root(t, "p256", "root")
		r := anyRole("r")
		r.TTL, r.MaxTTL = Duration(10*day), Duration(10*day)
		f.role(t, r)
		f.issue(t, "r", "a.example")
		began := time.Now()
		var log bytes.Buffer
		told := make(chan ExpiryEvent) // nobody reads it for now
		w, err := f.WatchExpiry(&ExpiryOptions{Thresholds: []time.Duration{day, 5 * day}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Notify: func(_ context.Context, e ExpiryEvent) { told <- e }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx, func(err error) { t.Error(err) }) }()
		time.Sleep(6 * day) // of the bubble: the event waits to be read
		f.issue(t, "r", "b.example")
		for n, want := range []struct {
			of        string
			threshold time.Duration
		}{{"a.example", 5 * day}, {"a.example", day}, {"a.example", 0}, {"b.example", 5 * day}} {
			e := <-told
			if e.Kind != ExpiringCertificate || e.Threshold != want.threshold || e.Certificate.Subject.CommonName != want.of || e.Role != "r" || e.IssuerName != "root" {
				t.Errorf("event %d: %v, %+v", n, e, e.Certificate.Subject)
			}
			if late := e.Time.Sub(e.NotAfter.Add(-e.Threshold)); n > 0 && (late < 0 || late > time.Hour+time.Minute) {
				t.Errorf("event %d: it was found %v after it had come", n, late)
			}
			if n == 2 && e.String() != fmt.Sprintf("certificate %s of issuer root has expired: %s", FormatSerial(e.Certificate.SerialNumber), stamp(e.NotAfter)) {
				t.Error(e.String())
			}
		}
		if d := time.Since(began); d < 11*day-time.Hour || d > 12*day {
			t.Errorf("it took %v", d)
		}
		synctest.Wait() // it is logged after it was told
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("Run ended with %v", err)
		}
		if text := log.String(); strings.Count(text, "pki: certificates expire") != 3 || strings.Count(text, "pki: certificates have expired") != 1 || strings.Contains(text, "serial") {
			t.Errorf("logged %s", text)
		}
	})
}

var _ store.Store = (*counting)(nil)
