package storetest

import (
	"testing"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestFollows: only operations that were pending may have changed what the watches saw last.
func TestFollows(t *testing.T) {
	seen := cells{{5, "1-1"}, {6, "1-2"}, {7, "1-3"}}
	late := &operation{id: "2-9", ops: []store.Op{{Kind: store.Put, Key: stressKeys[0]}, {Kind: store.Delete, Key: stressKeys[1]}}}
	for _, test := range []struct {
		what    string
		found   cells
		pending []*operation
		want    bool
	}{
		{"nothing new", seen, nil, true},
		{"it happened", cells{{8, "2-9"}, {}, {7, "1-3"}}, []*operation{late}, true},
		{"nobody was pending", cells{{8, "2-9"}, {}, {7, "1-3"}}, nil, false},
		{"it is older", cells{{4, "2-9"}, {}, {7, "1-3"}}, []*operation{late}, false},
		{"somebody else's", cells{{8, "3-3"}, {}, {7, "1-3"}}, []*operation{late}, false},
		{"another key", cells{{5, "1-1"}, {6, "1-2"}, {8, "2-9"}}, []*operation{late}, false},
		{"another deletion", cells{{5, "1-1"}, {6, "1-2"}, {}}, []*operation{late}, false},
	} {
		if got := follows(test.found, seen, test.pending); got != test.want {
			t.Errorf("%s: %t", test.what, got)
		}
	}
}
