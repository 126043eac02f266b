package transit

import (
	"context"
	"encoding/base64"
)

const wrappingKeyKind = "wrapping key"

// WrapKey returns key material that the key manager has wrapped, by AES Key Wrap with Padding (RFC 5649) or RSAES-OAEP with
// SHA-256, as vault:v<version>:<base64>. It needs the usage wrap. version is as in EncryptRequest. The error is as for Encrypt.
func (e *Engine) WrapKey(ctx context.Context, name string, material []byte, version int) (string, error) {
	k, err := e.usable(ctx, wrappingKeyKind, name)
	if err != nil {
		return "", err
	}
	k, v, err := e.choose(ctx, k, "wrapping", version)
	if err != nil {
		return "", err
	}
	if k.rec.Derived {
		return "", unsupported("key %q is a derived one; those don't wrap", name)
	}
	h, err := e.handle(ctx, k, v)
	if err != nil {
		return "", err
	}
	wrapped, err := h.WrapKey(ctx, material)
	if err != nil {
		return "", failed("wrap", k, v, err)
	}
	return format(v.number, wrapped, base64.StdEncoding), nil
}

// UnwrapKey returns the key material that WrapKey wrapped. It needs the usage unwrap. The error is as for Decrypt.
func (e *Engine) UnwrapKey(ctx context.Context, name, wrapped string) ([]byte, error) {
	k, err := e.usable(ctx, wrappingKeyKind, name)
	if err != nil {
		return nil, err
	}
	number, encoded, err := parse("wrapped key", wrapped)
	if err != nil {
		return nil, err
	}
	k, v, err := e.made(ctx, k, "wrapped key", number)
	if err != nil {
		return nil, err
	}
	raw, ok := decode(encoded, base64.StdEncoding)
	if !ok {
		return nil, invalid("invalid wrapped key: could not decode base64")
	}
	if k.rec.Derived {
		return nil, unsupported("key %q is a derived one; those don't unwrap", name)
	}
	h, err := e.handle(ctx, k, v)
	if err != nil {
		return nil, err
	}
	material, err := h.UnwrapKey(ctx, raw)
	if err != nil {
		return nil, decryptionError("unwrap", k, v, err)
	}
	return material, nil
}
