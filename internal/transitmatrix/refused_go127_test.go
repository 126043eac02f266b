//go:build go1.27

package transitmatrix

// refusedByGo is what this version of Go lacks.
var refusedByGo []refusal
