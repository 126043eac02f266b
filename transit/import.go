package transit

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"

	mldsax509 "filippo.io/mldsa/x509"
	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/rsasize"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Import is key material that was made elsewhere: either Ciphertext or PublicKey.
type Import struct {
	// Ciphertext is the private or secret key as whoever has it wraps it for this engine, so that nobody on the way sees it: a
	// random AES-256 key, encrypted with [Engine.WrappingKey] by RSAES-OAEP (512 bytes), and the key, wrapped with that by AES
	// Key Wrap with Padding (RFC 5649). The key is PKCS #8, or the bytes of a symmetric one.
	Ciphertext []byte

	// HashFunction is that of RSAES-OAEP: SHA1, SHA224, SHA256 (also if empty), SHA384 or SHA512.
	HashFunction string

	// PublicKey is a public key, in PEM or DER (SubjectPublicKeyInfo). The version verifies and encrypts only.
	PublicKey []byte
}

var importHashes = map[string]crypto.Hash{
	"": crypto.SHA256, "SHA1": crypto.SHA1, "SHA224": crypto.SHA224, "SHA256": crypto.SHA256, "SHA384": crypto.SHA384, "SHA512": crypto.SHA512,
}

// maxImport bounds what is unwrapped, in bytes.
const maxImport = 16 << 10

// WrappingKey returns the public key that keys are wrapped with for [Engine.ImportKey]: RSA with 4096 bits, made when it is first
// asked for and the same from then on. The error is that of making a software key, see [Engine.CreateKey].
func (e *Engine) WrappingKey(ctx context.Context) (*rsa.PublicKey, error) {
	k, err := e.wrappingKey(ctx)
	if err != nil {
		return nil, err
	}
	return k.versions[0].public.(*rsa.PublicKey), nil
}

