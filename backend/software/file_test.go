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
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

var edKey = Params{KeyName: "ed", KeyType: Ed25519}

func openTest(t testing.TB, path string) *Backend {
	t.Helper()
	b, err := OpenFile(path, testPassphrase, cheap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// storeFile returns the path of a file with one key, and its content.
func storeFile(t testing.TB) (path string, data []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys")
	b := openTest(t, path)
	must(b.Generate(t.Context(), edKey, nil))
	return path, must(os.ReadFile(path))
}

func TestFileKeepsKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	b := openTest(t, path)
	ids := make(map[string]string)
	for _, k := range everyKind {
		p := k.Params.(Params)
		p.KeyName = fmt.Sprintf("%s-%d%s%d", p.KeyType, p.KeyBits, p.Curve, p.ParameterSet)
		key := must(b.Generate(t.Context(), p, nil))
		ids[p.KeyName] = identity(key)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openTest(t, path)
	n := 0
	for info, err := range b.List(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		key := must(b.Open(t.Context(), info.Params))
		if got := identity(key); got != ids[info.Label] {
			t.Errorf("%s: the key is another", info.Label)
		}
	}
	if n != len(everyKind) {
		t.Errorf("the file has %d keys, want %d", n, len(everyKind))
	}
	if info := must(os.Stat(path)); runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the file has permissions %o", info.Mode().Perm())
	}
}

// TestFileShowsNothing checks that neither a name, a type nor a key is in the file in the clear, and that no two saves
// are alike.
func TestFileShowsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	b := openTest(t, path)
	secret := []byte("0123456789abcdef0123456789abcdef")
	seen := map[string]bool{}
	for range 3 {
		must(b.Import(t.Context(), Params{KeyName: "somebody", KeyType: HMAC}, secret, &backend.ImportOptions{Replace: true}))
		data := must(os.ReadFile(path))
		for _, leak := range []string{"somebody", "HMAC", string(secret), "MDEyMzQ1Njc4OWFi", testPassphrase} {
			if bytes.Contains(data, []byte(leak)) {
				t.Errorf("the file shows %q", leak)
			}
		}
		h, _, _, err := parse(data)
		if err != nil || seen[string(h.Nonce)] {
			t.Errorf("a nonce was used again, or %v", err)
		}
		seen[string(h.Nonce)] = true
	}
	entries := must(os.ReadDir(filepath.Dir(path)))
	if len(entries) > 2 {
		t.Errorf("the folder has %v, want the store and its lock", entries)
	}
}

func TestFilePassphrase(t *testing.T) {
	path, before := storeFile(t)
	t.Setenv("SOFTWARE_TEST_PASSPHRASE", testPassphrase)
	t.Setenv("SOFTWARE_TEST_EMPTY", "")
	for _, good := range []backend.Secret{testPassphrase, "env:SOFTWARE_TEST_PASSPHRASE"} {
		b, err := OpenFile(path, good, nil) // the file's own costs apply
		if err != nil {
			t.Fatal(err)
		}
		wantNames(t, b, "ed")
		b.Close()
	}
	for _, test := range []struct {
		passphrase backend.Secret
		says       string
	}{
		{"", "passphrase: it is empty"},
		{"tr0ub4dor&3", "wrong passphrase or damaged file"},
		{testPassphrase + " ", "wrong passphrase or damaged file"},
		{"env:SOFTWARE_TEST_EMPTY", "SOFTWARE_TEST_EMPTY"},
		{"file:/does/not/exist", "/does/not/exist"},
	} {
		b, err := OpenFile(path, test.passphrase, cheap)
		wantError(t, err, backend.ErrCredentials, test.says)
		if err != nil && (errors.Is(err, ErrFormat) || strings.Contains(err.Error(), "tr0ub4dor")) {
			t.Errorf("%q: claims to know more than it can, or shows the passphrase", err)
		}
		if b != nil {
			t.Error("a Backend came with the error")
		}
	}
	if !bytes.Equal(must(os.ReadFile(path)), before) {
		t.Error("opening changed the file")
	}
	// A refused passphrase makes no file.
	absent := filepath.Join(t.TempDir(), "absent")
	_, err := OpenFile(absent, "", cheap)
	wantError(t, err, backend.ErrCredentials)
	if _, err := os.Stat(absent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a file: %v", err)
	}
}

