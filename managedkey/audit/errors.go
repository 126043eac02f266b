package audit

import (
	"errors"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// ErrTampered is wrapped by the error of a chain that is not whole: lines were edited, removed, reordered or cut, or the
// key is another one than it was written with.
var ErrTampered = errors.New("audit chain is broken")

var (
	errForm = errors.New("it has not the form of a line")
	errMAC  = errors.New("its MAC is wrong: it was edited, or written with another key")

	errClosed  = fmt.Errorf("audit: the log was closed: %w", backend.ErrClosed)
	errTimeout = errors.New("it did not take the record in time")
	errFull    = errors.New("its queue is full")
)
