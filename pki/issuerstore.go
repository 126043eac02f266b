package pki

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

type issuersRecord struct {
	Default       string `json:"default"`
	FollowsLatest bool   `json:"follows_latest,omitempty"`

	Changed time.Time `json:"changed"` // when Default became what it is
}

// setDefault makes an issuer the default one, none if id is empty.
func (c *issuersRecord) setDefault(id string, now time.Time) {
	if c.Default != id {
		c.Default, c.Changed = id, now.UTC().Truncate(time.Microsecond)
	}
}

func decodeRecord(record store.Record, out any) error {
	if err := json.Unmarshal(record.Value, out); err != nil {
		return fmt.Errorf("pki: %s: %w: %w", record.Key, store.ErrCorrupt, err)
	}
	return nil
}

// UpdateIssuer changes an issuer's Name, Usage, LeafNotAfter, URLs, CRLAlgorithm and ManualChain, which takes names as well as ids, if
// its Version is still that of the store; the error wraps [store.ErrConflict] otherwise.
func (a *Authority) UpdateIssuer(ctx context.Context, in Issuer) (*Issuer, error) {
	now, err := a.Issuer(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	next := *now
	next.Name, next.Usage, next.LeafNotAfter, next.URLs, next.CRLAlgorithm = in.Name, in.Usage, in.LeafNotAfter, in.URLs, in.CRLAlgorithm
	if err := next.check(); err != nil {
		return nil, err
	}
	if next.CRLAlgorithm != 0 && next.CRLAlgorithm != now.CRLAlgorithm && !fits(next.CRLAlgorithm, next.Certificate().PublicKey) {
		return nil, invalid("issuer %s: revocation signature algorithm %s; its key is %s", in.ID, next.CRLAlgorithm, backend.Describe(next.Certificate().PublicKey))
	}
	if !slices.Equal(in.ManualChain, now.ManualChain) {
		if err := a.chain(ctx, &next, in.ManualChain); err != nil {
			return nil, err
		}
	}
	next.Modified = a.engine.now().UTC().Truncate(time.Microsecond)
	ops := []store.Op{a.put("issuers/"+in.ID, store.Expect(in.Version), next.record())}
	if next.Name != now.Name {
		if now.Name != "" {
			ops = append(ops, a.remove("issuer-names/"+now.Name, store.Any))
		}
		if next.Name != "" {
			ops = append(ops, a.put("issuer-names/"+next.Name, store.Absent, in.ID))
		}
	}
	if next.Version, err = a.apply(ctx, ops...); err != nil {
		return nil, fmt.Errorf("pki: issuer %q: %w", in.ID, cause(err))
	}
	a.forgetOCSP()
	return &next, nil
}

// DefaultIssuerChanged returns when the default issuer became that: what is answered about "the default one" is not older. It is zero
// if there never was one.
func (a *Authority) DefaultIssuerChanged(ctx context.Context) (time.Time, error) {
	var c issuersRecord
	_, err := a.readIf(ctx, "config/issuers", &c)
	return c.Changed, err
}

// chain gives an issuer the chain of those that refs refer to, or the one that was found if there are none.
func (a *Authority) chain(ctx context.Context, i *Issuer, refs []string) error {
	if i.found == nil {
		i.found = i.Chain
	}
	i.Chain, i.ManualChain = i.found, nil
	if len(refs) == 0 {
		i.found = nil
		return nil
	}
	if len(refs) > maxChain {
		return invalid("manual chain: got %d issuers; it takes at most %d", len(refs), maxChain)
	}
	var chain []*x509.Certificate
	for n, ref := range refs {
		other, err := a.Issuer(ctx, ref)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return invalid("manual chain: issuer %.140q is not there", ref)
		case err != nil:
			return err
		case n == 0 && other.ID != i.ID:
			return invalid("manual chain: the first is issuer %s; it takes the issuer itself, %s", other.ID, i.ID)
		case slices.Contains(i.ManualChain, other.ID):
			return invalid("manual chain: issuer %s comes twice", other.ID)
		}
		i.ManualChain, chain = append(i.ManualChain, other.ID), append(chain, other.Certificate())
	}
	if _, err := a.engine.newCA(i.Key, chain); err != nil {
		return err
	}
	i.Chain = chain
	return nil
}

// SetDefaultIssuer makes an issuer the default one.
func (a *Authority) SetDefaultIssuer(ctx context.Context, ref string) error {
	issuer, err := a.Issuer(ctx, ref)
	if err != nil {
		return err
	}
	check := store.Op{Kind: store.Check, Key: a.prefix + "issuers/" + issuer.ID, Expect: store.Expect(issuer.Version)}
	for try := 0; ; try++ {
		var c issuersRecord
		version, err := a.readIf(ctx, "config/issuers", &c)
		if err != nil {
			return err
		}
		c.setDefault(issuer.ID, a.engine.now())
		_, err = a.apply(ctx, a.put("config/issuers", store.Expect(version), c), check)
		if !errors.Is(err, store.ErrConflict) || try == maxTries {
			return err
		}
		if again, err := a.Issuer(ctx, issuer.ID); err != nil || again.Version != issuer.Version {
			return errors.Join(err, fmt.Errorf("pki: issuer %q: %w", ref, store.ErrConflict))
		}
	}
}

