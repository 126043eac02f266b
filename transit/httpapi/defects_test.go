package httpapi

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend/software"
)

// publicKey exports the public key of a version.
func (g *rig) publicKey(name string) any {
	g.Helper()
	keys := g.get(200, "export/public-key/"+name+"/latest?format=pem").data["keys"].(object)
	require.Len(g, keys, 1)
	for _, text := range keys {
		block, _ := pem.Decode([]byte(text.(string)))
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		require.NoError(g, err)
		return public
	}
	return nil
}

// TestManagedKeyOptions: what a request says of padding, salt and encoding holds for managed keys as well. Others have ignored it.
func TestManagedKeyOptions(t *testing.T) {
	g := newRig(t, nil, nil)
	g.managed("rsa", software.Params{KeyType: software.RSA, KeyBits: 2048})
	g.managed("ec", software.Params{KeyType: software.ECDSA, Curve: software.P256})
	for _, name := range []string{"rsa", "ec"} {
		g.post(200, "keys/"+name, object{"type": "managed_key", "managed_key_name": name})
	}
	public, digest := g.publicKey("rsa").(*rsa.PublicKey), sha256.Sum256([]byte("m"))
	sign := func(name string, fields object, encoding *base64.Encoding) []byte {
		fields["input"] = b64("m")
		text := g.post(200, "sign/"+name, fields).data["signature"].(string)
		raw, err := encoding.DecodeString(strings.TrimPrefix(text, "vault:v1:"))
		require.NoError(t, err, text)
		fields["signature"] = text
		assert.Equal(t, true, g.post(200, "verify/"+name, fields).data["valid"])
		return raw
	}
	pss := func(salt int, raw []byte) error {
		return rsa.VerifyPSS(public, crypto.SHA256, digest[:], raw, &rsa.PSSOptions{SaltLength: salt})
	}
	assert.NoError(t, pss(rsa.PSSSaltLengthAuto, sign("rsa", object{}, base64.StdEncoding)))
	assert.NoError(t, rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sign("rsa", object{"signature_algorithm": "pkcs1v15"}, base64.StdEncoding)))
	for text, salt := range map[any]int{"hash": 32, 20: 20, "222": 222} {
		raw := sign("rsa", object{"salt_length": text}, base64.StdEncoding)
		assert.NoError(t, pss(salt, raw), text)
		assert.Error(t, pss(salt+1, raw), text)
	}
	sign("rsa", object{"salt_length": 0}, base64.StdEncoding)
	raw := sign("ec", object{"marshaling_algorithm": "jws"}, base64.RawURLEncoding)
	require.Len(t, raw, 64)
	assert.True(t, ecdsa.Verify(g.publicKey("ec").(*ecdsa.PublicKey), digest[:], new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])))
	bare := base64.StdEncoding.EncodeToString([]byte("no digest of any hash"))
	none := object{"input": bare, "prehashed": true, "signature_algorithm": "pkcs1v15"}
	none["signature"] = g.post(200, "sign/rsa/none", none).data["signature"]
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(none["signature"].(string), "vault:v1:"))
	require.NoError(t, err)
	assert.NoError(t, rsa.VerifyPKCS1v15(public, 0, []byte("no digest of any hash"), raw))
	assert.Equal(t, true, g.post(200, "verify/rsa/none", none).data["valid"])

	// A managed key signs requests for certificates.
	text := g.post(200, "keys/ec/csr", nil).data["csr"].(string)
	block, _ := pem.Decode([]byte(text))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	require.NoError(t, err)
	assert.NoError(t, csr.CheckSignature())
	g.post(204, "keys/ec/set-certificate", object{"certificate_chain": certify(t, csr)})
	cut := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: append(block.Bytes, 0)}))
	assert.Equal(t, []string{"could not parse certificate signing request: 1 bytes after its end"}, g.post(400, "keys/ec/csr", object{"csr": cut}).errors)
}

// TestForRSAOnly: what others ignore for keys that are not of RSA is ignored with a warning, and counts for those that are, whatever the
// latest version is.
func TestForRSAOnly(t *testing.T) {
	g := newRig(t, nil, nil)
	g.managed("rsa", software.Params{KeyType: software.RSA, KeyBits: 2048})
	g.managed("ec", software.Params{KeyType: software.ECDSA, Curve: software.P256})
	g.post(200, "keys/k", object{"managed_key_name": "rsa"})
	fields := object{"input": b64("m"), "signature_algorithm": "pkcs1v15"}
	signed := g.post(200, "sign/k", fields)
	assert.Empty(t, signed.warnings)
	g.post(200, "keys/k/rotate", object{"managed_key_name": "ec"})
	later := g.post(200, "sign/k", fields)
	assert.Contains(t, later.warnings, "signature_algorithm and salt_length are for RSA keys; they were ignored for a key of type ecdsa-p256")
	for _, a := range []answer{signed, later} {
		fields["signature"] = a.data["signature"]
		assert.Equal(t, true, g.post(200, "verify/k", fields).data["valid"], fields["signature"])
	}
	g.post(200, "keys/ed", object{"type": "ed25519"})
	signed = g.post(200, "sign/ed/sha2-256", object{"input": b64("m")})
	assert.Contains(t, signed.warnings, "hash_algorithm was ignored: a key of type ed25519 signs the input itself")
	assert.Equal(t, true, g.post(200, "verify/ed", object{"input": b64("m"), "signature": signed.data["signature"]}).data["valid"])
	g.post(400, "sign/ed/sha2-256", object{"input": b64("m"), "prehashed": true})
	digest := base64.StdEncoding.EncodeToString(make([]byte, 64))
	g.post(200, "sign/ed/sha2-512", object{"input": digest, "prehashed": true}) // Ed25519ph
}

