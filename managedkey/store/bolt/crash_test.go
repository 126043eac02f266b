//go:build unix

package bolt_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
)

// envChild makes the test binary a program that works on the store in the file that envFile names.
const (
	envChild = "BOLT_TEST_CHILD"
	envFile  = "BOLT_TEST_FILE"
)

var children = map[string]func(path string) error{"write": writeForEver, "hold": hold, "full": fillDisk}

func TestMain(m *testing.M) {
	child := children[os.Getenv(envChild)]
	if child == nil {
		goleak.VerifyTestMain(m)
		return
	}
	if err := child(os.Getenv(envFile)); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// start starts a child process.
func start(t *testing.T, name, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envChild+"="+name, envFile+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

// writeForEver makes transactions from several goroutines and prints the number of each one that was acknowledged.
func writeForEver(path string) error {
	s, err := bolt.Open(path, nil)
	if err != nil {
		return err
	}
	page, err := s.List(context.Background(), "", "", 1)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for g := range 4 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", page.Revision, g, i)
				_, err := s.Apply(context.Background(), transaction(g, id)...)
				if err != nil {
					failed <- err
					return
				}
				fmt.Println(id)
			}
		}()
	}
	return <-failed
}

// transaction makes two records and replaces two that are large.
func transaction(g int, id string) []store.Op {
	large := []byte(id + strings.Repeat("x", 5000))
	return []store.Op{
		{Key: "a/" + id, Value: []byte(id)},
		{Key: "b/" + id, Value: []byte(id)},
		{Key: fmt.Sprintf("last/%d/a", g), Value: large, Expect: store.Any},
		{Key: fmt.Sprintf("last/%d/b", g), Value: large, Expect: store.Any},
	}
}

// TestKill kills a process that writes, again and again, with signal 9. What was acknowledged must be there, and no
// transaction in part.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	acknowledged := map[string]bool{}
	for round := range 8 {
		cmd, out := start(t, "write", path)
		for n := 0; out.Scan(); n++ {
			if strings.HasPrefix(out.Text(), "error:") {
				t.Fatal(out.Text())
			}
			acknowledged[out.Text()] = true
			if n == 10+17*round {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		checkKilled(t, path, acknowledged)
	}
}

func checkKilled(t *testing.T, path string, acknowledged map[string]bool) {
	t.Helper()
	s := open(t, path, nil)
	defer s.Close()
	if err := s.Verify(t.Context()); err != nil {
		t.Fatalf("Verify: %v", err)
	}
	pairs := map[string]int{}
	for record, err := range store.All(t.Context(), s, "") {
		if err != nil {
			t.Fatal(err)
		}
		if folder, id, _ := strings.Cut(record.Key, "/"); folder != "last" {
			pairs[id]++
			continue
		}
		other := record.Key[:len(record.Key)-1] + "a"
		if twin, err := s.Get(t.Context(), other); err != nil || string(twin.Value) != string(record.Value) || twin.Version != record.Version {
			t.Errorf("%s and %s are not of one transaction: %v", record.Key, other, err)
		}
	}
	for id := range acknowledged {
		if pairs[id] != 2 {
			t.Errorf("transaction %s was acknowledged, and %d of its records are there", id, pairs[id])
		}
	}
	for id, n := range pairs {
		if n != 2 {
			t.Errorf("transaction %s was made in part", id)
		}
	}
}

// hold opens the store, says so, and waits to be killed.
func hold(path string) error {
	if _, err := bolt.Open(path, nil); err != nil {
		return err
	}
	fmt.Println("open")
	select {}
}

// TestTwoProcesses opens a file that another process has.
func TestTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	cmd, out := start(t, "hold", path)
	if !out.Scan() || out.Text() != "open" {
		t.Fatalf("child printed %q", out.Text())
	}
	begin := time.Now()
	_, err := bolt.Open(path, &bolt.Options{LockWait: 300 * time.Millisecond})
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "another process") || !strings.Contains(err.Error(), path) {
		t.Errorf("error = %v", err)
	}
	if took := time.Since(begin); took < 200*time.Millisecond || took > 10*time.Second {
		t.Errorf("Open waited %v", took)
	}
	cmd.Process.Kill()
	cmd.Wait()
	open(t, path, &bolt.Options{LockWait: 10 * time.Second}).Close()
}

// fillDisk writes until the file may not grow any more, as on a full disk, and goes on when there is room again.
func fillDisk(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	ctx := context.Background()
	s, err := bolt.Open(path, nil)
	if err != nil {
		return err
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	full := limit
	full.Cur = 512 << 10
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		return err
	}
	value := make([]byte, 20_000)
	n := 0
	for ; ; n++ {
		if _, err = s.Apply(ctx, store.Op{Key: "x/" + strconv.Itoa(n), Value: value}, store.Op{Key: "y/" + strconv.Itoa(n)}); err != nil {
			break
		}
		if n > 1000 {
			return errors.New("the file grows without end")
		}
	}
	if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrUnknownOutcome) || !strings.Contains(err.Error(), syscall.EFBIG.Error()) {
		return fmt.Errorf("a write to a full disk: %w", err)
	}
	if n == 0 {
		return errors.New("nothing could be written")
	}
	// Everything that was acknowledged is there, and nothing of the rest.
	for i := range n + 1 {
		for _, folder := range []string{"x/", "y/"} {
			if _, err := s.Get(ctx, folder+strconv.Itoa(i)); (err == nil) != (i < n) {
				return fmt.Errorf("record %d of %d: %v", i, n, err)
			}
		}
	}
	if _, err := s.Apply(ctx, store.Op{Key: "z", Value: make([]byte, 500_000)}); !errors.Is(err, store.ErrUnavailable) {
		return fmt.Errorf("another write to a full disk: %v", err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if _, err := s.Apply(ctx, store.Op{Key: "x/" + strconv.Itoa(n), Value: value}); err != nil {
		return fmt.Errorf("after there was room: %w", err)
	}
	if err := s.Verify(ctx); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	fmt.Println("written", n)
	return nil
}

func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	_, out := start(t, "full", path)
	if !out.Scan() || !strings.HasPrefix(out.Text(), "written ") {
		t.Fatalf("child printed %q", out.Text())
	}
	n, _ := strconv.Atoi(strings.TrimPrefix(out.Text(), "written "))
	s := open(t, path, nil)
	defer s.Close()
	if _, err := s.Get(t.Context(), "x/"+strconv.Itoa(n)); err != nil {
		t.Error(err)
	}
}
