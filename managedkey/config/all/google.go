package all

import (
	"encoding/json"
	"fmt"
	"strings"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/regularfile"
)

// maxFile bounds what is read of a file that an argument names, in bytes: credentials and certificates have a few thousand.
const maxFile = 1 << 20

const kmsScope = "https://www.googleapis.com/auth/cloudkms"

// googleCredentials reads a credential in JSON, or the file that has it.
func googleCredentials(secret backend.Secret) (*auth.Credentials, error) {
	text, err := secret.Resolve()
	if err != nil {
		return nil, err
	}
	data := []byte(text)
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		if data, _, err = regularfile.Read(text, maxFile); err != nil {
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
