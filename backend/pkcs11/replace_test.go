package pkcs11

import (
	"context"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/faultp11"
)

func TestReplace(t *testing.T) {
	r := newRig(t)
	a, b := r.client(t), r.client(t)
	p := r.p256("key")
	first, err := a.Generate(t.Context(), p, replace) // nothing to replace
	if err != nil {
		t.Fatal(err)
	}
	ofB := mustOpen(t, b, p)
	second, err := a.Generate(t.Context(), p, replace)
	if err != nil {
		t.Fatal(err)
	}
	signsWell(t, second)
	if same(first.Public(), second.Public()) || first.ID() == second.ID() {
		t.Error("the key was not replaced")
	}
	has(t, a, p, 2)
	for _, old := range []backend.Key{first, ofB} {
		_, err := signSHA256(t, old)
		wants(t, err, backend.ErrKeyChanged, "was replaced", r.token.Label)
	}
	signsWell(t, mustOpen(t, b, p))
	makeObject(t, a, p, "another")
	_, err = a.Generate(t.Context(), p, replace)
	wants(t, err, backend.ErrAmbiguousKey, "which one")
	signsWell(t, second)
}

// TestReplaceOtherKind: the new key may be of another kind than the old one.
func TestReplaceOtherKind(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	for _, p := range []Params{r.p256("key"), withBits(r.with("key", RSAPKCS), 2048), withBits(r.with("key", AESGCM), 256), r.with("key", EdDSA)} {
		if _, err := b.Generate(t.Context(), p, replace); err != nil {
			t.Fatal(err)
		}
		mustOpen(t, b, p)
		if n := len(objectsOf(t, b, p)); n > 2 {
			t.Errorf("%d objects are on the token", n)
		}
	}
}

// TestReplaceFails: whatever fails, the old key and its handles stay and the new one goes.
func TestReplaceFails(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	p := r.p256("key")
	old := mustGenerate(t, b, p)
	for name, rule := range map[string]faultp11.Rule{
		"making":                 {Function: "C_GenerateKeyPair", Code: 0x031, Times: 1},
		"the reply of making":    {Function: "C_GenerateKeyPair", When: faultp11.After, Code: 0x030, Times: 1},
		"no such curve":          {Function: "C_GenerateKeyPair", Code: 0x140, Times: 1},
		"trying the new key":     {Function: "C_Sign", Code: 0x068, Times: 1},
		"beginning to try it":    {Function: "C_SignInit", Code: 0x070, Times: 1},
		"removing the old one":   {Function: "C_DestroyObject", Code: 0x01B, Times: 1},
		"removing it, read-only": {Function: "C_DestroyObject", Code: 0x0B5, Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			r.Set(rule)
			key, err := b.Generate(t.Context(), p, replace)
			if err == nil {
				t.Fatalf("replaced by %s", key.ID())
			}
			wants(t, err, ckr(rule.Code).sentinel(), ckr(rule.Code).Error(), rule.Function)
			r.Set()
			has(t, b, p, 2)
			signsWell(t, old)
			if again := mustOpen(t, b, p); !same(again.Public(), old.Public()) {
				t.Error("the old key is gone")
			}
		})
	}
	t.Run("and the new key can't be removed", func(t *testing.T) {
		r.failing("C_DestroyObject", 0x01B)
		_, err := b.Generate(t.Context(), p, replace)
		wants(t, err, backend.ErrNotPermitted, "CKR_ACTION_PROHIBITED", "was left on the token", "0x")
		r.Set()
		signsWell(t, old)
		_, err = b.Open(t.Context(), p)
		wants(t, err, backend.ErrAmbiguousKey) // which the error said
	})
}

// TestReplaceHeals: what a recovery helps against doesn't stop the replacement.
func TestReplaceHeals(t *testing.T) {
	for name, rule := range map[string]faultp11.Rule{
		"trying":               {Function: "C_Sign", Code: 0x030, Times: 1},
		"removing":             {Function: "C_DestroyObject", Code: 0x030, Times: 1},
		"reply of removing":    {Function: "C_DestroyObject", When: faultp11.After, Code: 0x030, Times: 1},
		"token goes meanwhile": {Function: "C_DestroyObject", Code: 0x0E0, Times: 1},
		"token goes then":      {Function: "C_DestroyObject", When: faultp11.After, Code: 0x0E0, Times: 1},
		"searching afterward":  {Function: "C_FindObjects", Code: 0x0B3, Skip: 2, Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			b := r.client(t)
			p := r.p256("key")
			old := mustGenerate(t, b, p)
			r.Set(rule)
			key, err := b.Generate(t.Context(), p, replace)
			if err != nil {
				t.Fatal(err)
			}
			r.Set()
			signsWell(t, key)
			_, err = signSHA256(t, old)
			wants(t, err, backend.ErrKeyChanged)
			has(t, b, p, 2)
		})
	}
}

// TestReplaceWaitsForOperations: the old object is not removed under an operation, whose signature is still the old key's.
func TestReplaceWaitsForOperations(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	p := r.p256("key")
	old := mustGenerate(t, b, p)
	r.ResetCounts()
	r.Set(faultp11.Rule{Function: "C_Sign", Hang: true, Times: 1})
	signed, replaced := make(chan error, 1), make(chan error, 1)
	go func() { signed <- signOnce(context.Background(), old) }()
	comesToHold(t, func() bool { return r.Hanging() == 1 })
	go func() {
		_, err := b.Generate(context.Background(), p, replace)
		replaced <- err
	}()
	comesToHold(t, func() bool { return r.Count("C_Sign") >= 2 }) // the new key is there and tried
	if n := r.Count("C_DestroyObject"); n != 0 {
		t.Error("the object was removed under an operation")
	}
	r.Release()
	if err := <-signed; err != nil {
		t.Errorf("operation in flight: %v", err)
	}
	if err := <-replaced; err != nil {
		t.Errorf("Generate: %v", err)
	}
	has(t, b, p, 2)
}

// TestReplaceUnderLoad: each signature is of the key that its handle stands for, before and after.
func TestReplaceUnderLoad(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	p := r.p256("key")
	old := mustGenerate(t, b, p)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				if err := signOnce(context.Background(), old); err != nil {
					wants(t, err, backend.ErrKeyChanged, "was replaced")
					return
				}
			}
		})
	}
	key, err := b.Generate(t.Context(), p, replace)
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	signsWell(t, key)
}

// TestReplaceWithoutID: an old key without an id shares nothing but its label with the new one, whose public key stays.
func TestReplaceWithoutID(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	p := r.p256("key")
	makeObject(t, b, p, "")
	old := mustOpen(t, b, p)
	signsWell(t, old)
	key, err := b.Generate(t.Context(), p, replace)
	if err != nil {
		t.Fatal(err)
	}
	if again := mustOpen(t, b, p); !same(again.Public(), key.Public()) || same(again.Public(), old.Public()) {
		t.Error("the key was not replaced")
	}
	has(t, b, p, 2)
}
