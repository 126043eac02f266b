package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/managedkeys/managedkeys/backend"
)

// question returns a request in DER as encoding/asn1 writes it.
func question(tb testing.TB, issuer *x509.Certificate, hash crypto.Hash, nonce []byte, serials ...*big.Int) []byte {
	tb.Helper()
	var ids []string
	for _, serial := range serials {
		id, err := newCertID(hash, &ocspIssuer{ca: &CA{cert: issuer}}, serial)
		if err != nil {
			tb.Fatal(err)
		}
		ids = append(ids, id.raw)
	}
	return questionOf(tb, nonce, ids...)
}

// questionOf is question for ids in DER.
func questionOf(tb testing.TB, nonce []byte, ids ...string) []byte {
	tb.Helper()
	type one struct{ ID asn1.RawValue }
	var list []one
	for _, id := range ids {
		list = append(list, one{asn1.RawValue{FullBytes: []byte(id)}})
	}
	type extensionOf struct {
		ID    asn1.ObjectIdentifier
		Value []byte
	}
	type tbs struct {
		List       []one
		Extensions []extensionOf `asn1:"explicit,tag:2,optional,omitempty"`
	}
	t := tbs{List: list}
	if nonce != nil {
		value, err := asn1.Marshal(nonce)
		if err != nil {
			tb.Fatal(err)
		}
		t.Extensions = []extensionOf{{oidOCSPNonce, value}}
	}
	der, err := asn1.Marshal(struct{ TBS tbs }{t})
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// said is what encoding/asn1 reads of an answer.
type said struct {
	statuses  []int // 0 good, 1 revoked, 2 unknown
	times     []time.Time
	reasons   []int
	this      time.Time
	next      time.Time
	produced  time.Time
	byKey     []byte
	byName    []byte
	nonce     []byte
	algorithm []byte
	certs     []*x509.Certificate
}

// read parses a successful answer and checks its signature, by the issuer or the certificate in it.
func read(tb testing.TB, answer *OCSPAnswer, issuer *x509.Certificate, alg x509.SignatureAlgorithm) *said {
	tb.Helper()
	if answer.Status != OCSPSuccessful {
		tb.Fatalf("got %s: %v", answer.Status, answer.Err)
	}
	var outer struct {
		Status asn1.Enumerated
		Bytes  struct {
			Kind asn1.ObjectIdentifier
			DER  []byte
		} `asn1:"explicit,tag:0"`
	}
	unmarshal(tb, answer.DER, &outer)
	var basic struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
		Certs     []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	unmarshal(tb, outer.Bytes.DER, &basic)
	var data struct {
		Responder asn1.RawValue
		Produced  time.Time `asn1:"generalized"`
		Responses []struct {
			ID     asn1.RawValue
			Status asn1.RawValue
			This   time.Time `asn1:"generalized"`
			Next   time.Time `asn1:"generalized,explicit,tag:0"`
		}
		Extensions []struct {
			ID    asn1.ObjectIdentifier
			Value []byte
		} `asn1:"explicit,tag:1,optional"`
	}
	unmarshal(tb, basic.TBS.FullBytes, &data)
	out := &said{produced: data.Produced, algorithm: basic.Algorithm.FullBytes}
	switch data.Responder.Tag {
	case 1:
		out.byName = data.Responder.Bytes
	case 2:
		unmarshal(tb, data.Responder.Bytes, &out.byKey)
	}
	for _, r := range data.Responses {
		out.statuses, out.this, out.next = append(out.statuses, r.Status.Tag), r.This, r.Next
		var revoked struct {
			Time   time.Time       `asn1:"generalized"`
			Reason asn1.Enumerated `asn1:"explicit,tag:0,optional"`
		}
		if r.Status.Tag == 1 {
			der := bytes.Clone(r.Status.FullBytes)
			der[0] = 0x30 // SEQUENCE for the implicit [1]
			unmarshal(tb, der, &revoked)
		}
		out.times, out.reasons = append(out.times, revoked.Time), append(out.reasons, int(revoked.Reason))
	}
	for _, e := range data.Extensions {
		if e.ID.Equal(oidOCSPNonce) {
			unmarshal(tb, e.Value, &out.nonce)
		}
	}
	signer := issuer
	for _, raw := range basic.Certs {
		cert, err := x509.ParseCertificate(raw.FullBytes)
		if err != nil {
			tb.Fatal(err)
		}
		if err := cert.CheckSignatureFrom(issuer); err != nil {
			tb.Errorf("the responder's certificate: %v", err)
		}
		signer = cert
		out.certs = append(out.certs, cert)
	}
	if err := signer.CheckSignature(alg, basic.TBS.FullBytes, basic.Signature.Bytes); err != nil {
		tb.Errorf("signature: %v", err)
	}
	return out
}

func unmarshal(tb testing.TB, der []byte, out any) {
	tb.Helper()
	if rest, err := asn1.Unmarshal(der, out); err != nil || len(rest) > 0 {
		tb.Fatalf("%x: %v, %d bytes are left", der, err, len(rest))
	}
}

func (f *firm) ask(tb testing.TB, issuer *Issuer, serials ...*big.Int) *said {
	tb.Helper()
	answer := f.AnswerOCSP(tb.Context(), question(tb, issuer.Certificate(), crypto.SHA1, nil, serials...))
	return read(tb, answer, issuer.Certificate(), x509.ECDSAWithSHA256)
}

// TestOCSP: what is known of a certificate is what its answer says, at once, in every process on the same store.
func TestOCSP(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	g := firmOn(t, f.house, f.store, &Options{Now: f.engine.now})
	root := f.root(t, "p256", "root")
	f.role(t, anyRole("r"))
	pair, ctx := f.issue(t, "r", "a.example"), t.Context()
	serial := pair.Certificate.SerialNumber
	both := func(status, reason int, at time.Time) {
		t.Helper()
		for _, f := range []*firm{f, g} {
			got := f.ask(t, root, serial)
			if got.statuses[0] != status || got.reasons[0] != reason || !got.times[0].Equal(at) {
				t.Errorf("got status %d, reason %d, %s; want %d, %d, %s", got.statuses[0], got.reasons[0], got.times[0], status, reason, at)
			}
		}
	}
	both(0, 0, time.Time{})
	f.signed()
	both(0, 0, time.Time{})
	if n := f.signed(); n != 0 {
		t.Errorf("answers were signed again: %d", n)
	}
	now = now.Add(time.Minute)
	held, err := f.Revoke(ctx, serialOf(pair), ReasonCertificateHold, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	both(1, ReasonCertificateHold, held.Time)
	if err := g.Release(ctx, serialOf(pair)); err != nil {
		t.Fatal(err)
	}
	both(0, 0, time.Time{})
	gone, err := g.Revoke(ctx, serialOf(pair), ReasonUnspecified, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	both(1, 0, gone.Time)
	if got := f.ask(t, root, big.NewInt(7)); got.statuses[0] != 2 {
		t.Errorf("what was never issued: status %d", got.statuses[0])
	}
	other := f.root(t, "p384", "other")
	answer := f.AnswerOCSP(ctx, question(t, other.Certificate(), crypto.SHA256, nil, serial))
	if got := read(t, answer, other.Certificate(), x509.ECDSAWithSHA384); got.statuses[0] != 2 {
		t.Errorf("a serial number of another issuer: status %d", got.statuses[0])
	}
}

// TestOCSPTimes: an answer holds as long as the configuration says, and is made again when half of that has passed.
func TestOCSPTimes(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	root := f.root(t, "p256", "root")
	f.role(t, anyRole("r"))
	serial := f.issue(t, "r", "a.example").Certificate.SerialNumber
	if err := f.SetOCSPConfig(t.Context(), OCSPConfig{Validity: 4 * time.Hour, ByName: true}); err != nil {
		t.Fatal(err)
	}
	first := f.ask(t, root, serial)
	if start := noon.Truncate(time.Second); !first.this.Equal(start) || !first.produced.Equal(start) || !first.next.Equal(start.Add(4*time.Hour)) ||
		!bytes.Equal(first.byName, root.Certificate().RawSubject) || first.byKey != nil {
		t.Errorf("got %+v", first)
	}
	now = now.Add(2*time.Hour - time.Second)
	if same := f.ask(t, root, serial); !same.this.Equal(first.this) {
		t.Error("it was made again too early")
	}
	now = now.Add(time.Second)
	if next := f.ask(t, root, serial); !next.this.Equal(now.Truncate(time.Second)) {
		t.Errorf("the next one is of %s", next.this)
	}
	now = root.Certificate().NotAfter.Add(-time.Hour)
	if last := f.ask(t, root, serial); !last.next.Equal(root.Certificate().NotAfter) {
		t.Errorf("it ends at %s, and the issuer at %s", last.next, root.Certificate().NotAfter)
	}
	now = now.Add(2 * time.Hour)
	if answer := f.AnswerOCSP(t.Context(), question(t, root.Certificate(), crypto.SHA1, nil, serial)); answer.Status != OCSPUnauthorized {
		t.Errorf("an issuer that has expired: %s", answer.Status)
	}
	for _, config := range []OCSPConfig{{Validity: time.Second}, {Validity: time.Hour, MaxAge: 2 * time.Hour}, {MaxAge: -1}, {Validity: -time.Hour}} {
		wantError(t, f.SetOCSPConfig(t.Context(), config), backend.ErrInvalidParams, "OCSP config")
	}
}

// TestOCSPRequests: ids with every hash, several at once, nonces as configured.
func TestOCSPRequests(t *testing.T) {
	f := newFirm(t, nil)
	root, ctx := f.root(t, "p256", "root"), t.Context()
	f.role(t, anyRole("r"))
	a, b := f.issue(t, "r", "a.example"), f.issue(t, "r", "b.example")
	if _, err := f.Revoke(ctx, serialOf(b), ReasonKeyCompromise, time.Time{}); err != nil {
		t.Fatal(err)
	}
	serials := []*big.Int{a.Certificate.SerialNumber, big.NewInt(9), b.Certificate.SerialNumber}
	for _, h := range ocspHashes {
		got := read(t, f.AnswerOCSP(ctx, question(t, root.Certificate(), h.hash, nil, serials...)), root.Certificate(), x509.ECDSAWithSHA256)
		if len(got.statuses) != 3 || got.statuses[0] != 0 || got.statuses[1] != 2 || got.statuses[2] != 1 || got.reasons[2] != ReasonKeyCompromise {
			t.Errorf("%s: got %+v", h.name, got)
		}
		key := hashOf(crypto.SHA1, publicKeyBits(root.Certificate()))
		if string(got.byKey) != key {
			t.Errorf("responder id %x; want %x", got.byKey, key)
		}
	}
	nonce := bytes.Repeat([]byte{7}, MaxOCSPNonce)
	request := question(t, root.Certificate(), crypto.SHA1, nonce, serials[0])
	if got := read(t, f.AnswerOCSP(ctx, request), root.Certificate(), x509.ECDSAWithSHA256); got.nonce != nil {
		t.Error("a nonce was repeated, and that is not configured")
	}
	if err := f.SetOCSPConfig(ctx, OCSPConfig{Nonce: true}); err != nil {
		t.Fatal(err)
	}
	f.signed()
	for range 2 {
		answer := f.AnswerOCSP(ctx, request)
		if got := read(t, answer, root.Certificate(), x509.ECDSAWithSHA256); !bytes.Equal(got.nonce, nonce) || answer.MaxAge != 0 {
			t.Errorf("nonce %x, max-age %v", got.nonce, answer.MaxAge)
		}
	}
	if n := f.signed(); n != 2 {
		t.Errorf("%d signatures for two nonces", n)
	}
	if got := f.ask(t, root, serials[0]); got.nonce != nil {
		t.Error("an answer with a nonce was kept")
	}
	// What another implementation reads of it.
	response, err := ocsp.ParseResponseForCert(f.AnswerOCSP(ctx, question(t, root.Certificate(), crypto.SHA256, nil, serials[2])).DER, b.Certificate, root.Certificate())
	if err != nil || response.Status != ocsp.Revoked || response.RevocationReason != ocsp.KeyCompromise || response.IssuerHash != crypto.SHA256 {
		t.Errorf("x/crypto/ocsp: %+v, %v", response, err)
	}
}

// TestOCSPPending: a certificate of which nobody knows whether it exists is not good, and its revocation is told.
func TestOCSPPending(t *testing.T) {
	f := newFirm(t, nil)
	root := f.root(t, "p256", "root")
	f.role(t, anyRole("r"))
	f.house.km.spoil = func([]byte) []byte { return []byte("no signature") }
	if _, err := f.Issue(t.Context(), "r", cn("a.example")); err == nil {
		t.Fatal("a wrong signature was taken")
	}
	f.house.km.spoil = nil
	page, err := f.Search(t.Context(), Query{State: StatePending})
	if err != nil || len(page.Certificates) != 1 {
		t.Fatalf("%d pending, %v", len(page.Certificates), err)
	}
	serial := page.Certificates[0].Certificate.SerialNumber
	if got := f.ask(t, root, serial); got.statuses[0] != 2 {
		t.Errorf("status %d", got.statuses[0])
	}
	if _, err := f.Revoke(t.Context(), page.Certificates[0].Serial, ReasonSuperseded, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if got := f.ask(t, root, serial); got.statuses[0] != 1 || got.reasons[0] != ReasonSuperseded {
		t.Errorf("status %d, reason %d", got.statuses[0], got.reasons[0])
	}
}

// TestOCSPAtOnce: who asks the same at the same time gets one signature.
func TestOCSPAtOnce(t *testing.T) {
	f := newFirm(t, nil)
	root := f.root(t, "p256", "root")
	f.role(t, anyRole("r"))
	request := question(t, root.Certificate(), crypto.SHA1, nil, f.issue(t, "r", "a.example").Certificate.SerialNumber)
	f.AnswerOCSP(t.Context(), question(t, root.Certificate(), crypto.SHA1, nil, big.NewInt(1))) // the issuers are known now
	f.signed()
	begun, goOn := make(chan bool, 100), make(chan bool)
	f.house.km.seen = func([]byte) { begun <- true; <-goOn }
	answers := make(chan *OCSPAnswer)
	for range 10 {
		go func() { answers <- f.AnswerOCSP(context.Background(), request) }()
	}
	<-begun
	close(goOn)
	for range 10 {
		if answer := <-answers; answer.Status != OCSPSuccessful {
			t.Error(answer.Err)
		}
	}
	if n := f.signed(); n != 1 {
		t.Errorf("%d signatures", n)
	}
}
