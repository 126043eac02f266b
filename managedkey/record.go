package managedkey

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/namespace"
)

// Where things are in a store: registry/entries/team-a/:/issuing-ca, registry/mounts/team-a/:/transit/prod and namespacesPrefix. A colon is in no namespace.
const (
	registryPrefix = "registry/"
	entriesPrefix  = registryPrefix + "entries/"
	mountsPrefix   = registryPrefix + "mounts/"
	colon          = ":/"
)

func entryKey(ref namespace.Ref) string { return recordKey(entriesPrefix, ref.Namespace, ref.Name) }

func recordKey(prefix string, ns namespace.Path, rest string) string {
	if ns == namespace.Root {
		return prefix + colon + rest
	}
	return prefix + string(ns) + "/" + colon + rest
}

// parseKey is the inverse of recordKey.
func parseKey(prefix, key string) (ns namespace.Path, rest string, err error) {
	path, ok := strings.CutPrefix(key, prefix)
	if ok {
		if rest, ok = strings.CutPrefix(path, colon); !ok {
			var before string
			before, rest, ok = strings.Cut(path, "/"+colon)
			ns = namespace.Path(before)
		}
	}
	if !ok || ns.Validate() != nil {
		return "", "", fmt.Errorf("the record %.100q has no place here: %w", key, store.ErrCorrupt)
	}
	return ns, rest, nil
}

// recordFormat is the version of the records' form.
const recordFormat = 1

// entryRecord is an entry in a store. Grants are the ids of the mounts that may use it: they stand here and not with the
// mounts, so that an entry can be deleted exactly if there is none, and never has a grant that an earlier one of its name
// had.
type entryRecord struct {
	Format     int             `json:"format"`
	UUID       uuid.UUID       `json:"uuid"`
	Type       string          `json:"type"`
	Connection string          `json:"connection"`
	Params     json.RawMessage `json:"params"`
	Usages     backend.Usage   `json:"usages"`
	Generate   bool            `json:"allow_generate_key,omitempty"`
	Replace    bool            `json:"allow_replace_key,omitempty"`
	Store      bool            `json:"allow_store_key,omitempty"`
	AnyMount   bool            `json:"any_mount,omitempty"`
	Pin        string          `json:"public_key_sha256,omitempty"` // hexadecimal
	Grants     []string        `json:"grants,omitempty"`
	KeyVersion int             `json:"key_version"`
	Older      []olderRecord   `json:"older,omitempty"`
	MinDecrypt int             `json:"min_decryption_version,omitempty"`
	MinEncrypt int             `json:"min_encryption_version,omitempty"`
}

// olderRecord is an older version of an entry's key, in its record.
type olderRecord struct {
	Version    int             `json:"version"`
	Connection string          `json:"connection"`
	Params     json.RawMessage `json:"params"`
	Pin        string          `json:"public_key_sha256,omitempty"`
}

// version returns a version as an older one has it, or nil if the entry has none of that number.
func (r *entryRecord) version(number int) *olderRecord {
	if number == r.KeyVersion {
		return &olderRecord{r.KeyVersion, r.Connection, r.Params, r.Pin}
	}
	for i := range r.Older {
		if r.Older[i].Version == number {
			return &r.Older[i]
		}
	}
	return nil
}

// pin returns where the pin of a version stands, or nil if the entry has no such version.
func (r *entryRecord) pin(version int) *string {
	if version == r.KeyVersion {
		return &r.Pin
	}
	if at := r.version(version); at != nil {
		return &at.Pin
	}
	return nil
}

// mountRecord is a mount in a store.
type mountRecord struct {
	Format      int               `json:"format"`
	ID          string            `json:"id"`
	Type        string            `json:"type,omitempty"`
	Description string            `json:"description,omitempty"`
	Options     map[string]string `json:"options,omitempty"`
}

func newMountRecord(id string, info *mountInfo) mountRecord {
	return mountRecord{recordFormat, id, info.kind, info.description, info.options}
}

func (r *mountRecord) info() *mountInfo { return &mountInfo{r.Type, r.Description, r.Options} }

