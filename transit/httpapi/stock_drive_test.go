package httpapi

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// driveKeys: what keys there are, and what happens to them.
func driveKeys(d driver, p string) {
	k := p + "-keys"
	made := d.must("keys/"+k, object{"type": "ecdsa-p256", "exportable": "true"})
	assert.Equal(d, "ecdsa-p256", made["type"])
	read := d.get("keys/" + k)
	assert.Equal(d, made, read)
	first := read["keys"].(object)["1"].(object)
	assert.Equal(d, "P-256", first["name"])
	block, _ := pem.Decode([]byte(first["public_key"].(string)))
	_, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(d, err)
	keys, err := d.list("transit/keys")
	require.NoError(d, err)
	assert.Contains(d, keys, k)
	none, err := d.read("transit/keys/none", nil)
	require.NoError(d, err)
	assert.Nil(d, none, "nothing, and no error")

	assert.Equal(d, json.Number("2"), d.must("keys/"+k+"/rotate", nil)["latest_version"])
	config := d.must("keys/"+k+"/config", object{"min_decryption_version": 2, "min_encryption_version": "2", "deletion_allowed": true, "auto_rotate_period": "24h"})
	assert.Equal(d, json.Number("86400"), config["auto_rotate_period"])
	assert.Equal(d, json.Number("2"), config["min_encryption_version"])
	trimmed := d.must("keys/"+k+"/trim", object{"min_available_version": 2})
	assert.Len(d, trimmed["keys"], 1)

	require.NoError(d, d.remove("transit/keys/"+k+"/soft-delete"))
	assert.Equal(d, true, d.get("keys/" + k)["soft_deleted"])
	d.refused("sign/"+k, object{"input": ""}, "is deleted")
	d.must("keys/"+k+"/soft-delete-restore", nil)
	d.must("sign/"+k, object{"input": ""})
	require.NoError(d, d.remove("transit/keys/"+k))
	none, err = d.read("transit/keys/"+k, nil)
	require.NoError(d, err)
	assert.Nil(d, none)
}

// driveCiphers: encryption with what it can be given.
func driveCiphers(d driver, p string) {
	k, secret := p+"-ciphers", b64("secret")
	one := d.must("encrypt/"+k, object{"plaintext": secret, "associated_data": b64("a")}) // makes the key
	assert.Equal(d, json.Number("1"), one["key_version"])
	d.must("keys/"+k+"/rotate", nil)
	two := d.must("rewrap/"+k, object{"ciphertext": one["ciphertext"], "associated_data": b64("a")})
	assert.Contains(d, two["ciphertext"], "vault:v2:")
	for _, ciphertext := range []any{one["ciphertext"], two["ciphertext"]} {
		assert.Equal(d, secret, d.must("decrypt/"+k, object{"ciphertext": ciphertext, "associated_data": b64("a")})["plaintext"])
		d.refused("decrypt/"+k, object{"ciphertext": ciphertext}, "cipher: message authentication failed")
	}
	old := d.must("encrypt/"+k, object{"plaintext": secret, "key_version": "1"})
	assert.Contains(d, old["ciphertext"], "vault:v1:")

	key := d.must("datakey/plaintext/"+k, object{"bits": 512})
	assert.Equal(d, key["plaintext"], d.must("decrypt/"+k, object{"ciphertext": key["ciphertext"]})["plaintext"])
	wrapped := d.must("datakey/wrapped/"+k, nil)
	assert.NotContains(d, wrapped, "plaintext")
	many := d.must("datakeys/plaintext/"+k, object{"count": 3, "bits": 128})["key_pairs"].([]any)
	assert.Len(d, many, 3)
	pair := many[2].(object)
	assert.Equal(d, pair["plaintext"], d.must("decrypt/"+k, object{"ciphertext": pair["ciphertext"]})["plaintext"])

	from := object{"salt": "sodium chloride", "key_index_from": "7", "key_index_to": 9}
	derived := d.must("derivedkeys/plaintext/"+k, from)
	assert.Len(d, derived, 3)
	assert.Equal(d, json.Number("2"), derived["key_version"])
	eighth := derived["8"].(object)
	assert.Equal(d, eighth["plaintext"], d.must("decrypt/"+k, object{"ciphertext": eighth["ciphertext"]})["plaintext"])
	again := d.must("derivedkeys/wrapped/"+k, from)["8"].(object)
	assert.NotContains(d, again, "plaintext")
	assert.Equal(d, eighth["plaintext"], d.must("decrypt/"+k, object{"ciphertext": again["ciphertext"]})["plaintext"])
	d.refused("derivedkeys/wrapped/"+k, object{"key_index_to": 1}, "a salt is required")

	c := p + "-convergent"
	d.must("keys/"+c, object{"type": "chacha20-poly1305", "derived": true, "convergent_encryption": true})
	first := d.must("encrypt/"+c, object{"plaintext": secret, "context": b64("c")})["ciphertext"]
	assert.Equal(d, first, d.must("encrypt/"+c, object{"plaintext": secret, "context": b64("c")})["ciphertext"])
	assert.NotEqual(d, first, d.must("encrypt/"+c, object{"plaintext": secret, "context": b64("d")})["ciphertext"])
	d.refused("encrypt/"+c, object{"plaintext": secret}, "missing 'context' for key derivation")

	d.must("keys/"+p+"-rsa", object{"type": "rsa-2048"})
	padded := d.must("encrypt/"+p+"-rsa", object{"plaintext": secret, "padding_scheme": "pkcs1v15"})["ciphertext"]
	padded = d.must("rewrap/"+p+"-rsa", object{"ciphertext": padded, "decrypt_padding_scheme": "pkcs1v15", "encrypt_padding_scheme": "oaep"})["ciphertext"]
	assert.Equal(d, secret, d.must("decrypt/"+p+"-rsa", object{"ciphertext": padded, "padding_scheme": "oaep"})["plaintext"])

	batch := d.must("encrypt/"+k, object{"batch_input": []object{{"plaintext": b64("0"), "reference": "zero"}, {"plaintext": b64("1")}}})["batch_results"].([]any)
	assert.Equal(d, "zero", batch[0].(object)["reference"])
	assert.Equal(d, "", batch[1].(object)["reference"])
	back := d.must("decrypt/"+k, object{"batch_input": []object{{"ciphertext": batch[1].(object)["ciphertext"]}, {"ciphertext": batch[0].(object)["ciphertext"]}}})["batch_results"].([]any)
	assert.Equal(d, b64("1"), back[0].(object)["plaintext"])
	assert.Equal(d, b64("0"), back[1].(object)["plaintext"])
}

