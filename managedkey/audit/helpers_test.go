package audit

import (
	"context"
	"crypto"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// testKey is the audit key of the tests.
const testKey backend.Secret = "0123456789abcdef0123456789abcdef"

var (
	quiet   = slog.New(slog.NewTextHandler(io.Discard, nil))
	testRef = namespace.Ref{Namespace: "team-a", Name: "issuing-ca"}
)

// open returns a log with these sinks, which is closed at the end of the test.
func open(t testing.TB, opts *Options, sinks ...Sink) *Log {
	t.Helper()
	if opts == nil {
		opts = new(Options)
	}
	if opts.Logger == nil {
		opts.Logger = quiet
	}
	l, err := New(testKey, sinks, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// signer returns a handle to a key that log sees.
func signer(t testing.TB, log managedkey.Observer) *managedkey.Key {
	t.Helper()
	b := software.New(nil)
	t.Cleanup(func() { b.Close() })
	r := managedkey.NewRegistry()
	err := r.Create(t.Context(), managedkey.Entry{Ref: testRef, Backend: b, AllowGenerateKey: true,
		Params: software.Params{KeyName: "k", KeyType: software.ECDSA, Curve: software.P256}})
	if err != nil {
		t.Fatal(err)
	}
	k, err := r.Key(t.Context(), testRef)
	if err != nil {
		t.Fatal(err)
	}
	r.Observe(log)
	return k
}

// sign makes one operation.
func sign(k *managedkey.Key, ctx context.Context) error {
	_, err := k.SignContext(ctx, make([]byte, 32), crypto.SHA256)
	return err
}

// fileIn returns the path of a log in a folder of its own.
func fileIn(t testing.TB) string { return filepath.Join(t.TempDir(), "audit.log") }

// lines returns the lines of a file, each with its line break.
func lines(t testing.TB, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.SplitAfter(string(data), "\n")
	return all[:len(all)-1] // what is after the last line break, mostly nothing, is no line
}

// whole fails unless the files of path are one chain, and returns what was found.
func whole(t testing.TB, path string, heads ...Head) *Report {
	t.Helper()
	r, err := VerifyFiles(testKey, path, heads...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// written returns a file with n operations, closed.
func written(t testing.TB, n int, opts *Options, f File) string {
	t.Helper()
	if f.Path == "" {
		f.Path = fileIn(t)
	}
	l := open(t, opts, f)
	k := signer(t, l)
	for range n {
		if err := sign(k, t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Path
}

// count returns how many lines have a text.
func count(all []string, text string) (n int) {
	for _, l := range all {
		if strings.Contains(l, text) {
			n++
		}
	}
	return n
}
