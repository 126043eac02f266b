package readme

import (
	"context"
	"log"
	"time"

	"github.com/managedkeys/managedkeys/pki"
)

var _ = expiring // as in snippets_test.go

func expiring(ctx context.Context, ca *pki.Authority, page func(pki.ExpiryKind, time.Time, string)) error {
	watch, err := ca.WatchExpiry(&pki.ExpiryOptions{
		Thresholds: []time.Duration{30 * 24 * time.Hour, 7 * 24 * time.Hour, 24 * time.Hour}, // as without it
		Notify:     func(ctx context.Context, e pki.ExpiryEvent) { page(e.Kind, e.NotAfter, e.String()) },
	})
	if err != nil {
		return err
	}
	stop, err := watch.Measure(nil) // of the program's OpenTelemetry SDK
	if err != nil {
		return err
	}
	defer stop()
	return watch.Run(ctx, func(err error) { log.Print(err) })
}