// driveSignatures: signatures and MACs.
func driveSignatures(d driver, p string) {
	in := b64("message")
	digest := sha256.Sum256([]byte("message"))
	for kind, fields := range map[string]object{
		"ecdsa-p384": {"marshaling_algorithm": "jws"}, "rsa-2048": {"signature_algorithm": "pkcs1v15"}, "ed25519": {}, "ecdsa-p521": {"hash_algorithm": "sha3-256"}, "ml-dsa-44": {},
	} {
		k := p + "-" + kind
		d.must("keys/"+k, object{"type": kind})
		ask := object{"input": in}
		for name, value := range fields {
			ask[name] = value
		}
		ask["signature"] = d.must("sign/"+k, ask)["signature"]
		assert.Equal(d, true, d.must("verify/"+k, ask)["valid"], kind)
		ask["input"] = b64("other")
		assert.Equal(d, false, d.must("verify/"+k, ask)["valid"], kind)
		if kind == "ed25519" || kind == "ml-dsa-44" {
			continue
		}
		hashed := d.must("sign/"+k+"/sha2-256", object{"input": base64.StdEncoding.EncodeToString(digest[:]), "prehashed": true})
		assert.Equal(d, true, d.must("verify/"+k+"/sha2-256", object{"input": in, "signature": hashed["signature"]})["valid"], kind)
	}
	k := p + "-ecdsa-p384"
	mac := d.must("hmac/"+k+"/sha2-384", object{"input": in})["hmac"]
	assert.Equal(d, true, d.must("verify/"+k, object{"input": in, "hmac": mac, "algorithm": "sha2-384"})["valid"])
	assert.Equal(d, false, d.must("verify/"+k, object{"input": in, "hmac": mac})["valid"])
	d.must("keys/"+p+"-cmac", object{"type": "aes256-cmac"})
	for _, path := range []string{"cmac/" + p + "-cmac", "cmac/" + p + "-cmac/8"} {
		tag := d.must(path, object{"input": in})["cmac"]
		assert.Equal(d, true, d.must("verify/"+p+"-cmac", object{"input": in, "cmac": tag})["valid"])
	}
	d.must("keys/"+p+"-derived", object{"type": "ed25519", "derived": true})
	derived := d.must("sign/"+p+"-derived", object{"input": in, "context": b64("c")})
	shown, err := d.read("transit/keys/"+p+"-derived", map[string][]string{"context": {b64("c")}})
	require.NoError(d, err)
	assert.Equal(d, derived["public_key"], shown["keys"].(object)["1"].(object)["public_key"])
	assert.Equal(d, true, d.must("verify/"+p+"-derived", object{"input": in, "context": b64("c"), "signature": derived["signature"]})["valid"])
}

