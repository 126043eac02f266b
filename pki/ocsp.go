package pki

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// OCSPAnswer is the answer to an OCSP request.
type OCSPAnswer struct {
	DER    []byte // OCSPResponse (RFC 6960, Section 4.2.1); must not be modified
	Status OCSPStatus

	// ThisUpdate is when what a successful answer says was known, and NextUpdate when it ends; zero in others.
	ThisUpdate, NextUpdate time.Time

	// MaxAge is how long caches of HTTP may keep the answer (RFC 5019, Section 6); 0 means not at all, as for one with a
	// nonce and for those that aren't successful.
	MaxAge time.Duration

	// Err says why the answer is not successful, or, if it is, why it is not the newest that there could be: the
	// key is out of reach, and this one still holds. It is nil otherwise. The texts are for the operator and not for the client.
	Err error
}

// AnswerOCSP answers an OCSP request in DER (RFC 6960) about certificates of this authority. It is never nil: whatever happens,
// there is an answer for the client.
//
// A certificate that was issued is good, or revoked with time and reason; one on hold that was released is good again. What was
// never issued, was issued without being stored, may not exist (see StatePending), or was tidied away, is unknown. A
// revocation counts from the moment that it is stored, in every process: each answer is compared with the store.
//
// One answer has one signature, and only an issuer's own or its delegate's counts for its certificates (RFC 6960, Section 2.2). Of a
// request about several issuers, that of the first certificate whose issuer is here answers; it doesn't know the others'
// certificates, and says so: unknown, as there must be an answer to each (Section 4.2.1). Clients should ask about one issuer at a
// time, and those of RFC 5019 about one certificate. What is about no issuer that may answer here is unauthorized (RFC 6960, Section 2.3).
//
// Answers are kept in memory, and in the store if [OCSPConfig] says so, and given again until half of their time has passed.
// After that the next one is signed; if the key is out of reach they are given until they end. An answer that repeats
// a nonce is signed anew, or has none if the key is out of reach (RFC 9654, Section 3.1).
//
// The answers of one issuer don't wait for the key of another.
func (a *Authority) AnswerOCSP(ctx context.Context, request []byte) *OCSPAnswer {
	answer, err := a.answerOCSP(ctx, request)
	if err == nil {
		return answer
	}
	status := ocspStatusOf(err)
	return &OCSPAnswer{DER: status.bare(), Status: status, Err: err}
}

// errOCSPUnauthorized is wrapped by errors that say that nobody here can answer.
var errOCSPUnauthorized = fmt.Errorf("no answer from here: %w", backend.ErrNotPermitted)

// malformedOCSP marks errors about requests.
type malformedOCSP struct{ error }

func (e malformedOCSP) Unwrap() error { return e.error }

func ocspStatusOf(err error) OCSPStatus {
	var malformed malformedOCSP
	switch {
	case errors.As(err, &malformed):
		return OCSPMalformedRequest
	case errors.Is(err, errOCSPUnauthorized):
		return OCSPUnauthorized
	}
	for _, passing := range []error{backend.ErrUnavailable, backend.ErrThrottled, store.ErrUnavailable, store.ErrUnknownOutcome, store.ErrClosed,
		context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, passing) {
			return OCSPTryLater
		}
	}
	return OCSPInternalError
}

func (a *Authority) answerOCSP(ctx context.Context, der []byte) (*OCSPAnswer, error) {
	request, err := parseOCSPRequest(der)
	if err != nil {
		return nil, malformedOCSP{err}
	}
	o, config, err := a.ocspIssuer(ctx, request)
	if err != nil {
		return nil, err
	}
	q := &ocspQuestion{ids: request.ids, issuer: o, config: config}
	if config.Nonce {
		q.nonce = request.nonceValue
	} else if request.mustNonce {
		return nil, malformedOCSP{invalid("OCSP request: the nonce is critical, and this responder repeats none")}
	}
	if err := a.readOCSP(ctx, q); err != nil {
		return nil, err
	}
	kept := a.keptOCSP(ctx, q)
	if q.nonce == nil && kept != nil && a.engine.now().Before(kept.refresh()) {
		return kept.answer(a.engine.now(), config, nil), nil
	}
	// What holds is not held up by a key that failed a moment ago.
	if err := o.queue.resting(); err != nil && kept != nil {
		return kept.answer(a.engine.now(), config, err), nil
	}
	fresh, err := a.signOCSP(ctx, q)
	if err != nil && kept != nil && a.engine.now().Before(kept.Next) {
		return kept.answer(a.engine.now(), config, err), nil
	}
	if err != nil {
		return nil, err
	}
	out := fresh.answer(a.engine.now(), config, nil)
	if q.nonce != nil {
		out.MaxAge = 0
	}
	return out, nil
}

