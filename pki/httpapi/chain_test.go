package httpapi_test

import (
	"encoding/pem"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestManualChain: which way leads to a root is set, read, and goes with what is issued and with all that shows the chain.
func TestManualChain(t *testing.T) {
	for name, client := range map[string]func(*rig) stock{"vault": (*rig).vault, "openbao": (*rig).bao} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, nil)
			c := client(g)
			root := g.root("root").str("issuer_id")
			other := g.root("rsa", "common_name", "Other Root")
			request := g.must(200, "POST", "pki/intermediate/generate/kms", fields{"common_name": "Sub", "organization": "Example", "country": "SE", "managed_key_name": "sub"})
			signed := g.must(200, "POST", "pki/root/sign-intermediate", fields{"csr": request.str("csr"), "use_csr_values": true})
			imported := g.must(200, "POST", "pki/intermediate/set-signed", fields{"certificate": signed.str("certificate")})
			sub := imported.data["imported_issuers"].([]any)[0].(string)
			self := g.must(200, "GET", "pki/issuer/"+root, nil).str("certificate")
			crossed := g.must(200, "POST", "pki/issuer/root-rsa/sign-self-issued", fields{"certificate": self}).str("certificate")
			imported = g.must(200, "POST", "pki/issuers/import/cert", fields{"pem_bundle": crossed + "\n" + other.str("certificate")})
			bridge := imported.data["imported_issuers"].([]any)[0].(string)

			before, err := c.read("pki/issuer/" + sub)
			require.NoError(t, err)
			assert.Nil(t, before["manual_chain"])
			assert.Equal(t, []any{signed.str("certificate") + "\n", self}, before["ca_chain"])
			want := []any{signed.str("certificate"), crossed, other.str("certificate")}
			ended := []any{signed.str("certificate") + "\n", crossed + "\n", other.str("certificate") + "\n"} // as issuers have it
			out, err := c.patch("pki/issuer/"+sub, fields{"manual_chain": []string{sub, bridge, "root-rsa"}})
			require.NoError(t, err)
			assert.Equal(t, []any{sub, bridge, other.str("issuer_id")}, out["manual_chain"])
			assert.Equal(t, ended, out["ca_chain"])
			assert.Equal(t, ended, g.must(200, "GET", "pki/issuer/"+sub+"/json", nil).data["ca_chain"])
			g.must(200, "POST", "pki/config/issuers", fields{"default": sub})
			shown := 0
			for rest := g.do("GET", "pki/ca_chain", "", nil).body; ; shown++ {
				var block *pem.Block
				if block, rest = pem.Decode(rest); block == nil {
					break
				}
			}
			assert.Equal(t, 3, shown)
			g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
			leaf := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example", "ttl": "1h"})
			assert.Equal(t, want, leaf.data["ca_chain"])
			assert.Equal(t, want[:2], g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example", "ttl": "1h", "remove_roots_from_chain": true}).data["ca_chain"])

			_, err = c.patch("pki/issuer/"+sub, fields{"manual_chain": []string{bridge}})
			assert.ErrorContains(t, err, "manual chain")
			out, err = c.patch("pki/issuer/"+sub, fields{"issuer_name": "sub"})
			require.NoError(t, err)
			assert.Equal(t, ended, out["ca_chain"], "it stays")
			out, err = c.patch("pki/issuer/"+sub, fields{"manual_chain": []string{}})
			require.NoError(t, err)
			assert.Equal(t, before["ca_chain"], out["ca_chain"])
		})
	}
}
