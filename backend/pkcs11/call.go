package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// The states of a call. Only the pool's workers move a call from waiting to running and to done; only its caller abandons
// it.
const (
	callWaiting int32 = iota
	callRunning
	callDone
	callAbandoned
)

// call is one use of a session: an operation of a key, or else fn. It belongs to its caller until it is submitted, again
// once it is done, and to its worker for ever if it was abandoned while it ran.
//
// Everything that a call reads and writes is its own memory, since a caller may leave while the module is at work.
type call struct {
	cryptoki.Operation
	key   cryptoki.Handle
	epoch uint64 // that key belongs to
	fate  *fate  // of the key's object; nil for fn

	fn func(*worker) error
	rw bool // fn needs a read/write session

	form  resultForm // of the result
	exact bool       // Out must be filled
	trial bool       // to find out what the token does; that it fails is an answer

	elsewhere bool // its worker ended, because it got no session, and there are others

	n   int // bytes of Out that were written
	err error

	state      atomic.Int32
	done       chan struct{} // receives once for each submission that was not abandoned
	worker     *worker       // that runs it; guarded by pool.mu
	prev, next *call         // in the queue; guarded by pool.mu
	buffer     []byte        // what In, A and B are copied to
	room       []byte        // what Out is taken from
}

var calls = sync.Pool{New: func() any {
	return &call{done: make(chan struct{}, 1)}
}}

// newCall returns a call that has copies of the inputs and room for an output.
func newCall(op cryptoki.Op, in, a, b []byte, room int) *call {
	c := calls.Get().(*call)
	c.Op = op
	c.buffer = append(append(append(c.buffer[:0], in...), a...), b...)
	c.In = c.buffer[:len(in):len(in)]
	c.A = c.buffer[len(in) : len(in)+len(a) : len(in)+len(a)]
	c.B = c.buffer[len(in)+len(a):]
	if cap(c.room) < room {
		c.room = make([]byte, room)
	}
	c.Out = c.room[:room]
	return c
}

// free gives back a call that no worker holds. What it held may be secret.
func (c *call) free() {
	const keep = 16 << 10 // bytes; larger buffers are not kept
	clear(c.buffer)
	clear(c.Out)
	if cap(c.buffer) > keep {
		c.buffer = nil
	}
	if cap(c.room) > keep {
		c.room = nil
	}
	c.Operation = cryptoki.Operation{}
	c.key, c.epoch, c.fate, c.fn, c.rw, c.form, c.exact, c.trial, c.n, c.err, c.worker = 0, 0, nil, nil, false, formOutput, false, false, 0, nil, nil
	c.elsewhere = false
	calls.Put(c)
}

// mayBeInput reports whether err, with which the call failed, may mean that its input is not what the key expects, or,
// of a trial, that the token doesn't do that.
func (c *call) mayBeInput(err error) bool {
	r, ok := code(err)
	return ok && c.fn == nil && (c.Op == cryptoki.Decrypt || c.trial) && c.Stage == cryptoki.AtOperation && r.failsDecryption()
}

// resultForm says what the result is made of.
type resultForm uint8

const (
	formOutput resultForm = iota // the output
	formNonce                    // A and the output
	formECDSA                    // the output is r ‖ s, the result is Ecdsa-Sig-Value (RFC 3279, Section 2.2.3)
)

// result returns a copy of the result.
func (c *call) result() []byte {
	out := c.Out[:c.n]
	switch c.form {
	case formNonce:
		return append(append(make([]byte, 0, len(c.A)+len(out)), c.A...), out...)
	case formECDSA:
		return ecdsaSignature(out)
	}
	return append(make([]byte, 0, len(out)), out...)
}

// ecdsaSignature returns r ‖ s, both as long as the order of the curve, as Ecdsa-Sig-Value in DER. It is written out here
// because encoding/asn1 and cryptobyte take four to a dozen allocations for it, on each signature.
func ecdsaSignature(raw []byte) []byte {
	half := len(raw) / 2
	r, s := derInteger(raw[:half]), derInteger(raw[half:])
	length := 2 + r.length() + 2 + s.length()
	out := make([]byte, 0, 3+length)
	out = append(out, 0x30) // SEQUENCE
	if length >= 0x80 {
		out = append(out, 0x81) // one byte of length follows; that of P-521 is 139 at most
	}
	out = append(out, byte(length))
	return s.appendTo(r.appendTo(out))
}

// unsigned is a big-endian number without leading zeros.
type unsigned []byte

func derInteger(b []byte) unsigned {
	for len(b) > 1 && b[0] == 0 {
		b = b[1:]
	}
	return b
}

// length is that of the content of an INTEGER, whose first bit is its sign.
func (u unsigned) length() int {
	if len(u) > 0 && u[0]&0x80 != 0 {
		return len(u) + 1
	}
	return len(u)
}

func (u unsigned) appendTo(out []byte) []byte {
	out = append(out, 0x02, byte(u.length()))
	if u.length() > len(u) {
		out = append(out, 0)
	}
	return append(out, u...)
}

// deadline bounds the whole of an operation, with all its retries: by the context's own deadline or else by the call
// timeout.
type deadline struct {
	ctx     context.Context
	expired <-chan struct{} // nil if the context sees to it
	until   time.Time       // if expired is not nil: when that is, about
	timeout time.Duration
}

// begin begins an operation of a key.
func (c *conn) begin(ctx context.Context) deadline {
	if _, ok := ctx.Deadline(); ok {
		return deadline{ctx: ctx}
	}
	return deadline{ctx, c.wheel.deadline(), time.Now().Add(c.wheel.timeout), c.wheel.timeout}
}

// context returns a context that ends when time is up.
func (d deadline) context() (context.Context, context.CancelFunc) {
	if d.expired == nil {
		return context.WithCancel(d.ctx)
	}
	return context.WithDeadline(d.ctx, d.until)
}

// bounded returns ctx with a deadline, its own or else after a time.
func bounded(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

// err returns what to tell a caller who leaves while it waits for what.
func (d deadline) err(what string) error {
	switch err := d.ctx.Err(); {
	case err == nil:
		return fmt.Errorf("%s: no answer within the call timeout of %v: %w: %w", what, d.timeout, backend.ErrUnavailable, context.DeadlineExceeded)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: no answer within the caller's deadline: %w: %w", what, backend.ErrUnavailable, err)
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

// queue is a list of calls, the oldest first.
type queue struct {
	first, last *call
	length      int
}

func (q *queue) push(c *call) {
	c.prev, c.next = q.last, nil
	if q.last == nil {
		q.first = c
	} else {
		q.last.next = c
	}
	q.last = c
	q.length++
}

func (q *queue) remove(c *call) {
	if c.prev == nil {
		q.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		q.last = c.prev
	} else {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
	q.length--
}

func (q *queue) pop() *call {
	c := q.first
	if c != nil {
		q.remove(c)
	}
	return c
}
