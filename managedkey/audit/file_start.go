package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"
)

// maxLine bounds a line that is read, in bytes; none that is written comes near.
const maxLine = 256 << 10

// format is the version of the lines' form.
const format = 1

func plainLine(kind string) []byte { return appendHead(nil, time.Now(), kind) }

func gapLine(lost uint64) []byte {
	return strconv.AppendUint(append(plainLine("gap"), `,"lost":`...), lost, 10)
}

func openLine() []byte {
	return strconv.AppendInt(append(plainLine("open"), `,"format":`...), format, 10)
}

// startLine says that a program begins to append, and what it had to cut off.
func startLine(cut []byte) []byte {
	b := strconv.AppendInt(append(plainLine("start"), `,"format":`...), format, 10)
	if len(cut) > 0 {
		hash := sha256.Sum256(cut)
		b = strconv.AppendInt(append(b, `,"cut":`...), int64(len(cut)), 10)
		b = appendField(b, `,"cut_sha256":`, hex.EncodeToString(hash[:]))
	}
	return b
}

// start opens the file, finds the end of the chain, and begins to append.
func (w *fileWriter) start() error {
	lock, err := os.OpenFile(w.Path+".lock", os.O_RDWR|os.O_CREATE|noFollow, 0o600)
	if err != nil {
		return unavailable(err)
	}
	w.lock = lock
	if err := lockFile(lock); err != nil {
		return fmt.Errorf("another process writes to it, or it can't be locked: %w", unavailable(err))
	}
	if err := os.Remove(w.fresh()); err != nil && !errors.Is(err, fs.ErrNotExist) { // left by a rotation that was cut off
		return unavailable(err)
	}
	f, err := os.OpenFile(w.Path, os.O_RDWR|os.O_CREATE|noFollow, w.Mode)
	if err != nil {
		return unavailable(err)
	}
	w.f = f
	info, err := w.f.Stat()
	switch {
	case err != nil:
		return unavailable(err)
	case !info.Mode().IsRegular():
		return unavailable(fmt.Errorf("it is no regular file: %v", info.Mode()))
	case info.Mode().Perm()&^w.Mode != 0:
		return unavailable(fmt.Errorf("it has the permissions %v; it takes at most %v", info.Mode().Perm(), w.Mode))
	}
	end, err := w.chain.readEnd(w.f, info.Size())
	if err != nil {
		return err
	}
	if len(end.cut) > 0 {
		if err := w.f.Truncate(end.size); err != nil {
			return unavailable(err)
		}
	}
	w.size, w.chain.Head, w.first, w.born = end.size, end.last, end.first, end.born
	if w.size == 0 {
		return w.begin(end.cut)
	}
	before := w.chain.Head
	if err := w.put(w.chain.append(nil, startLine(end.cut)), before); err != nil {
		return err
	}
	return unavailable(w.f.Sync())
}

// begin makes the empty file the next of the chain, whose rotated files may be there.
func (w *fileWriter) begin(cut []byte) error {
	old, err := w.rotated()
	if err != nil {
		return unavailable(err)
	}
	if len(old) > 0 {
		newest, err := os.Open(old[len(old)-1])
		if err != nil {
			return unavailable(err)
		}
		defer newest.Close()
		info, err := newest.Stat()
		if err != nil {
			return unavailable(err)
		}
		end, err := w.chain.readEnd(newest, info.Size())
		if err != nil {
			return fmt.Errorf("%s: %w", old[len(old)-1], err)
		}
		w.chain.Head = end.last
	}
	before := w.chain.Head
	lines := w.chain.append(nil, openLine())
	lines = w.chain.append(lines, startLine(cut))
	if err := w.put(lines, before); err != nil {
		return err
	}
	w.first, w.born = before.Seq+1, time.Now()
	return errors.Join(unavailable(w.f.Sync()), syncFolder(w.Path))
}

// ending is what is known of a file.
type ending struct {
	first uint64
	born  time.Time
	last  Head
	size  int64  // up to the last line break
	cut   []byte // what is after it
}

// readEnd finds out how the file goes on. Its first and its last line must be of the chain.
func (c *chain) readEnd(f io.ReaderAt, size int64) (e ending, err error) {
	const step = 64 << 10
	var tail []byte // the end of the file, from the line break before the last line on
	at := size
	for at > 0 {
		n := min(step, at)
		at -= n
		chunk := make([]byte, n, n+int64(len(tail)))
		if _, err := f.ReadAt(chunk, at); err != nil {
			return e, unavailable(err)
		}
		tail = append(chunk, tail...)
		if i := bytes.LastIndexByte(tail, '\n'); i >= 0 && bytes.LastIndexByte(tail[:i], '\n') >= 0 {
			break
		}
		if len(tail) > 2*maxLine {
			return e, fmt.Errorf("it doesn't end with a line: %w", ErrTampered)
		}
	}
	i := bytes.LastIndexByte(tail, '\n')
	e.size, e.cut = at+int64(i)+1, tail[i+1:]
	if i < 0 {
		return e, nil
	}
	text := tail[bytes.LastIndexByte(tail[:i], '\n')+1 : i]
	last, err := c.parse(text)
	if err != nil {
		return e, fmt.Errorf("the last line: %w: %w", err, ErrTampered)
	}
	e.last = last.Head
	begin := make([]byte, min(maxLine, e.size))
	if _, err := f.ReadAt(begin, 0); err != nil {
		return e, unavailable(err)
	}
	begin, _, _ = bytes.Cut(begin, []byte{'\n'})
	first, err := c.parse(begin)
	if err != nil {
		return e, fmt.Errorf("the first line: %w: %w", err, ErrTampered)
	}
	var fields struct{ Time time.Time }
	if err := json.Unmarshal(append(append([]byte{'{'}, first.body...), '}'), &fields); err != nil {
		return e, fmt.Errorf("the first line: %w: %w", errForm, ErrTampered)
	}
	e.first, e.born = first.Seq, fields.Time
	return e, nil
}
