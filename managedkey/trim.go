package managedkey

import (
	"context"
	"fmt"
	"strconv"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// Trim takes the versions of the entry's key that are older than oldest out of it, and never the keys themselves. Their handles
// stop working. The error wraps backend.ErrInvalidParams unless oldest is one of the entry's versions and the entry has a
// MinDecryptionVersion that is not below it, so that nothing is lost that is still allowed; or backend.ErrKeyNotFound.
func (r *Registry) Trim(ctx context.Context, ref namespace.Ref, oldest int) (err error) {
	ctx, done, err := r.begin(ctx, "trim", ref, func(op *Operation) { op.Options = "oldest " + strconv.Itoa(oldest) })
	if err != nil {
		return err
	}
	defer done(&err)
	if ctx.Err() != nil {
		return fail("trim", ref, "", backend.ContextError(ctx))
	}
	e, err := r.lookup("trim", ref)
	if err != nil {
		return err
	}
	if r.kept != nil {
		err = r.kept.amend(ctx, ref, func(record *entryRecord, _ uint64) (bool, error) {
			if record.UUID != e.id {
				return false, errAbsent
			}
			first := record.KeyVersion - len(record.Older)
			if err := trimmable(oldest, first, record.KeyVersion, record.MinDecrypt); err != nil {
				return false, err
			}
			record.Older = record.Older[oldest-first:]
			return oldest != first, nil
		})
	} else {
		e.space.mu.Lock()
		in := e.export()
		if err = trimmable(oldest, in.KeyVersion-len(in.Older), in.KeyVersion, in.MinDecryptionVersion); err == nil {
			e.trim(uint32(oldest))
		}
		e.space.mu.Unlock()
	}
	if err != nil {
		return fail("trim", ref, e.kind(), err)
	}
	return nil
}

func trimmable(oldest, first, newest, minDecryption int) error {
	switch {
	case oldest < first || oldest > newest:
		return fmt.Errorf("there is no version %d; there are %d to %d: %w", oldest, first, newest, backend.ErrInvalidParams)
	case oldest > max(minDecryption, first):
		return fmt.Errorf("version %d is above MinDecryptionVersion, %d, so that older ones are still in use: %w", oldest, minDecryption, backend.ErrInvalidParams)
	}
	return nil
}
