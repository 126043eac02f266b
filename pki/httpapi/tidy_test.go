package httpapi_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
)

// TestTidyReplicas: whichever process is asked, it tells of the same tidy, begins no second one, and ends it; one that is closed meanwhile
// is not shown as at work.
func TestTidyReplicas(t *testing.T) {
	st, soft := memory.New(nil), software.New(nil)
	t.Cleanup(func() { st.Close(); soft.Close() })
	now, slow := new(clock), &gated{Store: st, gate: make(chan struct{})}
	now.set(time.Now())
	change := func(_ *replica, o *pkihttp.Options) { o.Now = now.now }
	one, two := newReplica(t, slow, soft, change), newReplica(t, st, soft, change)
	one.mount(nil)
	two.knows()
	one.must(200, "POST", "root/generate/kms", fields{"common_name": "Root", "managed_key_name": "root", "ttl": "8760h"})
	one.must(200, "POST", "roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	serial := one.must(200, "POST", "issue/web", fields{"common_name": "a.example", "ttl": "1h"}).str("serial_number")
	now.set(now.now().Add(100 * time.Hour))

	state := func(want string) answer {
		t.Helper()
		a := two.must(200, "GET", "tidy-status", nil)
		assert.Equal(t, want, a.data["state"])
		assert.Equal(t, a.data, one.must(200, "GET", "tidy-status", nil).data)
		return a
	}
	until := func(want string) {
		t.Helper()
		require.Eventually(t, func() bool { return two.must(200, "GET", "tidy-status", nil).data["state"] == want }, time.Minute, time.Millisecond)
	}
	tidy := fields{"tidy_cert_store": true, "tidy_revoked_certs": true, "safety_buffer": "5h"}
	state("Inactive")
	assert.Contains(t, two.must(200, "POST", "tidy-cancel", nil).warnings[0], "cannot be cancelled")
	assert.Contains(t, one.must(202, "POST", "tidy", tidy).warnings[0], "started")
	a := state("Running")
	assert.EqualValues(t, 5*3600, a.data["safety_buffer"])
	assert.Nil(t, a.data["time_finished"])
	for _, p := range []*replica{one, two} {
		assert.Contains(t, p.must(202, "POST", "tidy", tidy).warnings[0], "already in progress")
	}
	assert.Equal(t, "Cancelling", two.must(200, "POST", "tidy-cancel", nil).data["state"])
	until("Cancelled")
	a = state("Cancelled")
	assert.EqualValues(t, 0, a.data["cert_store_deleted_count"])
	assert.NotNil(t, a.data["time_finished"])
	assert.Nil(t, a.data["error"])

	one.must(202, "POST", "tidy", tidy)
	one.close()
	a = two.must(200, "GET", "tidy-status", nil)
	assert.Equal(t, "Error", a.data["state"], "its process has ended")
	assert.NotContains(t, a.data["error"], "/")
	two.must(202, "POST", "tidy", tidy)
	until("Finished")
	assert.EqualValues(t, 1, two.must(200, "GET", "tidy-status", nil).data["cert_store_deleted_count"])
	two.must(404, "GET", "cert/"+serial, nil)
}
