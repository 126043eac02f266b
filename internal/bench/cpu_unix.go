//go:build unix

package main

import (
	"math"
	"syscall"
	"time"
)

// cpuSeconds returns the processor time of this process so far, or NaN.
func cpuSeconds() float64 {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return math.NaN()
	}
	return (time.Duration(used.Utime.Nano()) + time.Duration(used.Stime.Nano())).Seconds()
}
