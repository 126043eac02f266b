package azurekeyvault

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

const keyVersion = "0123456789abcdef0123456789ABCDEF"

// TestParseURI: identifiers of keys in vaults and Managed HSMs, with the credential of the scope and none of its key.
func TestParseURI(t *testing.T) {
	b, err := Connect(nil)
	require.NoError(t, err)
	defer b.Close()
	for uri, want := range map[string]Params{
		"https://myvault.vault.azure.net/keys/ca":                       {VaultName: "myvault", Resource: "vault.azure.net", KeyName: "ca"},
		"https://MyVault.vault.azure.net/keys/Issuing-CA/" + keyVersion: {VaultName: "myvault", Resource: "vault.azure.net", KeyName: "Issuing-CA", KeyVersion: keyVersion},
		"https://myhsm.managedhsm.azure.net/keys/ca/" + keyVersion:      {VaultName: "myhsm", Resource: "managedhsm.azure.net", KeyName: "ca", KeyVersion: keyVersion},
		"https://myvault.vault.usgovcloudapi.net/keys/ca":               {VaultName: "myvault", Resource: "vault.usgovcloudapi.net", KeyName: "ca"},
		"https://myvault.vault.azure.cn/keys/ca":                        {VaultName: "myvault", Resource: "vault.azure.cn", KeyName: "ca"},
	} {
		got, err := b.ParseURI(uri, nil)
		require.NoError(t, err, uri)
		assert.Equal(t, want, got)
		assert.NoError(t, b.Matches(got))
	}
	const uri = "https://myvault.vault.azure.net/keys/ca"
	got, err := b.ParseURI(uri, Params{TenantID: "t", ClientID: "c", ClientSecret: "s", Environment: "AZUREPUBLICCLOUD", VaultName: "MYVAULT", KeyName: "other", KeyType: RSA, KeyBits: 2048})
	require.NoError(t, err)
	assert.Equal(t, Params{TenantID: "t", ClientID: "c", ClientSecret: "s", Environment: "AZUREPUBLICCLOUD", VaultName: "myvault", Resource: "vault.azure.net", KeyName: "ca"}, got)
	got, err = b.ParseURI("https://myvault.vault.example/keys/ca", Params{Resource: "vault.example"})
	require.NoError(t, err)
	assert.Equal(t, Params{VaultName: "myvault", Resource: "vault.example", KeyName: "ca"}, got)
}

// TestParseURIRefuses: tokens go to Azure's own domains only, and what isn't an identifier is none.
func TestParseURIRefuses(t *testing.T) {
	b, err := Connect(nil)
	require.NoError(t, err)
	defer b.Close()
	const uri = "https://myvault.vault.azure.net/keys/ca"
	for _, c := range []struct {
		uri, says string
		scope     Params
	}{
		{"https://myvault.evil.example/keys/ca", "none of Azure's", Params{}},
		{"https://vault.azure.net.evil.example/keys/ca", "none of Azure's", Params{}},
		{"https://a.b.vault.azure.net/keys/ca", "none of Azure's", Params{}},
		{uri, "but the scope is of vault.example", Params{Resource: "vault.example"}},
		{uri, "but the scope is of other", Params{VaultName: "other"}},
		{uri, "not of the environment", Params{Environment: "AZURECHINACLOUD"}},
		{uri, "vault_name", Params{VaultName: "x/"}},
		{"https://myvault.vault.azure.net:444/keys/ca", "none of Azure's", Params{}},
		{"http://myvault.vault.azure.net/keys/ca", "it takes https://", Params{}},
		{"https://user:sesame@myvault.vault.azure.net/keys/ca", `got "redacted"`, Params{}},
		{uri + "?api=sesame", `got "redacted"`, Params{}},
		{uri + "/", "it takes https://", Params{}},
		{uri + "/1", "it takes https://", Params{}},
		{uri + "/" + keyVersion + "/sign", "it takes https://", Params{}},
		{"https://myvault.vault.azure.net/secrets/ca", "it takes https://", Params{}},
		{"https://myvault.vault.azure.net/keys/c%61", "it takes https://", Params{}},
		{"https:///keys/ca", "it takes https://", Params{}},
	} {
		_, err := b.ParseURI(c.uri, c.scope)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, c.uri)
		assert.ErrorContains(t, err, c.says, c.uri)
		assert.NotContains(t, err.Error(), "sesame")
	}
}

// TestParseURIOfOneVault: a backend for one vault takes the identifiers of that vault, wherever it is.
func TestParseURIOfOneVault(t *testing.T) {
	srv := newFake(t, nil)
	b := newBackendAt(t, srv, "https://MyVault.Private.example:8443/", nil)
	got, err := b.ParseURI("https://myvault.private.example:8443/keys/ca/"+keyVersion, nil)
	require.NoError(t, err)
	assert.Equal(t, Params{KeyName: "ca", KeyVersion: keyVersion}, got)
	assert.NoError(t, b.Matches(got))
	_, err = b.ParseURI("https://other.private.example:8443/keys/ca", nil)
	assert.ErrorContains(t, err, "this backend is for https://myvault.private.example:8443")
	assert.ErrorContains(t, b.Matches(Params{KeyName: "ca", VaultName: "other"}), "vault_name")
}

// TestDecodeParams: the flat fields of the managed-keys API are read, strings or not.
func TestDecodeParams(t *testing.T) {
	b := new(Backend)
	got, err := b.DecodeParams([]byte(`{"vault_name":"myvault","key_name":"ca","key_type":"rsa-hsm","key_bits":"2048","tenant_id":"t","client_id":"c","client_secret":"s"}`))
	require.NoError(t, err)
	assert.Equal(t, Params{VaultName: "myvault", KeyName: "ca", KeyType: RSAHSM, KeyBits: 2048, TenantID: "t", ClientID: "c", ClientSecret: "s"}, got)
	text, err := backend.EncodeParams(got)
	require.NoError(t, err)
	again, err := b.DecodeParams(text)
	require.NoError(t, err)
	assert.Equal(t, got, again)
	_, err = b.DecodeParams([]byte(`{"key_nam":"ca"}`))
	assert.ErrorContains(t, err, `unknown field "key_nam"`)
}

// FuzzParseURI: what is taken names a vault of Azure's, and is written and read again as the same.
func FuzzParseURI(f *testing.F) {
	for _, seed := range []string{"https://myvault.vault.azure.net/keys/ca", "https://h.managedhsm.azure.cn/keys/a/" + keyVersion, "https://@/keys/", "https://x.y:1/keys/a"} {
		f.Add(seed)
	}
	b := new(Backend)
	f.Fuzz(func(t *testing.T, uri string) {
		got, err := b.ParseURI(uri, nil)
		if err != nil {
			assert.ErrorIs(t, err, backend.ErrInvalidParams)
			return
		}
		p := got.(Params)
		at, err := p.place(noEnv)
		require.NoError(t, err)
		assert.Contains(t, []string{at.environment.vault, at.environment.hsm}, p.Resource)
		c := connection{url: at.vaultURL(p.VaultName)}
		again, err := b.ParseURI(c.id(kid{p.KeyName, p.KeyVersion}), nil)
		require.NoError(t, err)
		assert.Equal(t, p, again)
	})
}
