package httpapi

import (
	"context"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/awskms"
	"github.com/managedkeys/managedkeys/backend/azurekeyvault"
	"github.com/managedkeys/managedkeys/backend/gcpckms"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// cloudKey is a key of a service and what transit can do with it, as in onToken.
type cloudKey struct {
	name   string
	params backend.Params
	can    string

	requests map[string]int // that all of the operation makes of the service; no others
}

// What tokenOps do: 101 signatures, two decryptions of two encryptions, one more of each with associated data, and three MACs.
const signatures, decryptions = 1 + 100, 2

// service is a key manager that answers as one in a cloud does.
type service struct {
	backend backend.Backend
	log     *fakecloud.Log
	script  *fakecloud.Script
	keys    []cloudKey
}

var services = map[string]func(*testing.T) service{
	"awskms": func(t *testing.T) service {
		fake, err := fakeaws.New(nil)
		require.NoError(t, err)
		t.Cleanup(func() { fake.Close() })
		b, err := awskms.New(fake.Config(), nil)
		require.NoError(t, err)
		return service{backend: b, log: &fake.Log, script: &fake.Script, keys: []cloudKey{
			{name: "p256", params: awskms.Params{KMSKey: "alias/p256", KeyType: awskms.ECDSA, Curve: "P256"}, can: "sign", requests: map[string]int{"Sign": signatures}},
			{name: "ed25519", params: awskms.Params{KMSKey: "alias/ed", KeyType: awskms.Ed25519}, can: "sign", requests: map[string]int{"Sign": signatures}},
			{name: "rsa-sign", params: awskms.Params{KMSKey: "alias/rs", KeyType: awskms.RSA, KeyBits: 2048}, can: "sign", requests: map[string]int{"Sign": signatures}},
			{name: "rsa-oaep", params: awskms.Params{KMSKey: "alias/re", KeyType: awskms.RSA, KeyBits: 2048, KeyUsage: "ENCRYPT_DECRYPT"}, can: "encrypt", requests: map[string]int{"Decrypt": decryptions}},
			{name: "hmac", params: awskms.Params{KMSKey: "alias/hmac", KeyType: awskms.HMAC, KeyBits: 256}, can: "hmac", requests: map[string]int{"GenerateMac": 3}},
		}}
	},
	"azurekeyvault": func(t *testing.T) service {
		fake, err := fakeazure.New(nil)
		require.NoError(t, err)
		t.Cleanup(func() { fake.Close() })
		cred, err := azidentity.NewClientSecretCredential(fakeazure.TenantID, fakeazure.ClientID, fakeazure.ClientSecret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: azcore.ClientOptions{Transport: fake.Client()}})
		require.NoError(t, err)
		b, err := azurekeyvault.New(cred, "https://myvault.vault.azure.net", &azurekeyvault.Options{DialContext: fake.DialContext, RootCAs: fake.RootCAs()})
		require.NoError(t, err)
		return service{backend: b, log: &fake.Log, script: &fake.Script, keys: []cloudKey{
			{name: "p256", params: azurekeyvault.Params{KeyName: "p256", KeyType: azurekeyvault.EC, Curve: "P256"}, can: "sign", requests: map[string]int{"sign": signatures}},
			{name: "rsa", params: azurekeyvault.Params{KeyName: "rsa", KeyType: azurekeyvault.RSA, KeyBits: 2048}, can: "sign encrypt", requests: map[string]int{"sign": signatures, "decrypt": decryptions}},
		}}
	},
	"gcpckms": func(t *testing.T) service {
		fake, err := fakegcp.New(nil)
		require.NoError(t, err)
		t.Cleanup(func() { fake.Close() })
		fake.AddKeyRing("p-1", "global", "ring")
		b, err := gcpckms.NewFromOptions(context.Background(), nil, fake.ClientOptions()...)
		require.NoError(t, err)
		of := func(name string, algorithm gcpckms.Algorithm) gcpckms.Params {
			return gcpckms.Params{Project: "p-1", Region: "global", KeyRing: "ring", CryptoKey: name, Algorithm: algorithm}
		}
		return service{backend: b, log: &fake.Log, script: &fake.Script, keys: []cloudKey{
			{name: "p256", params: of("p256", "EC_SIGN_P256_SHA256"), can: "sign", requests: map[string]int{"AsymmetricSign": signatures}},
			{name: "rsa-pss", params: of("pss", "RSA_SIGN_PSS_2048_SHA256"), can: "sign", requests: map[string]int{"AsymmetricSign": signatures}},
			{name: "rsa-oaep", params: of("oaep", "RSA_DECRYPT_OAEP_2048_SHA256"), can: "encrypt", requests: map[string]int{"AsymmetricDecrypt": decryptions}},
			{name: "aes", params: of("aes", "GOOGLE_SYMMETRIC_ENCRYPTION"), can: "encrypt", requests: map[string]int{"Encrypt": 3, "Decrypt": decryptions + 1}},
			{name: "hmac", params: of("hmac", "HMAC_SHA256"), can: "hmac", requests: map[string]int{"MacSign": 3}},
		}}
	},
}

// TestClouds: keys in the clouds, in a mount without software keys, by a stock client. What can be done here makes no request; what can't
// makes one each.
func TestClouds(t *testing.T) {
	for name, start := range services {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			g := newRig(t, nil, nil, managedkey.Connection{Name: "cloud", Backend: s.backend})
			c := g.clients()["bao"]
			for _, k := range s.keys {
				t.Run(k.name, func(t *testing.T) {
					err := g.keys.Create(t.Context(), managedkey.Entry{Ref: namespace.Ref{Name: k.name}, Connection: "cloud", Params: k.params,
						AllowGenerateKey: true, AnyMount: true, Usages: everything})
					require.NoError(t, err)
					made, err := c.write("managed/keys/"+k.name, object{"type": "managed_key", "managed_key_name": k.name})
					require.NoError(t, err)
					assert.Equal(t, strings.Contains(k.can, "encrypt"), made["supports_encryption"])
					assert.Equal(t, strings.Contains(k.can, "sign"), made["supports_signing"])
					s.log.Clear()
					for op, do := range tokenOps {
						err := do(t, c, "managed/", k.name)
						if strings.Contains(k.can, op) {
							assert.NoError(t, err, op)
						} else {
							assert.ErrorContains(t, err, "Code: 400", op)
							assert.ErrorContains(t, err, "support", op)
						}
					}
					total := 0
					for request, n := range k.requests {
						assert.Equal(t, n, s.log.Count(request), request)
						total += n
					}
					assert.Equal(t, total, s.log.Count(""), "all requests")
				})
			}
			k := s.keys[0]
			signed, err := c.write("managed/sign/"+k.name, object{"input": b64("message")})
			require.NoError(t, err)
			s.script.Add(fakecloud.Fault{Times: -1, Drop: true})
			_, err = c.write("managed/sign/"+k.name, object{"input": b64("message")})
			assert.ErrorContains(t, err, "Code: 503", "the service is away")
			verified, err := c.write("managed/verify/"+k.name, object{"input": b64("message"), "signature": signed["signature"]})
			require.NoError(t, err)
			assert.Equal(t, true, verified["valid"], "signatures are verified here")
		})
	}
}
