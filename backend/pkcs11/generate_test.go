package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/faultp11"
)

var replace = &backend.GenerateOptions{Replace: true}

// newKeys are parameters of new keys of every kind.
func newKeys(r *rig) []Params {
	return []Params{
		withBits(r.with("RSAPKCS", RSAPKCS), 2048), withBits(r.with("RSAPKCSPSS", RSAPKCSPSS), 2048), withBits(r.with("RSAPKCSOAEP", RSAPKCSOAEP), 2048),
		withCurve(r.with("P224", ECDSA), "P224"), withCurve(r.with("P256", ECDSA), "P256"), withCurve(r.with("P384", ECDSA), "P384"),
		withCurve(r.with("P521", ECDSA), "P521"), withCurve(r.with("SECP256K1", ECDSA), "SECP256K1"), withCurve(r.with("ECDH", ECDH), "P384"),
		r.with("EdDSA", EdDSA), withCurve(r.with("ED25519", EdDSA), "ED25519"),
		withBits(r.with("AESGCM", AESGCM), 128), withBits(r.with("AES192", AESGCM), 192), withBits(r.with("AESCMAC", AESCMAC), 256),
		withBits(r.with("HMAC", SHA256HMAC), 160), withBits(r.with("HMAC512", 0x271), 4096),
	}
}

// TestGenerate makes a key of every kind, finds it again, and makes no other in its place.
func TestGenerate(t *testing.T) {
	r := newRig(t)
	a, b := r.client(t), r.client(t)
	for _, p := range newKeys(r) {
		t.Run(p.KeyLabel, func(t *testing.T) {
			key := mustGenerate(t, a, p)
			again := mustOpen(t, b, p)
			if again.ID() != key.ID() || key.Public() != nil && !same(again.Public(), key.Public()) {
				t.Errorf("opening gives another key: %s and %s", key.ID(), again.ID())
			}
			if _, ok := key.(backend.Signer); ok {
				signsWell(t, key)
				signsWell(t, again)
			}
			want := 2
			if key.Public() == nil {
				want = 1
			}
			for _, opts := range []*backend.GenerateOptions{nil, {}} {
				_, err := b.Generate(t.Context(), p, opts)
				wants(t, err, backend.ErrKeyExists, fmt.Sprintf("key_label %q", p.KeyLabel), r.token.Label)
			}
			if n := len(objectsOf(t, a, p, labelled(p.KeyLabel))); n != want {
				t.Errorf("%d objects, want %d", n, want)
			}
		})
	}
}

// TestGenerateRefuses: what can't be made is refused before the token is asked, or makes nothing.
func TestGenerateRefuses(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	for name, test := range map[string]struct {
		change func(*Params)
		says   string
	}{
		"no label":     {func(p *Params) { p.KeyLabel, p.KeyID = "", "0x01" }, "key_label: is missing"},
		"id":           {func(p *Params) { p.KeyID = "0x01" }, "key_id: can't be chosen"},
		"no curve":     {func(p *Params) { p.Curve = "" }, "curve: is missing"},
		"no RSA bits":  {func(p *Params) { p.Curve, p.Mechanism = "", RSAPKCS }, "key_bits: is missing"},
		"no AES bits":  {func(p *Params) { p.Curve, p.Mechanism = "", AESGCM }, "key_bits: is missing"},
		"no set":       {func(p *Params) { p.Curve, p.Mechanism = "", MLDSA }, "parameter_set: is missing"},
		"small RSA":    {func(p *Params) { p.Curve, p.Mechanism, p.KeyBits = "", RSAPKCS, 1024 }, "key_bits: got 1024"},
		"odd AES":      {func(p *Params) { p.Curve, p.Mechanism, p.KeyBits = "", AESGCM, 129 }, "key_bits: got 129"},
		"makes keys":   {func(p *Params) { p.Mechanism = ecKeyPairGen }, "makes keys"},
		"other curve":  {func(p *Params) { p.Curve = "P-256" }, "curve: got"},
		"no mechanism": {func(p *Params) { p.Mechanism = 0 }, "mechanism: is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			p := r.p256("key")
			test.change(&p)
			_, err := b.Generate(t.Context(), p, nil)
			wants(t, err, backend.ErrInvalidParams, test.says)
		})
	}
	if counts := r.Counts(); len(counts) > 0 {
		t.Errorf("the module was called: %v", counts)
	}
	_, err := b.Generate(t.Context(), r.with("key", 1<<40), nil)
	wants(t, err, backend.ErrUnsupported, "0x10000000000")
	makeObject(t, b, withBits(r.with("key", RSAPKCS), 2048), "")
	_, err = b.Generate(t.Context(), r.p256("key"), nil)
	wants(t, err, backend.ErrKeyExists, "RSA key")
	has(t, b, r.p256("key"), 2)
}

