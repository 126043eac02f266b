package managedkey

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
)

// stored returns a registry with a store and these connections.
func stored(t testing.TB, conns ...Connection) *Registry {
	st := memory.New(nil)
	r, err := Open(t.Context(), st, conns, nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		r.Close()
		st.Close()
	})
	return r
}

const flatHSM = `{"library": "HSM1", "token_label": "hall-1", "key_label": "ca", "mechanism": "0x1041", "pin": "12345678"`

var paramsHSM = pkcs11.Params{Library: "HSM1", TokenLabel: "hall-1", KeyLabel: "ca", Mechanism: pkcs11.ECDSA, PIN: testPIN}

// TestDecodeEntry: the fields and defaults of the managed-keys API, in JSON and as strings.
func TestDecodeEntry(t *testing.T) {
	b := hsm{libraries: "hsm1"}
	id := "af0a688e-d2c1-4c07-b365-40325674114d"
	moreParams := paramsHSM
	moreParams.Curve, moreParams.MaxParallel, moreParams.ForceRWSession = "P256", 2, true
	for text, want := range map[string]Entry{
		flatHSM + `}`: {Params: paramsHSM},
		flatHSM + `, "name": "ca", "type": "pkcs11", "UUID": "` + id + `", "allow_generate_key": "true", "allow_replace_key": true, "allow_store_key": "false",
			"any_mount": "true", "usages": "sign, decrypt", "curve": "P256", "max_parallel": "2", "force_rw_session": "true"}`: {
			Params: moreParams, UUID: id, AllowGenerateKey: true, AllowReplaceKey: true, AnyMount: true, Usages: backend.UsageSign | backend.UsageDecrypt,
		},
		flatHSM + `, "usages": ["mac", "generate_random"], "public_key_sha256": "` + strings.Repeat("ab", 32) + `"}`: {
			Params: paramsHSM, Usages: backend.UsageMAC | backend.UsageGenerateRandom, PublicKeySHA256: []byte(strings.Repeat("\xab", 32)),
		},
	} {
		want.Ref, want.Backend = ref("team-a/ca"), b
		got, err := DecodeEntry(ref("team-a/ca"), b, []byte(text))
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
}

// TestDecodeEntryRefuses: errors name the field, the nearest that there is, and no secret.
func TestDecodeEntryRefuses(t *testing.T) {
	b := hsm{libraries: "hsm1"}
	for text, says := range map[string]string{
		``: "one JSON object", `[]`: "one JSON object", `{} {}`: "one JSON object", `{"name"}`: "one JSON object", flatHSM: "one JSON object",
		`{"a": "` + strings.Repeat("a", maxFlat) + `"}`:        "bytes",
		flatHSM + `, "pin": "12345678"}`:                       `field "pin" is given twice`,
		flatHSM + `, "any_mount": true, "any_mount": true}`:    `field "any_mount" is given twice`,
		flatHSM + `, "allow_generate_keys": true}`:             `unknown field "allow_generate_keys"; did you mean "allow_generate_key"`,
		flatHSM + `, "any-mount": true}`:                       `did you mean "any_mount"`,
		flatHSM + `, "uuid": "a"}`:                             `did you mean "UUID"`,
		flatHSM + `, "key_bit": 2048}`:                         `did you mean "key_bits"`,
		flatHSM + `, "kms_key": "a"}`:                          `backend "pkcs11" takes UUID, allow_generate_key`,
		flatHSM + `, "name": "root"}`:                          `field name: got "root", but the entry is of "ca"`,
		flatHSM + `, "type": "awskms"}`:                        `field type: got "awskms", but the entry is of "pkcs11"`,
		flatHSM + `, "type": 1}`:                               "field type: got 1; it takes a string",
		flatHSM + `, "any_mount": "yes"}`:                      `field any_mount: got "yes"; it takes true or false`,
		flatHSM + `, "any_mount": null}`:                       "field any_mount: got null",
		flatHSM + `, "usages": null}`:                          "field usages: got null",
		flatHSM + `, "usages": "sing"}`:                        `"sing" is not one of encrypt`,
		flatHSM + `, "usages": 1}`:                             "want a list of names",
		flatHSM + `, "public_key_sha256": "xy"}`:               "field public_key_sha256: it takes hexadecimal",
		flatHSM + `, "public_key_sha256": "ab"}`:               "PublicKeySHA256 has 1 bytes",
		flatHSM + `, "curve": null}`:                           "curve: ",
		flatHSM + `, "connection": "a"}`:                       "",
		strings.Replace(flatHSM, "HSM1", "hsm9", 1) + "}":      `library "hsm9" is not configured`,
		strings.Replace(flatHSM, testPIN, "redacted", 1) + "}": `field pin is "redacted"`,
		`{}`: "library: is missing",
	} {
		_, err := DecodeEntry(ref("team-a/ca"), b, []byte(text))
		if says == "" { // taken here, and refused by Create
			assert.NoError(t, err)
			continue
		}
		check(t, err, backend.ErrInvalidParams, says, `decode "team-a/ca" (pkcs11)`)
		assert.NotContains(t, err.Error(), testPIN)
	}
	_, err := DecodeEntry(ref("ca"), nil, []byte(`{}`))
	check(t, err, backend.ErrInvalidParams, "backend is nil")
	_, err = DecodeEntry(ref("ca"), newClient(newVault()), []byte(`{}`))
	check(t, err, backend.ErrUnsupported, "ParamsDecoder")
	_, err = DecodeEntry(namespace.Ref{Name: "CA"}, b, []byte(flatHSM+"}"))
	check(t, err, backend.ErrInvalidParams, "key name")
}

// TestDecodeEntryChooses: which connection an entry is of follows from the namespace, the type and the library.
func TestDecodeEntryChooses(t *testing.T) {
	aws := clouds(t)[0]
	r := stored(t, Connection{Name: "one", Backend: hsm{libraries: "hsm1"}}, Connection{Name: "two", Backend: hsm{libraries: "hsm2,hsm3"}},
		Connection{Name: "three", Backend: hsm{libraries: "hsm3"}}, Connection{Name: "cloud-a", Backend: aws, Namespaces: []namespace.Path{"team-a"}})
	with := func(library string) string { return strings.Replace(flatHSM, "HSM1", library, 1) }
	for _, c := range []struct{ ref, kind, text, want, says string }{
		{"team-a/ca", "pkcs11", with("HSM1") + "}", "one", ""},
		{"team-a/ca", "pkcs11", with("Hsm2") + "}", "two", ""},
		{"team-a/ca", "pkcs11", with("hsm3") + "}", "", "connections three (pkcs11), two (pkcs11) can all have the key"},
		{"team-a/ca", "pkcs11", with("hsm3") + `, "connection": "three"}`, "three", ""},
		{"team-a/ca", "pkcs11", with("hsm1") + `, "connection": "three"}`, "", `library "hsm1" is not configured`},
		{"team-a/ca", "pkcs11", with("hsm4") + "}", "", `library "hsm4" is not configured`},
		{"team-a/ca", "pkcs11", with("hsm1") + `, "connection": "four"}`, "", `"four", which is none of type "pkcs11"`},
		{"team-a/ca", "pkcs11", with("hsm1") + `, "connection": "cloud-a"}`, "", `"cloud-a", which is none of type "pkcs11"`},
		{"team-a/ca", "awskms", `{"kms_key": "alias/a"}`, "cloud-a", ""},
		{"team-b/ca", "awskms", `{"kms_key": "alias/a"}`, "", "this namespace may use one (pkcs11), three (pkcs11), two (pkcs11)"},
		{"team-a/ca", "gcpckms", `{}`, "", `no connection is of type "gcpckms"`},
	} {
		got, err := r.DecodeEntry(ref(c.ref), c.kind, []byte(c.text))
		if c.says != "" {
			check(t, err, backend.ErrInvalidParams, c.says)
			assert.False(t, strings.Contains(err.Error(), "cloud-a (") && strings.HasPrefix(c.ref, "team-b"), "another namespace's connection shows: %v", err)
			continue
		}
		require.NoError(t, err, c.text)
		assert.Equal(t, c.want, got.Connection)
		assert.NoError(t, r.Create(t.Context(), got))
		require.NoError(t, r.Delete(t.Context(), got.Ref))
	}
}

// TestUpdateKeepsSecrets: what was read can be sent back: secrets that are redacted stay, unless they would be used elsewhere, or
// for something else.
func TestUpdateKeepsSecrets(t *testing.T) {
	aws := clouds(t)[0]
	r := stored(t, Connection{Name: "one", Backend: hsm{libraries: "hsm1"}}, Connection{Name: "two", Backend: hsm{libraries: "hsm1"}}, Connection{Name: "aws", Backend: aws})
	for _, c := range []struct {
		ref, kind, text string
		elsewhere       [][2]string
	}{
		{"a/hsm", "pkcs11", flatHSM + `, "connection": "two"}`, [][2]string{
			{`"mechanism":"0x1041"`, `"mechanism":"0x1041","curve":"P384"`}, {`"hall-1"`, `"hall-2"`}, {`"connection":"two"`, `"connection":"one"`},
		}},
		{"a/aws", "awskms", `{"kms_key": "alias/a", "access_key": "12345678a", "secret_key": "12345678b"}`, [][2]string{
			{`"access_key":"redacted"`, `"access_key":"other"`}, {`"kms_key"`, `"endpoint":"https://attacker.example","kms_key"`},
		}},
	} {
		e, err := r.DecodeEntry(ref(c.ref), c.kind, []byte(c.text))
		require.NoError(t, err)
		e.AnyMount = true
		require.NoError(t, r.Create(t.Context(), e))
		e, err = r.Entry(e.Ref)
		require.NoError(t, err)
		text, err := EncodeEntry(e)
		require.NoError(t, err)
		assert.NotContains(t, string(text), testPIN)
		again, err := r.DecodeEntry(e.Ref, c.kind, text)
		require.NoError(t, err)
		again.Version = e.Version
		assert.Equal(t, e, again)
		for _, change := range c.elsewhere {
			require.Contains(t, string(text), change[0])
			_, err := r.DecodeEntry(e.Ref, c.kind, []byte(strings.Replace(string(text), change[0], change[1], 1)))
			check(t, err, backend.ErrInvalidParams, "keeps a secret for what it was given for")
		}
		changed := strings.Replace(string(text), `"any_mount":true`, `"any_mount":false`, 1)
		next, err := r.DecodeEntry(e.Ref, c.kind, []byte(changed))
		require.NoError(t, err)
		assert.Equal(t, e.Params, next.Params)
		assert.False(t, next.AnyMount)
		left, err := r.DecodeEntry(e.Ref, c.kind, []byte(strings.Replace(changed, `"connection":"`+e.Connection+`",`, "", 1)))
		require.NoError(t, err)
		assert.Equal(t, e.Connection, left.Connection, "where two connections could, the entry's stays")
		_, err = r.DecodeEntry(ref("a/another"), c.kind, []byte(strings.Replace(changed, `"name":"`+e.Ref.Name+`",`, "", 1)))
		check(t, err, backend.ErrInvalidParams, `is "redacted", and there is no entry that has it`)
	}
}

// TestDecodeEntryWithoutStore: without connections, an update finds its backend, and a new entry must be told.
func TestDecodeEntryWithoutStore(t *testing.T) {
	r := NewRegistry()
	b := software.New(nil)
	defer b.Close()
	text := `{"key_name": "ca", "key_type": "ECDSA", "curve": "P256"}`
	_, err := r.DecodeEntry(ref("ca"), "software", []byte(text))
	check(t, err, backend.ErrUnsupported, "use the function DecodeEntry")
	e, err := DecodeEntry(ref("ca"), b, []byte(text))
	require.NoError(t, err)
	require.NoError(t, r.Create(t.Context(), e))
	next, err := r.DecodeEntry(ref("ca"), "software", []byte(`{"key_name": "ca", "any_mount": true}`))
	require.NoError(t, err)
	assert.Equal(t, Entry{Ref: ref("ca"), Backend: b, Params: software.Params{KeyName: "ca"}, AnyMount: true}, next)
	_, err = r.DecodeEntry(ref("ca"), "software", []byte(`{"key_name": "ca", "connection": "a"}`))
	check(t, err, backend.ErrInvalidParams, "without a store has none")
	_, err = r.DecodeEntry(ref("ca"), "pkcs11", []byte(flatHSM+"}"))
	check(t, err, backend.ErrUnsupported)
}

// TestEncodeEntry: the flat form, and what an entry shows whose connection is not there.
func TestEncodeEntry(t *testing.T) {
	e := Entry{Ref: ref("team-a/ca"), UUID: "u", Connection: "one", Backend: hsm{}, Params: paramsHSM, AllowStoreKey: true, PublicKeySHA256: []byte{0xab}}
	text, err := EncodeEntry(e)
	require.NoError(t, err)
	assert.JSONEq(t, `{"UUID": "u", "name": "ca", "type": "pkcs11", "connection": "one", "usages": ["sign", "verify"], "public_key_sha256": "ab",
		"allow_generate_key": false, "allow_replace_key": false, "allow_store_key": true, "any_mount": false,
		"library": "HSM1", "token_label": "hall-1", "key_label": "ca", "mechanism": "0x1041", "pin": "redacted"}`, string(text))
	e.Backend, e.Params = absentBackend{"pkcs11", "one"}, rawParams{"pkcs11", json.RawMessage(`{"pin":"12345678"}`)}
	text, err = EncodeEntry(e)
	require.NoError(t, err)
	assert.NotContains(t, string(text), testPIN)
	assert.Contains(t, string(text), `"type":"pkcs11"`)
	_, err = EncodeEntry(Entry{Ref: ref("ca")})
	check(t, err, backend.ErrInvalidParams)
}

// FuzzDecodeEntry: no text panics, and what is taken is written and, with its secrets, taken again.
func FuzzDecodeEntry(f *testing.F) {
	f.Add([]byte(flatHSM + `}`))
	f.Add([]byte(flatHSM + `, "usages": "sign,mac", "any_mount": "true", "UUID": "x", "connection": "", "max_parallel": "3"}`))
	f.Add([]byte(`{"pin": "redacted", "usages": []}`))
	b := hsm{libraries: "hsm1"}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := DecodeEntry(ref("ca"), b, data)
		if err != nil {
			if !errors.Is(err, backend.ErrInvalidParams) {
				t.Fatal(err)
			}
			return
		}
		text, err := EncodeEntry(e)
		require.NoError(t, err)
		fields, err := readFlat(text)
		require.NoError(t, err)
		fields.keep(e.Params)
		text, err = json.Marshal(map[string]json.RawMessage(fields))
		require.NoError(t, err)
		again, err := DecodeEntry(ref("ca"), b, text)
		require.NoError(t, err)
		if e.Usages == 0 {
			e.Usages = backend.UsageDefault
		}
		if len(e.PublicKeySHA256) == 0 {
			e.PublicKeySHA256 = nil
		}
		assert.Equal(t, e, again)
	})
}
