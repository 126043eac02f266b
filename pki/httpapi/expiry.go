package httpapi

import "github.com/managedkeys/managedkeys/pki"

// newWatch returns the watch that the options want, or nil.
func (h *handler) newWatch() (*pki.ExpiryWatch, error) {
	opts := new(pki.ExpiryOptions)
	switch {
	case h.opts.Expiry != nil:
		if opts = h.opts.Expiry(h.mount); opts == nil {
			return nil, nil
		}
	case h.opts.MeterProvider == nil:
		return nil, nil
	}
	o := *opts
	if o.Logger == nil {
		o.Logger = h.opts.Logger
	}
	return h.a.WatchExpiry(&o)
}

// beginWatch has the watch run until the handler ends.
func (h *handler) beginWatch() {
	if h.watch == nil {
		return
	}
	if provider := h.opts.MeterProvider; provider != nil {
		stop, err := h.watch.Measure(provider)
		if err != nil {
			h.opts.Logger.WarnContext(h.life, "pki/httpapi: what expires can't be measured", "mount", h.mount.ID(), "error", err)
		} else {
			h.unmeasure = stop
		}
	}
	h.running.Go(func() {
		_ = h.watch.Run(h.life, func(err error) {
			h.opts.Logger.WarnContext(h.life, "pki/httpapi: what expires can't be looked at", "mount", h.mount.ID(), "error", err)
		})
	})
}

// endWatch takes the metrics away.
func (h *handler) endWatch() {
	if h.unmeasure != nil {
		_ = h.unmeasure()
	}
}
