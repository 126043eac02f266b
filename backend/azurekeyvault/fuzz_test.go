package azurekeyvault

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/managedkeys/managedkeys/backend"
)

func FuzzParseKID(f *testing.F) {
	for _, seed := range []string{"", "https://v.vault.azure.net/keys/k/" + zeros, "https://v/keys/k", "//keys/k/", "::", "https://v/keys/k/" + zeros + "/sign", "/keys/%2e%2e/x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id := azkeys.ID(text)
		k, err := parseKID(&id)
		if err != nil {
			if !errors.Is(err, backend.ErrIntegrity) {
				t.Fatalf("%v is no ErrIntegrity", err)
			}
			return
		}
		if !keyNames.MatchString(k.name) || k.version != "" && !keyVersions.MatchString(k.version) {
			t.Fatalf("%q gave %+v", text, k)
		}
		if err := checkKID(&id, k.name, k.version); (err == nil) != (k.version != "") {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// FuzzIsKID: what the short way takes, the long one does too.
func FuzzIsKID(f *testing.F) {
	f.Add("v.vault.azure.net/keys/", "k", zeros)
	f.Add("v/keys/k/keys/", "k", zeros)
	f.Add("v?x/keys/", "k", zeros)
	f.Add("[/keys/", "k", zeros)
	f.Fuzz(func(t *testing.T, begin, name, version string) {
		text := "https://" + begin + name + "/" + version
		if !keyNames.MatchString(name) || !keyVersions.MatchString(version) || !isKID(text, name, version) {
			return
		}
		id := azkeys.ID(text)
		k, err := parseKID(&id)
		if err == nil && (k.name != name || k.version != version) {
			t.Fatalf("%q is %+v", text, k)
		}
	})
}

func FuzzVaultURL(f *testing.F) {
	for _, seed := range []string{vaultURL, hsmURL + "/", "http://x", "https://user@x.y", "https://x.y:1/z", "https://[::1]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := parseVaultURL(text)
		if err != nil {
			if !errors.Is(err, backend.ErrInvalidParams) {
				t.Fatalf("%v is no ErrInvalidParams", err)
			}
			return
		}
		again, err := parseVaultURL(u.String())
		if err != nil || again.String() != u.String() || u.Path != "" || u.User != nil || u.Scheme != "https" {
			t.Fatalf("%q gave %q, then %v", text, u, err)
		}
	})
}

func FuzzParams(f *testing.F) {
	f.Add([]byte(`{"vault_name":"v-1","key_name":"k","key_type":"ec","curve":"p-256","resource":"managedhsm.azure.net"}`))
	f.Add([]byte(`{"key_name":"k","key_ops":"sign,verify","key_type":"oct-hsm","key_bits":128,"client_secret":"s3cr3t-value"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p Params
		if json.Unmarshal(data, &p) != nil {
			return
		}
		if err := p.Validate(); err != nil {
			if !errors.Is(err, backend.ErrInvalidParams) || len(err.Error()) > 1000 {
				t.Fatalf("%v", err)
			}
			return
		}
		at, err := p.place(noEnv)
		if err != nil {
			t.Fatal(err)
		}
		if p.VaultName != "" {
			u, err := parseVaultURL(at.vaultURL(p.VaultName))
			if err != nil || !strings.HasPrefix(u.Host, strings.ToLower(p.VaultName)+".") || u.Host != strings.ToLower(p.VaultName)+"."+at.resource {
				t.Fatalf("%+v gives %v, %v", p, u, err)
			}
		}
		p.operations()
	})
}

func FuzzPublicKey(f *testing.F) {
	jwk, err := pooledEC()
	if err != nil {
		f.Fatal(err)
	}
	seed, err := json.Marshal(jwk)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"kty":"RSA","n":"gQ","e":"AQAB"}`))
	f.Add([]byte(`{"kty":"oct-HSM"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var key azkeys.JSONWebKey
		if json.Unmarshal(data, &key) != nil {
			return
		}
		pub, kind, err := publicKey(&key)
		switch {
		case err != nil && !errors.Is(err, backend.ErrIntegrity) && !errors.Is(err, backend.ErrUnsupported):
			t.Fatalf("%v", err)
		case err == nil && kind.KeyType != OctHSM:
			if _, err := backend.Fingerprint(pub); err != nil {
				t.Fatalf("%s gave a key that can't be marshalled: %v", data, err)
			}
		}
	})
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer authorization="https://login.microsoftonline.com/tenant", resource="https://vault.azure.net"`)
	f.Add(`Bearer authorization="https://login.microsoftonline.com" resource=x`)
	f.Fuzz(func(t *testing.T, header string) {
		if checkChallenge(header) != nil {
			return
		}
		// What passes must not make the SDK panic, which splits the value in the same way and takes the fourth part.
		for _, part := range strings.Split(strings.ReplaceAll(header, "Bearer ", ""), " ") {
			name, value, ok := strings.Cut(part, "=")
			if !ok || name != "authorization" || strings.Contains(value, "=") {
				continue
			}
			value = strings.TrimSuffix(strings.ReplaceAll(value, `"`, ""), ",")
			if value != "" && len(strings.Split(value, "/")) < 4 {
				t.Fatalf("%q passes", header)
			}
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"1", "-1", "Thu, 26 Nov 2026 12:00:30 GMT", "1e9", "99999999999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d := retryAfter(&http.Response{Header: http.Header{"Retry-After": {text}}}, time.Unix(0, 0)); d < 0 {
			t.Fatalf("%q means %v", text, d)
		}
	})
}
