package pki

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// IssuerUsage is what an issuer may be used for.
type IssuerUsage uint8

// The usages of an issuer. One that has none is read-only.
const (
	IssueCertificates IssuerUsage = 1 << iota // "issuing-certificates"
	SignCRLs                                  // "crl-signing"
	SignOCSP                                  // "ocsp-signing"

	AllIssuerUsages = IssueCertificates | SignCRLs | SignOCSP
)

// The values of Issuer.LeafNotAfter: what happens to a certificate that would outlive its issuer.
const (
	NotAfterErr      = "err"      // it is refused
	NotAfterTruncate = "truncate" // it ends with the issuer
	NotAfterPermit   = "permit"   // it is issued, and verifiers refuse it once the issuer has expired
)

// Issuer is a CA certificate of an authority, with the managed key that signs for it.
type Issuer struct {
	ID   string // UUID
	Name string // unique in the authority; may be empty

	Key        string // UUID of the managed key's entry
	KeyVersion int    // of that key, when the issuer was made; the certificate's public key decides

	Chain []*x509.Certificate // the issuer's own certificate first, each other the issuer of the one before

	// ManualChain are the ids of the issuers whose certificates Chain has, its own first, if an operator has chosen among several ways to
	// a root; otherwise Chain is what was found when the issuer was made. What it issues must be right by both. Where an issuer
	// is removed, its certificate stays in the chain.
	ManualChain []string

	found []*x509.Certificate // Chain as it was without ManualChain; nil if there is none

	Usage        IssuerUsage
	LeafNotAfter string // one of the constants above; "" is NotAfterErr

	// URLs go into what the issuer signs, in place of the authority's. They may have {{issuer_id}}, {{cluster_path}} and
	// {{cluster_aia_path}}, and those of CRLs {{shard}}: see [CRLConfig].
	URLs URLs

	CRLAlgorithm x509.SignatureAlgorithm // 0 is the best that the key has
	Created      time.Time
	Modified     time.Time // when UpdateIssuer changed it last; zero if it never did
	Version      uint64    // of the record in the store, for UpdateIssuer
}

// Certificate returns the issuer's own certificate. It must not be modified.
func (i *Issuer) Certificate() *x509.Certificate { return i.Chain[0] }

// signer identifies who signed, for CRLs: issuers with the same name and key are the same to a verifier (RFC 5280,
// Section 5.2.1), whatever their certificates, and have one CRL.
func signer(cert *x509.Certificate) string {
	sum := sha256.Sum256(slices.Concat(cert.RawSubject, cert.RawSubjectPublicKeyInfo))
	return hex.EncodeToString(sum[:16])
}

type issuerRecord struct {
	Name         string      `json:"name,omitempty"`
	Key          string      `json:"key"`
	KeyVersion   int         `json:"key_version"`
	Chain        [][]byte    `json:"chain"`
	Usage        IssuerUsage `json:"usage"`
	LeafNotAfter string      `json:"leaf_not_after_behavior"`
	URLs         URLs        `json:"urls"`
	CRLAlgorithm int         `json:"crl_algorithm,omitempty"`
	Created      time.Time   `json:"created"`
	Modified     time.Time   `json:"modified,omitzero"`
	ManualChain  []string    `json:"manual_chain,omitempty"`
	Found        [][]byte    `json:"found_chain,omitempty"` // without ManualChain, which the chain is then made of
}

func (i *Issuer) record() issuerRecord {
	r := issuerRecord{Name: i.Name, Key: i.Key, KeyVersion: i.KeyVersion, Usage: i.Usage, LeafNotAfter: i.LeafNotAfter, URLs: i.URLs,
		CRLAlgorithm: int(i.CRLAlgorithm), Created: i.Created, Modified: i.Modified, ManualChain: i.ManualChain}
	for _, cert := range i.Chain {
		r.Chain = append(r.Chain, cert.Raw)
	}
	for _, cert := range i.found {
		r.Found = append(r.Found, cert.Raw)
	}
	return r
}

func (r *issuerRecord) issuer(id string, version uint64) (*Issuer, error) {
	i := &Issuer{ID: id, Name: r.Name, Key: r.Key, KeyVersion: r.KeyVersion, Usage: r.Usage, LeafNotAfter: r.LeafNotAfter, URLs: r.URLs,
		CRLAlgorithm: x509.SignatureAlgorithm(r.CRLAlgorithm), Created: r.Created, Modified: r.Modified, Version: version, ManualChain: r.ManualChain}
	for _, chain := range []struct {
		from [][]byte
		to   *[]*x509.Certificate
	}{{r.Chain, &i.Chain}, {r.Found, &i.found}} {
		for _, der := range chain.from {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("pki: issuer %s: %w: %w", id, store.ErrCorrupt, err)
			}
			*chain.to = append(*chain.to, cert)
		}
	}
	if len(i.Chain) == 0 {
		return nil, fmt.Errorf("pki: issuer %s: %w: it has no certificate", id, store.ErrCorrupt)
	}
	return i, nil
}

