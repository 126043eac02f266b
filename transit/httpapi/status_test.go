package httpapi

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/managedkeys/managedkeys/backend/software"
)

// TestMessages is the table of what clients see: status and words that they look for.
func TestMessages(t *testing.T) {
	g := newRig(t, nil, nil)
	for name, kind := range map[string]string{"aes": "aes256-gcm96", "ec": "ecdsa-p256", "rsa": "rsa-2048", "ed": "ed25519", "mac": "hmac"} {
		g.post(200, "keys/"+name, object{"type": kind})
	}
	g.managed("plain", software.Params{KeyType: software.ECDSA, Curve: software.P256})
	g.post(200, "keys/managed", object{"type": "managed_key", "managed_key_name": "plain"})
	ecSignature := g.post(200, "sign/ec", object{"input": b64("m")}).data["signature"].(string)
	sealed := g.post(200, "encrypt/aes", object{"plaintext": b64("m")}).data["ciphertext"].(string)
	in := b64("message")
	for _, c := range []struct {
		name   string
		path   string
		body   any
		status int
		text   string
	}{
		{"sign, no key", "sign/x", object{"input": in}, 400, "signing key not found"},
		{"decrypt, no key", "decrypt/x", object{"ciphertext": sealed}, 400, "encryption key not found"},
		{"verify, no key", "verify/x", object{"input": in, "signature": ecSignature}, 400, "signature verification key not found"},
		{"rotate, no key", "keys/x/rotate", nil, 400, "key not found"},
		{"config, no key", "keys/x/config", object{}, 400, "key not found"},
		{"sign with aes", "sign/aes", object{"input": in}, 400, "key type aes256-gcm96 does not support signing"},
		{"encrypt with ec", "encrypt/ec", object{"plaintext": in}, 400, "message encryption not supported for key type ecdsa-p256"},
		{"encrypt with managed ec", "encrypt/managed", object{"plaintext": in}, 400, "message encryption not supported for key type ecdsa-p256"},
		{"sign, no base64", "sign/ec", object{"input": "?"}, 400, "unable to decode input as base64: illegal base64 data at input byte 0"},
		{"encrypt, no base64", "encrypt/aes", object{"plaintext": "?"}, 400, "illegal base64 data at input byte 0"},
		{"no plaintext", "encrypt/aes", object{}, 400, "missing plaintext to encrypt"},
		{"no ciphertext", "decrypt/aes", object{}, 400, "missing ciphertext to decrypt"},
		{"hash", "sign/ec", object{"input": in, "hash_algorithm": "md5"}, 400, `invalid hash algorithm "md5"`},
		{"hash of the path", "sign/ec/md5", object{"input": in}, 400, `invalid hash algorithm "md5"`},
		{"marshaling", "sign/ec", object{"input": in, "marshaling_algorithm": "xml"}, 400, `invalid marshaling type "xml"`},
		{"signature algorithm", "sign/rsa", object{"input": in, "signature_algorithm": "xx"}, 400, `unsupported rsa signature algorithm "xx"`},
		{"none", "sign/rsa/none", object{"input": in}, 400, "hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15"},
		{"digest length", "sign/rsa", object{"input": in, "prehashed": true}, 400, "input must be hashed with given hash"},
		{"digest length, ec", "sign/ec", object{"input": in, "prehashed": "true"}, 400, "input must be hashed with given hash"},
		{"salt", "sign/rsa", object{"input": in, "salt_length": "x"}, 400, "salt length neither 'auto', 'hash', nor an int"},
		{"negative salt", "sign/rsa", object{"input": in, "salt_length": -3}, 400, "salt length is invalid: -3"},
		{"long salt", "sign/rsa", object{"input": in, "salt_length": "223"}, 400, "requested salt length 223 is invalid"},
		{"version too new", "sign/ec", object{"input": in, "key_version": 9}, 400, "requested version for signing is higher than the latest key version"},
		{"negative version", "sign/ec", object{"input": in, "key_version": -1}, 400, "is negative"},
		{"no prefix", "verify/ec", object{"input": in, "signature": "x"}, 400, "invalid signature: no prefix"},
		{"signature too new", "verify/ec", object{"input": in, "signature": strings.Replace(ecSignature, ":v1:", ":v7:", 1)}, 400, "invalid signature: version is too new"},
		{"signature no base64", "verify/ec", object{"input": in, "signature": "vault:v1:?"}, 400, "invalid base64 signature value"},
		{"signature invalid", "verify/ec", object{"input": in, "signature": "vault:v1:AAAA"}, 400, "supplied signature is invalid"},
		{"nothing to verify", "verify/ec", object{"input": in}, 400, "neither a 'signature'"},
		{"ciphertext tampered", "decrypt/aes", object{"ciphertext": sealed[:len(sealed)-8] + "AAAAAAA="}, 400, "cipher: message authentication failed"},
		{"ciphertext short", "decrypt/aes", object{"ciphertext": "vault:v1:AAAA"}, 400, "cipher: message authentication failed"},
		{"ciphertext of rsa", "decrypt/rsa", object{"ciphertext": "vault:v1:AAAA"}, 400, "cipher: message authentication failed"},
		{"ciphertext no prefix", "decrypt/aes", object{"ciphertext": "AAAA"}, 400, "invalid ciphertext: no prefix"},
		{"ciphertext too new", "decrypt/aes", object{"ciphertext": "vault:v9:AAAA"}, 400, "invalid ciphertext: version is too new"},
		{"data of rsa", "encrypt/rsa", object{"plaintext": in, "associated_data": in}, 400, "associated_data provided for non-AEAD cipher suite rsa-2048"},
		{"derived ec", "keys/new", object{"type": "ecdsa-p256", "derived": true}, 400, "key derivation and convergent encryption not supported for keys of type ecdsa-p256"},
		{"derived managed", "keys/new", object{"type": "managed_key", "managed_key_name": "plain", "derived": true}, 400, "key derivation and convergent encryption not supported"},
		{"managed without key", "keys/new", object{"type": "managed_key"}, 400, "managed key: no name or UUID is given"},
		{"managed absent", "keys/new", object{"type": "managed_key", "managed_key_name": "absent"}, 400, "absent"},
		{"unknown type", "keys/new", object{"type": "rot13"}, 400, `unknown key type "rot13"`},
		{"context", "encrypt/aes", object{"plaintext": in, "context": in}, 400, "the key is not a derived one"},
		{"nonce", "encrypt/aes", object{"plaintext": in, "nonce": in}, 400, "nonce provided when not allowed"},
		{"min encryption", "keys/aes/config", object{"min_encryption_version": 5}, 400, "cannot set min encryption version of 5, latest key version is 1"},
		{"exportable managed", "keys/managed/config", object{"exportable": true}, 400, "exportable: a managed key can't leave"},
		{"rotation soon", "keys/aes/config", object{"auto_rotate_period": "1m"}, 400, "auto_rotate_period of 1m"},
		{"trim", "keys/aes/trim", object{"min_available_version": 1}, 400, "minimum available version cannot be set when minimum encryption version is not set"},
		{"trim nothing", "keys/aes/trim", object{"min_available_version": 0}, 400, "cannot be decremented"},
		{"bits", "datakey/plaintext/aes", object{"bits": 129}, 400, "invalid bit length"},
		{"datakey path", "datakey/secret/aes", object{}, 400, "Invalid path, must be 'plaintext' or 'wrapped'"},
		{"random none", "random/0", nil, 400, "'bytes' cannot be less than 1"},
		{"random many", "random/131073", nil, 400, "'bytes' should be less than 131072"},
		{"random format", "random", object{"format": "x"}, 400, `unsupported encoding format "x"; must be "hex" or "base64"`},
		{"random source", "random/seal", nil, 400, "unsupported entropy source"},
		{"hash algorithm", "hash/sha1", object{"input": in}, 400, `unsupported algorithm "sha1"`},
		{"hmac of managed ec", "hmac/managed", object{"input": in}, 400, "HMAC not supported for key type ecdsa-p256"},
		{"cmac of hmac", "cmac/mac", object{"input": in}, 400, "CMAC not supported"},
		{"restore nothing", "restore", object{}, 400, "'backup' must be supplied"},
		{"cache", "cache-config", object{"size": 3}, 400, "size must be 0 or a value greater or equal to 10"},
		{"batch empty", "sign/ec", object{"batch_input": []any{}}, 400, "missing batch input to process"},
		{"batch empty, encrypt", "encrypt/aes", object{"batch_input": []any{}}, 400, "missing batch input to process"},
		{"JSON cut off", "encrypt/aes", `{"plaintext": "`, 400, "failed to decode JSON input: unexpected EOF"},
		{"unknown field", "encrypt/aes", object{"plaintxt": in}, 400, `field "plaintxt" is unknown (is it plaintext?)`},
		{"padding", "encrypt/rsa", object{"plaintext": in, "padding_scheme": "x"}, 400, `padding_scheme "x"; it takes oaep and pkcs1v15`},
		{"padding that is off", "decrypt/rsa", object{"ciphertext": "vault:v1:AAAA", "padding_scheme": "pkcs1v15"}, 400, "decrypting that is off"},
		{"path", "nowhere", object{}, 404, "unsupported path"},
		{"path too long", "encrypt/aes/more", object{}, 404, "unsupported path"},
		{"path too short", "encrypt", object{}, 404, "unsupported path"},
		{"name", "keys/NAME", object{}, 400, "key name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := g.do("POST", "transit/"+c.path, rootToken, c.body)
			assert.Equal(t, c.status, a.status, a.text)
			if assert.Len(t, a.errors, 1, a.text) {
				assert.Contains(t, a.errors[0], c.text)
				assert.NotContains(t, a.errors[0], "transit: ")
			}
		})
	}
	for _, c := range []struct {
		method, path string
		status       int
		text         string
	}{
		{"GET", "export/encryption-key/aes", 400, "private key material is not exportable"},
		{"GET", "export/signing-key/managed", 400, "private key material is not exportable"},
		{"GET", "export/foo/aes", 400, "invalid export type: foo"},
		{"GET", "export/public-key/ec/9", 400, "version 9 does not exist or cannot be found"},
		{"GET", "export/public-key/ec/x", 400, `invalid key version "x"`},
		{"GET", "backup/aes", 400, "exporting is disallowed"},
		{"GET", "byok-export/rsa/managed", 400, "private key material is not exportable"},
		{"DELETE", "keys/aes", 400, "error deleting policy aes: deletion is not allowed for this key"},
		{"GET", "sign/ec", 405, "unsupported operation"},
		{"LIST", "keys/ec", 405, "unsupported operation"},
		{"HEAD", "keys/ec", 405, ""},
	} {
		a := g.do(c.method, "transit/"+c.path, rootToken, nil)
		assert.Equal(t, c.status, a.status, "%s %s: %s", c.method, c.path, a.text)
		if c.text != "" && assert.Len(t, a.errors, 1) {
			assert.Contains(t, a.errors[0], c.text)
		}
		if c.status == 405 {
			assert.NotEmpty(t, a.header.Get("Allow"))
		}
	}
	for _, path := range []string{"keys/none", "export/public-key/none"} {
		assert.Equal(t, []string{}, g.get(404, path).errors)
	}
}