// TestGenerateAtOnce: of many that make one key, one succeeds.
func TestGenerateAtOnce(t *testing.T) {
	r := newRig(t)
	a, b := r.client(t), r.client(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for n := range 16 {
		wg.Go(func() {
			_, err := []*Backend{a, b}[n%2].Generate(context.Background(), r.p256("key"), nil)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else if !errors.Is(err, backend.ErrKeyExists) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made != 1 {
		t.Errorf("%d keys were made, want 1", made)
	}
	has(t, a, r.p256("key"), 2)
	signsWell(t, mustOpen(t, b, r.p256("key")))
}

// TestGenerateLosesReply: a key that may have been made is looked for and removed, and not made twice.
func TestGenerateLosesReply(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	mustGenerate(t, b, r.p256("other"))
	for function, p := range map[string]Params{"C_GenerateKeyPair": r.p256("key"), "C_GenerateKey": withBits(r.with("key", AESGCM), 256)} {
		for _, when := range []faultp11.When{faultp11.Before, faultp11.After} {
			for _, code := range []ckr{0x030, ckrGeneralError, 0x031, 0x0B3, ckrTokenNotPresent, ckrFunctionFailed, 0x80000042} {
				r.Set(faultp11.Rule{Function: function, When: when, Code: uint64(code), Times: 1})
				r.ResetCounts()
				_, err := b.Generate(t.Context(), p, nil)
				wants(t, err, code.sentinel(), function, code.Error(), r.token.Label)
				if n := r.Count(function); n != 1 {
					t.Errorf("%s was called %d times, want once", function, n)
				}
				has(t, b, p, 2) // those of the other key
			}
		}
		r.Set()
		mustGenerate(t, b, p)
		if err := b.Delete(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGenerateCancelled: before the token begins, nothing is made; afterwards it finishes and the key can be opened.
func TestGenerateCancelled(t *testing.T) {
	for function, found := range map[string]bool{"C_FindObjects": false, "C_GenerateKeyPair": true} {
		t.Run(function, func(t *testing.T) {
			r := newRig(t)
			b := r.client(t)
			ctx, cancel := context.WithCancel(t.Context())
			r.Set(faultp11.Rule{Function: function, Hang: true, Times: 1})
			done := make(chan error)
			go func() {
				_, err := b.Generate(ctx, r.p256("key"), nil)
				done <- err
			}()
			comesToHold(t, func() bool { return r.Hanging() == 1 })
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("error = %v, want context.Canceled", err)
			}
			r.Release()
			key, err := b.Open(t.Context(), r.p256("key")) // waits until the token is free
			if !found {
				wants(t, err, backend.ErrKeyNotFound)
				if n := r.Count("C_GenerateKeyPair"); n != 0 {
					t.Errorf("%d keys were made for nobody", n)
				}
			} else if err != nil {
				t.Error(err)
			} else {
				signsWell(t, key)
			}
		})
	}
}

// TestReadOnlyToken: a token that takes no read/write session signs, and makes no keys.
func TestReadOnlyToken(t *testing.T) {
	r := newRig(t)
	maker := r.client(t)
	mustGenerate(t, maker, r.p256("key"))
	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}
	r.TokenFlags(flagWriteProtected, 0)
	b := r.client(t)
	key := mustOpen(t, b, r.p256("key"))
	logins := r.UserLogins()
	for range 3 {
		r.Set(faultp11.Rule{Function: "C_OpenSession", Code: 0x0E2, Times: 1})
		_, err := b.Generate(t.Context(), r.p256("new"), nil)
		wants(t, err, backend.ErrNotPermitted, "C_OpenSession", "CKR_TOKEN_WRITE_PROTECTED", r.token.Label)
		if err != nil && strings.Contains(err.Error(), "left on the token") {
			t.Errorf("error %q speaks of a key that can't be there", err)
		}
		r.Set()
		signsWell(t, key)
	}
	r.failing("C_GenerateKeyPair", 0x0B5)
	_, err := b.Generate(t.Context(), r.p256("new"), nil)
	wants(t, err, backend.ErrNotPermitted, "C_GenerateKeyPair", "CKR_SESSION_READ_ONLY")
	signsWell(t, key)
	has(t, b, r.p256("key"), 2)
	if n := r.UserLogins(); n != logins {
		t.Errorf("%d logins more for keys that can't be made", n-logins)
	}
}
