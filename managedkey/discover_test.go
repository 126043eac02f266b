package managedkey

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/namespace"
)

// discoverAll returns what a registry discovers, and the error that ended it.
func discoverAll(t *testing.T, r *Registry, ns namespace.Path, at Connection, scope backend.Params) (all []Discovered, err error) {
	for d, err := range r.Discover(t.Context(), ns, at, scope) {
		if err != nil {
			return all, err
		}
		all = append(all, d)
	}
	return all, nil
}

// TestDiscover: what is found can be created as it is, opens the key, and is then known by its entry.
func TestDiscover(t *testing.T) {
	b := software.New(nil)
	defer b.Close()
	for name, p := range map[string]software.Params{
		"Issuing CA":                           {KeyType: software.ECDSA, Curve: software.P256},
		"issuing-ca":                           {KeyType: software.Ed25519},
		"data":                                 {KeyType: software.AES, KeyBits: 256},
		"tokens":                               {KeyType: software.HMAC, KeyBits: 256},
		"kem":                                  {KeyType: software.MLKEM, ParameterSet: 768},
		"af0a688e-d2c1-4c07-b365-40325674114d": {KeyType: software.Ed25519},
	} {
		p.KeyName = strings.ReplaceAll(name, " ", "_")
		if name == "Issuing CA" {
			p.KeyName = "Issuing/CA"
		}
		_, err := b.Generate(t.Context(), p, nil)
		require.NoError(t, err)
	}
	for _, r := range []*Registry{NewRegistry(), stored(t, Connection{Name: "soft", Backend: b})} {
		mustCreate(t, r, Entry{Ref: ref("team-a/data"), Backend: b, Params: software.Params{KeyName: "absent"}}) // has the name, and not the key
		all, err := discoverAll(t, r, "team-a", Connection{Backend: b}, nil)
		require.NoError(t, err)
		got := make(map[string]string)
		for _, d := range all {
			got[d.Entry.Ref.Name] = d.Info.Label + " " + d.Entry.Usages.String() + " " + d.URI.String()
			assert.Zero(t, d.Ref)
			require.NoError(t, r.Create(t.Context(), d.Entry))
			key := mustKey(t, r, d.Entry.Ref.String())
			assert.Equal(t, d.Info.ID, key.ID())
		}
		assert.Equal(t, map[string]string{
			"issuing-ca":   "Issuing/CA none software:memory/Issuing%2FCA", // the usages of an entry that names none
			"issuing-ca-2": "issuing-ca none software:memory/issuing-ca",
			"data-2":       "data encrypt,decrypt,wrap,unwrap software:memory/data",
			"tokens":       "tokens mac software:memory/tokens",
			"kem":          "kem derive software:memory/kem",
			"key-af0a688e-d2c1-4c07-b365-40325674114d": "af0a688e-d2c1-4c07-b365-40325674114d none software:memory/af0a688e-d2c1-4c07-b365-40325674114d",
		}, got)
		again, err := discoverAll(t, r, "team-b", Connection{Backend: b}, nil)
		require.NoError(t, err)
		assert.Len(t, again, len(all))
		for i, d := range again {
			assert.Equal(t, all[i].Entry.Ref, d.Ref, "an entry of any namespace is known")
			assert.Equal(t, namespace.Path("team-b"), d.Entry.Ref.Namespace)
		}
		assert.Equal(t, "issuing-ca", again[0].Entry.Ref.Name, "which nobody has in this namespace")
	}
}

// lister is a client that lists labels, with a listed version of each key.
type lister struct {
	*client
	labels []string
	fail   error
	usages backend.Usage
	uri    string
}

func (l *lister) List(context.Context, backend.Params) iter.Seq2[backend.KeyInfo, error] {
	return func(yield func(backend.KeyInfo, error) bool) {
		for _, label := range l.labels {
			key, _ := l.get(label)
			info := backend.KeyInfo{ID: key.ID(), Label: label, Usages: l.usages, URI: l.uri, Params: versionParams{label, key.ID()}}
			if !yield(info, nil) {
				return
			}
		}
		if l.fail != nil {
			yield(backend.KeyInfo{}, l.fail)
		}
	}
}

