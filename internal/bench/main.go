// Command bench measures this library beside its baselines in one run and prints each figure with its ratio.
//
// Each contender works in a process of its own, because a PKCS#11 module's state belongs to the process. In every round
// all contenders run one after the other on the same keys, so that a machine whose speed drifts treats them alike; a
// ratio is the median of the rounds' ratios and not the ratio of medians. The yardstick of the PKCS#11 tables is a C
// program (c/bench.c) that the machine's C compiler builds when it is first needed.
//
// -only chooses tables by name; without it, all are printed.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

var (
	rounds = flag.Int("rounds", 5, "rounds; the figures are medians")
	window = flag.Duration("window", 300*time.Millisecond, "how long each contender works in a round")
	only   = flag.String("only", "", "tables to print, separated by commas: "+strings.Join(tableNames(), ", ")+"; all if empty")
	child  = flag.String("child", "", "used by the program itself: work as this contender, as told on standard input")
)

// tables are what is printed, in this order.
var tables = []struct {
	name  string
	print func(*workplace) error
}{
	{"software", (*workplace).software},
	{"signing", (*workplace).signing},
	{"allocs", (*workplace).allocs},
	{"open", (*workplace).open},
	{"queue", (*workplace).queue},
	{"network", (*workplace).network},
	{"clouds", (*workplace).clouds},
	{"size", (*workplace).size},
	{"registry", (*workplace).registry},
	{"through", (*workplace).through},
	{"observed", (*workplace).observed},
	{"stored", (*workplace).stored},
	{"creates", (*workplace).creates},
	{"follow", (*workplace).follow},
	{"failover", (*workplace).failover},
	{"transit", (*workplace).transit},
	{"timing", (*workplace).timing},
	{"http", (*workplace).http},
	{"start", (*workplace).starting},
	{"issuing", (*workplace).issuing},
	{"crls", (*workplace).crls},
	{"ocsp", (*workplace).ocsp},
	{"transithttp", (*workplace).transithttp},
}

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	if *child != "" {
		return serve(*child, os.Stdin, os.Stdout)
	}
	if *rounds < 1 || *window <= 0 {
		return fmt.Errorf("-rounds is %d and -window %v; both must be positive", *rounds, *window)
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	w, err := newWorkplace()
	if err != nil {
		return err
	}
	defer w.Close()
	go w.closeOnSignal()
	for i, name := range chosen {
		if i > 0 {
			if _, err := fmt.Println(); err != nil { // nobody reads any more
				return err
			}
		}
		if err := tables[slices.Index(tableNames(), name)].print(w); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// closeOnSignal ends the program when it is told to. The tokens are in memory, which they would keep from others.
func (w *workplace) closeOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE) // a connection that breaks is an error, and no reason to end
	got := <-signals
	w.Close()
	fmt.Fprintln(os.Stderr, "bench:", got)
	os.Exit(1)
}

func tableNames() []string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.name
	}
	return names
}

// choose returns the tables that list names, in the order of tables, or all if list is empty.
func choose(list string) ([]string, error) {
	if list == "" {
		return tableNames(), nil
	}
	wanted := strings.Split(list, ",")
	for _, name := range wanted {
		if !slices.Contains(tableNames(), name) {
			return nil, fmt.Errorf("-only: there is no table %q; it takes %s", name, strings.Join(tableNames(), ", "))
		}
	}
	return slices.DeleteFunc(tableNames(), func(name string) bool { return !slices.Contains(wanted, name) }), nil
}
