package pki_test

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"log/slog"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/pki"
)

// A watch tells what expires before it does. In a program, Run looks from time to time, and Measure makes metrics of it.
func ExampleAuthority_WatchExpiry() {
	ctx := context.Background()
	now := time.Now()
	ca, err := pki.OpenAuthority(ctx, mount(ctx, "root"), memory.New(nil), &pki.Options{Now: func() time.Time { return now }})
	if err != nil {
		log.Fatal(err)
	}
	root := pki.CATemplate{Subject: pkix.Name{CommonName: "Example Root"}, Validity: 10 * 365 * 24 * time.Hour}
	if _, err := ca.GenerateRoot(ctx, pki.KeyRef{Name: "root"}, "root-2026", root); err != nil {
		log.Fatal(err)
	}
	role := pki.NewRole("web")
	role.KeyType, role.AllowAnyName, role.TTL = "ec", true, pki.Duration(90*24*time.Hour)
	if err := ca.PutRole(ctx, role); err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"www.example.com", "mail.example.com"} {
		if _, err := ca.Issue(ctx, "web", pki.IssueRequest{CommonName: name}); err != nil {
			log.Fatal(err)
		}
	}

	watch, err := ca.WatchExpiry(&pki.ExpiryOptions{
		Notify: func(_ context.Context, e pki.ExpiryEvent) {
			fmt.Println(e.Kind, e.Certificate.Subject.CommonName, e.Threshold)
		},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		log.Fatal(err)
	}
	now = now.Add(61 * 24 * time.Hour)
	if _, err := ca.Issue(ctx, "web", pki.IssueRequest{CommonName: "mail.example.com"}); err != nil { // in time
		log.Fatal(err)
	}
	for range 2 { // the second one has nothing new to tell; in a program: go watch.Run(ctx, report)
		if err := watch.Check(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// certificate www.example.com 720h0m0s
}
