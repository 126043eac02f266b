package transit

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/managedkey/store/seal"
)

// openOn opens an engine on st with the keys of h.
func openOn(tb testing.TB, h *house, st store.Store, opts Options) (*Engine, error) {
	tb.Helper()
	opts.Software = h.software
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	e, err := Open(tb.Context(), h.mount, st, &opts)
	if err == nil {
		tb.Cleanup(func() { e.Close() })
	}
	return e, err
}

// Secrets are written to sealed stores only, and then not in the clear; managed keys to any.
func TestUnsealedStore(t *testing.T) {
	h, ctx := newSoftHouse(t), t.Context()
	h.addManaged(t, "p256", allUsages)
	st := memory.New(nil)
	defer st.Close()
	e, err := openOn(t, h, st, Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, e.CreateKey(ctx, "k", KeyOptions{Type: TypeAES256}), backend.ErrNotPermitted, "not sealed")
	_, err = e.WrappingKey(ctx)
	wantError(t, err, backend.ErrNotPermitted, "not sealed")
	if err := e.CreateKey(ctx, "managed", KeyOptions{ManagedKey: "p256"}); err != nil {
		t.Error(err)
	}
	open, err := openOn(t, h, st, Options{AllowUnsealed: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := open.CreateKey(ctx, "k", KeyOptions{Type: TypeAES256}); err != nil {
		t.Error(err)
	}
	eventually(t, "the key is known", func() bool { _, err := e.Key("k"); return err == nil })
	wantError(t, e.Rotate(ctx, "k", ""), backend.ErrNotPermitted, "not sealed")

	inner := memory.New(nil)
	sealed, err := seal.Open(ctx, inner, sealKey(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer sealed.Close()
	if !store.IsSealed(sealed) || store.IsSealed(inner) {
		t.Error("which store is sealed is not known")
	}
	if e, err = openOn(t, h, sealed, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := e.CreateKey(ctx, "k", KeyOptions{Type: TypeAES256}); err != nil {
		t.Fatal(err)
	}
	secret := e.known("k").rec.at(1).Material
	for r, err := range store.All(ctx, inner, "") {
		if err != nil || bytes.Contains(r.Value, secret) || bytes.Contains(r.Value, []byte("material")) {
			t.Errorf("%s holds the secret, %v", r.Key, err)
		}
	}
	_, err = openOn(t, h, inner, Options{})
	wantError(t, err, store.ErrForeign, "open it with seal.Open")
}

// A record that can't be read stops Open; one that comes later stops its key, and nothing else.
func TestBrokenRecords(t *testing.T) {
	h, ctx := newSoftHouse(t), t.Context()
	st := memory.New(nil)
	defer st.Close()
	e, err := openOn(t, h, st, Options{AllowUnsealed: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.CreateKey(ctx, "good", KeyOptions{Type: TypeAES256, Exportable: true}); err != nil {
		t.Fatal(err)
	}
	good, err := st.Get(ctx, e.prefix+"good")
	if err != nil {
		t.Fatal(err)
	}
	put := func(value string) {
		t.Helper()
		if _, err := st.Apply(ctx, store.Op{Key: e.prefix + "bad", Value: []byte(value), Expect: store.Any}); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{
		"no JSON":    "hello",
		"empty":      "{}",
		"later":      strings.Replace(string(good.Value), `"format":1`, `"format":2`, 1),
		"unknown":    strings.Replace(string(good.Value), `"format":1`, `"format":1,"new":true`, 1),
		"type":       strings.Replace(string(good.Value), TypeAES256, "des", 1),
		"material":   strings.Replace(string(good.Value), `"material"`, `"hmac_"`, 1),
		"window":     strings.Replace(string(good.Value), `"min_decryption":1`, `"min_decryption":2`, 1),
		"first":      strings.Replace(string(good.Value), `"first":1`, `"first":0`, 1),
		"convergent": strings.Replace(string(good.Value), `"exportable":true`, `"convergent":true`, 1),
		"two":        string(good.Value) + string(good.Value),
	} {
		t.Run(name, func(t *testing.T) {
			put(value)
			_, err := openOn(t, h, st, Options{AllowUnsealed: true})
			wantError(t, err, store.ErrCorrupt, `key "bad"`)
			eventually(t, "the key is known to be bad", func() bool { k := e.known("bad"); return k != nil && k.broken != nil })
			_, err = e.Encrypt(ctx, "bad", EncryptRequest{})
			wantError(t, err, store.ErrCorrupt, `key "bad"`)
			if strings.Contains(err.Error(), "eyJ") || strings.Contains(err.Error(), "material\":") {
				t.Errorf("%v shows the record", err)
			}
			wantError(t, e.Rotate(ctx, "bad", ""), store.ErrCorrupt)
			if _, err := e.Encrypt(ctx, "good", EncryptRequest{}); err != nil {
				t.Error(err)
			}
			put(string(good.Value)) // mended
			eventually(t, "the key is mended", func() bool { _, err := e.Encrypt(ctx, "bad", EncryptRequest{}); return err == nil })
		})
	}
}

// While the store is away, keys that are known go on, and changes say so.
func TestStoreAway(t *testing.T) {
	h, ctx := newSoftHouse(t), t.Context()
	st := memory.New(nil)
	e, err := openOn(t, h, st, Options{AllowUnsealed: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.CreateKey(ctx, "k", KeyOptions{Type: TypeP256}); err != nil {
		t.Fatal(err)
	}
	st.Close()
	if _, err := e.Sign(ctx, "k", SignRequest{}); err != nil {
		t.Error(err)
	}
	wantError(t, e.Rotate(ctx, "k", ""), store.ErrClosed)
	_, err = e.Sign(ctx, "nobody", SignRequest{})
	wantError(t, err, store.ErrClosed)
	wantError(t, e.CreateKey(ctx, "new", KeyOptions{Type: TypeP256}), store.ErrClosed)
	if got := e.List(); len(got) != 1 {
		t.Errorf("there are %v", got)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = e.Sign(cancelled, "k", SignRequest{})
	wantError(t, err, context.Canceled)
	_, err = Open(ctx, h.mount, st, nil)
	wantError(t, err, store.ErrClosed)
}

// A backend that can't import is no software backend.
func TestSoftwareOption(t *testing.T) {
	h := newSoftHouse(t)
	_, err := Open(t.Context(), h.mount, memory.New(nil), &Options{Software: openOnly{h.software}})
	wantError(t, err, backend.ErrInvalidParams, "Software is a backend of type")
	defer func() {
		if recover() == nil {
			t.Error("New took it")
		}
	}()
	New(h.mount, &Options{Software: openOnly{h.software}})
}

type openOnly struct{ backend.Backend }

var _ backend.Backend = openOnly{(*software.Backend)(nil)}
