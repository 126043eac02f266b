package pkcs11

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// TestDecodeParams: the fields of the managed-keys API, as its clients send them, and back.
func TestDecodeParams(t *testing.T) {
	want := Params{
		Library: "hsm1", KeyLabel: "ca", Mechanism: ECDSA, PIN: "env:HSM_PIN", TokenLabel: "team-a", Curve: "P256",
		ForceRWSession: true, MaxParallel: 4,
	}
	for _, mechanism := range []string{`"0x1041"`, `"CKM_ECDSA"`, `"4161"`, `4161`} {
		got, err := (*Backend)(nil).DecodeParams([]byte(`{"library": "hsm1", "key_label": "ca", "mechanism": ` + mechanism + `,
			"pin": "env:HSM_PIN", "token_label": "team-a", "curve": "P256", "force_rw_session": "true", "max_parallel": "4"}`))
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	text, err := backend.EncodeParams(want)
	require.NoError(t, err)
	again, err := (*Backend)(nil).DecodeParams(text)
	require.NoError(t, err)
	assert.Equal(t, want, again)
	for _, bad := range []string{`{"library": "hsm1"}`, `{"module": "/usr/lib/evil.so"}`, `{"mechanism": "CKM_NONSENSE"}`, `{"mechanism": true}`} {
		_, err := (*Backend)(nil).DecodeParams([]byte(bad))
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
	}
}
