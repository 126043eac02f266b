package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// testClose checks that Close ends watches, lets transactions end, and that nothing works afterwards.
func testClose(s *suite) {
	st := s.cfg.New(s.TB)()
	s.fill(st, "x/", 3)
	from := s.now(st)
	watch := make(chan error, 1)
	go func() {
		for _, err := range st.Watch(s.ctx, "y/", from) {
			watch <- err
			return
		}
		watch <- nil
	}()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := 0; ; j++ {
				_, err := st.Apply(s.ctx, store.Op{Key: fmt.Sprintf("c/%d", i), Value: fmt.Append(nil, j), Expect: store.Any})
				if err != nil {
					if !errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrUnknownOutcome) {
						s.Errorf("Apply while the store is closed: %v", err)
					}
					return
				}
			}
		})
	}
	for range 2 {
		if err := st.Close(); err != nil {
			s.Errorf("Close: %v", err)
		}
	}
	wg.Wait()
	select {
	case err := <-watch:
		s.fails("Watch", err, store.ErrClosed)
	case <-time.After(callTimeout):
		s.Fatal("Watch goes on after Close")
	}
	_, err := st.Get(s.ctx, "a")
	s.fails("Get", err, store.ErrClosed)
	s.fails("Get", err, backend.ErrClosed)
	_, err = st.List(s.ctx, "", "", 1)
	s.fails("List", err, store.ErrClosed)
	_, err = st.Apply(s.ctx, store.Op{Key: "a"})
	s.fails("Apply", err, store.ErrClosed)
	s.fails("Watch", s.ends(s.ctx, st, "", 0), store.ErrClosed)
}

// testReopen checks that another handle finds what the first one left, history included, and that revisions go on.
func testReopen(s *suite) {
	if s.cfg.Transient {
		return
	}
	open := s.cfg.New(s.TB)
	st := open()
	want := s.history(st)
	last := want[len(want)-1].Revision
	if err := st.Close(); err != nil {
		s.Fatalf("Close: %v", err)
	}
	st = open()
	s.closeLater(st)
	s.has(st, "w/a", "5", last)
	s.sameEvents("after reopening", s.watched(st, "", 0, len(want)), want)
	if v := s.apply(st, store.Op{Key: "w/d"}); v <= last {
		s.Errorf("version %d after reopening, %d before", v, last)
	}
}
