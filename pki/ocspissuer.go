package pki

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// ocspReload is how long a process may not notice what another has changed in issuers, responders and configuration. It notices
// revocations at once.
const ocspReload = time.Second

// ocspAgain is how old what a process knows of issuers must be for it to look again because of one that it doesn't know. Everybody may
// ask about those that there are not.
const ocspAgain = 100 * time.Millisecond

// ocspIssuers are the issuers that can be asked about.
type ocspIssuers struct {
	config OCSPConfig
	byID   map[issuerID]*ocspIssuer
	loaded time.Time // of the monotonic clock
}

// ocspIssuer answers for a signer, whatever certificates that has.
type ocspIssuer struct {
	signer   string
	issuer   *Issuer
	ca       *CA
	queue    *ocspQueue
	own      *responder
	delegate *responder // nil if the issuer answers itself
	trusted  [][]byte   // fingerprints of certificates whose answers may still be given
	problem  error      // why nobody can answer now
}

func fingerprint(cert *x509.Certificate) []byte {
	sum := sha256.Sum256(cert.Raw)
	return sum[:]
}

// responder returns who answers.
func (o *ocspIssuer) responder() (*responder, error) {
	switch {
	case o.problem != nil:
		return nil, o.problem
	case o.delegate != nil:
		return o.delegate, nil
	}
	return o.own, nil
}

func (o *ocspIssuer) trusts(fingerprint []byte) bool {
	for _, t := range o.trusted {
		if bytes.Equal(t, fingerprint) {
			return true
		}
	}
	return false
}

// ocspIssuer returns the issuer that answers a request: that of the first id whose issuer is here.
func (a *Authority) ocspIssuer(ctx context.Context, request *ocspRequest) (*ocspIssuer, OCSPConfig, error) {
	all, err := a.ocspIssuers(ctx, false)
	if err != nil {
		return nil, OCSPConfig{}, err
	}
	first := all.first(request.ids)
	if first == nil && !all.config.Disabled && time.Since(all.loaded) >= ocspAgain { // it may be a new one
		if all, err = a.sharedOCSPIssuers(ctx); err != nil {
			return nil, OCSPConfig{}, err
		}
		first = all.first(request.ids)
	}
	switch {
	case all.config.Disabled:
		return nil, all.config, fmt.Errorf("pki: OCSP: it is disabled: %w", errOCSPUnauthorized)
	case first == nil:
		return nil, all.config, fmt.Errorf("pki: OCSP: request: it is about no issuer of this authority that may answer: %w", errOCSPUnauthorized)
	}
	return first, all.config, nil
}

// first returns the issuer of the first id that is about one, and marks the ids that are not about that.
func (all *ocspIssuers) first(ids []certID) *ocspIssuer {
	var first *ocspIssuer
	for i := range ids {
		o := all.find(&ids[i])
		if first == nil {
			first = o
		}
		ids[i].foreign = o == nil || o.signer != first.signer
	}
	return first
}

func (all *ocspIssuers) find(id *certID) *ocspIssuer {
	return all.byID[issuerID{id.hash, id.name, id.key}]
}

// ocspIssuers returns what is known, or reads it again if that is old, or must not be.
func (a *Authority) ocspIssuers(ctx context.Context, again bool) (*ocspIssuers, error) {
	a.ocsp.mu.Lock()
	known := a.ocsp.issuers
	a.ocsp.mu.Unlock()
	if known != nil && !again && time.Since(known.loaded) < ocspReload {
		return known, nil
	}
	if again { // what others began to read may be too old
		return a.loadOCSPIssuers(ctx)
	}
	return a.sharedOCSPIssuers(ctx)
}

// sharedOCSPIssuers reads the issuers, once for all who want them at the same time.
func (a *Authority) sharedOCSPIssuers(ctx context.Context) (*ocspIssuers, error) {
	result := a.ocsp.flight.DoChan("issuers", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ocspSigning) // others may wait for it
		defer cancel()
		return a.loadOCSPIssuers(ctx)
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*ocspIssuers), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("pki: OCSP: %w", ctx.Err())
	}
}

