//go:build cgo && !windows

package faultp11

/*
#cgo LDFLAGS: -ldl
#cgo noescape faultp11_call
#cgo nocallback faultp11_call
#include <dlfcn.h>
#include <stdlib.h>

typedef unsigned long (*faultp11_control)(const unsigned long *numbers, void *data, unsigned long length);

static unsigned long faultp11_call(void *control, const unsigned long *numbers, void *data, unsigned long length)
{
	return ((faultp11_control)control)(numbers, data, length);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// errUnusable is why this build can't use the shim, or nil.
var errUnusable = func() error {
	if C.sizeof_ulong != 8 {
		return errors.New("the PKCS #11 fault shim takes CK_ULONG for 64 bits")
	}
	return nil
}()

// library is the handle of a loaded module.
type library struct{ handle unsafe.Pointer }

// load maps the module in path into the process, or returns the handle of the one that is. It is never unmapped: calls
// may still hang in it.
func load(path string) (library, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	handle := C.dlopen(name, C.RTLD_NOW|C.RTLD_LOCAL)
	if handle == nil {
		return library{}, errors.New(C.GoString(C.dlerror()))
	}
	return library{handle}, nil
}

func (l library) call(control string, data []byte, numbers []uint64) uint64 {
	name := C.CString("shim_control_" + control)
	defer C.free(unsafe.Pointer(name))
	symbol := C.dlsym(l.handle, name)
	if symbol == nil {
		panic(fmt.Sprintf("faultp11: the shim has no control function %s", control))
	}
	var args [8]C.ulong
	for i, n := range numbers {
		args[i] = C.ulong(n)
	}
	return uint64(C.faultp11_call(symbol, &args[0], unsafe.Pointer(unsafe.SliceData(data)), C.ulong(len(data))))
}

// failure turns a CK_RV into an error, which wraps a pkcs11.Error of github.com/miekg/pkcs11.
func failure(what string, rv uint64) error {
	if rv == pkcs11.CKR_OK {
		return nil
	}
	return fmt.Errorf("faultp11: %s: %w", what, pkcs11.Error(rv))
}
