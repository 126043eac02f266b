package store

import (
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// The kinds of failure, for errors.Is. Engines wrap one of them together with the engine's own error.
var (
	// ErrNotFound: there is no record with this key.
	ErrNotFound = sentinel("record not found", nil)

	// ErrConflict: a record is not as the transaction expected it. The error is a *ConflictError.
	ErrConflict = sentinel("record is not as expected", nil)

	// ErrTooLarge: a key, a value or a transaction exceeds a limit. It wraps ErrInvalid.
	ErrTooLarge = sentinel("too large", ErrInvalid)

	// ErrInvalid: an argument is malformed. It wraps backend.ErrInvalidParams.
	ErrInvalid = sentinel("invalid argument", backend.ErrInvalidParams)

	// ErrCompacted: the changes after a revision are not kept any more. The reader must list again.
	ErrCompacted = sentinel("changes are no longer kept; list again", nil)

	// ErrUnavailable: the engine can't be reached, doesn't answer in time, or can't write (a full disk). Trying again later
	// may help. It wraps backend.ErrUnavailable.
	ErrUnavailable = sentinel("store unavailable", backend.ErrUnavailable)

	// ErrUnknownOutcome: whether the changes of a transaction were made is not known. It wraps ErrUnavailable.
	ErrUnknownOutcome = sentinel("the changes may or may not have been made", ErrUnavailable)

	// ErrClosed: the Store was closed. It wraps backend.ErrClosed.
	ErrClosed = sentinel("store is closed", backend.ErrClosed)

	// ErrCorrupt: what the engine holds is damaged, was tampered with, or was not written by this package.
	ErrCorrupt = sentinel("store is damaged", nil)

	// ErrForeign: what was opened is no store of this project, or not of the kind or version that is read here.
	ErrForeign = sentinel("not a store that can be read", nil)
)

// kind is a sentinel with a text of its own, whatever it wraps: the texts of package backend speak of key managers.
type kind struct {
	text   string
	parent error
}

func sentinel(text string, parent error) error { return &kind{text, parent} }

func (k *kind) Error() string { return k.text }
func (k *kind) Unwrap() error { return k.parent }

// ConflictError reports that the record of Key is not as a transaction expected it. It wraps [ErrConflict].
type ConflictError struct {
	Key     string
	Expect  Expect // what the transaction expected
	Version uint64 // of the record that is there; 0 if there is none
}

// Error names the key, what was expected and what is there.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("store: %.*q: expected %s, found %s: %v", MaxKey, e.Key, describe(uint64(e.Expect)), describe(e.Version), ErrConflict)
}

// Unwrap returns ErrConflict.
func (e *ConflictError) Unwrap() error { return ErrConflict }

func describe(version uint64) string {
	if version == 0 {
		return "no record"
	}
	return fmt.Sprintf("version %d", version)
}
