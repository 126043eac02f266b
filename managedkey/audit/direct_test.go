package audit

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

// TestWritersAtOnce: whoever writes, callers or the goroutine, and whoever fsyncs meanwhile: each record is there once, a request before
// its outcome, and the chain holds.
func TestWritersAtOnce(t *testing.T) {
	for _, mode := range []FailClosed{AnySink, AllSinks} {
		path := fileIn(t)
		l := open(t, &Options{FailClosed: mode, Queue: 3}, File{Path: path, Sync: SyncInterval, Interval: time.Millisecond, MaxSize: 30_000},
			File{Path: path + "2", Sync: SyncNever})
		k := signer(t, l)
		const callers, each = 8, 50
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
		for i, p := range []string{path, path + "2"} {
			r := whole(t, p, l.Heads()[p])
			if s := l.Stats()[i]; s.Written+s.Lost != 2*callers*each || r.Lost != s.Lost || mode == AllSinks && s.Lost != 0 {
				t.Errorf("stats %+v, found %+v", s, r)
			}
			if len(r.Open) != 0 && l.Stats()[i].Lost == 0 {
				t.Errorf("%d requests without an outcome", len(r.Open))
			}
		}
	}
}

// TestWritesByItself: an operation of a log that fails closed needs no other goroutine to have its records written.
func TestWritesByItself(t *testing.T) {
	path := fileIn(t)
	l := open(t, &Options{FailClosed: AllSinks, Timeout: 30 * time.Second}, File{Path: path, Sync: SyncNever})
	w := l.workers[0]
	k := signer(t, l)
	w.rouse()
	for len(w.wake) > 0 { // the goroutine is about to find that there is nothing to do
		time.Sleep(time.Millisecond)
	}
	refused := &Record{Type: TypeRefused, ID: "before", Time: time.Now()}
	refused.body = refused.append(nil)
	if err := w.offer(item{record: refused}); err != nil { // waits for others, 2 ms at most
		t.Fatal(err)
	}
	if err := sign(k, t.Context()); err != nil {
		t.Fatal(err)
	}
	all := lines(t, path)
	if n := len(all); n < 5 || !strings.Contains(all[n-3], `"id":"before"`) || !strings.Contains(all[n-2], `"request"`) || !strings.Contains(all[n-1], `"outcome"`) {
		t.Errorf("the file ends with %q", all)
	}
	if len(w.slots) != 0 || len(w.turn) != 0 {
		t.Errorf("%d records are on their way, %d write", len(w.slots), len(w.turn))
	}
	whole(t, path)
}

// hanging is a file whose writes wait while there is something in gate.
type hanging struct {
	file
	gate    atomic.Pointer[chan struct{}]
	waiting atomic.Int32
}

func (f *hanging) WriteAt(p []byte, at int64) (int, error) {
	if gate := f.gate.Load(); gate != nil {
		f.waiting.Add(1)
		<-*gate
	}
	return f.file.WriteAt(p, at)
}

// TestDiskThatHangs holds up the one operation that writes, and no other: those are refused in time, and so is Close bounded. When the disk
// is back, all is well.
func TestDiskThatHangs(t *testing.T) {
	path := fileIn(t)
	l := open(t, &Options{FailClosed: AllSinks, Timeout: 20 * time.Millisecond}, File{Path: path, Sync: SyncNever})
	out := l.workers[0].out.(*fileWriter)
	disk := &hanging{file: out.f}
	out.f = disk // nothing was written yet, and nobody writes
	k := signer(t, l)
	gate := make(chan struct{})
	disk.gate.Store(&gate)
	first := make(chan error, 1)
	go func() { first <- sign(k, context.Background()) }()
	for deadline := time.Now().Add(20 * time.Second); disk.waiting.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody writes")
		}
	}
	for range 3 {
		if err := sign(k, t.Context()); !errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "in time") {
			t.Errorf("while the disk hangs: %v", err)
		}
	}
	disk.gate.Store(nil)
	close(gate)
	if err := <-first; err != nil {
		t.Errorf("the one that wrote: %v", err)
	}
	if err := sign(k, t.Context()); err != nil {
		t.Errorf("when the disk is back: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole(t, path, l.Heads()[path])
}

// TestLostAtTheEnd: what was lost is in the file even if nothing is written after it.
func TestLostAtTheEnd(t *testing.T) {
	path := fileIn(t)
	l := open(t, &Options{FailClosed: AllSinks}, File{Path: path, Sync: SyncNever})
	out := l.workers[0].out.(*fileWriter)
	disk := &faulty{file: out.f, write: errors.New("no space left on device")}
	out.f = disk
	r := &Record{Type: TypeOutcome, Time: time.Now()}
	if err := l.write(t.Context(), r); !errors.Is(err, backend.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	disk.write = nil
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := whole(t, path); r.Lost != 1 {
		t.Errorf("found %+v", r)
	}
}

// panicking is a handler that panics.
type panicking struct{ slog.Handler }

func (panicking) Handle(context.Context, slog.Record) error { panic("secret") }

// TestLoggerThatPanics holds up nobody: the operation is refused, and the next one has its turn.
func TestLoggerThatPanics(t *testing.T) {
	l := open(t, &Options{FailClosed: AllSinks, Logger: slog.New(panicking{slog.NewTextHandler(io.Discard, nil)})}, File{Path: fileIn(t), Sync: SyncNever})
	out := l.workers[0].out.(*fileWriter)
	disk := &faulty{file: out.f, write: errors.New("no space left on device")}
	out.f = disk
	for range 2 {
		if _, err := l.Begin(t.Context(), new(managedkey.Operation)); !errors.Is(err, backend.ErrUnavailable) || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v", err)
		}
	}
}
