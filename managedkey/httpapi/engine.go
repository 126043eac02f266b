package httpapi

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/managedkeys/managedkeys/managedkey"
)

// Engine makes what serves the paths of a mount, such as a PKI. It is called when the mount is first used, with the context of
// that request, which the handler must not keep.
type Engine func(ctx context.Context, m *managedkey.Mount) (Handler, error)

// Handler serves the paths of a mount. Requests have been authorized. Their URL.Path is the path within the mount, with a slash in
// front; their Method is GET, HEAD, POST, PATCH, DELETE or LIST; their context has the [Identity] and says on whose behalf they are. Answers
// are best made with [WriteData] and [WriteError], and bodies read with [ReadFields].
//
// Close is called when the mount is gone or the API closed, after the last request.
type Handler interface {
	http.Handler
	Close() error
}

// Exister is a Handler that knows whether what a POST is about is there: then it takes the capability update, and else create.
// Without it, POST takes update. Exists must not read the body. It is called before the caller is known to be allowed anything, and
// should be as cheap as a look-up.
type Exister interface {
	Exists(r *http.Request) (bool, error)
}

// Publisher is a Handler with paths that everybody may use, without credentials, such as the certificate of a CA. path is within the
// mount, without a slash in front.
type Publisher interface {
	Public(method, path string) bool
}

// Guarded is a Handler with paths that take the capability sudo besides, such as those that end a CA. path is as for Publisher.
type Guarded interface {
	Sudo(method, path string) bool
}

// Remover is a Handler that keeps something for its mount elsewhere, such as in a store, which is to go with the mount. Remove is
// called after Close if the mount was removed, by whomever, and the store of the registry says so; in the background, by each API that
// had the handler. ctx ends when the API is closed: what is left then is for the engine to remember.
type Remover interface {
	Remove(ctx context.Context) error
}

// engines are the handlers of mounts.
type engines struct {
	makers map[string]Engine

	mu     sync.Mutex
	all    map[*managedkey.Mount]*running
	closed bool

	life     context.Context // until close
	end      context.CancelFunc
	sweeping sync.WaitGroup // handlers of mounts that are gone
}

// running is the handler of a mount.
type running struct {
	make    sync.Mutex // held while the handler is made
	handler Handler    // nil until it was made; guarded by make
	uses    sync.WaitGroup
}

// use returns the handler of a mount, made if need be, and what to call when it is not used any more. The handler is nil if the
// mount's type has no paths.
func (e *engines) use(ctx context.Context, m *managedkey.Mount) (h Handler, done func(), err error) {
	maker := e.makers[m.Type()]
	if maker == nil {
		return nil, func() {}, nil
	}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, nil, refuse(http.StatusServiceUnavailable, "the server is shutting down")
	}
	one := e.all[m]
	if one == nil {
		one = new(running)
		e.all[m] = one
	}
	one.uses.Add(1)
	e.mu.Unlock()
	made := false
	defer func() {
		if !made { // it may have panicked
			one.uses.Done()
		}
	}()
	one.make.Lock()
	defer one.make.Unlock()
	if one.handler == nil {
		h, err := maker(ctx, m)
		if err == nil && h == nil {
			err = errors.New("httpapi: the engine of type " + m.Type() + " made no handler")
		}
		if err != nil {
			return nil, nil, err
		}
		one.handler = h
	}
	made = true
	return one.handler, one.uses.Done, nil
}

// sweep closes the handlers of mounts that gone reports, and has removed called with those that are a Remover.
func (e *engines) sweep(gone func(*managedkey.Mount) bool, removed func(context.Context, *managedkey.Mount, Remover)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for m, one := range e.all {
		if !gone(m) {
			continue
		}
		delete(e.all, m)
		e.sweeping.Go(func() {
			if r, ok := one.close().(Remover); ok && e.life.Err() == nil {
				removed(e.life, m, r)
			}
		})
	}
}

// close closes all handlers and waits for that.
func (e *engines) close() {
	e.mu.Lock()
	e.closed = true
	all := e.all
	e.all = nil
	e.mu.Unlock()
	e.end()
	defer e.sweeping.Wait()
	for _, one := range all {
		one.close()
	}
}

// close returns the handler that was closed, or nil.
func (one *running) close() Handler {
	one.uses.Wait()
	one.make.Lock()
	defer one.make.Unlock()
	h := one.handler
	if h != nil {
		h.Close()
		one.handler = nil
	}
	return h
}
