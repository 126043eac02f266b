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
	"github.com/managedkeys/managedkeys/backend/software"
)

const (
	testARN    = "arn:aws-cn:kms:cn-north-1:111122223333:alias/team/ca"
	testKID    = "https://myvault.vault.azure.net/keys/ca/0123456789abcdef0123456789abcdef"
	testName   = "projects/p-1/locations/global/keyRings/r/cryptoKeys/ca/cryptoKeyVersions/3"
	testPKCS11 = "pkcs11:token=hall-1;object=ca?module-name=hsm1&pin-source=env:HSM_PIN&x-mechanism=ECDSA"
	testPIN    = "12345678"
)

// clouds returns a backend of each cloud, which makes no calls.
func clouds(t *testing.T) []backend.Backend {
	aws, err := awskms.Connect(nil)
	require.NoError(t, err)
	azure, err := azurekeyvault.Connect(nil)
	require.NoError(t, err)
	gcp, err := gcpckms.Connect(nil)
	require.NoError(t, err)
	all := []backend.Backend{aws, azure, gcp}
	t.Cleanup(func() {
		for _, b := range all {
			b.Close()
		}
	})
	return all
}

// hsm is a PKCS#11 backend without modules.
type hsm struct {
	plain
	libraries string
}

func (hsm) Type() string { return "pkcs11" }

func (hsm) DecodeParams(data []byte) (backend.Params, error) {
	return backend.DecodeParams[pkcs11.Params](data)
}

func (hsm) ParseURI(uri string, scope backend.Params) (backend.Params, error) {
	return new(pkcs11.Backend).ParseURI(uri, scope)
}

func (h hsm) Matches(params backend.Params) error {
	if p := params.(pkcs11.Params); !strings.Contains(h.libraries, strings.ToLower(p.Library)) {
		return fmt.Errorf("library %q is not configured: %w", p.Library, backend.ErrInvalidParams)
	}
	return nil
}

// TestParseURI: whose name it is shows without a backend, and the backend understands it.
func TestParseURI(t *testing.T) {
	b := software.New(nil)
	defer b.Close()
	all := append(clouds(t), hsm{libraries: "hsm1"}, b)
	for _, c := range []struct {
		uri, kind string
		params    backend.Params
	}{
		{testARN, "awskms", awskms.Params{KMSKey: testARN}},
		{testKID, "azurekeyvault", azurekeyvault.Params{VaultName: "myvault", Resource: "vault.azure.net", KeyName: "ca", KeyVersion: "0123456789abcdef0123456789abcdef"}},
		{testName, "gcpckms", gcpckms.Params{Project: "p-1", Region: "global", KeyRing: "r", CryptoKey: "ca", CryptoKeyVersion: "3"}},
		{"//cloudkms.googleapis.com/" + testName, "gcpckms", gcpckms.Params{Project: "p-1", Region: "global", KeyRing: "r", CryptoKey: "ca", CryptoKeyVersion: "3"}},
		{testPKCS11, "pkcs11", pkcs11.Params{Library: "hsm1", TokenLabel: "hall-1", KeyLabel: "ca", PIN: "env:HSM_PIN", Mechanism: pkcs11.ECDSA}},
		{"software:memory/ca", "software", software.Params{Store: "memory", KeyName: "ca"}},
	} {
		u, err := ParseURI(c.uri)
		require.NoError(t, err, c.uri)
		assert.Equal(t, c.kind, u.Type())
		assert.Equal(t, strings.TrimPrefix(c.uri, "//cloudkms.googleapis.com/"), u.String())
		at, params, err := u.choose(all)
		require.NoError(t, err, c.uri)
		assert.Equal(t, c.kind, at.Type())
		assert.Equal(t, c.params, params)
		e, err := u.Entry(ref("team-a/ca"), at)
		require.NoError(t, err)
		assert.NoError(t, NewRegistry().Create(t.Context(), e))
	}
	u, err := ParseURI("other7:anything/at%20all")
	require.NoError(t, err)
	assert.Equal(t, "other7", u.Type())
}

func TestParseURIRefuses(t *testing.T) {
	for _, bad := range []string{
		"", "ca", "alias/ca", ":", "x:", "X:y", "a b:c", "software:memory/ca ", "software:mémoire/ca", "software:a\x00", "software:a\n", "other:a@b", "other:a?b", "other:a#b",
		"arn:aws:s3:eu-west-1:111122223333:key/x", "arn:aws:kms:eu-west-1:1111:key/x", "arn:aws:kms:eu-west-1:111122223333:x/y", "http://a/keys/b", "file:/etc/keys",
		"https://myvault.vault.azure.net", "https://u:sesame@myvault.vault.azure.net/keys/ca", "https://myvault.vault.azure.net/keys/ca?pin=sesame", "https://myvault.vault.azure.net/secrets/ca",
		"projects/p", testName + "/", "/" + testName, "pkcs11:token=a#b", strings.Repeat("a", maxURI) + ":b",
		"pkcs11:object=ca;pin-value=sesame", "pkcs11:object=ca%3fpin-value=sesame", "pkcs11:object=ca?x-curve=P256;pin-value=sesame", "pkcs11:object=ca?x=1&x=%70in-value%3dsesame",
	} {
		_, err := ParseURI(bad)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, bad)
		assert.ErrorContains(t, err, "managedkey: uri: ", bad)
		assert.NotContains(t, err.Error(), "sesame")
		assert.Less(t, len(err.Error()), 500)
	}
}

