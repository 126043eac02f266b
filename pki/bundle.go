package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Bundle is what became of the certificates that ImportBundle was given.
type Bundle struct {
	Imported []*Issuer           // new issuers
	Existing []*Issuer           // issuers that there were before
	Others   []*x509.Certificate // no issuers: no key that is known here is theirs
	Extended []*Issuer           // issuers that there were before, whose chains end further up now
}

// ImportBundle makes issuers of all CA certificates of a bundle whose keys are known here (see [Authority.AddKey]): in any
// order, root or not, each with the chain above it that the bundle and the issuers have. name is for the one that has issued
// none of the others, and may be empty. The other certificates continue the chains of issuers that end below their root, unless an
// operator has chosen the chain ([Issuer.ManualChain]).
//
// The error wraps [backend.ErrInvalidParams] if no certificate is for a known key or in the chain of an issuer, or if one isn't fit for
// a CA; then the issuers that were made before it stay, and are returned.
func (a *Authority) ImportBundle(ctx context.Context, name string, bundle []*x509.Certificate) (*Bundle, error) {
	if len(bundle) == 0 || len(bundle) > 4*maxChain {
		return nil, invalid("bundle: got %d certificates; it takes 1 to %d", len(bundle), 4*maxChain)
	}
	if err := a.freeName(ctx, name); err != nil {
		return nil, err
	}
	known, err := a.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	// What the bundle lacks of a chain may be here.
	pool := append([]*x509.Certificate(nil), bundle...)
	for _, issuer := range known {
		pool = append(pool, issuer.Chain...)
	}
	out := new(Bundle)
	for i, cert := range bundle {
		if cert == nil {
			return out, invalid("bundle: certificate %d is nil", i)
		}
		if twice(bundle[:i], cert) {
			continue
		}
		key, err := a.keyOf(ctx, cert)
		same, err2 := a.same(ctx, cert)
		switch {
		case err2 != nil:
			return out, err2
		case same != nil:
			out.Existing = append(out.Existing, same)
			continue
		case errors.Is(err, store.ErrNotFound) || err == nil && !cert.IsCA:
			out.Others = append(out.Others, cert)
			continue
		case err != nil:
			return out, err
		}
		own := ""
		if issuesNone(cert, bundle) {
			own, name = name, ""
		}
		issuer, err := a.Import(ctx, KeyRef{key.UUID, key.Version}, own, inOrder(cert, pool))
		if err != nil {
			return out, err
		}
		out.Imported = append(out.Imported, issuer)
	}
	chained, err := a.continueChains(ctx, out, pool)
	if err != nil {
		return out, err
	}
	if len(out.Imported)+len(out.Existing) == 0 && !chained {
		return out, invalid("bundle: none of %d certificates is a CA's whose key is known here, or continues a chain; make its managed key known first", len(bundle))
	}
	return out, nil
}

// continueChains gives issuers what certificates have above their chains, and reports whether one that is no issuer is in any of these.
func (a *Authority) continueChains(ctx context.Context, out *Bundle, certs []*x509.Certificate) (chained bool, err error) {
	if len(out.Others) == 0 {
		return false, nil
	}
	issuers, err := a.Issuers(ctx)
	if err != nil {
		return false, err
	}
	for _, issuer := range issuers {
		next := *issuer
		if len(issuer.ManualChain) == 0 {
			next.Chain = continued(issuer.Chain, certs)
		}
		if len(next.Chain) > len(issuer.Chain) {
			if _, err := a.engine.newCA(next.Key, next.Chain); err != nil {
				return chained, fmt.Errorf("pki: issuer %s: %w", issuer.ID, err)
			}
			next.Modified = a.engine.now().UTC().Truncate(time.Microsecond)
			if next.Version, err = a.apply(ctx, a.put("issuers/"+next.ID, store.Expect(issuer.Version), next.record())); err != nil {
				return chained, fmt.Errorf("pki: issuer %q: %w", issuer.ID, cause(err))
			}
			a.forgetOCSP()
			out.Extended = append(out.Extended, &next)
		}
		chained = chained || slices.ContainsFunc(out.Others, func(cert *x509.Certificate) bool { return twice(next.Chain, cert) })
	}
	return chained, nil
}

func twice(before []*x509.Certificate, cert *x509.Certificate) bool {
	for _, other := range before {
		if bytes.Equal(other.Raw, cert.Raw) {
			return true
		}
	}
	return false
}
