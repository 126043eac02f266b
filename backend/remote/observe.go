package remote

import (
	"context"

	"github.com/managedkeys/managedkeys/backend"
)

// Attempt is one request of a call.
type Attempt struct {
	Backend string // the name of the connection: the backend's type
	Op      string // the service's operation
	Number  int    // from 1; above that it repeats one that failed
}

// Observer is told of each attempt when its turn has come, and returns the context for it and what is called with its error,
// as the caller would get it, or nil. Both are called on the goroutine that makes the attempt.
type Observer func(ctx context.Context, a Attempt) (context.Context, func(error))

type observerKey struct{}

// WithObserver returns a context with which calls tell o of their attempts: who looks at an operation, looks at what it does as well.
func WithObserver(ctx context.Context, o Observer) context.Context {
	return context.WithValue(ctx, observerKey{}, o)
}

func unobserved(error) {}

// observe tells the observer of ctx, if there is one, that an attempt begins.
func observe(ctx context.Context, a Attempt) (context.Context, func(error)) {
	if o, ok := ctx.Value(observerKey{}).(Observer); ok && o != nil {
		return o(ctx, a)
	}
	return ctx, unobserved
}

// Load returns how the connection is doing, under a name that says what it is to.
func (c *Connection) Load(name string) backend.Load {
	return backend.Load{
		Connection: name, Busy: len(c.slots), Waiting: int(c.waiting.Load()), Down: c.Down(), Retries: c.retries.Load(),
	}
}
