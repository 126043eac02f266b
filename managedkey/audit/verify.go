package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// maxProblems is how many problems are listed; others are only counted.
const maxProblems = 100

// Report is what [Verify] found.
type Report struct {
	Files, Lines int
	First        Head // the first line; its number is 1 unless older files were removed
	Last         Head // the newest line

	// Cut is the length, in bytes, of an incomplete line at the very end: of one that is being written, or was when the
	// program was killed. The next start of the program cuts it off.
	Cut int

	Repairs int      // start lines that tell of an incomplete line that was cut off
	Lost    uint64   // records that were lost, as gap lines tell
	Open    []string // ids of requests without an outcome, sorted: they are under way, or the program did not survive them

	Problems []Problem // the first hundred
	More     int       // problems beyond that
}

// Problem is a place where a chain is not whole.
type Problem struct {
	File string // path; empty for [Verify]
	Line int    // in the file, from 1; 0 if it is about what is not there
	What string
}

func (p Problem) String() string {
	place := ""
	if p.File != "" {
		place = p.File + ": "
	}
	if p.Line > 0 {
		place += fmt.Sprintf("line %d: ", p.Line)
	}
	return place + p.What
}

// Verify reads the lines of a chain from r and checks that none was edited, removed, reordered, repeated or cut. heads are lines
// that are known to have been there, from [Log.Heads]: each must be there still, unless it is before the first line.
//
// The error wraps [ErrTampered] if there are problems, and lists the first ones; the report is there nevertheless. Otherwise it is that of
// the key, as for [New], or of reading.
func Verify(key backend.Secret, r io.Reader, heads ...Head) (*Report, error) {
	v, err := newVerifier(key, heads)
	if err != nil {
		return nil, err
	}
	if err := v.read("", r); err != nil {
		return nil, err
	}
	return v.end()
}

// VerifyFiles is [Verify] for the file that a [File] with that path writes, together with the files that were rotated from it. It
// may be used while the file is being written.
func VerifyFiles(key backend.Secret, path string, heads ...Head) (*Report, error) {
	v, err := newVerifier(key, heads)
	if err != nil {
		return nil, err
	}
	old, err := rotatedFiles(path)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	for _, name := range append(old, path) {
		if err := v.readFile(name); err != nil {
			return nil, err
		}
	}
	return v.end()
}

func (v *verifier) readFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer f.Close()
	return v.read(name, f)
}

// verifier follows a chain from line to line.
type verifier struct {
	chain  *chain
	heads  map[uint64]Head // that were not met
	report Report
	began  bool
	last   line   // the newest line whose place is known
	edited bool   // last was edited, so that its hash is not what it was
	unread uint64 // lines since last whose place is not known
	open   map[string]bool
}

func newVerifier(key backend.Secret, heads []Head) (*verifier, error) {
	k, err := newKeys(key)
	if err != nil {
		return nil, err
	}
	v := &verifier{chain: newChain(k), heads: make(map[uint64]Head), open: make(map[string]bool)}
	for _, h := range heads {
		if h.Seq > 0 {
			v.heads[h.Seq] = h
		}
	}
	return v, nil
}

func (v *verifier) problem(file string, n int, what string, args ...any) {
	if len(v.report.Problems) == maxProblems {
		v.report.More++
		return
	}
	v.report.Problems = append(v.report.Problems, Problem{file, n, fmt.Sprintf(what, args...)})
}

// read reads one file.
func (v *verifier) read(file string, r io.Reader) error {
	if v.report.Cut > 0 {
		v.problem(file, 0, "the file before ends with an incomplete line of %d bytes", v.report.Cut)
		v.report.Cut = 0
		v.unread++
	}
	v.report.Files++
	lines := bufio.NewReaderSize(r, maxLine)
	for n := 1; ; n++ {
		text, err := lines.ReadSlice('\n')
		switch {
		case err == io.EOF:
			v.report.Cut = len(text)
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			v.problem(file, n, "it is longer than %d bytes", maxLine)
			v.unread++
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = lines.ReadSlice('\n')
			}
			if err == io.EOF {
				return nil
			}
		case err == nil:
			v.line(file, n, text[:len(text)-1])
		}
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
}

