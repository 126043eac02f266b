package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// KeyRef names a managed key of the mount: by name or UUID, and in one version, or the newest if that is 0.
type KeyRef struct {
	Name    string
	Version int
}

func (e *Engine) keyAt(ctx context.Context, ref KeyRef) (*managedkey.Key, error) {
	if ref.Version == 0 {
		return e.key(ctx, ref.Name)
	}
	key, err := e.open(ctx, ref.Name, func() (*managedkey.Key, error) { return e.mount.KeyVersion(ctx, ref.Name, ref.Version) })
	return e.usable(ref.Name, key, err)
}

// GenerateRoot makes a self-signed issuer on a managed key, as [Engine.CreateRoot] does. name may be empty. The first issuer
// of an authority is the default one.
func (a *Authority) GenerateRoot(ctx context.Context, key KeyRef, name string, t CATemplate) (*Issuer, error) {
	if err := a.freeName(ctx, name); err != nil {
		return nil, err
	}
	handle, err := a.engine.keyAt(ctx, key)
	if err != nil {
		return nil, err
	}
	return a.selfSign(ctx, handle, name, t)
}

func (a *Authority) selfSign(ctx context.Context, handle *managedkey.Key, name string, t CATemplate) (*Issuer, error) {
	issuer := &Issuer{ID: uuid.NewString(), Name: name, Key: handle.UUID(), KeyVersion: handle.Version()}
	ca, err := a.engine.createRoot(ctx, handle, issuer.Key, t, a.keeping(certRecord{Issuer: issuer.ID}, LintProfile{}, false))
	if err != nil {
		return nil, err
	}
	if err := a.remember(ctx, handle); err != nil {
		return nil, err
	}
	issuer.Chain = ca.Chain()
	return a.addIssuer(ctx, issuer)
}

// freeName refuses a name before something is signed in vain. addIssuer decides.
func (a *Authority) freeName(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	if err := (&Issuer{Name: name}).check(); err != nil {
		return err
	}
	if _, err := a.Issuer(ctx, name); err == nil {
		return invalid("issuer name %q: there is one already", name)
	}
	return nil
}

// Rotation is what RotateRoot made.
type Rotation struct {
	Issuer *Issuer // the new root

	// NewByOld is the new root's key certified by the old one, for those who trust the old root; OldByNew the other way
	// round (RFC 4210, Section 4.4).
	NewByOld, OldByNew *x509.Certificate
}

// RotateRoot makes the next root beside an old one, and certificates of both keys by each other, so that whoever trusts one
// of them can verify what the other issued. The old root stays, and stays the default: see [Authority.SetDefaultIssuer]. An
// empty subject is the old root's. The key must be another one: the next version of the same entry, or another entry's.
// If a cross-certificate can't be made, what was made until then is returned beside the error.
func (a *Authority) RotateRoot(ctx context.Context, old string, key KeyRef, name string, t CATemplate) (*Rotation, error) {
	if err := a.freeName(ctx, name); err != nil {
		return nil, err
	}
	issuer, ca, err := a.ca(ctx, old, IssueCertificates)
	if err != nil {
		return nil, err
	}
	if !isRoot(ca.cert) {
		return nil, invalid("issuer %q: it is no root, but issued by %s", old, ca.cert.Issuer)
	}
	if ca.pathLen == 0 {
		return nil, invalid("path length: the root %s allows no further CA, so that it can't certify the next", ca.cert.Subject)
	}
	if _, err := ca.key(ctx); err != nil {
		return nil, err
	}
	handle, err := a.engine.keyAt(ctx, key)
	if err != nil {
		return nil, err
	}
	if equalKeys(handle.Public(), ca.cert.PublicKey) {
		return nil, invalid("key %.80q: it is the old root's; another version or key is needed", key.Name)
	}
	if isEmpty(t.Subject) {
		t.Subject = ca.cert.Subject
	}
	out := new(Rotation)
	if out.Issuer, err = a.selfSign(ctx, handle, name, t); err != nil {
		return nil, err
	}
	if out.NewByOld, err = a.CrossSign(ctx, issuer.ID, out.Issuer.Certificate(), CrossTemplate{}); err != nil {
		return out, err
	}
	out.OldByNew, err = a.CrossSign(ctx, out.Issuer.ID, ca.cert, CrossTemplate{})
	return out, err
}