// TestURIHidesPINs: no PIN shows, however a URI is formatted, in whatever it stands.
func TestURIHidesPINs(t *testing.T) {
	for uri, shown := range map[string]string{
		"pkcs11:token=a;object=ca?pin-value=" + testPIN:                                "pkcs11:token=a;object=ca",
		"pkcs11:token=a;object=ca?module-name=hsm1&PIN-VALUE=" + testPIN:               "pkcs11:token=a;object=ca?module-name=hsm1",
		"pkcs11:token=a;object=ca?pin-source=" + testPIN + "&module-name=hsm1":         "pkcs11:token=a;object=ca?module-name=hsm1",
		"pkcs11:token=a;object=ca?pin-source=%7C" + testPIN:                            "pkcs11:token=a;object=ca",
		"pkcs11:object=ca?pin-source=file:/run/pin&pin-value=" + testPIN + "&x-curve=": "pkcs11:object=ca?pin-source=file:/run/pin&x-curve=",
		"pkcs11:object=ca?pin-source=/run/pin":                                         "pkcs11:object=ca?pin-source=/run/pin",
	} {
		u, err := ParseURI(uri)
		require.NoError(t, err, uri)
		u = u.With(pkcs11.Params{PIN: testPIN})
		assert.Equal(t, shown, u.String())
		text, err := json.Marshal(struct{ U URI }{u})
		require.NoError(t, err)
		for _, formatted := range []string{fmt.Sprintf("%v %+v %#v %s %q", u, u, u, u, u), fmt.Sprintf("%v %+v %#v", struct{ u URI }{u}, struct{ u URI }{u}, &struct{ u URI }{u}), string(text)} {
			assert.NotContains(t, formatted, testPIN)
		}
		_, err = u.Open(t.Context(), hsm{libraries: "hsm1"})
		require.Error(t, err)
		assert.NotContains(t, err.Error(), testPIN)
	}
}

// TestURIChooses: of several backends, the one is taken that has the key's library or store, and no other.
func TestURIChooses(t *testing.T) {
	u, err := ParseURI(testPKCS11)
	require.NoError(t, err)
	one, two := hsm{libraries: "hsm1"}, hsm{libraries: "hsm2"}
	at, _, err := u.choose([]backend.Backend{two, one, nil})
	require.NoError(t, err)
	assert.Equal(t, one, at)
	for says, backends := range map[string][]backend.Backend{
		`takes a backend of type "pkcs11"; got none`:   nil,
		`takes a backend of type "pkcs11"; got awskms`: clouds(t)[:1],
		`backend 1: library "hsm1" is not configured`:  {nil, two},
		"more than one pkcs11 backend":                 {one, two, hsm{libraries: "hsm1,hsm2"}},
	} {
		_, err := u.Open(t.Context(), backends...)
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
		assert.ErrorContains(t, err, says)
		assert.ErrorContains(t, err, "managedkey: open uri pkcs11:token=hall-1;object=ca?")
	}
	_, err = u.Params(plain{newClient(newVault())})
	assert.ErrorContains(t, err, `this one is of "fake"`)
	other, err := ParseURI("fake:ca")
	require.NoError(t, err)
	_, err = other.Params(newClient(newVault()))
	assert.ErrorIs(t, err, backend.ErrUnsupported)
	_, err = URI{}.Open(t.Context(), one)
	assert.ErrorContains(t, err, "it is empty")
	_, err = URI{}.Entry(ref("a"), one)
	assert.ErrorContains(t, err, "it is empty")
	assert.Equal(t, URI{}, URI{}.With(pkcs11.Params{}))
	assert.Empty(t, URI{}.String()+URI{}.Type())
}

// FuzzParseURI: no text panics; what is taken shows no PIN and is taken again as what it shows.
func FuzzParseURI(f *testing.F) {
	for _, seed := range []string{testARN, testKID, testName, "//cloudkms.googleapis.com/" + testName, testPKCS11, "software:memory/ca", "pkcs11:?pin-value=1%&pin-source=%", "pkcs11:a%3Fpin-value=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseURI(text)
		if err != nil {
			if !errors.Is(err, backend.ErrInvalidParams) {
				t.Fatal(err)
			}
			return
		}
		if u.Type() == "" || u.Type() == "pkcs11" && strings.Contains(strings.ToLower(u.String()), "pin-value") {
			t.Fatalf("%q shows %q", text, u)
		}
		again, err := ParseURI(u.String())
		if err != nil || again.Type() != u.Type() || again.String() != u.String() {
			t.Fatalf("%q shows %q, which gives %v, %v", text, u, again, err)
		}
	})
}
