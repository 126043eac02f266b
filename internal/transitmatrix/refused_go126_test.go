//go:build !go1.27

package transitmatrix

// refusedByGo is what this version of Go lacks: ML-DSA in crypto/x509.
var refusedByGo = []refusal{{"*/ML-DSA/*", "csr", "does not support signing requests for certificates"}}
