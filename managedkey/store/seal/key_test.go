package seal_test

import (
	"crypto"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/managedkey/store/seal"
)

// generate returns a new software key.
func generate(t *testing.T, params software.Params) backend.Key {
	t.Helper()
	keys := software.New(nil)
	t.Cleanup(func() { keys.Close() })
	params.KeyName = "seal"
	key, err := keys.Generate(t.Context(), params, nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func aes(t *testing.T) backend.AEAD {
	t.Helper()
	return generate(t, software.Params{KeyType: software.AES, KeyBits: 256}).(backend.AEAD)
}

func managed(t *testing.T, key backend.Key) seal.Key {
	t.Helper()
	k, err := seal.Managed(key)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// limited is a key with other capabilities.
type limited struct {
	backend.AEAD
	backend.Wrapper
	backend.Decrypter
	backend.Key
	caps backend.Capabilities
}

func (l limited) Capabilities() backend.Capabilities { return l.caps }
func (l limited) Public() crypto.PublicKey           { return l.Key.Public() }
func (l limited) ID() string                         { return "limited" }

// limit returns key with only those usages, and hashes of OAEP.
func limit(key backend.Key, usages backend.Usage, hashes ...crypto.Hash) backend.Key {
	l := limited{Key: key, caps: key.Capabilities()}
	l.AEAD, _ = key.(backend.AEAD)
	l.Wrapper, _ = key.(backend.Wrapper)
	l.Decrypter, _ = key.(backend.Decrypter)
	l.caps.Usages, l.caps.OAEPHashes = usages, hashes
	return l
}

// TestManaged seals with each kind of key, opens again, and fails with another key of the same kind.
func TestManaged(t *testing.T) {
	rsa := func(t *testing.T) backend.Key {
		return generate(t, software.Params{KeyType: software.RSA, KeyBits: 2048})
	}
	for name, c := range map[string]struct {
		key  func(t *testing.T) backend.Key
		kind string
	}{
		"AES":              {func(t *testing.T) backend.Key { return aes(t) }, "aead"},
		"AES that wraps":   {func(t *testing.T) backend.Key { return limit(aes(t), backend.UsageWrap|backend.UsageUnwrap) }, "wrap"},
		"RSA":              {rsa, "rsa-oaep"},
		"RSA with SHA-1":   {func(t *testing.T) backend.Key { return limit(rsa(t), backend.UsageDecrypt, crypto.SHA1) }, "rsa-oaep"},
		"RSA that unwraps": {func(t *testing.T) backend.Key { return limit(rsa(t), backend.UsageWrap|backend.UsageUnwrap) }, "wrap"},
	} {
		t.Run(name, func(t *testing.T) {
			inner := keeper{memory.New(nil)}
			defer inner.Store.Close()
			key := c.key(t)
			s := open(t, inner, managed(t, key), nil)
			apply(t, s, store.Op{Key: "a", Value: []byte("value")})
			if st := s.Status(); st.SealKind != c.kind || st.SealID != key.ID() || !slices.Equal(st.DataKeys, []uint32{1}) || st.Active != 1 || st.EncryptNames {
				t.Errorf("status: %+v, want kind %s, id %s", st, c.kind, key.ID())
			}
			s.Close()
			s = open(t, inner, managed(t, key), nil)
			if record := get(t, s, "a"); string(record.Value) != "value" {
				t.Errorf("value %q", record.Value)
			}
			_, err := seal.Open(t.Context(), inner, managed(t, c.key(t)), quiet(nil))
			if !errors.Is(err, seal.ErrSealKey) || !strings.Contains(err.Error(), c.kind) {
				t.Errorf("with another key: %v", err)
			}
		})
	}
}

func TestManagedRefuses(t *testing.T) {
	for name, key := range map[string]backend.Key{
		"ECDSA":            generate(t, software.Params{KeyType: software.ECDSA, Curve: software.P256}),
		"HMAC":             generate(t, software.Params{KeyType: software.HMAC, KeyBits: 256}),
		"encrypts only":    limit(aes(t), backend.UsageEncrypt),
		"RSA without OAEP": limit(generate(t, software.Params{KeyType: software.RSA, KeyBits: 2048}), backend.UsageDecrypt),
	} {
		if _, err := seal.Managed(key); !errors.Is(err, backend.ErrUnsupported) || !strings.Contains(err.Error(), "can neither") {
			t.Errorf("%s: error = %v", name, err)
		}
	}
}

func TestPassphrase(t *testing.T) {
	if _, err := seal.Passphrase("", nil); !errors.Is(err, backend.ErrCredentials) {
		t.Errorf("empty: %v", err)
	}
	if _, err := seal.Passphrase("env:NOT_SET_HERE", nil); !errors.Is(err, backend.ErrCredentials) || !strings.Contains(err.Error(), "NOT_SET_HERE") {
		t.Errorf("not set: %v", err)
	}
	if _, err := seal.Passphrase("x", &seal.Argon2id{Time: 100}); !errors.Is(err, backend.ErrInvalidParams) || !strings.Contains(err.Error(), "time: got 100") {
		t.Errorf("costs: %v", err)
	}
	t.Setenv("SEAL_TEST_PASSPHRASE", "secret")
	key, err := seal.Passphrase("env:SEAL_TEST_PASSPHRASE", cheap)
	if err != nil {
		t.Fatal(err)
	}
	inner := keeper{memory.New(nil)}
	defer inner.Store.Close()
	open(t, inner, key, nil).Close()
	if strings.Contains(string(get(t, inner, "seal/root").Value), "secret") {
		t.Error("the passphrase is in the store")
	}
	same, err := seal.Passphrase("secret", nil) // the costs are those of the store
	if err != nil {
		t.Fatal(err)
	}
	open(t, inner, same, nil).Close()
}
