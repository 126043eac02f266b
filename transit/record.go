package transit

import (
	"bytes"
	"crypto"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// record is a transit key as it is stored. Byte strings are base64 and times RFC 3339. It has secrets: nothing may print it.
type record struct {
	Format int    `json:"format"` // recordFormat
	ID     string `json:"id"`     // UUID: tells the key from one of the same name that was before it
	Type   string `json:"type"`   // TypeManaged or a software type

	Derived         bool  `json:"derived,omitempty"`
	Convergent      bool  `json:"convergent,omitempty"`
	KeySize         int   `json:"key_size,omitempty"` // of HMAC keys, in bytes
	Exportable      bool  `json:"exportable,omitempty"`
	PlaintextBackup bool  `json:"plaintext_backup,omitempty"`
	DeletionAllowed bool  `json:"deletion_allowed,omitempty"`
	SoftDeleted     bool  `json:"soft_deleted,omitempty"`
	Imported        bool  `json:"imported,omitempty"`
	AllowRotation   bool  `json:"allow_rotation,omitempty"` // of an imported key
	AutoRotate      int64 `json:"auto_rotate,omitempty"`    // seconds

	MinDecryption int `json:"min_decryption"` // from 1
	MinEncryption int `json:"min_encryption,omitempty"`
	MinAvailable  int `json:"min_available,omitempty"`

	First    int             `json:"first"` // number of Versions[0], from 1
	Versions []versionRecord `json:"versions"`
}

// versionRecord is one version of a record.
type versionRecord struct {
	Created time.Time `json:"created"`
	Public  []byte    `json:"public,omitempty"` // SubjectPublicKeyInfo; none if the key is symmetric
	Chain   [][]byte  `json:"chain,omitempty"`  // certificates, DER, the key's own first

	// Of a managed key.
	ManagedKey string         `json:"managed_key,omitempty"` // UUID of the entry
	Of         int            `json:"of,omitempty"`          // version of the managed key
	KeyID      string         `json:"key_id,omitempty"`      // of the key in its key manager
	Algorithm  string         `json:"algorithm,omitempty"`   // as backend.Capabilities has it
	Scheme     backend.Scheme `json:"scheme,omitempty"`      // that it prefers, if that isn't what Vault prefers
	Hash       crypto.Hash    `json:"hash,omitempty"`        // likewise

	// Of a software key.
	Material   []byte `json:"material,omitempty"`   // PKCS #8, or the symmetric key; none if only the public key was imported
	HMAC       []byte `json:"hmac,omitempty"`       // key of HMACs, if Material isn't it
	Convergent int    `json:"convergent,omitempty"` // version of convergent encryption
}

const recordFormat = 1

// maxVersions is how many versions a key has at most: so many of the largest kind, with certificates, fit a store's value.
const maxVersions = 100_000

func (r *record) latest() int { return r.First + len(r.Versions) - 1 }

func (r *record) managed() bool { return r.Type == TypeManaged }

// at returns the version of that number, which there must be.
func (r *record) at(number int) *versionRecord { return &r.Versions[number-r.First] }

// append adds a version. Readers of the record that r was cloned from are not disturbed.
func (r *record) append(v versionRecord) {
	r.Versions = append(r.Versions[:len(r.Versions):len(r.Versions)], v)
}

// decodeRecord reads what encode wrote. The error wraps store.ErrCorrupt and shows nothing of the record.
func decodeRecord(data []byte) (*record, error) {
	r := new(record)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(r); err != nil || dec.More() {
		return nil, fmt.Errorf("it is no record of this version of the program: %w", store.ErrCorrupt)
	}
	return r, r.check()
}

// check refuses records that would make the engine go wrong.
func (r *record) check() error {
	t, known := softTypes[r.Type]
	wrong := ""
	switch latest := r.latest(); {
	case r.Format != recordFormat:
		wrong = "format"
	case !known && !r.managed():
		wrong = "type"
	case r.ID == "":
		wrong = "id"
	case r.First < 1 || len(r.Versions) < 1 || latest > maxVersion || len(r.Versions) > maxVersions:
		wrong = "versions"
	case r.MinDecryption < 1 || r.MinDecryption > latest || r.MinEncryption < 0 || r.MinEncryption > latest || r.MinAvailable < 0 || r.MinAvailable > r.First:
		wrong = "minimum versions"
	case r.Derived && (!known || !t.derives), r.Convergent && (!r.Derived || t.nonce == 0):
		wrong = "derived"
	case r.AutoRotate != 0 && (r.AutoRotate < int64(minPeriod/time.Second) || r.AutoRotate > math.MaxInt64/int64(time.Second)):
		wrong = "auto_rotate"
	}
	for i := range r.Versions {
		v := &r.Versions[i]
		switch {
		case wrong != "":
		case r.managed() != (v.ManagedKey != ""), r.managed() && v.Of < 1:
			wrong = "managed_key"
		case v.Convergent < 0 || v.Convergent > latestConvergent || r.Convergent != (v.Convergent > 0):
			wrong = "convergent"
		case !r.managed() && t.public != (len(v.Public) > 0) && !r.Derived, !r.managed() && (!t.public || r.Derived) && len(v.Material) == 0:
			wrong = "material"
		case v.HMAC != nil && (len(v.HMAC) < minHMACKey || len(v.HMAC) > maxHMACKey):
			wrong = "hmac"
		case v.Scheme != 0 && v.Scheme != backend.RSAPKCS1v15, v.Hash != 0 && !v.Hash.Available():
			wrong = "scheme and hash"
		}
	}
	if wrong != "" {
		return fmt.Errorf("field %s makes no sense: %w", wrong, store.ErrCorrupt)
	}
	return nil
}

// encode returns the record in JSON. The error shows nothing of it; a time after the year 9999 has no JSON form.
func (r *record) encode() ([]byte, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("its record can't be stored; is the clock right?: %w", backend.ErrInvalidParams)
	}
	return data, nil
}
