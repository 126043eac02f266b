package pki

import (
	"context"
	"time"
)

// OCSPConfig says how OCSP requests are answered. The zero value is fit for use.
type OCSPConfig struct {
	Disabled bool          `json:"disabled"` // every answer is unauthorized
	Validity time.Duration `json:"validity"` // from thisUpdate to nextUpdate; 0 is 12 hours, at least a minute

	// MaxAge is how long caches of HTTP may keep answers. They don't hear of revocations, so that this is how long a
	// client may not see one. 0 is a twelfth of Validity.
	MaxAge time.Duration `json:"max_age"`

	// Nonce says that nonces are repeated (RFC 9654), which takes a signature for each such request. Otherwise they are
	// left out of answers, as RFC 5019 has it.
	Nonce bool `json:"nonce"`

	// ByName says that answers name who signed them, and don't give the hash of his key.
	ByName bool `json:"by_name"`

	// Store keeps answers in the store, so that other processes give them too, and the same one when it is started again,
	// although the key is out of reach then.
	Store bool `json:"store"`

	// Presign makes Maintain sign answers about all certificates that are not expired, before anybody asks: two for each, with
	// SHA-1 and SHA-256. It implies Store.
	Presign bool `json:"presign"`
}

func (c OCSPConfig) stored() bool { return c.Store || c.Presign }

func (c OCSPConfig) orDefault() OCSPConfig {
	if c.Validity == 0 {
		c.Validity = 12 * time.Hour
	}
	if c.MaxAge == 0 {
		c.MaxAge = c.Validity / 12
	}
	return c
}

// OCSPConfig returns what SetOCSPConfig has set, with the defaults in place of zeros.
func (a *Authority) OCSPConfig(ctx context.Context) (OCSPConfig, error) {
	c, err := a.config(ctx)
	return c.OCSP.orDefault(), err
}

func (c OCSPConfig) check() error {
	if d := c.orDefault(); d.Validity < time.Minute || d.Validity > 366*24*time.Hour || d.MaxAge < 0 || d.MaxAge > d.Validity {
		return invalid("OCSP config: validity %v, max-age %v; it takes a validity of a minute to 366 days, and no greater max-age", c.Validity, c.MaxAge)
	}
	return nil
}

// SetOCSPConfig sets how OCSP requests are answered. Other processes notice within a second.
func (a *Authority) SetOCSPConfig(ctx context.Context, config OCSPConfig) error {
	return a.SetRevocationConfig(ctx, nil, &config)
}
