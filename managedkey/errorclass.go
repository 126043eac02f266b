package managedkey

import (
	"context"
	"errors"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// classes are the sentinels by name. Those that wrap another stand before it, and what explains more before what explains less.
var classes = []struct {
	err  error
	name string
}{
	{context.Canceled, "Canceled"},
	{store.ErrUnknownOutcome, "ErrUnknownOutcome"},
	{store.ErrTooLarge, "ErrTooLarge"},
	{store.ErrCorrupt, "ErrCorrupt"},
	{store.ErrForeign, "ErrForeign"},
	{backend.ErrClosed, "ErrClosed"},
	{backend.ErrInvalidParams, "ErrInvalidParams"},
	{backend.ErrNotPermitted, "ErrNotPermitted"},
	{backend.ErrKeyChanged, "ErrKeyChanged"},
	{backend.ErrAmbiguousKey, "ErrAmbiguousKey"},
	{backend.ErrKeyExists, "ErrKeyExists"},
	{backend.ErrKeyDisabled, "ErrKeyDisabled"},
	{backend.ErrCredentials, "ErrCredentials"},
	{backend.ErrThrottled, "ErrThrottled"},
	{backend.ErrIntegrity, "ErrIntegrity"},
	{backend.ErrInvalidSignature, "ErrInvalidSignature"},
	{backend.ErrDecryption, "ErrDecryption"},
	{backend.ErrUnavailable, "ErrUnavailable"},
	{backend.ErrUnsupported, "ErrUnsupported"},
	{backend.ErrKeyNotFound, "ErrKeyNotFound"},
	{store.ErrConflict, "ErrConflict"},
	{store.ErrNotFound, "ErrNotFound"},
	{context.DeadlineExceeded, "DeadlineExceeded"},
}

// ErrorClass returns the name of the sentinel that err wraps, such as "ErrNotPermitted" of package backend or "ErrConflict" of
// package store; "Canceled" or "DeadlineExceeded" if it is that of a context alone; "other" if it wraps none; and "" for nil. It
// shows nothing of the error's text, and there are few of them, as audit and metrics want it.
func ErrorClass(err error) string {
	if err == nil {
		return ""
	}
	for _, c := range classes {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return "other"
}
