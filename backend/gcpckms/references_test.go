package gcpckms

import (
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// Credentials that make the program read a file or run another one are references, however they are written.
func TestReferences(t *testing.T) {
	for credentials, want := range map[backend.Secret]bool{
		"": false, `{"type":"service_account","client_email":"x"}`: false, ` {"type":"authorized_user"}`: false,
		"/etc/passwd": true, "relative.json": true, "env:X": true, "file:/x": true, "{": true, "{}": true,
		`{"type":"external_account","token_url":"https://example.com","credential_source":{"file":"/run/secrets/seal"}}`: true,
		`{"type":"impersonated_service_account","source_credentials":{"type":"external_account"}}`:                       true,
		`{"type":"gdch_service_account","ca_cert_path":"/etc/passwd"}`:                                                   true,
		`{"type":"service_account","type":"external_account"}`:                                                           true,
	} {
		if got := len(Params{Credentials: credentials}.References()) > 0; got != want {
			t.Errorf("%q: %t", string(credentials), got)
		}
	}
}
