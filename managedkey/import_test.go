package managedkey

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/awskms"
	"github.com/managedkeys/managedkeys/backend/azurekeyvault"
	"github.com/managedkeys/managedkeys/backend/gcpckms"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/namespace"
)

// What Vault answers to reads: the first is the sample of its documentation, with a library of ours.
const (
	vaultHSM = `{"UUID": "af0a688e-d2c1-fc07-b365-40325674114d", "allow_generate_key": true, "allow_replace_key": false, "allow_store_key": false,
		"any_mount": false, "curve": "", "force_rw_session": false, "key_bits": 0, "key_label": "test-kms-root", "library": "softhsm", "mechanism": 1,
		"name": "hsm-key1", "pin": "redacted", "slot": 1, "token_label": "", "type": "pkcs11"}`
	vaultAWS = `{"request_id": "7d9c", "lease_id": "", "lease_duration": 0, "renewable": false, "data": {"name": "aws-key", "type": "awskms", "UUID": "u-2",
		"allow_generate_key": "true", "any_mount": "true", "usages": "sign,verify,random", "kms_key": "alias/ca", "key_type": "rsa", "key_bits": "2048", "curve": "",
		"region": "eu-central-1", "access_key": "redacted", "secret_key": "redacted", "endpoint": "", "rotation_period": "24h"}, "warnings": ["mind the gap"]}`
	vaultAzure = `{"data": {"name": "azure-key", "type": "azurekeyvault", "tenant_id": "t", "client_id": "c", "client_secret": "redacted", "environment": "AZUREPUBLICCLOUD",
		"vault_name": "myvault", "key_name": "ca", "resource": "vault.azure.net", "key_type": "RSA-HSM", "key_bits": "3072", "usages": ["sign", "verify"]}}`
	vaultGCP = `{"name": "gcp-key", "type": "gcpckms", "credentials": "file:/etc/gcp.json", "project": "p-1", "region": "global", "key_ring": "ring", "crypto_key": "ca",
		"crypto_key_version": "2", "algorithm": "EC_SIGN_P256_SHA256", "usages": null}`
)

// fillAll gives each secret a value that names it, and keys that have no mechanism one.
func fillAll(ref namespace.Ref, field string) (string, error) {
	if field == "mechanism" {
		return "CKM_ECDSA", nil
	}
	return "12345678 " + ref.Name + " " + field, nil
}

// TestImportManagedKeys: what Vault answers becomes entries that can be created, with grants, and warnings about the rest.
func TestImportManagedKeys(t *testing.T) {
	soft := hsm{libraries: "softhsm"}
	all := append(clouds(t), soft)
	opts := &ImportOptions{Namespace: "team-a", Backends: all, Fill: fillAll, Mounts: []byte(`{"request_id": "1", "data": {
		"pki/": {"type": "pki", "config": {"allowed_managed_keys": ["hsm-key1", "gone", "u-2"]}}, "a/transit/": {"config": {"allowed_managed_keys": ["hsm-key1"]}}, "kv/": {"config": {}}}, "pki/": {}}`)}
	text := vaultHSM + "\n[" + vaultAWS + "," + vaultAzure + `] ["hsm-key1"] {"data": {"keys": ["aws-key"]}} {"keys": ["azure-key"]}` + vaultGCP
	r := NewRegistry()
	got, err := r.ImportManagedKeys([]byte(text), opts)
	require.NoError(t, err)
	at := func(name string, b backend.Backend, p backend.Params) Entry {
		return Entry{Ref: namespace.Ref{Namespace: "team-a", Name: name}, Backend: b, Params: p}
	}
	aws := at("aws-key", all[0], awskms.Params{KMSKey: "alias/ca", KeyType: awskms.RSA, KeyBits: 2048, Region: "eu-central-1",
		AccessKey: "12345678 aws-key access_key", SecretKey: "12345678 aws-key secret_key"})
	aws.AllowGenerateKey, aws.AnyMount, aws.Usages = true, true, backend.UsageDefault|backend.UsageGenerateRandom
	azure := at("azure-key", all[1], azurekeyvault.Params{TenantID: "t", ClientID: "c", ClientSecret: "12345678 azure-key client_secret", Environment: "AZUREPUBLICCLOUD",
		VaultName: "myvault", Resource: "vault.azure.net", KeyName: "ca", KeyType: azurekeyvault.RSAHSM, KeyBits: 3072})
	azure.Usages = backend.UsageDefault
	one := at("hsm-key1", soft, pkcs11.Params{Library: "softhsm", Slot: "1", KeyLabel: "test-kms-root", Mechanism: pkcs11.RSAPKCS, PIN: "12345678 hsm-key1 pin"})
	one.AllowGenerateKey = true
	assert.Equal(t, Imports{
		Keys: []Imported{
			{Entry: aws, UUID: "u-2", Mounts: []string{"pki"}, Warnings: []string{`field "rotation_period" has no meaning here and is left out`}},
			{Entry: azure},
			{Entry: at("gcp-key", all[2], gcpckms.Params{Credentials: "file:/etc/gcp.json", Project: "p-1", Region: "global", KeyRing: "ring", CryptoKey: "ca", CryptoKeyVersion: "2", Algorithm: "EC_SIGN_P256_SHA256"})},
			{Entry: one, UUID: "af0a688e-d2c1-fc07-b365-40325674114d", Mounts: []string{"a/transit", "pki"}},
		},
		Warnings: []string{`the other system says: "mind the gap"`, `mount "pki/" was granted "gone", which is not among the keys`},
	}, got)
	for _, key := range got.Keys {
		require.NoError(t, r.Create(t.Context(), key.Entry))
	}
	for _, path := range []string{"pki", "a/transit"} {
		m := mustMount(t, r, "team-a", path)
		for _, key := range got.Keys {
			for _, granted := range key.Mounts {
				if granted == path {
					require.NoError(t, r.Grant(t.Context(), m, key.Entry.Ref.Name))
				}
			}
		}
	}
	_, err = r.ImportManagedKeys([]byte(text+text), opts)
	check(t, err, backend.ErrInvalidParams, "there is another key of that name")
}

