package csrfault

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
)

// TestOf: whatever x509 can't parse has a fault that is named, in a line without the words of package asn1. Package pki tests which one.
func TestOf(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a"}, DNSNames: []string{"a.example"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	refused, vague := 0, 0
	check := func(wrong []byte) {
		_, err := x509.ParseCertificateRequest(wrong)
		if err == nil {
			return
		}
		refused++
		switch text := Of(wrong, err); {
		case text == "a part of it is malformed":
			vague++
		case text == "" || len(text) > 200 || strings.Contains(text, "asn1") || strings.ContainsAny(text, "\n\r{}"):
			t.Errorf("%x: %q", wrong, text)
		}
	}
	for i := range der {
		check(der[:i])
		for _, b := range []byte{0, 0x05, 0x30, 0x80, 0xff, der[i] ^ 1} {
			wrong := bytes.Clone(der)
			wrong[i] = b
			check(wrong)
		}
	}
	if refused < len(der) || vague > refused/20 {
		t.Errorf("of %d faults %d are not named", refused, vague)
	}
}
