package pkcs11

import (
	"context"
	"crypto"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

var (
	newEC   = Params{Library: "lib", TokenLabel: "one", PIN: fakePIN, KeyLabel: "key", Mechanism: ECDSA, Curve: "P256"}
	newRSA  = Params{Library: "lib", TokenLabel: "one", PIN: fakePIN, KeyLabel: "key", Mechanism: RSAPKCSPSS, KeyBits: 2048}
	newOAEP = Params{Library: "lib", TokenLabel: "one", PIN: fakePIN, KeyLabel: "key", Mechanism: RSAPKCSOAEP, KeyBits: 2048}
	replace = &backend.GenerateOptions{Replace: true}
)

// labels returns how many objects have the label.
func (m *fakeModule) labelled(label string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.objects {
		if o.label == label {
			n++
		}
	}
	return n
}

func same(a, b crypto.PublicKey) bool {
	return a.(interface{ Equal(crypto.PublicKey) bool }).Equal(b)
}

func TestGenerate(t *testing.T) {
	for _, test := range []struct {
		name   string
		params Params
		sign   bool
	}{{"EC", newEC, true}, {"RSA", newRSA, true}, {"OAEP", newOAEP, false}} {
		t.Run(test.name, func(t *testing.T) {
			m := newFake()
			b := fakeBackend(t, m.shared())
			key := mustGenerate(t, b, test.params)
			if o := m.objects[0]; len(o.id) != idLength || o.label != "key" || o.sign != test.sign || o.decrypt == test.sign {
				t.Errorf("made %+v", o.object)
			}
			if again := mustOpen(t, b, test.params); !same(again.Public(), key.Public()) || again.ID() != key.ID() {
				t.Error("opening gives another key")
			}
			_, err := b.Generate(t.Context(), test.params, nil)
			wants(t, err, backend.ErrKeyExists, `key_label "key"`)
			_, err = b.Generate(t.Context(), test.params, &backend.GenerateOptions{})
			wants(t, err, backend.ErrKeyExists)
			if n := m.labelled("key"); n != 1 {
				t.Errorf("%d keys, want 1", n)
			}
		})
	}
}

func TestGenerateRefuses(t *testing.T) {
	m := newFake()
	b := fakeBackend(t, m.shared())
	for name, test := range map[string]struct {
		change func(*Params)
		says   string
	}{
		"no label":  {func(p *Params) { p.KeyLabel, p.KeyID = "", "0x01" }, "key_label: is missing"},
		"id":        {func(p *Params) { p.KeyID = "0x01" }, "key_id: can't be chosen"},
		"no curve":  {func(p *Params) { p.Curve = "" }, "curve: is missing"},
		"no length": {func(p *Params) { p.Curve, p.Mechanism = "", RSAPKCS }, "key_bits: is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newEC
			test.change(&p)
			_, err := b.Generate(t.Context(), p, nil)
			wants(t, err, backend.ErrInvalidParams, test.says)
		})
	}
	if len(m.calls) != 0 {
		t.Errorf("calls: %v", m.calls)
	}
	t.Run("token can't", func(t *testing.T) {
		m.uses[ecKeyPairGen] = 0
		_, err := b.Generate(t.Context(), newEC, nil)
		wants(t, err, backend.ErrUnsupported, "CKM_EC_KEY_PAIR_GEN")
	})
	t.Run("other kind of key has the label", func(t *testing.T) {
		m.add(keySpec{label: "key", kind: keyRSA})
		_, err := b.Generate(t.Context(), newEC, nil)
		wants(t, err, backend.ErrKeyExists, "RSA key")
	})
	t.Run("import", func(t *testing.T) {
		_, err := b.Import(t.Context(), newEC, rsaKeys()[0], nil)
		wants(t, err, backend.ErrUnsupported, "importing private keys")
	})
	if n := m.count("C_GenerateKeyPair"); n != 0 {
		t.Errorf("%d keys were made", n)
	}
}

func TestReplace(t *testing.T) {
	m := newFake()
	shared := m.shared()
	a, b := fakeBackend(t, shared), fakeBackend(t, shared)
	first, err := a.Generate(t.Context(), newEC, replace) // nothing to replace
	if err != nil {
		t.Fatal(err)
	}
	ofB := mustOpen(t, b, newEC)
	second, err := a.Generate(t.Context(), newEC, replace)
	if err != nil {
		t.Fatal(err)
	}
	signsWell(t, second)
	if same(first.Public(), second.Public()) || m.labelled("key") != 1 {
		t.Error("the key was not replaced")
	}
	for _, old := range []backend.Key{first, ofB} {
		_, err := old.(backend.Signer).Sign(nil, make([]byte, 32), crypto.SHA256)
		wants(t, err, backend.ErrKeyChanged, "was replaced")
	}
	signsWell(t, mustOpen(t, b, newEC))
	m.add(keySpec{label: "key", kind: keyEC})
	_, err = a.Generate(t.Context(), newEC, replace)
	wants(t, err, backend.ErrAmbiguousKey, "which one")
	signsWell(t, second)
}

