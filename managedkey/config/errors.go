package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// Pos is a place in a configuration file. The zero value is no place in particular.
type Pos struct {
	File         string
	Line, Column int // from 1; columns count characters
}

// String returns the place as compilers show it: "file:line:column".
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

func (p Pos) compare(q Pos) int {
	if c := strings.Compare(p.File, q.File); c != 0 {
		return c
	}
	if p.Line != q.Line {
		return p.Line - q.Line
	}
	return p.Column - q.Column
}

// Problem is one thing that is wrong, or worth a warning, at one place.
type Problem struct {
	Pos Pos
	Err error // never nil, and shows no secret
}

// String returns the place and what is wrong.
func (p Problem) String() string {
	if p.Pos == (Pos{}) {
		return p.Err.Error()
	}
	return p.Pos.String() + ": " + p.Err.Error()
}

// Error is all that is wrong with a configuration. It wraps the errors of all problems.
type Error struct {
	Problems []Problem // at least one, by place
}

// maxShown is how many problems Error shows.
const maxShown = 20

// Error returns the problems, one a line, 20 at most, and how many more there are.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("config: ")
	for i, p := range e.Problems {
		if i == maxShown {
			fmt.Fprintf(&b, "\nand %d more", len(e.Problems)-maxShown)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.String())
	}
	return b.String()
}

// Unwrap returns the errors of the problems.
func (e *Error) Unwrap() []error {
	out := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		out[i] = p.Err
	}
	return out
}

// problems collects what is wrong.
type problems struct {
	errors, warnings []Problem
}

// maxProblems bounds what is collected: a file of nonsense has a problem on each line.
const maxProblems = 1000

// add notes an error, which wraps backend.ErrInvalidParams.
func (p *problems) add(pos Pos, format string, args ...any) {
	p.fail(pos, &invalid{fmt.Sprintf(format, args...)})
}

// fail notes an error as it is.
func (p *problems) fail(pos Pos, err error) {
	if len(p.errors) < maxProblems {
		p.errors = append(p.errors, Problem{pos, err})
	}
}

func (p *problems) warn(pos Pos, format string, args ...any) {
	if len(p.warnings) < maxProblems {
		p.warnings = append(p.warnings, Problem{pos, fmt.Errorf(format, args...)})
	}
}

// err returns an *Error, or nil if there is none.
func (p *problems) err() error {
	if len(p.errors) == 0 {
		return nil
	}
	slices.SortStableFunc(p.errors, func(a, b Problem) int { return a.Pos.compare(b.Pos) })
	return &Error{p.errors}
}

// invalid is an error about what a file says. Its text is for people and so has no sentinel in it.
type invalid struct{ text string }

func (e *invalid) Error() string { return e.text }

func (e *invalid) Unwrap() error { return backend.ErrInvalidParams }
