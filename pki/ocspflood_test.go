package pki

import (
	"context"
	"crypto"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// asked counts what a store is asked.
type asked struct {
	store.Store
	n atomic.Int64
}

func (a *asked) Get(ctx context.Context, key string) (store.Record, error) {
	a.n.Add(1)
	return a.Store.Get(ctx, key)
}

func (a *asked) List(ctx context.Context, prefix, after string, limit int) (store.Page, error) {
	a.n.Add(1)
	return a.Store.List(ctx, prefix, after, limit)
}

// Everybody may ask, also about issuers that there are not: that must not have all issuers read for each question.
func TestOCSPUnknownIssuerFlood(t *testing.T) {
	st := &asked{Store: memoryStore(t)}
	f := firmOn(t, newHouse(t, nil), st, nil)
	f.root(t, "p256", "root")
	other := certificate(t, "other", "other", testKeys()["p384"].Public(), testKeys()["p384"], nil)
	request := question(t, other, crypto.SHA256, nil, big.NewInt(1))
	if a := f.AnswerOCSP(t.Context(), request); a.Status != OCSPUnauthorized {
		t.Fatalf("status %v, %v", a.Status, a.Err)
	}
	before := st.n.Load()
	const times = 1000
	began := time.Now()
	for range times {
		f.AnswerOCSP(t.Context(), request)
	}
	// Each look asks a few times, for the configuration, the issuers and their responders.
	looks := int64(time.Since(began)/ocspAgain) + 2
	if n := st.n.Load() - before; n > 5*looks {
		t.Errorf("%d requests ask the store %d times; %d looks at it are enough", times, n, looks)
	}
	// A new issuer is found all the same: at once in this process, and soon in another.
	second := firmOn(t, f.house, st, nil)
	second.AnswerOCSP(t.Context(), request)
	f.root(t, "p384", "new")
	issuer, err := f.Issuer(t.Context(), "new")
	if err != nil {
		t.Fatal(err)
	}
	request = question(t, issuer.Certificate(), crypto.SHA256, nil, big.NewInt(1))
	if a := f.AnswerOCSP(t.Context(), request); a.Status != OCSPSuccessful {
		t.Errorf("of a new issuer: %v, %v", a.Status, a.Err)
	}
	for deadline := time.Now().Add(10 * time.Second); second.AnswerOCSP(t.Context(), request).Status != OCSPSuccessful; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("another process doesn't find the new issuer")
		}
	}
}
