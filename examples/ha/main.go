// Command ha runs three processes on one registry in a database, and shows that a change which one makes stops or starts
// the signatures of all, and that none is missed when one is killed.
//
//	go run ./examples/ha -store postgres://user:password@host/database
//	go run ./examples/ha -store etcd://host:2379,host:2379,host:2379
//
// The keys are in a file that all three share, in place of an HSM or a cloud's key manager. The example removes nothing from
// the database but its own entry and mount.
package main

import (
	"bufio"
	"context"
	"crypto"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/etcd"
	"github.com/managedkeys/managedkeys/managedkey/store/postgres"
	"github.com/managedkeys/managedkeys/namespace"
)

var ref = namespace.Ref{Namespace: "ha-example", Name: "ca"}

func main() {
	url := flag.String("store", "", "postgres://… or etcd://host:port,…")
	keys := flag.String("worker", "", "used by the program itself: sign with the keys in this file")
	flag.Parse()
	var err error
	if *keys != "" {
		err = work(context.Background(), *url, *keys, os.Stdout)
	} else {
		err = run(context.Background(), *url, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ha:", err)
		os.Exit(1)
	}
}

// open returns a registry in the store, and what closes it.
func open(ctx context.Context, url, keys string) (*managedkey.Registry, func(), error) {
	manager, err := software.OpenFile(keys, "the passphrase of the example", nil)
	if err != nil {
		return nil, nil, err
	}
	var st store.Store
	if hosts, ok := strings.CutPrefix(url, "etcd://"); ok {
		st, err = etcd.Connect(ctx, clientv3.Config{Endpoints: strings.Split(hosts, ",")}, nil)
	} else {
		st, err = postgres.Connect(ctx, backend.Secret(url), nil)
	}
	if err != nil {
		return nil, nil, errors.Join(err, manager.Close())
	}
	r, err := managedkey.Open(ctx, st, []managedkey.Connection{{Name: "hsm", Backend: manager}}, nil)
	if err != nil {
		return nil, nil, errors.Join(err, st.Close(), manager.Close())
	}
	return r, func() { r.Close(); st.Close(); manager.Close() }, nil
}

// work signs without a pause, and says when that begins to fail and when it works again.
func work(ctx context.Context, url, keys string, out io.Writer) error {
	r, closeAll, err := open(ctx, url, keys)
	if err != nil {
		return err
	}
	defer closeAll()
	mount, err := r.OpenMount(ref.Namespace, "pki")
	if err != nil {
		return err
	}
	digest, state := make([]byte, 32), ""
	for {
		key, err := mount.Key(ctx, ref.Name)
		if err == nil {
			_, err = key.SignContext(ctx, digest, crypto.SHA256)
		}
		now := "signs"
		if err != nil {
			now = "refused"
		}
		if now != state {
			state = now
			if _, err := fmt.Fprintln(out, state); err != nil {
				return nil // nobody listens any more
			}
		}
	}
}

// run has three processes sign, and takes the permission from them and gives it back.
func run(ctx context.Context, url string, out io.Writer) error {
	dir, err := os.MkdirTemp("", "managedkeys-ha-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	keys := filepath.Join(dir, "keys.mk")
	r, closeAll, err := open(ctx, url, keys)
	if err != nil {
		return err
	}
	defer closeAll()
	params := software.Params{KeyName: "ca", KeyType: software.ECDSA, Curve: software.P256}
	if err := r.Create(ctx, managedkey.Entry{Ref: ref, Connection: "hsm", Params: params, AllowGenerateKey: true}); err != nil {
		return err
	}
	defer r.Delete(ctx, ref)
	if _, err := r.Key(ctx, ref); err != nil {
		return err
	}
	mount, err := r.Mount(ctx, ref.Namespace, "pki", ref.Name)
	if err != nil {
		return err
	}
	defer r.Unmount(ctx, mount)
	var workers []*worker
	for range 3 {
		w, err := start(url, keys)
		if err != nil {
			return err
		}
		defer w.stop()
		workers = append(workers, w)
	}
	for _, step := range []struct {
		what, wait string
		do         func() error
	}{
		{"three processes started", "signs", func() error { return nil }},
		{"the grant was revoked", "refused", func() error { return r.Revoke(ctx, mount, ref.Name) }},
		{"and granted again", "signs", func() error { return r.Grant(ctx, mount, ref.Name) }},
		{"one process was killed, the mount removed", "refused", func() error {
			workers[2].stop()
			workers = workers[:2]
			return r.Unmount(ctx, mount)
		}},
	} {
		began := time.Now()
		if err := step.do(); err != nil {
			return err
		}
		for _, w := range workers {
			if err := w.until(step.wait); err != nil {
				return err
			}
		}
		fmt.Fprintf(out, "%-42s %d of them: %-8s after %v\n", step.what, len(workers), step.wait, time.Since(began).Round(time.Millisecond))
	}
	return nil
}

// worker is another process of this program.
type worker struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func start(url, keys string) (*worker, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "-store", url, "-worker", keys)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &worker{cmd, bufio.NewScanner(out)}, cmd.Start()
}

// until waits until the process says what it is doing.
func (w *worker) until(state string) error {
	for w.lines.Scan() {
		if w.lines.Text() == state {
			return nil
		}
	}
	return fmt.Errorf("a process ended before it was in the state %q", state)
}

func (w *worker) stop() {
	w.cmd.Process.Kill()
	w.cmd.Wait()
}
