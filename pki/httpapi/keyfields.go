package httpapi

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/managedkeys/managedkeys/backend"
	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/pki"
)

// keyFields are the fields that say which key a CA or a request is to have.
type keyFields struct {
	name                   string // key_name: what it is called here
	ref                    string // key_ref, of the type existing
	managedName, managedID string
	kind                   string
	bits                   int
	sized                  bool // kind or bits were given
}

func (in *keyFields) take(f *api.Fields) {
	in.sized = f.Has("key_type") || f.Has("key_bits")
	f.String("key_name", &in.name)
	f.String("key_ref", &in.ref)
	f.String("managed_key_name", &in.managedName)
	f.String("managed_key_id", &in.managedID)
	f.String("key_type", &in.kind)
	f.Int("key_bits", &in.bits)
}

// resolve returns the key that the fields and the type in the path mean, and has the mount know it.
func (in *keyFields) resolve(c *call) (pki.Key, error) {
	ref, err := in.find(c)
	if err != nil {
		return pki.Key{}, err
	}
	return c.a.AddKey(c.ctx(), ref, in.name)
}

// called gives the key its name, once what it was wanted for is done: a request that is refused leaves no name behind.
func (in *keyFields) called(c *call, ref pki.KeyRef) error {
	if in.name == "" {
		return nil
	}
	_, err := c.a.AddKey(c.ctx(), ref, in.name)
	return err
}

// find returns the key. Types are kms, a managed key; existing, one that the mount knows; and internal, one in software.
func (in *keyFields) find(c *call) (pki.KeyRef, error) {
	kind := c.param("type")
	managed := in.managedName != "" || in.managedID != ""
	switch {
	case kind != "kms" && managed:
		return pki.KeyRef{}, refuse("fields managed_key_name and managed_key_id: they are for the type kms; got type %.40q", kind)
	case kind != "existing" && in.ref != "":
		return pki.KeyRef{}, refuse("field key_ref: it is for the type existing; got type %.40q", kind)
	case kind != "internal" && in.sized:
		return pki.KeyRef{}, refuse("fields key_type and key_bits: the key is there already; leave them out")
	}
	switch kind {
	case "kms":
		switch {
		case in.managedName != "" && in.managedID != "":
			return pki.KeyRef{}, refuse("give one of managed_key_name and managed_key_id; got both")
		case !managed:
			return pki.KeyRef{}, refuse("missing argument: one of managed_key_name and managed_key_id is required for the type kms")
		}
		return pki.KeyRef{Name: in.managedName + in.managedID}, nil
	case "existing":
		key, err := c.a.Key(c.ctx(), in.ref)
		if err != nil {
			return pki.KeyRef{}, err
		}
		return pki.KeyRef{Name: key.UUID, Version: key.Version}, nil
	case "internal":
		return in.software(c)
	case "exported":
		return pki.KeyRef{}, refuse("type exported: the private key of a CA is never given out; use the type kms with a managed key")
	}
	return pki.KeyRef{}, refuse("type %.40q: it takes kms, existing or internal", kind)
}

// software makes a key in software, if program and mount both allow that.
func (in *keyFields) software(c *call) (pki.KeyRef, error) {
	if c.opts.SoftwareKey == nil || !c.allows(OptionSoftwareKeys) {
		return pki.KeyRef{}, refuse("type internal: it would be a key in software, which this mount doesn't allow (option %s); use the type kms with a managed key", OptionSoftwareKeys)
	}
	takes := map[string][]int{"rsa": {0, 2048, 3072, 4096}, "ec": {0, 256, 384, 521}, "ed25519": {0}}
	kind := in.kind
	if kind == "" {
		kind = "rsa"
	}
	for _, bits := range takes[kind] {
		if bits != in.bits {
			continue
		}
		name, err := c.opts.SoftwareKey(c.ctx(), c.mount, kind, bits)
		if err != nil {
			return pki.KeyRef{}, fmt.Errorf("pki/httpapi: software key: %w", err)
		}
		return pki.KeyRef{Name: name}, nil
	}
	return pki.KeyRef{}, refuse("fields key_type %.20q and key_bits %d: it takes rsa with 2048, 3072, 4096; ec with 256, 384, 521; and ed25519", in.kind, in.bits)
}

