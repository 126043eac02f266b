package transit_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"os"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/smallstep/pkcs7"

	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/transit"
)

// signCMS returns a detached signature of content (RFC 5652, Section 5) in DER.
func signCMS(s *transit.Signer, certificate *x509.Certificate, content []byte) ([]byte, error) {
	message, err := pkcs7.NewSignedData(content)
	if err != nil {
		return nil, err
	}
	message.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := message.AddSigner(certificate, s, pkcs7.SignerInfoConfig{}); err != nil {
		return nil, err
	}
	message.Detach()
	return message.Finish()
}

// answerTimestamp answers a time-stamp query (RFC 3161, Section 2.4).
func answerTimestamp(s *transit.Signer, certificate *x509.Certificate, query []byte, now time.Time) ([]byte, error) {
	request, err := timestamp.ParseRequest(query)
	if err != nil {
		return nil, err
	}
	stamp := timestamp.Timestamp{
		HashAlgorithm: request.HashAlgorithm, HashedMessage: request.HashedMessage, Nonce: request.Nonce, Time: now,
		Policy: asn1.ObjectIdentifier{1, 2, 3, 4, 1}, Accuracy: time.Second, AddTSACertificate: request.Certificates,
	}
	return stamp.CreateResponseWithOpts(certificate, s, crypto.SHA256)
}

// TestCMS: OpenSSL verifies detached signatures, and not those of another file.
func TestCMS(t *testing.T) {
	openssl := requires.Tool(t, "openssl", "openssl")
	eachSigner(t, func(t *testing.T, name string, s *transit.Signer) {
		certificate, err := selfSigned(s, x509.ExtKeyUsageCodeSigning)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := signCMS(s, certificate, []byte("release 1.0"))
		if name == "ed25519" { // the library signs digests only
			if err == nil {
				t.Error("pkcs7 signs with Ed25519 now: test that")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		w := workplace{t, t.TempDir()}
		w.file("signature", signature)
		w.file("right", []byte("release 1.0"))
		w.file("wrong", []byte("release 1.1"))
		w.certificate(certificate)
		for content, want := range map[string]bool{"right": true, "wrong": false} {
			out, ok := w.run("", openssl, "cms", "-verify", "-binary", "-inform", "DER", "-in", "signature", "-content", content, "-CAfile", "cert.pem", "-purpose", "any", "-out", "out")
			if ok != want {
				t.Errorf("%s: OpenSSL says %t: %s", content, ok, out)
			}
		}
	})
}

// TestTimestamp: OpenSSL asks for a time stamp, and verifies the answer.
func TestTimestamp(t *testing.T) {
	openssl := requires.Tool(t, "openssl", "openssl")
	eachSigner(t, func(t *testing.T, name string, s *transit.Signer) {
		if name == "ed25519" {
			return // the library signs digests only
		}
		certificate, err := selfSigned(s, x509.ExtKeyUsageTimeStamping)
		if err != nil {
			t.Fatal(err)
		}
		w := workplace{t, t.TempDir()}
		w.certificate(certificate)
		w.file("right", []byte("release 1.0"))
		w.file("wrong", []byte("release 1.1"))
		if out, ok := w.run("", openssl, "ts", "-query", "-data", "right", "-sha256", "-cert", "-out", "query"); !ok {
			t.Fatal(out)
		}
		query, err := os.ReadFile(w.dir + "/query")
		if err != nil {
			t.Fatal(err)
		}
		answer, err := answerTimestamp(s, certificate, query, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		w.file("answer", answer)
		if out, ok := w.run("", openssl, "ts", "-verify", "-in", "answer", "-queryfile", "query", "-CAfile", "cert.pem"); !ok {
			t.Errorf("OpenSSL says: %s", out)
		}
		for data, want := range map[string]bool{"right": true, "wrong": false} {
			if out, ok := w.run("", openssl, "ts", "-verify", "-in", "answer", "-data", data, "-CAfile", "cert.pem"); ok != want {
				t.Errorf("%s: OpenSSL says %t: %s", data, ok, out)
			}
		}
		if stamp, err := timestamp.ParseResponse(answer); err != nil || !bytes.Equal(stamp.Certificates[0].Raw, certificate.Raw) {
			t.Errorf("the answer can't be parsed: %v", err)
		}
	})
}
