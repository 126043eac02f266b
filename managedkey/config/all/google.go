package all

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"

	"github.com/managedkeys/managedkeys/backend"
)

const kmsScope = "https://www.googleapis.com/auth/cloudkms"

// googleCredentials reads a credential in JSON, or the file that has it.
func googleCredentials(secret backend.Secret) (*auth.Credentials, error) {
	text, err := secret.Resolve()
	if err != nil {
		return nil, err
	}
	data := []byte(text)
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		if data, err = os.ReadFile(text); err != nil {
			return nil, fmt.Errorf("credentials: %w: %w", backend.ErrCredentials, err)
		}
	}
	var head struct{ Type credentials.CredType }
	if json.Unmarshal(data, &head) != nil { // the error of package json quotes what it has read
		return nil, fmt.Errorf("credentials: %d bytes are no JSON of a Google credential: %w", len(data), backend.ErrCredentials)
	}
	creds, err := credentials.NewCredentialsFromJSON(head.Type, data, &credentials.DetectOptions{Scopes: []string{kmsScope}, UseSelfSignedJWT: true})
	if err != nil {
		return nil, fmt.Errorf("credentials of type %.60q: %w: %w", string(head.Type), backend.ErrCredentials, err)
	}
	return creds, nil
}
