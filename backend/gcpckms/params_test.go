package gcpckms

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

func TestValidate(t *testing.T) {
	noEnvironment(t)
	good := testParams("k", p256)
	require.NoError(t, good.Validate())
	for name, test := range map[string]struct {
		change func(*Params)
		field  string // that the error names; empty if there is none
	}{
		"a number for the project":     {func(p *Params) { p.Project = "123456789012" }, ""},
		"a project with a domain":      {func(p *Params) { p.Project = "example.com:p-1" }, ""},
		"global":                       {func(p *Params) { p.Region = "global" }, ""},
		"a later version":              {func(p *Params) { p.CryptoKeyVersion = "12" }, ""},
		"the newest version":           {func(p *Params) { p.CryptoKeyVersion = Latest }, ""},
		"no algorithm":                 {func(p *Params) { p.Algorithm = "" }, ""},
		"external":                     {func(p *Params) { p.ProtectionLevel = ExternalVPC }, ""},
		"no project":                   {func(p *Params) { p.Project = "" }, "project"},
		"a path for the project":       {func(p *Params) { p.Project = "p/locations/global" }, "project"},
		"an upper-case project":        {func(p *Params) { p.Project = "Project" }, "project"},
		"a long project":               {func(p *Params) { p.Project = strings.Repeat("p", 101) }, "project"},
		"no region":                    {func(p *Params) { p.Region = "" }, "region"},
		"an upper-case region":         {func(p *Params) { p.Region = "EU" }, "region"},
		"a host for the region":        {func(p *Params) { p.Region = "evil.example:443/" }, "region"},
		"no key ring":                  {func(p *Params) { p.KeyRing = "" }, "key_ring"},
		"a key ring with a slash":      {func(p *Params) { p.KeyRing = "r/cryptoKeys/k" }, "key_ring"},
		"no key":                       {func(p *Params) { p.CryptoKey = "" }, "crypto_key"},
		"a long key":                   {func(p *Params) { p.CryptoKey = strings.Repeat("k", 64) }, "crypto_key"},
		"a key with a line break":      {func(p *Params) { p.CryptoKey = "k\n" }, "crypto_key"},
		"a resource name for the key":  {func(p *Params) { p.CryptoKey = "projects/p/locations/l/keyRings/r/cryptoKeys/k" }, "crypto_key"},
		"version 0":                    {func(p *Params) { p.CryptoKeyVersion = "0" }, "crypto_key_version"},
		"a version with a zero before": {func(p *Params) { p.CryptoKeyVersion = "01" }, "crypto_key_version"},
		"a negative version":           {func(p *Params) { p.CryptoKeyVersion = "-1" }, "crypto_key_version"},
		"the primary version":          {func(p *Params) { p.CryptoKeyVersion = "primary" }, "crypto_key_version"},
		"an unknown algorithm":         {func(p *Params) { p.Algorithm = "EC_SIGN_P521_SHA512" }, "algorithm"},
		"SLH-DSA":                      {func(p *Params) { p.Algorithm = "PQ_SIGN_SLH_DSA_SHA2_128S" }, "algorithm"},
		"AES-CTR":                      {func(p *Params) { p.Algorithm = "AES_128_CTR" }, "algorithm"},
		"an unknown level":             {func(p *Params) { p.ProtectionLevel = "TPM" }, "protection_level"},
	} {
		t.Run(name, func(t *testing.T) {
			p := good
			test.change(&p)
			err := p.Validate()
			if test.field == "" {
				assert.NoError(t, err)
				return
			}
			assert.ErrorIs(t, err, backend.ErrInvalidParams)
			assert.ErrorContains(t, err, "gcpckms: "+test.field+": ")
		})
	}
}

// Why an algorithm of the service can't be used stands in the error.
func TestReasons(t *testing.T) {
	for _, a := range []Algorithm{"AES_128_CBC", "AES_256_CTR", "AES_256_KWP", "PQ_SIGN_HASH_SLH_DSA_SHA2_128S_SHA256", "KEM_XWING"} {
		require.NotEmpty(t, a.reason(), a)
		assert.ErrorContains(t, testParams("k", a).Validate(), a.reason())
	}
}

func noEnvironment(t *testing.T) {
	for _, name := range []string{envProject, envRegion, envCredentials, envEmulator, "GOOGLE_APPLICATION_CREDENTIALS"} {
		t.Setenv(name, "")
	}
}

func TestEnvironment(t *testing.T) {
	noEnvironment(t)
	p := Params{KeyRing: testRing, CryptoKey: "k"}
	require.ErrorIs(t, p.Validate(), backend.ErrInvalidParams)
	t.Setenv(envProject, testProject)
	require.ErrorContains(t, p.Validate(), envRegion)
	t.Setenv(envRegion, testRegion)
	require.NoError(t, p.Validate())
	assert.Equal(t, "projects/p-1/locations/europe-west3/keyRings/ring/cryptoKeys/k/cryptoKeyVersions/1", name(p))
	p.Project, p.Region = "other", "global"
	assert.Equal(t, "projects/other/locations/global", p.complete().location(), "what is given wins")
	t.Setenv(envProject, "not a project")
	p.Project = ""
	assert.ErrorIs(t, p.Validate(), backend.ErrInvalidParams, "what the environment says is checked as well")
}

