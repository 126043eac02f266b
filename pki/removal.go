package pki

import (
	"context"
	"time"

	"github.com/managedkeys/managedkeys/internal/removal"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// RemoveMount removes everything that the authority of a mount has in a store: issuers, certificates, revocations and CRLs. id is that of
// the mount, which must have been removed for good: nothing can be revoked afterwards, and serial numbers are forgotten. Private
// keys that KeepSoftwareKey has stored go too, and no managed key is touched. Package pki/httpapi does so when a mount is removed.
//
// It goes on page by page, and returns how many records were removed; what is left if it fails, or the process ends, is removed by
// [FinishRemovals]. The error wraps backend.ErrInvalidParams if id is no UUID, or is that of the store.
func RemoveMount(ctx context.Context, st store.Store, id string) (int, error) {
	return removal.Mount(ctx, st, "pki", id, time.Now())
}

// FinishRemovals goes on with all that RemoveMount has begun, in whatever process, and returns how many records it has removed. For an
// hour it removes also what others have written late. Package pki/httpapi calls it from time to time.
func FinishRemovals(ctx context.Context, st store.Store) (int, error) {
	return removal.Finish(ctx, st, "pki", time.Now())
}