// TestImportFromConnections: keys go to the connection that has their library, and credentials that a backend has itself are left out.
func TestImportFromConnections(t *testing.T) {
	r := stored(t, Connection{Name: "one", Backend: hsm{libraries: "softhsm"}}, Connection{Name: "two", Backend: hsm{libraries: "other"}}, Connection{Name: "aws", Backend: clouds(t)[0]})
	got, err := r.ImportManagedKeys([]byte(vaultHSM+vaultAWS), &ImportOptions{Fill: func(ref namespace.Ref, field string) (string, error) {
		if field == "pin" {
			return "env:HSM_PIN", nil
		}
		return "", nil
	}})
	require.NoError(t, err)
	assert.Equal(t, awskms.Params{KMSKey: "alias/ca", KeyType: awskms.RSA, KeyBits: 2048, Region: "eu-central-1"}, got.Keys[0].Entry.Params)
	assert.Equal(t, "one", got.Keys[1].Entry.Connection)
	for _, key := range got.Keys {
		assert.NoError(t, r.Create(t.Context(), key.Entry))
	}
}

// TestImportManagedKeysRefuses: all that is wrong is said at once, by key and field, and no secret shows.
func TestImportManagedKeysRefuses(t *testing.T) {
	opts := &ImportOptions{Backends: append(clouds(t), hsm{libraries: "softhsm"})}
	_, err := NewRegistry().ImportManagedKeys([]byte(vaultHSM+vaultAWS), opts)
	check(t, err, backend.ErrInvalidParams, `import "hsm-key1" (pkcs11): field pin isn't told by the other system`, `import "aws-key" (awskms): field access_key`)
	for text, says := range map[string]string{
		`x`: "answer 1 is not JSON", vaultGCP + ` {"a"`: "answer 2 is not JSON", `3`: "one JSON object", `null`: "one JSON object", `[[]]`: "one JSON object",
		`{}`: "field ", `{"errors": ["permission denied"]}`: "it is an error", `{"data": null}`: "field data: it takes an object", `{"keys": 3}`: "takes a list",
		`["absent"]`: `import "absent": it is listed, but was not read`, `{"name": "a", "type": "gcpckms"}`: "project: is missing",
		`{"name": "a", "type": "ssh"}`: `no backend is of type "ssh"`, `{"name": "A", "type": "gcpckms"}`: "project",
		`{"name": "a", "name": "b", "type": "gcpckms"}`: "given twice", strings.Replace(vaultGCP, "gcp-key", "GCP", 1): "key name",
		strings.Replace(vaultHSM, "softhsm", "nitro", 1): "pin", strings.Replace(vaultHSM, `"slot": 1`, `"slot": "x"`, 1): "field slot",
		strings.Replace(vaultGCP, "null", `"guess"`, 1): `"guess" is not one of`, strings.Replace(vaultGCP, "null", `3`, 1): "field usages",
	} {
		_, err := NewRegistry().ImportManagedKeys([]byte(text), opts)
		check(t, err, backend.ErrInvalidParams, says)
	}
	opts.Fill = func(namespace.Ref, string) (string, error) { return "", errors.New("nobody knows") }
	_, err = NewRegistry().ImportManagedKeys([]byte(vaultHSM), opts)
	check(t, err, backend.ErrInvalidParams, "field pin: nobody knows")
	for _, mounts := range []string{"[]", `{"pki/": {"config": {"allowed_managed_keys": "a"}}}`, `{"request_id": "1"}`} {
		opts.Mounts = []byte(mounts)
		_, err = NewRegistry().ImportManagedKeys(nil, opts)
		check(t, err, backend.ErrInvalidParams, "ImportOptions.Mounts")
	}
	_, err = NewRegistry().ImportManagedKeys([]byte(vaultGCP), nil)
	check(t, err, backend.ErrInvalidParams, "without a store has no connections")
}