// newRecord returns the record of an entry, which is valid and has a Connection.
func newRecord(in *Entry, id uuid.UUID) (*entryRecord, error) {
	params, err := backend.EncodeParams(in.Params)
	if err != nil {
		return nil, err
	}
	usages := in.Usages
	if usages == 0 {
		usages = backend.UsageDefault
	}
	out := &entryRecord{
		Format: recordFormat, UUID: id, Type: in.Backend.Type(), Connection: in.Connection, Params: params, Usages: usages,
		Generate: in.AllowGenerateKey, Replace: in.AllowReplaceKey, Store: in.AllowStoreKey, AnyMount: in.AnyMount,
		Pin:        hex.EncodeToString(in.PublicKeySHA256),
		KeyVersion: in.KeyVersion, MinDecrypt: in.MinDecryptionVersion, MinEncrypt: in.MinEncryptionVersion,
	}
	for _, v := range in.Older {
		params, err := backend.EncodeParams(v.Params)
		if err != nil {
			return nil, err
		}
		out.Older = append(out.Older, olderRecord{v.Version, v.Connection, params, hex.EncodeToString(v.PublicKeySHA256)})
	}
	return out, nil
}

// encode returns the record in JSON.
func encode(record any) []byte {
	data, err := json.Marshal(record)
	if err != nil {
		panic(err) // not reached: the parameters were marshalled before
	}
	return data
}

// decode reads a record into out. The error wraps store.ErrCorrupt and shows nothing of the content, which may be secret.
func decode(key string, data []byte, out any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if dec.Decode(out) != nil || dec.InputOffset() != int64(len(data)) {
		return fmt.Errorf("the record %q can't be read: %w", key, store.ErrCorrupt)
	}
	format := 0
	switch r := out.(type) {
	case *entryRecord:
		format = r.Format
	case *mountRecord:
		format = r.Format
	case *namespaceRecord:
		format = r.Format
	}
	if format != recordFormat {
		return fmt.Errorf("the record %q has format %d; this version reads %d: %w", key, format, recordFormat, store.ErrForeign)
	}
	return nil
}

// entry returns the Entry that the record is of. If this process lacks the connection, or can't read the parameters, it
// still is an entry, whose key can't be opened.
func (r *entryRecord) entry(ref namespace.Ref, conns connections) (*Entry, error) {
	out := &Entry{
		Ref: ref, UUID: r.UUID.String(), Connection: r.Connection, Usages: r.Usages,
		AllowGenerateKey: r.Generate, AllowReplaceKey: r.Replace, AllowStoreKey: r.Store, AnyMount: r.AnyMount,
		KeyVersion: r.KeyVersion, MinDecryptionVersion: r.MinDecrypt, MinEncryptionVersion: r.MinEncrypt,
	}
	at, err := r.version(r.KeyVersion).version(ref, r.Type, conns)
	if err != nil {
		return nil, err
	}
	out.Backend, out.Params, out.PublicKeySHA256 = at.Backend, at.Params, at.PublicKeySHA256
	for _, o := range r.Older {
		v, err := o.version(ref, r.Type, conns)
		if err != nil {
			return nil, err
		}
		out.Older = append(out.Older, v)
	}
	return out, nil
}

// version returns the version that the record is of.
func (r *olderRecord) version(ref namespace.Ref, kind string, conns connections) (OlderVersion, error) {
	out := OlderVersion{Version: r.Version, Connection: r.Connection}
	var err error
	if out.PublicKeySHA256, err = hex.DecodeString(r.Pin); err != nil {
		return out, fmt.Errorf("the pin in the record of %s can't be read: %w", ref, store.ErrCorrupt)
	}
	at, ok := conns[r.Connection]
	if !ok || at.Backend.Type() != kind || !at.admits(ref.Namespace) {
		out.Backend, out.Params = absentBackend{kind, r.Connection}, rawParams{kind, r.Params}
		return out, nil
	}
	out.Backend = at.Backend
	if out.Params, err = at.Backend.(backend.ParamsDecoder).DecodeParams(r.Params); err != nil {
		return out, fmt.Errorf("the parameters in the record of %s: %w", ref, err)
	}
	return out, nil
}
