package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestExpiry: what expires is in the metrics and in the log, also of a server that has started anew and that nobody has asked for
// anything of its authority.
func TestExpiry(t *testing.T) {
	g := newRig(t)
	g.write("token", "open sesame")
	g.write("server.hcl", "store \"bolt\" { path = \""+g.folder+"/store\" }\n"+fmt.Sprintf(softFile+around, g.folder)+`
policy "authority" {
  path "team-a/pki/*" { capabilities = ["create", "update"] }
  path "sys/metrics"  { capabilities = ["read"] }
}
auth "token" "authority" {
  token_sha256 = "`+hash("authority")+`"
  policies     = ["authority"]
}
`)
	g.start()
	g.wait("Listening on http://", 1)
	client := g.stock()[0]
	client.SetToken("authority")
	_, err := client.Logical().Write("pki/root/generate/kms", map[string]any{"common_name": "Example Root", "issuer_name": "root", "managed_key_name": "ca", "ttl": "48h"})
	require.NoError(t, err)
	status, text, err := g.ask(g.client(false), "GET", "team-a/pki/crl", "")
	require.NoError(t, err)
	require.Equal(t, 200, status, text)
	metrics := func(want ...string) {
		var text string
		require.Eventually(t, func() bool {
			status, body, err := g.ask(g.client(false), "GET", "sys/metrics", "authority")
			require.NoError(t, err)
			require.Equal(t, 200, status, body)
			text = body
			for _, w := range want {
				if !strings.Contains(text, w) {
					return false
				}
			}
			return true
		}, 30*time.Second, 10*time.Millisecond, "%q", want)
		for _, line := range strings.Split(text, "\n") {
			var seconds float64
			if rest, ok := strings.CutPrefix(line, "managedkeys_pki_issuer_expiry_seconds{"); ok {
				_, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' '):], &seconds)
				require.NoError(t, err)
				assert.InDelta(t, 48*3600, seconds, 600)
				assert.Contains(t, rest, `managedkeys_mount="pki"`)
				assert.Contains(t, rest, `managedkeys_namespace="team-a"`)
				assert.Contains(t, rest, `managedkeys_pki_issuer_name="root"`)
			}
		}
	}
	require.NoError(t, g.end())
	g.mu.Lock()
	g.lines = nil
	g.mu.Unlock()
	g.start()
	metrics("managedkeys_pki_issuer_expiry_seconds{", "managedkeys_pki_crl_expiry_seconds{", "managedkeys_pki_certificates_expiring{", "managedkeys_pki_expiry_age_seconds{")

	// A mount that a reload adds is watched as well; what was tuned stays.
	operator := g.stock()[0]
	require.NoError(t, operator.Sys().TuneMountAllowNil("pki", vault.TuneMountConfigInput{MaxLeaseTTL: &[]string{"24h"}[0]}))
	data, err := os.ReadFile(g.path("server.hcl"))
	require.NoError(t, err)
	g.write("server.hcl", string(data)+"\nmount \"pki\" \"team-a/late\" {}\n")
	g.hangup("msg=reloaded")
	assert.Equal(t, 1, g.count("1 to add, 0 to change, 0 to remove"), "%q", g.output())
	metrics(`managedkeys_mount="late"`)
	tuned, err := operator.Sys().MountConfig("pki")
	require.NoError(t, err)
	assert.Equal(t, 24*3600, tuned.MaxLeaseTTL)
	require.NoError(t, g.end())
}