func (i *Issuer) check() error {
	if err := checkName("issuer name", i.Name); i.Name != "" && err != nil {
		return err
	}
	if i.Name == defaultRef || uuid.Validate(i.Name) == nil {
		return invalid("issuer name %.40q: it would be taken for %q or an id", i.Name, defaultRef)
	}
	if i.Usage&^AllIssuerUsages != 0 {
		return invalid("issuer usage: got %#x, which has unknown bits", uint8(i.Usage))
	}
	if !slices.Contains([]string{"", NotAfterErr, NotAfterTruncate, NotAfterPermit}, i.LeafNotAfter) {
		return invalid("leaf_not_after_behavior: got %.40q; it takes %s, %s or %s", i.LeafNotAfter, NotAfterErr, NotAfterTruncate, NotAfterPermit)
	}
	_, err := i.URLs.expand(i.ID, ClusterConfig{"http://cluster.example/pki", "http://cluster.example/aia"}, 1)
	return err
}

// checkName takes the names of issuers, keys and roles: they are parts of paths.
func checkName(what, name string) error {
	ok := name != "" && len(name) <= 128 && name[0] != '.' && !strings.ContainsFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_' || r == '.')
	})
	if !ok {
		return invalid("%s %.140q: it takes 1 to 128 letters, digits, '-', '_' and '.', which is not the first", what, name)
	}
	return nil
}

// defaultRef refers to the default issuer.
const defaultRef = "default"

// Issuer returns an issuer by id, name, or "default", which "" means as well.
func (a *Authority) Issuer(ctx context.Context, ref string) (*Issuer, error) {
	id, record, err := a.issuerRecord(ctx, ref)
	if err != nil {
		return nil, err
	}
	held, err := a.heldIssuer(id, record)
	if err != nil {
		return nil, err
	}
	return held.issuer.clone(), nil
}

// clone returns a copy that the caller may modify, except for the certificates.
func (i *Issuer) clone() *Issuer {
	out := *i
	out.Chain, out.ManualChain, out.found, out.URLs = slices.Clone(i.Chain), slices.Clone(i.ManualChain), slices.Clone(i.found), i.URLs.clone()
	return &out
}

// issuerRecord returns the record of an issuer, and its id.
func (a *Authority) issuerRecord(ctx context.Context, ref string) (string, store.Record, error) {
	id := ref
	switch {
	case ref == "" || ref == defaultRef:
		c, err := recallIf[issuersRecord](ctx, a, "config/issuers")
		if err != nil {
			return "", store.Record{}, err
		}
		if id = c.Default; id == "" {
			return "", store.Record{}, fmt.Errorf("pki: issuer %q: there is no default issuer: %w", defaultRef, store.ErrNotFound)
		}
	case uuid.Validate(ref) != nil:
		if err := checkName("issuer", ref); err != nil {
			return "", store.Record{}, err
		}
		if _, err := a.read(ctx, "issuer-names/"+ref, &id); err != nil {
			return "", store.Record{}, fmt.Errorf("pki: issuer %q: %w", ref, cause(err))
		}
	}
	record, err := a.store.Get(ctx, a.prefix+"issuers/"+id)
	if err != nil {
		return "", store.Record{}, fmt.Errorf("pki: issuer %q: %w", ref, err)
	}
	return id, record, nil
}

// Issuers returns all issuers, in the order in which they were made.
func (a *Authority) Issuers(ctx context.Context) ([]*Issuer, error) {
	var out []*Issuer
	for record, err := range store.All(ctx, a.store, a.prefix+"issuers/") {
		if err != nil {
			return nil, fmt.Errorf("pki: issuers: %w", err)
		}
		id := strings.TrimPrefix(record.Key, a.prefix+"issuers/")
		var r issuerRecord
		if err := decodeRecord(record, &r); err != nil {
			return nil, err
		}
		issuer, err := r.issuer(id, record.Version)
		if err != nil {
			return nil, err
		}
		out = append(out, issuer)
	}
	slices.SortFunc(out, func(a, b *Issuer) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out, nil
}
