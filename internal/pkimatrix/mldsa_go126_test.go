//go:build !go1.27

package pkimatrix

// mldsaKinds are none: crypto/x509 doesn't know ML-DSA before Go 1.27.
var mldsaKinds []kind
