//go:build go1.27

package backend_test

import (
	"crypto/tls"
	"crypto/x509"
)

var (
	mldsa44X509 = []x509.SignatureAlgorithm{x509.MLDSA44}
	mldsa44TLS  = []tls.SignatureScheme{tls.MLDSA44}
)
