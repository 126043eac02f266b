// Package fakecloud has what the fakes of the cloud key managers share: scripts of faults, and logs of requests.
package fakecloud

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Fault is something that goes wrong with a request.
type Fault struct {
	Op    string // of the requests that it meets; "" means all
	Skip  int    // how many of these pass unharmed first
	Times int    // how many it then meets; 0 means 1, and a negative number all

	// After: the service does what it is asked to, and then the answer is lost. Else nothing is done.
	After bool

	Delay   time.Duration // before the request is dealt with
	Drop    bool          // the connection is closed instead of an answer
	Error   any           // the answer; of a type that the fake's package names
	Corrupt any           // changes the answer; of a type that the fake's package names
}

// Script is the faults that a fake has in store. The zero value has none.
//
// All methods are safe for concurrent use.
type Script struct {
	mu     sync.Mutex
	faults []Fault
}

// Add adds faults. Each request meets the first one that matches it.
func (s *Script) Add(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		if f.Times == 0 {
			f.Times = 1
		}
		s.faults = append(s.faults, f)
	}
}

// Clear removes all faults.
func (s *Script) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Left returns how many faults have not met as many requests as they should; those that meet all requests are not counted.
func (s *Script) Left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := 0
	for _, f := range s.faults {
		if f.Times > 0 {
			left++
		}
	}
	return left
}

// Next returns the fault that a request for op meets, and whether there is one.
func (s *Script) Next(op string) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.faults {
		f := &s.faults[i]
		if f.Op != "" && f.Op != op {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		met := *f
		if f.Times--; f.Times == 0 {
			s.faults = slices.Delete(s.faults, i, i+1)
		}
		return met, true
	}
	return Fault{}, false
}

// Wait waits for the fault's delay, and less if ctx, the request's, ends.
func (f Fault) Wait(ctx context.Context) {
	if f.Delay <= 0 {
		return
	}
	timer := time.NewTimer(f.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Request is one request that a fake has seen, whatever came of it.
type Request struct {
	Op  string // as in Fault
	Key string // which key it was about, as the request named it; "" if about none
	ID  string // that the service gave the request; "" if it gave none
}

// Log is a list of requests. The zero value is empty.
//
// All methods are safe for concurrent use.
type Log struct {
	mu       sync.Mutex
	requests []Request
}

// Add appends a request.
func (l *Log) Add(r Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, r)
}

// Requests returns the requests for op, or all if op is "", in the order in which they came.
func (l *Log) Requests(op string) []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	var some []Request
	for _, r := range l.requests {
		if op == "" || r.Op == op {
			some = append(some, r)
		}
	}
	return some
}

// Count returns the number of requests for op, or of all if op is "".
func (l *Log) Count(op string) int { return len(l.Requests(op)) }

// Clear forgets the requests.
func (l *Log) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = nil
}
