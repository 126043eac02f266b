package httpapi

import (
	"context"
	"errors"
	"time"

	"github.com/managedkeys/managedkeys/internal/removal"
	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/pki"
)

// tidyRoutes are the paths of what removes what has expired.
var tidyRoutes = []route{
	{path: "tidy", post: startTidy},
	{path: "tidy-status", get: tidyStatus},
	{path: "tidy-cancel", post: cancelTidy},
	{path: "config/auto-tidy", get: readAutoTidy, post: writeAutoTidy},
}

// begin starts what is done in the background.
func (h *handler) begin() {
	h.life, h.end = context.WithCancel(context.Background())
	h.beginWatch()
	if h.opts.Maintain < 0 {
		return
	}
	h.running.Go(func() {
		removal.Keep(h.life, h.engine.st, "pki", time.Now, func(err error) {
			h.opts.Logger.WarnContext(h.life, "pki/httpapi: what removed mounts have had can't be removed", "error", err)
		})
	})
	h.running.Go(func() {
		tick := time.NewTicker(h.opts.Maintain)
		defer tick.Stop()
		for {
			h.maintain()
			select {
			case <-h.life.Done():
				return
			case <-tick.C:
			}
		}
	})
}

// maintain makes the CRLs that are due, forgets software keys that are gone, and tidies if that is due.
func (h *handler) maintain() {
	if err := h.a.Maintain(h.life); err != nil && h.life.Err() == nil {
		h.opts.Logger.WarnContext(h.life, "pki/httpapi: CRLs that are due can't be made", "mount", h.mount.ID(), "error", err)
	}
	if err := h.discardGone(h.life); err != nil && h.life.Err() == nil {
		h.opts.Logger.WarnContext(h.life, "pki/httpapi: software keys that were deleted can't be told", "mount", h.mount.ID(), "error", err)
	}
	run, err := h.a.StartDueTidy(h.life)
	switch {
	case err != nil && h.life.Err() == nil:
		h.opts.Logger.WarnContext(h.life, "pki/httpapi: whether to tidy can't be told", "mount", h.mount.ID(), "error", err)
	case run != nil:
		h.runTidy(run)
	}
}

// runTidy does in the background what was started.
func (h *handler) runTidy(run *pki.TidyRun) {
	h.running.Go(func() {
		if _, err := run.Run(h.life); err != nil && !errors.Is(err, context.Canceled) {
			h.opts.Logger.Warn("pki/httpapi: tidy", "mount", h.mount.ID(), "error", err)
		}
	})
}

// takeTidy takes what is to be tidied; what is not there stays.
func takeTidy(f *api.Fields, c *pki.TidyConfig) (void []string) {
	certs, revoked := c.Certificates, c.Certificates
	given := f.Has("tidy_cert_store") || f.Has("tidy_revoked_certs")
	if given {
		certs, revoked = false, false
	}
	f.Bool("tidy_cert_store", &certs)
	f.Bool("tidy_revoked_certs", &revoked)
	c.Certificates = certs || revoked
	f.Bool("tidy_expired_issuers", &c.Issuers)
	f.Duration("safety_buffer", &c.Buffer)
	f.Duration("issuer_safety_buffer", &c.IssuerBuffer)
	if given && certs != revoked {
		void = append(void, "tidy_cert_store and tidy_revoked_certs: certificates that have expired go together with their revocations")
	}
	for _, name := range []string{"tidy_revoked_cert_issuer_associations", "tidy_move_legacy_ca_bundle", "tidy_acme", "tidy_revocation_queue",
		"tidy_cross_cluster_revoked_certs", "tidy_cert_metadata", "tidy_cmpv2_nonce_store", "tidy_invalid_certs",
		"maintain_stored_certificate_counts", "publish_stored_certificate_count_metrics"} {
		var on bool
		if f.Bool(name, &on); on {
			void = append(void, name+": there is nothing of that kind here")
		}
	}
	var pause time.Duration
	for _, name := range []string{"pause_duration", "revocation_queue_safety_buffer", "acme_account_safety_buffer", "revoked_safety_buffer"} {
		f.Duration(name, &pause)
	}
	var page int
	f.Int("page_size", &page) // as pages are here
	return void
}

