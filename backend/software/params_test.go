package software

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

func TestParamsValidate(t *testing.T) {
	good := []Params{
		{KeyName: "k"},
		{KeyName: strings.Repeat("k", MaxKeyName)},
		{KeyName: "team-a/issuing.ca_1:v2", Store: "anything"},
		{KeyName: "k", KeyType: RSA},
		{KeyName: "k", KeyType: RSA, KeyBits: 2048},
		{KeyName: "k", KeyType: RSA, KeyBits: 3072},
		{KeyName: "k", KeyType: RSA, KeyBits: 4096},
		{KeyName: "k", KeyType: ECDSA},
		{KeyName: "k", KeyType: ECDSA, Curve: "P256"},
		{KeyName: "k", KeyType: ECDSA, Curve: P384},
		{KeyName: "k", KeyType: ECDSA, Curve: P521},
		{KeyName: "k", KeyType: Ed25519},
		{KeyName: "k", KeyType: MLDSA},
		{KeyName: "k", KeyType: MLDSA, ParameterSet: 44},
		{KeyName: "k", KeyType: MLDSA, ParameterSet: 65},
		{KeyName: "k", KeyType: MLDSA, ParameterSet: 87},
		{KeyName: "k", KeyType: AES},
		{KeyName: "k", KeyType: AES, KeyBits: 128},
		{KeyName: "k", KeyType: AES, KeyBits: 256},
		{KeyName: "k", KeyType: HMAC},
		{KeyName: "k", KeyType: HMAC, KeyBits: 256},
		{KeyName: "k", KeyType: HMAC, KeyBits: 264},
		{KeyName: "k", KeyType: HMAC, KeyBits: 4096},
	}
	for _, p := range good {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}

	bad := []struct {
		name   string
		params Params
		says   []string // the field, what it got, what it takes
	}{
		{"no name", Params{}, []string{"key_name", "required"}},
		{"long name", Params{KeyName: strings.Repeat("k", MaxKeyName+1)}, []string{"key_name", "257", "256"}},
		{"space in name", Params{KeyName: "a b"}, []string{"key_name", `"a b"`, "printable ASCII"}},
		{"control in name", Params{KeyName: "a\x00b"}, []string{"key_name", `"a\x00b"`}},
		{"delete in name", Params{KeyName: "a\x7f"}, []string{"key_name", `"a\x7f"`}},
		{"non-ASCII name", Params{KeyName: "schlüssel"}, []string{"key_name", "schlüssel"}},
		{"invalid UTF-8 name", Params{KeyName: "a\xff"}, []string{"key_name", `"a\xff"`}},
		{"unknown type", Params{KeyName: "k", KeyType: "DSA"}, []string{"key_type", `"DSA"`, "RSA, ECDSA, ED25519, ML-DSA, ML-KEM, AES, HMAC"}},
		{"long unknown type", Params{KeyName: "k", KeyType: KeyType(strings.Repeat("x", 1000))}, []string{"key_type"}},
		{"lower-case type", Params{KeyName: "k", KeyType: "rsa"}, []string{"key_type", `"rsa"`}},
		{"bits alone", Params{KeyName: "k", KeyBits: 2048}, []string{"key_bits", "2048", "key_type"}},
		{"curve alone", Params{KeyName: "k", Curve: P256}, []string{"curve", "P256", "key_type"}},
		{"set alone", Params{KeyName: "k", ParameterSet: 44}, []string{"parameter_set", "44", "key_type"}},
		{"RSA 1024", Params{KeyName: "k", KeyType: RSA, KeyBits: 1024}, []string{"key_bits", "1024", "2048, 3072, 4096"}},
		{"RSA 2047", Params{KeyName: "k", KeyType: RSA, KeyBits: 2047}, []string{"key_bits", "2047"}},
		{"RSA 8192", Params{KeyName: "k", KeyType: RSA, KeyBits: 8192}, []string{"key_bits", "8192"}},
		{"RSA negative", Params{KeyName: "k", KeyType: RSA, KeyBits: -2048}, []string{"key_bits", "-2048"}},
		{"RSA curve", Params{KeyName: "k", KeyType: RSA, Curve: P256}, []string{"curve", "P256", "RSA takes none"}},
		{"RSA set", Params{KeyName: "k", KeyType: RSA, ParameterSet: 44}, []string{"parameter_set", "44", "RSA takes none"}},
		{"ECDSA bits", Params{KeyName: "k", KeyType: ECDSA, KeyBits: 256}, []string{"key_bits", "256", "ECDSA takes none"}},
		{"ECDSA P224", Params{KeyName: "k", KeyType: ECDSA, Curve: "P224"}, []string{"curve", `"P224"`, "P256, P384, P521"}},
		{"ECDSA P-256", Params{KeyName: "k", KeyType: ECDSA, Curve: "P-256"}, []string{"curve", `"P-256"`, "P256, P384, P521"}},
		{"ECDSA set", Params{KeyName: "k", KeyType: ECDSA, ParameterSet: 44}, []string{"parameter_set", "ECDSA takes none"}},
		{"Ed25519 bits", Params{KeyName: "k", KeyType: Ed25519, KeyBits: 256}, []string{"key_bits", "ED25519 takes none"}},
		{"Ed25519 curve", Params{KeyName: "k", KeyType: Ed25519, Curve: P256}, []string{"curve", "ED25519 takes none"}},
		{"Ed25519 set", Params{KeyName: "k", KeyType: Ed25519, ParameterSet: 44}, []string{"parameter_set", "ED25519 takes none"}},
		{"ML-DSA 2", Params{KeyName: "k", KeyType: MLDSA, ParameterSet: 2}, []string{"parameter_set", "2", "44, 65, 87"}},
		{"ML-DSA bits", Params{KeyName: "k", KeyType: MLDSA, KeyBits: 44}, []string{"key_bits", "ML-DSA takes none"}},
		{"ML-DSA curve", Params{KeyName: "k", KeyType: MLDSA, Curve: P256}, []string{"curve", "ML-DSA takes none"}},
		{"AES 192", Params{KeyName: "k", KeyType: AES, KeyBits: 192}, []string{"key_bits", "192", "128, 256"}},
		{"AES curve", Params{KeyName: "k", KeyType: AES, Curve: P256}, []string{"curve", "AES takes none"}},
		{"AES set", Params{KeyName: "k", KeyType: AES, ParameterSet: 44}, []string{"parameter_set", "AES takes none"}},
		{"HMAC 248", Params{KeyName: "k", KeyType: HMAC, KeyBits: 248}, []string{"key_bits", "248", "256 to 4096"}},
		{"HMAC 4104", Params{KeyName: "k", KeyType: HMAC, KeyBits: 4104}, []string{"key_bits", "4104"}},
		{"HMAC 257", Params{KeyName: "k", KeyType: HMAC, KeyBits: 257}, []string{"key_bits", "257", "multiples of 8"}},
		{"HMAC curve", Params{KeyName: "k", KeyType: HMAC, Curve: P256}, []string{"curve", "HMAC takes none"}},
		{"HMAC set", Params{KeyName: "k", KeyType: HMAC, ParameterSet: 44}, []string{"parameter_set", "HMAC takes none"}},
	}
	for _, test := range bad {
		t.Run(test.name, func(t *testing.T) {
			err := test.params.Validate()
			wantError(t, err, backend.ErrInvalidParams, test.says...)
			if err != nil && len(err.Error()) > 400 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestParamsComplete(t *testing.T) {
	b := New(nil)
	defer b.Close()
	for _, test := range []struct {
		params Params
		says   []string
	}{
		{Params{KeyName: "k"}, []string{"key_type is required", "ED25519"}},
		{Params{KeyName: "k", KeyType: RSA}, []string{"key_bits is required", "2048"}},
		{Params{KeyName: "k", KeyType: ECDSA}, []string{"curve is required", "P256"}},
		{Params{KeyName: "k", KeyType: MLDSA}, []string{"parameter_set is required", "65"}},
		{Params{KeyName: "k", KeyType: AES}, []string{"key_bits is required", "128, 256"}},
		{Params{KeyName: "k", KeyType: HMAC}, []string{"key_bits is required", "4096"}},
	} {
		t.Run(string(test.params.KeyType), func(t *testing.T) {
			_, err := b.Generate(t.Context(), test.params, nil)
			wantError(t, err, backend.ErrInvalidParams, test.says...)
		})
	}
	wantNames(t, b)
}

func TestOpenMatches(t *testing.T) {
	b := New(nil)
	defer b.Close()
	keys := []Params{
		{KeyName: "rsa", KeyType: RSA, KeyBits: 2048},
		{KeyName: "ecdsa", KeyType: ECDSA, Curve: P256},
		{KeyName: "mldsa", KeyType: MLDSA, ParameterSet: 65},
		{KeyName: "aes", KeyType: AES, KeyBits: 256},
	}
	for _, p := range keys {
		if _, err := b.Generate(t.Context(), p, nil); err != nil {
			t.Fatal(err)
		}
		for _, open := range []Params{p, {KeyName: p.KeyName}, {KeyName: p.KeyName, KeyType: p.KeyType, Store: MemoryStore}} {
			if _, err := b.Open(t.Context(), open); err != nil {
				t.Errorf("%+v: %v", open, err)
			}
		}
	}
	for _, test := range []struct {
		params Params
		says   []string // field, got, has
	}{
		{Params{KeyName: "rsa", KeyType: AES}, []string{"key_type", "got AES", "RSA"}},
		{Params{KeyName: "rsa", KeyType: RSA, KeyBits: 4096}, []string{"key_bits", "got 4096", "2048"}},
		{Params{KeyName: "ecdsa", KeyType: ECDSA, Curve: P521}, []string{"curve", "got P521", "P256"}},
		{Params{KeyName: "mldsa", KeyType: MLDSA, ParameterSet: 87}, []string{"parameter_set", "got 87", "65"}},
		{Params{KeyName: "aes", KeyType: AES, KeyBits: 128}, []string{"key_bits", "got 128", "256"}},
		{Params{KeyName: "rsa", Store: "laptop"}, []string{"store", `"laptop"`, `"memory"`}},
	} {
		_, err := b.Open(t.Context(), test.params)
		wantError(t, err, backend.ErrInvalidParams, test.says...)
	}
	_, err := b.Open(t.Context(), Params{KeyName: "none"})
	wantError(t, err, backend.ErrKeyNotFound, `"none"`, `"memory"`)
}

func TestParamsJSON(t *testing.T) {
	var p Params
	in := `{"key_name":"k","key_type":"ml-dsa","parameter_set":65,"store":"laptop"}`
	if err := json.Unmarshal([]byte(in), &p); err != nil {
		t.Fatal(err)
	}
	if want := (Params{KeyName: "k", KeyType: MLDSA, ParameterSet: 65, Store: "laptop"}); p != want {
		t.Errorf("got %+v, want %+v", p, want)
	}
	out, err := json.Marshal(Params{KeyName: "k", KeyType: ECDSA, Curve: P384})
	if want := `{"key_name":"k","key_type":"ECDSA","curve":"P384"}`; err != nil || string(out) != want {
		t.Errorf("got %s, %v, want %s", out, err, want)
	}
	for text, want := range map[string]Params{
		`{"key_name":"k","key_type":"rsa","key_bits":2048}`:     {KeyName: "k", KeyType: RSA, KeyBits: 2048},
		`{"key_name":"k","key_type":"ecdsa","curve":"p521"}`:    {KeyName: "k", KeyType: ECDSA, Curve: P521},
		`{"key_name":"k","key_type":"Ed25519"}`:                 {KeyName: "k", KeyType: Ed25519},
		`{"key_name":"k","key_type":"Hmac","key_bits":256}`:     {KeyName: "k", KeyType: HMAC, KeyBits: 256},
		`{"key_name":"k","key_type":"weird","curve":"p-256"}`:   {KeyName: "k", KeyType: "weird", Curve: "p-256"},
		`{"key_name":"k","key_type":"AES","key_bits":256}`:      {KeyName: "k", KeyType: AES, KeyBits: 256},
		`{"key_name":"k","key_type":"ML-DSA","store":"memory"}`: {KeyName: "k", KeyType: MLDSA, Store: MemoryStore},
	} {
		var got Params
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
	}
}

// FuzzParams checks that whatever JSON decodes to is either refused with ErrInvalidParams or comes back the same, and
// that nothing panics on the way to Open.
func FuzzParams(f *testing.F) {
	f.Add(`{"key_name":"k","key_type":"ML-DSA","parameter_set":65,"store":"memory"}`)
	f.Add(`{"key_name":"k","key_type":"rsa","key_bits":2048}`)
	f.Add(`{"key_name":"k","key_type":"ECDSA","curve":"p256"}`)
	f.Add(`{"key_name":"a b","key_type":"HMAC","key_bits":-8}`)
	b := New(nil)
	f.Fuzz(func(t *testing.T, text string) {
		var p Params
		if json.Unmarshal([]byte(text), &p) != nil {
			return
		}
		err := p.Validate()
		if _, openErr := b.Open(t.Context(), p); openErr == nil {
			t.Fatalf("%+v opens a key", p)
		}
		if err != nil {
			wantError(t, err, backend.ErrInvalidParams)
			return
		}
		if complete := p.complete(); complete != nil {
			wantError(t, complete, backend.ErrInvalidParams)
		}
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var again Params
		if err := json.Unmarshal(data, &again); err != nil || again != p && !strings.Contains(p.Store, "\ufffd") {
			t.Errorf("%+v comes back as %+v, %v", p, again, err)
		}
	})
}

// wantError fails the test unless err wraps want and contains every text.
func wantError(t testing.TB, err, want error, texts ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want one that wraps %q", err, want)
		return
	}
	if !strings.HasPrefix(err.Error(), "software: ") && !strings.HasPrefix(err.Error(), "backend: ") {
		t.Errorf("error %q does not begin with the package", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
}

// wantNames fails the test unless the keys of b are exactly those.
func wantNames(t testing.TB, b *Backend, names ...string) {
	t.Helper()
	var got []string
	for info, err := range b.List(t.Context(), nil) {
		if err != nil {
			t.Errorf("List: %v", err)
			return
		}
		got = append(got, info.Label)
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("the keys are %q, want %q", got, names)
	}
}