func (e *Engine) wrappingKey(ctx context.Context) (*key, error) {
	select {
	case e.wrapping.held <- struct{}{}:
		defer func() { <-e.wrapping.held }()
	case <-ctx.Done():
		return nil, fmt.Errorf("transit: wrapping key: %w", ctx.Err())
	}
	if e.wrapping.key != nil {
		return e.wrapping.key, nil
	}
	const name = "wrapping-key"
	path := "transit/" + e.mount.ID() + "/" + name
	read := func() error {
		if e.store == nil {
			return store.ErrNotFound
		}
		r, err := e.store.Get(ctx, path)
		if err != nil {
			return err
		}
		rec, err := decodeRecord(r.Value)
		if err == nil && rec.Type != TypeRSA4096 {
			err = fmt.Errorf("it is of type %.40q: %w", rec.Type, store.ErrCorrupt)
		}
		if err == nil {
			e.wrapping.key, err = newKey(name, r.Version, rec, nil)
		}
		return err
	}
	err := read()
	if errors.Is(err, store.ErrNotFound) {
		var rec *record
		if rec, err = e.newRecord(&KeyOptions{Type: TypeRSA4096}); err != nil {
			return nil, err
		}
		var v versionRecord
		if v, err = softTypes[TypeRSA4096].newMaterial(ctx, rec); err != nil {
			return nil, err
		}
		v.Created = e.now()
		rec.append(v)
		if e.store == nil {
			e.wrapping.key, err = newKey(name, 1, rec, nil)
		} else {
			err = e.keepWrapping(ctx, path, rec)
			if err == nil || errors.Is(err, store.ErrConflict) {
				err = read()
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("transit: wrapping key: %w", err)
	}
	return e.wrapping.key, nil
}

// material returns the version that in is of, still without a time.
func (e *Engine) material(ctx context.Context, in *Import, rec *record) (versionRecord, error) {
	t := softTypes[rec.Type]
	switch {
	case t == nil:
		return versionRecord{}, unsupported("import: a key of type %s: keys are imported into a key manager by its entry", rec.Type)
	case (len(in.Ciphertext) > 0) == (len(in.PublicKey) > 0):
		return versionRecord{}, invalid("import: it takes either a ciphertext or a public key")
	case len(in.PublicKey) > 0 && (!t.public || rec.Derived):
		return versionRecord{}, invalid("import: a public key for a key of type %s, which is symmetric or derived", rec.Type)
	case len(in.PublicKey) > 0:
		public, err := parsePublic("import", in.PublicKey)
		if err != nil {
			return versionRecord{}, err
		}
		return t.fromPublic(public)
	}
	plaintext, err := e.unwrap(ctx, in)
	if err != nil {
		return versionRecord{}, err
	}
	var v versionRecord
	if !t.public {
		v, err = t.fromSecret(plaintext, rec)
	} else {
		private, perr := parsePrivate(plaintext)
		if perr != nil {
			return versionRecord{}, perr
		}
		v, err = t.fromPrivate(private, rec)
	}
	if err != nil {
		return v, err
	}
	return v, e.prove(ctx, t, &v)
}

// parsePrivate reads a private key in PKCS #8. The error shows nothing of it.
func parsePrivate(der []byte) (any, error) {
	if err := rsasize.CheckPrivate(der); err != nil {
		return nil, invalid("import: %v", err)
	}
	private, err := mldsax509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, invalid("import: the private key can't be parsed as PKCS #8") // the parser may quote what it read
	}
	return private, nil
}

// unwrap returns the key in a Ciphertext. All that can be wrong with it reads the same.
func (e *Engine) unwrap(ctx context.Context, in *Import) ([]byte, error) {
	hash, ok := importHashes[in.HashFunction]
	if !ok {
		return nil, invalid("import: unsupported hash function %.40q; it takes SHA1, SHA224, SHA256, SHA384 and SHA512", in.HashFunction)
	}
	k, err := e.wrappingKey(ctx)
	if err != nil {
		return nil, err
	}
	v := k.versions[0]
	n := v.public.(*rsa.PublicKey).Size()
	if len(in.Ciphertext) <= n || len(in.Ciphertext) > n+maxImport {
		return nil, invalid("import: ciphertext of %d bytes; it takes %d of RSA and then the wrapped key, at most %d", len(in.Ciphertext), n, maxImport)
	}
	h, err := e.software(ctx, k, v)
	if err != nil {
		return nil, err
	}
	ephemeral, err := h.DecryptContext(ctx, in.Ciphertext[:n], &rsa.OAEPOptions{Hash: hash})
	if err != nil {
		return nil, decryptionError("import", k, v, err)
	}
	defer clear(ephemeral)
	if len(ephemeral) != 32 {
		return nil, decryptionError("import", k, v, backend.ErrDecryption)
	}
	wrapper, err := kwp.NewKWP(ephemeral)
	if err != nil {
		return nil, decryptionError("import", k, v, backend.ErrDecryption)
	}
	material, err := wrapper.Unwrap(in.Ciphertext[n:])
	if err != nil {
		return nil, decryptionError("import", k, v, backend.ErrDecryption)
	}
	return material, nil
}

// prove makes sure that the software backend takes a key, before it is written.
func (e *Engine) prove(ctx context.Context, t *softType, v *versionRecord) error {
	trial := &softKey{id: "trial", number: 1, t: t, rec: v}
	h, err := e.openSoft(ctx, trial)
	if err != nil {
		return fmt.Errorf("transit: import: %w", err)
	}
	e.discard(h, "trial")
	return nil
}

// parsePublic reads a public key in PEM or DER. op is for the error: "import".
func parsePublic(op string, data []byte) (crypto.PublicKey, error) {
	if block, rest := pem.Decode(data); block != nil {
		if block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, invalid("%s: public key: got PEM of type %.40q; it takes one PUBLIC KEY", op, block.Type)
		}
		data = block.Bytes
	}
	public, err := backend.ParsePublicKey(data)
	if err != nil {
		return nil, invalid("%s: public key can't be parsed: %v", op, err)
	}
	return public, nil
}

