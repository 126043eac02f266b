package transit

import (
	"bytes"
	"crypto"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// wycheproof are test vectors of Project Wycheproof; see the README beside them.
//
//go:embed testdata/wycheproof/*.json
var wycheproof embed.FS

// wycheGroup are vectors that have something in common. Fields that a suite doesn't have are zero.
type wycheGroup struct {
	Public, Private []byte
	Sha             string
	MGFSha          string `json:"mgf_sha"`
	Salt            int
	KeyBits         int `json:"key_bits"`
	IVBits          int `json:"iv_bits"`
	TagBits         int `json:"tag_bits"`
	Tests           []wycheVector
}

type wycheVector struct {
	ID                         int
	Result, Comment            string
	Flags                      []string
	Key, IV, AAD, Msg, CT, Tag []byte
	Label, Sig, Context        []byte
	Private, Public, Shared    []byte
}

// deviation says which vectors have another result here, and why.
type deviation struct {
	suites string // a pattern
	of     func(suite string, g *wycheGroup, v *wycheVector) bool
	taken  bool // though invalid; otherwise refused, though valid or acceptable
	why    string
}

func flagged(flag string) func(suite string, g *wycheGroup, v *wycheVector) bool {
	return func(_ string, _ *wycheGroup, v *wycheVector) bool { return slices.Contains(v.Flags, flag) }
}

var deviations = []deviation{
	{"aes_gcm", func(_ string, g *wycheGroup, _ *wycheVector) bool { return g.KeyBits == 192 }, false, "there is no key type with 192 bits"},
	{"aes_gcm", func(_ string, g *wycheGroup, _ *wycheVector) bool { return g.IVBits != 96 }, false, "a ciphertext begins with a nonce of 12 bytes"},
	{"hmac_*", func(_ string, _ *wycheGroup, v *wycheVector) bool { return len(v.Key) < minHMACKey }, false, "a key of HMACs has 32 bytes at least"},
	{"hmac_*", func(suite string, g *wycheGroup, _ *wycheVector) bool {
		return g.TagBits < 8*hashes[wycheHMACs[suite]].Size()
	}, false, "HMACs are not truncated"},
	{"rsa_oaep_*", flagged("EncryptionWithLabel"), false, "RSAES-OAEP has no label"},
	{"rsa_pss_misc", func(_ string, g *wycheGroup, _ *wycheVector) bool { return g.MGFSha != g.Sha }, false, "MGF1 has the hash of the message"},
	{"rsa_pss_2048_sha256_mgf1_0", func(_ string, _ *wycheGroup, v *wycheVector) bool {
		return strings.HasPrefix(v.Comment, "s_len changed")
	}, true, "a salt length of 0 means any, as it does for Vault"},
	{"rsa_signature_*", flagged("MissingNull"), false, "RFC 8017, Appendix A.2.4, Note 2 lets verifiers refuse parameters that are absent"},
	{"ecdh_*", flagged("CompressedPoint"), false, "crypto/x509 takes uncompressed points"},
	{"ecdh_*", flagged("UnnamedCurve"), false, "RFC 5480, Section 2.1.1 takes named curves only"},
	{"ecdh_*", flagged("InvalidPem"), false, "it is not DER"},
	{"ecdh_*", func(_ string, _ *wycheGroup, v *wycheVector) bool { return bytes.Equal(v.Shared, make([]byte, 32)) }, false, "no honest peer agrees on zeros"},
}

// takes returns whether a vector is to be taken, and notes in used which deviation says so.
func (v *wycheVector) takes(suite string, g *wycheGroup, used map[string]bool) bool {
	valid := v.Result != "invalid"
	for _, d := range deviations {
		if ok, _ := path.Match(d.suites, suite); ok && d.taken != valid && d.of(suite, g, v) {
			used[d.why] = true
			return d.taken
		}
	}
	return valid
}

// wycheCheck reports whether a vector is taken, and if not, the error that said so, if there was one.
type wycheCheck func(t *testing.T, h *house, suite string, g *wycheGroup, v *wycheVector) (bool, error)

// TestWycheproof: what the vectors call valid is taken, and the rest is not, with an error of the kinds that are documented.
func TestWycheproof(t *testing.T) {
	checks := map[string]wycheCheck{
		"aes_gcm": wycheAEAD, "chacha20_poly1305": wycheAEAD, "xchacha20_poly1305": wycheAEAD,
		"aes_cmac": wycheCMAC, "hmac_*": wycheHMAC, "rsa_oaep_*": wycheRSA, "rsa_pkcs1_*": wycheRSA,
		"rsa_pss_*": wycheSignature, "rsa_signature_*": wycheSignature, "ecdsa_*": wycheSignature, "ed25519": wycheSignature, "mldsa_*": wycheSignature,
		"ecdh_*": wycheECDH,
	}
	files, err := wycheproof.ReadDir("testdata/wycheproof")
	if err != nil || len(files) < 37 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	h, used, done := newSoftHouse(t), map[string]bool{}, map[string]bool{}
	h.engine.opts.AllowPKCS1v15 = true
	ran := 0
	for _, file := range files {
		suite := strings.TrimSuffix(file.Name(), ".json")
		t.Run(suite, func(t *testing.T) {
			ran++
			data, err := wycheproof.ReadFile("testdata/wycheproof/" + file.Name())
			fatal(t, err)
			var groups []wycheGroup
			fatal(t, json.Unmarshal(data, &groups))
			for pattern, check := range checks {
				if ok, _ := path.Match(pattern, suite); ok {
					done[pattern] = true
					h.wycheproof(t, suite, groups, check, used)
					return
				}
			}
			t.Fatal("nothing checks it")
		})
	}
	if ran < len(files) {
		return // -run has chosen some
	}
	for _, d := range deviations {
		if !used[d.why] {
			t.Errorf("%s: no vector shows that %s", d.suites, d.why)
		}
	}
	if len(done) != len(checks) {
		t.Errorf("there are vectors of %v only", done)
	}
}

func (h *house) wycheproof(t *testing.T, suite string, groups []wycheGroup, check wycheCheck, used map[string]bool) {
	results := map[string]int{}
	for _, g := range groups {
		for _, v := range g.Tests {
			got, err := check(t, h, suite, &g, &v)
			want := v.takes(suite, &g, used)
			if v.Shared != nil && bytes.Equal(v.Shared, make([]byte, 32)) && errors.Is(err, backend.ErrUnavailable) {
				err = nil // package backend takes it for a key manager that has lost the key
			}
			if got != want {
				t.Errorf("%d (%s, %s, %v): taken: %t, %v; want %t", v.ID, v.Result, v.Comment, v.Flags, got, err, want)
			}
			if err != nil && !errors.Is(err, backend.ErrInvalidParams) && !errors.Is(err, backend.ErrDecryption) && !errors.Is(err, backend.ErrUnsupported) {
				t.Errorf("%d (%s): error %v is of no kind that is documented", v.ID, v.Comment, err)
			}
			results[v.Result]++
		}
	}
	if results["valid"] == 0 || results["invalid"] == 0 && !strings.Contains(suite, "_misc") {
		t.Errorf("there are only %v", results)
	}
}

// imported returns the name of a key, which is imported when it is first asked for.
func (h *house) imported(t *testing.T, in []byte, public bool, kind string) (string, error) {
	t.Helper()
	name := fmt.Sprintf("%s-%x", kind, digest(crypto.SHA256, in))
	if _, err := h.engine.Key(name); err == nil {
		return name, nil
	}
	request := Import{PublicKey: in}
	if !public {
		if len(in) < 16 {
			return "", fmt.Errorf("RFC 5649 wraps it, but who wraps it here doesn't: %w", backend.ErrInvalidParams)
		}
		request = Import{Ciphertext: wrapped(t, h.engine, crypto.SHA256, in)}
	}
	return name, h.engine.ImportKey(t.Context(), name, request, KeyOptions{Type: kind, Exportable: true}, false)
}
