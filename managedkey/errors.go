package managedkey

import (
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/namespace"
)

// Error is the type of every error of this package: it reports that Op could not be done for the key Ref.
type Error struct {
	Op      string        // what was asked: "create", "open", "sign", "grant", …
	Ref     namespace.Ref // the key as the caller named it; Name is empty if the operation concerns no key
	Backend string        // type of the key's backend, such as "awskms"; empty if it is not known
	Err     error         // never nil; wraps a sentinel of package backend and the key manager's own error
}

// maxShown bounds how much of a reference is shown in an error's text, in bytes: every valid one fits.
const maxShown = namespace.MaxPath + 1 + namespace.MaxSegment

// Error returns the operation, the key and what went wrong.
func (e *Error) Error() string {
	text := "managedkey: " + e.Op
	if e.Ref.Name != "" {
		text += fmt.Sprintf(" %.*q", maxShown, e.Ref.String())
	} else {
		text += fmt.Sprintf(" in namespace %.*q", maxShown, e.Ref.Namespace.String())
	}
	if e.Backend != "" {
		text += " (" + e.Backend + ")"
	}
	return text + ": " + e.Err.Error()
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

func fail(op string, ref namespace.Ref, kind string, err error) error {
	return &Error{Op: op, Ref: ref, Backend: kind, Err: err}
}

// invalidRef explains a reference that is not well formed.
func invalidRef(err error) error { return fmt.Errorf("%w: %w", backend.ErrInvalidParams, err) }

var (
	// errDeleted is what handles of a deleted entry answer.
	errDeleted = fmt.Errorf("the entry was deleted: %w", backend.ErrKeyNotFound)

	// errRotated is what an operation answers that meant the newest version, if another one is the newest now.
	errRotated = fmt.Errorf("the entry was rotated meanwhile: %w", store.ErrConflict)

	// errMoved is what it answers if that is elsewhere now.
	errMoved = fmt.Errorf("the entry was moved meanwhile: %w", store.ErrConflict)

	// errReplaced: the caller must look again which entry is meant.
	errReplaced = fmt.Errorf("the entry was deleted and made again meanwhile: %w", store.ErrConflict)

	// errAbsent is the same for every name that a namespace doesn't have, whether other namespaces have it or not.
	errAbsent = fmt.Errorf("no such entry in this namespace: %w", backend.ErrKeyNotFound)

	// errUnmounted is what a closed mount and its handles answer.
	errUnmounted = fmt.Errorf("the mount was closed: %w", backend.ErrNotPermitted)
)
