package software

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

var errFault = errors.New("injected fault")

// faultyDisk is the real file system, except that one step of a change fails: before it has had any effect, or after it
// had all of it.
type faultyDisk struct {
	osDisk
	fail  int      // the step that fails, counted from 1; 0: none
	after bool     // it fails after its effect
	dead  bool     // every later step fails as well, without effect: what a crash leaves behind
	steps []string // taken so far
}

// step runs do as the next step.
func (d *faultyDisk) step(name string, do func() error) error {
	d.steps = append(d.steps, name)
	switch n := len(d.steps); {
	case d.fail == 0 || n < d.fail || n > d.fail && !d.dead:
		return do()
	case n == d.fail && d.after:
		if err := do(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: %w", name, errFault)
}

func (d *faultyDisk) Create(path string, perm fs.FileMode) (f tempFile, err error) {
	err = d.step("create", func() error {
		f, err = d.osDisk.Create(path, perm)
		return err
	})
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, err
	}
	return &faultyFile{f, d}, nil
}

func (d *faultyDisk) Rename(from, to string) error {
	return d.step("rename", func() error { return d.osDisk.Rename(from, to) })
}

// Remove fails with the others in a disk that is dead only: what it removes is left-overs, or what was not there.
func (d *faultyDisk) Remove(path string) error {
	if d.dead && d.fail > 0 && len(d.steps) >= d.fail {
		return errFault
	}
	return d.osDisk.Remove(path)
}

func (d *faultyDisk) SyncDir(path string) error {
	return d.step("sync folder", func() error { return d.osDisk.SyncDir(path) })
}

func (d *faultyDisk) Lock(path string) (unlock func(), err error) {
	err = d.step("lock", func() error {
		unlock, err = d.osDisk.Lock(path)
		return err
	})
	if err != nil && unlock != nil {
		unlock()
		unlock = nil
	}
	return unlock, err
}

type faultyFile struct {
	tempFile
	d *faultyDisk
}

func (f *faultyFile) Write(p []byte) (n int, err error) {
	err = f.d.step("write", func() error {
		n, err = f.tempFile.Write(p)
		return err
	})
	if err != nil && n == 0 {
		n, _ = f.tempFile.Write(p[:len(p)/2]) // a full disk takes some of it
	}
	return n, err
}

func (f *faultyFile) Sync() error { return f.d.step("sync", f.tempFile.Sync) }

// Close closes the file in any case, as close(2) does on Linux.
func (f *faultyFile) Close() error {
	closed := false
	err := f.d.step("close", func() error {
		closed = true
		return f.tempFile.Close()
	})
	if !closed {
		f.tempFile.Close()
	}
	return err
}

// changeSteps are the steps of one change when nothing fails.
const changeSteps = "lock create write sync close rename sync folder"

// eachFault runs test for every step, failing before and after its effect.
func eachFault(t *testing.T, test func(t *testing.T, fault faultyDisk)) {
	steps := strings.Split(strings.ReplaceAll(changeSteps, "sync folder", "sync_folder"), " ")
	for i, step := range steps {
		for _, after := range []bool{false, true} {
			order := map[bool]string{false: "before", true: "after"}[after]
			t.Run(step+" fails "+order+" its effect", func(t *testing.T) {
				test(t, faultyDisk{fail: i + 1, after: after})
			})
		}
	}
}

func TestChangeSteps(t *testing.T) {
	path, _ := storeFile(t)
	d := &faultyDisk{}
	b := must(openFile(d, path, testPassphrase, cheap))
	defer b.Close()
	if len(d.steps) != 0 {
		t.Errorf("opening takes the steps %v, want none", d.steps)
	}
	must(b.Generate(t.Context(), Params{KeyName: "n", KeyType: Ed25519}, nil))
	if got := strings.Join(d.steps, " "); got != changeSteps {
		t.Errorf("a change takes the steps %q, want %q", got, changeSteps)
	}
}

// TestFaultChangesNothing checks that a change that fails, at whatever step and in either order, leaves the file, the
// keys in memory and the open handles as they were, and that the next one succeeds.
func TestFaultChangesNothing(t *testing.T) {
	for name, change := range map[string]Params{"new key": {KeyName: "n", KeyType: Ed25519}, "replaced key": edKey} {
		t.Run(name, func(t *testing.T) {
			eachFault(t, func(t *testing.T, fault faultyDisk) {
				path, before := storeFile(t)
				d := &faultyDisk{}
				b := must(openFile(d, path, testPassphrase, cheap))
				defer b.Close()
				key := must(b.Open(t.Context(), edKey)).(backend.Signer)

				*d = fault
				made, err := b.Generate(t.Context(), change, &backend.GenerateOptions{Replace: true})
				wantError(t, err, backend.ErrUnavailable, "injected fault")
				if made != nil {
					t.Error("a key came with the error")
				}
				if !bytes.Equal(must(os.ReadFile(path)), before) {
					t.Error("the file is not what it was")
				}
				if _, err := os.Stat(path + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the temporary file is still there: %v", err)
				}
				wantNames(t, b, "ed")
				if got := must(b.Open(t.Context(), edKey)).ID(); got != key.ID() {
					t.Errorf("the key is %q, want %q", got, key.ID())
				}
				if _, err := key.SignContext(t.Context(), nil, crypto.Hash(0)); err != nil {
					t.Errorf("the open handle: %v", err)
				}

				*d = faultyDisk{}
				made = must(b.Generate(t.Context(), change, &backend.GenerateOptions{Replace: true}))
				if got := must(openTest(t, path).Open(t.Context(), change)).ID(); got != made.ID() {
					t.Errorf("after the repair the file has %q, want %q", got, made.ID())
				}
			})
		})
	}
}

// TestCrashLeavesOldOrNew checks what a program that dies in the middle of a change leaves: the whole of the old store or
// the whole of the new one, which the next program opens and changes.
func TestCrashLeavesOldOrNew(t *testing.T) {
	seen := map[string]int{}
	eachFault(t, func(t *testing.T, fault faultyDisk) {
		path, before := storeFile(t)
		d := &faultyDisk{}
		b := must(openFile(d, path, testPassphrase, cheap))
		defer b.Close()
		*d = fault
		d.dead = true
		_, err := b.Generate(t.Context(), Params{KeyName: "n", KeyType: Ed25519}, nil)
		wantError(t, err, errFault)
		kept := !bytes.Equal(must(os.ReadFile(path)), before)
		if says := strings.Contains(err.Error(), "may have been kept"); says != kept {
			t.Errorf("that the change was kept is %t, but the error is %q", kept, err)
		}
		want := map[bool][]string{false: {"ed"}, true: {"ed", "n"}}[kept]
		seen[fmt.Sprint(want)]++
		next := openTest(t, path)
		wantNames(t, next, want...)
		must(next.Generate(t.Context(), Params{KeyName: "next", KeyType: Ed25519}, nil))
		if _, err := os.Stat(path + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the temporary file is still there: %v", err)
		}
		// The program lives on and its disk is well again: it sees what there is.
		*d = faultyDisk{}
		wantNames(t, b, append(want, "next")...)
	})
	if len(seen) != 2 {
		t.Errorf("crashes left %v, want both outcomes", seen)
	}
}

// TestFaultOnCreation checks that a store that could not be made is not there, and can be made later.
func TestFaultOnCreation(t *testing.T) {
	eachFault(t, func(t *testing.T, fault faultyDisk) {
		path := filepath.Join(t.TempDir(), "keys")
		_, err := openFile(&fault, path, testPassphrase, cheap)
		wantError(t, err, backend.ErrUnavailable, "injected fault")
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("there is a file: %v", err)
		}
		wantNames(t, openTest(t, path))
	})
}

