package transit

import (
	"context"
	"time"

	"github.com/managedkeys/managedkeys/internal/removal"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// RemoveMount removes everything that the engine of a mount has in a store: keys, software ones with all their versions, and settings. id
// is that of the mount, which must have been removed for good: what software keys have encrypted can't be decrypted any more. No managed
// key is touched. Package transit/httpapi does so when a mount is removed.
//
// It goes on page by page, and returns how many records were removed; what is left if it fails, or the process ends, is removed by
// [FinishRemovals]. The error wraps backend.ErrInvalidParams if id is no UUID, or is that of the store.
func RemoveMount(ctx context.Context, st store.Store, id string) (int, error) {
	return removal.Mount(ctx, st, "transit", id, time.Now())
}

// FinishRemovals goes on with all that RemoveMount has begun, in whatever process, and returns how many records it has removed. For an
// hour it removes also what others have written late. Package transit/httpapi calls it from time to time.
func FinishRemovals(ctx context.Context, st store.Store) (int, error) {
	return removal.Finish(ctx, st, "transit", time.Now())
}
