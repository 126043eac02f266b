package pki

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Certificates are found by records whose keys end with the serial number, and which are empty but for the first kind:
//
//	expiry/<day>/<age>/<serial>          days since 1970; engines whose lists have another order find a day all the same. The value
//	                                     is the second since 1970 that is the last one, in decimal; empty in records of earlier versions
//	by-issuer/<issuer id>/<age>/<serial>
//	names/<name>/=/<age>/<serial>        DNS names and hosts from the top: names/com/example/www/=/…
//	texts/<SHA-256>/<age>/<serial>       every other name, and common names
//
// The age, of eight hexadecimal digits, is the less the later a certificate begins. Without it, as earlier versions have written the
// records, each new one has a place of its own by chance; with it those of certificates that are issued together are together, in
// lists, which have the newest ones first, as well as in an engine's tree, of which fewer pages are read and written then.
func indexKeys(cert *x509.Certificate, issuer string) []string {
	return withSerial(indexPrefixes(cert, issuer), ageOf(cert.NotBefore)+"/", cert.SerialNumber)
}

// formerIndexKeys returns the keys that earlier versions have given the records.
func formerIndexKeys(cert *x509.Certificate, issuer string) []string {
	return withSerial(indexPrefixes(cert, issuer), "", cert.SerialNumber)
}

func withSerial(prefixes []string, age string, serial *big.Int) []string {
	keys := make([]string, len(prefixes))
	for i, prefix := range prefixes {
		keys[i] = fmt.Sprintf("%s%s%040x", prefix, age, serial)
	}
	return keys
}

// indexPrefixes returns under what a certificate is found.
func indexPrefixes(cert *x509.Certificate, issuer string) []string {
	prefixes := []string{expiryIndex(dayOf(cert.NotAfter))}
	if issuer != "" {
		prefixes = append(prefixes, issuerIndex(issuer))
	}
	for _, name := range namesOf(cert) {
		prefixes = append(prefixes, nameIndex(name))
	}
	slices.Sort(prefixes)
	return slices.Compact(prefixes)
}

// ageOf returns what makes keys with later times come first.
func ageOf(t time.Time) string {
	return fmt.Sprintf("%08x", math.MaxUint32-max(0, min(t.Unix(), math.MaxUint32)))
}

func expiryIndex(day int64) string { return fmt.Sprintf("expiry/%06d/", day) }

func issuerIndex(id string) string { return "by-issuer/" + id + "/" }

func dayOf(t time.Time) int64 { return t.Unix() / 86400 }

// namesOf returns the names of a certificate by which it is found.
func namesOf(cert *x509.Certificate) []string {
	names := slices.Concat(cert.DNSNames, cert.EmailAddresses)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	for _, uri := range cert.URIs {
		names = append(names, uri.String())
	}
	if cn := cert.Subject.CommonName; cn != "" {
		names = append(names, cn)
	}
	for i := range names {
		names[i] = strings.ToLower(names[i])
	}
	return names
}

// nameIndex returns the prefix under which certificates with that name are.
func nameIndex(name string) string {
	if checkDNS(name, true) == "" {
		return "names/" + fromTop(name) + "/=/"
	}
	return fmt.Sprintf("texts/%x/", sha256.Sum256([]byte(name)))
}

func fromTop(domain string) string {
	labels := strings.Split(domain, ".")
	slices.Reverse(labels)
	return strings.Join(labels, "/")
}

// Query says which certificates [Authority.Search] returns: those that fit all that is given.
type Query struct {
	// Name is a DNS name, address, URI, or common name, as it is in the certificate but for its case. One that begins with
	// a dot is every DNS name below the rest: ".example.com".
	Name string

	Issuer string // id or name of the issuer, or "default"

	// ExpiresAfter and ExpiresBefore bound NotAfter; zero is no bound. Without a Name and an Issuer, give both: the days
	// between are gone through, at most 40,000.
	ExpiresAfter, ExpiresBefore time.Time

	State   string // StatePending or StateIssued; "" is any
	Revoked *bool  // nil is any

	After string // where the last page ended: its Next
	Limit int    // the most that is returned, 1 to 1,000; 0 is 100
}

// CertificatePage is a part of a search.
type CertificatePage struct {
	Certificates []*Certificate
	Next         string // for Query.After; empty if nothing is left. The last page may be empty
}

// maxLimit bounds the pages of Search.
const maxLimit = store.MaxPage

