package fakeazure

import (
	"cmp"
	"crypto"
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// vault is a Key Vault or a Managed HSM.
type vault struct {
	host, resource string
	hsm            bool
	pageSize       int
	newRSA         func(bits int) (*rsa.PrivateKey, error)
	attests        *authority

	mu      sync.Mutex      // guards what follows
	keys    map[string]*key // by name in lower case, since names have no case
	deleted map[string]*key
}

// key is a name with its versions, the oldest first.
type key struct {
	name     string
	versions []*version
}

// version is one key pair or secret key.
type version struct {
	id     string
	kty    string
	crv    string
	ops    []string
	attrs  attributes
	tags   map[string]string
	signer crypto.Signer // *rsa.PrivateKey, *ecdsa.PrivateKey or secp256k1Key; nil if the key is symmetric
	secret []byte        // of a symmetric key
}

// do does what a request asks for and returns the answer's JSON.
func (v *vault) do(req request) (map[string]any, error) {
	if cryptoOps[req.op] {
		return v.crypto(req) // without the lock, since it takes long
	}
	if req.op == "create" {
		return v.create(req)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch req.op {
	case "import":
		return v.importKey(req)
	case "list":
		return v.list(req)
	case "versions":
		return v.listVersions(req)
	case "rng":
		return v.random(req)
	case "deletedkey", "recover", "purge":
		return v.softDeleted(req)
	case "delete":
		k, err := v.named(req.name)
		if err != nil {
			return nil, err
		}
		delete(v.keys, strings.ToLower(req.name))
		v.deleted[strings.ToLower(req.name)] = k
		return v.bundle(k, k.latest()), nil
	}
	k, at, err := v.find(req)
	if err != nil {
		return nil, err
	}
	switch req.op {
	case "update":
		return v.update(req, k, at)
	case "attestation":
		return v.attest(k, at)
	}
	return v.bundle(k, at), nil
}

func (k *key) latest() *version { return k.versions[len(k.versions)-1] }

func (v *vault) named(name string) (*key, error) {
	if k := v.keys[strings.ToLower(name)]; k != nil {
		return k, nil
	}
	return nil, &Error{Status: 404, Code: "KeyNotFound", Message: "A key with (name/id) " + name + " was not found in this key vault. " +
		"If you recently deleted this key you may be able to recover it using the correct recovery command."}
}

// find returns the key and the version that a request names, the latest if it names none. The caller holds the lock.
func (v *vault) find(req request) (*key, *version, error) {
	k, err := v.named(req.name)
	if err != nil {
		return nil, nil, err
	}
	if req.version == "" {
		return k, k.latest(), nil
	}
	for _, at := range k.versions {
		if at.id == req.version {
			return k, at, nil
		}
	}
	return nil, nil, &Error{Status: 404, Code: "KeyNotFound", Message: "A key with (name/id) " + req.key() + " was not found in this key vault."}
}

func (v *vault) kid(k *key, at *version) string {
	return "https://" + v.host + "/keys/" + k.name + "/" + at.id
}

// bundle is a KeyBundle.
func (v *vault) bundle(k *key, at *version) map[string]any {
	public := publicJWK(at)
	public.KID, public.Kty, public.KeyOps = v.kid(k, at), at.kty, at.ops
	return map[string]any{"key": public, "attributes": at.attrs, "tags": maps.Clone(at.tags)}
}

// add puts a new version under a name. The caller holds the lock.
func (v *vault) add(name string, at *version, given *attributes) (map[string]any, error) {
	if v.deleted[strings.ToLower(name)] != nil {
		return nil, &Error{Status: 409, Code: "Conflict", Inner: "ObjectIsDeletedButRecoverable", Message: "Key " + name +
			" is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the key can only be recovered or purged."}
	}
	var id [16]byte
	for i := range id {
		id[i] = byte(rand.Uint32())
	}
	at.id = hex.EncodeToString(id[:])
	yes, now := true, time.Now().Unix()
	at.attrs = attributes{Enabled: &yes, Created: now, Updated: now, RecoveryLevel: "Recoverable+Purgeable"}
	if v.hsm {
		at.attrs.HSMPlatform = "2"
	}
	at.attrs.set(given)
	k := v.keys[strings.ToLower(name)]
	if k == nil {
		k = &key{name: name}
		v.keys[strings.ToLower(name)] = k
	}
	k.versions = append(k.versions, at)
	return v.bundle(k, at), nil
}

// set takes what a client may set.
func (a *attributes) set(given *attributes) {
	if given == nil {
		return
	}
	a.Enabled = cmp.Or(given.Enabled, a.Enabled)
	a.NotBefore = cmp.Or(given.NotBefore, a.NotBefore)
	a.Expires = cmp.Or(given.Expires, a.Expires)
}

func (v *vault) update(req request, k *key, at *version) (map[string]any, error) {
	var body struct {
		Attributes *attributes       `json:"attributes"`
		KeyOps     []string          `json:"key_ops"`
		Tags       map[string]string `json:"tags"`
	}
	if err := req.into(&body); err != nil {
		return nil, err
	}
	at.attrs.set(body.Attributes)
	at.attrs.Updated = time.Now().Unix()
	if body.KeyOps != nil {
		at.ops = body.KeyOps
	}
	if body.Tags != nil {
		at.tags = body.Tags
	}
	return v.bundle(k, at), nil
}

func (v *vault) softDeleted(req request) (map[string]any, error) {
	name := strings.ToLower(req.name)
	k := v.deleted[name]
	if k == nil {
		return nil, &Error{Status: 404, Code: "KeyNotFound", Message: "Deleted Key not found: " + req.name}
	}
	if req.op != "deletedkey" {
		delete(v.deleted, name)
	}
	if req.op == "recover" {
		v.keys[name] = k
	}
	return v.bundle(k, k.latest()), nil
}

func (v *vault) list(req request) (map[string]any, error) {
	var items []map[string]any
	for _, name := range slices.Sorted(maps.Keys(v.keys)) {
		k := v.keys[name]
		items = append(items, map[string]any{
			"kid": "https://" + v.host + "/keys/" + k.name, "attributes": k.latest().attrs, "tags": k.latest().tags,
		})
	}
	return v.page(req, "/keys", items)
}

func (v *vault) listVersions(req request) (map[string]any, error) {
	var items []map[string]any
	if k := v.keys[strings.ToLower(req.name)]; k != nil {
		versions := slices.SortedFunc(slices.Values(k.versions), func(a, b *version) int { return cmp.Compare(a.id, b.id) })
		for _, at := range versions {
			items = append(items, map[string]any{"kid": v.kid(k, at), "attributes": at.attrs, "tags": maps.Clone(at.tags)})
		}
	}
	return v.page(req, "/keys/"+req.name+"/versions", items)
}

// page returns one page of a list and the link to the next one.
func (v *vault) page(req request, path string, items []map[string]any) (map[string]any, error) {
	from, size := 0, v.pageSize
	if token := req.query.Get("$skiptoken"); token != "" {
		n, err := strconv.Atoi(token)
		if err != nil || n < 0 || n > len(items) {
			return nil, badParameter("$skiptoken is not one of ours")
		}
		from = n
	}
	to := min(from+size, len(items))
	answer := map[string]any{"value": items[from:to], "nextLink": nil}
	if from == to {
		answer["value"] = []any{}
	}
	if to < len(items) {
		answer["nextLink"] = fmt.Sprintf("https://%s%s?api-version=%s&$skiptoken=%d", v.host, path, req.query.Get("api-version"), to)
	}
	return answer, nil
}
