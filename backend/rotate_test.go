package backend_test

import (
	"errors"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

func TestVersionName(t *testing.T) {
	for _, c := range []struct {
		name    string
		version int
		want    string
	}{
		{"ca", 2, "ca-v2"}, {"ca-v2", 3, "ca-v3"}, {"ca-v2", 2, "ca-v2-v2"}, {"ca-v9", 10, "ca-v10"}, {"ca-v10", 11, "ca-v11"},
		{"-v2", 3, "-v2-v3"}, {"ca", 7, "ca-v7"},
	} {
		if got, err := backend.VersionName(c.name, c.version, 32); got != c.want || err != nil {
			t.Errorf("version %d of %q is %q, %v; want %q", c.version, c.name, got, err, c.want)
		}
	}
	if got, err := backend.VersionName("ca", 2, 5); got != "ca-v2" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := backend.VersionName("ca", 2, 4); !errors.Is(err, backend.ErrInvalidParams) {
		t.Errorf("a name that is too long: %v", err)
	}
}
