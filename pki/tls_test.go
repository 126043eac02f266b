package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// oneAlgorithm is an RSA key that signs with RSASSA-PSS and SHA-512 only, as keys of cloud services do.
type oneAlgorithm struct{ crypto.Signer }

func (oneAlgorithm) Capabilities() backend.Capabilities {
	return backend.Capabilities{Signatures: []backend.SignatureAlgorithm{{Scheme: backend.RSAPSS, Hash: crypto.SHA512}}}
}

// TestTLSAsksForWhatTheKeyCan checks that a key with one algorithm is not asked for another in a handshake.
func TestTLSAsksForWhatTheKeyCan(t *testing.T) {
	h := newHouse(t, &Options{Now: time.Now})
	root := mustRoot(t, h, "p256", rootTemplate())
	issued, err := root.Sign(t.Context(), testKeys()["rsa"].Public(), leafTemplate())
	if err != nil {
		t.Fatal(err)
	}
	certificate := issued.TLS(oneAlgorithm{testKeys()["rsa"]})
	if want := []tls.SignatureScheme{tls.PSSWithSHA512}; !slices.Equal(certificate.SupportedSignatureAlgorithms, want) {
		t.Errorf("SupportedSignatureAlgorithms are %v; want %v", certificate.SupportedSignatureAlgorithms, want)
	}
	if plain := issued.TLS(testKeys()["rsa"]); plain.SupportedSignatureAlgorithms != nil {
		t.Errorf("a key that doesn't say what it can do is limited to %v", plain.SupportedSignatureAlgorithms)
	}

	roots := x509.NewCertPool()
	roots.AddCert(root.Certificate())
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		a, b := net.Pipe()
		server := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: version})
		client := tls.Client(b, &tls.Config{RootCAs: roots, ServerName: "a.example"})
		served := make(chan error, 1)
		go func() { served <- server.HandshakeContext(t.Context()) }()
		err := client.HandshakeContext(t.Context())
		if err = errors.Join(err, <-served); err != nil {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		} else if got := client.ConnectionState().Version; got != version {
			t.Errorf("got %s, want %s", tls.VersionName(got), tls.VersionName(version))
		}
		a.Close()
		b.Close()
	}
}
