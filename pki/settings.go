package pki

import (
	"context"
	"time"
)

// SetDefaultFollowsLatest says whether each new issuer becomes the default one. Without it, only the first does.
func (a *Authority) SetDefaultFollowsLatest(ctx context.Context, follow bool) error {
	return update(ctx, a, "config/issuers", func(c *issuersRecord, _ uint64) error {
		if c.FollowsLatest == follow {
			return errUnchanged
		}
		c.FollowsLatest = follow
		return nil
	})
}

// DefaultFollowsLatest returns what SetDefaultFollowsLatest has set.
func (a *Authority) DefaultFollowsLatest(ctx context.Context) (bool, error) {
	var c issuersRecord
	_, err := a.readIf(ctx, "config/issuers", &c)
	return c.FollowsLatest, err
}

// TidyConfig says what to tidy, and when to do so without being asked. It is only kept here: whoever runs the authority acts on it, with
// [Authority.StartDueTidy].
type TidyConfig struct {
	Enabled      bool          `json:"enabled"`
	Interval     time.Duration `json:"interval"`      // from the end of one run to the next; 0 is 12 hours
	Buffer       time.Duration `json:"buffer"`        // of TidyOptions
	Issuers      bool          `json:"issuers"`       // remove issuers that have expired too
	IssuerBuffer time.Duration `json:"issuer_buffer"` // how long after their end; 0 is a year
	Certificates bool          `json:"certificates"`  // call Tidy
}

func (c TidyConfig) check() error {
	if c.Interval < 0 || c.Buffer < 0 || c.Buffer != 0 && c.Buffer < time.Hour || c.IssuerBuffer < 0 {
		return invalid("tidy config: interval %v, buffer %v, issuer buffer %v; it takes no negative time, and a buffer of an hour or more", c.Interval, c.Buffer, c.IssuerBuffer)
	}
	return nil
}

// SetTidyConfig stores when to tidy.
func (a *Authority) SetTidyConfig(ctx context.Context, c TidyConfig) error {
	return a.UpdateTidyConfig(ctx, func(out *TidyConfig) error { *out = c; return nil })
}

// UpdateTidyConfig changes when to tidy. change gets what is set, and is called again if another process was faster; its error ends the
// update.
func (a *Authority) UpdateTidyConfig(ctx context.Context, change func(*TidyConfig) error) error {
	return update(ctx, a, "config/tidy", func(c *TidyConfig, _ uint64) error {
		if err := change(c); err != nil {
			return err
		}
		return c.check()
	})
}

// TidyConfig returns what SetTidyConfig has set.
func (a *Authority) TidyConfig(ctx context.Context) (c TidyConfig, err error) {
	_, err = a.readIf(ctx, "config/tidy", &c)
	return c, err
}

// TidyIssuers removes issuers whose certificates ended longer ago than buffer, but never the default one, and returns how many.
func (a *Authority) TidyIssuers(ctx context.Context, buffer time.Duration) (int, error) {
	if buffer == 0 {
		buffer = 365 * 24 * time.Hour
	}
	if buffer < time.Hour {
		return 0, invalid("tidy: issuer buffer %v; it takes an hour or more", buffer)
	}
	issuers, err := a.Issuers(ctx)
	if err != nil {
		return 0, err
	}
	var c issuersRecord
	if _, err := a.readIf(ctx, "config/issuers", &c); err != nil {
		return 0, err
	}
	n := 0
	for _, issuer := range issuers {
		if issuer.ID == c.Default || !issuer.Certificate().NotAfter.Before(a.engine.now().Add(-buffer)) {
			continue
		}
		if err := a.DeleteIssuer(ctx, issuer.ID); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