// bao is what OpenBao 2.7 answers.
func baoAnswers() map[string]json.RawMessage {
	out := make(map[string]json.RawMessage)
	for path, text := range map[string]string{
		"configs":                               `{"data": {"keys": ["my-hsm", "my-transit"]}}`,
		"configs/my-hsm":                        `{"request_id": "1", "data": {"plugin": "pkcs11", "lib": "softhsm", "pin": "(redacted)", "slot": 5, "disable_software_encryption": true}}`,
		"sys/external-keys/configs/my-hsm/keys": `["CA", "data"]`,
		"/v1/sys/external-keys/configs/my-hsm/keys/CA": `{"data": {"label": "my ca", "id": "0a0B", "mechanism": "rsa-pkcs-pss", "rsa_oaep_hash": ""}}`,
		"configs/my-hsm/keys/CA/grants/":               `{"data": {"keys": ["pki/", "a/pki/"]}}`,
		"configs/my-hsm/keys/data":                     `{"label": "data", "rsa_oaep_hash": "sha256"}`,
		"configs/my-hsm/keys/data/grants":              `{"errors": []}`,
		"configs/my-transit":                           `{"data": {"plugin": "transit", "address": "https://x", "token": "(redacted)"}}`,
		"configs/my-transit/keys/t":                    `{"data": {"name": "t", "version": 3}}`,
	} {
		out[path] = json.RawMessage(text)
	}
	return out
}

// TestImportExternalKeys: OpenBao's configs, keys and grants become entries.
func TestImportExternalKeys(t *testing.T) {
	soft := hsm{libraries: "softhsm"}
	opts := &ImportOptions{Namespace: "team-a", Backends: []backend.Backend{soft}, Fill: func(ref namespace.Ref, field string) (string, error) {
		return map[string]string{"pin": "env:HSM_PIN", "mechanism": "CKM_AES_GCM"}[field], nil
	}}
	r := NewRegistry()
	got, err := r.ImportExternalKeys(baoAnswers(), opts)
	require.NoError(t, err)
	at := func(name string, p pkcs11.Params) Entry {
		p.Library, p.PIN, p.Slot = "softhsm", "env:HSM_PIN", "5"
		return Entry{Ref: namespace.Ref{Namespace: "team-a", Name: name}, Backend: soft, Params: p, Usages: openBaoUsages}
	}
	const disabled = `field "disable_software_encryption" has no meaning here and is left out`
	assert.Equal(t, Imports{
		Keys: []Imported{
			{Entry: at("ca", pkcs11.Params{KeyLabel: "my ca", KeyID: "0x0a0B", Mechanism: pkcs11.RSAPKCSPSS}), Mounts: []string{"a/pki", "pki"},
				Warnings: []string{`key "CA" of config "my-hsm" is named "ca" here`, disabled}},
			{Entry: at("data", pkcs11.Params{KeyLabel: "data", Mechanism: pkcs11.AESGCM}),
				Warnings: []string{disabled, `field "rsa_oaep_hash" has no meaning here and is left out`}},
		},
		Warnings: []string{`key "t" of config "my-transit" is left out: there is no backend for the plugin "transit"`},
	}, got)
	for _, key := range got.Keys {
		assert.NoError(t, r.Create(t.Context(), key.Entry))
	}

	two := baoAnswers()
	two["configs/b"] = json.RawMessage(`{"plugin": "pkcs11", "lib": "softhsm", "pin": "(redacted)", "slot": "0x10", "serial": "77", "token_label": "hall"}`)
	two["configs/b/keys/data"] = json.RawMessage(`{"label": "data", "mechanism": "0x1087"}`)
	got, err = r.ImportExternalKeys(two, opts)
	require.NoError(t, err)
	assert.Equal(t, "b-data", got.Keys[0].Entry.Ref.Name)
	assert.Equal(t, pkcs11.Params{Library: "softhsm", TokenLabel: "hall", TokenSerial: "77", KeyLabel: "data", PIN: "env:HSM_PIN", Mechanism: pkcs11.AESGCM}, got.Keys[0].Entry.Params)
	assert.Contains(t, fmt.Sprint(got.Keys[0].Warnings), "field slot")
	assert.Equal(t, "my-hsm-data", got.Keys[2].Entry.Ref.Name)
}