// keyRoutes are the paths of keys.
var keyRoutes = []route{
	{path: "keys", list: listKeys},
	{path: "keys/generate/:type", post: generateKey},
	{path: "keys/import", post: importKey},
	{path: "key/:ref", get: readKey, post: renameKey, remove: deleteKey},
	{path: "config/keys", get: readKeysConfig, post: writeKeysConfig},
}

func listKeys(c *call) (any, error) {
	all, err := c.a.Keys(c.ctx())
	if err != nil {
		return nil, err
	}
	usual, _ := c.a.Key(c.ctx(), "")
	var ids []string
	info := object{}
	for _, key := range all {
		ids = append(ids, key.ID)
		info[key.ID] = object{"key_name": key.Name, "is_default": key.ID == usual.ID}
	}
	return named(ids, info)
}

func generateKey(c *call) (any, error) {
	var in keyFields
	if err := c.read(in.take); err != nil {
		return nil, err
	}
	key, err := in.resolve(c)
	if err != nil {
		return nil, err
	}
	return c.keyData(key)
}

// importKey refuses: a private key that came this way was outside of the key manager.
func importKey(c *call) (any, error) {
	return nil, refuse("keys/import: a CA's key stays in its key manager; import it there, and name it with keys/generate/kms")
}

// keyData is a key as answers have it. A key manager that is away keeps nobody from reading what is known here.
func (c *call) keyData(key pki.Key) (object, error) {
	data := object{"key_id": key.ID, "key_name": key.Name, "managed_key_id": key.UUID}
	handle, err := c.mount.KeyVersion(c.ctx(), key.UUID, key.Version)
	if err != nil {
		c.warn("the managed key can't be reached: %v", err)
		return data, nil
	}
	data["managed_key_name"], data["managed_key_version"] = handle.Ref().Name, handle.Version()
	data["key_type"] = kindOf(handle.Public())
	if n := bitsOf(handle.Public()); n != 0 {
		data["key_bits"] = n
	}
	if sum, err := backend.Fingerprint(handle.Public()); err == nil && fmt.Sprintf("%x", sum) != key.ID {
		return nil, api.Errorf(http.StatusConflict, "key %s: the managed key %s has another public key now", key.ID, key.UUID)
	}
	return data, nil
}

func readKey(c *call) (any, error) {
	key, err := c.a.Key(c.ctx(), c.param("ref"))
	if err != nil {
		return nil, unlessThere(err)
	}
	return c.keyData(key)
}

func renameKey(c *call) (any, error) {
	var name string
	if err := c.read(func(f *api.Fields) { f.String("key_name", &name) }); err != nil {
		return nil, err
	}
	key, err := c.a.RenameKey(c.ctx(), c.param("ref"), name)
	if err != nil {
		return nil, err
	}
	return c.keyData(key)
}

func deleteKey(c *call) (any, error) {
	key, err := c.a.Key(c.ctx(), c.param("ref"))
	if err == nil {
		err = c.a.DeleteKey(c.ctx(), key.ID)
	}
	switch {
	case unlessThere(err) == errNothing:
		return nil, nil
	case errors.Is(err, backend.ErrNotPermitted): // an issuer has it
		return nil, api.Errorf(http.StatusConflict, "%v", err)
	}
	return nil, err
}

func readKeysConfig(c *call) (any, error) {
	key, err := c.a.Key(c.ctx(), "")
	if err != nil && unlessThere(err) != errNothing {
		return nil, err
	}
	return object{"default": key.ID}, nil
}

func writeKeysConfig(c *call) (any, error) {
	var ref string
	if err := c.read(func(f *api.Fields) { f.String("default", &ref) }); err != nil {
		return nil, err
	}
	if ref == "" {
		return nil, refuse("field default: it takes the id or name of a key")
	}
	if err := c.a.SetDefaultKey(c.ctx(), ref); err != nil {
		return nil, err
	}
	return readKeysConfig(c)
}
