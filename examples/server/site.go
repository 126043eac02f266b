package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
)

// site is a server that is ready to serve. It is made by dev or by configured.
type site struct {
	endpoints []*endpoint
	ready     func()                // is called once the endpoints serve
	hangups   <-chan os.Signal      // each is a wish that reload is called; nil for none
	reload    func(context.Context) // tells of errors by itself

	closers []func() error
}

// endpoint is a listener and what serves it.
type endpoint struct {
	listener net.Listener
	server   *http.Server
}

// later has something closed at the end, before all that was opened before.
func (s *site) later(end func() error) { s.closers = append(s.closers, end) }

// close ends everything in the order in which it depends on each other.
func (s *site) close() error {
	var all []error
	for _, end := range slices.Backward(s.closers) {
		all = append(all, end())
	}
	s.closers = nil
	return errors.Join(all...)
}

// closeListener closes a listener that a server may have closed already.
func closeListener(l net.Listener) { _ = l.Close() }

func (e *endpoint) serve() error {
	if e.server.TLSConfig != nil {
		return e.server.ServeTLS(e.listener, "", "")
	}
	return e.server.Serve(e.listener)
}

// serve serves until ctx ends or a listener fails, and then until the requests that are under way are done.
func (s *site) serve(ctx context.Context, out io.Writer) (err error) {
	served := make(chan error, len(s.endpoints))
	for _, e := range s.endpoints {
		go func() { served <- e.serve() }()
	}
	s.ready()
	left := len(s.endpoints)
	for waiting := true; waiting; {
		select {
		case err = <-served:
			left--
			waiting = false
		case <-s.hangups:
			s.reload(ctx)
		case <-ctx.Done():
			waiting = false
		}
	}
	fmt.Fprintln(out, "Finishing the requests that are under way …")
	// The context of the program has ended; what is under way has time of its own.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	down := make(chan error, len(s.endpoints))
	for _, e := range s.endpoints {
		go func() {
			err := e.server.Shutdown(ending)
			if err != nil {
				err = errors.Join(err, e.server.Close())
			}
			down <- err
		}()
	}
	for range s.endpoints {
		err = errors.Join(err, <-down)
	}
	for range left {
		if late := <-served; !errors.Is(late, http.ErrServerClosed) {
			err = errors.Join(err, late)
		}
	}
	return err
}
