//go:build go1.27

package pkimatrix

import "crypto/x509"

// mldsaKinds are those of RFC 9881.
var mldsaKinds = []kind{
	{name: "ML-DSA-44", set: 44, algorithms: []x509.SignatureAlgorithm{x509.MLDSA44}},
	{name: "ML-DSA-65", set: 65, algorithms: []x509.SignatureAlgorithm{x509.MLDSA65}},
	{name: "ML-DSA-87", set: 87, algorithms: []x509.SignatureAlgorithm{x509.MLDSA87}},
}