func TestParamsJSON(t *testing.T) {
	const text = `{"credentials":"/etc/gcp.json","project":"p-1","region":"europe-west3","key_ring":"ring","crypto_key":"k",
		"crypto_key_version":3,"algorithm":"ec_sign_p256_sha256","protection_level":"hsm"}`
	var p Params
	require.NoError(t, json.Unmarshal([]byte(text), &p))
	want := testParams("k", p256)
	want.Credentials, want.CryptoKeyVersion, want.ProtectionLevel = "/etc/gcp.json", "3", HSM
	assert.Equal(t, want, p)
	require.NoError(t, p.Validate())
	decoded, err := new(Backend).DecodeParams([]byte(text))
	require.NoError(t, err)
	assert.Equal(t, want, decoded)
	encoded, err := backend.EncodeParams(want)
	require.NoError(t, err)
	decoded, err = new(Backend).DecodeParams(encoded)
	require.NoError(t, err)
	assert.Equal(t, want, decoded)
	for in, version := range map[string]Version{`"7"`: "7", `7`: "7", `"latest"`: Latest, `null`: ""} {
		p = Params{}
		require.NoError(t, json.Unmarshal([]byte(`{"crypto_key_version":`+in+`}`), &p), in)
		assert.Equal(t, version, p.CryptoKeyVersion, in)
	}
	for _, in := range []string{`[]`, `{}`, `true`} {
		assert.Error(t, json.Unmarshal([]byte(`{"crypto_key_version":`+in+`}`), &p), in)
	}
	require.NoError(t, json.Unmarshal([]byte(`{"crypto_key_version":1.5}`), &p))
	assert.ErrorIs(t, testParamsVersion(p.CryptoKeyVersion).Validate(), backend.ErrInvalidParams)
}

func testParamsVersion(v Version) Params {
	p := testParams("k", p256)
	p.CryptoKeyVersion = v
	return p
}

// A credential may be JSON with a private key in it, so that it is shown nowhere.
func TestCredentialsAreNotShown(t *testing.T) {
	p := testParams("k", p256)
	p.Credentials = testCredentials
	data, err := json.Marshal(p)
	require.NoError(t, err)
	for _, text := range []string{string(data), fmt.Sprintf("%v %+v %#v %s", p, p, p, p)} {
		assert.NotContains(t, text, "gcpckms-test-secret")
		assert.Contains(t, text, backend.Redacted)
	}
}

func TestParseName(t *testing.T) {
	noEnvironment(t)
	const key = "projects/p-1/locations/europe-west3/keyRings/ring/cryptoKeys/k"
	for _, prefix := range []string{"", "//cloudkms.googleapis.com/", "gcpkms://"} {
		p, err := ParseName(prefix + key)
		require.NoError(t, err, prefix)
		assert.Equal(t, key+"/cryptoKeyVersions/1", name(p))
		p, err = ParseName(prefix + key + "/cryptoKeyVersions/12")
		require.NoError(t, err, prefix)
		assert.Equal(t, key+"/cryptoKeyVersions/12", name(p))
	}
	for _, bad := range []string{
		"", "k", key + "/", "/" + key, key + "/cryptoKeyVersions", key + "/cryptoKeyVersions/", key + "/cryptoKeyVersions/x",
		key + "/cryptoKeyVersions/1/x", strings.Replace(key, "ring", "", 1), strings.Replace(key, "p-1", "", 1),
		strings.Replace(key, "locations", "regions", 1), "https://cloudkms.googleapis.com/v1/" + key, strings.Repeat("a/", 300),
	} {
		_, err := ParseName(bad)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, bad)
	}
}

func FuzzParseName(f *testing.F) {
	for _, name := range []string{
		"", "projects/p/locations/l/keyRings/r/cryptoKeys/k", "gcpkms://projects/1/locations/eu/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
		"projects//locations//keyRings//cryptoKeys/", "//cloudkms.googleapis.com/projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/latest",
	} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, in string) {
		p, err := ParseName(in)
		if err != nil {
			assert.ErrorIs(t, err, backend.ErrInvalidParams)
			return
		}
		require.NoError(t, p.Validate())
		again, err := ParseName(name(p))
		if p.CryptoKeyVersion != Latest || err == nil {
			require.NoError(t, err)
			assert.Equal(t, p, again)
		}
	})
}

func FuzzParamsJSON(f *testing.F) {
	f.Add([]byte(`{"project":"p","region":"eu","key_ring":"r","crypto_key":"k","crypto_key_version":1,"algorithm":"EC_SIGN_P256_SHA256"}`))
	f.Add([]byte(`{"crypto_key_version":[1]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p Params
		if json.Unmarshal(data, &p) != nil {
			return
		}
		if err := p.Validate(); err != nil {
			assert.ErrorIs(t, err, backend.ErrInvalidParams)
			return
		}
		assert.LessOrEqual(t, len(name(p)), maxName)
	})
}

// The names of resources in answers are compared with those in requests.
func TestSameResource(t *testing.T) {
	const rest = "/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
	for _, test := range []struct {
		asked, got string
		same       bool
	}{
		{"projects/p" + rest, "projects/p" + rest, true},
		{"projects/123" + rest, "projects/p" + rest, true}, // the service knows the id of a project by its number
		{"projects/p" + rest, "projects/123" + rest, false},
		{"projects/p" + rest, "projects/q" + rest, false},
		{"projects/123" + rest, "projects/p" + strings.Replace(rest, "k/", "l/", 1), false},
		{"projects/123" + rest, "projects/" + rest, false},
		{"projects/123" + rest, "projects/P/Q" + rest, false},
		{"projects/123" + rest, rest, false},
		{"projects/123" + rest, "", false},
		{"", "projects/p" + rest, false},
	} {
		assert.Equal(t, test.same, sameResource(test.asked, test.got), "%s and %s", test.asked, test.got)
	}
}
