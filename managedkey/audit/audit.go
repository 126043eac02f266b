package audit

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

// Defaults of [Options].
const (
	DefaultTimeout = 5 * time.Second
	DefaultQueue   = 4096
)

// closeWait is how long Close waits for sinks.
const closeWait = 10 * time.Second

// FailClosed says what happens to operations that can't be recorded.
type FailClosed uint8

// The choices.
const (
	FailOpen FailClosed = iota // they go on, and what was lost is counted
	AnySink                    // they are refused unless at least one sink has them
	AllSinks                   // they are refused unless all sinks have them
)

// Options are the options of [New]. The zero value is fine, and so is nil.
type Options struct {
	FailClosed FailClosed

	// Requests has each operation recorded before it begins as well, as FailClosed does.
	Requests bool

	// Timeout is how long an operation waits for its record at most; DefaultTimeout if 0.
	Timeout time.Duration

	// Queue is how many records may wait for each sink; DefaultQueue if 0.
	Queue int

	// Logger is told when a sink begins to fail, and when it works again. nil means slog.Default().
	Logger *slog.Logger
}

// Log records operations. It is a managedkey.Observer. All methods are safe for concurrent use.
type Log struct {
	opts    Options
	workers []*worker
	twice   bool   // requests and outcomes
	id      string // of the process; begins the ids of operations
	count   atomic.Uint64
	macs    sync.Pool
}

var _ managedkey.DenialObserver = (*Log)(nil)

// New returns a log that writes to the sinks, of which there must be at least one. key is the audit key: at least [MinKey]
// bytes, for the HMACs of inputs and the MACs of lines; mostly a reference, such as "file:/etc/myapp/audit.key". opts may be nil.
//
// The error wraps backend.ErrInvalidParams; backend.ErrCredentials if the key can't be had; backend.ErrUnavailable if a file can't be
// opened or another process writes to it; or [ErrTampered] if its last line is not one that was written with this key.
func New(key backend.Secret, sinks []Sink, opts *Options) (*Log, error) {
	l := new(Log)
	if opts != nil {
		l.opts = *opts
	}
	if l.opts.Timeout < 0 || l.opts.Queue < 0 || l.opts.FailClosed > AllSinks {
		return nil, fmt.Errorf("audit: FailClosed, Timeout, Queue: got %d, %v, %d; they take FailOpen, AnySink or AllSinks and nothing negative: %w",
			l.opts.FailClosed, l.opts.Timeout, l.opts.Queue, backend.ErrInvalidParams)
	}
	if len(sinks) == 0 {
		return nil, fmt.Errorf("audit: got no sink; it takes at least one: %w", backend.ErrInvalidParams)
	}
	if l.opts.Timeout == 0 {
		l.opts.Timeout = DefaultTimeout
	}
	if l.opts.Queue == 0 {
		l.opts.Queue = DefaultQueue
	}
	if l.opts.Logger == nil {
		l.opts.Logger = slog.Default()
	}
	k, err := newKeys(key)
	if err != nil {
		return nil, err
	}
	l.twice = l.opts.Requests || l.opts.FailClosed != FailOpen
	l.macs.New = func() any { return hmac.New(sha256.New, k.input) }
	var id [8]byte
	rand.Read(id[:])
	l.id = hex.EncodeToString(id[:]) + "-"
	for i, s := range sinks {
		if s == nil {
			err = fmt.Errorf("audit: sink %d is nil: %w", i, backend.ErrInvalidParams)
		} else {
			var out writer
			if out, err = s.open(k, l.opts.Logger); err == nil {
				l.workers = append(l.workers, newWorker(out, l.opts.Queue, l.opts.Logger))
				continue
			}
		}
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

type idKey struct{}

// Begin implements managedkey.Observer.
func (l *Log) Begin(ctx context.Context, op *managedkey.Operation) (context.Context, error) {
	if !l.twice {
		return ctx, nil
	}
	r := l.record(TypeRequest, l.nextID(), op)
	r.Input = l.sum(op.Input)
	if err := l.write(ctx, r); err != nil {
		refused := l.record(TypeRefused, r.ID, op)
		refused.Time, refused.Error = time.Now(), managedkey.ErrorClass(err)
		refused.body = refused.append(nil)
		for _, w := range l.workers {
			_ = w.offer(item{record: refused}) // where there is room: its request may have got somewhere
		}
		return nil, err
	}
	return context.WithValue(ctx, idKey{}, r.ID), nil
}

// End implements managedkey.Observer.
func (l *Log) End(ctx context.Context, op *managedkey.Operation) error {
	kind, id := TypeOperation, ""
	if l.twice {
		kind = TypeOutcome
		id, _ = ctx.Value(idKey{}).(string)
	} else {
		id = l.nextID()
	}
	r := l.record(kind, id, op)
	if !l.twice {
		r.Input = l.sum(op.Input)
	} else {
		r.Time = time.Now()
	}
	r.Duration, r.Error = op.Duration, managedkey.ErrorClass(op.Err)
	r.Output = l.sum(op.Output)
	return l.write(context.WithoutCancel(ctx), r) // what was done is recorded, whether anybody waits or not
}

// Denied implements managedkey.DenialObserver. It never waits, whatever FailClosed says: nothing is done that could be refused, and
// whoever is not let in must not hold up those who are. What finds no room is lost and counted.
func (l *Log) Denied(_ context.Context, d *managedkey.Denial) {
	r := &Record{
		Time: d.Time, Type: TypeDenied, ID: l.nextID(), Actor: d.Actor, Namespace: string(d.Namespace),
		Mount: d.MountPath, MountID: d.MountID, Path: d.Path, Operation: d.Operation, Options: d.Reason,
		Error: d.Class, Input: l.sum(d.Credential), Omitted: d.Omitted,
	}
	r.body = r.append(nil)
	for _, w := range l.workers {
		if w.offerSome(item{record: r}) != nil {
			w.lost.Add(1)
		}
	}
}

func (l *Log) nextID() string { return l.id + strconv.FormatUint(l.count.Add(1), 10) }

// record returns what is known of an operation from its beginning.
func (l *Log) record(kind, id string, op *managedkey.Operation) *Record {
	return &Record{
		Time: op.Start, Type: kind, ID: id, Actor: op.Actor,
		Namespace: string(op.Ref.Namespace), Name: op.Ref.Name, Key: op.UUID, Version: op.Version,
		Mount: op.MountPath, MountID: op.MountID,
		Backend: op.Backend, Operation: op.Name, Algorithm: op.Algorithm, Options: op.Options,
	}
}

func (l *Log) sum(c managedkey.Content) string {
	mac := l.macs.Get().(hash.Hash)
	defer l.macs.Put(mac)
	return hmacText(c.Sum(mac))
}
