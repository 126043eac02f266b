//go:build !cgo

package main

// hasCgo is false where neither the contenders on a PKCS#11 token nor backend/pkcs11 can be built.
const hasCgo = false
