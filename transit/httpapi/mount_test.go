package httpapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// TestSoftwareKeysAreAllowed: a mount without the option gets no software key in any way, and managed ones as ever.
func TestSoftwareKeysAreAllowed(t *testing.T) {
	g := newRig(t, nil, nil)
	g.managed("ec", software.Params{KeyType: software.ECDSA, Curve: software.P256})
	g.post(200, "keys/soft", object{"type": "aes256-gcm96", "exportable": true, "allow_plaintext_backup": true})
	backup := g.get(200, "backup/soft").data["backup"]
	peer := g.post(200, "keys/ec", object{"managed_key_name": "ec"}).data["keys"].(object)["1"].(object)["public_key"]
	managedBackup := g.get(200, "backup/ec").data["backup"]
	post := func(path string, body any) answer { return g.do("POST", "managed/"+path, rootToken, body) }
	require.Equal(t, 200, post("keys/ec", object{"type": "managed_key", "managed_key_name": "ec"}).status)
	for path, body := range map[string]object{
		"keys/new": {"type": "aes256-gcm96"}, "keys/new-default": {}, "restore/new": {"backup": backup}, "keys/new/import": {"public_key": peer, "type": "ecdsa-p256"},
		"keys/ec/import_version": {"ciphertext": b64("x")}, "derive-key/new": {"base_key_name": "ec", "peer_public_key": peer},
	} {
		a := post(path, body)
		assert.Equal(t, 400, a.status, path)
		assert.Contains(t, a.text, "software keys are not allowed in this mount", path)
	}
	a := g.do("GET", "managed/wrapping_key", rootToken, nil)
	assert.Equal(t, 400, a.status)
	a = post("encrypt/new", object{"plaintext": b64("m")})
	assert.Equal(t, 400, a.status)
	assert.Contains(t, a.errors[0], "encryption key not found")
	a = g.do("LIST", "managed/keys", rootToken, nil)
	assert.Equal(t, []any{"ec"}, a.data["keys"])
	assert.Equal(t, 204, post("restore/copy", object{"backup": managedBackup}).status, "it has no secret")
	assert.Equal(t, 200, post("sign/copy", object{"input": b64("m")}).status)
	assert.Equal(t, 200, post("keys/copy/rotate", object{}).status, "its key manager makes the next one")

	// What there is stays usable when the option is taken away.
	mount, err := g.keys.OpenMount("", "transit")
	require.NoError(t, err)
	require.NoError(t, g.keys.TuneMount(t.Context(), mount, managedkey.MountChange{Options: map[string]string{}}))
	g.post(200, "encrypt/soft", object{"plaintext": b64("m")})
	g.post(400, "keys/soft/rotate", nil)
	g.post(400, "keys/another", nil)
}

// TestWhoMayUpsert: encrypting under an unknown name takes the capability create.
func TestWhoMayUpsert(t *testing.T) {
	g := newRig(t, nil, nil)
	body := object{"plaintext": b64("m")}
	a := g.do("POST", "transit/encrypt/k", userToken, body)
	assert.Equal(t, 403, a.status, a.text)
	g.post(200, "encrypt/k", body)
	a = g.do("POST", "transit/encrypt/k", userToken, body)
	assert.Equal(t, 200, a.status, a.text)
	for _, path := range []string{"decrypt/k", "keys/k/rotate", "export/encryption-key/k"} {
		assert.Equal(t, 403, g.do("POST", "transit/"+path, userToken, nil).status)
	}
	derived := g.post(200, "encrypt/d", object{"plaintext": b64("m"), "context": b64("c"), "convergent_encryption": true, "type": "xchacha20-poly1305"})
	assert.Contains(t, derived.data["ciphertext"], "vault:v1:")
	assert.Equal(t, true, g.get(200, "keys/d").data["derived"])
	g.post(400, "encrypt/e", object{"plaintext": b64("m"), "type": "ed25519"})
	g.post(400, "encrypt/e", object{"plaintext": b64("m"), "convergent_encryption": true})
	g.get(404, "keys/e")

	// Many at once make one key.
	var running sync.WaitGroup
	for range 16 {
		running.Go(func() {
			assert.Equal(t, 200, g.do("POST", "transit/encrypt/race", rootToken, body).status)
		})
	}
	running.Wait()
	assert.Equal(t, float64(1), g.get(200, "keys/race").data["latest_version"])
}

// TestKeptSettings: keys and settings are in the store, so that another process has them.
func TestKeptSettings(t *testing.T) {
	st := memory.New(nil)
	defer st.Close()
	keys, err := managedkey.Open(t.Context(), st, nil, nil)
	require.NoError(t, err)
	defer keys.Close()
	mount, err := keys.CreateMount(t.Context(), managedkey.MountSpec{Path: "transit", Type: "transit", Options: map[string]string{SoftwareOption: "true"}})
	require.NoError(t, err)
	soft := software.New(nil)
	defer soft.Close()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	engine := New(st, &Options{Software: soft, AllowUnsealed: true, RotateEvery: time.Millisecond, Now: clock})
	ask := func(h http.Handler, method, path, body string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w.Code, w.Body.String()
	}
	one, err := engine(t.Context(), mount)
	require.NoError(t, err)
	two, err := engine(t.Context(), mount)
	require.NoError(t, err)
	status, _ := ask(one, "POST", "/config/keys", `{"disable_upsert":true}`)
	assert.Equal(t, 200, status)
	_, text := ask(two, "GET", "/config/keys", "")
	assert.Contains(t, text, `"disable_upsert":true`)
	status, text = ask(two, "POST", "/cache-config", `{"size":100}`)
	assert.Equal(t, 204, status, text)
	_, text = ask(one, "GET", "/config/keys", "")
	assert.Contains(t, text, `"disable_upsert":true`, "the other setting is as it was")

	// A key that is due is rotated, once, by whoever is first.
	status, text = ask(one, "POST", "/keys/k", `{"auto_rotate_period":"1h"}`)
	assert.Equal(t, 200, status, text)
	mu.Lock()
	now = now.Add(90 * time.Minute)
	mu.Unlock()
	for _, h := range []http.Handler{one, two} {
		require.Eventually(t, func() bool {
			_, text := ask(h, "GET", "/keys/k", "")
			return strings.Contains(text, `"latest_version":2`)
		}, 30*time.Second, time.Millisecond)
	}
	require.NoError(t, one.Close())
	status, _ = ask(two, "POST", "/encrypt/k", `{"plaintext":""}`)
	assert.Equal(t, 200, status)
	require.NoError(t, two.Close())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = engine(ended, mount)
	assert.Error(t, err)
}

// TestRandomOfKeys: randomness of a managed key.
func TestRandomOfKeys(t *testing.T) {
	g := newRig(t, nil, nil)
	g.managed("ec", software.Params{KeyType: software.ECDSA, Curve: software.P256})
	g.post(200, "keys/k", object{"managed_key_name": "ec"})
	a := g.do("POST", "transit/random/managed_key/24", rootToken, object{"key": "k"})
	if a.status != 200 {
		assert.Equal(t, 400, a.status, a.text)
		assert.Contains(t, a.text, "random")
	} else {
		assert.Len(t, a.data["random_bytes"], 32)
	}
	g.post(400, "random/managed_key", object{"key": "none"})
	g.post(400, "random/16/16", nil)
	g.post(400, "random/platform/x", nil)
	g.post(404, "random/platform/8/8", nil)
}