// ReplaceRoot makes an issuer the default one, as the API's root/replace does. Only a self-signed one is taken.
func (a *Authority) ReplaceRoot(ctx context.Context, ref string) error {
	issuer, err := a.Issuer(ctx, ref)
	if err != nil {
		return err
	}
	if cert := issuer.Certificate(); !isRoot(cert) {
		return invalid("issuer %q: it is no root, but issued by %s", ref, cert.Issuer)
	}
	return a.SetDefaultIssuer(ctx, issuer.ID)
}

// Reissue gives an issuer's key and name another certificate, valid from now for that long, as a further issuer: what the old
// one issued verifies with both. A root signs itself; an intermediate is signed by its own issuer if that is in this
// authority too, and else needs CreateIntermediateCSR.
func (a *Authority) Reissue(ctx context.Context, ref, name string, validity time.Duration) (*Issuer, error) {
	if err := a.freeName(ctx, name); err != nil {
		return nil, err
	}
	issuer, ca, err := a.ca(ctx, ref, 0)
	if err != nil {
		return nil, err
	}
	handle, err := ca.key(ctx)
	if err != nil {
		return nil, err
	}
	next := &Issuer{ID: uuid.NewString(), Name: name, Key: issuer.Key, KeyVersion: handle.Version(),
		Usage: issuer.Usage, LeafNotAfter: issuer.LeafNotAfter, URLs: issuer.URLs, CRLAlgorithm: issuer.CRLAlgorithm}
	if isRoot(ca.cert) {
		template, err := copyCA(ca.cert, a.engine.now(), nil, CrossTemplate{Validity: validity})
		if err != nil {
			return nil, err
		}
		cert, err := a.engine.certify(ctx, handle, nil, template, handle.Public(), a.keeping(certRecord{Issuer: next.ID}, LintProfile{}, false))
		if err != nil {
			return nil, err
		}
		next.Chain = []*x509.Certificate{cert}
		return a.addIssuer(ctx, next)
	}
	parent, err := a.parentOf(ctx, ca.cert)
	if err != nil {
		return nil, err
	}
	cert, err := a.CrossSign(ctx, parent.ID, ca.cert, CrossTemplate{Validity: validity})
	if err != nil {
		return nil, err
	}
	next.Chain = append([]*x509.Certificate{cert}, parent.Chain...)
	return a.addIssuer(ctx, next)
}

// parentOf returns an issuer here that has signed a CA certificate, or has the name and key of who did. Of several, such as a root and
// its certificate by another one, it is one below which the CA does not stand itself.
func (a *Authority) parentOf(ctx context.Context, cert *x509.Certificate) (*Issuer, error) {
	issuers, err := a.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	for _, issuer := range issuers {
		parent := issuer.Certificate()
		circular := slices.ContainsFunc(issuer.Chain, func(above *x509.Certificate) bool { return signer(above) == signer(cert) })
		if bytes.Equal(parent.RawSubject, cert.RawIssuer) && bytes.Equal(parent.SubjectKeyId, cert.AuthorityKeyId) &&
			issuer.Usage&IssueCertificates != 0 && !circular {
			return issuer, nil
		}
	}
	return nil, invalid("issuer %s: its own issuer, %s, is not in this authority", cert.Subject, cert.Issuer)
}

// CreateIntermediateCSR returns a request in DER for a CA certificate of a managed key, to be signed elsewhere and brought
// back by SetSigned.
func (a *Authority) CreateIntermediateCSR(ctx context.Context, key KeyRef, t CSRTemplate) ([]byte, error) {
	handle, err := a.engine.keyAt(ctx, key)
	if err != nil {
		return nil, err
	}
	if isEmpty(t.Subject) {
		return nil, invalid("CSR: a CA has a subject; this is empty")
	}
	der, err := a.engine.createCSR(ctx, handle, t)
	if err != nil {
		return nil, err
	}
	return der, a.remember(ctx, handle)
}

