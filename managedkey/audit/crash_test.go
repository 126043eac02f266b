package audit

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/managedkey"
)

// childPath is the variable that makes this program the one that is killed.
const childPath = "AUDIT_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		if err := recordUntilKilled(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// recordUntilKilled prints the number of each operation that was acknowledged, from several goroutines at once.
func recordUntilKilled(path string) error {
	l, err := New(testKey, []Sink{File{Path: path, MaxSize: 50_000}}, &Options{Logger: quiet})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d-%d-%d", os.Getpid(), g, i)
				if err := l.End(context.Background(), &managedkey.Operation{Name: "sign", Options: name}); err != nil {
					panic(err)
				}
				mu.Lock()
				fmt.Println(name)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

// TestKilled: after kill -9 under load, again and again, everything that was acknowledged is there, and the chain is whole.
func TestKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := fileIn(t)
	acknowledged := 0
	for round := range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, self)
		cmd.Env = append(os.Environ(), childPath+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var names []string
		for s := bufio.NewScanner(out); s.Scan(); {
			names = append(names, s.Text())
			if len(names) == 100+37*round {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait() // killed
		cancel()
		if len(names) < 100 {
			t.Fatalf("the child ended after %d operations", len(names))
		}
		r := whole(t, path)
		old, err := rotatedFiles(path)
		if err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{}
		for _, file := range append(old, path) {
			for _, text := range lines(t, file) {
				if _, rest, ok := strings.Cut(text, `"options":"`); ok {
					name, _, _ := strings.Cut(rest, `"`)
					there[name] = true
				}
			}
		}
		for _, name := range names[:len(names)-1] { // the last line may have been cut off in the pipe
			if !there[name] {
				t.Errorf("round %d: operation %s was acknowledged and is not there", round, name)
			}
		}
		acknowledged += len(names)
		if r.Lines < acknowledged {
			t.Errorf("round %d: %d lines, %d operations were acknowledged", round, r.Lines, acknowledged)
		}
		written(t, 1, nil, File{Path: path, MaxSize: 50_000}) // starts, repairs and stops
		whole(t, path)
	}
	if old, _ := rotatedFiles(path); len(old) == 0 {
		t.Error("no file was rotated under load")
	}
}
