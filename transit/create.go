package transit

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/namespace"
)

// KeyOptions are what a transit key is made of.
type KeyOptions struct {
	// Type is TypeManaged, also if it is empty and ManagedKey isn't, or one of the software types.
	Type string

	ManagedKey string // name or UUID of the managed key; required for TypeManaged

	// Derived keys take a context with each operation, of which the key that is used is derived: AES-GCM, ChaCha20-Poly1305 and
	// Ed25519. Convergent ones, which encrypt and are derived, give the same ciphertext for the same plaintext and context:
	// who has ciphertexts learns which plaintexts, with the same associated data, are equal.
	Derived, Convergent bool

	KeySize int // of TypeHMAC, 32 to 512 bytes; 0 is 32

	Exportable           bool // the key may be exported, from now on for ever
	AllowPlaintextBackup bool // the key may be backed up, from now on for ever

	// AutoRotatePeriod is after how long [Engine.Tick] makes a next version; 0 is never. It is at least an hour.
	AutoRotatePeriod time.Duration
}

func validName(name string) error {
	if err := namespace.ValidateName(name); err != nil {
		return fmt.Errorf("transit: %w: %w", backend.ErrInvalidParams, err)
	}
	return nil
}

// CreateKey makes a transit key whose first version is the managed key of opts, or a new software key. The name obeys
// [namespace.ValidateName].
//
// The error wraps [backend.ErrInvalidParams] if the name is malformed or opts contradict each other,
// [backend.ErrUnsupported] for a software key where they are not allowed (see Options.Software), [backend.ErrNotPermitted] for one
// in a store that isn't sealed, [backend.ErrKeyExists] if there is a transit key of that name, which is then unchanged, or what
// the mount returned.
func (e *Engine) CreateKey(ctx context.Context, name string, opts KeyOptions) error {
	if err := validName(name); err != nil {
		return err
	}
	rec, err := e.newRecord(&opts)
	if err != nil {
		return err
	}
	if k := e.known(name); k != nil && e.store == nil { // before a key is made for nothing
		return fmt.Errorf("transit: key %q: %w", name, backend.ErrKeyExists)
	}
	var first versionRecord
	if rec.managed() {
		first, err = e.open(ctx, opts.ManagedKey)
	} else {
		first, err = softTypes[rec.Type].newMaterial(ctx, rec)
	}
	if err != nil {
		return err
	}
	first.Created = e.now()
	rec.append(first)
	return e.add(ctx, name, rec)
}

// Upsert makes a transit key as CreateKey does unless there is one of that name, whatever it is like, and tells whether it did.
func (e *Engine) Upsert(ctx context.Context, name string, opts KeyOptions) (made bool, err error) {
	if k := e.known(name); k != nil && k.broken == nil {
		return false, nil
	}
	err = e.CreateKey(ctx, name, opts)
	if errors.Is(err, backend.ErrKeyExists) {
		return false, nil
	}
	return err == nil, err
}

// newRecord returns the record of a key without versions.
func (e *Engine) newRecord(opts *KeyOptions) (*record, error) {
	if opts.Type == "" && opts.ManagedKey != "" {
		opts.Type = TypeManaged
	}
	t := softTypes[opts.Type]
	switch {
	case opts.Type == "":
		return nil, invalid("managed key: no name or UUID is given, and no type either")
	case opts.Type == TypeManaged && opts.ManagedKey == "":
		return nil, invalid("managed key: no name or UUID is given")
	case opts.Type == TypeManaged && (opts.Derived || opts.Convergent):
		return nil, invalid("key derivation and convergent encryption not supported for keys of type %s", opts.Type)
	case opts.Type == TypeManaged && (opts.Exportable || opts.AllowPlaintextBackup):
		return nil, invalid("exportable, allow_plaintext_backup: a managed key can't leave its key manager")
	case opts.Type == TypeManaged:
	case t == nil:
		return nil, invalid("unknown key type %.40q; it takes %v", opts.Type, e.Types())
	case opts.ManagedKey != "":
		return nil, invalid("managed key %.80q: a key of type %s has none", opts.ManagedKey, opts.Type)
	case opts.Convergent && t.nonce == 0, opts.Derived && !t.derives:
		return nil, invalid("key derivation and convergent encryption not supported for keys of type %s", opts.Type)
	case opts.Convergent && !opts.Derived:
		return nil, invalid("convergent encryption requires derivation to be enabled")
	}
	if opts.KeySize != 0 && (opts.Type != TypeHMAC || opts.KeySize < minHMACKey || opts.KeySize > maxHMACKey) {
		return nil, invalid("key_size %d for type %s; type %s takes %d to %d, others none", opts.KeySize, opts.Type, TypeHMAC, minHMACKey, maxHMACKey)
	}
	if err := checkPeriod(opts.AutoRotatePeriod); err != nil {
		return nil, err
	}
	if t != nil {
		if err := e.allowSoftware(); err != nil {
			return nil, err
		}
	}
	rec := &record{
		Format: recordFormat, ID: uuid.NewString(), Type: opts.Type, First: 1, MinDecryption: 1,
		Derived: opts.Derived, Convergent: opts.Convergent, Exportable: opts.Exportable, PlaintextBackup: opts.AllowPlaintextBackup,
		AutoRotate: int64(opts.AutoRotatePeriod / time.Second),
	}
	if opts.Type == TypeHMAC {
		rec.KeySize = max(opts.KeySize, minHMACKey)
	}
	return rec, nil
}

