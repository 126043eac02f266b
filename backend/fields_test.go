package backend_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// TestUnknownField: a field that is misspelt is recognised, and one that is something else is not taken for another.
func TestUnknownField(t *testing.T) {
	for field, near := range map[string]string{
		"key_bit": "key_bits", "keybits": "key_bits", "KEY_BITS": "key_bits", "key_btis": "key_bits", "nam": "name", "Pin": "pin", "pn": "pin", "pins": "pin",
		"label": "", "x": "", "": "", strings.Repeat("key_bits", 100): "", "bits": "",
	} {
		_, err := backend.DecodeParams[colours]([]byte(`{"name": "a", "` + field + `": "x"}`))
		unknown, ok := errors.AsType[*backend.UnknownFieldError](err)
		require.True(t, ok, field)
		assert.Equal(t, field, unknown.Field)
		assert.Equal(t, []string{"force", "hue", "key_bits", "name", "pin"}, unknown.Takes)
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
		assert.Less(t, len(err.Error()), 300)
		if near == "" {
			assert.NotContains(t, err.Error(), "did you mean", field)
		} else {
			assert.ErrorContains(t, err, `did you mean "`+near+`"`, field)
		}
	}
}

func TestSecretFields(t *testing.T) {
	assert.Equal(t, map[string]backend.Secret{"pin": "1234"}, backend.SecretFields(colours{PIN: "1234"}))
	assert.Equal(t, map[string]backend.Secret{"pin": ""}, backend.SecretFields(colours{Name: "a"}))
	assert.Nil(t, backend.SecretFields(&colours{}))
}
