package transit

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// vaultVectors are keys that the module github.com/hashicorp/vault/sdk v0.25.1 (helper/keysutil) made and backed up, with three
// versions each, and what it made with them.
//
//go:embed testdata/vault.json
var vaultVectors []byte

type vaultVector struct {
	Name, Type, Backup string
	Items              []struct {
		Op, Value, Plaintext, AAD, Context, Nonce, Hash, Algorithm, Marshaling string
	}
}

func readVectors(tb testing.TB) []vaultVector {
	var vectors []vaultVector
	if err := json.Unmarshal(vaultVectors, &vectors); err != nil || len(vectors) < 15 {
		tb.Fatalf("%d vectors, %v", len(vectors), err)
	}
	return vectors
}

// What Vault encrypted, signed and authenticated is decrypted and verified with its key; and where there is one right answer, it
// is also ours, to the byte.
func TestVaultKeys(t *testing.T) {
	for _, vector := range readVectors(t) {
		t.Run(vector.Name, func(t *testing.T) {
			e, ctx := newSoftHouse(t).engine, t.Context()
			if err := e.Restore(ctx, "", vector.Backup, false); err != nil {
				t.Fatal(err)
			}
			info, err := e.Key(vector.Name)
			if err != nil || info.Type != vector.Type || info.LatestVersion != 3 {
				t.Fatalf("got %+v, %v", info, err)
			}
			done := map[string]int{}
			for _, item := range vector.Items {
				number, _, err := parse("value", item.Value)
				if err != nil {
					t.Fatal(err)
				}
				done[item.Op]++
				switch item.Op {
				case "encrypt":
					r := DecryptRequest{Ciphertext: item.Value, AssociatedData: []byte(item.AAD), Context: []byte(item.Context), Nonce: []byte(item.Nonce)}
					plaintext, err := e.Decrypt(ctx, vector.Name, r)
					if err != nil || string(plaintext) != item.Plaintext {
						t.Errorf("decrypt %s: %q, %v", item.Value, plaintext, err)
					}
					again, err := e.Encrypt(ctx, vector.Name, EncryptRequest{
						Plaintext: []byte(item.Plaintext), AssociatedData: r.AssociatedData, Context: r.Context, Nonce: r.Nonce, KeyVersion: number})
					if err != nil || (again == item.Value) != info.Convergent {
						t.Errorf("encrypt: %s, %v; theirs is %s, convergent %t", again, err, item.Value, info.Convergent)
					}
				case "sign":
					r := SignRequest{Input: []byte(item.Plaintext), HashAlgorithm: item.Hash, SignatureAlgorithm: item.Algorithm,
						Marshaling: item.Marshaling, Context: []byte(item.Context), KeyVersion: number}
					if ok, err := e.Verify(ctx, vector.Name, item.Value, r); !ok || err != nil {
						t.Errorf("verify %s: %t, %v", item.Value, ok, err)
					}
					again, err := e.Sign(ctx, vector.Name, r)
					if err != nil || (again == item.Value) != (info.Type == TypeEd25519 || item.Algorithm == "pkcs1v15") {
						t.Errorf("sign: %s, %v; theirs is %s", again, err, item.Value)
					}
				case "hmac":
					r := MACRequest{Input: []byte(item.Plaintext), KeyVersion: number}
					if again, err := e.HMAC(ctx, vector.Name, r); err != nil || again != item.Value {
						t.Errorf("HMAC: %s, %v; theirs is %s", again, err, item.Value)
					}
				default:
					t.Fatalf("operation %q", item.Op)
				}
			}
			if done["hmac"] == 0 || done["encrypt"]+done["sign"] == 0 && info.Type != TypeHMAC {
				t.Errorf("did only %v", done)
			}
		})
	}
}

