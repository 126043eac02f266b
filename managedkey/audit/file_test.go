package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// TestRestarts: the chain goes on, and the file says when a program began and ended.
func TestRestarts(t *testing.T) {
	path := written(t, 2, nil, File{})
	for range 3 {
		written(t, 2, nil, File{Path: path})
	}
	if r := whole(t, path); r.Lines != 1+4*4 || r.First.Seq != 1 || r.Cut != 0 || r.Repairs != 0 {
		t.Errorf("found %+v", r)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has the mode %v, %v", info.Mode(), err)
	}
}

// TestCutLines: wherever a file was cut off, the next start repairs it, says so, and the chain goes on.
func TestCutLines(t *testing.T) {
	data, err := os.ReadFile(written(t, 2, nil, File{}))
	if err != nil {
		t.Fatal(err)
	}
	second := strings.Index(string(data), "\n") + 1
	for _, at := range []int{1, second - 1, second + 1, second + 40, len(data) - 2, len(data) - 1} {
		path := fileIn(t)
		if err := os.WriteFile(path, data[:at], 0o600); err != nil {
			t.Fatal(err)
		}
		before, err := VerifyFiles(testKey, path)
		if err != nil || before.Cut == 0 {
			t.Errorf("cut at %d: found %+v, %v", at, before, err)
		}
		written(t, 1, nil, File{Path: path})
		r := whole(t, path)
		if r.Repairs != 1 || r.Cut != 0 || r.First.Seq != 1 {
			t.Errorf("cut at %d: found %+v", at, r)
		}
		if n := count(lines(t, path), fmt.Sprintf(`"cut":%d,"cut_sha256":"`, before.Cut)); n != 1 {
			t.Errorf("cut at %d: %d lines say that %d bytes were cut", at, n, before.Cut)
		}
	}
}

// TestRotation by size: no record is lost or cut, old files go, and what is left is a chain.
func TestRotation(t *testing.T) {
	path := written(t, 40, nil, File{MaxSize: 4000})
	written(t, 40, nil, File{Path: path, MaxSize: 4000})
	r := whole(t, path)
	old, err := rotatedFiles(path)
	if err != nil || len(old) < 5 || r.Files != len(old)+1 {
		t.Fatalf("%d files, found %+v, %v", len(old), r, err)
	}
	n := 0
	for _, name := range append(old, path) {
		all := lines(t, name)
		n += count(all, `"type":"operation"`)
		if info, _ := os.Stat(name); info.Size() > 4500 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has %d bytes, mode %v", name, info.Size(), info.Mode())
		}
	}
	if n != 80 {
		t.Errorf("%d operations, want 80", n)
	}
	if err := os.Remove(old[2]); err != nil {
		t.Fatal(err)
	}
	if r, err := VerifyFiles(testKey, path); !errors.Is(err, ErrTampered) || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].What, "missing") {
		t.Errorf("a file is missing: %v", err)
	}
	written(t, 20, nil, File{Path: path, MaxSize: 4000, Keep: 2})
	if old, _ := rotatedFiles(path); len(old) != 2 {
		t.Errorf("%d old files were kept, want 2", len(old))
	}
	if r := whole(t, path); r.First.Seq == 1 {
		t.Errorf("found %+v", r)
	}
}

// TestRotationByAge uses an age that has always passed.
func TestRotationByAge(t *testing.T) {
	path := written(t, 5, nil, File{MaxAge: 1})
	if old, err := rotatedFiles(path); err != nil || len(old) < 2 {
		t.Errorf("rotated %q, %v", old, err)
	}
	whole(t, path)
}

