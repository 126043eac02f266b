package pki

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// The states of a certificate in the store.
const (
	// StatePending is a certificate that a managed key was about to be asked for. If it stays so, the program died or the
	// key manager's answer was lost: the certificate may exist, and nobody was given it by this authority. Revoke takes
	// it like any other.
	StatePending = "pending"

	// StateIssued is a certificate that was signed and stored.
	StateIssued = "issued"
)

// Certificate is a certificate in the store of an authority.
type Certificate struct {
	Serial      string            // as FormatSerial has it
	State       string            // StatePending or StateIssued
	Certificate *x509.Certificate // of a pending one the signature is empty or a throwaway key's, and all else what was to be signed
	IssuerID    string            // empty if the issuer is none of the authority's
	Role        string            // empty for CA certificates and without a role
	Actor       string            // managedkey.Actor.ID of the context in which it was issued
	Issued      time.Time
	Revocation  *Revocation // nil if it is not revoked
	Shard       int         // of CRLs: see [CRLConfig]; 0 if it has none

	signer  string
	version uint64
}

// Revocation says that, when and why a certificate was revoked.
type Revocation struct {
	Time   time.Time `json:"time"`
	Reason int       `json:"reason"` // of RFC 5280, Section 5.3.1
}

type certRecord struct {
	State   string      `json:"state"`
	DER     []byte      `json:"der"`
	Issuer  string      `json:"issuer,omitempty"`
	Signer  string      `json:"signer"`
	Role    string      `json:"role,omitempty"`
	Actor   string      `json:"actor,omitempty"`
	Issued  time.Time   `json:"issued"`
	Revoked *Revocation `json:"revoked,omitempty"`
	Shard   int         `json:"shard,omitempty"`
}

// FormatSerial returns a serial number as two hexadecimal digits for each byte, with colons between them.
func FormatSerial(serial *big.Int) string {
	digits := fmt.Sprintf("%x", serial)
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	var b strings.Builder
	for i := 0; i < len(digits); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(digits[i : i+2])
	}
	return b.String()
}

// ParseSerial reads a serial number of hexadecimal digits, with colons or hyphens between bytes or without.
func ParseSerial(text string) (*big.Int, error) {
	if len(text) > 64 { // the time to read a number grows with the square of its length
		return nil, invalid("serial number %.40q…: it takes 1 to 20 bytes in hexadecimal; got %d characters", text, len(text))
	}
	digits := strings.NewReplacer(":", "", "-", "").Replace(text)
	serial, ok := new(big.Int).SetString(digits, 16)
	if !ok || strings.ContainsAny(digits, "+_") || serial.Sign() <= 0 || serial.BitLen() > 159 {
		return nil, invalid("serial number %.80q: it takes 1 to 20 bytes in hexadecimal, such as 17:8e:5c", text)
	}
	return serial, nil
}

func certKey(serial *big.Int) string { return fmt.Sprintf("certs/%040x", serial) }

// keeping returns terms on which certificates are stored before and after they are signed, unless noStore says otherwise. Of r,
// Issuer and Role are used.
func (a *Authority) keeping(r certRecord, profile LintProfile, noStore bool) *terms {
	how := &terms{profile: profile}
	if !noStore {
		how.keep = func(ctx context.Context, d *draft) (*x509.Certificate, error) { return a.keep(ctx, d, r) }
	}
	return how
}

// keep stores a draft, signs it, and stores what came of it. Whatever happens in between, the store knows of every
// certificate that may exist.
func (a *Authority) keep(ctx context.Context, d *draft, r certRecord) (*x509.Certificate, error) {
	r.State, r.DER, r.Issued = StatePending, d.der, a.engine.now().UTC().Truncate(time.Second)
	r.Actor = managedkey.ActorOf(ctx).ID
	if r.Signer = signer(d.cert); d.issuer != nil {
		r.Signer = signer(d.issuer.cert)
	}
	version, err := a.insert(ctx, d.cert, r)
	if err != nil {
		return nil, err
	}
	cert, err := d.sign(ctx)
	if err != nil {
		if !maybeSigned(err) {
			again, cancel := detached(ctx)
			defer cancel()
			_, _ = a.apply(again, a.remove(certKey(d.cert.SerialNumber), store.Expect(version))) // else it stays pending
			a.unindex(again, d.cert, r.Issuer)
		}
		return nil, err
	}
	again, cancel := detached(ctx) // it exists now, whether somebody waits for it or not
	defer cancel()
	r.State, r.DER = StateIssued, cert.Raw
	if _, err := a.apply(again, a.put(certKey(cert.SerialNumber), store.Expect(version), r)); err != nil {
		return nil, fmt.Errorf("pki: certificate %s was signed, is %s in the store, and is not returned: %w",
			FormatSerial(cert.SerialNumber), StatePending, cause(err))
	}
	return cert, nil
}

