package transit

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

func wycheAEAD(t *testing.T, h *house, suite string, _ *wycheGroup, v *wycheVector) (bool, error) {
	kind := map[string]string{"chacha20_poly1305": TypeChaCha20Poly1305, "xchacha20_poly1305": TypeXChaCha20Poly1305}[suite]
	if kind == "" {
		kind = fmt.Sprintf("aes%d-gcm96", 8*len(v.Key))
	}
	name, err := h.imported(t, v.Key, false, kind)
	if err != nil {
		return false, err
	}
	got, err := h.engine.Decrypt(t.Context(), name, DecryptRequest{Ciphertext: format(1, slices.Concat(v.IV, v.CT, v.Tag), base64.StdEncoding), AssociatedData: v.AAD})
	return err == nil && bytes.Equal(got, v.Msg), err
}

// wycheRSA decrypts with RSAES-OAEP or RSAES-PKCS1-v1_5. What isn't valid for the latter has another plaintext than the one that a
// decrypter who looks away would return, and always the same.
func wycheRSA(t *testing.T, h *house, suite string, g *wycheGroup, v *wycheVector) (bool, error) {
	name, err := h.imported(t, g.Private, false, fmt.Sprintf("rsa-%d", g.KeyBits))
	if err != nil {
		return false, err
	}
	r := DecryptRequest{Ciphertext: format(1, v.CT, base64.StdEncoding)}
	if strings.HasPrefix(suite, "rsa_pkcs1") {
		r.PaddingScheme = PaddingPKCS1v15
	}
	got, err := h.engine.Decrypt(t.Context(), name, r)
	if r.PaddingScheme != "" && err == nil {
		if again, err := h.engine.Decrypt(t.Context(), name, r); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%d (%s): got %x, and then %x, %v", v.ID, v.Comment, got, again, err)
		}
	}
	return err == nil && bytes.Equal(got, v.Msg), err
}

// wycheHashes are the hashes in the words of the vectors.
var wycheHashes = map[string]string{
	"SHA-1": "sha1", "SHA-224": "sha2-224", "SHA-256": "sha2-256", "SHA-384": "sha2-384", "SHA-512": "sha2-512",
	"SHA3-224": "sha3-224", "SHA3-256": "sha3-256", "SHA3-384": "sha3-384", "SHA3-512": "sha3-512",
}

func wycheSignature(t *testing.T, h *house, suite string, g *wycheGroup, v *wycheVector) (bool, error) {
	r, kind := SignRequest{Input: v.Msg, HashAlgorithm: wycheHashes[g.Sha]}, ""
	switch family, rest, _ := strings.Cut(suite, "_"); family {
	case "rsa":
		kind, r.SignatureAlgorithm = fmt.Sprintf("rsa-%d", g.KeyBits), "pkcs1v15"
		if strings.HasPrefix(rest, "pss") {
			r.SignatureAlgorithm = "pss"
			if g.Salt > 0 { // 0 means any length, as it does for Vault
				r.SaltLength = strconv.Itoa(g.Salt)
			}
		}
		if r.HashAlgorithm == "" {
			r.HashAlgorithm = g.Sha // which is refused, by its name
		}
	case "ecdsa":
		kind = map[string]string{"secp256r1": TypeP256, "secp384r1": TypeP384, "secp521r1": TypeP521}[rest[:9]]
		if strings.HasSuffix(suite, "p1363") {
			r.Marshaling = MarshalingJWS
		}
	case "ed25519":
		kind = TypeEd25519
	case "mldsa":
		kind, r.SignatureContext = "ml-dsa-"+rest[:2], string(v.Context)
	}
	name, err := h.imported(t, g.Public, true, kind)
	if err != nil {
		return false, err
	}
	encoding := base64.StdEncoding
	if r.Marshaling == MarshalingJWS {
		encoding = base64.RawURLEncoding
	}
	ok, err := h.engine.Verify(t.Context(), name, format(1, v.Sig, encoding), r)
	malformed := flagged("InvalidEncoding")(suite, g, v) || flagged("BerEncodedSignature")(suite, g, v) || flagged("InvalidTypesInSignature")(suite, g, v) || flagged("SignatureSize")(suite, g, v)
	if strings.HasPrefix(suite, "ecdsa") && malformed && !errors.Is(err, backend.ErrInvalidParams) {
		t.Errorf("%d (%s): got %t, %v; want an error that the signature is malformed", v.ID, v.Comment, ok, err)
	}
	return ok, err
}

// wycheHMACs are the hashes of suites.
var wycheHMACs = map[string]string{
	"hmac_sha1": "sha1", "hmac_sha224": "sha2-224", "hmac_sha256": "sha2-256", "hmac_sha384": "sha2-384", "hmac_sha512": "sha2-512",
	"hmac_sha3_224": "sha3-224", "hmac_sha3_256": "sha3-256", "hmac_sha3_384": "sha3-384", "hmac_sha3_512": "sha3-512",
}

// wycheHMAC verifies, and makes what is valid.
func wycheHMAC(t *testing.T, h *house, suite string, _ *wycheGroup, v *wycheVector) (bool, error) {
	algorithm := wycheHMACs[suite]
	name, err := h.imported(t, v.Key, false, TypeHMAC)
	if err != nil {
		return false, err
	}
	r, mac := MACRequest{Input: v.Msg, HashAlgorithm: algorithm}, format(1, v.Tag, base64.StdEncoding)
	ok, err := h.engine.VerifyHMAC(t.Context(), name, mac, r)
	if got, merr := h.engine.HMAC(t.Context(), name, r); merr != nil || (got == mac) != ok {
		t.Errorf("%d (%s): got %s, %v; want %s: %t", v.ID, v.Comment, got, merr, mac, ok)
	}
	return ok, err
}

// wycheCMAC verifies, and makes what is valid.
func wycheCMAC(t *testing.T, h *house, _ string, _ *wycheGroup, v *wycheVector) (bool, error) {
	name, err := h.imported(t, v.Key, false, fmt.Sprintf("aes%d-cmac", 8*len(v.Key)))
	if err != nil {
		return false, err
	}
	r, mac := CMACRequest{Input: v.Msg, Length: len(v.Tag)}, format(1, v.Tag, base64.StdEncoding)
	ok, err := h.engine.VerifyCMAC(t.Context(), name, mac, r)
	if got, merr := h.engine.CMAC(t.Context(), name, r); merr != nil || (got == mac) != ok {
		t.Errorf("%d (%s): got %s, %v; want %s: %t", v.ID, v.Comment, got, merr, mac, ok)
	}
	return ok, err
}

// wycheECDH derives a key as OpenBao does and compares it with what is derived of the secret.
func wycheECDH(t *testing.T, h *house, _ string, _ *wycheGroup, v *wycheVector) (bool, error) {
	name, err := h.imported(t, pemBytes(t, v.Private), false, TypeP256)
	if err != nil {
		return false, err
	}
	derived := fmt.Sprint("derived-", v.ID)
	if err := h.engine.DeriveKey(t.Context(), derived, name, DeriveRequest{PeerPublicKey: v.Public}, KeyOptions{Type: TypeAES256, Exportable: true}); err != nil {
		return false, err
	}
	want, err := hkdf.Key(sha256.New, v.Shared, nil, "", 32)
	fatal(t, err)
	got, err := h.engine.Export(t.Context(), derived, ExportEncryptionKey, 1)
	return err == nil && got[1] == base64.StdEncoding.EncodeToString(want), err
}

// pemBytes returns what is in a block of PEM.
func pemBytes(t *testing.T, data []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("%q is no PEM", data)
	}
	return block.Bytes
}