// ocspQuestion is what is asked of one issuer, and what the store says.
type ocspQuestion struct {
	ids    []certID
	issuer *ocspIssuer
	config OCSPConfig
	nonce  []byte

	at       time.Time      // before the store was read
	records  []store.Record // of the certificates, empty for those that are not there
	statuses []certStatus   // once they are needed
}

// readOCSP reads the records of the certificates. That comes before everything else, so that no answer is older than the call.
func (a *Authority) readOCSP(ctx context.Context, q *ocspQuestion) error {
	q.at = a.engine.now()
	for i := range q.ids {
		id := &q.ids[i]
		var record store.Record
		if !id.foreign && id.serial.Sign() > 0 && id.serial.BitLen() <= 159 {
			var err error
			record, err = a.store.Get(ctx, a.prefix+certKey(id.serial))
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("pki: OCSP: certificate %s: %w", FormatSerial(id.serial), err)
			}
		}
		q.records = append(q.records, record)
	}
	return nil
}

// versions are those of the records, 0 for what is not there.
func (q *ocspQuestion) versions() []uint64 {
	out := make([]uint64, len(q.records))
	for i := range q.records {
		out[i] = q.records[i].Version
	}
	return out
}

// decode finds out what the records say.
func (q *ocspQuestion) decode() error {
	if q.statuses != nil {
		return nil
	}
	out := make([]certStatus, len(q.records))
	for i, record := range q.records {
		if record.Version == 0 {
			continue
		}
		var r struct { // of certRecord what is needed: no certificate is parsed
			State   string      `json:"state"`
			Signer  string      `json:"signer"`
			Revoked *Revocation `json:"revoked"`
		}
		if err := json.Unmarshal(record.Value, &r); err != nil {
			return fmt.Errorf("pki: OCSP: %s: %w: %w", record.Key, store.ErrCorrupt, err)
		}
		if r.Signer != q.issuer.signer {
			continue // this issuer has none with that number
		}
		out[i] = certStatus{known: r.State == StateIssued || r.Revoked != nil, revoked: r.Revoked}
	}
	q.statuses = out
	return nil
}

// key is what the answer depends on beside time and what the store says.
func (q *ocspQuestion) key() string {
	var b strings.Builder
	b.WriteString(q.issuer.signer)
	for i := range q.ids {
		b.WriteString(q.ids[i].raw)
	}
	return b.String()
}

// keptAnswer is an answer that may be given again. The fields with names are stored.
type keptAnswer struct {
	Versions  []uint64  `json:"versions"`  // of the records that it was made from
	Responder []byte    `json:"responder"` // SHA-256 of the certificate of who signed it
	This      time.Time `json:"this"`
	Next      time.Time `json:"next"`
	DER       []byte    `json:"der"`
}

// refresh is when another one should be made.
func (k *keptAnswer) refresh() time.Time { return k.This.Add(k.Next.Sub(k.This) / 2) }

func (k *keptAnswer) answer(now time.Time, c OCSPConfig, err error) *OCSPAnswer {
	age := max(0, min(c.MaxAge, k.Next.Sub(now)))
	return &OCSPAnswer{DER: k.DER, Status: OCSPSuccessful, ThisUpdate: k.This, NextUpdate: k.Next, MaxAge: age, Err: err}
}

// holds reports whether the answer is still right: nothing has changed, it has not ended, and who signed it may do so.
func (k *keptAnswer) holds(now time.Time, q *ocspQuestion) bool {
	return slices.Equal(k.Versions, q.versions()) && now.Before(k.Next) && q.issuer.trusts(k.Responder)
}