// line checks one line and its place in the chain.
func (v *verifier) line(file string, n int, text []byte) {
	v.report.Lines++
	l, err := v.chain.parse(text)
	if err != nil {
		v.problem(file, n, "%v", err)
		if l.Seq == v.last.Seq+1 && errors.Is(err, errMAC) {
			v.last, v.edited, v.unread = l, true, 0 // it seems to stand where it stood
		} else {
			v.unread++
		}
		return
	}
	switch want := v.last.Seq + 1; {
	case !v.began:
		v.report.First = l.Head
		if l.Seq == 1 && l.prev != [sha256.Size]byte{} {
			v.problem(file, n, "it is the first, but follows another line")
		}
	case l.Seq < want:
		v.problem(file, n, "it has number %d, after number %d: it was moved or repeated", l.Seq, v.last.Seq)
		return
	case l.Seq > want && l.Seq-want > v.unread: // some may be the ones that can't be read
		v.problem(file, n, "it has number %d, after number %d: %d lines are missing", l.Seq, v.last.Seq, l.Seq-want)
	case l.Seq == want && !v.edited && l.prev != v.last.Hash:
		v.problem(file, n, "it follows another line than the one before it")
	}
	v.began, v.edited, v.unread, v.last = true, false, 0, l
	if h, ok := v.heads[l.Seq]; ok {
		if h.Hash != l.Hash {
			v.problem(file, n, "it is not the line number %d that is known", l.Seq)
		}
		delete(v.heads, l.Seq)
	}
	v.count(file, n, l)
}

// count notes what a line tells.
func (v *verifier) count(file string, n int, l line) {
	var fields struct {
		Type, ID string
		Format   int
		Lost     uint64
		Cut      int
	}
	if err := json.Unmarshal(slices.Concat([]byte{'{'}, l.body, []byte{'}'}), &fields); err != nil {
		v.problem(file, n, "it is no JSON, although its MAC is right")
		return
	}
	switch fields.Type {
	case TypeRequest:
		v.open[fields.ID] = true
	case TypeOutcome, TypeRefused:
		delete(v.open, fields.ID)
	case "gap":
		v.report.Lost += fields.Lost
	case "start":
		if fields.Cut > 0 {
			v.report.Repairs++
		}
	}
	if fields.Format > format {
		v.problem(file, n, "it has format %d; this version reads %d", fields.Format, format)
	}
}

// end returns the report.
func (v *verifier) end() (*Report, error) {
	v.report.Last = v.last.Head
	v.report.Open = slices.Sorted(maps.Keys(v.open))
	for _, seq := range slices.Sorted(maps.Keys(v.heads)) {
		if seq >= v.report.First.Seq {
			v.problem("", 0, "line number %d, which is known, is missing", seq)
		}
	}
	if len(v.report.Problems) == 0 {
		return &v.report, nil
	}
	var texts []string
	for _, p := range v.report.Problems[:min(3, len(v.report.Problems))] {
		texts = append(texts, p.String())
	}
	if more := len(v.report.Problems) + v.report.More - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return &v.report, fmt.Errorf("audit: %w: %s", ErrTampered, strings.Join(texts, "; "))
}

// String returns the head as its number and hash, to be kept.
func (h Head) String() string { return fmt.Sprintf("%d:%x", h.Seq, h.Hash) }

// ParseHead reads what [Head.String] wrote. The error wraps backend.ErrInvalidParams.
func ParseHead(text string) (h Head, err error) {
	number, hash, _ := bytes.Cut([]byte(text), []byte{':'})
	_, err = fmt.Sscanf(string(number), "%d", &h.Seq)
	if err != nil || len(hash) != 2*sha256.Size || !decodeHex(h.Hash[:], hash) || h.String() != text {
		return Head{}, fmt.Errorf("audit: head is %.100q; it takes a number, a colon and %d hexadecimal digits: %w", text, 2*sha256.Size, backend.ErrInvalidParams)
	}
	return h, nil
}
