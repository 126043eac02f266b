package memory_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// A record is created, replaced under the condition that nobody else has done so, and watched.
func ExampleNew() {
	ctx := context.Background()
	s := memory.New(nil)
	defer s.Close()

	version, err := s.Apply(ctx, store.Op{Key: "entries/a", Value: []byte("first")})
	if err != nil {
		log.Fatal(err)
	}
	_, err = s.Apply(ctx,
		store.Op{Key: "entries/a", Value: []byte("second"), Expect: store.Expect(version)},
		store.Op{Key: "entries/b", Value: []byte("beside it")})
	if err != nil {
		log.Fatal(err)
	}
	_, err = s.Apply(ctx, store.Op{Key: "entries/a", Value: []byte("too late"), Expect: store.Expect(version)})
	fmt.Println("conflict:", errors.Is(err, store.ErrConflict))

	for event, err := range s.Watch(ctx, "entries/", 0) {
		if err != nil {
			log.Fatal(err)
		}
		for _, change := range event.Changes {
			fmt.Printf("%d %s = %s\n", event.Revision, change.Key, change.Value)
		}
		if event.Revision == 2 {
			break
		}
	}
	// Output:
	// conflict: true
	// 1 entries/a = first
	// 2 entries/a = second
	// 2 entries/b = beside it
}
