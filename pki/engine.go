package pki

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

// Options are the options of [New].
type Options struct {
	// Now returns the current time; nil means time.Now.
	Now func() time.Time

	// PSS makes RSA keys sign with RSASSA-PSS where a template names no signature algorithm. Otherwise they sign with
	// RSASSA-PKCS1-v1_5, or with RSASSA-PSS if that is all that they can do.
	PSS bool

	// Linters are asked about every certificate beside zlint.
	Linters []Linter

	// Restore lets the authority's processes share keys in software: it puts a private key that [Authority.KeepSoftwareKey] has stored
	// where the managed key of that name is looked for in this process, when it isn't there. A key that is there already is no
	// error. It may be called concurrently, and must not keep ctx. nil leaves such keys to the processes that have them.
	Restore func(ctx context.Context, m *managedkey.Mount, name string, key crypto.Signer) error

	// AllowUnsealed lets software keys be written to a store that does not encrypt them (see store.IsSealed), where everyone who can read
	// the store can read the keys. It is for tests.
	AllowUnsealed bool

	// AllowVerbatim lets [Authority.SignVerbatim] issue what requests ask for, with no role's rules for names.
	AllowVerbatim bool
}

// Engine makes certificate authorities from the managed keys of one mount. Use [New].
//
// All methods are safe for concurrent use.
type Engine struct {
	mount     *managedkey.Mount
	now       func() time.Time
	pss       bool
	linters   []Linter
	verbatim  bool
	throwaway throwaways

	restore func(ctx context.Context, name string, missing bool) (restored, fresh bool, err error) // see restoreKey; may be nil

	identifiers sync.Map // AlgorithmIdentifier in DER by x509.SignatureAlgorithm
}

// New returns an engine on mount, which must not be nil. nil opts are the zero value. It makes no call.
func New(mount *managedkey.Mount, opts *Options) *Engine {
	if opts == nil {
		opts = new(Options)
	}
	e := &Engine{mount: mount, now: opts.Now, pss: opts.PSS, linters: slices.Clone(opts.Linters), verbatim: opts.AllowVerbatim}
	if e.now == nil {
		e.now = time.Now
	}
	return e
}

// key looks up the newest version of a key that signs, for what has no certificate yet.
func (e *Engine) key(ctx context.Context, name string) (*managedkey.Key, error) {
	key, err := e.open(ctx, name, func() (*managedkey.Key, error) { return e.mount.Key(ctx, name) })
	return e.usable(name, key, err)
}

// keyOf looks up the version of a key that has a certificate's public key. It is looked up for every use, which costs next to
// nothing, so that a grant that was revoked or an entry that was replaced counts at once.
func (e *Engine) keyOf(ctx context.Context, name string, cert *x509.Certificate) (*managedkey.Key, error) {
	key, err := e.open(ctx, name, func() (*managedkey.Key, error) { return e.mount.Key(ctx, name) })
	if err == nil && equalKeys(key.Public(), cert.PublicKey) {
		return e.usable(name, key, nil)
	}
	older, olderErr := e.mount.KeyFor(ctx, name, cert.PublicKey)
	if err == nil || olderErr == nil { // the newest need not be within reach
		key, err = older, olderErr
	}
	return e.usable(name, key, err)
}

// usable returns key, unless it can't sign certificates.
func (e *Engine) usable(name string, key *managedkey.Key, err error) (*managedkey.Key, error) {
	if err != nil {
		return nil, fmt.Errorf("pki: key %.80q: %w", name, err)
	}
	if key.Public() == nil {
		return nil, fmt.Errorf("pki: key %.80q: a symmetric key (%s) can't sign certificates: %w",
			name, key.Capabilities().Algorithm, backend.ErrUnsupported)
	}
	if err := checkPublicKey(key.Public()); err != nil {
		return nil, fmt.Errorf("pki: key %.80q: %w", name, err)
	}
	return key, nil
}

// equalKeys reports whether a and b are the same public key. nil equals nothing.
func equalKeys(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// invalid returns an error that says what is wrong with what the caller passed.
func invalid(format string, args ...any) error {
	return fmt.Errorf("pki: "+format+": %w", append(args, backend.ErrInvalidParams)...)
}
