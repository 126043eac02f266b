package transit

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// rotated makes a software key with n versions.
func (h *house) rotated(tb testing.TB, name string, n int, opts KeyOptions) {
	tb.Helper()
	h.create(tb, name, opts)
	for range n - 1 {
		if err := h.engine.Rotate(tb.Context(), name, ""); err != nil {
			tb.Fatal(err)
		}
	}
}

// configure sets minimum versions; -1 leaves one as it is.
func (h *house) configure(decryption, encryption int) error {
	var c Config
	if decryption >= 0 {
		c.MinDecryptionVersion = &decryption
	}
	if encryption >= 0 {
		c.MinEncryptionVersion = &encryption
	}
	return h.engine.Configure(context.Background(), "k", c)
}

// What is outside the window is refused, and says so; what is inside works.
func TestWindow(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	h.rotated(t, "k", 4, KeyOptions{Type: TypeAES256})
	var made []string
	for n := 1; n <= 4; n++ {
		ciphertext, err := e.Encrypt(ctx, "k", EncryptRequest{Plaintext: []byte("m"), KeyVersion: n})
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, ciphertext)
	}
	if err := h.configure(2, 3); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 4; n++ {
		_, err := e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: made[n-1]})
		if n < 2 {
			wantError(t, err, backend.ErrInvalidParams, "disallowed by policy (too old)")
		} else if err != nil {
			t.Errorf("decrypt with version %d: %v", n, err)
		}
		_, err = e.Encrypt(ctx, "k", EncryptRequest{KeyVersion: n})
		if n < 3 {
			wantError(t, err, backend.ErrInvalidParams, "less than the minimum encryption key version")
		} else if err != nil {
			t.Errorf("encrypt with version %d: %v", n, err)
		}
	}
	if err := h.configure(1, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: made[0]}); err != nil {
		t.Errorf("the window was opened again: %v", err)
	}

	if err := h.configure(3, 4); err != nil {
		t.Fatal(err)
	}
	if err := e.Trim(ctx, "k", 3); err != nil {
		t.Fatal(err)
	}
	info, err := e.Key("k")
	if err != nil || len(info.Versions) != 2 || info.Versions[0].Version != 3 || info.LatestVersion != 4 || info.MinAvailableVersion != 3 {
		t.Errorf("got %+v, %v", info, err)
	}
	if _, err := e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: made[2]}); err != nil {
		t.Error(err)
	}
	_, err = e.Encrypt(ctx, "k", EncryptRequest{KeyVersion: 2})
	wantError(t, err, backend.ErrInvalidParams, "no such key version")
	if err := e.Rotate(ctx, "k", ""); err != nil {
		t.Fatal(err)
	}
	if ciphertext, err := e.Encrypt(ctx, "k", EncryptRequest{}); err != nil || !strings.HasPrefix(ciphertext, "vault:v5:") {
		t.Errorf("got %.9s, %v; want version 5", ciphertext, err)
	}
}

func TestConfigureRefused(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	h.rotated(t, "k", 2, KeyOptions{Type: TypeAES256, Exportable: true})
	no, short, fine := false, time.Minute, time.Hour
	for name, c := range map[string]struct {
		err  error
		text string
	}{
		"encryption":     {h.configure(-1, 5), "cannot set min encryption version of 5, latest key version is 2"},
		"decryption":     {h.configure(5, -1), "cannot set min decryption version of 5, latest key version is 2"},
		"crossed":        {h.configure(2, 1), "must be greater than or equal to min decryption version of 2"},
		"negative":       {h.engine.Configure(ctx, "k", Config{MinDecryptionVersion: new(-1)}), "cannot be negative"},
		"exportable":     {e.Configure(ctx, "k", Config{Exportable: &no}), "exportable can't be taken back"},
		"period":         {e.Configure(ctx, "k", Config{AutoRotatePeriod: &short}), "auto_rotate_period of 1m0s"},
		"trim unset":     {e.Trim(ctx, "k", 1), "minimum available version cannot be set when minimum encryption version is not set"},
		"trim to 0":      {e.Trim(ctx, "k", 0), "cannot be decremented"},
		"trim negative":  {e.Trim(ctx, "k", -1), "cannot be negative"},
		"nothing at all": {e.Configure(ctx, "k", Config{}), ""},
	} {
		if c.text == "" {
			if c.err != nil {
				t.Errorf("%s: %v", name, c.err)
			}
			continue
		}
		wantError(t, c.err, backend.ErrInvalidParams, c.text)
	}
	if info, err := e.Key("k"); err != nil || info.MinDecryptionVersion != 1 || info.MinEncryptionVersion != 0 || info.AutoRotatePeriod != 0 {
		t.Errorf("something was changed: %+v, %v", info, err)
	}
	if err := h.configure(1, 2); err != nil {
		t.Fatal(err)
	}
	wantError(t, e.Trim(ctx, "k", 2), backend.ErrInvalidParams, "higher than minimum decryption version: 2; it is 1")
	wantError(t, e.Trim(ctx, "k", 3), backend.ErrInvalidParams, "higher than the latest key version")
	if err := h.configure(2, 2); err != nil {
		t.Fatal(err)
	}
	if err := e.Trim(ctx, "k", 2); err != nil {
		t.Fatal(err)
	}
	wantError(t, e.Trim(ctx, "k", 1), backend.ErrInvalidParams, "cannot be decremented: 1; it is 2")
	wantError(t, h.configure(1, -1), backend.ErrInvalidParams, "less than min available version, 2")
	wantError(t, e.Configure(ctx, "nobody", Config{}), backend.ErrKeyNotFound)
	if err := e.Configure(ctx, "k", Config{AutoRotatePeriod: &fine}); err != nil {
		t.Error(err)
	}
	managed := newHouse(t, "p256")
	yes := true
	wantError(t, managed.engine.Configure(ctx, "p256", Config{Exportable: &yes}), backend.ErrInvalidParams, "a managed key can't leave its key manager")
}

