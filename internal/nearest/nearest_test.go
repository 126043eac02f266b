package nearest

import (
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	names := []string{"curve", "key_bits", "key_label", "key_type", "mechanism", "pin"}
	for text, want := range map[string]string{
		"key_lable": "key_label", "keybits": "key_bits", "MECHANISM": "mechanism", "pim": "pin", "pin": "pin", "curves": "curve",
		"token": "", "": "", "x": "", "key_tybe": "key_type", "machinism": "mechanism", strings.Repeat("pin", 100): "",
	} {
		if got := Name(text, names); got != want {
			t.Errorf("%.20q is taken for %q, want %q", text, got, want)
		}
	}
	if got := Name("key_typ", nil); got != "" {
		t.Errorf("of no names %q is the nearest", got)
	}
}
