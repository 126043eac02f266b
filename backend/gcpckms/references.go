package gcpckms

import (
	"bytes"
	"encoding/json"

	"cloud.google.com/go/auth/credentials"

	"github.com/managedkeys/managedkeys/backend"
)

var _ backend.Referrer = Params{}

// References implements [backend.Referrer]: Credentials are a reference unless they are in JSON, of a type that has all it needs in it. Others
// name files, variables, addresses and programs to get more from.
func (p Params) References() []backend.Secret {
	text := bytes.TrimSpace([]byte(p.Credentials))
	if len(text) == 0 {
		return nil
	}
	var head struct{ Type credentials.CredType }
	if text[0] == '{' && json.Unmarshal(text, &head) == nil && (head.Type == credentials.ServiceAccount || head.Type == credentials.AuthorizedUser) {
		return nil
	}
	return []backend.Secret{p.Credentials}
}
