package httpapi

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMetrics: what is collected is for those who may read it, in the root namespace alone.
func TestMetrics(t *testing.T) {
	for _, public := range []bool{false, true} {
		g := newRig(t, func(o *Options) {
			o.MetricsPublic = public
			o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				id := "nobody"
				if who := IdentityOf(r.Context()); who != nil {
					id = who.ID
				}
				io.WriteString(w, `{"data": {"for": "`+id+`"}}`)
			})
		})
		want, who := 403, "root"
		if public {
			want, who = 200, "nobody"
		}
		a := g.must(200, "GET", "/v1/sys/metrics", "")
		assert.Equal(t, who, a.data["for"])
		for _, token := range []string{"", readerToken, "forged"} {
			assert.Equal(t, want, g.do("GET", "/v1/sys/metrics", token, "").status, token)
		}
		g.must(405, "POST", "/v1/sys/metrics", "{}")
		g.must(404, "GET", "/v1/sys/metrics/x", "")
		g.must(404, "GET", "/v1/team-a/sys/metrics", "")
		a = g.do("GET", "/v1/sys/metrics", teamToken, "", "X-Vault-Namespace", "team-a")
		assert.Equal(t, 404, a.status, "another tenant's are among them")
	}
	newRig(t, nil).must(404, "GET", "/v1/sys/metrics", "")
}

// TestMetricsPanics: what the program gives in panics as an engine does.
func TestMetricsPanics(t *testing.T) {
	g := newRig(t, func(o *Options) {
		o.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret") })
	})
	a := g.must(500, "GET", "/v1/sys/metrics", "")
	require.Equal(t, "internal error", a.errors[0])
	assert.NotContains(t, g.log.String(), "secret")
}
