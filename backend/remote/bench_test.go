package remote

import (
	"context"
	"testing"
	"time"
)

// BenchmarkDo measures what a call costs beside the request itself.
func BenchmarkDo(b *testing.B) {
	opts, err := (*Options)(nil).WithDefaults()
	if err != nil {
		b.Fatal(err)
	}
	c := NewConnection("kms", opts, judge(0))
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Do(ctx, c, Call{Op: "Sign"}, func(context.Context) (int, error) { return 1, nil }); err != nil {
			b.Fatal(err)
		}
	}
}
