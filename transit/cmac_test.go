package transit

import (
	"encoding/base64"
	"encoding/hex"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// NIST SP 800-38B, examples of Appendix D (AES-128 also in RFC 4493, Section 4).
func TestCMACVectors(t *testing.T) {
	const message = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
	for key, macs := range map[string]map[int]string{
		"2b7e151628aed2a6abf7158809cf4f3c": {
			0: "bb1d6929e95937287fa37d129b756746", 16: "070a16b46b4d4144f79bdd9dd04a287c",
			40: "dfa66747de9ae63030ca32611497c827", 64: "51f0bebf7e3b9d92fc49741779363cfe"},
		"8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b": {
			0: "d17ddf46adaacde531cac483de7a9367", 16: "9e99a7bf31e710900662f65e617c5184",
			40: "8a1de5be2eb31aad089a82e6ee908b0e", 64: "a1d5df0eed790f794d77589659f39a11"},
		"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4": {
			0: "028962f61b7bf89efc6b551f4667d983", 16: "28a7023f452e8f82bd4bf28d8c37c35c",
			40: "aaf3d8f1de5640c232f5b169b9c911e6", 64: "e1992190549f6ed5696a2c056c315410"},
	} {
		secret, _ := hex.DecodeString(key)
		c, err := newCMAC(secret)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := hex.DecodeString(message)
		for n, want := range macs {
			if got := hex.EncodeToString(c.sum(data[:n])); got != want {
				t.Errorf("AES-%d, %d bytes: got %s; want %s", 8*len(secret), n, got, want)
			}
		}
	}
	if _, err := newCMAC(make([]byte, 15)); err == nil {
		t.Error("a key of 15 bytes is taken")
	}
}

func TestCMACLengths(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	h.create(t, "k", KeyOptions{Type: TypeAES256CMAC})
	full, err := e.CMAC(ctx, "k", CMACRequest{Input: []byte("m")})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{8, 12, 16} {
		mac, err := e.CMAC(ctx, "k", CMACRequest{Input: []byte("m"), Length: n})
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := parse("MAC", mac)
		_, all, _ := parse("MAC", full)
		short, _ := base64.StdEncoding.DecodeString(text)
		long, _ := base64.StdEncoding.DecodeString(all)
		if len(short) != n || string(short) != string(long[:n]) {
			t.Errorf("%d bytes: got %x of %x", n, short, long)
		}
		for input, want := range map[string]bool{"m": true, "n": false} {
			if ok, err := e.VerifyCMAC(ctx, "k", mac, CMACRequest{Input: []byte(input)}); ok != want || err != nil {
				t.Errorf("%d bytes, %s: %t, %v", n, input, ok, err)
			}
		}
	}
	for _, n := range []int{-1, 1, 7, 17} {
		_, err := e.CMAC(ctx, "k", CMACRequest{Length: n})
		wantError(t, err, backend.ErrInvalidParams, "it takes 8 to 16")
	}
	// A MAC that is too short would be guessed.
	for _, mac := range []string{"vault:v1:AA==", "vault:v1:AAAAAAAAAA==", "vault:v1:AAAAAAAAAAAAAAAAAAAAAAAAAAAA"} {
		_, err := e.VerifyCMAC(ctx, "k", mac, CMACRequest{})
		wantError(t, err, backend.ErrInvalidParams, "invalid CMAC")
	}
	_, err = e.VerifyCMAC(ctx, "k", "vault:v2:AAAA", CMACRequest{})
	wantError(t, err, backend.ErrInvalidParams, "invalid CMAC: version is too new")
}