// SetSigned makes an issuer of a certificate for a key that made a request here, or that another issuer has. The chain is in
// any order, and may have more certificates than are needed.
func (a *Authority) SetSigned(ctx context.Context, name string, chain []*x509.Certificate) (*Issuer, error) {
	for _, cert := range chain {
		if cert == nil || !cert.IsCA {
			continue
		}
		key, err := a.keyOf(ctx, cert)
		switch {
		case errors.Is(err, store.ErrNotFound):
			continue
		case err != nil:
			return nil, err
		case issuesNone(cert, chain):
			return a.Import(ctx, KeyRef{key.UUID, key.Version}, name, inOrder(cert, chain))
		}
	}
	return nil, invalid("chain: none of %d certificates is a CA's whose key is known here; Import takes the key's name", len(chain))
}

// Import makes an issuer of a chain whose first certificate is that of a managed key, in whatever version if that is 0.
func (a *Authority) Import(ctx context.Context, key KeyRef, name string, chain []*x509.Certificate) (*Issuer, error) {
	if err := a.freeName(ctx, name); err != nil {
		return nil, err
	}
	ca, err := a.engine.LoadCA(ctx, key.Name, chain)
	if err != nil {
		return nil, err
	}
	handle, err := ca.key(ctx)
	if err != nil {
		return nil, err
	}
	if key.Version != 0 && handle.Version() != key.Version {
		return nil, invalid("chain: certificate 0 (%s) is of version %d of the key %.80q; got version %d", ca.cert.Subject, handle.Version(), key.Name, key.Version)
	}
	if same, err := a.same(ctx, ca.cert); err != nil || same != nil {
		if err == nil {
			err = fmt.Errorf("pki: chain: it is issuer %s already: %w", same.ID, backend.ErrKeyExists)
		}
		return nil, err
	}
	if err := a.remember(ctx, handle); err != nil {
		return nil, err
	}
	return a.addIssuer(ctx, &Issuer{Name: name, Key: handle.UUID(), KeyVersion: handle.Version(), Chain: chain})
}

// same returns the issuer with that certificate, or nil.
func (a *Authority) same(ctx context.Context, cert *x509.Certificate) (*Issuer, error) {
	issuers, err := a.Issuers(ctx)
	for _, issuer := range issuers {
		if issuer.Certificate().Equal(cert) {
			return issuer, nil
		}
	}
	return nil, err
}

// issuesNone reports whether cert has issued none of the others.
func issuesNone(cert *x509.Certificate, chain []*x509.Certificate) bool {
	for _, other := range chain {
		if other != nil && !other.Equal(cert) && bytes.Equal(other.RawIssuer, cert.RawSubject) && signedBy(other, cert) == nil {
			return false
		}
	}
	return true
}

// inOrder returns the certificates of a chain from cert up. Of several that could be next, a root is, and no key comes twice: roots that
// have certified each other would lead in circles.
func inOrder(cert *x509.Certificate, chain []*x509.Certificate) []*x509.Certificate {
	return continued([]*x509.Certificate{cert}, chain)
}

// continued returns a chain with what others have above its end.
func continued(chain, others []*x509.Certificate) []*x509.Certificate {
	out := slices.Clone(chain)
	seen := make(map[string]bool)
	for _, cert := range out {
		seen[signer(cert)] = true
	}
	for last := out[len(out)-1]; !isRoot(last) && len(out) <= maxChain; { // one of another root of the same name goes on
		next := parentAmong(last, others, seen)
		if next == nil {
			break
		}
		out, last = append(out, next), next
		seen[signer(next)] = true
	}
	return out
}

// parentAmong returns the issuer of a certificate, nil if it is not among chain or was seen.
func parentAmong(cert *x509.Certificate, chain []*x509.Certificate, seen map[string]bool) *x509.Certificate {
	for _, root := range []bool{true, false} {
		for _, other := range chain {
			if other != nil && bytes.Equal(other.RawSubject, cert.RawIssuer) && isRoot(other) == root &&
				!seen[signer(other)] && signedBy(cert, other) == nil {
				return other
			}
		}
	}
	return nil
}