// TestReplaceFails: whatever fails, the old key and its handles stay and the new one goes.
func TestReplaceFails(t *testing.T) {
	for _, function := range []string{"C_GenerateKeyPair", "key", "C_GetAttributeValue", "C_Sign", "C_DestroyObject"} {
		t.Run(function, func(t *testing.T) {
			m := newFake()
			b := fakeBackend(t, m.shared())
			old := mustGenerate(t, b, newEC)
			failed := false
			m.on(function, func() error {
				if failed {
					return nil
				}
				failed = true
				return &callError{function, 0x031, nil}
			})
			_, err := b.Generate(t.Context(), newEC, replace)
			wants(t, err, backend.ErrUnavailable, "CKR_DEVICE_MEMORY")
			if n := m.labelled("key"); n != 1 {
				t.Errorf("%d keys, want 1", n)
			}
			signsWell(t, old)
			if again := mustOpen(t, b, newEC); !same(again.Public(), old.Public()) {
				t.Error("the old key is gone")
			}
		})
	}
	t.Run("and the new key can't be removed", func(t *testing.T) {
		m := newFake()
		b := fakeBackend(t, m.shared())
		old := mustGenerate(t, b, newEC)
		m.fails("C_DestroyObject", 0x01B)
		_, err := b.Generate(t.Context(), newEC, replace)
		wants(t, err, backend.ErrNotPermitted, "CKR_ACTION_PROHIBITED", "could not be removed again", "0x")
		signsWell(t, old)
	})
	t.Run("made, but reported as failed", func(t *testing.T) {
		m := newFake()
		b := fakeBackend(t, m.shared())
		m.on("C_GenerateKeyPair", func() error {
			b.conns[scope{"lib", "", "one"}].token.(*fakeToken).add(keySpec{id: []byte{9}, label: "stray", kind: keyEC})
			return &callError{"C_GenerateKeyPair", 0x030, nil}
		})
		mustPing(t, b, m)
		_, err := b.Generate(t.Context(), newEC, nil)
		wants(t, err, backend.ErrUnavailable, "C_GenerateKeyPair", "CKR_DEVICE_ERROR")
		if m.labelled("key") != 0 || m.labelled("stray") != 1 {
			t.Error("something else than the new key was removed")
		}
	})
}

// mustPing connects b, so that it can be pinged.
func mustPing(t *testing.T, b *Backend, m *fakeModule) {
	t.Helper()
	if _, err := b.Open(t.Context(), ecParams); !errors.Is(err, backend.ErrKeyNotFound) {
		t.Fatal(err)
	}
	if err := b.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestReplaceWaitsForOperations: the old object is not removed under an operation, whose signature is still the old key's.
func TestReplaceWaitsForOperations(t *testing.T) {
	m := newFake()
	b := fakeBackend(t, m.shared())
	old := mustGenerate(t, b, newEC)
	var oldFate *fate
	for _, f := range b.conns[scope{"lib", "", "one"}].fates {
		oldFate = f
	}
	entered, release := make(chan struct{}), make(chan struct{})
	m.on("C_Sign", func() error {
		m.on("C_Sign", nil)
		close(entered)
		<-release
		return nil
	})
	var done, early atomic.Bool
	m.on("C_DestroyObject", func() error { early.Store(!done.Load()); return nil })
	signed, replaced := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := old.(backend.Signer).Sign(nil, make([]byte, 32), crypto.SHA256)
		signed <- err
	}()
	<-entered
	go func() {
		_, err := b.Generate(context.Background(), newEC, replace)
		replaced <- err
	}()
	// Nobody can read-lock any more once Generate waits to remove the object.
	for m.count("C_DestroyObject") == 0 && oldFate.mu.TryRLock() {
		oldFate.mu.RUnlock()
		runtime.Gosched()
	}
	done.Store(true)
	close(release)
	if err := <-signed; err != nil {
		t.Errorf("operation in flight: %v", err)
	}
	if err := <-replaced; err != nil {
		t.Errorf("Generate: %v", err)
	}
	if early.Load() {
		t.Error("the object was removed under an operation")
	}
}

