package httpapi

import (
	"net/http"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/namespace"
)

// moves are the last moves of mounts, which clients ask about although they are done by then.
type moves struct {
	mu  sync.Mutex
	all []move
}

type move struct {
	ns       namespace.Path
	id       string
	from, to string
}

const maxMoves = 64

// remount moves a mount within its namespace.
func remount(c *call) (any, error) {
	f, err := ReadFields(c.r)
	if err != nil {
		return nil, err
	}
	var from, to string
	f.String("from", &from)
	f.String("to", &to)
	if err := f.Done(); err != nil {
		return nil, err
	}
	from, to = strings.Trim(from, "/"), strings.Trim(to, "/")
	m, err := c.api.keys.OpenMount(c.ns, from)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "field from: no matching mount at %.*q in this namespace", maxShown, from+"/")
	}
	if err := c.api.free(c.ns, to); err != nil {
		return nil, err
	}
	if err := c.api.keys.Rename(c.r.Context(), m, to); err != nil {
		return nil, err
	}
	done := move{c.ns, uuid.NewString(), from + "/", to + "/"}
	moves := &c.api.moves
	moves.mu.Lock()
	defer moves.mu.Unlock()
	moves.all = append(moves.all, done)
	moves.all = moves.all[max(0, len(moves.all)-maxMoves):]
	return twice{"migration_id": done.id}, nil
}

func remountStatus(c *call) (any, error) {
	id := c.tail(3)
	moves := &c.api.moves
	moves.mu.Lock()
	defer moves.mu.Unlock()
	for _, m := range moves.all {
		if m.id == id && m.ns == c.ns {
			return map[string]any{"migration_id": id, "migration_info": map[string]any{
				"source_mount": m.from, "target_mount": m.to, "status": "success"}}, nil
		}
	}
	return nil, errNothing
}
