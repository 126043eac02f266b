//go:build !unix

package main

import "math"

// cpuSeconds returns NaN: this system isn't asked.
func cpuSeconds() float64 { return math.NaN() }