// driveMaterial: keys that come and go.
func driveMaterial(d driver, p string) {
	block, _ := pem.Decode([]byte(d.get("wrapping_key")["public_key"].(string)))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(d, err)
	wrap := func(material []byte) string {
		ephemeral := make([]byte, 32)
		rand.Read(ephemeral)
		w, err := kwp.NewKWP(ephemeral)
		require.NoError(d, err)
		wrapped, err := w.Wrap(material)
		require.NoError(d, err)
		first, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), ephemeral, nil)
		require.NoError(d, err)
		return base64.StdEncoding.EncodeToString(append(first, wrapped...))
	}
	k := p + "-imported"
	material := []byte("0123456789abcdef0123456789abcdef")
	d.must("keys/"+k+"/import", object{"ciphertext": wrap(material), "type": "aes256-gcm96", "exportable": true, "allow_plaintext_backup": true, "hash_function": "SHA256"})
	assert.Equal(d, base64.StdEncoding.EncodeToString(material), d.only("export/encryption-key/"+k))
	d.must("keys/"+k+"/import_version", object{"ciphertext": wrap([]byte("fedcba9876543210fedcba9876543210"))})
	assert.Equal(d, b64("fedcba9876543210fedcba9876543210"), d.only("export/encryption-key/"+k+"/latest"))
	d.refused("keys/"+k+"/rotate", nil, "does not allow rotation")

	ciphertext := d.must("encrypt/"+k, object{"plaintext": b64("m")})["ciphertext"]
	text := d.get("backup/" + k)["backup"]
	d.refused("restore/"+k, object{"backup": text}, "exists")
	d.must("restore/"+k, object{"backup": text, "force": true})
	d.must("restore/"+k+"-copy", object{"backup": text})
	assert.Equal(d, b64("m"), d.must("decrypt/"+k+"-copy", object{"ciphertext": ciphertext})["plaintext"])

	d.must("keys/"+p+"-destination", object{"type": "rsa-2048"})
	assert.Len(d, d.get("byok-export/" + p + "-destination/" + k)["keys"], 2)

	d.must("keys/"+p+"-certified", object{"type": "ecdsa-p256"})
	request := d.must("keys/"+p+"-certified/csr", nil)["csr"].(string)
	csr, _ := pem.Decode([]byte(request))
	parsed, err := x509.ParseCertificateRequest(csr.Bytes)
	require.NoError(d, err)
	require.NoError(d, parsed.CheckSignature())
	again := d.must("keys/"+p+"-certified/csr", object{"csr": request})["csr"].(string)
	assert.NotEqual(d, request, again)
	d.must("keys/"+p+"-certified/set-certificate", object{"certificate_chain": certify(d.T, parsed)})
	assert.Contains(d, d.only("export/certificate-chain/"+p+"-certified"), "BEGIN CERTIFICATE")
	assert.Contains(d, d.get("keys/" + p + "-certified")["keys"].(object)["1"].(object)["certificate_chain"], "BEGIN CERTIFICATE")
	d.refused("keys/"+p+"-certified/set-certificate", object{"certificate_chain": request}, "could not decode PEM certificate chain")

	peer := d.only("export/public-key/" + p + "-certified/1")
	d.must("keys/"+p+"-agrees", object{"type": "ecdsa-p256"})
	d.must("derive-key/"+p+"-agreed", object{"base_key_name": p + "-agrees", "peer_public_key": peer, "derived_key_type": "aes128-gcm96"})
	d.must("derive-key/"+p+"-agreed-too", object{"base_key_name": p + "-certified", "base_key_version": 1, "derived_key_type": "aes128-gcm96",
		"peer_public_key": d.only("export/public-key/" + p + "-agrees")})
	ciphertext = d.must("encrypt/"+p+"-agreed", object{"plaintext": b64("m")})["ciphertext"]
	assert.Equal(d, b64("m"), d.must("decrypt/"+p+"-agreed-too", object{"ciphertext": ciphertext})["plaintext"])
}

// certify returns a certificate of what a request asks for, in PEM.
func certify(t *testing.T, csr *x509.CertificateRequest) string {
	t.Helper()
	authority, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "leaf"}, NotAfter: time.Now().Add(time.Hour)},
		&x509.Certificate{Subject: pkix.Name{CommonName: "authority"}}, csr.PublicKey, authority)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// driveRest: randomness, hashes and settings.
func driveRest(d driver, p string) {
	for path, n := range map[string]int{"random": 32, "random/16": 16, "random/platform": 32, "random/platform/8": 8} {
		raw, err := base64.StdEncoding.DecodeString(d.must(path, nil)["random_bytes"].(string))
		require.NoError(d, err)
		assert.Len(d, raw, n, path)
	}
	assert.Len(d, d.must("random", object{"bytes": 4, "format": "hex"})["random_bytes"], 8)
	assert.Equal(d, "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=", d.must("hash/sha2-256", object{"input": b64("abc"), "format": "base64"})["sum"])

	d.must("cache-config", object{"size": 20})
	assert.Equal(d, json.Number("20"), d.get("cache-config")["size"])
	assert.Equal(d, true, d.must("config/keys", object{"disable_upsert": true})["disable_upsert"])
	d.refused("encrypt/"+p+"-upsert", object{"plaintext": b64("m")}, "encryption key not found")
	assert.Equal(d, true, d.get("config/keys")["disable_upsert"])
	d.must("config/keys", object{"disable_upsert": false})
	d.must("encrypt/"+p+"-upsert", object{"plaintext": b64("m")})
}
