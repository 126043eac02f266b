package httpapi_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// overtaken is a store in which somebody else is faster once: with what is under a key that has that in it.
type overtaken struct {
	store.Store
	mu   sync.Mutex
	key  string
	with func()
}

func (s *overtaken) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	s.mu.Lock()
	with := s.with
	if with != nil && strings.Contains(ops[0].Key, s.key) {
		s.with = nil
	} else {
		with = nil
	}
	s.mu.Unlock()
	if with != nil {
		with()
	}
	return s.Store.Apply(ctx, ops...)
}

// by makes somebody else faster.
func (s *overtaken) by(key string, with func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key, s.with = key, with
}

// TestMerge: two processes change the same thing at once, each something else of it, and both changes hold. What is wrong stays wrong, and
// a name that another one has is no reason to try for ever.
func TestMerge(t *testing.T) {
	st, soft := memory.New(nil), software.New(nil)
	t.Cleanup(func() { st.Close(); soft.Close() })
	between := &overtaken{Store: st}
	one, two := newReplica(t, between, soft, nil), newReplica(t, st, soft, nil)
	one.mount(nil)
	two.knows()
	for _, name := range []string{"a", "b"} {
		one.must(200, "POST", "root/generate/kms", fields{"common_name": name, "managed_key_name": "root", "issuer_name": name, "ttl": "8760h"})
	}
	one.must(200, "POST", "roles/r", fields{"allowed_domains": "example.com", "allow_subdomains": true})
	for _, c := range []struct {
		method, path, key string
		mine, theirs      fields
	}{
		{"PATCH", "roles/r", "/roles/r", fields{"allow_bare_domains": true}, fields{"max_ttl": "100h", "allowed_domains": "example.org"}},
		{"PATCH", "issuer/a", "/issuers/", fields{"leaf_not_after_behavior": "permit"}, fields{"crl_distribution_points": "http://a.example/crl"}},
		{"POST", "config/urls", "config/main", fields{"ocsp_servers": "http://a.example/ocsp"}, fields{"issuing_certificates": "http://a.example/ca"}},
		{"POST", "config/cluster", "config/main", fields{"path": "https://a.example"}, fields{"aia_path": "http://a.example"}},
		{"POST", "config/crl", "config/main", fields{"ocsp_nonce": true, "shards": 3}, fields{"expiry": "36h", "ocsp_expiry": "2h"}},
		{"POST", "config/auto-tidy", "config/tidy", fields{"safety_buffer": "5h"}, fields{"enabled": true, "tidy_cert_store": true, "tidy_revoked_certs": true}},
		{"POST", "config/issuers", "config/issuers", fields{"default": "b"}, fields{"default_follows_latest_issuer": true}},
	} {
		overtook := false
		between.by(c.key, func() { overtook = true; two.must(200, c.method, c.path, c.theirs) })
		a := one.must(200, c.method, c.path, c.mine)
		require.True(t, overtook, c.path)
		assert.Empty(t, a.warnings, c.path)
		read := two.must(200, "GET", c.path, nil).data
		assert.Equal(t, read, a.data, c.path)
		for _, body := range []fields{c.mine, c.theirs} {
			again := two.must(200, c.method, c.path, body).data
			assert.Equal(t, read, again, "%s: %v was lost", c.path, body)
		}
	}

	between.by("/roles/r", func() { two.must(204, "DELETE", "roles/r", nil) })
	one.must(404, "PATCH", "roles/r", fields{"max_ttl": "1h"})
	two.must(404, "GET", "roles/r", nil)
	between.by("/issuers/", func() { two.must(200, "PATCH", "issuer/b", fields{"usage": "read-only"}) })
	a := one.must(200, "POST", "issuer/b", fields{"issuer_name": "b"}) // all of it is set, whatever it was
	assert.Contains(t, a.str("usage"), "issuing-certificates")
	tries := 0
	between.by("/issuers/", func() { tries++ })
	one.must(409, "PATCH", "issuer/b", fields{"issuer_name": "a"})
	assert.Equal(t, 1, tries)
	one.must(400, "PATCH", "issuer/b", fields{"issuer_name": "a/b"})
	one.must(400, "POST", "config/crl", fields{"expiry": "1s"})
}

// TestPatchStorm: many change one role from two processes, each another field of it or none, and what all have set is there.
func TestPatchStorm(t *testing.T) {
	st, soft := memory.New(nil), software.New(nil)
	t.Cleanup(func() { st.Close(); soft.Close() })
	one, two := newReplica(t, st, soft, nil), newReplica(t, st, soft, nil)
	one.mount(nil)
	two.knows()
	one.must(200, "POST", "roles/r", nil)
	names := []string{"allow_bare_domains", "allow_subdomains", "allow_glob_domains", "code_signing_flag", "email_protection_flag", "no_store"}
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			for range 5 {
				assert.Equal(t, 200, []*replica{one, two}[i%2].ask("PATCH", "roles/r", fields{name: true}).status)
			}
		})
	}
	all.Wait()
	data := one.must(200, "GET", "roles/r", nil).data
	for _, name := range names {
		assert.Equal(t, true, data[name], name)
	}
}
