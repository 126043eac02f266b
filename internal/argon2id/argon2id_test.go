package argon2id

import (
	"encoding/hex"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	if c := (Costs{}).WithDefaults(); c != (Costs{3, 65536, 4}) || c.Check() != nil {
		t.Errorf("defaults: %+v, %v", c, c.Check())
	}
	if c := (Costs{1, 64, 2}); c.WithDefaults() != c || c.Check() != nil {
		t.Errorf("defaults change %+v", c)
	}
	for _, bad := range []struct {
		costs Costs
		says  string
	}{
		{Costs{0, 64, 1}, "time: got 0; it takes 1 to 64"},
		{Costs{65, 64, 1}, "time: got 65"},
		{Costs{1, 64, 0}, "threads: got 0; it takes 1 to 64"},
		{Costs{1, 1024, 65}, "threads: got 65"},
		{Costs{1, 31, 4}, "memory_kib: got 31; it takes 32 to 1048576 with 4 threads"},
		{Costs{1, 1<<20 + 1, 4}, "memory_kib: got 1048577"},
		{Costs{5, 1 << 20, 4}, "memory_kib: got 1048576; it takes at most 838860 with time 5"},
	} {
		if err := bad.costs.Check(); err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%+v: error = %v, want %q in it", bad.costs, err, bad.says)
		}
	}
}

func TestKey(t *testing.T) {
	salt := [SaltSize]byte([]byte("somesaltsomesalt"))
	key := Costs{2, 64, 1}.Key("password", salt, 32)
	// From the reference implementation: echo -n password | argon2 somesaltsomesalt -id -t 2 -k 64 -p 1 -l 32 -r
	if got := hex.EncodeToString(key); got != reference {
		t.Errorf("key = %s", got)
	}
	if other := (Costs{3, 64, 1}).Key("password", salt, 32); string(other) == string(key) {
		t.Error("the costs don't matter")
	}
}

const reference = "1a98fba8e6394425c9bdc333a9c750aaf811df070f5fb4a5788e1cf4db5793a1"