// TestGenerateCancelled: before the token begins, nothing is made; afterwards it finishes and the key can be opened.
func TestGenerateCancelled(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		m := newFake()
		b := fakeBackend(t, m.shared())
		ctx, cancel := context.WithCancel(t.Context())
		released := make(chan struct{})
		m.on("C_FindObjects", func() error { cancel(); <-released; return nil })
		_, err := b.Generate(ctx, newEC, nil)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v, want context.Canceled", err)
		}
		close(released)
		m.on("C_FindObjects", nil)
		_, err = b.Open(t.Context(), newEC) // waits until the token is free
		wants(t, err, backend.ErrKeyNotFound)
		if n := m.count("C_GenerateKeyPair"); n != 0 {
			t.Errorf("%d keys were made for nobody", n)
		}
	})
	t.Run("during", func(t *testing.T) {
		m := newFake()
		b := fakeBackend(t, m.shared())
		ctx, cancel := context.WithCancel(t.Context())
		released := make(chan struct{})
		m.on("C_GenerateKeyPair", func() error { cancel(); <-released; return nil })
		_, err := b.Generate(ctx, newEC, nil)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v, want context.Canceled", err)
		}
		close(released)
		signsWell(t, mustOpen(t, b, newEC))
	})
}

func TestList(t *testing.T) {
	m := newFake()
	for _, spec := range []keySpec{
		{id: []byte{2}, label: "b", kind: keyRSA, sign: true},
		{id: []byte{1}, label: "b", kind: keyEC, sign: true},
		{id: []byte{7}, kind: keyRSA, decrypt: true},
		{label: "ed", kind: keyEdDSA, sign: true},
		{kind: keyEC, sign: true},              // without a name
		{label: "dsa", kind: 0x01, sign: true}, // of no use
	} {
		m.add(spec)
	}
	b := fakeBackend(t, m.shared())
	scope := Params{Library: "LIB", Slot: "1", PIN: fakePIN}
	var got []Params
	for info, err := range b.List(t.Context(), scope) {
		if err != nil {
			t.Fatal(err)
		}
		p := info.Params.(Params)
		got = append(got, p)
		if p.Mechanism == EdDSA {
			_, err := b.Open(t.Context(), p)
			wants(t, err, backend.ErrUnsupported, "CKM_EDDSA")
			continue
		}
		if key := mustOpen(t, b, p); key.ID() != info.ID {
			t.Errorf("ID is %s, and that of the key %s", info.ID, key.ID())
		}
	}
	want := []struct {
		label, id string
		mechanism Mechanism
	}{{"", "0x07", RSAPKCSOAEP}, {"b", "0x01", ECDSA}, {"b", "0x02", RSAPKCSPSS}, {"ed", "", EdDSA}}
	if len(got) != len(want) {
		t.Fatalf("%d keys, want %d: %v", len(got), len(want), got)
	}
	for i, w := range want {
		if got[i].KeyLabel != w.label || got[i].KeyID != w.id || got[i].Mechanism != w.mechanism {
			t.Errorf("key %d is %+v, want %+v", i, got[i], w)
		}
	}
	for range b.List(t.Context(), scope) {
		break // must not go on
	}
	for name, test := range map[string]struct {
		scope backend.Params
		want  error
	}{
		"nil":      {nil, backend.ErrInvalidParams},
		"no PIN":   {Params{Library: "lib", Slot: "1"}, backend.ErrInvalidParams},
		"no slot":  {Params{Library: "lib", PIN: fakePIN}, backend.ErrInvalidParams},
		"no token": {Params{Library: "lib", PIN: fakePIN, Slot: "99"}, backend.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			for _, err := range b.List(t.Context(), test.scope) {
				n++
				wants(t, err, test.want)
			}
			if n != 1 {
				t.Errorf("%d items, want one error", n)
			}
		})
	}
	t.Run("search fails", func(t *testing.T) {
		m.fails("C_FindObjects", 0x030)
		for _, err := range b.List(t.Context(), scope) {
			wants(t, err, backend.ErrUnavailable, "C_FindObjects")
		}
	})
}

func TestPing(t *testing.T) {
	m := newFake()
	m.infos = append(m.infos, fakeInfo(2, "two"))
	m.add(ecSpec)
	b := fakeBackend(t, m.shared())
	if err := b.Ping(t.Context()); err != nil || len(m.calls) != 0 {
		t.Errorf("without a connection: error %v, calls %v", err, m.calls)
	}
	mustOpen(t, b, ecParams)
	two := ecParams
	two.TokenLabel = "two"
	mustOpen(t, b, two)
	if err := b.Ping(t.Context()); err != nil || m.count("C_GetSessionInfo") != 2 {
		t.Errorf("error %v after %d calls, want none after 2", err, m.count("C_GetSessionInfo"))
	}
	m.fails("C_GetSessionInfo", 0x0B3)
	wants(t, b.Ping(t.Context()), backend.ErrUnavailable, "CKR_SESSION_HANDLE_INVALID", "slot 1", "slot 2")
	m.fails("C_GetSessionInfo", 0x101)
	wants(t, b.Ping(t.Context()), backend.ErrCredentials, "CKR_USER_NOT_LOGGED_IN")
}