// maybeSigned reports whether a signature may have been made although err came instead.
func maybeSigned(err error) bool {
	for _, sentinel := range []error{backend.ErrNotPermitted, backend.ErrKeyNotFound, backend.ErrKeyChanged, backend.ErrUnsupported,
		backend.ErrKeyDisabled, backend.ErrCredentials, backend.ErrThrottled} {
		if errors.Is(err, sentinel) {
			return false
		}
	}
	return true
}

// maxOps is how many ops a transaction has at most: a sealed store takes one fewer than others.
const maxOps = store.MaxOps - 1

// insert stores a certificate that is not there yet, with what finds it.
func (a *Authority) insert(ctx context.Context, cert *x509.Certificate, r certRecord) (uint64, error) {
	keys := indexKeys(cert, r.Issuer)
	var more []store.Op
	for _, key := range keys {
		value := []byte{}
		if strings.HasPrefix(key, "expiry/") {
			value = strconv.AppendInt(value, cert.NotAfter.Unix(), 10)
		}
		more = append(more, store.Op{Kind: store.Put, Key: a.prefix + key, Value: value, Expect: store.Any})
	}
	// What finds nothing does no harm, so that it goes first if there is too much for one transaction.
	for len(more) >= maxOps {
		n := min(len(more)-maxOps/2, maxOps)
		if _, err := a.apply(ctx, more[:n]...); err != nil {
			return 0, err
		}
		more = more[n:]
	}
	version, err := a.apply(ctx, append([]store.Op{a.put(certKey(cert.SerialNumber), store.Absent, r)}, more...)...)
	if err != nil {
		return 0, fmt.Errorf("pki: certificate %s: %w", FormatSerial(cert.SerialNumber), cause(err))
	}
	return version, nil
}

// unindex removes what finds a certificate that is gone. What is left does no harm.
func (a *Authority) unindex(ctx context.Context, cert *x509.Certificate, issuer string) {
	for keys := range slices.Chunk(slices.Concat(indexKeys(cert, issuer), formerIndexKeys(cert, issuer)), maxOps) {
		var ops []store.Op
		for _, key := range keys {
			ops = append(ops, a.remove(key, store.Any))
		}
		_, _ = a.apply(ctx, ops...)
	}
}

// Certificate returns the certificate of a serial number in any form that ParseSerial takes.
func (a *Authority) Certificate(ctx context.Context, serial string) (*Certificate, error) {
	number, err := ParseSerial(serial)
	if err != nil {
		return nil, err
	}
	return a.certificate(ctx, number)
}

func (a *Authority) certificate(ctx context.Context, serial *big.Int) (*Certificate, error) {
	record, err := a.store.Get(ctx, a.prefix+certKey(serial))
	if err != nil {
		return nil, fmt.Errorf("pki: certificate %s: %w", FormatSerial(serial), err)
	}
	return decodeCertificate(record)
}

func decodeCertificate(record store.Record) (*Certificate, error) {
	var r certRecord
	if err := decodeRecord(record, &r); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(r.DER)
	if err != nil {
		return nil, fmt.Errorf("pki: %s: %w: %w", record.Key, store.ErrCorrupt, err)
	}
	// Whatever is told of this certificate, or is made of it, is found by the key.
	if cert.SerialNumber.BitLen() > 160 || !strings.HasSuffix(record.Key, "/"+certKey(cert.SerialNumber)) {
		return nil, fmt.Errorf("pki: %s: %w: the certificate has the serial number %.80s", record.Key, store.ErrCorrupt, FormatSerial(cert.SerialNumber))
	}
	return &Certificate{
		Serial: FormatSerial(cert.SerialNumber), State: r.State, Certificate: cert, IssuerID: r.Issuer, Role: r.Role, Actor: r.Actor,
		Issued: r.Issued, Revocation: r.Revoked, Shard: r.Shard, signer: r.Signer, version: record.Version,
	}, nil
}

func (c *Certificate) record() certRecord {
	return certRecord{c.State, c.Certificate.Raw, c.IssuerID, c.signer, c.Role, c.Actor, c.Issued, c.Revocation, c.Shard}
}
