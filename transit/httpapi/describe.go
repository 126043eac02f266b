package httpapi

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/pem"
	"strconv"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/transit"
)

// describe returns what clients are told of a key. derivation is the context for whose key the public key of a derived key is shown.
func (c *call) describe(info *transit.KeyInfo, derivation []byte) map[string]any {
	kind := info.Type
	if info.Managed {
		kind = transit.TypeManaged
	}
	encrypts, decrypts, signs := c.supports(info)
	out := map[string]any{
		"name": info.Name, "type": kind, "derived": info.Derived, "deletion_allowed": info.DeletionAllowed,
		"min_available_version": info.MinAvailableVersion, "min_decryption_version": info.MinDecryptionVersion,
		"min_encryption_version": info.MinEncryptionVersion, "latest_version": info.LatestVersion,
		"exportable": info.Exportable, "allow_plaintext_backup": info.AllowPlaintextBackup,
		"supports_encryption": encrypts, "supports_decryption": decrypts, "supports_signing": signs,
		"supports_derivation": derives(kind), "auto_rotate_period": int64(info.AutoRotatePeriod / time.Second),
		"imported_key": info.Imported, "soft_deleted": info.SoftDeleted,
	}
	if info.Imported {
		out["imported_key_allow_rotation"] = info.AllowRotation
	}
	if info.Derived {
		out["kdf"], out["convergent_encryption"] = "hkdf_sha256", info.Convergent
		if info.Convergent {
			out["convergent_encryption_version"] = -1 // each version of the key has its own
		}
	}
	versions := make(map[string]any, len(info.Versions))
	for i := range info.Versions {
		if info.Versions[i].Version < info.MinDecryptionVersion {
			continue // clients take those that are shown for those that can be used
		}
		versions[strconv.Itoa(info.Versions[i].Version)] = c.describeVersion(info, &info.Versions[i], derivation)
	}
	out["keys"] = versions
	if info.Managed {
		out["managed_key_id"] = info.Versions[len(info.Versions)-1].ManagedKey
	}
	return out
}

// describeVersion returns the time of a symmetric key, in seconds of Unix, and more of others.
func (c *call) describeVersion(info *transit.KeyInfo, v *transit.KeyVersion, derivation []byte) any {
	if v.PublicKey == nil && v.Type != transit.TypeEd25519 {
		return v.Created.Unix()
	}
	out := map[string]any{"name": v.Type, "public_key": "", "certificate_chain": "", "creation_time": v.Created.Format(time.RFC3339Nano)}
	if v.ManagedKey != "" {
		out["managed_key_id"] = v.ManagedKey
	}
	public := v.PublicKey
	if info.Derived && len(derivation) > 0 {
		public, _ = c.engine.PublicKey(c.r.Context(), info.Name, v.Version, derivation) // nil if the window has left it behind
	}
	switch key := public.(type) {
	case nil:
	case ed25519.PublicKey:
		out["public_key"] = base64.StdEncoding.EncodeToString(key)
	default:
		if ec, ok := key.(*ecdsa.PublicKey); ok {
			out["name"] = ec.Curve.Params().Name
		}
		if der, err := backend.SubjectPublicKeyInfo(key); err == nil {
			out["public_key"] = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		}
	}
	var chain strings.Builder
	for _, der := range v.Certificates {
		pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a Builder takes everything
	}
	out["certificate_chain"] = strings.TrimSpace(chain.String())
	return out
}

// supports tells what a key can do: a managed key by what its key manager and its entry say, and others by their type.
func (c *call) supports(info *transit.KeyInfo) (encrypts, decrypts, signs bool) {
	if info.Managed {
		if key, err := c.mount.Key(c.r.Context(), info.Versions[len(info.Versions)-1].ManagedKey); err == nil {
			can := key.Capabilities()
			cipher := len(can.OAEPHashes) > 0 || strings.HasPrefix(can.Algorithm, "AES")
			return cipher && can.Usages.Has(backend.UsageEncrypt), cipher && can.Usages.Has(backend.UsageDecrypt),
				len(can.Signatures) > 0 && can.Usages.Has(backend.UsageSign)
		}
	}
	rsa := strings.HasPrefix(info.Type, "rsa-")
	cipher := rsa || derives(info.Type) && info.Type != transit.TypeEd25519
	signs = rsa || info.Type == transit.TypeEd25519 || strings.HasPrefix(info.Type, "ecdsa-") || strings.HasPrefix(info.Type, "ml-dsa-")
	return cipher, cipher, signs
}

// derives reports whether keys of a type may be derived.
func derives(kind string) bool {
	switch kind {
	case transit.TypeAES128, transit.TypeAES256, transit.TypeChaCha20Poly1305, transit.TypeXChaCha20Poly1305, transit.TypeEd25519:
		return true
	}
	return false
}
