package managedkey

import (
	"crypto"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/stretchr/testify/assert"
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

// holder is a backend that holds one P-256 key, which params make and name, and what is left of them without a key.
type holder struct {
	b             backend.Backend
	params, scope backend.Params
	name          string
}

// holders are all the backends that have URIs, but for software: PKCS#11 with SoftHSM2, and fakes of the clouds.
var holders = map[string]func(t *testing.T) holder{
	"pkcs11": func(t *testing.T) holder {
		token := softhsm.Require(t)
		b, err := pkcs11.New(pkcs11.Library{Name: "hsm1", Path: token.Module})
		require.NoError(t, err)
		scope := pkcs11.Params{Library: "hsm1", Slot: token.Slot, PIN: backend.Secret(token.PIN)}
		p := scope
		p.KeyLabel, p.Mechanism, p.Curve = "Discovered CA", pkcs11.ECDSA, "P256"
		return holder{b, p, scope, "discovered-ca"}
	},
	"awskms": func(t *testing.T) holder {
		fake, err := fakeaws.New(nil)
		require.NoError(t, err)
		t.Cleanup(func() { fake.Close() })
		b, err := awskms.New(fake.Config(), nil)
		require.NoError(t, err)
		return holder{b, awskms.Params{KMSKey: "alias/team/ca", KeyType: awskms.ECDSA, Curve: "P256"}, nil, "team-ca"}
	},
	"azurekeyvault": func(t *testing.T) holder {
		fake, err := fakeazure.New(nil)
		require.NoError(t, err)
		t.Cleanup(func() { fake.Close() })
		cred, err := azidentity.NewClientSecretCredential(fakeazure.TenantID, fakeazure.ClientID, fakeazure.ClientSecret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: azcore.ClientOptions{Transport: fake.Client()}})
		require.NoError(t, err)
		b, err := azurekeyvault.New(cred, "https://myvault.vault.azure.net", &azurekeyvault.Options{DialContext: fake.DialContext, RootCAs: fake.RootCAs()})
		require.NoError(t, err)
		return holder{b, azurekeyvault.Params{KeyName: "Team-CA", KeyType: azurekeyvault.EC, Curve: azurekeyvault.P256}, nil, "team-ca"}
	},
	"gcpckms": func(t *testing.T) holder {
		fake, err := fakegcp.New(nil)
		require.NoError(t, err)
		t.Cleanup(func() { fake.Close() })
		fake.AddKeyRing("p-1", "global", "ring")
		b, err := gcpckms.NewFromOptions(t.Context(), nil, fake.ClientOptions()...)
		require.NoError(t, err)
		scope := gcpckms.Params{Project: "p-1", Region: "global", KeyRing: "ring"}
		p := scope
		p.CryptoKey, p.Algorithm = "Team-CA", "EC_SIGN_P256_SHA256"
		return holder{b, p, scope, "team-ca"}
	},
}

// TestDiscoverReal: a key that somebody made is found, opened by its URI and by an entry, and known from then on, also by an
// entry that names it otherwise and was never opened.
func TestDiscoverReal(t *testing.T) {
	for kind, hold := range holders {
		t.Run(kind, func(t *testing.T) {
			h := hold(t)
			defer h.b.Close()
			made, err := h.b.(backend.Generator).Generate(t.Context(), h.params, nil)
			require.NoError(t, err)
			r := NewRegistry()
			one := func() Discovered {
				t.Helper()
				all, err := discoverAll(t, r, "team-a", Connection{Backend: h.b}, h.scope)
				require.NoError(t, err)
				for _, d := range all {
					if d.Info.ID == made.ID() {
						return d
					}
				}
				t.Fatalf("%q is not among %d keys", made.ID(), len(all))
				return Discovered{}
			}
			d := one()
			assert.Equal(t, h.name, d.Entry.Ref.Name)
			assert.Equal(t, kind, d.URI.Type())
			assert.Zero(t, d.Ref)
			uri, err := ParseURI(d.URI.String())
			require.NoError(t, err)
			key, err := uri.With(h.scope).Open(t.Context(), h.b)
			require.NoError(t, err)
			assert.Equal(t, made.ID(), key.ID())

			mustCreate(t, r, Entry{Ref: ref("team-b/by-name"), Backend: h.b, Params: h.params})
			assert.Equal(t, ref("team-b/by-name"), one().Ref)
			require.NoError(t, r.Delete(t.Context(), ref("team-b/by-name")))

			mustCreate(t, r, d.Entry)
			signer, err := r.Signer(t.Context(), d.Entry.Ref)
			require.NoError(t, err)
			_, err = signer.Sign(nil, digest32, crypto.SHA256)
			require.NoError(t, err)
			assert.Equal(t, d.Entry.Ref, one().Ref)
		})
	}
}

var digest32 = make([]byte, 32)
