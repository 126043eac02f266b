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

// welch returns Welch's t of two samples, or NaN if one has fewer than two values or both have no variance.
func welch(a, b []float64) float64 {
	if len(a) < 2 || len(b) < 2 {
		return math.NaN()
	}
	squares := func(x []float64) float64 { // of the standard error
		m, sum := mean(x), 0.0
		for _, v := range x {
			sum += (v - m) * (v - m)
		}
		return sum / float64(len(x)-1) / float64(len(x))
	}
	if error2 := squares(a) + squares(b); error2 > 0 {
		return (mean(a) - mean(b)) / math.Sqrt(error2)
	}
	return math.NaN()
}

// below returns the values that are not above most.
func below(x []float64, most float64) []float64 {
	return slices.DeleteFunc(slices.Clone(x), func(v float64) bool { return v > most })
}

// cell formats x as a format of fmt says, and a figure that doesn't exist as a dash.
func cell(format string, x float64) string {
	if math.IsNaN(x) {
		return "–"
	}
	return fmt.Sprintf(format, x)
}
