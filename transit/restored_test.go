package transit

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// rewritten returns a backup with other members of its key and of that's first version.
func rewritten(tb testing.TB, text string, key, version map[string]any) string {
	tb.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		tb.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		tb.Fatal(err)
	}
	rec := all["key"].(map[string]any)
	for name, value := range key {
		rec[name] = value
	}
	for name, value := range version {
		rec["versions"].([]any)[0].(map[string]any)[name] = value
	}
	if data, err = json.Marshal(all); err != nil {
		tb.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(data)
}

func backedUp(tb testing.TB, e *Engine, name string) string {
	tb.Helper()
	text, err := e.Backup(tb.Context(), name)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// A hash that there is not would panic in whatever signs or verifies, which for a batch is a goroutine of its own.
func TestRestoreUnknownHash(t *testing.T) {
	h := newHouse(t, "rsa", "p256")
	for _, name := range []string{"rsa", "p256"} {
		text := backedUp(t, h.engine, name)
		for what, version := range map[string]map[string]any{
			"no hash": {"hash": 9999}, "a hash that isn't linked": {"hash": 1}, "no scheme": {"scheme": 77}, "another scheme": {"scheme": backend.ECDSA},
		} {
			err := h.engine.Restore(t.Context(), name, rewritten(t, text, nil, version), true)
			if !errors.Is(err, backend.ErrInvalidParams) {
				t.Errorf("%s, %s: got %v; want ErrInvalidParams", name, what, err)
			}
		}
		if err := h.engine.Restore(t.Context(), name, rewritten(t, text, nil, map[string]any{"hash": 6}), true); err != nil { // SHA-384
			t.Errorf("%s: %v", name, err)
		}
		if _, err := h.engine.Sign(t.Context(), name, SignRequest{Input: []byte("m")}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// One backup must not be able to keep every process from starting.
func TestRestoreUnreadable(t *testing.T) {
	p := newProcess(t, newSealed(t), newHouse(t).software)
	for _, kind := range []string{TypeAES256, TypeEd25519} {
		opts := KeyOptions{Type: kind, Derived: true, Exportable: true, AllowPlaintextBackup: true}
		if err := p.engine.CreateKey(t.Context(), kind, opts); err != nil {
			t.Fatal(err)
		}
		text := backedUp(t, p.engine, kind)
		for what, version := range map[string]map[string]any{
			"empty material": {"material": ""}, "no material": {"material": nil}, "empty HMAC key": {"hmac": ""}, "short HMAC key": {"hmac": "AAAA"},
		} {
			err := p.engine.Restore(t.Context(), "restored", rewritten(t, text, nil, version), true)
			if !errors.Is(err, backend.ErrInvalidParams) {
				t.Errorf("%s, %s: got %v; want ErrInvalidParams", kind, what, err)
			}
		}
	}
	again, err := Open(t.Context(), p.mount, p.store, nil)
	if err != nil {
		t.Fatalf("the engine doesn't open any more: %v", err)
	}
	again.Close()
}

// A period that is shorter than what the others take, or that a duration can't hold, would make a version with every Tick.
func TestRestorePeriod(t *testing.T) {
	h := newSoftHouse(t)
	h.create(t, "k", KeyOptions{Type: TypeAES256, Exportable: true, AllowPlaintextBackup: true, AutoRotatePeriod: time.Hour})
	text := backedUp(t, h.engine, "k")
	for _, seconds := range []int64{-1, 1, 3599, 1 << 62, 1<<63 - 1} {
		err := h.engine.Restore(t.Context(), "k", rewritten(t, text, map[string]any{"auto_rotate": seconds}, nil), true)
		if !errors.Is(err, backend.ErrInvalidParams) {
			t.Errorf("%d seconds: got %v; want ErrInvalidParams", seconds, err)
		}
	}
	for _, seconds := range []int64{0, 3600, 9_000_000_000} {
		if err := h.engine.Restore(t.Context(), "k", rewritten(t, text, map[string]any{"auto_rotate": seconds}, nil), true); err != nil {
			t.Errorf("%d seconds: %v", seconds, err)
		}
	}
	if rotated, err := h.engine.Tick(t.Context()); len(rotated) > 0 || err != nil {
		t.Errorf("rotated %v, %v", rotated, err)
	}
}
