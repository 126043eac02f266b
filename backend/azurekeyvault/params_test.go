package azurekeyvault

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

func TestParamsJSON(t *testing.T) {
	const text = `{"tenant_id":"t","client_id":"c","client_secret":"s3cret","environment":"AZUREPUBLICCLOUD","vault_name":"myvault",
		"resource":"managedhsm.azure.net","key_name":"k","key_version":"0123456789abcdef0123456789abcdef","key_type":"rsa-hsm","key_bits":2048,
		"key_ops":"sign,verify"}`
	var p Params
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&p))
	assert.Equal(t, Params{
		TenantID: "t", ClientID: "c", ClientSecret: "s3cret", Environment: "AZUREPUBLICCLOUD", VaultName: "myvault", Resource: "managedhsm.azure.net",
		KeyName: "k", KeyVersion: "0123456789abcdef0123456789abcdef", KeyType: RSAHSM, KeyBits: 2048, KeyOps: "sign,verify",
	}, p)
	require.NoError(t, p.Validate())
	assert.Equal(t, Type, p.BackendType())
	out, err := json.Marshal(p)
	require.NoError(t, err)
	assert.NotContains(t, string(out), "s3cret")
	assert.Contains(t, string(out), `"client_secret":"redacted"`)
	for text, want := range map[string]Params{
		`{"key_type":"EC","curve":"p-256"}`:          {KeyType: EC, Curve: P256},
		`{"key_type":"ec-hsm","curve":"P256K"}`:      {KeyType: ECHSM, Curve: P256K},
		`{"key_type":"OCT-HSM"}`:                     {KeyType: OctHSM},
		`{"key_type":"OKP","curve":"secp256k1-x-y"}`: {KeyType: "OKP", Curve: "secp256k1-x-y"},
	} {
		var p Params
		require.NoError(t, json.Unmarshal([]byte(text), &p))
		assert.Equal(t, want, p)
	}
}

