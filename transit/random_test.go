package transit

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

func TestRandom(t *testing.T) {
	h := newSoftHouse(t)
	ctx := t.Context()
	if _, err := h.software.Generate(ctx, software.Params{KeyName: "k", KeyType: software.AES, KeyBits: 256}, nil); err != nil {
		t.Fatal(err)
	}
	for name, usages := range map[string]backend.Usage{"k": backend.UsageGenerateRandom, "not": allUsages} {
		entry := managedkey.Entry{Ref: namespace.Ref{Name: name}, Backend: h.software, Params: software.Params{KeyName: "k"}, Usages: usages, AnyMount: true}
		if err := h.registry.Create(ctx, entry); err != nil {
			t.Fatal(err)
		}
		h.create(t, name, KeyOptions{ManagedKey: name})
	}
	h.create(t, "soft", KeyOptions{Type: TypeAES256})
	seen := map[string]bool{}
	for _, source := range []string{"", SourcePlatform, SourceManaged, SourceAll} {
		for _, n := range []int{16, 1000, MaxRandom} {
			out, err := h.engine.Random(ctx, n, source, "k")
			if err != nil || len(out) != n || bytes.Count(out, []byte{0}) > n/8 || seen[string(out)] {
				t.Errorf("%s, %d: %d bytes, %v", source, n, len(out), err)
			}
			seen[string(out)] = true
		}
	}
	for name, c := range map[string]struct {
		n           int
		source, key string
		sentinel    error
		text        string
	}{
		"none":     {0, "", "", backend.ErrInvalidParams, "'bytes' cannot be less than 1"},
		"too many": {MaxRandom + 1, "", "", backend.ErrInvalidParams, "'bytes' should be less than 131072"},
		"source":   {1, "moon", "", backend.ErrInvalidParams, `unsupported entropy source "moon"`},
		"no key":   {1, SourceManaged, "nobody", backend.ErrKeyNotFound, "random key not found"},
		"software": {1, SourceAll, "soft", backend.ErrUnsupported, "takes a managed key"},
		"usage":    {1, SourceManaged, "not", backend.ErrNotPermitted, "generate_random"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := h.engine.Random(ctx, c.n, c.source, c.key)
			wantError(t, err, c.sentinel, c.text)
			if out != nil {
				t.Error("bytes came with the error")
			}
		})
	}
}

func TestHash(t *testing.T) {
	for algorithm, want := range map[string]string{ // FIPS 180-4 and FIPS 202 examples: "abc"
		"":         "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha2-256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha2-224": "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
		"sha3-256": "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
		"sha3-224": "e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf",
	} {
		if got, err := Hash(algorithm, []byte("abc")); err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%s: got %x, %v", algorithm, got, err)
		}
	}
	for _, algorithm := range []string{"sha1", "md5", "none", "SHA2-256"} {
		_, err := Hash(algorithm, nil)
		wantError(t, err, backend.ErrInvalidParams, "unsupported algorithm")
	}
}

func TestDataKey(t *testing.T) {
	h := newSoftHouse(t)
	h.create(t, "k", KeyOptions{Type: TypeAES256, Derived: true})
	for bits, size := range map[int]int{0: 32, 128: 16, 256: 32, 512: 64} {
		r := DataKeyRequest{Bits: bits, Context: []byte("c"), AssociatedData: []byte("a")}
		key, err := h.engine.NewDataKey(t.Context(), "k", r)
		if err != nil || len(key.Plaintext) != size {
			t.Fatalf("%d bits: %d bytes, %v", bits, len(key.Plaintext), err)
		}
		got, err := h.engine.Decrypt(t.Context(), "k", DecryptRequest{Ciphertext: key.Ciphertext, Context: []byte("c"), AssociatedData: []byte("a")})
		if err != nil || !bytes.Equal(got, key.Plaintext) {
			t.Errorf("%d bits: %x, %v", bits, got, err)
		}
	}
	for _, bits := range []int{-1, 1, 192, 1024} {
		_, err := h.engine.NewDataKey(t.Context(), "k", DataKeyRequest{Bits: bits, Context: []byte("c")})
		wantError(t, err, backend.ErrInvalidParams, "invalid bit length")
	}
	_, err := h.engine.NewDataKey(t.Context(), "k", DataKeyRequest{})
	wantError(t, err, backend.ErrInvalidParams, "missing 'context'")
}