// TestImportExternalKeysRefuses: what is missing, given twice or malformed.
func TestImportExternalKeysRefuses(t *testing.T) {
	opts := &ImportOptions{Backends: []backend.Backend{hsm{libraries: "softhsm"}}, Fill: fillAll}
	for _, c := range []struct{ path, text, says string }{
		{"configs/my-hsm", "", "is not among the answers"}, // "" takes a path away
		{"configs/my-hsm/keys/data", "", `import "data": a read of what a list has`},
		{"configs/other/keys/x", "{}", "of config \"other\" is not among the answers"},
		{"configs/my-hsm/keys/x/grants", `["pki/"]`, "a read of the key"},
		{"configs/my-hsm/keys/data", `{"label": "data", "mechanism": "rot13"}`, "rot13"},
		{"configs/my-hsm/keys/data", `{"label": "data", "id": 3, "mechanism": "ecdsa"}`, "it takes a string"},
		{"configs/my-hsm/keys/data", `{"mechanism": "ecdsa"}`, "key_label, key_id"},
		{"configs/my-hsm", `{"plugin": 3}`, "field plugin"},
		{"configs/my-hsm", `{"plugin": "pkcs11", "lib": "nitro", "slot": 1, "pin": "(redacted)"}`, "not configured"},
		{"configs/my-hsm", `[]`, "one JSON object"},
		{"configs/my-hsm", `{"errors": ["denied"]}`, "it is an error"},
		{"configs/my-hsm/keys", `{"keys": 1}`, "takes a list of names"},
		{"v1/sys/external-keys/configs/my-hsm", `{}`, "given twice"},
		{"", "{}", "it takes configs/CONFIG"}, {"configs//keys", "{}", "it takes configs/CONFIG"}, {"configs/a/grants", "{}", "it takes configs/CONFIG"},
		{"configs/a/keys/b/grants/pki", "{}", "it takes configs/CONFIG"}, {"mounts", "{}", "it takes configs/CONFIG"},
	} {
		answers := baoAnswers()
		if answers[c.path] = json.RawMessage(c.text); c.text == "" {
			delete(answers, c.path)
		}
		_, err := NewRegistry().ImportExternalKeys(answers, opts)
		check(t, err, backend.ErrInvalidParams, c.says)
		assert.NotContains(t, err.Error(), testPIN)
	}
	opts.Fill = nil
	_, err := NewRegistry().ImportExternalKeys(baoAnswers(), opts)
	check(t, err, backend.ErrInvalidParams, "field mechanism isn't told by the other system")
}

// imported checks what every import keeps: an error that is ErrInvalidParams, or entries that can be created.
func imported(t *testing.T, got Imports, err error) {
	if err != nil {
		if !errors.Is(err, backend.ErrInvalidParams) {
			t.Fatal(err)
		}
		return
	}
	r := NewRegistry()
	for _, key := range got.Keys {
		require.NoError(t, r.Create(t.Context(), key.Entry))
	}
}

func FuzzImportManagedKeys(f *testing.F) {
	for _, seed := range []string{vaultHSM, vaultAWS, vaultAzure, vaultGCP, `["a"] [{"keys": ["a"]}]`} {
		f.Add([]byte(seed), []byte(`{"pki/": {"config": {"allowed_managed_keys": ["hsm-key1"]}}}`))
	}
	soft := hsm{libraries: "softhsm"}
	f.Fuzz(func(t *testing.T, data, mounts []byte) {
		got, err := NewRegistry().ImportManagedKeys(data, &ImportOptions{Backends: []backend.Backend{soft}, Fill: fillAll, Mounts: mounts})
		imported(t, got, err)
	})
}

func FuzzImportExternalKeys(f *testing.F) {
	a := baoAnswers()
	f.Add([]byte(a["configs/my-hsm"]), "CA", []byte(`{"label": "a", "id": "0x01", "mechanism": "ecdsa"}`), []byte(`["pki/"]`))
	f.Add([]byte(`{"data": {"plugin": "pkcs11", "slot": 0, "serial": "1"}}`), "a/b", []byte(`{}`), []byte(`{"errors": []}`))
	soft := hsm{libraries: "softhsm"}
	f.Fuzz(func(t *testing.T, config []byte, name string, key, grants []byte) {
		got, err := NewRegistry().ImportExternalKeys(map[string]json.RawMessage{
			"configs/c": config, "configs/c/keys/" + name: key, "configs/c/keys/" + name + "/grants": grants,
		}, &ImportOptions{Backends: []backend.Backend{soft}, Fill: fillAll})
		imported(t, got, err)
	})
}
