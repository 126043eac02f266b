package azurekeyvault

import (
	"context"
	"encoding/json"
	"encoding/pem"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/managedkeys/managedkeys/backend"
)

// AttestationFormat is the Format of the attestations of keys in a Managed HSM: Statement is the JSON object that the
// service calls KeyAttestation, with the members version, privateKeyAttestation, publicKeyAttestation and
// certificatePemFile, which are base64url.
const AttestationFormat = "AZURE_MANAGED_HSM"

// attester is the operation of a [backend.Attester].
type attester struct {
	b *Backend
	k *key
}

// Attest implements [backend.Attester]: one request (GetKeyAttestation). The certificates are those of the statement, in
// the order in which the service gave them.
func (a attester) Attest(ctx context.Context) (backend.Attestation, error) {
	if ctx.Err() != nil {
		return backend.Attestation{}, contextError(ctx, "attest")
	}
	if err := a.b.gate.Enter(); err != nil {
		return backend.Attestation{}, err
	}
	defer a.b.gate.Leave()
	ctx, cancel := a.k.bounded(ctx)
	defer cancel()
	return call(ctx, a.k.connection, a.k.operation("GetKeyAttestation"), func(ctx context.Context) (backend.Attestation, error) {
		resp, err := a.k.client.GetKeyAttestation(ctx, a.k.name, a.k.version, nil)
		if err != nil {
			return backend.Attestation{}, err
		}
		if resp.Key == nil || resp.Attributes == nil || resp.Attributes.Attestation == nil {
			return backend.Attestation{}, integrity("the answer to GetKeyAttestation has no attestation")
		}
		if err := checkKID(resp.Key.KID, a.k.name, a.k.version); err != nil {
			return backend.Attestation{}, err
		}
		return attestation(resp.Attributes.Attestation)
	})
}

func attestation(from *azkeys.KeyAttestation) (backend.Attestation, error) {
	out := backend.Attestation{Format: AttestationFormat}
	if len(from.PrivateKeyAttestation) == 0 {
		return out, integrity("the answer to GetKeyAttestation has an empty attestation")
	}
	var err error
	if out.Statement, err = json.Marshal(from); err != nil {
		return out, integrity("the answer to GetKeyAttestation can't be encoded again: %v", err)
	}
	for rest := from.CertificatePEMFile; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out, nil
		}
		if block.Type == "CERTIFICATE" {
			out.Certificates = append(out.Certificates, block.Bytes)
		}
	}
}
