package httpapi_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/managedkey/store/seal"
	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
)

// softSite are processes that share a sealed store, each with keys in software in its own memory.
type softSite struct {
	testing.TB
	inner, sealed store.Store
}

func newSoftSite(t testing.TB) *softSite {
	t.Helper()
	s := &softSite{TB: t, inner: memory.New(nil)}
	sealing := software.New(nil)
	t.Cleanup(func() { sealing.Close() })
	key, err := sealing.Generate(t.Context(), software.Params{KeyName: "seal", KeyType: software.AES, KeyBits: 256}, nil)
	require.NoError(t, err)
	managed, err := seal.Managed(key)
	require.NoError(t, err)
	sealed, err := seal.Open(t.Context(), s.inner, managed, nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, sealed.Close()) })
	s.sealed = sealed
	return s
}

// start starts one.
func (s *softSite) start(change func(*pkihttp.Options)) *replica {
	s.Helper()
	soft := software.New(nil)
	s.Cleanup(func() { soft.Close() })
	return newReplica(s, s.sealed, soft, func(p *replica, o *pkihttp.Options) {
		var err error
		o.Software, err = pkihttp.NewSoftwareKeys(p.keys, soft)
		require.NoError(s, err)
		if change != nil {
			change(o)
		}
	})
}

// has reports whether the memory of a process has a key.
func (p *replica) has(name string) bool {
	p.Helper()
	params, err := p.soft.DecodeParams([]byte(`{"key_name":"` + name + `"}`))
	require.NoError(p, err)
	key, err := p.soft.Open(p.Context(), params)
	if err != nil {
		assert.ErrorIs(p, err, backend.ErrKeyNotFound)
		return false
	}
	return key.Public() != nil // what is nobody's is symmetric
}

// below counts the records under a prefix.
func (s *softSite) below(prefix string) (n int) {
	s.Helper()
	for _, err := range store.All(s.Context(), s.sealed, prefix) {
		require.NoError(s, err)
		n++
	}
	return n
}

