package store

import "testing"

type sealer struct {
	Store
	sealed bool
}

func (s sealer) Sealed() bool { return s.sealed }

func TestIsSealed(t *testing.T) {
	var plain struct{ Store }
	for name, c := range map[string]struct {
		store Store
		want  bool
	}{"silent": {plain, false}, "no": {sealer{}, false}, "yes": {sealer{sealed: true}, true}, "none": {nil, false}} {
		if got := IsSealed(c.store); got != c.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}