// versionParams name a key by its label, and may name its version.
type versionParams struct {
	Label string `json:"label"`
	ID    string `json:"id,omitempty"`
}

func (versionParams) BackendType() string { return "fake" }
func (versionParams) Validate() error     { return nil }

func (l *lister) Open(ctx context.Context, p backend.Params) (backend.Key, error) {
	return l.client.Open(ctx, params{Label: p.(versionParams).Label})
}

// TestDiscoverOpens: keys are opened only where an entry that was never opened may point at them, each once, and none is made.
func TestDiscoverOpens(t *testing.T) {
	l := &lister{client: newClient(newVault("a", "b", "c", "d")), labels: []string{"a", "b", "c", "d"}}
	r := NewRegistry()
	entry := func(name, label, id string) Entry {
		return Entry{Ref: ref(name), Backend: l, Params: versionParams{label, id}, AllowGenerateKey: true}
	}
	mustCreate(t, r, entry("x/by-label", "a", ""), entry("x/exact", "b", "b#2"), entry("x/opened", "c", ""), entry("x/other", "absent", ""))
	mustKey(t, r, "x/opened")
	l.opens.Store(0)
	all, err := discoverAll(t, r, namespace.Root, Connection{Backend: l}, nil)
	require.NoError(t, err)
	var refs []string
	for _, d := range all {
		refs = append(refs, d.Ref.String())
	}
	assert.Equal(t, []string{"x/by-label", "x/exact", "x/opened", ""}, refs)
	assert.EqualValues(t, 1, l.opens.Load(), "only the entry by a label alone")
	assert.Zero(t, l.makes.Load())

	l.put("a") // the label is another key's now, of which there is no entry
	l.labels = []string{"a"}
	all, err = discoverAll(t, r, namespace.Root, Connection{Backend: l}, nil)
	require.NoError(t, err)
	assert.Equal(t, ref("x/by-label"), all[0].Ref, "it was never opened, so has no pin, and points at whatever has the label")

	l.before = func(context.Context, string, string) error { return backend.ErrKeyNotFound }
	all, err = discoverAll(t, r, namespace.Root, Connection{Backend: l}, nil)
	require.NoError(t, err)
	assert.Zero(t, all[0].Ref)
	l.before = func(context.Context, string, string) error { return backend.ErrUnavailable }
	_, err = discoverAll(t, r, namespace.Root, Connection{Backend: l}, nil)
	check(t, err, backend.ErrUnavailable, "discover", "the key of entry x/by-label")
}

// TestDiscoverRefuses: what can't be, and errors of the backend, of which the first ends the sequence.
func TestDiscoverRefuses(t *testing.T) {
	l := &lister{client: newClient(newVault("a")), labels: []string{"a"}, fail: fmt.Errorf("fake: %w", backend.ErrThrottled)}
	r := NewRegistry()
	all, err := discoverAll(t, r, "team-a", Connection{Backend: l}, nil)
	check(t, err, backend.ErrThrottled, `discover in namespace "team-a" (fake)`)
	assert.Len(t, all, 1)
	for range r.Discover(t.Context(), "team-a", Connection{Backend: l}, nil) {
		break
	}
	l.fail, l.uri = nil, "no uri"
	_, err = discoverAll(t, r, "team-a", Connection{Backend: l}, nil)
	check(t, err, backend.ErrIntegrity, "no canonical name")
	for _, c := range []struct {
		ns   namespace.Path
		at   Connection
		want error
	}{
		{"Team", Connection{Backend: l}, backend.ErrInvalidParams},
		{"a", Connection{}, backend.ErrInvalidParams},
		{"a", Connection{Name: "x", Backend: l}, backend.ErrInvalidParams},
		{"a", Connection{Backend: plain{newClient(newVault())}}, backend.ErrUnsupported},
	} {
		_, err := discoverAll(t, r, c.ns, c.at, nil)
		check(t, err, c.want, "discover")
	}
	_, err = discoverAll(t, stored(t, Connection{Name: "soft", Backend: hsm{}, Namespaces: []namespace.Path{"team-a"}}), "team-b", Connection{Name: "soft"}, nil)
	check(t, err, backend.ErrNotPermitted)
}