func TestDelete(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	h.create(t, "k", KeyOptions{Type: TypeAES256})
	ciphertext, err := e.Encrypt(ctx, "k", EncryptRequest{Plaintext: []byte("m")})
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, e.DeleteKey(ctx, "k"), backend.ErrNotPermitted, "error deleting policy k: deletion is not allowed for this key")
	wantError(t, e.DeleteKey(ctx, "nobody"), backend.ErrKeyNotFound)
	if err := e.SoftDelete(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"decrypt":   second(e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: ciphertext})),
		"batch":     second(e.EncryptBatch(ctx, "k", make([]EncryptRequest, 2))),
		"rotate":    e.Rotate(ctx, "k", ""),
		"configure": h.configure(1, 1),
		"trim":      e.Trim(ctx, "k", 1),
		"export":    second(e.Export(ctx, "k", ExportEncryptionKey, 0)),
		"backup":    second(e.Backup(ctx, "k")),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantError(t, err, backend.ErrNotPermitted, "is deleted")
	}
	if info, err := e.Key("k"); err != nil || !info.SoftDeleted {
		t.Errorf("got %+v, %v", info, err)
	}
	if err := e.Undelete(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: ciphertext}); err != nil {
		t.Error(err)
	}
	yes := true
	if err := e.Configure(ctx, "k", Config{DeletionAllowed: &yes}); err != nil {
		t.Fatal(err)
	}
	if err := e.DeleteKey(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	_, err = e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: ciphertext})
	wantError(t, err, backend.ErrKeyNotFound, "encryption key not found")
	h.create(t, "k", KeyOptions{Type: TypeAES256})
	_, err = e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: ciphertext})
	wantError(t, err, backend.ErrDecryption)
}

func second[T any](_ T, err error) error { return err }

// Tick rotates what is due, once.
func TestTick(t *testing.T) {
	h := newSoftHouse(t)
	now := created
	h.engine.opts.Now = func() time.Time { return now }
	h.create(t, "hourly", KeyOptions{Type: TypeAES256, AutoRotatePeriod: time.Hour})
	h.create(t, "daily", KeyOptions{Type: TypeP256, AutoRotatePeriod: 24 * time.Hour})
	h.create(t, "never", KeyOptions{Type: TypeP256})
	for _, c := range []struct {
		after time.Duration
		want  []string
	}{
		{time.Hour - time.Second, nil}, {time.Hour, []string{"hourly"}}, {time.Hour, nil}, {25 * time.Hour, []string{"daily", "hourly"}},
	} {
		now = created.Add(c.after)
		got, err := h.engine.Tick(t.Context())
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("after %v: %v, %v; want %v", c.after, got, err, c.want)
		}
	}
	for name, want := range map[string]int{"hourly": 3, "daily": 2, "never": 1} {
		if info, err := h.engine.Key(name); err != nil || info.LatestVersion != want {
			t.Errorf("%s has version %d, %v; want %d", name, info.LatestVersion, err, want)
		}
	}
	// A managed key that may not be generated fails, and the others are rotated all the same.
	h.addManaged(t, "p256", allUsages)
	if err := h.engine.CreateKey(t.Context(), "managed", KeyOptions{ManagedKey: "p256", AutoRotatePeriod: time.Hour}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Hour)
	got, err := h.engine.Tick(t.Context())
	if !slices.Equal(got, []string{"hourly"}) {
		t.Errorf("got %v", got)
	}
	wantError(t, err, backend.ErrNotPermitted, `"managed"`)
}

// Run ends with its context, and has rotated until then.
func TestRun(t *testing.T) {
	h := newSoftHouse(t)
	h.create(t, "k", KeyOptions{Type: TypeAES256, AutoRotatePeriod: time.Hour})
	later := time.Now().Add(2 * time.Hour)
	h.engine.opts.Now = func() time.Time { return later }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.engine.Run(ctx, time.Millisecond) }()
	eventually(t, "the key is rotated", func() bool { info, _ := h.engine.Key("k"); return info.LatestVersion == 2 })
	cancel()
	if err := <-done; err != context.Canceled {
		t.Errorf("got %v", err)
	}
}
