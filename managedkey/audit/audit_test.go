package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

// TestOneLineForAnOperation: who, what, how long, how it went, and nothing of the input.
func TestOneLineForAnOperation(t *testing.T) {
	path := fileIn(t)
	l := open(t, nil, File{Path: path})
	k := signer(t, l)
	ctx := managedkey.WithActor(t.Context(), managedkey.Actor{ID: "accessor", Name: "Ann", Address: "192.0.2.1:99", RequestID: "r-7"})
	if err := sign(k, ctx); err != nil {
		t.Fatal(err)
	}
	_, err := k.SignContext(ctx, []byte("my secret"), nil)
	if err == nil {
		t.Fatal("signed without options")
	}
	all := lines(t, path)
	if len(all) != 4 {
		t.Fatalf("there are %d lines: %q", len(all), all)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(all[2]), &got); err != nil {
		t.Fatal(err)
	}
	input, err := InputHMAC(testKey, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"type": "operation", "actor": "accessor", "actor_name": "Ann", "address": "192.0.2.1:99", "request": "r-7",
		"namespace": "team-a", "name": "issuing-ca", "key": k.UUID(), "version": 1.0, "backend": "software", "operation": "sign",
		"algorithm": "ECDSA P-256", "options": "SHA-256", "seq": 3.0, "input": input, "error": nil, "mount": nil,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if d, _ := got["duration_ns"].(float64); d <= 0 {
		t.Errorf("duration_ns is %v", got["duration_ns"])
	}
	if out, _ := got["output"].(string); len(out) != len(hmacPrefix)+64 {
		t.Errorf("output is %q", out)
	}
	if !strings.Contains(all[3], `"error":"ErrInvalidParams"`) || strings.Contains(all[3], "secret") || strings.Contains(all[3], "output") {
		t.Errorf("the failure is %s", all[3])
	}
}

// TestTwoLines: with requests, the request is in the file before the key is used, and the outcome has its id.
func TestTwoLines(t *testing.T) {
	path := fileIn(t)
	l := open(t, &Options{FailClosed: AllSinks}, File{Path: path})
	k := signer(t, l)
	op := &managedkey.Operation{Name: "sign", Ref: testRef}
	ctx, err := l.Begin(t.Context(), op)
	if err != nil {
		t.Fatal(err)
	}
	if all := lines(t, path); count(all, `"type":"request"`) != 1 || count(all, `"type":"outcome"`) != 0 {
		t.Fatalf("before the operation there is %q", all)
	}
	if r := whole(t, path); len(r.Open) != 1 {
		t.Errorf("open requests %q", r.Open)
	}
	if err := l.End(ctx, op); err != nil {
		t.Fatal(err)
	}
	if err := sign(k, t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := whole(t, path); len(r.Open) != 0 || r.Lines != 6 {
		t.Errorf("found %+v", r)
	}
}

// failing is a sink that fails, panics or hangs as told.
type failing struct {
	mu  sync.Mutex
	do  func() error
	got int
}

func (f *failing) sink(name string) Sink {
	return Func{Name: name, Write: func(records []*Record) error {
		f.mu.Lock()
		do := f.do
		f.got += len(records)
		f.mu.Unlock()
		if do != nil {
			return do()
		}
		return nil
	}}
}

func (f *failing) set(do func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.do = do
}

// TestFailClosed: which operations are refused when one of two sinks fails, panics or hangs, or both do.
func TestFailClosed(t *testing.T) {
	for how, do := range map[string]func(hang chan struct{}) error{
		"fails":  func(chan struct{}) error { return errors.New("no space left on device") },
		"panics": func(chan struct{}) error { panic("secret") },
		"hangs":  func(hang chan struct{}) error { <-hang; return errors.New("too late") },
	} {
		for _, mode := range []FailClosed{FailOpen, AnySink, AllSinks} {
			for broken := range 3 {
				t.Run(how, func(t *testing.T) {
					first, second := new(failing), new(failing)
					l := open(t, &Options{FailClosed: mode, Timeout: 50e6, Queue: 4}, first.sink("first"), second.sink("second"))
					hang := make(chan struct{})
					t.Cleanup(func() { close(hang) }) // before the log is closed
					k := signer(t, l)
					if err := sign(k, t.Context()); err != nil {
						t.Fatal(err)
					}
					for i, f := range []*failing{first, second} {
						if i < broken {
							f.set(func() error { return do(hang) })
						}
					}
					want := mode == AllSinks && broken > 0 || mode == AnySink && broken == 2
					for range 8 { // more than the queue holds
						err := sign(k, t.Context())
						if want != (err != nil) || want && !errors.Is(err, backend.ErrUnavailable) {
							t.Errorf("mode %d, %d sinks: %v", mode, broken, err)
						}
						if err != nil && strings.Contains(err.Error(), "secret") {
							t.Errorf("the error shows %v", err)
						}
					}
					for _, f := range []*failing{first, second} {
						f.set(nil)
					}
					if how == "hangs" {
						return
					}
					if err := sign(k, t.Context()); err != nil {
						t.Errorf("after the sinks work again: %v", err)
					}
				})
			}
		}
	}
}

// TestCancelled: a caller that leaves while its request is being recorded doesn't use the key.
func TestCancelled(t *testing.T) {
	hang, f := make(chan struct{}), new(failing)
	l := open(t, &Options{FailClosed: AllSinks}, f.sink("slow"))
	t.Cleanup(func() { close(hang) }) // before the log is closed
	k := signer(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	f.set(func() error { cancel(); <-hang; return nil })
	if err := sign(k, ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// TestNoInjection: whatever names and actors hold, a record is one line of ASCII.
func TestNoInjection(t *testing.T) {
	path := fileIn(t)
	var logged bytes.Buffer
	l := open(t, nil, File{Path: path}, Slog{slog.New(slog.NewTextHandler(&logged, nil))})
	evil := "a\nb\r\x00\x1b[31m\u2028\u202e\xff\xc0\"\\}{\"seq\":1,\x7f" + strings.Repeat("é", MaxText)
	op := &managedkey.Operation{Name: "open", Options: evil, MountPath: evil, Backend: evil,
		Actor: managedkey.Actor{ID: evil, Name: evil, Address: evil, RequestID: evil}}
	op.Ref.Name, op.Ref.Namespace = evil, "x\ny"
	if err := l.End(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	all := lines(t, path)
	if len(all) != 4 {
		t.Fatalf("there are %d lines", len(all))
	}
	for _, text := range append(all, strings.SplitAfter(logged.String(), "\n")...) {
		for i, r := range strings.TrimSuffix(text, "\n") {
			if r < ' ' || r > '~' {
				t.Errorf("byte %d is %q in %q", i, r, text)
			}
		}
	}
	if n := strings.Count(logged.String(), "\n"); n != 1 {
		t.Errorf("slog has %d lines", n)
	}
	var got struct {
		Name      string
		Namespace string
	}
	if err := json.Unmarshal([]byte(all[2]), &got); err != nil {
		t.Fatal(err)
	}
	want := strings.ToValidUTF8(strings.ReplaceAll(evil, "\xff\xc0", "\ufffd\ufffd"), "")
	if !strings.HasPrefix(want, strings.TrimSuffix(got.Name, "…")) || len(got.Name) < MaxText/2 || got.Namespace != "x\ny" {
		t.Errorf("read back %q", got.Name)
	}
	whole(t, path)
}

// TestSinksAtOnce: many goroutines, several sinks: each has every record once, and the chain holds.
func TestSinksAtOnce(t *testing.T) {
	path, counting := fileIn(t), new(failing)
	l := open(t, &Options{Requests: true}, File{Path: path}, counting.sink("count"), File{Path: path + "2", Sync: SyncNever})
	k := signer(t, l)
	const callers, each = 8, 25
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				if err := sign(k, t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + "2"} {
		if r := whole(t, p, l.Heads()[p]); r.Lines != 3+2*callers*each || len(r.Open) != 0 {
			t.Errorf("%s: found %+v", p, r)
		}
	}
	if counting.got != 2*callers*each {
		t.Errorf("the function got %d records, want %d", counting.got, 2*callers*each)
	}
	for _, s := range l.Stats() {
		if s.Written != 2*callers*each || s.Lost != 0 || s.Failing {
			t.Errorf("stats %+v", s)
		}
	}
	if err := sign(k, t.Context()); err != nil {
		t.Errorf("after Close, failing open: %v", err)
	}
}

// TestBadOptions are refused.
func TestBadOptions(t *testing.T) {
	ok := []Sink{Slog{}}
	for name, c := range map[string]struct {
		sinks []Sink
		opts  *Options
	}{
		"no sink": {nil, nil}, "nil sink": {[]Sink{nil}, nil}, "no function": {[]Sink{Func{}}, nil}, "no path": {[]Sink{File{}}, nil},
		"mode": {[]Sink{File{Path: "x", Mode: 0o400}}, nil}, "size": {[]Sink{File{Path: "x", MaxSize: -1}}, nil},
		"policy": {[]Sink{File{Path: "x", Sync: 9}}, nil}, "timeout": {ok, &Options{Timeout: -1}}, "closed": {ok, &Options{FailClosed: 9}},
	} {
		if _, err := New(testKey, c.sinks, c.opts); !errors.Is(err, backend.ErrInvalidParams) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
