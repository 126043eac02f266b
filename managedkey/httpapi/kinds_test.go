package httpapi

import (
	"context"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/awskms"
	"github.com/managedkeys/managedkeys/backend/azurekeyvault"
	"github.com/managedkeys/managedkeys/backend/gcpckms"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// kinds are the types of keys, each with a backend and the fields of a P-256 key that is generated.
var kinds = map[string]func(t *testing.T) (backend.Backend, map[string]any){
	"software": func(*testing.T) (backend.Backend, map[string]any) {
		return nil, map[string]any{"key_name": "stock", "key_type": "ECDSA", "curve": "P256"}
	},
	"pkcs11": func(t *testing.T) (backend.Backend, map[string]any) {
		token := softhsm.Require(t)
		b, err := pkcs11.New(pkcs11.Library{Name: "hsm1", Path: token.Module})
		require.NoError(t, err)
		return b, map[string]any{"library": "hsm1", "slot": token.Slot, "pin": token.PIN, "key_label": "stock", "mechanism": "0x1041", "curve": "P256"}
	},
	"awskms": func(t *testing.T) (backend.Backend, map[string]any) {
		fake, err := fakeaws.New(nil)
		require.NoError(t, err)
		t.Cleanup(func() { fake.Close() })
		b, err := awskms.New(fake.Config(), nil)
		require.NoError(t, err)
		return b, map[string]any{"kms_key": "alias/stock", "key_type": "ecdsa", "curve": "P256"}
	},
	"azurekeyvault": func(t *testing.T) (backend.Backend, map[string]any) {
		fake, err := fakeazure.New(nil)
		require.NoError(t, err)
		t.Cleanup(func() { fake.Close() })
		cred, err := azidentity.NewClientSecretCredential(fakeazure.TenantID, fakeazure.ClientID, fakeazure.ClientSecret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: azcore.ClientOptions{Transport: fake.Client()}})
		require.NoError(t, err)
		b, err := azurekeyvault.New(cred, "https://myvault.vault.azure.net", &azurekeyvault.Options{DialContext: fake.DialContext, RootCAs: fake.RootCAs()})
		require.NoError(t, err)
		return b, map[string]any{"key_name": "stock", "key_type": "EC", "curve": "P256"}
	},
	"gcpckms": func(t *testing.T) (backend.Backend, map[string]any) {
		fake, err := fakegcp.New(nil)
		require.NoError(t, err)
		t.Cleanup(func() { fake.Close() })
		fake.AddKeyRing("p-1", "global", "ring")
		b, err := gcpckms.NewFromOptions(context.Background(), nil, fake.ClientOptions()...)
		require.NoError(t, err)
		return b, map[string]any{"project": "p-1", "region": "global", "key_ring": "ring", "crypto_key": "stock", "algorithm": "EC_SIGN_P256_SHA256"}
	},
}