// Versions that Vault has archived are found, and those that it has trimmed are not missed.
func TestVaultWindow(t *testing.T) {
	want := map[string][3]int{"aes256": {1, 0, 1}, "aes128": {2, 2, 1}, "chacha": {3, 3, 2}} // min decryption, min encryption, first
	for _, vector := range readVectors(t) {
		w, ok := want[vector.Name]
		if !ok {
			continue
		}
		e := newSoftHouse(t).engine
		if err := e.Restore(t.Context(), "copy", vector.Backup, false); err != nil {
			t.Fatal(err)
		}
		info, err := e.Key("copy")
		if got := [3]int{info.MinDecryptionVersion, info.MinEncryptionVersion, info.Versions[0].Version}; err != nil || got != w {
			t.Errorf("%s: got %v, %v; want %v", vector.Name, got, err, w)
		}
		if !info.Exportable || !info.AllowPlaintextBackup || info.Versions[0].Created.IsZero() {
			t.Errorf("%s: got %+v", vector.Name, info)
		}
		delete(want, vector.Name)
	}
	if len(want) > 0 {
		t.Errorf("there are no vectors for %v", want)
	}
}

// A key that Vault made is backed up and restored in this package's own format and rotated, and all versions still work.
func TestVaultKeysGoOn(t *testing.T) {
	for _, vector := range readVectors(t) {
		if !strings.HasPrefix(vector.Name, "aes256-") {
			continue
		}
		e, ctx := newSoftHouse(t).engine, t.Context()
		if err := e.Restore(ctx, "old", vector.Backup, false); err != nil {
			t.Fatal(err)
		}
		if err := e.Rotate(ctx, "old", ""); err != nil {
			t.Fatal(err)
		}
		copied, err := e.Backup(ctx, "old")
		if err == nil {
			err = e.Restore(ctx, "new", copied, false)
		}
		if err != nil {
			t.Fatal(err)
		}
		item := vector.Items[0]
		rewrapped, err := e.Rewrap(ctx, "new", RewrapRequest{Ciphertext: item.Value, Context: []byte(item.Context), Nonce: []byte(item.Nonce)})
		if err != nil || !strings.HasPrefix(rewrapped, "vault:v4:") {
			t.Fatalf("%s: %s, %v", vector.Name, rewrapped, err)
		}
		plaintext, err := e.Decrypt(ctx, "old", DecryptRequest{Ciphertext: rewrapped, Context: []byte(item.Context)})
		if err != nil || string(plaintext) != item.Plaintext {
			t.Errorf("%s: %q, %v", vector.Name, plaintext, err)
		}
	}
}

func TestVaultBackupRefused(t *testing.T) {
	good := func(edit func(policy map[string]any)) string {
		data, err := base64.StdEncoding.DecodeString(readVectors(t)[0].Backup)
		if err != nil {
			t.Fatal(err)
		}
		var all map[string]any
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		if err := dec.Decode(&all); err != nil {
			t.Fatal(err)
		}
		edit(all["policy"].(map[string]any))
		if data, err = json.Marshal(all); err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(data)
	}
	e := newSoftHouse(t).engine
	for name, c := range map[string]struct {
		edit     func(p map[string]any)
		sentinel error
		text     string
	}{
		"type":        {func(p map[string]any) { p["type"] = 99 }, backend.ErrUnsupported, "type 99"},
		"managed":     {func(p map[string]any) { p["type"] = 10 }, backend.ErrUnsupported, "type 10"},
		"other type":  {func(p map[string]any) { p["type"] = 1 }, backend.ErrInvalidParams, "no private key of type ecdsa-p256"},
		"KDF":         {func(p map[string]any) { p["derived"], p["kdf"] = true, 0 }, backend.ErrUnsupported, "key derivation 0"},
		"versions":    {func(p map[string]any) { p["latest_version"] = 9 }, backend.ErrInvalidParams, "version 4 is missing"},
		"no versions": {func(p map[string]any) { p["latest_version"] = 0 }, backend.ErrInvalidParams, "latest version 0"},
		"window":      {func(p map[string]any) { p["min_decryption_version"] = 4 }, backend.ErrInvalidParams, "minimum versions"},
		"number":      {func(p map[string]any) { p["latest_version"] = "x" }, backend.ErrInvalidParams, "can't be read"},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, e.Restore(t.Context(), "k", good(c.edit), false), c.sentinel, c.text)
		})
	}
	if err := e.Restore(t.Context(), "k", good(func(map[string]any) {}), false); err != nil {
		t.Error(err)
	}
}
