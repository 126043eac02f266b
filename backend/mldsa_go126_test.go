//go:build !go1.27

package backend_test

import (
	"crypto/tls"
	"crypto/x509"
)

// crypto/x509 and crypto/tls have no ML-DSA before Go 1.27.
var (
	mldsa44X509 []x509.SignatureAlgorithm
	mldsa44TLS  []tls.SignatureScheme
)
