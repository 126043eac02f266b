package httpapi

import (
	"encoding/base64"
	"strconv"

	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/transit"
)

func dataKey(c *call) error { return c.dataKeys(false) }

func dataKeys(c *call) error { return c.dataKeys(true) }

// dataKeys makes data keys; several if the path says so.
func (c *call) dataKeys(several bool) error {
	r, count := transit.DataKeyRequest{}, 1
	err := c.dataKeyFields(&r, func(f *httpapi.Fields) {
		if several {
			f.Int("count", &count)
		}
	})
	if err != nil {
		return err
	}
	keys, err := c.engine.NewDataKeys(c.r.Context(), c.args[1], r, count)
	if err != nil {
		return err
	}
	pairs := make([]map[string]any, count)
	for i := range keys {
		pairs[i] = c.pair(&keys[i])
	}
	number := versionOf(keys[0].Ciphertext)
	if several {
		return c.reply(map[string]any{"key_pairs": pairs, "key_version": number})
	}
	pairs[0]["key_version"] = number
	return c.reply(pairs[0])
}

// derivedKeys makes data keys that can be made again.
func derivedKeys(c *call) error {
	var r transit.DerivedKeysRequest
	err := c.dataKeyFields(&r.DataKeyRequest, func(f *httpapi.Fields) {
		f.String("salt", &r.Salt)
		f.String("info", &r.Info)
		f.Int("key_index_from", &r.From)
		f.Int("key_index_to", &r.To)
	})
	if err != nil {
		return err
	}
	keys, err := c.engine.DeriveDataKeys(c.r.Context(), c.args[1], r)
	if err != nil {
		return err
	}
	out := map[string]any{"key_version": versionOf(keys[0].Ciphertext)}
	for i := range keys {
		out[strconv.Itoa(r.From+i)] = c.pair(&keys[i])
	}
	return c.reply(out)
}

// dataKeyFields reads what data keys are made of. more takes what else there is.
func (c *call) dataKeyFields(r *transit.DataKeyRequest, more func(*httpapi.Fields)) error {
	if c.args[0] != "plaintext" && c.args[0] != "wrapped" {
		return refuse("Invalid path, must be 'plaintext' or 'wrapped'")
	}
	f, err := c.fields()
	if err != nil {
		return err
	}
	more(f)
	r.Bits = 256
	f.Int("bits", &r.Bits)
	f.Int("key_version", &r.KeyVersion)
	f.String("padding_scheme", &r.PaddingScheme)
	given := texts(f, "context", "nonce", "associated_data")
	if err := f.Done(); err != nil {
		return err
	}
	if r.Context, err = unbase64("context", given["context"]); err != nil {
		return err
	}
	if r.Nonce, err = unbase64("nonce", given["nonce"]); err != nil {
		return err
	}
	if r.AssociatedData, err = unbase64("associated_data", given["associated_data"]); err != nil {
		return err
	}
	if r.Bits == 0 {
		return refuse("invalid bit length: 0; it takes 128, 256 and 512")
	}
	return nil
}

// pair shows a data key, its plaintext only if the path says so.
func (c *call) pair(key *transit.DataKey) map[string]any {
	pair := map[string]any{"ciphertext": key.Ciphertext}
	if c.args[0] == "plaintext" {
		pair["plaintext"] = base64.StdEncoding.EncodeToString(key.Plaintext)
	}
	return pair
}
