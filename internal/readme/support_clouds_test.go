package readme

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/awskms"
	"github.com/managedkeys/managedkeys/backend/azurekeyvault"
	"github.com/managedkeys/managedkeys/backend/gcpckms"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

// rsaKeys are RSA keys of the sizes that are asked for. Which ones they are doesn't matter here.
var rsaKeys sync.Map

func rsaKey(bits int) (*rsa.PrivateKey, error) {
	if key, ok := rsaKeys.Load(bits); ok {
		return key.(*rsa.PrivateKey), nil
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	rsaKeys.Store(bits, key)
	return key, err
}

func awsColumn(t *testing.T) column {
	fake, err := fakeaws.New(&fakeaws.Options{NewRSA: rsaKey})
	require.NoError(t, err)
	defer fake.Close()
	b, err := awskms.New(fake.Config(), nil)
	require.NoError(t, err)
	defer b.Close()
	var keys []backend.Key
	for i, p := range []awskms.Params{
		{KeyType: awskms.RSA, KeyBits: 2048}, {KeyType: awskms.RSA, KeyBits: 2048, KeyUsage: "ENCRYPT_DECRYPT"},
		{KeyType: awskms.ECDSA, Curve: "P256"}, {KeyType: awskms.ECDSA, Curve: "P384"}, {KeyType: awskms.ECDSA, Curve: "P521"},
		{KeyType: awskms.ECDSA, Curve: "SECP256K1"},
		{KeyType: awskms.ECDSA, Curve: "P256", KeyUsage: "KEY_AGREEMENT"}, {KeyType: awskms.ECDSA, Curve: "P384", KeyUsage: "KEY_AGREEMENT"},
		{KeyType: awskms.ECDSA, Curve: "P521", KeyUsage: "KEY_AGREEMENT"},
		{KeyType: awskms.Ed25519}, {KeyType: awskms.MLDSA, ParameterSet: 44}, {KeyType: awskms.MLDSA, ParameterSet: 65},
		{KeyType: awskms.MLDSA, ParameterSet: 87}, {KeyType: awskms.MLKEM, ParameterSet: 768}, {KeyType: awskms.MLKEM, ParameterSet: 1024},
		{KeyType: awskms.AES, KeyBits: 256}, {KeyType: awskms.HMAC, KeyBits: 224}, {KeyType: awskms.HMAC, KeyBits: 256},
		{KeyType: awskms.HMAC, KeyBits: 384}, {KeyType: awskms.HMAC, KeyBits: 512},
	} {
		p.KMSKey = fmt.Sprintf("alias/key-%d", i)
		key, err := b.Generate(t.Context(), p, nil)
		require.NoError(t, err, "%+v", p)
		keys = append(keys, key)
	}
	return columnOf(t, "AWS KMS", b, keys, awskms.Params{KMSKey: "alias/imported", KeyType: awskms.ECDSA, Curve: "P256"})
}

func azureColumn(t *testing.T) column {
	fake, err := fakeazure.New(&fakeazure.Options{GenerateRSA: rsaKey})
	require.NoError(t, err)
	defer fake.Close()
	credential, err := azidentity.NewClientSecretCredential(fakeazure.TenantID, fakeazure.ClientID, fakeazure.ClientSecret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: azcore.ClientOptions{Transport: fake.Client()}})
	require.NoError(t, err)
	b, err := azurekeyvault.New(credential, "https://readme.managedhsm.azure.net", &azurekeyvault.Options{DialContext: fake.DialContext, RootCAs: fake.RootCAs()})
	require.NoError(t, err)
	defer b.Close()
	var keys []backend.Key
	for i, p := range []azurekeyvault.Params{
		{KeyType: azurekeyvault.RSAHSM, KeyBits: 2048}, {KeyType: azurekeyvault.ECHSM, Curve: azurekeyvault.P256},
		{KeyType: azurekeyvault.ECHSM, Curve: azurekeyvault.P384}, {KeyType: azurekeyvault.ECHSM, Curve: azurekeyvault.P521},
		{KeyType: azurekeyvault.ECHSM, Curve: azurekeyvault.P256K}, {KeyType: azurekeyvault.OctHSM, KeyBits: 256},
		{KeyType: azurekeyvault.OctHSM, KeyBits: 256, KeyOps: "sign,verify"},
	} {
		p.KeyName = fmt.Sprintf("key-%d", i)
		key, err := b.Generate(t.Context(), p, nil)
		require.NoError(t, err, "%+v", p)
		keys = append(keys, key)
	}
	return columnOf(t, "Azure Managed HSM", b, keys, azurekeyvault.Params{KeyName: "imported", KeyType: azurekeyvault.ECHSM, Curve: azurekeyvault.P256})
}

func googleColumn(t *testing.T) column {
	fake, err := fakegcp.New(nil)
	require.NoError(t, err)
	defer fake.Close()
	fake.AddKeyRing("readme", "global", "keys")
	b, err := gcpckms.NewFromOptions(t.Context(), nil, fake.ClientOptions()...)
	require.NoError(t, err)
	defer b.Close()
	at := gcpckms.Params{Project: "readme", Region: "global", KeyRing: "keys", ProtectionLevel: gcpckms.HSM}
	var keys []backend.Key
	for _, algorithm := range gcpckms.Algorithms() {
		p := at
		p.CryptoKey, p.Algorithm = strings.ToLower(string(algorithm)), algorithm
		if p.Algorithm == "EXTERNAL_SYMMETRIC_ENCRYPTION" {
			continue
		}
		if strings.HasPrefix(string(algorithm), "PQ_") {
			p.ProtectionLevel = gcpckms.Software
		}
		key, err := b.Generate(t.Context(), p, nil)
		require.NoError(t, err, "%+v", p)
		keys = append(keys, key)
	}
	at.CryptoKey, at.Algorithm = "imported", "EC_SIGN_P256_SHA256"
	return columnOf(t, "Google Cloud KMS", b, keys, at)
}
