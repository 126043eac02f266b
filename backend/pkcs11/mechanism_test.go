package pkcs11

import (
	"crypto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// standard returns the numbers of the standard's header, as github.com/miekg/pkcs11 brings it, by their names.
func standard(tb testing.TB) map[string]uint64 {
	tb.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	if err != nil {
		requires.Missing(tb, "cc", err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "pkcs11t.h"))
	if err != nil {
		tb.Fatal(err)
	}
	numbers := make(map[string]uint64)
	for _, m := range regexp.MustCompile(`(?m)^#define\s+(CK[A-Z]*_\w+)\s+\(?(?:CKF_ARRAY_ATTRIBUTE\|)?(0x[0-9a-fA-F]+)(?:UL)?`).FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.ParseUint(m[2], 0, 64)
		if err != nil {
			tb.Fatal(err)
		}
		numbers[m[1]] = n
	}
	if len(numbers) < 500 {
		tb.Fatalf("the header has only %d numbers", len(numbers))
	}
	return numbers
}

// TestNumbers compares the numbers of this package with the standard's. What version 3.2 added is not in that header.
func TestNumbers(t *testing.T) {
	header := standard(t)
	compared := 0
	for m, name := range mechanismNames {
		if n, ok := header["CKM_"+name]; ok && n != uint64(m) {
			t.Errorf("CKM_%s is %s, want 0x%04X", name, m.hex(), n)
		} else if ok {
			compared++
		}
	}
	if compared < 50 {
		t.Errorf("only %d mechanisms were compared", compared)
	}
	for name, n := range map[string]uint64{
		"CKA_CLASS": attrClass, "CKA_TOKEN": attrToken, "CKA_PRIVATE": attrPrivate, "CKA_LABEL": attrLabel, "CKA_VALUE": attrValue,
		"CKA_KEY_TYPE": attrKeyType, "CKA_ID": attrID, "CKA_SENSITIVE": attrSensitive, "CKA_ENCRYPT": attrEncrypt, "CKA_DECRYPT": attrDecrypt,
		"CKA_WRAP": attrWrap, "CKA_UNWRAP": attrUnwrap, "CKA_SIGN": attrSign, "CKA_VERIFY": attrVerify, "CKA_DERIVE": attrDerive,
		"CKA_MODULUS": attrModulus, "CKA_MODULUS_BITS": attrModulusBits, "CKA_PUBLIC_EXPONENT": attrPublicExponent,
		"CKA_PUBLIC_KEY_INFO": attrPublicKeyInfo, "CKA_VALUE_LEN": attrValueLen, "CKA_EXTRACTABLE": attrExtractable,
		"CKA_EC_PARAMS": attrECParams, "CKA_EC_POINT": attrECPoint, "CKA_ALWAYS_AUTHENTICATE": attrAlwaysAuthenticate,
		"CKA_ALLOWED_MECHANISMS": attrAllowedMechanisms &^ 0x40000000,
		"CKO_CERTIFICATE":        uint64(classCertificate), "CKO_PUBLIC_KEY": uint64(classPublic), "CKO_PRIVATE_KEY": uint64(classPrivate), "CKO_SECRET_KEY": uint64(classSecret),
		"CKK_RSA": uint64(keyRSA), "CKK_EC": uint64(keyEC), "CKK_GENERIC_SECRET": uint64(keyGeneric), "CKK_AES": uint64(keyAES),
		"CKF_RNG": flagRNG, "CKF_WRITE_PROTECTED": flagWriteProtected, "CKF_USER_PIN_INITIALIZED": flagUserPINSet, "CKF_TOKEN_INITIALIZED": flagInitialized,
		"CKF_USER_PIN_FINAL_TRY": flagUserPINFinalTry, "CKF_USER_PIN_LOCKED": flagUserPINLocked,
		"CKF_ENCRYPT": uint64(useEncrypt), "CKF_DECRYPT": uint64(useDecrypt), "CKF_SIGN": uint64(useSign), "CKF_GENERATE": uint64(useGenerate),
		"CKF_GENERATE_KEY_PAIR": uint64(useGeneratePair), "CKF_WRAP": uint64(useWrap), "CKF_UNWRAP": uint64(useUnwrap), "CKF_DERIVE": uint64(useDerive),
	} {
		if want, ok := header[name]; !ok || want != n {
			t.Errorf("%s is 0x%X, want 0x%X (known: %t)", name, n, want, ok)
		}
	}
	for h, names := range map[crypto.Hash][2]string{crypto.SHA1: {"CKM_SHA_1", "CKG_MGF1_SHA1"}, crypto.SHA224: {"CKM_SHA224", "CKG_MGF1_SHA224"},
		crypto.SHA256: {"CKM_SHA256", "CKG_MGF1_SHA256"}, crypto.SHA384: {"CKM_SHA384", "CKG_MGF1_SHA384"}, crypto.SHA512: {"CKM_SHA512", "CKG_MGF1_SHA512"}} {
		if got := hashAlgorithms[h]; uint64(got.mechanism) != header[names[0]] || uint64(got.mgf) != header[names[1]] {
			t.Errorf("%v has the numbers 0x%X and 0x%X, want 0x%X and 0x%X", h, got.mechanism, got.mgf, header[names[0]], header[names[1]])
		}
	}
}