// ImportKey makes a transit key whose first version is in. A software key can't be rotated by [Engine.Rotate] unless allowRotation is
// set, but has versions by [Engine.ImportVersion]. With opts.ManagedKey the private or secret key goes into the key manager of that
// managed key, whose entry must have AllowStoreKey, and nothing of it stays here; WrappingKey needs Options.Software all the same.
//
// The error is as for [Engine.CreateKey], wraps [backend.ErrDecryption] for a ciphertext that can't be unwrapped, and
// [backend.ErrInvalidParams] for a key that isn't sound or not of the type.
func (e *Engine) ImportKey(ctx context.Context, name string, in Import, opts KeyOptions, allowRotation bool) error {
	if err := validName(name); err != nil {
		return err
	}
	if opts.AutoRotatePeriod != 0 && !allowRotation {
		return invalid("auto_rotate_period: an imported key that may not be rotated")
	}
	rec, err := e.newRecord(&opts)
	if err != nil {
		return err
	}
	rec.Imported, rec.AllowRotation = true, allowRotation
	if rec.managed() {
		return e.importManaged(ctx, name, opts.ManagedKey, &in, rec)
	}
	v, err := e.material(ctx, &in, rec)
	if err != nil {
		return err
	}
	v.Created = e.now()
	if rec.Type == TypeHMAC {
		rec.KeySize = len(v.Material)
	}
	rec.append(v)
	return e.add(ctx, name, rec)
}

// importManaged is ImportKey for a managed key.
func (e *Engine) importManaged(ctx context.Context, name, managedKey string, in *Import, rec *record) error {
	switch k, err := e.find(ctx, "key", name); { // before anything is put into the key manager
	case err == nil && k != nil:
		return fmt.Errorf("transit: key %q: %w", name, backend.ErrKeyExists)
	case !errors.Is(err, backend.ErrKeyNotFound):
		return err
	case len(in.Ciphertext) == 0 || len(in.PublicKey) > 0:
		return invalid("import: a managed key takes a ciphertext and no public key")
	}
	plaintext, err := e.unwrap(ctx, in)
	if err != nil {
		return err
	}
	defer clear(plaintext)
	var material any = bytes.Clone(plaintext) // of a symmetric key; the backend looks whether it fits
	if err := rsasize.CheckPrivate(plaintext); err != nil {
		return invalid("import: %v", err)
	}
	if private, err := mldsax509.ParsePKCS8PrivateKey(plaintext); err == nil {
		material = private
	}
	if _, err := e.mount.Import(ctx, managedKey, material); err != nil {
		return fmt.Errorf("transit: import: managed key %.80q: %w", managedKey, err)
	}
	v, err := e.open(ctx, managedKey)
	if err != nil {
		return err
	}
	rec.append(v)
	return e.add(ctx, name, rec)
}

// ImportVersion appends a version to an imported key; or, if version isn't 0, it gives the private key to that version, which
// must have been imported as a public key. The error is as for [Engine.ImportKey].
func (e *Engine) ImportVersion(ctx context.Context, name string, in Import, version int) error {
	k, err := e.usable(ctx, "key", name)
	if err != nil {
		return err
	}
	if err := e.allowSoftware(); err != nil {
		return err
	}
	v, err := e.material(ctx, &in, k.rec)
	if err != nil {
		return err
	}
	_, err = e.change(ctx, name, func(r *record) error {
		switch {
		case r.ID != k.rec.ID || r.SoftDeleted:
			return fmt.Errorf("transit: key %q was deleted: %w", name, backend.ErrKeyNotFound)
		case !r.Imported:
			return invalid("import: the key %q was not imported; Rotate makes its versions", name)
		case version == 0:
			v.Created = e.now()
			r.append(v)
			return nil
		case version < r.First || version > r.latest():
			return invalid("import: there is no version %d; there are %d to %d", version, r.First, r.latest())
		}
		old := r.at(version)
		if old.Material != nil || v.Material == nil || !bytes.Equal(old.Public, v.Public) {
			return invalid("import: version %d takes the private key that belongs to its public key, once", version)
		}
		full := v
		full.Created, full.Chain = old.Created, old.Chain
		r.set(version, full)
		return nil
	})
	return err
}

// set replaces a version. Readers of the record that r was cloned from are not disturbed.
func (r *record) set(number int, v versionRecord) {
	r.Versions = append([]versionRecord(nil), r.Versions...)
	*r.at(number) = v
}

// keepWrapping stores the wrapping key, unless another process has been faster.
func (e *Engine) keepWrapping(ctx context.Context, path string, rec *record) error {
	value, err := rec.encode()
	if err == nil {
		_, err = e.store.Apply(ctx, store.Op{Key: path, Value: value})
	}
	return err
}
