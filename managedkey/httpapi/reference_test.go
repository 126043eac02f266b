package httpapi

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/awskms"
	"github.com/managedkeys/managedkeys/managedkey"
)

// TestReferences: who may write entries in his namespace can't have the server read its files and environment and send what is in there
// to an endpoint of his. What an entry refers to already stays, and who runs the server may refer.
func TestReferences(t *testing.T) {
	cloud, err := awskms.Connect(nil)
	require.NoError(t, err)
	t.Cleanup(func() { cloud.Close() })
	g := newRig(t, nil, managedkey.Connection{Name: "cloud", Backend: cloud})
	body := func(access, secret string) string {
		return fmt.Sprintf(`{"kms_key":"alias/k","key_type":"ECDSA","curve":"P256","region":"eu-central-1","endpoint":"http://127.0.0.1:9",
			"access_key":%q,"secret_key":%q`, access, secret)
	}
	write := func(name, token, body, more string) answer {
		return g.do("POST", "/v1/sys/managed-keys/awskms/"+name, token, body+more+"}", "X-Vault-Namespace", "team-a")
	}
	for _, b := range []string{body("file:/etc/passwd", "x"), body("AKIA", "env:HOME"), body("file:/nowhere/at/all", "env:NOT_SET")} {
		a := write("k", teamToken, b, "")
		assert.Equal(t, 403, a.status, b)
		assert.Contains(t, a.text, "take the capability sudo")
	}
	assert.Equal(t, 204, write("k", teamToken, body("AKIA", "filed"), "").status)
	assert.Equal(t, 403, write("k", teamToken, body("AKIA", "env:HOME"), "").status, "an update")
	assert.Equal(t, 204, write("of-root", rootToken, body("AKIA", "env:HOME"), "").status)
	assert.Equal(t, 204, write("of-root", teamToken, body("redacted", "redacted"), `,"any_mount":true`).status, "what is stored stays")
	elsewhere := write("of-root", teamToken, strings.Replace(body("redacted", "redacted"), "127.0.0.1:9", "127.0.0.1:10", 1), "")
	assert.Equal(t, 400, elsewhere.status, "what is stored goes nowhere else")
	assert.Contains(t, elsewhere.text, "keeps a secret for what it was given for")
	assert.Equal(t, 403, write("of-root", teamToken, body("AKIA", "env:PATH"), "").status)
}

type referrer struct{ S backend.Secret }

func (r referrer) References() []backend.Secret { return []backend.Secret{r.S} }

func TestReferencesWithin(t *testing.T) {
	type inner struct{ S backend.Secret }
	type outer struct {
		A    any
		P    *inner
		L    []inner
		M    map[string]any
		N    int
		S, T backend.Secret
		text backend.Secret
	}
	v := outer{inner{"env:A"}, &inner{"file:/b"}, []inner{{"env:C"}, {"plain"}}, map[string]any{"x": inner{"env:D"}, "y": referrer{"/f"}}, 1, "env:E", "no", "env:hidden"}
	assert.ElementsMatch(t, []backend.Secret{"env:A", "file:/b", "env:C", "env:D", "env:E", "/f"}, references(reflect.ValueOf(v)))
	assert.NotEmpty(t, v.text)
	assert.Empty(t, references(reflect.ValueOf(nil)))
	assert.Empty(t, references(reflect.ValueOf((*inner)(nil))))
}
