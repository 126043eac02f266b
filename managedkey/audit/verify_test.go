package audit

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// TestTampering: whatever is done to the lines of a file is found, and the report says where.
func TestTampering(t *testing.T) {
	path := written(t, 8, nil, File{}) // open, start, 8 operations, stop
	good := lines(t, path)
	if len(good) != 11 {
		t.Fatalf("there are %d lines, want 11", len(good))
	}
	head, err := VerifyFiles(testKey, path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func([]string) []string
		want   []string // of the problems
	}{
		"edited": {func(l []string) []string {
			l[4] = strings.Replace(l[4], `"operation":"sign"`, `"operation":"mine"`, 1)
			return l
		}, []string{"line 5: its MAC is wrong"}},
		"a mac edited": {func(l []string) []string {
			l[4] = l[4][:len(l[4])-4] + flip(l[4][len(l[4])-4:len(l[4])-3]) + l[4][len(l[4])-3:]
			return l
		}, []string{"line 5: its MAC is wrong"}},
		"removed":      {func(l []string) []string { return slices.Delete(l, 4, 5) }, []string{"line 5: it has number 6, after number 4: 1 lines are missing"}},
		"some removed": {func(l []string) []string { return slices.Delete(l, 4, 7) }, []string{"line 5: it has number 8, after number 4: 3 lines are missing"}},
		"reordered": {func(l []string) []string {
			l[4], l[5] = l[5], l[4]
			return l
		}, []string{"line 5: it has number 6, after number 4: 1 lines are missing", "line 6: it has number 5, after number 6"}},
		"repeated":  {func(l []string) []string { return slices.Insert(l, 5, l[4]) }, []string{"line 6: it has number 5, after number 5"}},
		"truncated": {func(l []string) []string { l[4] = l[4][:40] + "\n"; return l }, []string{"line 5: it has not the form"}},
		"joined":    {func(l []string) []string { l[4] = strings.TrimSuffix(l[4], "\n"); return l }, []string{"line 5: its MAC is wrong", "line 6: it has number 7, after number 5: 1 lines"}},
		"empty":     {func(l []string) []string { return slices.Insert(l, 5, "\n") }, []string{"line 6: it has not the form"}},
		"nonsense":  {func(l []string) []string { return slices.Insert(l, 5, "hello\n") }, []string{"line 6: it has not the form"}},
		"too long":  {func(l []string) []string { l[4] = strings.Repeat("x", 2*maxLine) + "\n"; return l }, []string{"line 5: it is longer"}},
		"zeros":     {func(l []string) []string { l[4] = strings.Repeat("\x00", len(l[4])); return l }, []string{"line 5: it has not the form", "line 6: it has number 7, after number 4"}},
		"the end":   {func(l []string) []string { return l[:8] }, []string{"line number 11, which is known, is missing"}},
		"replaced by another chain": {func([]string) []string { return lines(t, written(t, 8, nil, File{})) },
			[]string{"line 11: it is not the line number 11 that is known"}},
		"followed by another chain": {func(l []string) []string { return append(l[:5], lines(t, written(t, 8, nil, File{}))[5:]...) },
			[]string{"line 6: it follows another line", "line 11: it is not the line number 11"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Join(c.change(slices.Clone(good)), "")
			r, err := Verify(testKey, strings.NewReader(text), head.Last)
			if !errors.Is(err, ErrTampered) {
				t.Fatalf("the error is %v", err)
			}
			if len(r.Problems) != len(c.want) {
				t.Errorf("problems %v, want %q", r.Problems, c.want)
			}
			for i, p := range r.Problems {
				if i < len(c.want) && !strings.Contains(p.String(), c.want[i]) {
					t.Errorf("problem %d is %q, want %q", i, p, c.want[i])
				}
			}
		})
	}
}

func flip(digit string) string {
	if digit == "0" {
		return "1"
	}
	return "0"
}

// TestEveryByteCounts: no byte of a chain can be changed, removed or added.
func TestEveryByteCounts(t *testing.T) {
	path := written(t, 3, nil, File{Sync: SyncNever})
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Verify(testKey, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		for name, changed := range map[string][]byte{
			"changed": slices.Concat(data[:i], []byte{data[i] ^ 1}, data[i+1:]),
			"removed": slices.Concat(data[:i], data[i+1:]),
			"added":   slices.Concat(data[:i], []byte{' '}, data[i:]),
		} {
			got, err := Verify(testKey, bytes.NewReader(changed), r.Last)
			if err == nil {
				t.Fatalf("byte %d %s: nothing was found: %+v", i, name, got)
			}
		}
	}
}

// TestWrongKey: with another key every line is wrong, and a key that is too short is refused.
func TestWrongKey(t *testing.T) {
	path := written(t, 1, nil, File{})
	r, err := VerifyFiles("another key of thirty-two bytes..", path)
	if !errors.Is(err, ErrTampered) || len(r.Problems) != r.Lines {
		t.Errorf("got %+v, %v", r, err)
	}
	for key, want := range map[backend.Secret]error{"short": backend.ErrInvalidParams, "env:NOT_SET_AT_ALL": backend.ErrCredentials} {
		if _, err := VerifyFiles(key, path); !errors.Is(err, want) {
			t.Errorf("key %d bytes: %v", len(key), err)
		}
		if _, err := New(key, []Sink{File{Path: path}}, nil); !errors.Is(err, want) || strings.Contains(err.Error(), "short") && key == "short" {
			t.Errorf("key of %d bytes: %v", len(key), err)
		}
	}
	if _, err := New("another key of thirty-two bytes..", []Sink{File{Path: path}}, nil); !errors.Is(err, ErrTampered) {
		t.Errorf("appending with another key: %v", err)
	}
}

// TestHeads: they are read back as they were written, and nothing else is read.
func TestHeads(t *testing.T) {
	r := whole(t, written(t, 1, nil, File{}))
	h, err := ParseHead(r.Last.String())
	if err != nil || h != r.Last {
		t.Errorf("got %v, %v, want %v", h, err, r.Last)
	}
	for _, text := range []string{"", "1", "1:", "x" + h.String(), h.String() + "0", strings.ToUpper(h.String()), "0" + h.String(), "+" + h.String()} {
		if _, err := ParseHead(text); !errors.Is(err, backend.ErrInvalidParams) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	data, err := os.ReadFile(written(f, 2, &Options{Requests: true}, File{Sync: SyncNever}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	for _, text := range []string{"", "\n", `{"seq":1,"prev":"`, "{\"seq\":18446744073709551615,\"prev\":\"", string(data[:len(data)/2])} {
		f.Add([]byte(text))
	}
	k, err := newKeys(testKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Verify(testKey, bytes.NewReader(data))
		if r == nil {
			t.Fatalf("no report: %v", err)
		}
		if (err == nil) != (len(r.Problems) == 0) {
			t.Fatalf("%d problems, error %v", len(r.Problems), err)
		}
		// What is a line is made again from its parts.
		c := newChain(k)
		for text := range bytes.Lines(data) {
			text, complete := bytes.CutSuffix(text, []byte{'\n'})
			l, err := c.parse(text)
			if err != nil || !complete {
				continue
			}
			c.Head = Head{l.Seq - 1, l.prev}
			if again := c.append(nil, l.body); string(again) != string(text)+"\n" {
				t.Fatalf("%q was read as %q", text, again)
			}
		}
	})
}
