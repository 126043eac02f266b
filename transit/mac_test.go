package transit

import (
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

func TestHMAC(t *testing.T) {
	h := newHouse(t, "hmac")
	sizes := map[string]int{"": 44, "sha1": 28, "sha2-224": 40, "sha2-256": 44, "sha2-384": 64, "sha2-512": 88, "sha3-224": 40, "sha3-256": 44, "sha3-384": 64, "sha3-512": 88}
	for hash, size := range sizes {
		t.Run(hash, func(t *testing.T) {
			request := MACRequest{Input: []byte("input"), HashAlgorithm: hash}
			mac, err := h.engine.HMAC(t.Context(), "hmac", request)
			if err != nil {
				t.Fatal(err)
			}
			if encoded, ok := strings.CutPrefix(mac, "vault:v1:"); !ok || len(encoded) != size {
				t.Errorf("got %s", mac)
			}
			if ok, err := h.engine.VerifyHMAC(t.Context(), "hmac", mac, request); !ok || err != nil {
				t.Errorf("got %t, %v", ok, err)
			}
			request.Input = []byte("other")
			if ok, err := h.engine.VerifyHMAC(t.Context(), "hmac", mac, request); ok || err != nil {
				t.Errorf("another input: got %t, %v", ok, err)
			}
			if ok, err := h.engine.VerifyHMAC(t.Context(), "hmac", "vault:v1:AAAA", request); ok || err != nil {
				t.Errorf("a short MAC: got %t, %v", ok, err)
			}
		})
	}
}

func TestHMACRefused(t *testing.T) {
	h := newHouse(t, "hmac", "aes", "p256")
	for name, c := range map[string]struct {
		key      string
		request  MACRequest
		sentinel error
		text     string
	}{
		"hash":  {"hmac", MACRequest{HashAlgorithm: "md5"}, backend.ErrInvalidParams, `invalid hash algorithm "md5"`},
		"none":  {"hmac", MACRequest{HashAlgorithm: "none"}, backend.ErrInvalidParams, `invalid hash algorithm "none"`},
		"aes":   {"aes", MACRequest{}, backend.ErrUnsupported, "HMAC not supported for key type aes256-gcm96"},
		"ecdsa": {"p256", MACRequest{}, backend.ErrUnsupported, "HMAC not supported for key type ecdsa-p256"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.engine.HMAC(t.Context(), c.key, c.request)
			wantError(t, err, c.sentinel, c.text)
			_, err = h.engine.VerifyHMAC(t.Context(), c.key, "vault:v1:AAAA", c.request)
			wantError(t, err, c.sentinel, c.text)
		})
	}
	for mac, text := range map[string]string{"AAAA": "invalid HMAC: no prefix", "vault:v1:A": "invalid HMAC: could not decode base64"} {
		_, err := h.engine.VerifyHMAC(t.Context(), "hmac", mac, MACRequest{})
		wantError(t, err, backend.ErrInvalidParams, text)
	}
}

// A key tied to one hash uses it unless told otherwise, and says what it takes.
func TestHMACFollowsCapabilities(t *testing.T) {
	caps := backend.Capabilities{Algorithm: "HMAC", MACs: []backend.MACAlgorithm{backend.AESCMAC, backend.HMACSHA512}}
	v := &version{kind: "hmac"}
	if alg, err := new(MACRequest).algorithm(v, caps); err != nil || alg != backend.HMACSHA512 {
		t.Errorf("got %s, %v", alg, err)
	}
	_, err := (&MACRequest{HashAlgorithm: "sha2-256"}).algorithm(v, caps)
	wantError(t, err, backend.ErrUnsupported, "the key takes AES-CMAC, HMAC-SHA512")
	caps.MACs = []backend.MACAlgorithm{backend.AESCMAC}
	_, err = new(MACRequest).algorithm(v, caps)
	wantError(t, err, backend.ErrUnsupported, "HMAC not supported")
}