func TestValidate(t *testing.T) {
	good := Params{VaultName: "my-vault", KeyName: "key-1"}
	for name, change := range map[string]func(*Params){
		"as it is":        func(*Params) {},
		"no vault":        func(p *Params) { p.VaultName = "" },
		"long name":       func(p *Params) { p.KeyName = strings.Repeat("k", 127) },
		"version":         func(p *Params) { p.KeyVersion = zeros },
		"RSA":             func(p *Params) { p.KeyType, p.KeyBits = RSA, 3072 },
		"EC":              func(p *Params) { p.KeyType, p.Curve = EC, P256K },
		"oct":             func(p *Params) { p.KeyType, p.KeyBits, p.KeyOps = OctHSM, 192, "sign , verify" },
		"own domain":      func(p *Params) { p.Resource = "vault.local.azurestack.example" },
		"resource as URL": func(p *Params) { p.Resource = "https://Vault.Azure.net/" },
		"24 letters":      func(p *Params) { p.VaultName = strings.Repeat("v", 24) },
	} {
		p := good
		change(&p)
		assert.NoError(t, p.Validate(), name)
	}
	for name, c := range map[string]struct {
		change func(*Params)
		field  string
	}{
		"no key":                {func(p *Params) { p.KeyName = "" }, "key_name"},
		"long key":              {func(p *Params) { p.KeyName = strings.Repeat("k", 128) }, "key_name"},
		"slash in key":          {func(p *Params) { p.KeyName = "a/b" }, "key_name"},
		"line break in key":     {func(p *Params) { p.KeyName = "a\n" }, "key_name"},
		"short version":         {func(p *Params) { p.KeyVersion = "1" }, "key_version"},
		"version with slash":    {func(p *Params) { p.KeyVersion = zeros[:31] + "/" }, "key_version"},
		"type":                  {func(p *Params) { p.KeyType = "Ed25519" }, "key_type"},
		"type in another case":  {func(p *Params) { p.KeyType = "rsa" }, "key_type"},
		"bits without type":     {func(p *Params) { p.KeyBits = 2048 }, "key_bits"},
		"1024 bits":             {func(p *Params) { p.KeyType, p.KeyBits = RSA, 1024 }, "key_bits"},
		"bits of EC":            {func(p *Params) { p.KeyType, p.KeyBits = EC, 256 }, "key_bits"},
		"negative bits":         {func(p *Params) { p.KeyType, p.KeyBits = RSA, -2048 }, "key_bits"},
		"curve without type":    {func(p *Params) { p.Curve = P256 }, "curve"},
		"curve of RSA":          {func(p *Params) { p.KeyType, p.Curve = RSA, P256 }, "curve"},
		"unknown curve":         {func(p *Params) { p.KeyType, p.Curve = EC, "P224" }, "curve"},
		"ops":                   {func(p *Params) { p.KeyType, p.KeyOps = RSA, "sign,derive" }, "key_ops"},
		"ops of EC":             {func(p *Params) { p.KeyType, p.KeyOps = EC, "decrypt" }, "key_ops"},
		"empty op":              {func(p *Params) { p.KeyType, p.KeyOps = EC, "sign," }, "key_ops"},
		"short vault":           {func(p *Params) { p.VaultName = "ab" }, "vault_name"},
		"long vault":            {func(p *Params) { p.VaultName = strings.Repeat("v", 25) }, "vault_name"},
		"long with hyphens":     {func(p *Params) { p.VaultName = strings.Repeat("v-", 20) + "v" }, "vault_name"},
		"host as vault":         {func(p *Params) { p.VaultName = "evil.example" }, "vault_name"},
		"digit first":           {func(p *Params) { p.VaultName = "1vault" }, "vault_name"},
		"two hyphens":           {func(p *Params) { p.VaultName = "my--vault" }, "vault_name"},
		"hyphen last":           {func(p *Params) { p.VaultName = "myvault-" }, "vault_name"},
		"tenant":                {func(p *Params) { p.TenantID = "a/b" }, "tenant_id"},
		"client":                {func(p *Params) { p.ClientID = "a b" }, "client_id"},
		"environment":           {func(p *Params) { p.Environment = "AZUREGERMANCLOUD" }, "environment"},
		"resource with path":    {func(p *Params) { p.Resource = "vault.azure.net/x" }, "resource"},
		"resource without dot":  {func(p *Params) { p.Resource = "localhost" }, "resource"},
		"resource with port":    {func(p *Params) { p.Resource = "vault.azure.net:443" }, "resource"},
		"resource and cloud":    {func(p *Params) { p.Environment, p.Resource = "AZURECHINACLOUD", "vault.azure.net" }, "resource"},
		"plain http":            {func(p *Params) { p.Resource = "http://vault.azure.net" }, "resource"},
		"resource of 300 bytes": {func(p *Params) { p.Resource = strings.Repeat("a.", 150) + "a" }, "resource"},
	} {
		p := good
		c.change(&p)
		err := p.Validate()
		assert.ErrorIs(t, err, backend.ErrInvalidParams, name)
		assert.ErrorContains(t, err, "azurekeyvault: "+c.field+": ", name)
		assert.Less(t, len(fmt.Sprint(err)), 500, name)
	}
}

// TestPlace: from fields and environment variables to URL and authority.
func TestPlace(t *testing.T) {
	for name, c := range map[string]struct {
		env       map[string]string
		p         Params
		url, name string
	}{
		"nothing":            {nil, Params{}, "https://v.vault.azure.net", "AZUREPUBLICCLOUD"},
		"HSM":                {nil, Params{Resource: "managedhsm.azure.net"}, "https://v.managedhsm.azure.net", "AZUREPUBLICCLOUD"},
		"cloud":              {nil, Params{Environment: "azureusgovernment"}, "https://v.vault.usgovcloudapi.net", "AZUREUSGOVERNMENTCLOUD"},
		"cloud by env":       {map[string]string{"AZURE_ENVIRONMENT": "AZURECHINACLOUD"}, Params{}, "https://v.vault.azure.cn", "AZURECHINACLOUD"},
		"field before env":   {map[string]string{"AZURE_ENVIRONMENT": "AZURECHINACLOUD"}, Params{Environment: "AZURECLOUD"}, "https://v.vault.azure.net", "AZUREPUBLICCLOUD"},
		"resource says it":   {map[string]string{"AZURE_ENVIRONMENT": "AZURECHINACLOUD"}, Params{Resource: "vault.usgovcloudapi.net"}, "https://v.vault.usgovcloudapi.net", "AZUREUSGOVERNMENTCLOUD"},
		"resource by env":    {map[string]string{"AZURE_AD_RESOURCE": "managedhsm.azure.net"}, Params{}, "https://v.managedhsm.azure.net", "AZUREPUBLICCLOUD"},
		"own domain":         {nil, Params{Resource: "vault.stack.example"}, "https://v.vault.stack.example", "AZUREPUBLICCLOUD"},
		"own domain, cloud":  {nil, Params{Resource: "vault.stack.example", Environment: "AZURECHINACLOUD"}, "https://v.vault.stack.example", "AZURECHINACLOUD"},
		"env of no use here": {map[string]string{"AZURE_AD_RESOURCE": "managedhsm.azure.net"}, Params{Environment: "AZURECHINACLOUD"}, "https://v.vault.azure.cn", "AZURECHINACLOUD"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			at, err := c.p.place(os.Getenv)
			require.NoError(t, err)
			assert.Equal(t, c.url, at.vaultURL("V"))
			assert.Equal(t, c.name, at.environment.names[0])
		})
	}
	for _, name := range []string{"AZURE_ENVIRONMENT", "AZURE_AD_RESOURCE"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "no?where")
			_, err := Params{}.place(os.Getenv)
			assert.ErrorIs(t, err, backend.ErrInvalidParams)
			assert.ErrorContains(t, err, name)
			assert.NoError(t, Params{KeyName: "k"}.Validate(), "which looks at the fields only")
		})
	}
}

