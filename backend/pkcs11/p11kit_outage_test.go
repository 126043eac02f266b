package pkcs11

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/p11kit"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// remote makes keys on a new token and returns them as opened through a server of another process.
func remote(t *testing.T, labels ...string) (server *p11kit.Server, b *Backend, keys []backend.Key) {
	t.Helper()
	token := softhsm.Require(t)
	server = p11kit.Require(t, token)
	direct := connectTo(t, token)
	for _, label := range labels {
		mustGenerate(t, direct, withCurve(on(token, label, ECDSA), "P256"))
	}
	b = connectWith(t, Library{Path: server.Module(), CallTimeout: 5 * time.Second})
	for _, label := range labels {
		keys = append(keys, mustOpen(t, b, on(token, label, ECDSA)))
	}
	return server, b, keys
}

// awaits calls f until it returns nil and returns how long that took. The test ends if it takes too long.
func awaits(t *testing.T, what string, f func() error) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		err := f()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%s: not after %v: %v", what, time.Since(began), err)
		}
		time.Sleep(time.Millisecond)
	}
}

// mayRecover is how long service may take to be back on a machine that does much else; the aim is a second.
const mayRecover = 5 * time.Second

// TestServerDiesAndReturns: while the server is away, calls fail at once, and soon after it is back all keys work again.
// Its module gives the handles of one connection to other objects in the next.
func TestServerDiesAndReturns(t *testing.T) {
	server, _, keys := remote(t, "a", "b", "c")
	for round := range 4 {
		for _, key := range keys {
			signsWell(t, key)
		}
		server.Kill()
		awaits(t, "failing fast", func() error {
			began := time.Now()
			err := signOnce(t.Context(), keys[0])
			if !errors.Is(err, backend.ErrUnavailable) {
				t.Fatalf("while the server is away: error = %v", err)
			}
			if took := time.Since(began); took > 100*time.Millisecond {
				return err
			}
			return nil
		})
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		took := awaits(t, "signing", func() error { return signOnce(t.Context(), keys[round%len(keys)]) })
		t.Logf("round %d: service is back after %v", round, took)
		if took > mayRecover {
			t.Errorf("round %d: service is back after %v only", round, took)
		}
	}
}

// TestServerDiesUnderLoad is the same with calls in flight, some of which the module never ends.
func TestServerDiesUnderLoad(t *testing.T) {
	server, _, keys := remote(t, "a", "b", "c")
	const signers = 8
	var (
		wg     sync.WaitGroup
		stop   = make(chan struct{})
		mu     sync.Mutex
		signed int
	)
	defer wg.Wait()
	defer close(stop)
	for n := range signers {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch err := signOnce(t.Context(), keys[n%len(keys)]); {
				case err == nil:
					mu.Lock()
					signed++
					mu.Unlock()
				case !errors.Is(err, backend.ErrUnavailable):
					t.Errorf("error = %v", err)
				default:
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return signed
	}
	for round := range 4 {
		before := count()
		awaits(t, "signing", func() error {
			if count() < before+100 {
				return errors.New("few signatures")
			}
			return nil
		})
		server.Kill()
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		before = count()
		took := awaits(t, "signing again", func() error {
			if count() < before+signers {
				return errors.New("no signature")
			}
			return nil
		})
		t.Logf("round %d: service is back after %v", round, took)
		if took > mayRecover {
			t.Errorf("round %d: service is back after %v only", round, took)
		}
	}
}
