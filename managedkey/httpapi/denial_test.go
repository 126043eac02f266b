package httpapi

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey"
)

// witness is an observer that keeps what it is told of refused requests, and the sums of what was shown.
type witness struct {
	mu   sync.Mutex
	all  []managedkey.Denial
	sums []string
}

func (*witness) Begin(ctx context.Context, _ *managedkey.Operation) (context.Context, error) {
	return ctx, nil
}
func (*witness) End(context.Context, *managedkey.Operation) error { return nil }

func (w *witness) Denied(_ context.Context, d *managedkey.Denial) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, *d)
	w.sums = append(w.sums, fmt.Sprintf("%x", d.Credential.Sum(hmac.New(sha256.New, nil))))
}

func sumOf(token string) string {
	return fmt.Sprintf("%x", managedkey.NewContent([]byte(token)).Sum(hmac.New(sha256.New, nil)))
}

// take returns what there is, and forgets it.
func (w *witness) take() ([]managedkey.Denial, []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all, sums := w.all, w.sums
	w.all, w.sums = nil, nil
	return all, sums
}

// TestDenials: who, where, what and why of each request that is answered with 403, and of no other.
func TestDenials(t *testing.T) {
	g := newRig(t, nil)
	w := new(witness)
	g.must(204, "POST", keyPath+"secret", ecdsaKey("secret"))
	g.must(204, "POST", "/v1/sys/mounts/signer", `{"type":"signer"}`)
	m, err := g.keys.OpenMount("", "signer")
	require.NoError(t, err)
	g.keys.Observe(managedkey.Observers(nil, w))
	type d = managedkey.Denial
	for name, c := range map[string]struct {
		method, path, token string
		header              []string
		want                d
		credential          string
	}{
		"no token": {"GET", "/v1/sys/mounts", "", nil, d{Path: "sys/mounts", Operation: "read", Class: "ErrNoCredentials", Reason: "no credentials"}, ""},
		"unknown token": {"LIST", "/v1/team-a/sys/managed-keys/software", "mk.guessed", nil,
			d{Namespace: "team-a", Path: "sys/managed-keys/software", Operation: "list", Class: "ErrDenied", Reason: "the credentials were refused"}, "mk.guessed"},
		"expired token": {"DELETE", keyPath + "secret", oldToken, nil,
			d{Actor: managedkey.Actor{Name: "old"}, Path: "sys/managed-keys/software/secret", Operation: "delete", Class: "ErrDenied", Reason: "the credentials were refused"}, ""},
		"policy": {"POST", "/v1/sys/remount", readerToken, nil,
			d{Actor: managedkey.Actor{Name: "reader"}, Path: "sys/remount", Operation: "sudo,update", Class: "ErrNotPermitted", Reason: "no policy allows it"}, ""},
		"policy of an engine": {"POST", "/v1/signer/new/x", readerToken, nil,
			d{Actor: managedkey.Actor{Name: "reader"}, Path: "signer/new/x", MountPath: "signer", MountID: m.ID(), Operation: "create", Class: "ErrNotPermitted", Reason: "no policy allows it"}, ""},
		"forged namespace": {"GET", "/v1/sys/mounts", teamToken, []string{"X-Vault-Namespace", "team-b"},
			d{Actor: managedkey.Actor{Name: "team-a"}, Namespace: "team-b", Path: "sys/mounts", Operation: "read", Class: "ErrNotPermitted", Reason: "outside the namespace of the caller"}, ""},
		"a grant that isn't there": {"POST", "/v1/signer/sign/secret", rootToken, nil,
			d{Actor: managedkey.Actor{Name: "root"}, Path: "signer/sign/secret", MountPath: "signer", MountID: m.ID(), Operation: "update", Class: "ErrNotPermitted", Reason: "the mount's engine refused it"}, ""},
		"a path that is unknown": {"GET", "/v1/nothing", "mk.guessed", nil,
			d{Path: "nothing", Operation: "read", Class: "ErrDenied", Reason: "the credentials were refused"}, "mk.guessed"},
	} {
		began := time.Now()
		body := ""
		if c.method == "POST" {
			body = `{"input":"x"}`
		}
		a := g.do(c.method, c.path, c.token, body, c.header...)
		require.Equal(t, 403, a.status, "%s: %s", name, a.text)
		all, sums := w.take()
		if !assert.Len(t, all, 1, name) {
			continue
		}
		got := all[0]
		assert.False(t, got.Time.Before(began) || got.Time.After(time.Now()), "%s: %v", name, got.Time)
		assert.Equal(t, "127.0.0.1", got.Actor.Address, name)
		assert.Len(t, got.Actor.RequestID, 36, name)
		assert.Equal(t, c.want.Actor.Name != "", got.Actor.ID != "", name)
		want := ""
		if c.credential != "" {
			want = sumOf(c.credential)
		}
		assert.Equal(t, want, sums[0], name)
		got.Time, got.Credential = time.Time{}, managedkey.Content{}
		got.Actor.ID, got.Actor.Address, got.Actor.RequestID = "", "", ""
		assert.Equal(t, c.want, got, name)
	}
	for _, path := range []string{"/v1/sys/mounts/none", "/v1/sys/managed-keys/software/../x", "/v1/sys/health", "/v1/sys/mounts"} {
		assert.NotEqual(t, 403, g.do("GET", path, rootToken, "").status)
	}
	all, _ := w.take()
	assert.Empty(t, all)
}

