// Command bench measures this library beside its baselines in one run and prints each figure with its ratio.
//
// Each contender signs in a process of its own, because a PKCS#11 module's state belongs to the process. In every round
// all contenders run one after the other on the same key, so that a machine whose speed drifts treats them alike; a
// ratio is the median of the rounds' ratios and not the ratio of medians.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/internal/softhsm"
)

var (
	rounds = flag.Int("rounds", 5, "rounds; the figures are medians")
	window = flag.Duration("window", 300*time.Millisecond, "how long each contender signs in a round")
	child  = flag.String("child", "", "used by the program itself: sign as this contender, as told on standard input")
)

// algorithms are what is measured; each contender knows them by these names.
var algorithms = []string{"ECDSA P-256", "RSA-2048 PKCS#1", "RSA-2048 PSS"}

var goroutines = []int{1, 8, 64}

func main() {
	flag.Parse()
	err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	if *child != "" {
		return serve(*child, os.Stdin, os.Stdout)
	}
	dir, err := os.MkdirTemp("", "managedkeys-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	token, err := softhsm.New(dir, "bench")
	if err != nil {
		return err
	}
	if err := makeKeys(token); err != nil {
		return err
	}
	if err := signing(token); err != nil {
		return err
	}
	return registry()
}

// process is a contender's process.
type process struct {
	name string
	cmd  *exec.Cmd
	in   *bufio.Writer
	out  *bufio.Scanner
}

func start(name string, token *softhsm.Token) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-child", name)
	cmd.Env = append(os.Environ(), tokenEnv(token)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &process{name, cmd, bufio.NewWriter(in), bufio.NewScanner(out)}, cmd.Start()
}

// rate lets the process sign for a window and returns signatures per second.
func (p *process) rate(algorithm string, n int) (float64, error) {
	fmt.Fprintf(p.in, "%s\t%d\t%s\n", algorithm, n, *window)
	if err := p.in.Flush(); err != nil {
		return 0, fmt.Errorf("%s: %w", p.name, err)
	}
	if !p.out.Scan() {
		return 0, fmt.Errorf("%s: ended early", p.name)
	}
	var rate float64
	_, err := fmt.Sscan(p.out.Text(), &rate)
	return rate, err
}

// signing prints the table of signing rates.
func signing(token *softhsm.Token) error {
	var processes []*process
	for _, name := range contenderNames {
		p, err := start(name, token)
		if err != nil {
			return err
		}
		defer func() {
			p.cmd.Process.Kill()
			p.cmd.Wait()
		}()
		processes = append(processes, p)
	}
	fmt.Printf("Signatures per second, median of %d rounds of %v; ratios within a round.\n\n", *rounds, *window)
	fmt.Printf("%-16s %10s | %8s %8s %5s | %8s %8s %5s %8s %5s\n",
		"algorithm", "goroutines", "software", "crypto/*", "ratio", "SoftHSM2", "crypto11", "ratio", "miekg", "ratio")
	for _, algorithm := range algorithms {
		for _, n := range goroutines {
			rates := make(map[string][]float64)
			for round := range *rounds + 1 {
				for _, p := range processes {
					rate, err := p.rate(algorithm, n)
					if err != nil {
						return err
					}
					if round > 0 { // the first round warms up
						rates[p.name] = append(rates[p.name], rate)
					}
				}
			}
			fmt.Printf("%-16s %10d | %8.0f %8.0f %5.2f | %8.0f %8.0f %5.2f %8.0f %5.2f\n", algorithm, n,
				median(rates["software"]), median(rates["stdlib"]), ratio(rates["software"], rates["stdlib"]),
				median(rates["pkcs11"]), median(rates["crypto11"]), ratio(rates["pkcs11"], rates["crypto11"]),
				median(rates["miekg"]), ratio(rates["pkcs11"], rates["miekg"]))
		}
	}
	fmt.Println(strings.TrimSpace(`

software: backend/software, with its ratio to crypto/ecdsa and crypto/rsa called directly.
SoftHSM2: backend/pkcs11, which verifies each signature before it returns it, with its ratios to crypto11 and to
miekg/pkcs11 (a session per goroutine; its ECDSA result is left as r ‖ s), which don't.`))
	return nil
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

// ratio returns the median of a[i]/b[i].
func ratio(a, b []float64) float64 {
	r := make([]float64, len(a))
	for i := range a {
		r[i] = a[i] / b[i]
	}
	return median(r)
}
