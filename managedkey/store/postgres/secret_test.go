package postgres

import (
	"errors"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// What can't be read as a connection string is not shown, since it has a password: not even what the driver thinks is none.
func TestConnectShowsNoPassword(t *testing.T) {
	for _, url := range []string{
		"postgres://user:hunter2/x@127.0.0.1/db",
		"postgres://user:hunter2%zz@127.0.0.1/db",
		"postgres://user:hunter2 x@127.0.0.1/db",
		"postgres://user:hunter2@127.0.0.1/db?sslmode=bogus",
		"host=127.0.0.1 password = hunter2 sslmode=bogus",
		"host=127.0.0.1 password='hunter2 sslmode=bogus",
		`host=127.0.0.1 password=a\ hunter2 sslmode=bogus`,
		"host=127.0.0.1 user=u hunter2",
		"postgres://user:hunter2@127.0.0.1/db?pool_max_conns=hunter2",
		"postgres://127.0.0.1/db?password=hunter2&connect_timeout=x",
	} {
		_, err := Connect(t.Context(), backend.Secret(url), nil)
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: got %v; want ErrInvalid", url, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