func TestFileOptions(t *testing.T) {
	path, _ := storeFile(t)
	for _, test := range []struct {
		opts Options
		says []string
	}{
		{Options{Store: "memory"}, []string{"store", `"memory"`}},
		{Options{Argon2id: Argon2id{Time: 65}}, []string{"time", "65", "1 to 64"}},
		{Options{Argon2id: Argon2id{Threads: 65}}, []string{"threads", "65"}},
		{Options{Argon2id: Argon2id{MemoryKiB: 31}}, []string{"memory_kib", "31", "32 to 1048576 with 4 threads"}},
		{Options{Argon2id: Argon2id{MemoryKiB: 1<<20 + 1}}, []string{"memory_kib", "1048577"}},
		{Options{Argon2id: Argon2id{MemoryKiB: 1 << 20, Time: 5}}, []string{"memory_kib", "at most 838860 with time 5"}},
	} {
		_, err := OpenFile(path, testPassphrase, &test.opts)
		wantError(t, err, backend.ErrInvalidParams, test.says...)
	}
	b, err := OpenFile(path, testPassphrase, &Options{Store: "laptop"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	_, err = b.Open(t.Context(), Params{KeyName: "ed", Store: "laptop"})
	if err != nil {
		t.Error(err)
	}
	_, err = b.Open(t.Context(), Params{KeyName: "ed", Store: "memory"})
	wantError(t, err, backend.ErrInvalidParams, `"memory"`, `"laptop"`)

	if d := (Argon2id{}).withDefaults(); d != (Argon2id{Time: 3, MemoryKiB: 65536, Threads: 4}) || d.validate(nil) != nil {
		t.Errorf("the defaults are %+v", d)
	}
}

func TestFileUnusable(t *testing.T) {
	dir := t.TempDir()
	path, data := storeFile(t)
	write := func(name string, perm fs.FileMode) string {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(p, data, perm), os.Chmod(p, perm)); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, test := range []struct {
		name, path string
		want       error
		says       string
	}{
		{"empty path", "", backend.ErrUnavailable, "path: "},
		{"folder", dir, backend.ErrUnavailable, "not a regular file"},
		{"folder absent", filepath.Join(dir, "absent", "keys"), fs.ErrNotExist, ""},
		{"file as folder", filepath.Join(path, "keys"), backend.ErrUnavailable, ""},
		{"others may read", write("a", 0o604), backend.ErrNotPermitted, "0604"},
		{"others may write", write("b", 0o602), backend.ErrNotPermitted, "chmod 600"},
		{"group may write", write("c", 0o620), backend.ErrNotPermitted, "0620"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if runtime.GOOS == "windows" && test.want == backend.ErrNotPermitted {
				t.Skip("Windows has no permission bits")
			}
			_, err := OpenFile(test.path, testPassphrase, cheap)
			wantError(t, err, test.want, test.says)
		})
	}
	group := openTest(t, write("d", 0o640))
	must(group.Generate(t.Context(), Params{KeyName: "n", KeyType: Ed25519}, nil))
	if perm := must(os.Stat(filepath.Join(dir, "d"))).Mode().Perm(); runtime.GOOS != "windows" && perm != 0o640 {
		t.Errorf("after a save the permissions are %o, want them kept", perm)
	}
}

// TestFileThroughSymlink checks that a save changes the file that a symbolic link leads to and leaves the link.
func TestFileThroughSymlink(t *testing.T) {
	path, _ := storeFile(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Skip(err)
	}
	must(openTest(t, link).Generate(t.Context(), Params{KeyName: "n", KeyType: Ed25519}, nil))
	if must(os.Lstat(link)).Mode().Type() != fs.ModeSymlink {
		t.Error("the link was replaced")
	}
	wantNames(t, openTest(t, path), "ed", "n")
}

// TestFileTwoPrograms plays two programs on one file by two Backends, which share nothing but the file.
func TestFileTwoPrograms(t *testing.T) {
	path, _ := storeFile(t)
	a, b := openTest(t, path), openTest(t, path)
	old := must(a.Open(t.Context(), edKey)).(backend.Signer)
	stays := must(a.Generate(t.Context(), Params{KeyName: "stays", KeyType: Ed25519}, nil)).(backend.Signer)

	wantNames(t, b, "ed", "stays")
	_, err := b.Generate(t.Context(), edKey, nil)
	wantError(t, err, backend.ErrKeyExists)
	now := must(b.Generate(t.Context(), edKey, &backend.GenerateOptions{Replace: true}))

	// a has not looked yet: its handle goes on as what it was.
	sig, err := old.SignContext(t.Context(), []byte("m"), crypto.Hash(0))
	if err != nil || backend.Verify(old.Public(), []byte("m"), sig, crypto.Hash(0)) != nil {
		t.Errorf("before the change was noticed: %v, or a signature of another key", err)
	}
	if err := a.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = old.SignContext(t.Context(), []byte("m"), crypto.Hash(0))
	wantError(t, err, backend.ErrKeyChanged, old.ID())
	if _, err := stays.SignContext(t.Context(), []byte("m"), crypto.Hash(0)); err != nil {
		t.Errorf("the key that was not replaced: %v", err)
	}
	if got := must(a.Open(t.Context(), edKey)).ID(); got != now.ID() {
		t.Errorf("got %q, want %q", got, now.ID())
	}

	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			must([]*Backend{a, b}[i%2].Generate(t.Context(), Params{KeyName: fmt.Sprint("k", i), KeyType: Ed25519}, nil))
		})
	}
	wg.Wait()
	want := []string{"ed", "k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "k9", "stays"}
	wantNames(t, a, want...)
	wantNames(t, b, want...)
}

