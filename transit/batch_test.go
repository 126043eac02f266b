package transit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// meter is a key manager over one of software keys, which counts what it is asked, and holds calls for as long as it is told.
type meter struct {
	backend.Backend
	opens, calls atomic.Int64

	mu      sync.Mutex
	inside  int           // calls in flight
	most    int           // calls in flight at one time
	barrier chan struct{} // calls wait until it is closed; nil if they don't
}

type meterKey struct {
	*backend.Handle
	backend.SignOps
}

func (m *meter) Open(ctx context.Context, params backend.Params) (backend.Key, error) {
	m.opens.Add(1)
	inner, err := m.Backend.Open(ctx, params)
	if err != nil {
		return nil, err
	}
	h := backend.NewHandle(backend.HandleConfig{ID: inner.ID(), Public: inner.Public(), Capabilities: inner.Capabilities(), Mode: backend.CallContext})
	return meterKey{h, h.Signing(func(ctx context.Context, r backend.SignRequest) ([]byte, error) {
		m.calls.Add(1)
		m.mu.Lock()
		m.inside++
		m.most = max(m.most, m.inside)
		barrier := m.barrier
		m.mu.Unlock()
		defer func() {
			m.mu.Lock()
			m.inside--
			m.mu.Unlock()
		}()
		if barrier != nil {
			select {
			case <-barrier:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return inner.(backend.Signer).Sign(rand.Reader, r.Digest, r.Hash)
	})}, nil
}

// whenFull calls do when n calls are in flight.
func (m *meter) whenFull(ctx context.Context, n int, do func()) {
	for ; ctx.Err() == nil; time.Sleep(100 * time.Microsecond) {
		m.mu.Lock()
		full := m.inside == n
		m.mu.Unlock()
		if full {
			do()
			return
		}
	}
}

// newMeter makes a transit key "k" of P-256 in a metered key manager.
func newMeter(tb testing.TB, opts *Options) (*meter, *Engine) {
	tb.Helper()
	h := newHouse(tb)
	params := kinds["p256"]
	params.KeyName = "k"
	if _, err := h.software.Generate(tb.Context(), params, nil); err != nil {
		tb.Fatal(err)
	}
	m := &meter{Backend: h.software}
	if err := h.registry.Create(tb.Context(), managedkey.Entry{Ref: namespace.Ref{Name: "k"}, Backend: m, Params: params, AnyMount: true}); err != nil {
		tb.Fatal(err)
	}
	e := New(h.mount, opts)
	if err := e.CreateKey(tb.Context(), "k", KeyOptions{ManagedKey: "k"}); err != nil {
		tb.Fatal(err)
	}
	return m, e
}

// A batch of 100 is 100 calls and no look-up, in parallel up to the limit, and verifying is none.
func TestBatchCalls(t *testing.T) {
	m, e := newMeter(t, &Options{BatchParallel: 8})
	opens := m.opens.Load()
	m.barrier = make(chan struct{})
	requests := make([]SignRequest, 100)
	for i := range requests {
		requests[i] = SignRequest{Input: fmt.Append(nil, i), Reference: fmt.Sprint("r", i)}
	}
	go m.whenFull(t.Context(), 8, func() { close(m.barrier) })
	results, err := e.SignBatch(t.Context(), "k", requests)
	if err != nil || len(results) != 100 {
		t.Fatal(len(results), err)
	}
	if m.calls.Load() != 100 || m.opens.Load() != opens || m.most != 8 {
		t.Errorf("%d calls, %d look-ups, %d at one time; want 100, 0, 8", m.calls.Load(), m.opens.Load()-opens, m.most)
	}
	verify := make([]VerifyRequest, 100)
	for i, r := range results {
		if r.Err != nil || r.Reference != requests[i].Reference || r.KeyVersion != 1 {
			t.Errorf("item %d: %+v", i, r)
		}
		verify[i] = VerifyRequest{requests[i], r.Value}
	}
	valid, err := e.VerifyBatch(t.Context(), "k", verify)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range valid {
		if !r.Value || r.Err != nil || r.Reference != requests[i].Reference {
			t.Errorf("item %d is not in its place: %+v", i, r)
		}
	}
	if m.calls.Load() != 100 || m.opens.Load() != opens {
		t.Errorf("verifying made %d calls", m.calls.Load()-100)
	}
}

// When the context ends, what is in flight and what was not begun says so, and what was done stays.
func TestBatchDeadline(t *testing.T) {
	m, e := newMeter(t, &Options{BatchParallel: 2})
	ctx, cancel := context.WithCancel(t.Context())
	m.barrier = make(chan struct{})
	go m.whenFull(t.Context(), 2, cancel)
	results, err := e.SignBatch(ctx, "k", make([]SignRequest, 50))
	if err != nil || len(results) != 50 {
		t.Fatal(len(results), err)
	}
	for i, r := range results {
		if !errors.Is(r.Err, context.Canceled) || r.Value != "" {
			t.Errorf("item %d: %+v", i, r)
		}
	}
	if n := m.calls.Load(); n != 2 {
		t.Errorf("%d calls; want the 2 that were in flight", n)
	}
}

// One bad item spoils nothing, and its error is its own.
func TestBatchErrors(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	for _, kind := range []string{TypeAES256, TypeP256, TypeHMAC, TypeAES128CMAC} {
		h.create(t, kind, KeyOptions{Type: kind})
	}
	good, err := e.EncryptBatch(ctx, TypeAES256, []EncryptRequest{{Plaintext: []byte("0"), Reference: "a"}, {Plaintext: []byte("1"), KeyVersion: 7}, {Plaintext: []byte("2")}})
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, good[1].Err, backend.ErrInvalidParams, "higher than the latest key version")
	if good[0].Err != nil || good[2].Err != nil || good[0].Reference != "a" || good[1].Reference != "" {
		t.Fatalf("got %+v", good)
	}
	decrypted, err := e.DecryptBatch(ctx, TypeAES256, []DecryptRequest{{Ciphertext: good[0].Value}, {Ciphertext: "nonsense"}, {Ciphertext: good[2].Value}, {Ciphertext: "vault:v1:AAAA"}})
	if err != nil || string(decrypted[0].Value) != "0" || string(decrypted[2].Value) != "2" {
		t.Errorf("got %+v, %v", decrypted, err)
	}
	wantError(t, decrypted[1].Err, backend.ErrInvalidParams, "no prefix")
	wantError(t, decrypted[3].Err, backend.ErrDecryption)
	rewrapped, err := e.RewrapBatch(ctx, TypeAES256, []RewrapRequest{{Ciphertext: "nonsense"}, {Ciphertext: good[0].Value}})
	if err != nil || rewrapped[1].Err != nil || rewrapped[1].KeyVersion != 1 {
		t.Errorf("got %+v, %v", rewrapped, err)
	}
	wantError(t, rewrapped[0].Err, backend.ErrInvalidParams, "no prefix")
	signed, err := e.SignBatch(ctx, TypeP256, []SignRequest{{HashAlgorithm: "md5"}, {}}) // nothing is signed as the empty string
	if err != nil || !strings.HasPrefix(signed[1].Value, "vault:v1:") {
		t.Errorf("got %+v, %v", signed, err)
	}
	wantError(t, signed[0].Err, backend.ErrInvalidParams, `invalid hash algorithm "md5"`)
	macs, err := e.HMACBatch(ctx, TypeHMAC, []MACRequest{{Input: []byte("m")}, {HashAlgorithm: "x"}})
	if err != nil || macs[0].Err != nil || macs[1].Err == nil {
		t.Errorf("got %+v, %v", macs, err)
	}
	valid, err := e.VerifyHMACBatch(ctx, TypeHMAC, []VerifyMACRequest{{MACRequest{Input: []byte("m")}, macs[0].Value}, {MACRequest{}, macs[0].Value}, {MACRequest{}, "x"}})
	if err != nil || !valid[0].Value || valid[1].Value || valid[1].Err != nil || valid[2].Err == nil {
		t.Errorf("got %+v, %v", valid, err)
	}
	cmacs, err := e.CMACBatch(ctx, TypeAES128CMAC, []CMACRequest{{Length: 3}, {Input: []byte("m"), Reference: "x"}})
	if err != nil || cmacs[0].Err == nil || cmacs[1].Err != nil || cmacs[1].Reference != "x" {
		t.Errorf("got %+v, %v", cmacs, err)
	}
	valid, err = e.VerifyCMACBatch(ctx, TypeAES128CMAC, []VerifyCMACRequest{{CMACRequest{Input: []byte("m")}, cmacs[1].Value}, {CMACRequest{}, cmacs[1].Value}})
	if err != nil || !valid[0].Value || valid[1].Value {
		t.Errorf("got %+v, %v", valid, err)
	}
}

func TestBatchRefused(t *testing.T) {
	h := newSoftHouse(t)
	h.engine.opts.MaxBatch = 3
	e, ctx := h.engine, t.Context()
	h.create(t, "k", KeyOptions{Type: TypeAES256, Derived: true})
	for name, c := range map[string]struct {
		requests []EncryptRequest
		text     string
	}{
		"empty":    {[]EncryptRequest{}, "missing batch input to process"},
		"too many": {make([]EncryptRequest, 4), "batch of 4 items; it takes at most 3"},
		"contexts": {[]EncryptRequest{{Context: []byte("c")}, {}}, "context should be set either in all the request blocks or in none"},
	} {
		results, err := e.EncryptBatch(ctx, "k", c.requests)
		wantError(t, err, backend.ErrInvalidParams, c.text)
		if results != nil {
			t.Errorf("%s: got %d results", name, len(results))
		}
	}
	_, err := e.EncryptBatch(ctx, "nobody", make([]EncryptRequest, 1))
	wantError(t, err, backend.ErrKeyNotFound, "encryption key not found")
	_, err = e.VerifyBatch(ctx, "nobody", nil)
	wantError(t, err, backend.ErrKeyNotFound, "signature verification key not found")
	_, err = e.VerifyBatch(ctx, "k", nil)
	wantError(t, err, backend.ErrInvalidParams, "missing batch input")
}

// A panic in an item is one of the caller, who may recover, and not of a goroutine that nobody knows of.
func TestBatchPanics(t *testing.T) {
	var begun atomic.Int32
	got := func() (p any) {
		defer func() { p = recover() }()
		batch(t.Context(), 4, make([]SignRequest, 64), func(context.Context, SignRequest) (string, int, error) {
			for begun.Add(1); begun.Load() < 4; runtime.Gosched() { // until all are at it
			}
			panic("an item's")
		})
		return nil
	}()
	if got != "an item's" {
		t.Errorf("recovered %v", got)
	}
}
