package gcpckms

import (
	"context"
	"encoding/pem"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// attests is the operation of a backend.Attester, which keys in an HSM are.
type attests struct {
	v *version
	b *Backend
}

// Attest implements backend.Attester. It returns the statement that the HSM signed when the key was made, and the
// certificates of the HSM's manufacturer and of Google that belong to it: the chains of the manufacturer, of Google's card and
// of Google's partition, one after another. It reads the description of the key version (permission
// cloudkms.cryptoKeyVersions.get).
func (a attests) Attest(ctx context.Context) (backend.Attestation, error) {
	ctx, leave, err := a.b.enter(ctx, "attest", a.b.remote.CallTimeout)
	if err != nil {
		return backend.Attestation{}, err
	}
	defer leave()
	v, err := a.v.conn.version(ctx, a.v.name)
	if err != nil {
		return backend.Attestation{}, err
	}
	statement := v.GetAttestation()
	if len(statement.GetContent()) == 0 {
		return backend.Attestation{}, fmt.Errorf("gcpckms: key %q has no attestation: %w", a.v.name, backend.ErrUnsupported)
	}
	out := backend.Attestation{Format: statement.GetFormat().String(), Statement: statement.GetContent()}
	chains := statement.GetCertChains()
	for _, chain := range [][]string{chains.GetCaviumCerts(), chains.GetGoogleCardCerts(), chains.GetGooglePartitionCerts()} {
		for _, text := range chain {
			block, _ := pem.Decode([]byte(text))
			if block == nil || block.Type != "CERTIFICATE" {
				return backend.Attestation{}, fmt.Errorf("gcpckms: key %q: a certificate of its attestation is not PEM: %w", a.v.name, backend.ErrIntegrity)
			}
			out.Certificates = append(out.Certificates, block.Bytes)
		}
	}
	return out, nil
}