func (a *Authority) loadOCSPIssuers(ctx context.Context) (*ocspIssuers, error) {
	began := time.Now()
	config, err := a.OCSPConfig(ctx)
	if err != nil {
		return nil, err
	}
	out := &ocspIssuers{config: config, byID: make(map[issuerID]*ocspIssuer), loaded: began}
	signers := make(map[string]*ocspIssuer)
	for record, err := range a.all(ctx, "issuers/") {
		if err != nil {
			return nil, err
		}
		issuer, ca, err := a.caOf(strings.TrimPrefix(record.Key, a.prefix+"issuers/"), record)
		if err != nil || issuer.Usage&SignOCSP == 0 {
			continue // what is wrong with one issuer is nothing to the others
		}
		who := signer(ca.cert)
		if other := signers[who]; other != nil && !ca.cert.NotAfter.After(other.ca.cert.NotAfter) {
			continue
		}
		signers[who] = &ocspIssuer{signer: who, issuer: issuer, ca: ca}
	}
	for _, o := range signers {
		if err := a.completeOCSP(ctx, o, config); err != nil {
			o.problem = err
		}
		for _, id := range idsOf(o.ca.cert) {
			out.byID[id] = o
		}
	}
	a.ocsp.mu.Lock()
	defer a.ocsp.mu.Unlock()
	for _, o := range signers {
		o.queue = a.ocsp.queue(o.signer)
	}
	a.ocsp.issuers = out
	return out, nil
}

// completeOCSP finds out who answers for an issuer.
func (a *Authority) completeOCSP(ctx context.Context, o *ocspIssuer, config OCSPConfig) error {
	cert := o.ca.cert
	o.own = &responder{cert: cert, byName: config.ByName, alg: o.issuer.CRLAlgorithm, key: o.ca.key}
	o.trusted = [][]byte{fingerprint(cert)}
	if cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		o.problem = fmt.Errorf("pki: OCSP: the keyUsage of the CA %s lacks digitalSignature, so that it needs a delegated responder: %w", cert.Subject, errOCSPUnauthorized)
	}
	var r delegateRecord
	version, err := a.readIf(ctx, "ocsp-responders/"+o.signer, &r)
	if err != nil || version == 0 {
		return err
	}
	o.trusted, o.problem = nil, nil
	for i, der := range r.Certs {
		delegate, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("pki: OCSP: responder of %s: %w: %w", cert.Subject, store.ErrCorrupt, err)
		}
		usable, err := a.usableDelegate(ctx, delegate, cert)
		if err != nil {
			return err
		}
		if usable == nil {
			o.trusted = append(o.trusted, fingerprint(delegate))
		}
		if i == 0 {
			o.problem = usable
			o.delegate = &responder{cert: delegate, delegate: true, byName: config.ByName, alg: x509.SignatureAlgorithm(r.Algorithm),
				key: func(ctx context.Context) (*managedkey.Key, error) { return a.engine.keyOf(ctx, r.Key, delegate) }}
		}
	}
	return nil
}

// usableDelegate returns why a delegated certificate must not be used, and an error if that can't be found out.
func (a *Authority) usableDelegate(ctx context.Context, delegate, issuer *x509.Certificate) (problem, err error) {
	if a.engine.now().After(delegate.NotAfter) {
		return fmt.Errorf("pki: OCSP: the responder's certificate %s has expired: %w", FormatSerial(delegate.SerialNumber), errOCSPUnauthorized), nil
	}
	if !delegatedBy(delegate, issuer) {
		return fmt.Errorf("pki: OCSP: the responder's certificate %s is not its issuer's: %w", FormatSerial(delegate.SerialNumber), errOCSPUnauthorized), nil
	}
	stored, err := a.certificate(ctx, delegate.SerialNumber)
	if err != nil {
		return nil, err
	}
	if stored.Revocation != nil {
		return fmt.Errorf("pki: OCSP: the responder's certificate %s is revoked: %w", stored.Serial, errOCSPUnauthorized), nil
	}
	return nil, nil
}
