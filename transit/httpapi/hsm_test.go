package httpapi

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// onToken are kinds of keys on a token and what transit can do with them; all else must be refused.
var onToken = []struct {
	name   string
	params pkcs11.Params
	can    string // of sign, encrypt, hmac and cmac
}{
	{"p256", pkcs11.Params{Mechanism: pkcs11.ECDSA, Curve: "P256"}, "sign"},
	{"p384", pkcs11.Params{Mechanism: pkcs11.ECDSA, Curve: "P384"}, "sign"},
	{"ed25519", pkcs11.Params{Mechanism: pkcs11.EdDSA}, "sign"},
	{"rsa-pkcs", pkcs11.Params{Mechanism: pkcs11.RSAPKCS, KeyBits: 2048}, "sign"},
	{"rsa-pss", pkcs11.Params{Mechanism: pkcs11.RSAPKCSPSS, KeyBits: 2048}, "sign"},
	{"rsa-oaep", pkcs11.Params{Mechanism: pkcs11.RSAPKCSOAEP, KeyBits: 2048}, "encrypt"},
	{"aes", pkcs11.Params{Mechanism: pkcs11.AESGCM, KeyBits: 256}, "encrypt"},
	{"hmac", pkcs11.Params{Mechanism: pkcs11.SHA256HMAC, KeyBits: 256}, "hmac"},
	{"cmac", pkcs11.Params{Mechanism: pkcs11.AESCMAC, KeyBits: 128}, "cmac"},
}

// TestHSM: keys on a token, in a mount without software keys, by both stock clients. What is signed is checked by the standard library.
func TestHSM(t *testing.T) {
	token := softhsm.Require(t)
	g := newRig(t, token, nil)
	for client, c := range g.clients() {
		for _, k := range onToken {
			t.Run(client+"/"+k.name, func(t *testing.T) {
				p := k.params
				p.Library, p.Slot, p.PIN, p.KeyLabel = "hsm", token.Slot, backend.Secret(token.PIN), client+"-"+k.name
				err := g.keys.Create(t.Context(), managedkey.Entry{Ref: namespace.Ref{Name: p.KeyLabel}, Connection: "hsm", Params: p,
					AllowGenerateKey: true, AnyMount: true, Usages: everything})
				require.NoError(t, err)
				made, err := c.write("managed/keys/"+p.KeyLabel, object{"type": "managed_key", "managed_key_name": p.KeyLabel})
				require.NoError(t, err)
				assert.Equal(t, "managed_key", made["type"])
				assert.Equal(t, k.can == "encrypt", made["supports_encryption"], "not everything, as others claim")
				assert.Equal(t, k.can == "encrypt", made["supports_decryption"])
				assert.Equal(t, k.can == "sign", made["supports_signing"])
				assert.Equal(t, false, made["supports_derivation"])
				for op, do := range tokenOps {
					err := do(t, c, "managed/", p.KeyLabel)
					if op == k.can {
						assert.NoError(t, err, op)
					} else {
						assert.ErrorContains(t, err, "Code: 400", op)
						assert.ErrorContains(t, err, "support", op)
					}
				}
			})
		}
	}
	_, err := g.clients()["vault"].write("managed/keys/soft", object{"type": "aes256-gcm96"})
	require.ErrorContains(t, err, "software keys are not allowed in this mount")
}

// tokenOps do something with a key of a mount, and check it.
var tokenOps = map[string]func(t *testing.T, c stock, mount, name string) error{
	"sign": func(t *testing.T, c stock, mount, name string) error {
		signed, err := c.write(mount+"sign/"+name, object{"input": b64("message")})
		if err != nil {
			return err
		}
		exported, err := c.read(mount+"export/public-key/"+name, map[string][]string{"format": {"pem"}})
		require.NoError(t, err)
		block, _ := pem.Decode([]byte(exported["keys"].(object)["1"].(string)))
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		require.NoError(t, err)
		signature, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signed["signature"].(string), "vault:v1:"))
		require.NoError(t, err)
		digest := sha256.Sum256([]byte("message"))
		good := false
		switch public := public.(type) {
		case *ecdsa.PublicKey:
			good = ecdsa.VerifyASN1(public, digest[:], signature)
		case ed25519.PublicKey:
			good = ed25519.Verify(public, []byte("message"), signature)
		case *rsa.PublicKey:
			good = rsa.VerifyPSS(public, 5, digest[:], signature, nil) == nil || rsa.VerifyPKCS1v15(public, 5, digest[:], signature) == nil
		}
		assert.True(t, good, "%T", public)

		items := make([]object, 100)
		for i := range items {
			items[i] = object{"input": b64(fmt.Sprint(i)), "reference": fmt.Sprint(i)}
		}
		batch, err := c.write(mount+"sign/"+name, object{"batch_input": items})
		require.NoError(t, err)
		for i, one := range batch["batch_results"].([]any) {
			result := one.(object)
			assert.Equal(t, fmt.Sprint(i), result["reference"])
			assert.Equal(t, json.Number("1"), result["key_version"])
			items[i]["signature"] = result["signature"]
		}
		verified, err := c.write(mount+"verify/"+name, object{"batch_input": items})
		require.NoError(t, err)
		for _, one := range verified["batch_results"].([]any) {
			assert.Equal(t, true, one.(object)["valid"])
		}
		return nil
	},
	"encrypt": func(t *testing.T, c stock, mount, name string) error {
		sealed, err := c.write(mount+"encrypt/"+name, object{"plaintext": b64("secret")})
		if err != nil {
			return err
		}
		opened, err := c.write(mount+"decrypt/"+name, object{"ciphertext": sealed["ciphertext"]})
		require.NoError(t, err)
		assert.Equal(t, b64("secret"), opened["plaintext"])
		key, err := c.write(mount+"datakey/plaintext/"+name, nil)
		require.NoError(t, err)
		opened, err = c.write(mount+"decrypt/"+name, object{"ciphertext": key["ciphertext"]})
		require.NoError(t, err)
		assert.Equal(t, key["plaintext"], opened["plaintext"])
		// Associated data is authenticated or refused, and never dropped.
		sealed, err = c.write(mount+"encrypt/"+name, object{"plaintext": b64("secret"), "associated_data": b64("a")})
		if strings.Contains(name, "rsa") {
			require.ErrorContains(t, err, "associated_data provided for non-AEAD cipher suite rsa-2048")
			return nil
		}
		require.NoError(t, err)
		_, err = c.write(mount+"decrypt/"+name, object{"ciphertext": sealed["ciphertext"], "associated_data": b64("b")})
		require.ErrorContains(t, err, "cipher: message authentication failed")
		return nil
	},
	"hmac": macOp("hmac"),
	"cmac": macOp("cmac"),
}

func macOp(kind string) func(t *testing.T, c stock, mount, name string) error {
	return func(t *testing.T, c stock, mount, name string) error {
		made, err := c.write(mount+kind+"/"+name, object{"input": b64("message")})
		if err != nil {
			return err
		}
		for input, want := range map[string]bool{"message": true, "other": false} {
			checked, err := c.write(mount+"verify/"+name, object{"input": b64(input), kind: made[kind]})
			require.NoError(t, err)
			assert.Equal(t, want, checked["valid"])
		}
		return nil
	}
}
