package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestOCSPKeyAway: without its key an issuer goes on giving the answers that it has, also after a restart if they are stored, until
// they end; a revocation makes them wrong at once; the answers of other issuers are signed as ever.
func TestOCSPKeyAway(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	ctx := t.Context()
	lost, kept := f.root(t, "p384", "lost"), f.root(t, "p256", "kept")
	var pairs []*KeyPair
	for _, name := range []string{"lost", "lost", "kept"} {
		r := anyRole("r-" + name)
		r.IssuerRef = name
		f.role(t, r)
		pairs = append(pairs, f.issue(t, r.Name, "a.example"))
	}
	if err := f.SetOCSPConfig(ctx, OCSPConfig{Validity: 4 * time.Hour, Store: true, Nonce: true}); err != nil {
		t.Fatal(err)
	}
	request := question(t, lost.Certificate(), crypto.SHA256, nil, pairs[0].Certificate.SerialNumber)
	before := f.AnswerOCSP(ctx, request)
	read(t, before, lost.Certificate(), x509.ECDSAWithSHA384)
	if err := f.house.registry.Revoke(ctx, f.mount, "p384"); err != nil {
		t.Fatal(err)
	}
	g := firmOn(t, f.house, f.store, &Options{Now: f.engine.now})
	now = now.Add(3 * time.Hour)
	for name, f := range map[string]*firm{"the same process": f, "another one": g} {
		if answer := f.AnswerOCSP(ctx, request); !bytes.Equal(answer.DER, before.DER) || !errors.Is(answer.Err, backend.ErrNotPermitted) || answer.MaxAge > time.Hour {
			t.Errorf("%s: %s, max-age %v, %v", name, answer.Status, answer.MaxAge, answer.Err)
		}
		with := question(t, lost.Certificate(), crypto.SHA256, []byte("nonce"), pairs[0].Certificate.SerialNumber)
		if answer := f.AnswerOCSP(ctx, with); !bytes.Equal(answer.DER, before.DER) {
			t.Errorf("%s: with a nonce: %s, %v", name, answer.Status, answer.Err)
		}
		if got := f.ask(t, kept, pairs[2].Certificate.SerialNumber); got.statuses[0] != 0 {
			t.Errorf("%s: another issuer: %+v", name, got)
		}
	}
	if answer := g.AnswerOCSP(ctx, question(t, lost.Certificate(), crypto.SHA1, nil, pairs[1].Certificate.SerialNumber)); answer.Status != OCSPInternalError {
		t.Errorf("what was never answered: %s", answer.Status)
	}
	if _, err := f.Revoke(ctx, serialOf(pairs[0]), ReasonKeyCompromise, time.Time{}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*firm{f, g} {
		if answer := f.AnswerOCSP(ctx, request); answer.Status == OCSPSuccessful {
			t.Error("an answer was given that is wrong")
		}
	}
	if err := f.house.registry.Grant(ctx, f.mount, "p384"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, g.AnswerOCSP(ctx, request), lost.Certificate(), x509.ECDSAWithSHA384); got.statuses[0] != 1 {
		t.Errorf("with the key again: %+v", got)
	}
	now = now.Add(10 * time.Hour)
	if err := f.house.registry.Revoke(ctx, f.mount, "p384"); err != nil {
		t.Fatal(err)
	}
	if answer := f.AnswerOCSP(ctx, request); answer.Status != OCSPInternalError {
		t.Errorf("an answer that has ended: %s", answer.Status)
	}
}

// TestOCSPKeyHangs: while one key hangs, others answer, what holds is given, and who asks for more is told to try later when he gives up.
func TestOCSPKeyHangs(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	hung, kept := f.root(t, "p384", "hung"), f.root(t, "p256", "kept")
	f.ask(t, kept, big.NewInt(1))
	begun, goOn := make(chan bool), make(chan bool)
	f.house.km.seen = func([]byte) {
		f.house.km.seen = nil
		begun <- true
		<-goOn
	}
	ctx, cancel := context.WithCancel(t.Context())
	answers := make(chan *OCSPAnswer)
	go func() { answers <- f.AnswerOCSP(ctx, question(t, hung.Certificate(), crypto.SHA1, nil, big.NewInt(1))) }()
	<-begun
	if got := f.ask(t, kept, big.NewInt(2)); got.statuses[0] != 2 {
		t.Errorf("another issuer: %+v", got)
	}
	cancel()
	if answer := <-answers; answer.Status != OCSPTryLater || !errors.Is(answer.Err, context.Canceled) {
		t.Errorf("got %s: %v", answer.Status, answer.Err)
	}
	close(goOn)
}

// TestOCSPStatuses: what a client is told when something is wrong here.
func TestOCSPStatuses(t *testing.T) {
	for err, want := range map[error]OCSPStatus{
		backend.ErrUnavailable: OCSPTryLater, backend.ErrThrottled: OCSPTryLater, store.ErrUnavailable: OCSPTryLater, context.DeadlineExceeded: OCSPTryLater,
		backend.ErrKeyChanged: OCSPInternalError, backend.ErrNotPermitted: OCSPInternalError, store.ErrCorrupt: OCSPInternalError,
		backend.ErrInvalidSignature: OCSPInternalError, backend.ErrInvalidParams: OCSPInternalError,
		errOCSPUnauthorized: OCSPUnauthorized, malformedOCSP{backend.ErrInvalidParams}: OCSPMalformedRequest,
	} {
		if got := ocspStatusOf(err); got != want {
			t.Errorf("%v: got %s; want %s", err, got, want)
		}
	}
	f := newFirm(t, nil)
	root, ctx := f.root(t, "p256", "root"), t.Context()
	request := question(t, root.Certificate(), crypto.SHA1, nil, big.NewInt(1))
	check := func(what string, f *firm, request []byte, want OCSPStatus) {
		t.Helper()
		answer := f.AnswerOCSP(ctx, request)
		if answer.Status != want || want != OCSPSuccessful && (answer.Err == nil || answer.MaxAge != 0 || !bytes.Equal(answer.DER, []byte{0x30, 3, 0x0a, 1, byte(want)})) {
			t.Errorf("%s: got %s, %x, %v; want %s", what, answer.Status, answer.DER, answer.Err, want)
		}
	}
	check("a good one", f, request, OCSPSuccessful)
	stranger := certificate(t, "x", "x", testKeys()["p521"].Public(), testKeys()["p521"], nil)
	check("another CA's", f, question(t, stranger, crypto.SHA1, nil, big.NewInt(1)), OCSPUnauthorized)
	if err := f.SetOCSPConfig(ctx, OCSPConfig{Disabled: true}); err != nil {
		t.Fatal(err)
	}
	check("disabled", f, request, OCSPUnauthorized)
	if err := f.SetOCSPConfig(ctx, OCSPConfig{}); err != nil {
		t.Fatal(err)
	}
	f.house.km.spoil = func(signature []byte) []byte { signature[9] ^= 1; return signature }
	check("a wrong signature", f, question(t, root.Certificate(), crypto.SHA1, nil, big.NewInt(2)), OCSPInternalError)
	f.house.km.spoil = nil
	root.Usage = IssueCertificates
	if _, err := f.UpdateIssuer(ctx, *root); err != nil {
		t.Fatal(err)
	}
	check("its usage lacks it", f, request, OCSPUnauthorized)
	f.store.Close()
	f.forgetOCSP() // a second later
	check("the store is away", f, request, OCSPTryLater)
}
