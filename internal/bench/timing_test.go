package main

import (
	"context"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/managedkeys/managedkeys/backend/software"
)

// TestTiming: every class is decrypted or refused as it must be, and has a row. What the figures are is not looked at.
func TestTiming(t *testing.T) {
	b := software.New(nil)
	defer b.Close()
	keys, e, err := newTimed(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	rows := 0
	for _, k := range keys {
		for range 2 {
			if err := k.measure(e, 0); err != nil {
				t.Fatalf("%s: %v", k.name, err)
			}
		}
		k.print(w)
		rows += len(k.classes)
	}
	if w.Flush(); strings.Count(out.String(), "\n") != rows || rows < 20 {
		t.Errorf("%d rows:\n%s", rows, out.String())
	}

	// A class that is decrypted though it must not be stops the table.
	k := keys[0]
	k.classes = k.classes[:1]
	k.classes[0].times = nil
	k.classes[0].texts = keys[0].classes[:cap(k.classes)][6].texts
	if err := k.measure(e, 0); err == nil || !strings.Contains(err.Error(), "class first byte of the tag") {
		t.Errorf("got %v", err)
	}
}
