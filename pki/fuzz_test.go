package pki

import (
	"crypto/x509"
	"errors"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

func seeds(f *testing.F) {
	f.Helper()
	for _, key := range []string{"rsa", "rsa1024", "p224", "p256", "p521", "ed25519"} {
		der := makeCSR(f, testKeys()[key], nil)
		f.Add(der)
		f.Add(EncodeCSR(der))
		f.Add(der[:len(der)/2])
		der[len(der)-1] ^= 1
		f.Add(der)
	}
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"))
	f.Add([]byte{0x30, 0x80, 0, 0})
}

// Whatever the input, ParseCSR returns either an error of this package or a request whose signature is good.
func FuzzParseCSR(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		request, err := ParseCSR(data)
		if err != nil {
			if request != nil || !errors.Is(err, backend.ErrInvalidParams) && !errors.Is(err, backend.ErrUnsupported) {
				t.Errorf("got %v, %v", request, err)
			}
			return
		}
		if err := request.CheckSignature(); err != nil {
			t.Errorf("a request with a bad signature was taken: %v", err)
		}
		if again, err := ParseCSR(EncodeCSR(request.Raw)); err != nil || !equalKeys(again.PublicKey, request.PublicKey) {
			t.Errorf("its PEM form is refused or another request: %v", err)
		}
	})
}

// Whatever the request, either nothing is signed or one good leaf comes out.
func FuzzSignCSR(f *testing.F) {
	seeds(f)
	h := newHouse(f, nil)
	ca := mustRoot(f, h, "p256-b", rootTemplate())
	h.signed()
	f.Fuzz(func(t *testing.T, data []byte) {
		issued, err := ca.SignCSR(t.Context(), data, LeafTemplate{Validity: day})
		signatures := h.signed()
		if err != nil {
			if issued != nil || signatures != 0 {
				t.Errorf("refused with %v after %d signatures", err, signatures)
			}
			return
		}
		c := issued.Certificate
		if signatures != 1 || c.IsCA || c.KeyUsage&x509.KeyUsageCertSign != 0 || c.CheckSignatureFrom(ca.Certificate()) != nil {
			t.Errorf("after %d signatures, got %+v", signatures, c)
		}
		request, err := ParseCSR(data)
		if err != nil || !equalKeys(request.PublicKey, c.PublicKey) {
			t.Errorf("the certificate is not for the request's key: %v", err)
		}
	})
}
