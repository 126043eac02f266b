package seal

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tink-crypto/tink-go/v2/daead/subtle"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

const (
	format  = "managedkeys/seal"
	version = 1

	keySize   = 32 // of root and data keys, in bytes
	nonceSize = 12
	tagSize   = 16

	rootPath    = "seal/root"
	ringPath    = "seal/keyring"
	usagePrefix = "seal/usage/"
	sealPrefix  = "seal/"
	dataPrefix  = "data/"
)

func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // not reached: all keys have 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // not reached: the block size is that of AES
	}
	return aead
}

// encrypt appends nonce ‖ ciphertext ‖ tag to dst.
func encrypt(aead cipher.AEAD, dst, plaintext, additional []byte) []byte {
	var nonce [nonceSize]byte
	rand.Read(nonce[:])
	return aead.Seal(append(dst, nonce[:]...), nonce[:], plaintext, additional)
}

// decrypt is the reverse of encrypt. The error is backend.ErrDecryption.
func decrypt(aead cipher.AEAD, data, additional []byte) ([]byte, error) {
	if len(data) < nonceSize+tagSize {
		return nil, backend.ErrDecryption
	}
	plaintext, err := aead.Open(nil, data[:nonceSize], data[nonceSize:], additional)
	if err != nil {
		return nil, backend.ErrDecryption
	}
	return plaintext, nil
}

// ring is the root key and the data keys of a store, as they are in two records. It is not modified.
type ring struct {
	rootVersion, version uint64 // of seal/root and seal/keyring
	root                 []byte
	wrapped              wrapping

	payload payload
	aeads   map[uint32]cipher.AEAD
	siv     *subtle.AESSIV // nil if names are not encrypted
}

// payload is the plaintext of seal/keyring, in JSON.
type payload struct {
	Active uint32    `json:"active"` // id of the key that encrypts
	Keys   []dataKey `json:"keys"`
	Names  []byte    `json:"names,omitempty"` // key of AES-SIV, 64 bytes
}

type dataKey struct {
	ID  uint32 `json:"id"`
	Key []byte `json:"key"`
}

func newKey(size int) []byte {
	key := make([]byte, size)
	rand.Read(key)
	return key
}

// init makes what is derived from the payload.
func (r *ring) init() error {
	r.aeads = make(map[uint32]cipher.AEAD)
	for _, k := range r.payload.Keys {
		if len(k.Key) != keySize || r.aeads[k.ID] != nil {
			return fmt.Errorf("data key %d has %d bytes or comes twice: %w", k.ID, len(k.Key), store.ErrCorrupt)
		}
		r.aeads[k.ID] = newAEAD(k.Key)
	}
	if r.aeads[r.payload.Active] == nil {
		return fmt.Errorf("the active data key %d is missing: %w", r.payload.Active, store.ErrCorrupt)
	}
	if r.payload.Names == nil {
		return nil
	}
	siv, err := subtle.NewAESSIV(r.payload.Names)
	if err != nil {
		return fmt.Errorf("the key of names has %d bytes: %w", len(r.payload.Names), store.ErrCorrupt)
	}
	r.siv = siv
	return nil
}

func ringContext(version uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte("managedkeys/seal keyring\x00"), version)
}

// ops returns the transaction that writes the keyring, the wrapped root key, or both, in the place of those that r has the
// versions of; what is not written is checked.
func (r *ring) ops(putRing, putRoot bool) []store.Op {
	text, err1 := json.Marshal(r.payload)
	wrapped, err2 := json.Marshal(r.wrapped)
	if err := errors.Join(err1, err2); err != nil {
		panic(err) // not reached: strings, bytes and integers can be marshalled
	}
	aead := newAEAD(r.root)
	ops := []store.Op{
		{Key: ringPath, Value: text, Expect: store.Expect(r.version),
			Encode: func(version uint64, text []byte) ([]byte, error) {
				return encrypt(aead, nil, text, ringContext(version)), nil
			}},
		{Key: rootPath, Value: wrapped, Expect: store.Expect(r.rootVersion)},
	}
	for i, put := range []bool{putRing, putRoot} {
		if !put {
			ops[i].Kind, ops[i].Value, ops[i].Encode = store.Check, nil, nil
		}
	}
	return ops
}

