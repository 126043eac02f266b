package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// process is a contender's process. It answers one line with one line.
type process struct {
	name string
	cmd  *exec.Cmd
	in   *bufio.Writer
	out  *bufio.Scanner
}

// start starts a contender's process; token may be nil.
func (w *workplace) start(name string, token *softhsm.Token) (*process, error) {
	var cmd *exec.Cmd
	if name == contenderC {
		program, err := w.compile()
		if err != nil {
			return nil, err
		}
		cmd = exec.Command(program)
	} else {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cmd = exec.Command(self, "-child", name)
	}
	cmd.Env = os.Environ()
	if token != nil {
		cmd.Env = append(cmd.Env, envModule+"="+token.Module, envLabel+"="+token.Label, envPIN+"="+token.PIN,
			"SOFTHSM2_CONF="+token.Dir+"/softhsm2.conf")
	}
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

// startAll starts the contenders. stop ends those that were started, and is never nil.
func (w *workplace) startAll(names []string, token *softhsm.Token) (processes []*process, stop func(), err error) {
	stop = func() {
		for _, p := range processes {
			p.stop()
		}
	}
	for _, name := range names {
		p, err := w.start(name, token)
		if err != nil {
			return nil, stop, err
		}
		processes = append(processes, p)
	}
	return processes, stop, nil
}

// once asks a new process of the contender one thing.
func (w *workplace) once(name string, token *softhsm.Token, fields ...any) ([]string, error) {
	p, err := w.start(name, token)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	return p.ask(fields...)
}

func (p *process) stop() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// ask sends the fields as a line and returns those of the answer. The error wraps errors.ErrUnsupported if the contender
// can't do it.
func (p *process) ask(fields ...any) ([]string, error) {
	text := make([]string, len(fields))
	for i, f := range fields {
		text[i] = fmt.Sprint(f)
	}
	fmt.Fprintln(p.in, strings.Join(text, "\t"))
	if err := p.in.Flush(); err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	if !p.out.Scan() {
		return nil, fmt.Errorf("%s: %q: ended without an answer", p.name, text)
	}
	answer := strings.Split(p.out.Text(), "\t")
	if answer[0] == unsupported {
		return nil, fmt.Errorf("%s: %s: %w", p.name, strings.Join(answer[1:], " "), errors.ErrUnsupported)
	}
	return answer, nil
}

// numbers is ask for an answer of n numbers.
func (p *process) numbers(n int, fields ...any) ([]float64, error) {
	answer, err := p.ask(fields...)
	if err != nil {
		return nil, err
	}
	if len(answer) != n {
		return nil, fmt.Errorf("%s: answered %q; %d numbers were expected", p.name, answer, n)
	}
	x := make([]float64, n)
	for i := range x {
		if _, err := fmt.Sscan(answer[i], &x[i]); err != nil {
			return nil, fmt.Errorf("%s: answered %q: %w", p.name, answer, err)
		}
	}
	return x, nil
}

// onceNumbers is once for an answer of n numbers.
func (w *workplace) onceNumbers(n int, name string, token *softhsm.Token, fields ...any) ([]float64, error) {
	p, err := w.start(name, token)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	return p.numbers(n, fields...)
}
