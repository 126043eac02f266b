package main

import (
	"fmt"
	"math"
	"slices"
)

// median returns NaN if x is empty.
func median(x []float64) float64 { return quantile(x, 0.5) }

// quantile returns the smallest of x that at least the share q of x doesn't exceed, or NaN if x is empty.
func quantile(x []float64, q float64) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	x = slices.Sorted(slices.Values(x))
	return x[max(0, int(math.Ceil(q*float64(len(x))))-1)]
}

// ratio returns the median of a[i]/b[i], or NaN if one is empty.
func ratio(a, b []float64) float64 {
	r := make([]float64, min(len(a), len(b)))
	for i := range r {
		r[i] = a[i] / b[i]
	}
	return median(r)
}

// noise returns half the range of x in percent of its median.
func noise(x []float64) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	return 50 * (slices.Max(x) - slices.Min(x)) / median(x)
}

func mean(x []float64) float64 {
	var sum float64
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// cell formats x as a format of fmt says, and a figure that doesn't exist as a dash.
func cell(format string, x float64) string {
	if math.IsNaN(x) {
		return "–"
	}
	return fmt.Sprintf(format, x)
}
