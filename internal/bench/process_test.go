package main

import (
	"errors"
	"strings"
	"testing"
)

// The C program must answer to every name that Go knows, with figures that an idle one couldn't give.
func TestProgramAnswers(t *testing.T) {
	w := place(t, true)
	token, err := w.token()
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.start(contenderC, token)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	for _, algorithm := range algorithms {
		for _, threads := range []int{1, 64} {
			if x, err := p.numbers(2, "rate", algorithm, threads, 5_000_000); err != nil || x[0] <= 0 || x[1] <= 0 {
				t.Errorf("%s, %d threads: %v, %v; want a positive rate", algorithm, threads, x, err)
			}
		}
	}
	// Three key pairs and two secret keys; what make made is all there is.
	x, err := p.numbers(3, "sweep")
	if err != nil || x[2] != 8 {
		t.Errorf("sweep = %v, %v; want 8 objects", x, err)
	}
	if _, err := w.once(contenderC, token, "rate", "nonsense", 1, 1); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("an algorithm that doesn't exist: %v; want the end of the process", err)
	}
}

func TestProcessUnsupported(t *testing.T) {
	w := place(t, false)
	if _, err := w.once("stdlib", nil, "rate", algorithms[4], 1, 1); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("HMAC by stdlib: %v; want unsupported", err)
	}
	if x, err := w.onceNumbers(3, "stdlib", nil, "rate", algorithms[0], 1, 1); err == nil {
		t.Errorf("two numbers where three are expected: %v; want an error", x)
	}
}

func TestTokenIsMadeOnce(t *testing.T) {
	w := place(t, true)
	first, err := w.token()
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.token()
	if err != nil || first != second {
		t.Errorf("token = %v, %v; want the one that was made first", second, err)
	}
}