// TestDiscoverNames: every label makes a valid name.
func TestDiscoverNames(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, c := range []struct{ label, id, want string }{
		{"Issuing CA 2026", "", "issuing-ca-2026"}, {"alias/team/ca", "", "team-ca"}, {"-._a", "", "a"}, {"a--b_c.d-", "", "a-b_c.d"}, {"Schlüssel", "", "schl-ssel"},
		{long, "", long[:namespace.MaxSegment]}, {"", "arn:aws:kms:a:1:key/1234ABCD", "key-1234abcd"}, {"ключ", "x/7", "key-7"}, {"", "///", "key"}, {"", "", "key"},
		{strings.Repeat("a-", 100), "", strings.Repeat("a-", 64)[:128]},
	} {
		got := nameOf(backend.KeyInfo{ID: c.id, Label: c.label})
		assert.Equal(t, c.want, got, c.label)
		assert.NoError(t, namespace.ValidateName(got))
	}
	n := naming{registry: NewRegistry(), used: make(map[string]bool), next: make(map[string]int)}
	info := backend.KeyInfo{Label: long}
	first, second := n.choose(info), n.choose(info)
	assert.Equal(t, long[:126]+"-2", second)
	assert.NoError(t, namespace.ValidateName(second))
	assert.Len(t, first, namespace.MaxSegment)
}

// FuzzDiscoverName: every label and id makes valid names, each another one.
func FuzzDiscoverName(f *testing.F) {
	f.Add("Issuing CA", "pkcs11:id=%01")
	f.Add("", "af0a688e-d2c1-4c07-b365-40325674114d")
	f.Fuzz(func(t *testing.T, label, id string) {
		n := naming{registry: NewRegistry(), used: make(map[string]bool), next: make(map[string]int)}
		seen := make(map[string]bool)
		for range 12 {
			name := n.choose(backend.KeyInfo{ID: id, Label: label})
			if _, isID := parseID(name); isID || seen[name] || namespace.ValidateName(name) != nil {
				t.Fatalf("%q and %q give %q", label, id, name)
			}
			seen[name] = true
		}
	})
}

// TestDiscoverScale: 10,000 keys, all of one name, and as many entries that were never opened take time in proportion.
func TestDiscoverScale(t *testing.T) {
	run := func(keys int) time.Duration {
		l := &lister{client: newClient(newVault())}
		r := NewRegistry()
		for i := range keys {
			label := fmt.Sprintf("key-%d", i)
			l.put(label)
			l.labels = append(l.labels, label)
			mustCreate(t, r, Entry{Ref: ref("x/" + label), Backend: l, Params: versionParams{Label: label}})
		}
		start, n := time.Now(), 0
		for d, err := range r.Discover(t.Context(), "y", Connection{Backend: l}, nil) {
			if err != nil || d.Ref.Name != d.Info.Label {
				t.Fatalf("%+v, %v", d, err)
			}
			n++
		}
		if n != keys || l.opens.Load() != int64(keys) {
			t.Fatalf("%d keys and %d opens, want %d", n, l.opens.Load(), keys)
		}
		return time.Since(start)
	}
	few, many := run(1000), run(10_000)
	if many > 60*few+time.Second { // a quadratic one takes 100 times as long
		t.Errorf("1,000 keys take %v, 10,000 take %v", few, many)
	}
	names := naming{registry: NewRegistry(), used: make(map[string]bool), next: make(map[string]int)}
	for i := range 10_000 {
		if name := names.choose(backend.KeyInfo{Label: "same"}); i > 0 && name != fmt.Sprintf("same-%d", i+1) {
			t.Fatal(name)
		}
	}
	t.Logf("1,000 keys in %v, 10,000 in %v", few, many)
}
