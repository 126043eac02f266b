package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/netcut"
	"github.com/managedkeys/managedkeys/internal/postgrestest"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/postgres"
	"github.com/managedkeys/managedkeys/managedkey/store/storetest"
)

// between waits until the clients of a stress have had time to work.
func between(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// handles opens the same new store by way of each address.
func handles(t *testing.T, server *postgrestest.Server, opts postgres.Options, addrs ...string) (all []store.Store) {
	t.Helper()
	opts.Table = newTable()
	for _, addr := range addrs {
		s := connect(t, server, addr, &opts)
		t.Cleanup(func() { s.Close() })
		all = append(all, s)
	}
	return all
}

// testServerCrashes kills the server under load and starts it again. Calls fail while it is away; what was acknowledged
// before must be there, and watches go on without a gap.
func testServerCrashes(t *testing.T, server *postgrestest.Server) {
	result := storetest.Stress{
		Handles: handles(t, server, postgres.Options{Timeout: 3 * time.Second}, server.Addr(), server.Addr(), server.Addr()),
		Time:    2 * time.Second,
		Disturb: func(ctx context.Context) {
			for range 2 {
				between(ctx, 300*time.Millisecond)
				server.Kill()
				if err := server.Start(); err != nil {
					t.Error(err)
				}
			}
		},
	}.Run(t)
	t.Logf("%+v", result)
	if result.Failed+result.Unknown == 0 {
		t.Error("nobody noticed")
	}
}

// testNetworkBreaks cuts and freezes the network of two of three processes.
func testNetworkBreaks(t *testing.T, server *postgrestest.Server) {
	cut, frozen := netcut.New(t, server.Addr()), netcut.New(t, server.Addr())
	result := storetest.Stress{
		Handles: handles(t, server, postgres.Options{Timeout: time.Second}, server.Addr(), cut.Addr(), frozen.Addr()),
		Time:    3 * time.Second,
		Disturb: func(ctx context.Context) {
			for range 4 {
				between(ctx, 200*time.Millisecond)
				cut.Cut()
				between(ctx, 50*time.Millisecond)
				cut.Heal()
			}
			frozen.Freeze()
			between(ctx, 1500*time.Millisecond)
			frozen.Heal()
			between(ctx, 500*time.Millisecond)
		},
	}.Run(t)
	t.Logf("%+v", result)
	if result.Failed+result.Unknown == 0 {
		t.Error("nobody noticed")
	}
}

// testWithoutNotify uses a server that has neither notifications nor advisory locks, as some engines that speak the
// protocol: functions of the same names, which are found first, refuse.
func testWithoutNotify(t *testing.T, server *postgrestest.Server) {
	database := server.NewDatabase(t)
	for _, function := range []string{"pg_notify(text, text)", "pg_advisory_xact_lock(bigint)"} {
		server.Exec(t, database, `CREATE FUNCTION public.`+function+` RETURNS void LANGUAGE plpgsql AS
			$$ BEGIN RAISE EXCEPTION 'not here' USING ERRCODE = 'feature_not_supported'; END $$`)
	}
	server.Exec(t, database, `ALTER DATABASE `+database+` SET search_path = public, pg_catalog`)
	var all []store.Store
	opts := &postgres.Options{Table: newTable(), Poll: 20 * time.Millisecond}
	for range 2 {
		s, err := postgres.Connect(t.Context(), backend.Secret(server.URL(server.Addr(), database)), opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		all = append(all, s)
	}
	result := storetest.Stress{Handles: all}.Run(t)
	t.Logf("%+v", result)
	if result.Failed+result.Unknown > 0 {
		t.Error("calls failed")
	}
}

// testGoneAtStart opens a store whose server is down, and uses one whose server goes away.
func testGoneAtStart(t *testing.T, server *postgrestest.Server) {
	opts := &postgres.Options{Table: newTable(), Timeout: 500 * time.Millisecond}
	s := connect(t, server, server.Addr(), opts)
	defer s.Close()
	server.Kill()
	begin := time.Now()
	_, err := s.Get(t.Context(), "a")
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Get: %v", err)
	}
	_, err = s.Apply(t.Context(), store.Op{Key: "a"})
	if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("Apply: %v", err)
	}
	if _, err := postgres.Connect(t.Context(), url(server), opts); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Connect: %v", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v to notice", took)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), store.Op{Key: "a"}); err != nil {
		t.Errorf("Apply after the server came back: %v", err)
	}
}
