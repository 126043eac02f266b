package managedkey

import (
	"crypto"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// twoTenants returns a registry in which two namespaces, one of which lies in the other, have a key ca and a key tls.
func twoTenants(t *testing.T) *Registry {
	t.Helper()
	names := []string{"a/ca", "a/tls", "a/b/ca", "a/b/tls"}
	c := newClient(newVault(names...))
	r := NewRegistry()
	for _, name := range names {
		mustCreate(t, r, entryOf(c, name, allUsages))
	}
	return r
}

func mustMountKey(t *testing.T, m *Mount, nameOrUUID string) *Key {
	t.Helper()
	k, err := m.Key(t.Context(), nameOrUUID)
	check(t, err, nil)
	return k
}

func TestMountPaths(t *testing.T) {
	r := twoTenants(t)
	taken := mustMount(t, r, "a", "taken")
	for _, tt := range []struct {
		ns   namespace.Path
		path string
		want error
	}{
		{"a", "pki", nil},
		{"a", "transit/prod", nil},
		{"", "taken", nil},
		{"a/b", "taken", nil},
		{"a", "taken", backend.ErrKeyExists},
		{"a", "", namespace.ErrInvalid},
		{"a", "pki/", namespace.ErrInvalid},
		{"a", "/pki", namespace.ErrInvalid},
		{"a", "a//b", namespace.ErrInvalid},
		{"a", "..", namespace.ErrInvalid},
		{"a", "PKI", namespace.ErrInvalid},
		{"a", "sys/pki", namespace.ErrInvalid},
		{"a", strings.Repeat("x", 2000), namespace.ErrInvalid},
		{"A", "pki", namespace.ErrInvalid},
	} {
		m, err := r.Mount(t.Context(), tt.ns, tt.path)
		check(t, err, tt.want)
		if tt.want != nil {
			if m != nil {
				t.Errorf("got a mount with error %v", err)
			}
			if tt.ns == "a" {
				check(t, r.Rename(bg, taken, tt.path), map[bool]error{true: nil, false: tt.want}[tt.path == "taken"])
			}
			continue
		}
		if _, err := uuid.Parse(m.ID()); err != nil || m.Namespace() != tt.ns || m.Path() != tt.path {
			t.Errorf("mount is %s at %s of %s", m.ID(), m.Path(), m.Namespace())
		}
	}
	if taken.Path() != "taken" {
		t.Errorf("a refused rename moved the mount to %q", taken.Path())
	}
}

func TestMountIsMadeWholeOrNotAtAll(t *testing.T) {
	r := twoTenants(t)
	m, err := r.Mount(t.Context(), "a", "pki", "ca", "nonsense")
	check(t, err, backend.ErrKeyNotFound, `"a/nonsense"`)
	if m != nil {
		t.Fatal("got a mount")
	}
	check(t, r.Delete(t.Context(), ref("a/ca")), nil) // no grant stands in the way
	mustMount(t, r, "a", "pki", "tls")
}

func TestMountReachesItsGrantsOnly(t *testing.T) {
	r := twoTenants(t)
	own, _ := r.Entry(ref("a/ca"))
	foreign, _ := r.Entry(ref("a/b/ca"))
	m := mustMount(t, r, "a", "pki", "ca")
	byName, byID := mustMountKey(t, m, "ca"), mustMountKey(t, m, own.UUID)
	if byName != byID || mustMountKey(t, m, strings.ToUpper(own.UUID)) != byName {
		t.Error("name and UUID give different handles")
	}
	wantSigner(t, byName, "a/ca#1")

	texts := map[string]bool{}
	for name, want := range map[string]error{
		"tls":             backend.ErrNotPermitted,
		"b/ca":            backend.ErrKeyNotFound,
		"a/ca":            backend.ErrKeyNotFound,
		"":                backend.ErrKeyNotFound,
		foreign.UUID:      backend.ErrKeyNotFound,
		uuid.NewString():  backend.ErrKeyNotFound,
		uuid.Nil.String(): backend.ErrKeyNotFound,
	} {
		_, keyErr := m.Key(t.Context(), name)
		_, signerErr := m.Signer(t.Context(), name)
		_, decrypterErr := m.Decrypter(t.Context(), name)
		_, exchangerErr := m.KeyExchanger(t.Context(), name)
		for _, err := range []error{keyErr, signerErr, decrypterErr, exchangerErr} {
			check(t, err, want)
			var e *Error
			if errors.As(err, &e); e.Ref != (namespace.Ref{Namespace: "a", Name: name}) {
				t.Errorf("the error names %v, want what was asked for", e.Ref)
			}
			if len(name) == len(foreign.UUID) {
				texts[strings.ReplaceAll(err.Error(), name, "…")] = true
			}
		}
		if want == backend.ErrKeyNotFound {
			check(t, r.Grant(bg, m, name), want)
			check(t, r.Revoke(bg, m, name), want)
		}
	}
	if len(texts) != 1 {
		t.Errorf("errors tell keys of other namespaces from keys that don't exist: %v", texts)
	}
}

func TestGrantAndRevoke(t *testing.T) {
	r := twoTenants(t)
	tls, _ := r.Entry(ref("a/tls"))
	pki, transit := mustMount(t, r, "a", "pki", "ca"), mustMount(t, r, "a", "transit", "ca", tls.UUID)
	check(t, r.Grant(bg, pki, tls.UUID), nil)
	check(t, r.Grant(bg, pki, "tls"), nil)
	if got := pki.Allowed(); !slices.Equal(got, []string{"ca", "tls"}) {
		t.Errorf("allowed are %q", got)
	}
	mine, theirs, direct := mustMountKey(t, pki, "ca"), mustMountKey(t, transit, "ca"), mustKey(t, r, "a/ca")
	view := mine.WithContext(t.Context())
	check(t, r.Revoke(bg, pki, "ca"), nil)
	check(t, r.Revoke(bg, pki, "ca"), nil)
	for _, k := range []*Key{mine, view} {
		_, err := sign(k)
		check(t, err, backend.ErrNotPermitted, `mount "pki"`, "no grant")
		if usages := k.Capabilities().Usages; usages != 0 {
			t.Errorf("a stopped handle has the usages %s", usages)
		}
	}
	_, err := pki.Key(t.Context(), "ca")
	check(t, err, backend.ErrNotPermitted)
	wantSigner(t, theirs, "a/ca#1")
	wantSigner(t, direct, "a/ca#1")
	check(t, r.Grant(bg, pki, "ca"), nil)
	wantSigner(t, mine, "a/ca#1")
}

func TestAnyMount(t *testing.T) {
	r := twoTenants(t)
	in, _ := r.Entry(ref("a/ca"))
	in.AnyMount = true
	check(t, r.Update(t.Context(), in), nil)
	m, child, parent := mustMount(t, r, "a", "pki"), mustMount(t, r, "a/b", "pki"), mustMount(t, r, "", "pki")
	k := mustMountKey(t, m, "ca")
	wantSigner(t, k, "a/ca#1")
	for _, other := range []*Mount{child, parent} {
		_, err := other.Key(t.Context(), in.UUID)
		check(t, err, backend.ErrKeyNotFound)
	}
	if got := m.Allowed(); len(got) != 0 {
		t.Errorf("allowed are %q", got)
	}
	in.AnyMount = false
	check(t, r.Update(t.Context(), in), nil)
	_, err := sign(k)
	check(t, err, backend.ErrNotPermitted)
	_, err = m.Key(t.Context(), "ca")
	check(t, err, backend.ErrNotPermitted)
	check(t, r.Delete(t.Context(), in.Ref), nil) // what any mount may use is not granted to one
}

func TestDeleteIsRefusedWhileGranted(t *testing.T) {
	r := twoTenants(t)
	pki, transit := mustMount(t, r, "a", "pki", "ca"), mustMount(t, r, "a", "transit/prod", "ca")
	mustMount(t, r, "a", "other", "tls")
	k := mustMountKey(t, pki, "ca")
	check(t, r.Delete(t.Context(), ref("a/ca")), backend.ErrNotPermitted, "granted to the mounts pki, transit/prod;")
	wantSigner(t, k, "a/ca#1")
	check(t, r.Rename(bg, pki, "ca"), nil)
	check(t, transit.Close(), nil)
	check(t, r.Delete(t.Context(), ref("a/ca")), backend.ErrNotPermitted, "granted to the mounts ca;")
	check(t, r.Revoke(bg, pki, "ca"), nil)
	check(t, r.Delete(t.Context(), ref("a/ca")), nil)
	_, err := sign(k)
	check(t, err, backend.ErrKeyNotFound)
}

// TestGrantIsNotForANameSake makes an entry again: the old grants and handles are not for it.
func TestGrantIsNotForANamesake(t *testing.T) {
	r := twoTenants(t)
	m := mustMount(t, r, "a", "pki", "ca")
	k := mustMountKey(t, m, "ca")
	in, _ := r.Entry(ref("a/ca"))
	check(t, r.Revoke(bg, m, "ca"), nil)
	check(t, r.Delete(t.Context(), in.Ref), nil)
	mustCreate(t, r, in)
	_, err := sign(k)
	check(t, err, backend.ErrKeyNotFound)
	_, err = m.Key(t.Context(), "ca")
	check(t, err, backend.ErrNotPermitted)
	_, err = m.Key(t.Context(), in.UUID)
	check(t, err, backend.ErrKeyNotFound)
	check(t, r.Grant(bg, m, "ca"), nil)
	wantSigner(t, mustMountKey(t, m, "ca"), "a/ca#1")
	_, err = sign(k)
	check(t, err, backend.ErrKeyNotFound)
}

// TestForeignMount checks that a registry has no say over mounts of another one.
func TestForeignMount(t *testing.T) {
	v := newVault()
	r, other := NewRegistry(), NewRegistry()
	for _, r := range []*Registry{r, other} {
		mustCreate(t, r, entryOf(newClient(v), "a/ca", allUsages))
	}
	m := mustMount(t, other, "a", "pki")
	for _, mount := range []*Mount{nil, m} {
		check(t, r.Grant(bg, mount, "ca"), backend.ErrInvalidParams)
		check(t, r.Revoke(bg, mount, "ca"), backend.ErrInvalidParams)
		check(t, r.Rename(bg, mount, "pki-2"), backend.ErrInvalidParams)
	}
	if len(m.Allowed()) > 0 || m.Path() != "pki" {
		t.Errorf("the mount has grants %q and path %q", m.Allowed(), m.Path())
	}
}

func TestRenameKeepsGrants(t *testing.T) {
	r := twoTenants(t)
	m := mustMount(t, r, "a", "pki", "ca")
	k, id := mustMountKey(t, m, "ca"), m.ID()
	check(t, r.Rename(bg, m, "pki-2"), nil)
	check(t, r.Rename(bg, m, "pki-2"), nil)
	wantSigner(t, k, "a/ca#1")
	if m.ID() != id || m.Path() != "pki-2" || mustMountKey(t, m, "ca") != k {
		t.Errorf("mount %s is at %s", m.ID(), m.Path())
	}
	// Another mount at the old path inherits nothing.
	_, err := mustMount(t, r, "a", "pki").Key(t.Context(), "ca")
	check(t, err, backend.ErrNotPermitted, `mount "pki"`)
}

func TestCloseStopsHandles(t *testing.T) {
	r := twoTenants(t)
	in, _ := r.Entry(ref("a/tls"))
	in.AnyMount = true
	check(t, r.Update(t.Context(), in), nil)
	m := mustMount(t, r, "a", "pki", "ca")
	granted, shared := mustMountKey(t, m, "ca"), mustMountKey(t, m, "tls")
	check(t, m.Close(), nil)
	check(t, m.Close(), nil)
	for _, k := range []*Key{granted, shared} {
		_, err := sign(k)
		check(t, err, backend.ErrNotPermitted, "mount was closed")
	}
	_, keyErr := m.Key(t.Context(), "tls")
	_, unknownErr := m.Key(t.Context(), "unknown")
	for _, err := range []error{keyErr, unknownErr, r.Grant(bg, m, "ca"), r.Revoke(bg, m, "ca"), r.Rename(bg, m, "pki-2")} {
		check(t, err, backend.ErrNotPermitted, "mount was closed")
	}
	if len(m.Allowed()) != 0 || m.Path() != "pki" {
		t.Errorf("the closed mount at %s allows %q", m.Path(), m.Allowed())
	}
	next := mustMount(t, r, "a", "pki")
	_, err := next.Key(t.Context(), "ca")
	check(t, err, backend.ErrNotPermitted)
	if next.ID() == m.ID() {
		t.Error("two mounts have one ID")
	}
	_, err = sign(granted)
	check(t, err, backend.ErrNotPermitted)
}

func TestMountsOpenKeysToo(t *testing.T) {
	r := NewRegistry()
	c := newClient(newVault())
	in := entryOf(c, "a/new", allUsages)
	in.AllowGenerateKey = true
	mustCreate(t, r, in, entryOf(c, "a/missing", allUsages))
	m := mustMount(t, r, "a", "pki", "new", "missing")
	_, err := m.Key(t.Context(), "missing")
	check(t, err, backend.ErrKeyNotFound, `open "a/missing" (fake)`, "fake: no")
	s, err := m.Signer(t.Context(), "new")
	check(t, err, nil)
	d, err := m.Decrypter(t.Context(), "new")
	check(t, err, nil)
	if c.makes.Load() != 1 {
		t.Errorf("%d keys were generated", c.makes.Load())
	}
	check(t, r.Revoke(bg, m, "new"), nil)
	_, err = s.Sign(nil, nil, crypto.Hash(0))
	check(t, err, backend.ErrNotPermitted)
	_, err = d.Decrypt(nil, nil, nil)
	check(t, err, backend.ErrNotPermitted)
}