// allowSoftware returns an error unless this engine may make software keys.
func (e *Engine) allowSoftware() error {
	switch {
	case e.opts.Software == nil:
		return unsupported("software keys are not allowed here: Options.Software is nil")
	case e.store != nil && !store.IsSealed(e.store) && !e.opts.AllowUnsealed:
		return fmt.Errorf("transit: software keys are not written to a store that is not sealed (package seal): %w", backend.ErrNotPermitted)
	}
	return nil
}

// minPeriod is the shortest AutoRotatePeriod.
const minPeriod = time.Hour

func checkPeriod(d time.Duration) error {
	if d != 0 && d < minPeriod {
		return invalid("auto_rotate_period of %v; it takes 0, or %v and above", d, minPeriod)
	}
	return nil
}

// add writes the record of a new key.
func (e *Engine) add(ctx context.Context, name string, rec *record) error {
	if e.store == nil {
		e.changing.Lock()
		defer e.changing.Unlock()
		if e.known(name) != nil {
			return fmt.Errorf("transit: key %q: %w", name, backend.ErrKeyExists)
		}
	}
	_, err := e.put(ctx, name, rec, nil)
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("transit: key %q: %w", name, backend.ErrKeyExists)
	}
	return err
}

// open returns a version of a managed key, as it is now.
func (e *Engine) open(ctx context.Context, managedKey string) (versionRecord, error) {
	if managedKey == "" {
		return versionRecord{}, invalid("managed key: no name or UUID is given")
	}
	h, err := e.mount.Key(ctx, managedKey)
	if err != nil {
		return versionRecord{}, fmt.Errorf("transit: managed key %.80q: %w", managedKey, err)
	}
	v := versionRecord{ManagedKey: h.UUID(), Of: h.Version(), KeyID: h.ID(), Algorithm: h.Capabilities().Algorithm, Created: e.now()}
	if public := h.Public(); public != nil {
		if v.Public, err = backend.SubjectPublicKeyInfo(public); err != nil {
			return versionRecord{}, fmt.Errorf("transit: managed key %.80q: %w: %w", managedKey, backend.ErrUnsupported, err)
		}
	}
	v.prefer(h.Public(), h.Capabilities())
	return v, nil
}

// KeyInfo describes a transit key.
type KeyInfo struct {
	Name          string
	Type          string       // of the latest version: "rsa-2048", "ecdsa-p256", "ed25519", "ml-dsa-65", "aes256-gcm96", "hmac"
	Managed       bool         // the key is of TypeManaged
	LatestVersion int          // the one that new work is done with
	Versions      []KeyVersion // those that there are, up to the latest; from 1 unless Trim was called

	Derived, Convergent                               bool
	Exportable, AllowPlaintextBackup, DeletionAllowed bool
	SoftDeleted, Imported, AllowRotation              bool

	MinDecryptionVersion, MinEncryptionVersion, MinAvailableVersion int

	AutoRotatePeriod time.Duration
}

// KeyVersion describes one version of a transit key.
type KeyVersion struct {
	Version      int
	Type         string           // as KeyInfo.Type
	ManagedKey   string           // UUID of the managed key; empty for a software key
	KeyID        string           // the key manager's own identifier of the key
	PublicKey    crypto.PublicKey // nil if the key is symmetric or derived; it must not be modified
	Created      time.Time
	Certificates [][]byte // DER, that of the key first; they must not be modified
	PublicOnly   bool     // only the public key was imported
}

// Key returns what is known of a transit key. It makes no call; of a name that is not known, it asks the store. The error wraps
// [backend.ErrKeyNotFound] if there is none.
func (e *Engine) Key(name string) (KeyInfo, error) {
	ctx, cancel := context.WithTimeout(context.Background(), backend.DefaultCallTimeout)
	defer cancel()
	k, err := e.find(ctx, "key", name)
	if err != nil {
		return KeyInfo{}, err
	}
	r := k.rec
	info := KeyInfo{
		Name: name, LatestVersion: k.latest(), Type: k.version(k.latest()).kind, Managed: r.managed(), Derived: r.Derived, Convergent: r.Convergent,
		Exportable: r.Exportable, AllowPlaintextBackup: r.PlaintextBackup, DeletionAllowed: r.DeletionAllowed, SoftDeleted: r.SoftDeleted,
		Imported: r.Imported, AllowRotation: r.AllowRotation || !r.Imported, MinDecryptionVersion: r.MinDecryption,
		MinEncryptionVersion: r.MinEncryption, MinAvailableVersion: r.MinAvailable, AutoRotatePeriod: time.Duration(r.AutoRotate) * time.Second,
	}
	for _, v := range k.versions {
		rec := r.at(v.number)
		info.Versions = append(info.Versions, KeyVersion{
			v.number, v.kind, rec.ManagedKey, rec.KeyID, v.public, rec.Created, rec.Chain, !r.managed() && rec.Material == nil,
		})
	}
	return info, nil
}
