package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// unsupported begins the answer to what a contender can't do.
const unsupported = "unsupported"

// operation does one of the measured operations. It is called from many goroutines.
type operation func() error

// contender is how one library does what is measured. What is nil it can't do.
type contender struct {
	// open opens the keys of the token and returns the operations by their names.
	open func() (map[string]operation, error)

	// cold loads the module, finds the key pair with that label and signs once.
	cold func(label string) error

	// keys loads the module and opens one key pair after the other, by label, until the time is over. It returns how many.
	keys func(labels []string, limit time.Duration) (int, error)

	// narrow returns ECDSA signing that may use the token for so many operations at once.
	narrow func(parallel int) (operation, error)

	// lists makes the revocation lists of a new store in the file path.
	lists func(path string, entries, shards int) (crlCost, error)
}

// session is a contender in its process.
type session struct {
	contender
	opened map[string]operation
}

// serve answers lines of a command and its arguments, separated by tabs:
//
//	rate    ALGORITHM GOROUTINES NS   operations per second, and per second of processor time
//	allocs  ALGORITHM OPERATIONS      allocations and bytes per operation
//	cold    LABEL                     ns to the first signature
//	keys    KEYS NS                   keys opened, and ns, of at most that many keys in about that time
//	queue   PARALLEL GOROUTINES NS    see waits.summary
//	lists   FILE ENTRIES SHARDS       see crlCost
func serve(name string, in io.Reader, out io.Writer) error {
	c, ok := contenders[name]
	if !ok {
		return fmt.Errorf("no contender %q", name)
	}
	s := &session{contender: c}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		fields := strings.Split(lines.Text(), "\t")
		answer, err := s.answer(fields[0], fields[1:])
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			fmt.Fprintf(out, "%s\t%s\n", unsupported, strings.Join(strings.Fields(err.Error()), " "))
		case err != nil:
			return fmt.Errorf("%s: %q: %w", name, fields, err)
		default:
			fmt.Fprintln(out, strings.Join(answer, "\t"))
		}
	}
	return nil
}

func (s *session) answer(command string, arguments []string) ([]string, error) {
	// Algorithm, label or file, if there is one, comes first; the rest are integers.
	var text string
	if n := len(arguments); n > 0 && slices.Contains([]string{"rate", "allocs", "cold", "lists"}, command) {
		text, arguments = arguments[0], arguments[1:]
	}
	n := make([]int, 3)
	for i, a := range arguments[:min(len(arguments), len(n))] {
		var err error
		if n[i], err = strconv.Atoi(a); err != nil {
			return nil, err
		}
	}
	switch {
	case command == "rate" && s.open != nil:
		op, err := s.operation(text)
		if err != nil {
			return nil, err
		}
		speed, err := measure(op, n[0], time.Duration(n[1]))
		return numbers(speed.rate, speed.cpu), err
	case command == "allocs" && s.open != nil:
		op, err := s.operation(text)
		if err != nil {
			return nil, err
		}
		return allocations(op, n[0])
	case command == "cold" && s.cold != nil:
		start := time.Now()
		err := s.cold(text)
		return numbers(float64(time.Since(start))), err
	case command == "keys" && s.keys != nil:
		start := time.Now()
		opened, err := s.keys(pairLabels(n[0]), time.Duration(n[1]))
		return numbers(float64(opened), float64(time.Since(start))), err
	case command == "queue" && s.narrow != nil:
		op, err := s.narrow(n[0])
		if err != nil {
			return nil, err
		}
		return wait(op, n[1], time.Duration(n[2]))
	case command == "lists" && s.lists != nil:
		c, err := s.lists(text, n[0], n[1])
		return numbers(c.cpu, c.base, c.peak, c.resident, c.entries), err
	}
	return nil, fmt.Errorf("%s: %w", command, errors.ErrUnsupported)
}

// operation returns the operation, done once. The error wraps errors.ErrUnsupported if the contender can't do it.
func (s *session) operation(algorithm string) (operation, error) {
	if s.opened == nil {
		var err error
		if s.opened, err = s.open(); err != nil {
			return nil, err
		}
	}
	op := s.opened[algorithm]
	if op == nil {
		return nil, fmt.Errorf("%s: %w", algorithm, errors.ErrUnsupported)
	}
	return op, op()
}

// numbers returns an answer of figures.
func numbers(x ...float64) []string {
	text := make([]string, len(x))
	for i, v := range x {
		text[i] = fmt.Sprint(v)
	}
	return text
}

// pairLabels are those of the first n key pairs that the C program's command fill makes.
func pairLabels(n int) []string {
	labels := make([]string, n)
	for i := range labels {
		labels[i] = fmt.Sprintf("k-%04d", i)
	}
	return labels
}

// openEach calls open for the labels until limit is over.
func openEach(labels []string, limit time.Duration, open func(label string) error) (int, error) {
	end := time.Now().Add(limit)
	for i, label := range labels {
		if i > 0 && time.Now().After(end) {
			return i, nil
		}
		if err := open(label); err != nil {
			return i, fmt.Errorf("%s: %w", label, err)
		}
	}
	return len(labels), nil
}
