package transit

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// Result is what one item of a batch came to. In the API's words, Value is the ciphertext, plaintext, signature, and so on.
type Result[T any] struct {
	Value      T
	KeyVersion int    // that was used; 0 if there is an error
	Reference  string // of the request
	Err        error  // nil if there is a Value
}

// item is a part of a batch.
type item interface {
	reference() string
	context() []byte // of a derived key
}

// batch does what op does for each request, in parallel, and returns the results in the order of the requests. Items that
// are not begun when ctx ends fail with its error; one that fails has no influence on the others. One that panics does so on the
// caller's goroutine, which may have somebody who recovers: a panic on another one would be the end of the program.
func batch[R item, T any](ctx context.Context, parallel int, requests []R, op func(ctx context.Context, r R) (T, int, error)) []Result[T] {
	results := make([]Result[T], len(requests))
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(requests) {
				return
			}
			result := &results[i]
			result.Reference = requests[i].reference()
			if result.Err = ctx.Err(); result.Err != nil {
				result.Err = fmt.Errorf("transit: item %d was not begun: %w", i, result.Err)
				continue
			}
			result.Value, result.KeyVersion, result.Err = op(ctx, requests[i])
			if result.Err != nil {
				var none T
				result.Value, result.KeyVersion = none, 0
			}
		}
	}
	var running sync.WaitGroup
	var panicked atomic.Pointer[any]
	for range min(parallel, len(requests)) - 1 {
		running.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					panicked.CompareAndSwap(nil, &p)
				}
			}()
			work()
		})
	}
	func() {
		defer running.Wait()
		work()
	}()
	if p := panicked.Load(); p != nil {
		panic(*p)
	}
	return results
}

// checkBatch refuses a batch as a whole. contexts tells whether items have contexts.
func checkBatch[R item](e *Engine, requests []R, contexts bool) error {
	switch n := len(requests); {
	case n == 0:
		return invalid("missing batch input to process")
	case n > e.opts.MaxBatch:
		return invalid("batch of %d items; it takes at most %d", n, e.opts.MaxBatch)
	}
	if !contexts {
		return nil
	}
	for i := range requests {
		if (len(requests[i].context()) > 0) != (len(requests[0].context()) > 0) {
			return invalid("context should be set either in all the request blocks or in none; item %d differs from item 0", i)
		}
	}
	return nil
}

// all does op for each request with one key, as it is when the batch begins.
func all[R item, T any](ctx context.Context, e *Engine, what, name string, contexts bool, requests []R, op func(ctx context.Context, k *key, r R) (T, int, error)) ([]Result[T], error) {
	k, err := e.usable(ctx, what, name)
	if err != nil {
		return nil, err
	}
	if err := checkBatch(e, requests, contexts); err != nil {
		return nil, err
	}
	parallel := e.opts.BatchParallel
	if !k.rec.managed() || what == verificationKey {
		parallel = e.local()
	}
	own := *k
	own.ask = new(question)
	return batch(ctx, parallel, requests, func(ctx context.Context, r R) (T, int, error) { return op(ctx, &own, r) }), nil
}

// one does op for a single request.
func one[R, T any](ctx context.Context, e *Engine, what, name string, r R, op func(ctx context.Context, k *key, r R) (T, int, error)) (T, error) {
	k, err := e.usable(ctx, what, name)
	if err != nil {
		var none T
		return none, err
	}
	value, _, err := op(ctx, k, r)
	if err != nil {
		var none T
		return none, err
	}
	return value, nil
}
