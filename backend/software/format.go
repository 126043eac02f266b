package software

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/argon2id"
)

// ErrFormat is wrapped by the errors about a file that is not a key store which this version can read: of another kind or
// version, cut off, too large, or with costs that are out of bounds. A file of the right form that does not decrypt is
// not among them: that is backend.ErrCredentials, because a wrong passphrase and damage can't be told apart. ErrFormat
// wraps backend.ErrUnavailable.
var ErrFormat = fmt.Errorf("not a readable key store: %w", backend.ErrUnavailable)

// Bounds on what is read, so that a file that somebody made up can't exhaust memory or time.
const (
	maxFile   = 8 << 20 // bytes
	maxHeader = 1 << 10 // bytes, line feed included
)

const (
	fileFormat  = "managedkeys/software"
	fileVersion = 1
	fileKDF     = "argon2id"
	fileCipher  = "xchacha20-poly1305"
	saltSize    = argon2id.SaltSize
)

// Argon2id are the costs of the key derivation function Argon2id (RFC 9106). A zero field is the default; the defaults are
// the second recommended option of RFC 9106, Section 4.
type Argon2id struct {
	Time      uint32 // passes: 1 to 64, default 3
	MemoryKiB uint32 // KiB: 8 for each thread to 1048576, default 65536; times Time, at most 4194304
	Threads   uint8  // lanes: 1 to 64, default 4
}

func (a Argon2id) withDefaults() Argon2id { return Argon2id(argon2id.Costs(a).WithDefaults()) }

// validate returns an error that wraps sentinel unless the costs are within bounds.
func (a Argon2id) validate(sentinel error) error {
	if err := argon2id.Costs(a).Check(); err != nil {
		return fmt.Errorf("software: %w: %w", err, sentinel)
	}
	return nil
}

// kdf is what makes a file's key from the passphrase.
type kdf struct {
	Argon2id
	salt [saltSize]byte
}

func (k kdf) key(passphrase string) []byte {
	return argon2id.Costs(k.Argon2id).Key(passphrase, k.salt, chacha20poly1305.KeySize)
}

// header is the first line of a file.
type header struct {
	Format    string `json:"format"`
	Version   int    `json:"version"`
	KDF       string `json:"kdf"`
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memory_kib"`
	Threads   uint8  `json:"threads"`
	Salt      []byte `json:"salt"`
	Cipher    string `json:"cipher"`
	Nonce     []byte `json:"nonce"`
}

// parse splits a file into its header, the line of it, and the ciphertext. The error wraps ErrFormat.
func parse(data []byte) (h header, line, ciphertext []byte, err error) {
	fail := func(format string, args ...any) (header, []byte, []byte, error) {
		return header{}, nil, nil, fmt.Errorf("software: %s: %w", fmt.Sprintf(format, args...), ErrFormat)
	}
	switch {
	case len(data) > maxFile:
		return fail("the file has more than %d bytes", maxFile)
	case len(data) == 0:
		return fail("the file is empty; remove it so that a new store is made")
	}
	n := bytes.IndexByte(data[:min(len(data), maxHeader)], '\n') + 1
	if n == 0 {
		return fail("the file does not begin with a line of at most %d bytes", maxHeader)
	}
	line, ciphertext = data[:n], data[n:]
	// Kind and version first: all else may be different in another version.
	var kind struct {
		Format  string
		Version int
	}
	if err := json.Unmarshal(line, &kind); err != nil || kind.Format != fileFormat {
		return fail("the first line is not the header of a %s file", fileFormat)
	}
	if kind.Version != fileVersion {
		return fail("version: got %d; it takes %d", kind.Version, fileVersion)
	}
	// Only one spelling of a header is taken: what json reads leniently (case, repeated or unknown members, space) comes
	// out different when it is written again.
	if err := json.Unmarshal(line, &h); err != nil || !bytes.Equal(h.line(), line) {
		return fail("the header is malformed")
	}
	switch {
	case h.KDF != fileKDF:
		return fail("kdf: got %.40q; it takes %q", h.KDF, fileKDF)
	case h.Cipher != fileCipher:
		return fail("cipher: got %.40q; it takes %q", h.Cipher, fileCipher)
	case len(h.Salt) != saltSize:
		return fail("salt: got %d bytes; it has %d", len(h.Salt), saltSize)
	case len(h.Nonce) != chacha20poly1305.NonceSizeX:
		return fail("nonce: got %d bytes; it has %d", len(h.Nonce), chacha20poly1305.NonceSizeX)
	case len(ciphertext) < chacha20poly1305.Overhead:
		return fail("the file is cut off after %d bytes", len(data))
	}
	if err := h.kdf().validate(ErrFormat); err != nil {
		return header{}, nil, nil, err
	}
	return h, line, ciphertext, nil
}

