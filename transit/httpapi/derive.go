package httpapi

import (
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/transit"
)

func deriveKey(c *call) error {
	f, err := httpapi.ReadFields(c.r)
	if err != nil {
		return err
	}
	given := texts(f, "name", "base_key_name", "peer_public_key", "derived_key_type", "key_derivation_algorithm")
	r, kind := transit.DeriveRequest{PeerPublicKey: []byte(given["peer_public_key"])}, given["derived_key_type"]
	f.Int("base_key_version", &r.KeyVersion)
	if err := f.Done(); err != nil {
		return err
	}
	if algorithm := given["key_derivation_algorithm"]; algorithm != "" && algorithm != "ecdh" {
		return refuse("key derivation algorithm %.40q not supported; it takes ecdh", algorithm)
	}
	if len(r.PeerPublicKey) == 0 {
		return refuse("peer public key not provided")
	}
	if err := c.allowSoftware(); err != nil {
		return err
	}
	if kind == "" {
		kind = transit.TypeAES256
	}
	if err := c.engine.DeriveKey(c.r.Context(), c.args[0], given["base_key_name"], r, transit.KeyOptions{Type: kind}); err != nil {
		return err
	}
	return c.reply(nil)
}
