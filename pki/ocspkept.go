package pki

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/managedkeys/managedkeys/backend"
)

const (
	maxKeptOCSP    = 10_000           // answers in memory
	maxKeptOCSPKey = 1024             // bytes; what asks about more certificates is not kept
	ocspSigning    = 10 * time.Second // for one answer
	ocspRest       = 2 * time.Second  // after a failure, while there are answers that hold
	ocspAtOnce     = 128              // signatures of one issuer
)

// ocspState is what a process knows for answering.
type ocspState struct {
	mu      sync.Mutex
	kept    map[string]*keptAnswer // by ocspQuestion.key
	queues  map[string]*ocspQueue  // by signer
	issuers *ocspIssuers           // nil before the first question, and when something has changed

	flight singleflight.Group // of signatures by question and versions, and of loading issuers
}

// ocspQueue is where the signatures of one issuer wait, apart from those of others.
type ocspQueue struct {
	slots chan struct{}

	mu     sync.Mutex
	failed time.Time // of the monotonic clock
	err    error
}

// resting returns the error of a failure that is not long ago.
func (q *ocspQueue) resting() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil || time.Since(q.failed) > ocspRest {
		return nil
	}
	return q.err
}

func (q *ocspQueue) ended(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.failed, q.err = time.Now(), err
}

// queue returns the queue of a signer. s.mu is held.
func (s *ocspState) queue(signer string) *ocspQueue {
	q := s.queues[signer]
	if q == nil {
		q = &ocspQueue{slots: make(chan struct{}, ocspAtOnce)}
		if s.queues == nil {
			s.queues = make(map[string]*ocspQueue)
		}
		s.queues[signer] = q
	}
	return q
}

// keptOCSP returns the answer that was given before, if it holds.
func (a *Authority) keptOCSP(ctx context.Context, q *ocspQuestion) *keptAnswer {
	now := a.engine.now()
	a.ocsp.mu.Lock()
	kept := a.ocsp.kept[q.key()]
	a.ocsp.mu.Unlock()
	if kept != nil && kept.holds(now, q) {
		return kept
	}
	if !q.config.stored() || !q.storable() {
		return nil
	}
	var r ocspRecord
	if _, err := a.readIf(ctx, q.storeKey(), &r); err != nil {
		return nil // then it is signed
	}
	if kept = r.Answers[q.ids[0].form()]; kept == nil || !kept.holds(now, q) {
		return nil
	}
	a.keepOCSP(q, kept)
	return kept
}

func (a *Authority) keepOCSP(q *ocspQuestion, k *keptAnswer) {
	key := q.key()
	if len(key) > maxKeptOCSPKey {
		return
	}
	a.ocsp.mu.Lock()
	defer a.ocsp.mu.Unlock()
	if a.ocsp.kept == nil {
		a.ocsp.kept = make(map[string]*keptAnswer)
	}
	if _, ok := a.ocsp.kept[key]; !ok && len(a.ocsp.kept) >= maxKeptOCSP {
		for victim := range a.ocsp.kept { // any
			delete(a.ocsp.kept, victim)
			break
		}
	}
	a.ocsp.kept[key] = k
}

// ocspRecord are the stored answers about one certificate, by the form of the question.
type ocspRecord struct {
	Answers map[string]*keptAnswer `json:"answers"`
}

func ocspKey(signer string, serial *big.Int) string {
	return fmt.Sprintf("ocsp/%s/%040x", signer, serial)
}

func (q *ocspQuestion) storeKey() string { return ocspKey(q.issuer.signer, q.ids[0].serial) }

// storable reports whether the answer may be stored: nobody can fill the store with numbers that he makes up.
func (q *ocspQuestion) storable() bool {
	return len(q.ids) == 1 && q.records[0].Version != 0 && q.ids[0].form() != ""
}

// storeOCSP stores an answer. That it can't be stored is no reason not to give it.
func (a *Authority) storeOCSP(ctx context.Context, q *ocspQuestion, k *keptAnswer) error {
	return update(ctx, a, q.storeKey(), func(r *ocspRecord, _ uint64) error {
		if r.Answers == nil {
			r.Answers = make(map[string]*keptAnswer)
		}
		if old := r.Answers[q.ids[0].form()]; old != nil && old.This.After(k.This) && old.holds(k.This, q) {
			return errUnchanged
		}
		for form, old := range r.Answers {
			if !old.holds(k.This, q) {
				delete(r.Answers, form)
			}
		}
		r.Answers[q.ids[0].form()] = k
		return nil
	})
}

// signOCSP signs an answer and keeps it. Who asks the same at the same time gets the same, unless there is a nonce.
func (a *Authority) signOCSP(ctx context.Context, q *ocspQuestion) (*keptAnswer, error) {
	if err := q.decode(); err != nil {
		return nil, err
	}
	if q.nonce != nil {
		return a.signOCSPNow(ctx, q)
	}
	result := a.ocsp.flight.DoChan(fmt.Sprint("sign ", q.versions(), q.key()), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ocspSigning) // others may wait for it
		defer cancel()
		if k := a.keptOCSP(ctx, q); k != nil && a.engine.now().Before(k.refresh()) {
			return k, nil // somebody else was faster
		}
		k, err := a.signOCSPNow(ctx, q)
		if err != nil {
			return nil, err
		}
		a.keepOCSP(q, k)
		if q.config.stored() && q.storable() {
			_ = a.storeOCSP(ctx, q, k)
		}
		return k, nil
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*keptAnswer), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("pki: OCSP: %w", ctx.Err())
	}
}

func (a *Authority) signOCSPNow(ctx context.Context, q *ocspQuestion) (*keptAnswer, error) {
	r, err := q.issuer.responder()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, ocspSigning)
	defer cancel()
	select {
	case q.issuer.queue.slots <- struct{}{}:
		defer func() { <-q.issuer.queue.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("pki: OCSP: too many answers wait for the key of %s: %w: %w", r.cert.Subject, backend.ErrUnavailable, ctx.Err())
	}
	s := &singles{ids: q.ids, statuses: q.statuses, nonce: q.nonce, this: q.at.UTC().Truncate(time.Second)}
	s.next = s.this.Add(q.config.Validity)
	for _, cert := range []time.Time{r.cert.NotAfter, q.issuer.ca.cert.NotAfter} {
		if cert.Before(s.next) {
			s.next = cert.UTC()
		}
	}
	if !s.next.After(s.this) {
		return nil, fmt.Errorf("pki: OCSP: the certificate of %s, or its issuer's, has expired: %w", r.cert.Subject, errOCSPUnauthorized)
	}
	der, err := r.sign(ctx, a.engine, s)
	if err == nil || !errors.Is(err, context.Canceled) {
		q.issuer.queue.ended(err)
	}
	if err != nil {
		return nil, err
	}
	return &keptAnswer{Versions: q.versions(), Responder: fingerprint(r.cert), This: s.this, Next: s.next, DER: der}, nil
}

// forgetOCSP makes what was changed by this process count for the next answer.
func (a *Authority) forgetOCSP() {
	a.ocsp.mu.Lock()
	defer a.ocsp.mu.Unlock()
	a.ocsp.issuers = nil
}
