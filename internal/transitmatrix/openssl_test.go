package transitmatrix

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/requires"
)

// openssl knows these hashes by these names.
var opensslHashes = map[crypto.Hash]string{
	crypto.SHA1: "sha1", crypto.SHA224: "sha224", crypto.SHA256: "sha256", crypto.SHA384: "sha384", crypto.SHA512: "sha512",
	crypto.SHA3_224: "sha3-224", crypto.SHA3_256: "sha3-256", crypto.SHA3_384: "sha3-384", crypto.SHA3_512: "sha3-512",
}

// openssl tells whether OpenSSL 3.0 can verify k's signatures in that manner.
func (k *key) openssl(m manner) bool {
	switch k.public.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
		return m.hash != 0
	case ed25519.PublicKey:
		return m.hash == 0 && m.context == ""
	}
	return false
}

// written are files of public keys and messages that OpenSSL is given.
func written(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

// openssl runs a command, which must succeed, and returns what it printed.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), requires.Tool(t, "openssl", "openssl"), args...).CombinedOutput()
	require.NoError(t, err, "openssl %s: %s", strings.Join(args, " "), out)
	return string(out)
}

// verified are the keys and manners that OpenSSL has verified already: once for each suffices, since it takes a process.
var verified sync.Map

func opensslVerify(t *testing.T, k *key, m manner, signature []byte) {
	t.Helper()
	if _, done := verified.LoadOrStore(fmt.Sprint(t.Name(), m), true); done {
		return
	}
	spki, err := backend.SubjectPublicKeyInfo(k.public)
	require.NoError(t, err)
	public := written(t, "public", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	input, raw := written(t, "message", message), written(t, "signature", signature)
	if m.hash == 0 {
		openssl(t, "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", input, "-sigfile", raw)
		return
	}
	args := []string{"dgst", "-" + opensslHashes[m.hash], "-verify", public, "-signature", raw}
	if m.pss {
		args = append(args, "-sigopt", "rsa_padding_mode:pss", "-sigopt", fmt.Sprint("rsa_pss_saltlen:", m.salt), "-sigopt", "rsa_mgf1_md:"+opensslHashes[m.hash])
	}
	openssl(t, append(args, input)...)
}

func opensslRequest(t *testing.T, der []byte) {
	t.Helper()
	openssl(t, "req", "-verify", "-noout", "-inform", "DER", "-in", written(t, "request", der))
}

// opensslCMAC returns the AES-CMAC of the message.
func opensslCMAC(t *testing.T, secret []byte) []byte {
	t.Helper()
	out := openssl(t, "mac", "-cipher", fmt.Sprintf("AES-%d-CBC", 8*len(secret)), "-macopt", "hexkey:"+hex.EncodeToString(secret),
		"-in", written(t, "message", message), "CMAC")
	mac, err := hex.DecodeString(strings.TrimSpace(out))
	require.NoError(t, err)
	return mac
}
