package together

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// envChild makes this program a child that works on a store: its address, the file of keys and the number of the worker,
// separated by blanks.
const envChild = "MANAGEDKEYS_TEST_TOGETHER"

func poll(cond func() bool) bool {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if cond() {
			return true
		}
	}
	return false
}

func containsUsage(described string, usages backend.Usage) bool {
	return strings.Contains(described, fmt.Sprintf("usages %v ", usages))
}

func containsSigns(described string) bool { return strings.HasSuffix(described, "signs true") }

// child does what the parent asks for, if this is one. It reports whether it is.
func child() bool {
	args := strings.Fields(os.Getenv(envChild))
	if len(args) != 3 {
		return false
	}
	if err := obey(args[0], args[1], args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
	return true
}

func obey(address, keys, number string) error {
	ctx := context.Background()
	st, err := dial(ctx, address)
	if err != nil {
		return err
	}
	p, err := run(ctx, st, keys)
	if err != nil {
		return err
	}
	defer p.end()
	id := int(number[0] - '0')
	w, err := newWorker(p, id)
	if err != nil {
		return err
	}
	stop, result := make(chan struct{}), make(chan report)
	go func() { result <- w.work(stop) }()
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode("works"); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch in.Text() {
		case "stop":
			close(stop)
			err = out.Encode(<-result)
		case "view":
			v, wrong := seen(ctx, p.Registry, allPaths())
			if wrong != nil {
				v = view{"error": wrong.Error()}
			}
			err = out.Encode(v)
		}
		if err != nil {
			return err
		}
	}
	return nil // the parent has gone
}

// process is a child of this one.
type process struct {
	in  *json.Decoder
	ask func(what string, answer any) error
}

// fork starts a child, which ends with the test.
func fork(t *testing.T, address, keys string, id int) *process {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", envChild, address, keys, id))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { require.NoError(t, errors.Join(in.Close(), cmd.Wait())) })
	p := &process{in: json.NewDecoder(out)}
	p.ask = func(what string, answer any) error {
		if _, err := fmt.Fprintln(in, what); err != nil {
			return err
		}
		return p.in.Decode(answer)
	}
	var hello string
	require.NoError(t, p.in.Decode(&hello))
	return p
}

func (p *process) view() (v view, err error) {
	err = p.ask("view", &v)
	return v, err
}