// wrapRoot wraps a root key with a seal key.
func wrapRoot(ctx context.Context, key Key, root []byte) (wrapping, error) {
	w, err := key.wrap(ctx, root)
	if err != nil {
		return w, fmt.Errorf("seal: the seal key does not wrap: %w", err)
	}
	w.Format, w.Version, w.Kind, w.ID = format, version, key.kind(), key.id()
	return w, nil
}

// parseWrapping reads seal/root. The error wraps store.ErrForeign or store.ErrCorrupt.
func parseWrapping(data []byte) (w wrapping, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&w); err != nil || w.Format != format {
		return w, fmt.Errorf("seal: %s is not of the format %q: %w", rootPath, format, store.ErrForeign)
	}
	if w.Version != version {
		return w, fmt.Errorf("seal: version of %s: got %d; it takes %d; use the version that wrote it or a newer one: %w", rootPath, w.Version, version, store.ErrForeign)
	}
	return w, nil
}

// unwrapRoot returns the root key. The error wraps ErrSealKey if the seal key is another one.
func unwrapRoot(ctx context.Context, key Key, w wrapping) ([]byte, error) {
	describe := func(kind, id string) string {
		return strings.TrimSpace(fmt.Sprintf("%s %s", kind, id))
	}
	if w.Kind != key.kind() {
		return nil, fmt.Errorf("seal: the store was sealed with a key of the kind %.200q, got one of the kind %q: %w", describe(w.Kind, w.ID), describe(key.kind(), key.id()), ErrSealKey)
	}
	root, err := key.unwrap(ctx, w)
	switch {
	case err == nil && len(root) == keySize:
		return root, nil
	case err == nil, errors.Is(err, backend.ErrDecryption):
		return nil, fmt.Errorf("seal: the store was sealed with %.200q, got %q, which does not decrypt the root key: %w", describe(w.Kind, w.ID), describe(key.kind(), key.id()), ErrSealKey)
	}
	if errors.Is(err, backend.ErrUnavailable) {
		return nil, fmt.Errorf("seal: the key manager of the seal key, %.200q, is away; the store can be opened when it is back: %w", describe(w.Kind, w.ID), err)
	}
	return nil, fmt.Errorf("seal: the seal key does not unwrap: %w", err)
}

// readRing reads both records, at one instant, with the help of what is known already. The error wraps errNoRing if neither
// is there, and ErrKeyring if one is missing or damaged.
func readRing(ctx context.Context, inner store.Store, key Key, known *ring) (*ring, error) {
	r := &ring{}
	page, err := inner.List(ctx, sealPrefix, "", store.MaxPage)
	if err != nil {
		return nil, err
	}
	var root, keys []byte
	for _, record := range page.Records {
		switch record.Key {
		case rootPath:
			root, r.rootVersion = record.Value, record.Version
		case ringPath:
			keys, r.version = record.Value, record.Version
		}
	}
	switch {
	case r.rootVersion == 0 && r.version == 0:
		return nil, errNoRing
	case r.rootVersion == 0 || r.version == 0:
		return nil, fmt.Errorf("seal: of %s and %s one is missing; put it back from a backup: %w", rootPath, ringPath, ErrKeyring)
	}
	if r.wrapped, err = parseWrapping(root); err != nil {
		return nil, err
	}
	text, err := []byte(nil), error(backend.ErrDecryption)
	if known != nil {
		// The seal key may have been rotated to one that this process doesn't have: the root key is still the same.
		r.root = known.root
		text, err = decrypt(newAEAD(r.root), keys, ringContext(r.version))
	}
	if err != nil {
		if r.root, err = unwrapRoot(ctx, key, r.wrapped); err != nil {
			return nil, err
		}
		if text, err = decrypt(newAEAD(r.root), keys, ringContext(r.version)); err != nil {
			return nil, fmt.Errorf("seal: %s was altered, or put back from another version: %w", ringPath, ErrKeyring)
		}
	}
	if err := json.Unmarshal(text, &r.payload); err != nil {
		return nil, fmt.Errorf("seal: %s holds no data keys: %w", ringPath, ErrKeyring)
	}
	if err := r.init(); err != nil {
		return nil, fmt.Errorf("seal: %s: %w: %w", ringPath, ErrKeyring, err)
	}
	return r, nil
}
