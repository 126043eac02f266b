package audit

import (
	"testing"

	"github.com/managedkeys/managedkeys/managedkey"
)

// BenchmarkRecord measures what an operation waits for its record, and what that takes of memory.
func BenchmarkRecord(b *testing.B) {
	for name, c := range map[string]struct {
		sync Sync
		mode FailClosed
	}{
		"none/open": {SyncNever, FailOpen}, "none/closed": {SyncNever, AllSinks}, "every/open": {SyncEvery, FailOpen},
	} {
		b.Run(name, func(b *testing.B) {
			l := open(b, &Options{FailClosed: c.mode}, File{Path: fileIn(b), Sync: c.sync})
			op := &managedkey.Operation{Name: "sign", Ref: testRef, UUID: "4fdd7f07-0d7c-4a09-9d5b-1c3e5f5a8a55", Version: 1, Backend: "software",
				Algorithm: "ECDSA P-256", Options: "SHA-256", Input: managedkey.NewContent(make([]byte, 32)), Output: managedkey.NewContent(make([]byte, 71))}
			b.ReportAllocs()
			for b.Loop() {
				ctx, err := l.Begin(b.Context(), op)
				if err == nil {
					err = l.End(ctx, op)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
