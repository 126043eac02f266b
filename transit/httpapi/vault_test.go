package httpapi

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestVaultKeys: what Vault made with its keys verifies and decrypts over HTTP, and where there is one right answer, it is that.
func TestVaultKeys(t *testing.T) {
	text, err := os.ReadFile("../testdata/vault.json")
	require.NoError(t, err)
	var vectors []struct {
		Name, Type, Backup string
		Items              []struct {
			Op, Value, Plaintext, AAD, Context, Nonce, Hash, Algorithm, Marshaling string
		}
	}
	require.NoError(t, json.Unmarshal(text, &vectors))
	require.GreaterOrEqual(t, len(vectors), 15)
	g := newRig(t, nil, nil)
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			g.post(204, "restore", object{"backup": v.Backup})
			data := g.get(200, "keys/"+v.Name).data
			assert.Equal(t, v.Type, data["type"])
			var ciphertexts, plaintexts []object
			for _, item := range v.Items {
				number, _, _ := strings.Cut(strings.TrimPrefix(item.Value, "vault:v"), ":")
				version, err := strconv.Atoi(number)
				require.NoError(t, err)
				with := func(fields object) object {
					for name, value := range map[string]string{"associated_data": item.AAD, "context": item.Context, "nonce": item.Nonce} {
						if value != "" {
							fields[name] = b64(value)
						}
					}
					return fields
				}
				switch item.Op {
				case "encrypt":
					ciphertexts = append(ciphertexts, with(object{"ciphertext": item.Value}))
					plaintexts = append(plaintexts, object{"plaintext": b64(item.Plaintext), "reference": ""})
					again := g.post(200, "encrypt/"+v.Name, with(object{"plaintext": b64(item.Plaintext), "key_version": version}))
					assert.Equal(t, data["convergent_encryption"] == true, again.data["ciphertext"] == item.Value)
				case "sign":
					fields := with(object{"input": b64(item.Plaintext), "hash_algorithm": item.Hash, "signature_algorithm": item.Algorithm, "marshaling_algorithm": item.Marshaling})
					fields["signature"] = item.Value
					assert.Equal(t, true, g.post(200, "verify/"+v.Name, fields).data["valid"], item.Value)
					fields["input"] = b64(item.Plaintext + "x")
					assert.Equal(t, false, g.post(200, "verify/"+v.Name, fields).data["valid"], item.Value)
				case "hmac":
					made := g.post(200, "hmac/"+v.Name, object{"input": b64(item.Plaintext), "key_version": version})
					assert.Equal(t, item.Value, made.data["hmac"])
					assert.Equal(t, true, g.post(200, "verify/"+v.Name, object{"input": b64(item.Plaintext), "hmac": item.Value}).data["valid"])
				default:
					t.Fatal(item.Op)
				}
			}
			if len(ciphertexts) > 0 { // all at once
				results := g.post(200, "decrypt/"+v.Name, object{"batch_input": ciphertexts}).results(t)
				for i := range results {
					assert.Equal(t, plaintexts[i], results[i])
				}
			}
		})
	}
}
