package store

import (
	"context"
	"iter"
	"math"
)

// Store keeps records. Keys are paths (see [ValidateKey]), values are bytes.
//
// All methods are safe for concurrent use. Reads and transactions are linearizable: a call sees everything that was
// acknowledged before it began, by whatever process. The errors of all methods wrap ErrInvalid for arguments that are out of
// bounds, ErrUnavailable when the engine can't be reached or can't go on, ErrClosed after Close, ErrCorrupt for content
// that nobody wrote through this package, and otherwise ctx.Err().
type Store interface {
	// Get returns the record of key. The error wraps ErrNotFound if there is none.
	Get(ctx context.Context, key string) (Record, error)

	// List returns the first records under prefix whose keys are greater than after, in the order of the bytes of their
	// keys, unless the engine's documentation has another order; a page is read at one instant. prefix is empty or a key
	// followed by a slash. after is empty or the key where the last page ended. limit is the most that is returned, 1 to
	// MaxPage; a page ends earlier when its values have PageBytes bytes. Page.More tells whether anything is left.
	List(ctx context.Context, prefix, after string, limit int) (Page, error)

	// Apply makes all changes of ops, or none, and returns the revision of the commit, which is the version of each record
	// that it put. If nothing changes (there are only checks, and deletions of what isn't there), it is a revision at which
	// the expectations held. There are 1 to MaxOps ops, each with another key, and at most MaxApply bytes of keys and values.
	//
	// The error wraps ErrConflict and is a *ConflictError if an expectation does not hold, and ErrTooLarge if a limit is
	// exceeded; then nothing has changed. If it wraps ErrUnknownOutcome, the changes may have been made, or still be made:
	// the engine went away, or ctx ended, after they were sent.
	Apply(ctx context.Context, ops ...Op) (revision uint64, err error)

	// Watch yields every change under prefix that was committed after the revision from, commit by commit in the order of
	// their revisions, and then waits for more. It goes on over restarts of the engine and broken connections, without gaps
	// or repetitions. To begin now, take from from Page.Revision; 0 is before everything.
	//
	// The sequence ends with the first error, which tells why: that of ctx, ErrClosed, ErrInvalid, ErrCorrupt, or
	// ErrCompacted if the changes after from are no longer kept, or from is a revision that the store never had (it was put
	// back from a backup). Then the reader must list again.
	Watch(ctx context.Context, prefix string, from uint64) iter.Seq2[Event, error]

	// Close ends watches, waits for transactions in flight, and releases everything. Closing again does nothing and
	// returns nil.
	Close() error
}

// Limits that hold for every engine. A Store that wraps another may have lower ones and says so.
const (
	MaxKey    = 1024    // bytes of a key
	MaxValue  = 1 << 20 // bytes of a value
	MaxOps    = 50      // ops in one Apply
	MaxApply  = 5 << 18 // bytes of the keys and values of one Apply: 1.25 MiB
	MaxPage   = 1000    // records in one page
	PageBytes = 4 << 20 // bytes of values after which a page ends
)

// Record is a key, its value, and the revision of the commit that wrote it. The caller owns Value.
type Record struct {
	Key     string
	Value   []byte
	Version uint64
}

// Page is a part of a list.
type Page struct {
	Records  []Record
	More     bool   // whether records follow
	Revision uint64 // of the store when the page was read
}

// Kind is what an [Op] does.
type Kind uint8

// The kinds of ops.
const (
	Put    Kind = iota // write Value
	Delete             // remove the record; not to be combined with Absent
	Check              // change nothing, only compare
)

// Op is a part of a transaction.
type Op struct {
	Kind   Kind
	Key    string
	Value  []byte // of Put; not modified
	Expect Expect // what must be there before; the zero value is Absent, so that nothing is overwritten by mistake

	// Encode, if not nil, makes what is stored from Value once the version that the record will have is known. It is how
	// package seal binds values to versions. It may be called several times and must not call the Store. If it fails, so
	// does Apply, and nothing has changed.
	Encode func(version uint64, value []byte) ([]byte, error)
}

// Expect is what an [Op] requires of its key: that its record has exactly this version, or Absent, or Any.
type Expect uint64

// Expectations other than a version.
const (
	Absent Expect = 0              // there must be no record
	Any    Expect = math.MaxUint64 // whatever is there
)

// Holds reports whether a record with that version, 0 for none, is what e requires.
func (e Expect) Holds(version uint64) bool { return e == Any || uint64(e) == version }

// Event is what one commit changed under a watched prefix.
type Event struct {
	Revision uint64
	Changes  []Change // at least one, in the order of their keys
}

// Change is the new state of a key. Its Version is the revision of the commit, also if the record was deleted; then
// Value is nil.
type Change struct {
	Record
	Deleted bool
}
