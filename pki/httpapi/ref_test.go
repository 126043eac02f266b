package httpapi_test

import (
	"crypto/x509"

	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/pki"
)

func ref(name string) namespace.Ref { return namespace.Ref{Name: name} }

func leafSerial(cert *x509.Certificate) string { return pki.FormatSerial(cert.SerialNumber) }
