package backend_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

const pin = "hunter2-pin"

// TestSecretIsNeverShown formats a secret, alone and inside other values, in every way that Go offers.
func TestSecretIsNeverShown(t *testing.T) {
	type params struct {
		Label string
		PIN   backend.Secret `json:"pin" xml:"pin"`
	}
	secret := backend.Secret(pin)
	p := params{"label", secret}
	shown := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%10s", "%.3s", "%T|%v", "%c", "%t"} {
		for name, value := range map[string]any{"secret": secret, "pointer": &secret, "struct": p, "struct pointer": &p, "slice": []backend.Secret{secret}, "map": map[string]backend.Secret{"a": secret}, "any": []any{secret}} {
			if strings.HasPrefix(verb, "%T") {
				shown[verb+" of "+name] = fmt.Sprintf(verb, value, value)
			} else {
				shown[verb+" of "+name] = fmt.Sprintf(verb, value)
			}
		}
	}
	for name, marshal := range map[string]func(any) ([]byte, error){"json": json.Marshal, "xml": xml.Marshal} {
		data, err := marshal(p)
		require.NoError(t, err)
		shown[name] = string(data)
	}
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"slog json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).Info("opened", "pin", secret, "params", p, "pointer", &p)
		shown[name] = b.String()
	}
	shown["error"] = fmt.Errorf("open %v with %s: %w", p, secret, errors.New("refused")).Error()
	shown["sprint"] = fmt.Sprint(secret, p)
	for how, text := range shown {
		assert.NotContains(t, text, pin, how)
		assert.NotContains(t, strings.ToLower(text), fmt.Sprintf("%x", pin), how)
		assert.NotContains(t, text, pin[:3], how)
	}
	assert.Contains(t, shown["json"], `"pin":"redacted"`)
	assert.Equal(t, "redacted", shown["%v of secret"])
	assert.Equal(t, `"redacted"`, shown["%#v of secret"])
	assert.Equal(t, "", fmt.Sprint(backend.Secret("")), "an empty secret shows that it is empty")
}

func TestSecretResolve(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) backend.Secret {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return backend.Secret("file:" + path)
	}
	t.Setenv("MANAGEDKEYS_TEST_PIN", pin)
	t.Setenv("MANAGEDKEYS_TEST_EMPTY", "")
	for name, test := range map[string]struct {
		secret backend.Secret
		want   string
	}{
		"literal":        {pin, pin},
		"empty":          {"", ""},
		"colon":          {"a:b", "a:b"},
		"env":            {"env:MANAGEDKEYS_TEST_PIN", pin},
		"file":           {file("plain", pin), pin},
		"line break":     {file("lf", pin+"\n"), pin},
		"CRLF":           {file("crlf", pin+"\r\n"), pin},
		"one break only": {file("two", pin+"\n\n"), pin + "\n"},
		"spaces stay":    {file("spaces", " "+pin+" "), " " + pin + " "},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := test.secret.Resolve()
			require.NoError(t, err)
			assert.Equal(t, test.want, got)
		})
	}
	for name, test := range map[string]struct {
		secret backend.Secret
		text   string
	}{
		"unset":      {"env:MANAGEDKEYS_TEST_UNSET", `"MANAGEDKEYS_TEST_UNSET" is not set or empty`},
		"set empty":  {"env:MANAGEDKEYS_TEST_EMPTY", `"MANAGEDKEYS_TEST_EMPTY" is not set or empty`},
		"no name":    {"env:", `"" is not set or empty`},
		"absent":     {backend.Secret("file:" + filepath.Join(dir, "absent")), "no such file"},
		"directory":  {backend.Secret("file:" + dir), "is a directory"},
		"no path":    {"file:", "no such file"},
		"empty file": {file("empty", ""), "is empty"},
		"only break": {file("break", "\n"), "is empty"},
		"too large":  {file("large", strings.Repeat(pin, 10000)), "larger than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := test.secret.Resolve()
			assert.ErrorIs(t, err, backend.ErrCredentials)
			assert.ErrorContains(t, err, test.text)
			assert.NotContains(t, err.Error(), pin)
			assert.Empty(t, got)
		})
	}
}

func TestSecretIsReference(t *testing.T) {
	for s, want := range map[backend.Secret]bool{"env:A": true, "file:/a": true, "": false, "1234": false, "environment": false, "ENV:A": false} {
		assert.Equal(t, want, s.IsReference(), "%q", string(s))
	}
}

func TestSecretEqual(t *testing.T) {
	assert.True(t, backend.Secret(pin).Equal(pin))
	assert.False(t, backend.Secret(pin).Equal(pin+"x"))
	assert.False(t, backend.Secret("").Equal(pin))
}

func TestSecretFromJSON(t *testing.T) {
	var p struct{ PIN backend.Secret }
	require.NoError(t, json.Unmarshal([]byte(`{"PIN": "env:A"}`), &p))
	assert.True(t, p.PIN.Equal("env:A"))
	assert.Error(t, json.Unmarshal([]byte(`{"PIN": 1234}`), &p))
}
