package azurekeyvault

import (
	"context"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

const (
	bitsTag       = "managedkeys-key-bits"
	generationTag = "managedkeys-generation"
	settleTime    = time.Second + 50*time.Millisecond
)

func pending(tags map[string]*string) bool { return false }

func (c *connection) choose(ctx context.Context, name string, settle time.Duration) (string, error) {
	return "", backend.ErrKeyNotFound
}