// TestAgain: making a key that there is changes nothing, even if it were another one.
func TestAgain(t *testing.T) {
	g := newRig(t, nil, nil)
	first := g.post(200, "keys/k", object{"type": "ecdsa-p256"})
	assert.Empty(t, first.warnings)
	for _, body := range []object{{"type": "ecdsa-p256"}, {"type": "rsa-2048"}, {}} {
		again := g.post(200, "keys/k", body)
		assert.Equal(t, first.data, again.data)
		assert.Equal(t, []string{"key k already existed"}, again.warnings)
	}
}

// TestStrictSignatures: signatures that others take in several spellings are taken in one.
func TestStrictSignatures(t *testing.T) {
	g := newRig(t, nil, nil)
	g.post(200, "keys/ec", object{"type": "ecdsa-p256"})
	in := b64("m")
	der := g.post(200, "sign/ec", object{"input": in}).data["signature"].(string)
	jws := g.post(200, "sign/ec", object{"input": in, "marshaling_algorithm": "jws"}).data["signature"].(string)
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(der, "vault:v1:"))
	require.NoError(t, err)
	std := func(raw []byte) string { return "vault:v1:" + base64.StdEncoding.EncodeToString(raw) }
	for _, bad := range []string{
		std(append(raw[:len(raw):len(raw)], 0)), std(raw[:len(raw)-1]), strings.Replace(der, ":v1:", ":v01:", 1), strings.Replace(der, "vault:", "Vault:", 1),
		der + "\n", der + "=", strings.TrimRight(der, "=") + "==", std([]byte{0x30, 6, 2, 1, 0, 2, 1, 1}), std(nil), "vault:v1", "vault:v0:AAAA", "vault:v:AAAA",
	} {
		if bad == der {
			continue
		}
		a := g.do("POST", "transit/verify/ec", rootToken, object{"input": in, "signature": bad})
		assert.Equal(t, 400, a.status, "%q: %s", bad, a.text)
	}
	for _, bad := range []string{jws + "A", jws[:len(jws)-4], jws + "==", "vault:v1:" + strings.Repeat("A", 86), "vault:v1:" + strings.Repeat("_", 86)} {
		a := g.do("POST", "transit/verify/ec", rootToken, object{"input": in, "signature": bad, "marshaling_algorithm": "jws"})
		assert.Equal(t, 400, a.status, "%q: %s", bad, a.text)
	}
	assert.Equal(t, true, g.post(200, "verify/ec", object{"input": in, "signature": jws, "marshaling_algorithm": "jws"}).data["valid"])
}

// TestWindow: versions that are outside of the window, for what is made and for what was made.
func TestWindow(t *testing.T) {
	g := newRig(t, nil, nil)
	g.post(200, "keys/k", object{"type": "aes128-gcm96"})
	var sealed []string
	for n := 1; n <= 4; n++ {
		sealed = append(sealed, g.post(200, "encrypt/k", object{"plaintext": b64("m")}).data["ciphertext"].(string))
		g.post(200, "keys/k/rotate", nil)
	}
	config := g.post(200, "keys/k/config", object{"min_decryption_version": 3, "min_encryption_version": 4})
	assert.Equal(t, float64(3), config.data["min_decryption_version"])
	g.post(200, "keys/k/trim", object{"min_available_version": 2})
	assert.Contains(t, g.post(400, "decrypt/k", object{"ciphertext": sealed[0]}).errors[0], "ciphertext or signature version is disallowed by policy (too old)")
	assert.Contains(t, g.post(400, "decrypt/k", object{"ciphertext": sealed[1]}).errors[0], "disallowed by policy (too old)")
	g.post(200, "decrypt/k", object{"ciphertext": sealed[2]})
	assert.Contains(t, g.post(400, "encrypt/k", object{"plaintext": "", "key_version": 1}).errors[0], "no such key version")
	assert.Contains(t, g.post(400, "encrypt/k", object{"plaintext": "", "key_version": 3}).errors[0], "less than the minimum encryption key version")
	assert.Contains(t, g.post(400, "keys/k/config", object{"min_encryption_version": 2}).errors[0], "min encryption version of 2 must be greater than or equal to min decryption version of 3")
	assert.Contains(t, g.post(400, "keys/k/trim", object{"min_available_version": 1}).errors[0], "cannot be decremented")
	g.post(200, "keys/other", nil)
	assert.Equal(t, []string{"versions begin with 1; min_decryption_version is 1"}, g.post(200, "keys/other/config", object{"min_decryption_version": 0}).warnings)
	for _, one := range g.get(200, "keys/k").data["keys"].(object) {
		_, number := one.(float64)
		assert.True(t, number, "symmetric keys have their time alone")
	}
}
