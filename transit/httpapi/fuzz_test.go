package httpapi

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// FuzzRequest: whatever is asked, the answer is JSON with a status that fits, and nothing panics.
func FuzzRequest(f *testing.F) {
	for path, body := range map[string]string{
		"/keys/k/config": `{"min_decryption_version":1}`, "/keys/k/import": `{"ciphertext":"AAAA","type":"aes256-gcm96"}`, "/restore": `{"backup":"e30="}`, "/keys/k/rotate": `{}`,
		"/keys/ec/csr": `{"csr":"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"}`, "/keys/ec/set-certificate": `{"certificate_chain":"x"}`,
		"/sign/ec/sha2-256": `{"input":"YQ==","prehashed":"1"}`, "/verify/ec": `{"signature":"vault:v1:MAYCAQECAQE=","input":""}`, "/encrypt/k": `{"batch_input":[{"plaintext":""}]}`,
		"/decrypt/k": `{"ciphertext":"vault:v1:AAAA"}`, "/rewrap/k": `{"ciphertext":"vault:v1:AAAA"}`, "/datakeys/wrapped/k": `{"count":"2"}`, "/derivedkeys/wrapped/k": `{"salt":"s","key_index_to":2}`, "/random/platform/8": `{"format":"hex"}`,
		"/hash": `{"input":"YQ==","algorithm":"sha3-512"}`, "/hmac/k": `{"input":"YQ=="}`, "/cmac/k/8": `{"input":"YQ=="}`, "/derive-key/d": `{"base_key_name":"ec","peer_public_key":"x"}`,
		"/keys/new": `{"type":"ed25519","derived":true}`, "/cache-config": `{"size":10}`, "/config/keys": `{"disable_upsert":"true"}`, "/keys/k/trim": `{"min_available_version":1}`,
	} {
		f.Add(path, body)
	}
	st, soft := memory.New(nil), software.New(nil)
	keys, err := managedkey.Open(f.Context(), st, nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	mount, err := keys.CreateMount(f.Context(), managedkey.MountSpec{Path: "transit", Type: "transit", Options: map[string]string{SoftwareOption: "true"}})
	if err != nil {
		f.Fatal(err)
	}
	h, err := New(st, &Options{Software: soft, AllowUnsealed: true, RotateEvery: -1, AllowPKCS1v15: true})(f.Context(), mount)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { h.Close(); keys.Close(); st.Close(); soft.Close() })
	ask := func(path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.URL = &url.URL{Path: path}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	ask("/keys/k", `{}`)
	ask("/keys/ec", `{"type":"ecdsa-p256"}`)
	f.Fuzz(func(t *testing.T, path, body string) {
		if strings.Contains(body, "rsa-") || !strings.HasPrefix(path, "/") || len(path) > 100 {
			return // making such a key takes seconds
		}
		w := ask(path, body)
		switch w.Code {
		case 204:
			if w.Body.Len() > 0 {
				t.Errorf("204 with %q", w.Body)
			}
			return
		case 200, 400, 403, 404, 405, 409:
		default:
			t.Errorf("%s: status %d: %s", path, w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %q is no JSON", path, w.Body)
		}
	})
}
