package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/managedkeys/managedkeys/managedkey/audit"
	"github.com/managedkeys/managedkeys/managedkey/config"
	"github.com/managedkeys/managedkeys/managedkey/config/all"
)

// verify checks the audit files of a configuration, which a server may be writing to, and prints what it found. head is a line that is known
// to have been there, as an earlier run has printed the newest one; empty if none is.
func verify(path, head string, out io.Writer) error {
	cfg, err := config.Load(path, all.Builders())
	if err != nil {
		return err
	}
	var heads []audit.Head
	if head != "" {
		one, err := audit.ParseHead(head)
		if err != nil {
			return err
		}
		heads = append(heads, one)
	}
	var files []*config.Audit
	for _, a := range cfg.Audit {
		if a.Type == "file" {
			files = append(files, a)
		}
	}
	if len(files) == 0 || len(files) > 1 && head != "" {
		return fmt.Errorf("the configuration has %d audit files; it takes one at least, and with -head no more", len(files))
	}
	var errs []error
	for _, a := range files {
		r, err := audit.VerifyFiles(a.HMACKey, a.Path, heads...)
		if r == nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.Pos, err))
			continue
		}
		state := "nothing was edited, removed or moved"
		if err != nil {
			state = "BROKEN"
			errs = append(errs, fmt.Errorf("%s: %d problems", a.Path, len(r.Problems)+r.More))
		}
		fmt.Fprintf(out, "%s: %d lines, %d rotated files: %s\n", a.Path, r.Lines, r.Files-1, state)
		for _, p := range r.Problems {
			fmt.Fprintf(out, "  %s\n", p)
		}
		if r.More > 0 {
			fmt.Fprintf(out, "  and %d more\n", r.More)
		}
		if r.First.Seq > 1 {
			fmt.Fprintf(out, "  it begins with line number %d: older files were removed\n", r.First.Seq)
		}
		if r.Lost > 0 {
			fmt.Fprintf(out, "  %d records were lost while they could not be written\n", r.Lost)
		}
		if n := len(r.Open); n > 0 {
			fmt.Fprintf(out, "  %d operations have no outcome: they are under way, or the server did not survive them\n", n)
		}
		fmt.Fprintf(out, "  newest line: %s\n", r.Last)
	}
	return errors.Join(errs...)
}