// TestSoftwareReplicas: keys in software of each kind sign in every process that shares the store, and after all of them were started again;
// the store never has one in the clear, and nothing gives out one that is internal.
func TestSoftwareReplicas(t *testing.T) {
	s := newSoftSite(t)
	one, two := s.start(nil), s.start(nil)
	m := one.mount(map[string]string{"software_keys": "true"})
	two.knows()
	issues := func(p *replica, issuer string, ca *x509.Certificate) {
		t.Helper()
		leaf := p.must(200, "POST", "issuer/"+issuer+"/issue/web", fields{"common_name": "a.example", "ttl": "1h"}).cert("certificate")
		require.NoError(t, leaf.CheckSignatureFrom(ca))
		p.must(200, "GET", "issuer/"+issuer+"/crl", nil)
	}
	one.must(200, "POST", "roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	var secrets [][]byte
	cas := make(map[string]*x509.Certificate)
	for i, kind := range []string{"ec", "ed25519"} {
		p, other := []*replica{one, two}[i%2], []*replica{two, one}[i%2]
		a := p.must(200, "POST", "issuers/generate/root/exported", fields{"common_name": kind, "key_type": kind, "issuer_name": kind, "key_name": kind, "ttl": "100h", "private_key_format": "pkcs8"})
		cas[kind] = a.cert("certificate")
		der, err := x509.MarshalPKCS8PrivateKey(keyIn(t, a.str("private_key")))
		require.NoError(t, err)
		secrets = append(secrets, der, []byte(base64.StdEncoding.EncodeToString(der)))
		issues(p, kind, cas[kind])
		issues(other, kind, cas[kind])
	}
	brought := ecKey(t)
	der, err := x509.MarshalPKCS8PrivateKey(brought)
	require.NoError(t, err)
	secrets = append(secrets, der)
	one.must(200, "POST", "keys/import", fields{"pem_bundle": inPEM(t, brought), "key_name": "brought"})
	cas["brought"] = two.must(200, "POST", "root/generate/existing", fields{"common_name": "Brought", "key_ref": "brought", "issuer_name": "brought", "ttl": "100h"}).cert("certificate")
	a := one.must(200, "POST", "root/generate/internal", fields{"common_name": "Inner", "key_type": "ec", "issuer_name": "inner", "key_name": "inner", "ttl": "100h"})
	cas["inner"] = a.cert("certificate")
	issues(two, "inner", cas["inner"])
	for _, path := range []string{"key/inner", "issuer/inner", "key/ed25519", "issuer/ed25519"} {
		assert.NotContains(t, string(two.must(200, "GET", path, nil).body), "private", path)
	}

	one.close()
	two.close()
	three := s.start(nil)
	three.knows()
	three.must(200, "GET", "crl", nil) // what was made is there without a key
	for name, ca := range cas {
		issues(three, name, ca)
	}
	sub := three.must(200, "GET", "key/brought", nil)
	assert.Equal(t, "ec", sub.str("key_type"))
	assert.Equal(t, len(cas), s.below("pki/"+m.ID()+"/software/"))
	for record, err := range store.All(t.Context(), s.inner, "") {
		require.NoError(t, err)
		for _, secret := range secrets {
			assert.False(t, bytes.Contains(record.Value, secret[:min(len(secret), 64)]), "%s has a private key", record.Key)
		}
	}
}

// TestSoftwareDeleted: a key that is deleted in one process is gone in all of them, with its entry, and so is what a removed mount has had; what
// was refused is nowhere.
func TestSoftwareDeleted(t *testing.T) {
	s := newSoftSite(t)
	quick := func(o *pkihttp.Options) { o.Maintain = 5e6 } // 5 ms
	one, two := s.start(quick), s.start(nil)
	m := one.mount(map[string]string{"software_keys": "true"})
	two.knows()
	records := "pki/" + m.ID() + "/software/"
	entry := func(ref string) string { return two.must(200, "GET", "key/"+ref, nil).str("managed_key_name") }
	gone := func(p *replica, name string) {
		t.Helper()
		require.Eventually(t, func() bool { return !p.has(name) && !slices.Contains(p.keys.List(""), name) }, time.Minute, time.Millisecond)
	}
	one.must(400, "POST", "root/generate/internal", fields{"common_name": "R", "key_type": "ec", "country": "Sweden"})
	assert.Zero(t, s.below(records))

	one.must(200, "POST", "root/generate/internal", fields{"common_name": "R", "key_type": "ec", "key_name": "k", "issuer_name": "r", "ttl": "100h"})
	name := entry("k")
	assert.True(t, one.has(name) && two.has(name), "each has a copy")
	two.must(409, "DELETE", "key/k", nil)
	assert.Equal(t, 1, s.below(records), "it is still used")
	two.must(200, "DELETE", "issuer/r", nil)
	two.must(204, "DELETE", "key/k", nil)
	assert.Zero(t, s.below(records))
	assert.False(t, two.has(name))
	gone(one, name)
	one.must(400, "POST", "root/generate/kms", fields{"common_name": "R", "managed_key_name": name})

	two.must(200, "POST", "root/generate/internal", fields{"common_name": "R", "key_type": "ec", "key_name": "k", "ttl": "100h"})
	name = entry("k")
	two.must(204, "DELETE", "sys/mounts/pki", nil)
	gone(two, name)
	require.Eventually(t, func() bool { return s.below("pki/"+m.ID()+"/") == 0 }, time.Minute, time.Millisecond)
}

// TestSoftwareUnsealed: no private key gets into a store that isn't sealed, whatever program and mount allow, unless that is asked for.
func TestSoftwareUnsealed(t *testing.T) {
	s := newSoftSite(t)
	plain := memory.New(nil)
	t.Cleanup(func() { plain.Close() })
	s.sealed = plain
	open := false
	one := s.start(func(o *pkihttp.Options) { o.AllowUnsealed = open })
	one.mount(map[string]string{"software_keys": "true"})
	for path, body := range softRequests(t) {
		a := one.must(403, "POST", path, body)
		assert.Contains(t, a.errors[0], "not sealed", path)
		assert.NotContains(t, string(a.body), "BEGIN", path)
	}
	for _, name := range one.keys.List("") {
		assert.False(t, strings.HasPrefix(name, "pki-"), name)
	}
	one.must(200, "POST", "root/generate/kms", fields{"common_name": "R", "managed_key_name": "root", "ttl": "100h"})
	open = true
	two := s.start(func(o *pkihttp.Options) { o.AllowUnsealed = open })
	two.knows()
	two.must(200, "POST", "root/generate/internal", fields{"common_name": "S", "key_type": "ec", "ttl": "100h"})
}

// TestSoftwareRestoreFails: a process that can't have the key says so, and has it as soon as it can; a record that is damaged shows nothing.
func TestSoftwareRestoreFails(t *testing.T) {
	s := newSoftSite(t)
	one := s.start(nil)
	keys := new(countedKeys)
	two := s.start(func(o *pkihttp.Options) { keys.SoftwareKeys, o.Software = o.Software, keys })
	m := one.mount(map[string]string{"software_keys": "true"})
	two.knows()
	one.must(200, "POST", "roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	one.must(200, "POST", "root/generate/internal", fields{"common_name": "R", "key_type": "ec", "ttl": "100h"})
	keys.err = errors.Join(backend.ErrUnavailable, errors.New("away"))
	two.must(503, "POST", "issue/web", fields{"common_name": "a.example", "ttl": "1h"})
	keys.err = nil

	records, _, err := store.Load(t.Context(), s.sealed, "pki/"+m.ID()+"/software/")
	require.NoError(t, err)
	require.Len(t, records, 1)
	for _, value := range []string{`{"name":"x","pkcs8":"c2VjcmV0"}`, `{"pkcs8":"c2VjcmV0"}`, "secret"} {
		_, err := s.sealed.Apply(t.Context(), store.Op{Key: records[0].Key, Value: []byte(value), Expect: store.Any})
		require.NoError(t, err)
		a := two.ask("POST", "issue/web", fields{"common_name": "a.example", "ttl": "1h"})
		assert.GreaterOrEqual(t, a.status, 500, "%s", a.body)
		assert.NotContains(t, string(a.body), "secret")
	}
	_, err = s.sealed.Apply(t.Context(), store.Op{Key: records[0].Key, Value: records[0].Value, Expect: store.Any})
	require.NoError(t, err)
	two.must(200, "POST", "issue/web", fields{"common_name": "a.example", "ttl": "1h"})
	assert.Equal(t, 1, keys.restored)
	two.must(200, "POST", "issue/web", fields{"common_name": "a.example", "ttl": "1h"})
	assert.Equal(t, 1, keys.restored, "it is asked for when it isn't there, and not each time")
}