// TestFileChangesUnderfoot checks what becomes of a Backend whose file is removed, damaged or exchanged: calls that need
// the file fail, keys that are open work on, and all is well when the file is.
func TestFileChangesUnderfoot(t *testing.T) {
	path, data := storeFile(t)
	b := openTest(t, path)
	key := must(b.Open(t.Context(), edKey)).(backend.Signer)
	otherPath, _ := storeFile(t)
	damaged := bytes.Clone(data)
	damaged[len(damaged)-1] ^= 1
	for _, test := range []struct {
		name string
		data []byte
		want error
		says string
	}{
		{"removed", nil, fs.ErrNotExist, ""},
		{"damaged", damaged, backend.ErrCredentials, "damaged"},
		{"cut off", data[:100], ErrFormat, "does not begin with a line"},
		{"another store", must(os.ReadFile(otherPath)), backend.ErrUnavailable, "opened anew"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if test.data != nil {
				if err := os.WriteFile(path, test.data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, openErr := b.Open(t.Context(), edKey)
			_, generateErr := b.Generate(t.Context(), Params{KeyName: "n", KeyType: Ed25519}, nil)
			for _, err := range []error{openErr, generateErr, b.Ping(t.Context())} {
				wantError(t, err, test.want, test.says)
			}
			if got, _ := os.ReadFile(path); !bytes.Equal(got, test.data) {
				t.Error("the file was written to")
			}
			if _, err := key.SignContext(t.Context(), nil, crypto.Hash(0)); err != nil {
				t.Errorf("the open key: %v", err)
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := b.Ping(t.Context()); err != nil {
				t.Errorf("with the file back: %v", err)
			}
		})
	}
}

func TestFileFull(t *testing.T) {
	path, data := storeFile(t)
	b := openTest(t, path)
	big := map[string]*entry{}
	m := must(symmetricMaterial(HMAC, make([]byte, 512)))
	for i := range maxFile / 700 {
		name := fmt.Sprintf("%0*d", MaxKeyName, i)
		big[name] = newEntry(name, "0123456789abcdef", m)
	}
	err := b.store.file.save(big)
	wantError(t, err, backend.ErrUnavailable, "full", fmt.Sprint(maxFile))
	if !bytes.Equal(must(os.ReadFile(path)), data) {
		t.Error("the file was written to")
	}
}

// TestFileLockIsWaitedFor checks that a change waits while another program holds the lock, leaves when its context ends,
// and goes on when the lock is given back.
func TestFileLockIsWaitedFor(t *testing.T) {
	path, _ := storeFile(t)
	b := openTest(t, path)
	unlock, err := osDisk{}.Lock(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (osDisk{}).Lock(path + ".lock"); !errors.Is(err, errLocked) {
		t.Skipf("no lock on this system: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	generate := func(ctx context.Context) {
		_, err := b.Generate(ctx, Params{KeyName: "n", KeyType: Ed25519}, nil)
		done <- err
	}
	// Its third wait is that for the other program, after those for the store and for this program's own writers.
	queued := &watchedContext{Context: ctx, nth: 3, reached: make(chan struct{})}
	go generate(queued)
	<-queued.reached
	if _, err := b.Open(t.Context(), edKey); err != nil { // reading needs no lock
		t.Error(err)
	}
	cancel()
	wantError(t, <-done, context.Canceled)
	go generate(t.Context())
	unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
	wantNames(t, b, "ed", "n")
}

// identity is another text for every other key.
func identity(key backend.Key) string {
	public, _ := backend.Fingerprint(key.Public()) // symmetric keys have none
	return fmt.Sprintf("%s %x", key.ID(), public)
}
