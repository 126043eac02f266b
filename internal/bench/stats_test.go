package main

import (
	"math"
	"slices"
	"testing"
)

func TestQuantile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, c := range []struct {
		x    []float64
		q    float64
		want float64
	}{
		{[]float64{7}, 0.5, 7},
		{[]float64{7}, 0.99, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{5, 4, 3, 2, 1}, 0, 1},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
	} {
		if got := quantile(c.x, c.q); got != c.want {
			t.Errorf("quantile(%v, %v) = %v; want %v", c.x, c.q, got, c.want)
		}
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("quantile of nothing = %v; want NaN", got)
	}
	x := []float64{3, 1, 2}
	if quantile(x, 0.5); !slices.Equal(x, []float64{3, 1, 2}) {
		t.Errorf("quantile changed its input to %v", x)
	}
}

// The ratio is the median of the rounds' ratios: that of the medians would be 1 here.
func TestRatio(t *testing.T) {
	if got := ratio([]float64{1, 2, 3}, []float64{2, 1, 2}); got != 1.5 {
		t.Errorf("ratio = %v; want 1.5", got)
	}
	if got := ratio([]float64{}, []float64{1}); !math.IsNaN(got) {
		t.Errorf("ratio of what can't be done = %v; want NaN", got)
	}
}

func TestNoise(t *testing.T) {
	if got := noise([]float64{90, 100, 110}); got != 10 {
		t.Errorf("noise = %v %%; want 10", got)
	}
	if got := noise(nil); !math.IsNaN(got) {
		t.Errorf("noise of nothing = %v; want NaN", got)
	}
}

func TestCell(t *testing.T) {
	if got := cell("%.2f", 0.126); got != "0.13" {
		t.Errorf("cell = %q; want 0.13", got)
	}
	if got := cell("%.2f", math.NaN()); got != "–" {
		t.Errorf("cell of NaN = %q; want a dash", got)
	}
}

func TestWaitsSummary(t *testing.T) {
	even := waits{{1, 1}, {1, 1}, {1, 1}}
	if got, want := even.summary(), []float64{1, 1, 1, 1, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("summary of equal waits = %v; want %v", got, want)
	}
	uneven := waits{{2, 2}, {1, 1, 1, 1}, {8}, {2, 2}, {}}
	// p50, p99, max; mean waits 2, 1, 8, 2; counts 2, 4, 1, 2, 0
	if got, want := uneven.summary(), []float64{2, 8, 8, 4, 2, 0}; !slices.Equal(got, want) {
		t.Errorf("summary = %v; want %v", got, want)
	}
	for i, x := range (waits{{}, {}}).summary() {
		if !math.IsNaN(x) {
			t.Errorf("figure %d of no waits = %v; want NaN", i, x)
		}
	}
}

// The value is that of the formula, computed elsewhere.
func TestWelch(t *testing.T) {
	a, b := []float64{20.4, 24.2, 15.4, 21.4, 20.2, 18.5, 21.5}, []float64{20.2, 16.9, 18.5, 17.3, 20.5}
	if got := welch(a, b); math.Abs(got-1.2204174122277793) > 1e-12 || welch(b, a) != -got {
		t.Errorf("welch = %v", got)
	}
	if got := welch([]float64{1, 1}, []float64{1, 1, 1}); !math.IsNaN(got) {
		t.Errorf("welch of what doesn't vary = %v; want NaN", got)
	}
	if got := welch([]float64{1}, []float64{1, 2}); !math.IsNaN(got) {
		t.Errorf("welch of one value = %v; want NaN", got)
	}
}

func TestBelow(t *testing.T) {
	x := []float64{3, 1, 2}
	if got := below(x, 2); !slices.Equal(got, []float64{1, 2}) || !slices.Equal(x, []float64{3, 1, 2}) {
		t.Errorf("got %v of %v", got, x)
	}
}
