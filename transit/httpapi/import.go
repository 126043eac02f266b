package httpapi

import (
	"crypto/x509"
	"encoding/pem"

	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/transit"
)

func wrappingKey(c *call) error {
	if err := c.allowSoftware(); err != nil {
		return err
	}
	public, err := c.engine.WrappingKey(c.r.Context())
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	return c.reply(map[string]string{"public_key": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))})
}

// importFields takes the key material of an import.
func importFields(f *httpapi.Fields) (transit.Import, error) {
	given := texts(f, "ciphertext", "hash_function", "public_key")
	in := transit.Import{HashFunction: given["hash_function"], PublicKey: []byte(given["public_key"])}
	var err error
	in.Ciphertext, err = unbase64("ciphertext", given["ciphertext"])
	return in, err
}

func importKey(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	in, broken := importFields(f)
	var o transit.KeyOptions
	var allowRotation bool
	keyOptions(f, &o)
	f.Bool("allow_rotation", &allowRotation)
	if err := f.Done(); err != nil {
		return err
	}
	if broken != nil {
		return broken
	}
	// A key for a key manager is unwrapped here as well, with the wrapping key.
	if err := c.allowSoftware(); err != nil {
		return err
	}
	if err := c.engine.ImportKey(c.r.Context(), c.args[0], in, o, allowRotation); err != nil {
		return err
	}
	return c.reply(nil)
}

func importVersion(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	in, broken := importFields(f)
	number := 0
	f.Int("version", &number)
	if err := f.Done(); err != nil {
		return err
	}
	if broken != nil {
		return broken
	}
	if err := c.allowSoftware(); err != nil {
		return err
	}
	if err := c.engine.ImportVersion(c.r.Context(), c.args[0], in, number); err != nil {
		return err
	}
	return c.reply(nil)
}
