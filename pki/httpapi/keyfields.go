package httpapi

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"

	"github.com/managedkeys/managedkeys/backend"
	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
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

// chosen is the key that a request has chosen.
type chosen struct {
	ref     pki.KeyRef
	pub     crypto.PublicKey
	made    crypto.Signer // a new one in software, which nothing keeps before keep
	shown   bool          // it is given out, once
	discard func()        // takes it out again, after keep
}

// keep puts a new key where it is kept. Then ref names it.
func (k *chosen) keep(c *call) (err error) {
	if k.made != nil {
		k.ref.Name, k.discard, err = c.keep(k.made)
	}
	return err
}

// drop takes a new key out again, since what it was wanted for failed, unless the authority knows it meanwhile.
func (k *chosen) drop(c *call) {
	if k.discard == nil {
		return
	}
	id, err := keyID(k.pub)
	if err == nil {
		_, err = c.a.Key(context.WithoutCancel(c.ctx()), id)
	}
	if errors.Is(err, store.ErrNotFound) {
		k.discard()
	}
}

// exported is what is given out, nil for all but the type exported.
func (k *chosen) exported() crypto.Signer {
	if k.shown {
		return k.made
	}
	return nil
}

// called gives the key its name, once what it was wanted for is done: a request that is refused leaves no name behind.
func (in *keyFields) called(c *call, k *chosen) error {
	if in.name == "" {
		return nil
	}
	_, err := c.a.AddKey(c.ctx(), k.ref, in.name)
	return err
}

// find returns the key. Types are kms, a managed key; existing, one that the mount knows; and internal and exported, a new one in
// software, which the latter gives out.
func (in *keyFields) find(c *call) (*chosen, error) {
	kind := c.param("type")
	managed := in.managedName != "" || in.managedID != ""
	made := kind == "internal" || kind == "exported"
	switch {
	case kind != "kms" && managed:
		return nil, refuse("fields managed_key_name and managed_key_id: they are for the type kms; got type %.40q", kind)
	case kind != "existing" && in.ref != "":
		return nil, refuse("field key_ref: it is for the type existing; got type %.40q", kind)
	case !made && in.sized:
		return nil, refuse("fields key_type and key_bits: the key is there already; leave them out")
	}
	k := new(chosen)
	switch {
	case made:
		if err := c.allowSoftware("type " + kind); err != nil {
			return nil, err
		}
		key, err := newSoftwareKey(in.kind, in.bits)
		if err != nil {
			return nil, err
		}
		return &chosen{pub: key.Public(), made: key, shown: kind == "exported"}, nil
	case kind == "kms":
		switch {
		case in.managedName != "" && in.managedID != "":
			return nil, refuse("give one of managed_key_name and managed_key_id; got both")
		case !managed:
			return nil, refuse("missing argument: one of managed_key_name and managed_key_id is required for the type kms")
		}
		k.ref.Name = in.managedName + in.managedID
	case kind == "existing":
		key, err := c.a.Key(c.ctx(), in.ref)
		if err != nil {
			return nil, err
		}
		k.ref = pki.KeyRef{Name: key.UUID, Version: key.Version}
	default:
		return nil, refuse("type %.40q: it takes kms, existing, internal or exported", kind)
	}
	var err error
	k.pub, err = c.public(c.ctx(), k.ref)
	return k, err
}

// keyID returns the id that a key has here.
func keyID(pub crypto.PublicKey) (string, error) {
	sum, err := backend.Fingerprint(pub)
	return fmt.Sprintf("%x", sum), err
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
	k, err := in.find(c)
	if err != nil {
		return nil, err
	}
	known, err := c.know(k, in.name)
	if err != nil {
		return nil, err
	}
	data, err := c.keyData(known)
	if err != nil || k.exported() == nil {
		return data, err
	}
	return data, new(format).withKey(data, k.exported())
}

// know keeps a key if it is a new one, and has the authority know it.
func (c *call) know(k *chosen, name string) (pki.Key, error) {
	if err := c.a.CheckKeyName(c.ctx(), k.pub, name); err != nil {
		return pki.Key{}, err
	}
	if err := k.keep(c); err != nil {
		return pki.Key{}, err
	}
	known, err := c.a.AddKey(c.ctx(), k.ref, name)
	if err != nil {
		k.drop(c)
	}
	return known, err
}

// keyData is a key as answers have it. A key manager that is away keeps nobody from reading what is known here.
func (c *call) keyData(key pki.Key) (object, error) {
	data := object{"key_id": key.ID, "key_name": key.Name, "managed_key_id": key.UUID}
	handle, err := c.a.ManagedKey(c.ctx(), pki.KeyRef{Name: key.UUID, Version: key.Version})
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
	var soft string
	if err == nil {
		soft, err = c.softwareName(c.ctx(), key.UUID)
	}
	if err == nil {
		err = c.a.DeleteKey(c.ctx(), key.ID)
	}
	if err == nil && soft != "" {
		c.discard(context.WithoutCancel(c.ctx()), soft)
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
