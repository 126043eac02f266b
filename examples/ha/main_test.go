package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/etcdtest"
	"github.com/managedkeys/managedkeys/internal/postgrestest"
)

// TestMain is the program itself when it was started as one of the three processes.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[3] == "-worker" {
		if err := work(context.Background(), os.Args[2], os.Args[4], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func tell(t *testing.T, url string) {
	for range 2 { // it leaves nothing behind that is in its way
		var story strings.Builder
		require.NoError(t, run(t.Context(), url, &story))
		t.Log("\n" + story.String())
		told := strings.Join(strings.Fields(story.String()), " ")
		for _, step := range []string{
			"started 3 of them: signs", "revoked 3 of them: refused", "again 3 of them: signs", "removed 2 of them: refused",
		} {
			assert.Contains(t, told, step)
		}
	}
}

func TestPostgres(t *testing.T) {
	server := postgrestest.Require(t)
	tell(t, server.URL(server.Addr(), server.NewDatabase(t)))
}

func TestEtcd(t *testing.T) {
	cluster := etcdtest.Require(t, 1)
	tell(t, "etcd://"+cluster.Addr(0))
}
