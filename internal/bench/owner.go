package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/managedkeys/managedkeys/internal/etcdtest"
	"github.com/managedkeys/managedkeys/internal/postgrestest"
)

// errMissing is wrapped by errors that say that a server is not installed.
var errMissing = errors.New("not installed")

// owner stands for the test that servers are made for.
type owner struct{ cleanups []func() }

// givenUp is what an owner panics with; see lend.
type givenUp struct{ err error }

func (*owner) Helper() {}

func (o *owner) Cleanup(fn func()) { o.cleanups = append(o.cleanups, fn) }

func (*owner) Fatalf(format string, args ...any) { panic(givenUp{fmt.Errorf(format, args...)}) }

func (*owner) Skipf(format string, args ...any) {
	panic(givenUp{fmt.Errorf("%w: %s", errMissing, fmt.Sprintf(format, args...))})
}

// close undoes what was made for the owner.
func (o *owner) close() {
	for _, fn := range slices.Backward(o.cleanups) {
		fn()
	}
	o.cleanups = nil
}

// lend calls fn, and returns the error with which a server could not be made.
func lend(fn func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			failed, ok := r.(givenUp)
			if !ok {
				panic(r)
			}
			err = failed.err
		}
	}()
	fn()
	return nil
}

// servers are those that several tables use.
type servers struct {
	owner
	postgres *postgrestest.Server
	etcd     *etcdtest.Cluster
}

func (s *servers) close() {
	if s != nil {
		s.owner.close()
	}
}

// started returns the servers, started when they are first asked for.
func (w *workplace) started() (*servers, error) {
	if w.servers != nil {
		return w.servers, nil
	}
	s := new(servers)
	err := lend(func() {
		s.postgres = postgrestest.Require(s)
		s.etcd = etcdtest.Require(s, 1)
	})
	if err != nil {
		s.close()
		return nil, err
	}
	w.servers = s
	return s, nil
}