// TestRotationThatFails goes on in the old file.
func TestRotationThatFails(t *testing.T) {
	path := fileIn(t)
	l := open(t, nil, File{Path: path, MaxSize: 2000})
	if err := os.Mkdir(fmt.Sprintf("%s.%020d", path, 1), 0o700); err != nil { // where the first file would go
		t.Fatal(err)
	}
	k := signer(t, l)
	for range 10 {
		if err := sign(k, t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if s := l.Stats()[0]; s.Lost != 0 || s.Written != 10 {
		t.Errorf("stats %+v", s)
	}
	if n := count(lines(t, path), `"type":"operation"`); n != 10 {
		t.Errorf("%d operations", n)
	}
}

// TestMovedAway: a program that moves the file away is noticed, and the chain goes on in a new one.
func TestMovedAway(t *testing.T) {
	path := fileIn(t)
	l := open(t, nil, File{Path: path})
	k := signer(t, l)
	if err := sign(k, t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".00000000000000000001"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; {
		if err := sign(k, t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nobody noticed")
		}
		time.Sleep(20 * time.Millisecond)
	}
	l.Close()
	if r := whole(t, path); r.Files != 2 || r.First.Seq != 1 {
		t.Errorf("found %+v", r)
	}
}

// TestRefusedFiles are not written to.
func TestRefusedFiles(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(path("readable"), nil, 0o600))
	must(os.Chmod(path("readable"), 0o644))
	must(os.WriteFile(path("target"), nil, 0o600))
	must(os.Symlink(path("target"), path("link")))
	must(os.Mkdir(path("folder"), 0o700))
	must(syscall.Mkfifo(path("fifo"), 0o600))
	must(os.WriteFile(path("foreign"), []byte("127.0.0.1 - - GET /\n"), 0o600))
	must(os.WriteFile(path("long"), make([]byte, 4*maxLine), 0o600))
	busy := open(t, nil, File{Path: path("busy")})
	defer busy.Close()
	for name, want := range map[string]error{
		"readable": backend.ErrUnavailable, "link": backend.ErrUnavailable, "folder": backend.ErrUnavailable, "fifo": backend.ErrUnavailable,
		"foreign": ErrTampered, "long": ErrTampered, "busy": backend.ErrUnavailable, "nowhere/x": backend.ErrUnavailable,
	} {
		if _, err := New(testKey, []Sink{File{Path: path(name)}}, nil); !errors.Is(err, want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l, err := New(testKey, []Sink{File{Path: path("busy2")}, File{Path: path("folder")}}, nil)
	if err == nil {
		l.Close()
		t.Fatal("opened a folder")
	}
	if l, err = New(testKey, []Sink{File{Path: path("busy2")}}, nil); err != nil {
		t.Fatalf("after New failed its other file is still locked: %v", err)
	}
	l.Close()
}

// faulty is a file whose calls fail as told, writes after a part.
type faulty struct {
	file
	write, truncate, sync error
}

func (f *faulty) WriteAt(p []byte, at int64) (int, error) {
	if f.write == nil {
		return f.file.WriteAt(p, at)
	}
	n, err := f.file.WriteAt(p[:len(p)/2], at)
	return n, errors.Join(err, f.write)
}

func (f *faulty) Truncate(n int64) error {
	if f.truncate != nil {
		return f.truncate
	}
	return f.file.Truncate(n)
}

func (f *faulty) Sync() error {
	if f.sync != nil {
		return f.sync
	}
	return f.file.Sync()
}

// TestFullDisk: what a failed write leaves is taken away, the gap is written down, and the chain is whole at each moment.
func TestFullDisk(t *testing.T) {
	path := fileIn(t)
	k, err := newKeys(testKey)
	if err != nil {
		t.Fatal(err)
	}
	out, err := (File{Path: path}).open(k, quiet)
	if err != nil {
		t.Fatal(err)
	}
	w := out.(*fileWriter)
	disk := &faulty{file: w.f}
	w.f = disk
	record := func() []*Record {
		r := &Record{Type: TypeOperation, Operation: "sign", Time: time.Now()}
		r.body = r.append(nil)
		return []*Record{r, r}
	}
	if err := w.write(record(), 0); err != nil {
		t.Fatal(err)
	}
	full := &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
	for name, fail := range map[string]func(){
		"write":          func() { disk.write = full },
		"write and mend": func() { disk.write, disk.truncate = full, full },
		"fsync":          func() { disk.sync = full },
	} {
		fail()
		for range 2 {
			head := w.head()
			if err := w.write(record(), 0); !errors.Is(err, backend.ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) || w.head() != head {
				t.Errorf("%s: %v", name, err)
			}
		}
		disk.write, disk.truncate, disk.sync = nil, nil, nil
		if err := w.write(record(), 4); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
		whole(t, path)
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if r := whole(t, path); r.Lost != 12 || r.Lines != 2+4*2+3+1 {
		t.Errorf("found %+v", r)
	}
}

// TestUnwritableFile: operations are refused or counted, and go on when the file is back.
func TestUnwritableFile(t *testing.T) {
	path := fileIn(t)
	l := open(t, &Options{FailClosed: AllSinks}, File{Path: path})
	k := signer(t, l)
	if err := sign(k, t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	if err := sign(k, t.Context()); !errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("the file was truncated: %v", err)
	}
	if s := l.Stats()[0]; !s.Failing || s.Lost == 0 {
		t.Errorf("stats %+v", s)
	}
	if _, err := VerifyFiles(testKey, path, l.Heads()[path]); !errors.Is(err, ErrTampered) {
		t.Errorf("the truncated file: %v", err)
	}
}