// TestMechanismForms: all forms of a mechanism are the same mechanism.
func TestMechanismForms(t *testing.T) {
	for m, name := range mechanismNames {
		for _, text := range []string{name, "CKM_" + name, strings.ToLower(name), "ckm_" + strings.ToLower(name), m.String(), m.hex(),
			"0X" + strings.ToLower(m.hex()[2:]), strconv.FormatUint(uint64(m), 10)} {
			if got, err := ParseMechanism(text); err != nil || got != m {
				t.Errorf("%q is %v, want %v; error %v", text, got, m, err)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		m := Mechanism(rapid.Uint64().Draw(t, "mechanism"))
		text, err := m.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Mechanism
		if err := back.UnmarshalText(text); err != nil || back != m {
			t.Fatalf("%s is read back as %v; error %v", text, back, err)
		}
	})
}

// TestKinds: each kind of key has a mechanism, each mechanism of this package a kind, and each MAC its inverse.
func TestKinds(t *testing.T) {
	for kind, m := range mechanismOf {
		if !m.kinds().has(kind) || m.kinds().String() == "unknown" {
			t.Errorf("%s keys are listed with %s, which is for %s keys", kind, m, m.kinds())
		}
		if strings.HasPrefix(kind.String(), "CKK") {
			t.Errorf("kind 0x%X has no name", uint64(kind))
		}
	}
	for _, m := range []Mechanism{RSAPKCS, RSAPKCSOAEP, RSAPKCSPSS, MLDSA, SHA256HMAC, ECDSA, ECDH, EdDSA, AESGCM, AESCMAC, AESKeyWrapPad, AESKeyWrapKWP} {
		if !m.known() || strings.HasPrefix(m.String(), "0x") {
			t.Errorf("%s is not known or has no name", m)
		}
	}
	for _, m := range []Mechanism{rsaKeyPairGen, ecKeyPairGen, 0x1042, 1 << 40} {
		if m.known() || m.kinds().has(keyRSA) || m.kinds().String() != "unknown" {
			t.Errorf("%s is for %s keys", m, m.kinds())
		}
	}
	for m, alg := range macMechanisms {
		if macByAlgorithm[alg] != m {
			t.Errorf("%s is %s, and that %s", m, alg, macByAlgorithm[alg])
		}
	}
	if len(macOrder) != len(macMechanisms) {
		t.Errorf("%d MACs are tried, and %d known", len(macOrder), len(macMechanisms))
	}
	for _, h := range pkcs1Hashes {
		if prefix := hashAlgorithms[h].prefix; len(prefix) == 0 || len(prefix)+h.Size() > maxDigestInfo || int(prefix[len(prefix)-1]) != h.Size() {
			t.Errorf("DigestInfo of %v begins with %x", h, prefix)
		}
	}
}