func startTidy(c *call) (any, error) {
	config := pki.TidyConfig{Buffer: 72 * time.Hour}
	var void []string
	if err := c.read(func(f *api.Fields) { void = takeTidy(f, &config) }); err != nil {
		return nil, err
	}
	if config.Buffer < time.Hour {
		return nil, refuse("field safety_buffer: it takes an hour or more, so that each revocation is in one CRL after the certificate's end")
	}
	c.warnings = append(c.warnings, void...)
	if !config.Certificates && !config.Issuers {
		c.warn("nothing to tidy was named: tidy_cert_store, tidy_revoked_certs and tidy_expired_issuers are what there is")
		return nil, nil
	}
	run, err := c.a.StartTidy(c.ctx(), config)
	switch {
	case errors.Is(err, pki.ErrTidying):
		c.warn("a tidy operation is already in progress")
	case err != nil:
		return nil, err
	default:
		c.runTidy(run)
		c.warn("tidy operation successfully started; its progress is at tidy-status")
	}
	return accepted{}, nil
}

// tidyStates are the names that answers have for states.
var tidyStates = map[pki.TidyState]string{pki.TidyNever: "Inactive", pki.TidyRunning: "Running", pki.TidyCancelling: "Cancelling",
	pki.TidyFinished: "Finished", pki.TidyCancelled: "Cancelled", pki.TidyFailed: "Error", pki.TidyLost: "Error"}

func tidyStatus(c *call) (any, error) {
	t, err := c.a.TidyStatus(c.ctx())
	if err != nil {
		return nil, err
	}
	data := object{"state": tidyStates[t.State], "error": nil, "time_started": nil, "time_finished": nil, "internal_backend_uuid": c.mount.ID(),
		"cert_store_deleted_count": nil, "revoked_cert_deleted_count": nil, "message": nil, "last_auto_tidy_finished": t.LastAutomatic}
	if t.State == pki.TidyNever {
		return data, nil
	}
	data["time_started"] = t.Started
	if !t.Ended.IsZero() {
		data["time_finished"] = t.Ended
	}
	switch t.State {
	case pki.TidyFailed: // where the store keeps things is nobody's business
		data["error"] = "see the log of the server that ran it"
	case pki.TidyLost:
		data["error"] = t.Error
	}
	data["cert_store_deleted_count"], data["revoked_cert_deleted_count"], data["issuer_deleted_count"] = t.Progress.Removed, t.Progress.Revoked, t.IssuersRemoved
	data["days_done"], data["days_total"] = t.Progress.Days, t.Progress.AllDays
	for name, value := range tidyData(t.Config) {
		data[name] = value
	}
	return data, nil
}

func cancelTidy(c *call) (any, error) {
	if err := c.nothing(); err != nil {
		return nil, err
	}
	was, err := c.a.CancelTidy(c.ctx())
	switch {
	case err != nil:
		return nil, err
	case !was:
		c.warn("tidy operation cannot be cancelled as none is currently running")
		return nil, nil
	}
	return tidyStatus(c)
}

// tidyData is what is to be tidied, as answers have it.
func tidyData(c pki.TidyConfig) object {
	seconds := func(d, usual time.Duration) int {
		if d == 0 {
			d = usual
		}
		return int(d / time.Second)
	}
	return object{"tidy_cert_store": c.Certificates, "tidy_revoked_certs": c.Certificates, "tidy_expired_issuers": c.Issuers,
		"safety_buffer": seconds(c.Buffer, 72*time.Hour), "issuer_safety_buffer": seconds(c.IssuerBuffer, 365*24*time.Hour)}
}

func readAutoTidy(c *call) (any, error) {
	config, err := c.a.TidyConfig(c.ctx())
	if err != nil {
		return nil, err
	}
	data := tidyData(config)
	data["enabled"], data["interval_duration"] = config.Enabled, int(config.Interval/time.Second)
	if config.Interval == 0 {
		data["interval_duration"] = int(12 * time.Hour / time.Second)
	}
	return data, nil
}

func writeAutoTidy(c *call) (any, error) {
	var void []string
	err := c.a.UpdateTidyConfig(c.ctx(), func(config *pki.TidyConfig) error {
		err := c.read(func(f *api.Fields) {
			f.Bool("enabled", &config.Enabled)
			f.Duration("interval_duration", &config.Interval)
			void = takeTidy(f, config)
		})
		if err == nil && config.Enabled && !config.Certificates && !config.Issuers {
			return refuse("field enabled: nothing to tidy is named: tidy_cert_store, tidy_revoked_certs or tidy_expired_issuers")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	c.warnings = append(c.warnings, void...)
	return readAutoTidy(c)
}