// clock is what the limits of denials go by, so that they don't depend on how fast the test is.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// TestDenialsAreBounded: a flood of one client is cut off and counted, leaves others theirs, and one of many clients leaves those who
// are known theirs.
func TestDenialsAreBounded(t *testing.T) {
	g := newRig(t, func(o *Options) {
		o.Limits.ClientAddress = func(r *http.Request) string { return r.Header.Get("X-Client") }
	})
	w, c := new(witness), &clock{now: time.Now()}
	g.keys.Observe(w)
	all := &g.api.denials
	all.now = c.read
	count := func() (told int, omitted uint64) {
		list, _ := w.take()
		for _, d := range list {
			if d.Omitted == 0 {
				told++
			} else {
				assert.Equal(t, managedkey.Denial{Time: c.read(), Omitted: d.Omitted}, d)
			}
			omitted += d.Omitted
		}
		return told, omitted
	}
	for range 50 {
		require.Equal(t, 403, g.do("GET", "/v1/sys/mounts", "mk.guessed", "", "X-Client", "2001:db8::1").status)
	}
	require.Equal(t, 403, g.do("GET", "/v1/sys/mounts", "mk.guessed", "", "X-Client", "2001:db8::2").status)
	told, omitted := count()
	assert.Equal(t, 20, told, "whoever has one address has 2^64 of them")
	assert.Zero(t, omitted)
	require.Equal(t, 403, g.do("GET", "/v1/sys/mounts", "", "", "X-Client", "192.0.2.1").status)
	c.mu.Lock()
	c.now = c.now.Add(2 * time.Second)
	c.mu.Unlock()
	for range 5 {
		require.Equal(t, 403, g.do("GET", "/v1/sys/mounts", "mk.guessed", "", "X-Client", "2001:db8::1").status)
	}
	all.sum()
	told, omitted = count()
	assert.Equal(t, 3, told, "one of another client, and one in each second")
	assert.EqualValues(t, 31+3, omitted)

	deny := func(client string, known bool) {
		all.tell(t.Context(), &managedkey.Denial{Class: "x"}, client, known)
	}
	for i := range 2000 {
		deny(fmt.Sprintf("198.51.%d.%d", i/250, i%250), false)
	}
	told, _ = count()
	const want = 500 - 20 - 1 + 2*10 - 2 // with what there was before
	assert.Equal(t, want, told)
	deny("id root", true)
	told, _ = count()
	assert.Equal(t, 1, told, "those who are known are told of all the same")
	require.NoError(t, g.api.Close())
	_, omitted = count()
	assert.EqualValues(t, 2000-want, omitted, "what was left is told at the end")
	deny("198.51.100.1", false)
	all.mu.Lock()
	defer all.mu.Unlock()
	assert.Nil(t, all.later, "nothing is left running")
}

// TestDenialsWithoutObserver: nobody need look on.
func TestDenialsWithoutObserver(t *testing.T) {
	g := newRig(t, nil)
	assert.Equal(t, 403, g.do("GET", "/v1/sys/mounts", "", "").status)
	g.keys.Observe(plain{})
	assert.Equal(t, 403, g.do("GET", "/v1/sys/mounts", "", "").status)
}

// plain is an observer of operations alone.
type plain struct{}

func (plain) Begin(ctx context.Context, _ *managedkey.Operation) (context.Context, error) {
	return ctx, nil
}
func (plain) End(context.Context, *managedkey.Operation) error { return nil }
