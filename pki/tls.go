package pki

import (
	"crypto"
	"crypto/tls"

	"github.com/managedkeys/managedkeys/backend"
)

// TLS returns the certificate with its chain, less a self-signed root as in [Issued.PEM], and the private key that
// belongs to it, for tls.Config.Certificates. key is a crypto.Signer for the certificate's public key. If it says what
// it can do, as managed keys do, TLS is told to ask for nothing else. The key is not called.
func (i *Issued) TLS(key crypto.Signer) tls.Certificate {
	out := tls.Certificate{PrivateKey: key, Leaf: i.Certificate}
	for _, cert := range i.presented() {
		out.Certificate = append(out.Certificate, cert.Raw)
	}
	if k, ok := key.(interface{ Capabilities() backend.Capabilities }); ok {
		out.SupportedSignatureAlgorithms = k.Capabilities().TLS(key.Public())
	}
	return out
}
