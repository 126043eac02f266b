//go:build !cgo || windows

package faultp11

import (
	"errors"
	"fmt"
)

// errUnusable says why this build can't use the shim.
var errUnusable = errors.New("the PKCS #11 fault shim needs cgo and dlopen, which this program was built without")

type library struct{}

func load(string) (library, error) { return library{}, errUnusable }

// call is never called: there is no Module in this build.
func (library) call(string, []byte, []uint64) uint64 { panic(errUnusable) }

func failure(what string, rv uint64) error {
	if rv == 0 {
		return nil
	}
	return fmt.Errorf("faultp11: %s: %#x", what, rv)
}