// DeleteIssuer removes an issuer, neither its key nor what it issued. Its certificates can still be revoked; a CRL says so
// only as long as another issuer has the same name and key, and so long stays their delegated OCSP responder. The default issuer
// then is none.
func (a *Authority) DeleteIssuer(ctx context.Context, ref string) error {
	issuer, err := a.Issuer(ctx, ref)
	if err != nil {
		return err
	}
	ops := []store.Op{a.remove("issuers/"+issuer.ID, store.Expect(issuer.Version))}
	if issuer.Name != "" {
		ops = append(ops, a.remove("issuer-names/"+issuer.Name, store.Any))
	}
	var c issuersRecord
	version, err := a.readIf(ctx, "config/issuers", &c)
	if err != nil {
		return err
	}
	if c.Default == issuer.ID {
		c.setDefault("", a.engine.now())
		ops = append(ops, a.put("config/issuers", store.Expect(version), c))
	}
	issuers, err := a.Issuers(ctx)
	if err != nil {
		return err
	}
	who := signer(issuer.Certificate())
	last := !slices.ContainsFunc(issuers, func(other *Issuer) bool { return other.ID != issuer.ID && signer(other.Certificate()) == who })
	if last { // nobody could renew the responder's certificate any more
		ops = append(ops, a.remove("ocsp-responders/"+who, store.Any))
	}
	_, err = a.apply(ctx, ops...)
	a.forgetOCSP()
	return err
}

// addIssuer stores a new issuer. The first one is the default, and the latest one if the default follows.
func (a *Authority) addIssuer(ctx context.Context, issuer *Issuer) (*Issuer, error) {
	if issuer.ID == "" {
		issuer.ID = uuid.NewString()
	}
	if issuer.Usage == 0 {
		issuer.Usage = AllIssuerUsages
		if issuer.Chain[0].KeyUsage&x509.KeyUsageCRLSign == 0 {
			issuer.Usage &^= SignCRLs
		}
	}
	if issuer.LeafNotAfter == "" {
		issuer.LeafNotAfter = NotAfterErr
	}
	issuer.Created = a.engine.now().UTC().Truncate(time.Microsecond)
	if err := issuer.check(); err != nil {
		return nil, err
	}
	ops := []store.Op{a.put("issuers/"+issuer.ID, store.Absent, issuer.record())}
	if issuer.Name != "" {
		ops = append(ops, a.put("issuer-names/"+issuer.Name, store.Absent, issuer.ID))
	}
	var err error
	if issuer.Version, err = a.apply(ctx, ops...); err != nil {
		return nil, err
	}
	a.forgetOCSP()
	return issuer, update(ctx, a, "config/issuers", func(c *issuersRecord, _ uint64) error {
		if c.Default != "" && !c.FollowsLatest {
			return errUnchanged
		}
		c.setDefault(issuer.ID, a.engine.now())
		return nil
	})
}

// String returns the names of usages as the API has them.
func (u IssuerUsage) String() string {
	names := []string{"read-only"}
	for i, name := range []string{"issuing-certificates", "crl-signing", "ocsp-signing"} {
		if u&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// Key is a managed key that the authority has used for an issuer or a request.
type Key struct {
	ID      string // hex SHA-256 of the public key's SubjectPublicKeyInfo
	UUID    string // of the managed key's entry
	Version int    // of that key
	Name    string // unique in the authority; may be empty. See RenameKey
}

type keyRecord struct {
	UUID    string `json:"uuid"`
	Version int    `json:"version"`
	Name    string `json:"name,omitempty"`
}

// remember stores that a key belongs to the authority, so that a certificate for it is recognised.
func (a *Authority) remember(ctx context.Context, key *managedkey.Key) error {
	sum, err := backend.Fingerprint(key.Public())
	if err != nil {
		return fmt.Errorf("pki: key %q: %w", key.ID(), err)
	}
	return update(ctx, a, fmt.Sprintf("keys/%x", sum), func(r *keyRecord, version uint64) error {
		if version != 0 && r.UUID == key.UUID() && r.Version == key.Version() {
			return errUnchanged
		}
		r.UUID, r.Version = key.UUID(), key.Version()
		return nil
	})
}

// Keys returns the keys that were used for issuers and requests, sorted by id.
func (a *Authority) Keys(ctx context.Context) ([]Key, error) {
	var out []Key
	for record, err := range store.All(ctx, a.store, a.prefix+"keys/") {
		if err != nil {
			return nil, fmt.Errorf("pki: keys: %w", err)
		}
		var r keyRecord
		if err := decodeRecord(record, &r); err != nil {
			return nil, err
		}
		out = append(out, Key{strings.TrimPrefix(record.Key, a.prefix+"keys/"), r.UUID, r.Version, r.Name})
	}
	return out, nil
}

// keyOf returns the known key that a certificate is for.
func (a *Authority) keyOf(ctx context.Context, cert *x509.Certificate) (Key, error) {
	sum, err := backend.Fingerprint(cert.PublicKey)
	if err != nil {
		return Key{}, invalid("certificate %s: %w", cert.Subject, err)
	}
	var r keyRecord
	id := fmt.Sprintf("%x", sum)
	if _, err := a.read(ctx, "keys/"+id, &r); err != nil {
		return Key{}, fmt.Errorf("pki: certificate %s: no managed key of this authority has its public key (SHA-256 %s): %w", cert.Subject, id, cause(err))
	}
	return Key{id, r.UUID, r.Version, r.Name}, nil
}