// Search returns the certificates that fit a query, a page at a time. Those that are issued or removed meanwhile may or may
// not be among them, and one that has several names below a domain may come once on each of several pages. Without a query it
// returns all of them by serial number. Those of a name, of an issuer and of a day of expiry begin with the newest one, after those that
// earlier versions have stored, and unless the store's lists have another order.
func (a *Authority) Search(ctx context.Context, q Query) (CertificatePage, error) {
	var page CertificatePage
	if q.Limit < 0 || q.Limit > maxLimit {
		return page, invalid("search: limit %d; it takes 1 to %d, or 0 for 100", q.Limit, maxLimit)
	}
	if q.Limit == 0 {
		q.Limit = 100
	}
	if q.Issuer != "" {
		issuer, err := a.Issuer(ctx, q.Issuer)
		if err != nil {
			return page, err
		}
		q.Issuer = issuer.ID
	}
	prefixes, err := q.prefixes()
	if err != nil {
		return page, err
	}
	for _, prefix := range prefixes {
		after, ok := q.resume(a.prefix, prefix)
		if !ok {
			continue
		}
		if done, err := a.searchUnder(ctx, &q, prefix, after, &page); done || err != nil {
			return page, err
		}
	}
	page.Next = ""
	return page, nil
}

// prefixes returns where the certificates of a query are, the narrowest index that there is.
func (q *Query) prefixes() ([]string, error) {
	name := strings.ToLower(q.Name)
	switch {
	case strings.HasPrefix(name, "."):
		if problem := checkDNS(name[1:], false); problem != "" {
			return nil, invalid("search: name %.80q: %s", q.Name, problem)
		}
		return []string{"names/" + fromTop(name[1:]) + "/"}, nil
	case name != "":
		return []string{nameIndex(name)}, nil
	case !q.ExpiresAfter.IsZero() && !q.ExpiresBefore.IsZero():
		first, last := dayOf(q.ExpiresAfter), dayOf(q.ExpiresBefore)
		if last-first > 40_000 || first < 0 {
			return nil, invalid("search: %d days from %s; it takes at most 40,000 from 1970 on", last-first, stamp(q.ExpiresAfter))
		}
		var out []string
		for day := first; day <= last; day++ {
			out = append(out, expiryIndex(day))
		}
		return out, nil
	case q.Issuer != "":
		return []string{issuerIndex(q.Issuer)}, nil
	}
	return []string{"certs/"}, nil
}

// resume returns the key after which a search goes on under prefix; not ok says that it was done with.
func (q *Query) resume(base, prefix string) (after string, ok bool) {
	switch {
	case q.After == "":
		return "", true
	case strings.HasPrefix(q.After, prefix):
		after, q.After = base+q.After, ""
		return after, true
	}
	return "", false
}

func (a *Authority) searchUnder(ctx context.Context, q *Query, prefix, after string, page *CertificatePage) (done bool, err error) {
	for {
		records, err := a.store.List(ctx, a.prefix+prefix, after, q.Limit)
		if err != nil {
			return true, fmt.Errorf("pki: search: %w", err)
		}
		for _, record := range records.Records {
			after = record.Key
			// The domain itself is not below itself.
			if strings.HasPrefix(q.Name, ".") && strings.HasPrefix(record.Key, a.prefix+prefix+"=/") {
				continue
			}
			cert, err := a.indexed(ctx, record)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return true, err
			}
			if !q.fits(cert) || slices.ContainsFunc(page.Certificates, func(c *Certificate) bool { return c.Serial == cert.Serial }) {
				continue
			}
			page.Certificates = append(page.Certificates, cert)
			if page.Next = strings.TrimPrefix(after, a.prefix); len(page.Certificates) == q.Limit {
				return true, nil
			}
		}
		if !records.More || len(records.Records) == 0 {
			return false, nil
		}
	}
}

// indexed returns the certificate that a record of an index, or its own, is about.
func (a *Authority) indexed(ctx context.Context, record store.Record) (*Certificate, error) {
	if strings.HasPrefix(record.Key, a.prefix+"certs/") {
		return decodeCertificate(record)
	}
	serial, err := serialIn(record)
	if err != nil {
		return nil, err
	}
	return a.certificate(ctx, serial)
}

func (q *Query) fits(c *Certificate) bool {
	end := c.Certificate.NotAfter
	switch {
	case q.Issuer != "" && c.IssuerID != q.Issuer,
		q.State != "" && c.State != q.State,
		q.Revoked != nil && (c.Revocation != nil) != *q.Revoked,
		!q.ExpiresAfter.IsZero() && end.Before(q.ExpiresAfter),
		!q.ExpiresBefore.IsZero() && !end.Before(q.ExpiresBefore):
		return false
	}
	return true
}

// Counts are how many certificates the store has.
type Counts struct {
	Issued, Pending  int // issued includes those that were revoked or have expired
	Revoked, Expired int
}

// Count goes through all certificates.
func (a *Authority) Count(ctx context.Context) (Counts, error) {
	var n Counts
	now := a.engine.now()
	for record, err := range a.all(ctx, "certs/") {
		if err != nil {
			return n, err
		}
		c, err := decodeCertificate(record)
		if err != nil {
			return n, err
		}
		if c.State == StatePending {
			n.Pending++
		} else {
			n.Issued++
		}
		if c.Revocation != nil {
			n.Revoked++
		}
		if c.Certificate.NotAfter.Before(now) {
			n.Expired++
		}
	}
	return n, nil
}