// rivalDisk has something happen just before a lock is given.
type rivalDisk struct {
	osDisk
	happen func()
}

func (d rivalDisk) Lock(path string) (func(), error) {
	d.happen()
	return d.osDisk.Lock(path)
}

func TestCreationSeesRival(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	rival := func() { must(openTest(t, path).Generate(t.Context(), edKey, nil)) }
	b := must(openFile(rivalDisk{happen: rival}, path, testPassphrase, cheap))
	defer b.Close()
	wantNames(t, b, "ed")
}

// TestCancelledAtTheLastMoment checks that nothing is stored for a caller whose context ended before the change began.
func TestCancelledAtTheLastMoment(t *testing.T) {
	path, before := storeFile(t)
	for range 20 { // where it is noticed is left to chance
		ctx, cancel := context.WithCancel(t.Context())
		b := must(openFile(rivalDisk{happen: cancel}, path, testPassphrase, cheap))
		_, err := b.Generate(ctx, Params{KeyName: "n", KeyType: Ed25519}, nil)
		wantError(t, err, context.Canceled)
		b.Close()
	}
	if !bytes.Equal(must(os.ReadFile(path)), before) {
		t.Error("the file was written to")
	}
}

func TestReadOnlyFolder(t *testing.T) {
	path, before := storeFile(t)
	dir := filepath.Dir(path)
	bindPermissions(t, dir)
	if err := errors.Join(os.Remove(path+".lock"), os.Chmod(dir, 0o500)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	b := openTest(t, path)
	wantNames(t, b, "ed")
	_, err := b.Generate(t.Context(), Params{KeyName: "n", KeyType: Ed25519}, nil)
	wantError(t, err, backend.ErrUnavailable)
	wantError(t, err, fs.ErrPermission)
	if !bytes.Equal(must(os.ReadFile(path)), before) {
		t.Error("the file was written to")
	}
	wantNames(t, b, "ed")
}
