package audit_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/audit"
	"github.com/managedkeys/managedkeys/namespace"
)

// Every use of a key is in the file before the key is used, and the file is checked afterwards.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "audit")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "audit.log")
	os.Setenv("AUDIT_KEY", "0123456789abcdef0123456789abcdef") // mostly a file: head -c 32 /dev/urandom | base64

	log, err := audit.New("env:AUDIT_KEY", []audit.Sink{audit.File{Path: path}}, &audit.Options{FailClosed: audit.AllSinks})
	if err != nil {
		panic(err)
	}
	keys := managedkey.NewRegistry()
	keys.Observe(log)
	b := software.New(nil)
	defer b.Close()
	ref := namespace.Ref{Namespace: "team-a", Name: "issuing-ca"}
	err = keys.Create(ctx, managedkey.Entry{Ref: ref, Backend: b, AllowGenerateKey: true,
		Params: software.Params{KeyName: "ca", KeyType: software.ECDSA, Curve: software.P256}})
	if err != nil {
		panic(err)
	}
	key, err := keys.Key(ctx, ref)
	if err != nil {
		panic(err)
	}
	digest := sha256.Sum256([]byte("to be signed"))
	ctx = managedkey.WithActor(ctx, managedkey.Actor{ID: "accessor-17", Address: "192.0.2.7:4711"})
	if _, err := key.SignContext(ctx, digest[:], crypto.SHA256); err != nil {
		panic(err)
	}
	if err := log.Close(); err != nil {
		panic(err)
	}

	report, err := audit.VerifyFiles("env:AUDIT_KEY", path, log.Heads()[path])
	fmt.Println(report.Lines, "lines,", len(report.Open), "requests without an outcome, error", err)

	data, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		panic(err)
	}
	report, err = audit.VerifyFiles("env:AUDIT_KEY", path)
	fmt.Println(len(report.Problems), "problem:", err != nil)
	// Output:
	// 11 lines, 0 requests without an outcome, error <nil>
	// 1 problem: true
}
