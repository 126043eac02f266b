package replicated_test

import (
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/replicated"
	"github.com/managedkeys/managedkeys/backend/software"
)

// measured is a place that says how it is doing.
type measured struct {
	*software.Backend
	load []backend.Load
}

func (m measured) Load() []backend.Load { return m.load }

// TestLoad: that of each place which knows, under the place's name.
func TestLoad(t *testing.T) {
	soft := software.New(nil)
	t.Cleanup(func() { soft.Close() })
	b, err := replicated.New([]replicated.Place{
		{Name: "hall-1", Backend: measured{soft, []backend.Load{{Connection: "token", Busy: 2}, {Connection: "other", Down: true}}}}, {Name: "hall-2", Backend: soft},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	l := b.Load()
	if len(l) != 2 || l[0].Connection != "hall-1/token" || l[0].Busy != 2 || l[1].Connection != "hall-1/other" || !l[1].Down {
		t.Errorf("load %+v", l)
	}
}
