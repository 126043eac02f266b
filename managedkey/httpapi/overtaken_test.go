package httpapi

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// meanwhile is an Authorizer that allows one thing only, and something happens when it is asked for the first time.
type meanwhile struct {
	may    Capability
	happen func()
}

func (m *meanwhile) Capabilities(context.Context, *Identity, namespace.Path, string) (Capability, error) {
	if happen := m.happen; happen != nil {
		m.happen = nil
		happen()
	}
	return m.may, nil
}

// TestOvertaken: who may only update creates nothing when the entry goes in between, and who may only create updates nothing.
func TestOvertaken(t *testing.T) {
	m := &meanwhile{may: everything}
	g := newRig(t, func(o *Options) { o.Authorizer = m })
	ca := namespace.Ref{Name: "ca"}
	var was managedkey.Entry
	g.must(204, "POST", keyPath+"ca", ecdsaKey("ca"))
	m.may, m.happen = Update, func() {
		was, _ = g.keys.Entry(ca)
		assert.NoError(t, g.keys.Delete(t.Context(), ca))
	}
	g.must(403, "POST", keyPath+"ca", ecdsaKey("ca"))
	_, err := g.keys.Entry(ca)
	assert.Error(t, err)

	m.may, m.happen = Create, func() {
		assert.NoError(t, g.keys.Create(t.Context(), managedkey.Entry{Ref: ca, Backend: was.Backend, Params: was.Params, AllowGenerateKey: true}))
	}
	g.must(403, "POST", keyPath+"ca", `{"key_name":"ca","key_type":"ECDSA","curve":"P256","any_mount":true}`)
	now, err := g.keys.Entry(ca)
	assert.NoError(t, err)
	assert.False(t, now.AnyMount)
}