// TestAuthority: whose authority gives the tokens.
func TestAuthority(t *testing.T) {
	t.Setenv("AZURE_AUTHORITY_HOST", "https://login.example/")
	b, err := Connect(nil)
	require.NoError(t, err)
	defer b.Close()
	own, err := Connect(&Options{Client: azcore.ClientOptions{Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: "https://own.example/"}}})
	require.NoError(t, err)
	defer own.Close()
	p := Params{TenantID: "t", ClientID: "c", ClientSecret: "s", VaultName: "vault", KeyName: "k"}
	china := p
	china.Environment = "AZURECHINACLOUD"
	for name, c := range map[string]struct {
		b    *Backend
		p    Params
		want string
	}{
		"environment variable": {b, p, "https://login.example/"},
		"named cloud":          {b, china, "https://login.chinacloudapi.cn/"},
		"option":               {own, china, "https://own.example/"},
	} {
		at, err := c.b.settings(c.p)
		require.NoError(t, err)
		assert.Equal(t, c.want, at.authority, name)
	}
}

func TestVaultURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://v.vault.azure.net": "https://v.vault.azure.net", "https://V.vault.azure.net/": "https://v.vault.azure.net",
		"https://v.vault.azure.net:8443": "https://v.vault.azure.net:8443",
	} {
		u, err := parseVaultURL(text)
		require.NoError(t, err)
		assert.Equal(t, want, u.String())
	}
	for _, text := range []string{
		"", "v", "v.vault.azure.net", "http://v.vault.azure.net", "https://", "https://v.vault.azure.net/keys/k", "https://v.vault.azure.net?x=1",
		"https://v.vault.azure.net#x", "https://user:pass@v.vault.azure.net", "https://127.1.2.3.4:x", "https://[::1]", "https://v_x", "https://vault\n", "://",
	} {
		_, err := parseVaultURL(text)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, text)
		assert.NotContains(t, fmt.Sprint(err), "pass", text)
	}
}

// TestAgrees: parameters may repeat what New was told, and not contradict it.
func TestAgrees(t *testing.T) {
	b, err := New(&static{}, vaultURL, nil)
	require.NoError(t, err)
	defer b.Close()
	for name, p := range map[string]Params{
		"nothing": {}, "name": {VaultName: "Test"}, "all": {VaultName: "test", Resource: "vault.azure.net", Environment: "AZUREPUBLICCLOUD"},
		"cloud": {Environment: "AZURECLOUD"},
	} {
		assert.NoError(t, b.single.agrees(p), name)
	}
	for name, p := range map[string]Params{
		"name": {VaultName: "other"}, "HSM": {Resource: "managedhsm.azure.net"}, "cloud": {Environment: "AZURECHINACLOUD"},
		"tenant": {TenantID: "t"}, "client": {ClientID: "c"}, "secret": {ClientSecret: "s"},
	} {
		p.KeyName = "k"
		_, err := b.Open(t.Context(), p)
		assert.True(t, errors.Is(err, backend.ErrInvalidParams), "%s: %v", name, err)
	}
}
