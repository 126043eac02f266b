package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
)

// EncodePEM returns certificates as PEM blocks (RFC 7468, Section 5), in the given order.
func EncodePEM(certs ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, cert := range certs {
		out.Write(encode("CERTIFICATE", cert.Raw))
	}
	return out.Bytes()
}

// EncodeCSR returns a certificate signing request in DER as a PEM block (RFC 7468, Section 7).
func EncodeCSR(der []byte) []byte { return encode("CERTIFICATE REQUEST", der) }

// EncodeCRL returns a certificate revocation list in DER as a PEM block (RFC 7468, Section 6).
func EncodeCRL(der []byte) []byte { return encode("X509 CRL", der) }

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
