package transit_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"

	"github.com/veraison/go-cose"

	"github.com/managedkeys/managedkeys/transit"
)

// coseAlgorithms are those of RFC 9053 and RFC 8230 for the keys of the tests.
var coseAlgorithms = map[string]cose.Algorithm{
	"rsa": cose.AlgorithmPS256, "p256": cose.AlgorithmES256, "p384": cose.AlgorithmES384, "p521": cose.AlgorithmES512, "ed25519": cose.AlgorithmEdDSA,
}

// signCOSE returns a COSE_Sign1 message (RFC 9052, Section 4.2).
func signCOSE(s *transit.Signer, algorithm cose.Algorithm, payload, external []byte) ([]byte, error) {
	signer, err := cose.NewSigner(algorithm, s)
	if err != nil {
		return nil, err
	}
	headers := cose.Headers{Protected: cose.ProtectedHeader{cose.HeaderLabelAlgorithm: algorithm}}
	return cose.Sign1(rand.Reader, signer, headers, payload, external)
}

// TestCOSE: go-cose verifies what transit keys sign, and so does the standard library over a structure that is built here.
func TestCOSE(t *testing.T) {
	eachSigner(t, func(t *testing.T, name string, s *transit.Signer) {
		algorithm := coseAlgorithms[name]
		data, err := signCOSE(s, algorithm, []byte("payload"), []byte("external"))
		if err != nil {
			t.Fatal(err)
		}
		var message cose.Sign1Message
		if err := message.UnmarshalCBOR(data); err != nil {
			t.Fatal(err)
		}
		verifier, err := cose.NewVerifier(algorithm, s.Public())
		if err != nil {
			t.Fatal(err)
		}
		if err := message.Verify([]byte("external"), verifier); err != nil {
			t.Error(err)
		}
		if message.Verify([]byte("other"), verifier) == nil {
			t.Error("verified with other external data")
		}
		if !verifySigStructure(s.Public(), &message, []byte("external")) {
			t.Error("the standard library doesn't verify the Sig_structure")
		}
	})
}

// verifySigStructure verifies without go-cose (RFC 9052, Section 4.4). Strings here are shorter than 24 bytes.
func verifySigStructure(public crypto.PublicKey, m *cose.Sign1Message, external []byte) bool {
	protected, err := m.Headers.Protected.MarshalCBOR()
	if err != nil {
		return false
	}
	bstr := func(b []byte) []byte { return append([]byte{0x40 | byte(len(b))}, b...) }
	signed := bytes.Join([][]byte{{0x84, 0x6a}, []byte("Signature1"), protected, bstr(external), bstr(m.Payload)}, nil)
	switch pub := public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(pub, signed, m.Signature)
	case *rsa.PublicKey:
		sum := sha256.Sum256(signed)
		return rsa.VerifyPSS(pub, crypto.SHA256, sum[:], m.Signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	case *ecdsa.PublicKey:
		hash := map[int]crypto.Hash{256: crypto.SHA256, 384: crypto.SHA384, 521: crypto.SHA512}[pub.Curve.Params().BitSize]
		h := hash.New()
		h.Write(signed)
		n := len(m.Signature) / 2
		return ecdsa.Verify(pub, h.Sum(nil), new(big.Int).SetBytes(m.Signature[:n]), new(big.Int).SetBytes(m.Signature[n:]))
	}
	return false
}

// certificateOf returns a transit key as package tls takes it.
func certificateOf(s *transit.Signer, chain ...*x509.Certificate) tls.Certificate {
	out := tls.Certificate{PrivateKey: s, Leaf: chain[0], SupportedSignatureAlgorithms: s.Capabilities().TLS(s.Public())}
	for _, c := range chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out
}

// TestTLS: the standard library's client trusts a server whose key is one of transit, in TLS 1.2 and 1.3.
func TestTLS(t *testing.T) {
	eachSigner(t, func(t *testing.T, name string, s *transit.Signer) {
		certificate, err := selfSigned(s, x509.ExtKeyUsageServerAuth)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(certificate)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			near, far := net.Pipe()
			server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{certificateOf(s, certificate)}})
			done := make(chan error, 1)
			go func() {
				_, err := server.Write([]byte("hello"))
				done <- err
				far.Close()
			}()
			client := tls.Client(near, &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: version, MaxVersion: version})
			got := make([]byte, 5)
			if _, err := io.ReadFull(client, got); err != nil || string(got) != "hello" {
				t.Errorf("%s: read %q, %v; the server: %v", tls.VersionName(version), got, err, <-done)
			}
			near.Close()
		}
	})
}
