//go:build cgo

package cryptoki

// #include "cryptoki.h"
import "C"

import "unsafe"

// first returns a pointer to the first byte of b, or nil.
func first(b []byte) *C.ck_byte { return (*C.ck_byte)(unsafe.SliceData(b)) }

// Run does op with the key in the session, in one call from Go: C_SignInit and C_Sign, or their like. There is no size
// query. It returns how many bytes of op.Out were written. After an error, the session may be left with an operation in
// it. It allocates nothing unless it fails.
func (m *Module) Run(session, key Handle, op *Operation) (int, error) {
	c := C.mk_operation{
		session: C.ck_ulong(session), key: C.ck_ulong(key), mechanism: C.ck_ulong(op.Mechanism),
		hash: C.ck_ulong(op.Hash), mgf: C.ck_ulong(op.MGF), number: C.ck_ulong(op.Number),
		out_length: C.ck_ulong(len(op.Out)), kind: C.int(op.Kind), op: C.int(op.Op),
	}
	if op.Measure {
		c.measure = 1
	}
	var pin *C.char
	if op.PIN != "" {
		pin = (*C.char)(unsafe.Pointer(unsafe.StringData(op.PIN)))
	}
	rv := C.mk_run(m.list, &c, first(op.A), C.ck_ulong(len(op.A)), first(op.B), C.ck_ulong(len(op.B)),
		pin, C.ck_ulong(len(op.PIN)), first(op.In), C.ck_ulong(len(op.In)), first(op.Out))
	op.Stage, op.CPU, op.Wall = Stage(c.stage), uint(c.cpu), uint(c.wall)
	if rv != 0 {
		return 0, &Error{functions[op.Op][c.stage], uint64(rv)}
	}
	// A module that claims more than there was room for has written past the end, or lies.
	return min(int(c.out_length), len(op.Out)), nil
}