// kdf returns the header's costs and salt, which is saltSize bytes long.
func (h header) kdf() kdf {
	return kdf{Argon2id{h.Time, h.MemoryKiB, h.Threads}, [saltSize]byte(h.Salt)}
}

func (h header) line() []byte {
	line, err := json.Marshal(h)
	if err != nil {
		panic(err) // not reached: strings, integers and bytes can be marshalled
	}
	return append(line, '\n')
}

// decrypt returns the keys of a file that parse took apart.
func decrypt(key []byte, h header, line, ciphertext []byte) (map[string]*entry, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, h.Nonce, ciphertext, line)
	if err != nil {
		return nil, fmt.Errorf("software: the file does not decrypt: wrong passphrase or damaged file: %w", backend.ErrCredentials)
	}
	defer clear(plaintext)
	return unmarshalKeys(plaintext)
}

// encrypt returns the file that holds the keys of entries.
func encrypt(key []byte, k kdf, entries map[string]*entry) ([]byte, error) {
	plaintext := marshalKeys(entries)
	defer clear(plaintext)
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	h := header{
		Format: fileFormat, Version: fileVersion,
		KDF: fileKDF, Time: k.Time, MemoryKiB: k.MemoryKiB, Threads: k.Threads, Salt: k.salt[:],
		Cipher: fileCipher, Nonce: make([]byte, chacha20poly1305.NonceSizeX),
	}
	rand.Read(h.Nonce)
	line := h.line()
	if size := len(line) + len(plaintext) + aead.Overhead(); size > maxFile {
		return nil, fmt.Errorf("software: the store is full: it would have %d bytes and may have %d: %w", size, maxFile, backend.ErrUnavailable)
	}
	return aead.Seal(line[:len(line):len(line)], h.Nonce, plaintext, line), nil
}

// payload is the plaintext of a file.
type payload struct {
	Keys []storedKey `json:"keys"`
}

type storedKey struct {
	Name     string  `json:"name"`
	ID       string  `json:"id"` // entry.serial
	Type     KeyType `json:"type"`
	Set      int     `json:"parameter_set,omitempty"` // of ML-KEM, whose seed doesn't tell
	Material []byte  `json:"material"`                // material.secret
}

func marshalKeys(entries map[string]*entry) []byte {
	p := payload{Keys: []storedKey{}}
	for name, e := range entries {
		k := storedKey{Name: name, ID: e.serial, Type: e.kind.KeyType, Material: e.material.Load().secret}
		if k.Type == MLKEM {
			k.Set = e.kind.ParameterSet
		}
		p.Keys = append(p.Keys, k)
	}
	slices.SortFunc(p.Keys, func(a, b storedKey) int { return cmp.Compare(a.Name, b.Name) })
	data, err := json.Marshal(p)
	if err != nil {
		panic(err) // not reached: strings and bytes can be marshalled
	}
	return data
}

// unmarshalKeys reads what marshalKeys wrote. The error wraps ErrFormat.
func unmarshalKeys(data []byte) (map[string]*entry, error) {
	fail := func(format string, args ...any) (map[string]*entry, error) {
		return nil, fmt.Errorf("software: the decrypted content is malformed: %s: %w", fmt.Sprintf(format, args...), ErrFormat)
	}
	var p payload
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	// The decoder's errors are left out: they can quote what it read.
	if err := dec.Decode(&p); err != nil {
		return fail("it is not the JSON that was expected")
	}
	if _, err := dec.Token(); err != io.EOF {
		return fail("something follows the keys")
	}
	entries := make(map[string]*entry, min(len(p.Keys), math.MaxUint16))
	for i, k := range p.Keys {
		if err := validateName(k.Name); err != nil {
			return fail("key %d: %v", i, err)
		}
		if entries[k.Name] != nil {
			return fail("key %q appears twice", k.Name)
		}
		if !validSerial(k.ID) {
			return fail("key %q has no proper id", k.Name)
		}
		var m *material
		var err error
		switch k.Type {
		case AES, HMAC:
			m, err = symmetricMaterial(k.Type, k.Material)
		case MLKEM:
			m, err = kemMaterial(k.Set, k.Material)
		default:
			m, err = privateMaterial(k.Material)
		}
		switch {
		case err != nil:
			return fail("key %q: %v", k.Name, err)
		case m.kind.KeyType != k.Type:
			return fail("key %q is of type %s, not %.40q", k.Name, m.kind.KeyType, string(k.Type))
		}
		entries[k.Name] = newEntry(k.Name, k.ID, m)
	}
	return entries, nil
}

// validSerial reports whether s is what newSerial returns.
func validSerial(s string) bool {
	isHex := func(r rune) bool { return '0' <= r && r <= '9' || 'a' <= r && r <= 'f' }
	return len(s) == 16 && !slices.ContainsFunc([]rune(s), func(r rune) bool { return !isHex(r) })
}
