package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	lookEvery   = time.Second // how often it is looked whether the file is still there
	rotateRetry = time.Minute // after a rotation that failed
	seqDigits   = 20
)

// fresh is where the next file is made before it takes its place.
func (w *fileWriter) fresh() string { return w.Path + ".new" }

// rotated returns the files that were rotated, the oldest first.
func (w *fileWriter) rotated() ([]string, error) { return rotatedFiles(w.Path) }

func rotatedFiles(path string) (all []string, err error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+".")
		if ok && len(digits) == seqDigits && strings.Trim(digits, "0123456789") == "" {
			all = append(all, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	slices.Sort(all)
	return all, nil
}

// due reports whether the file is to be rotated before the records are written.
func (w *fileWriter) due(records []*Record) bool {
	n := w.size
	for _, r := range records {
		n += int64(len(r.body)) + 256 // about what a chain adds
	}
	return (w.MaxSize > 0 && n > w.MaxSize || w.MaxAge > 0 && time.Since(w.born) > w.MaxAge) && time.Now().After(w.retry) &&
		w.chain.Seq > w.first+1 // there is more in it than that it began
}

// rotate moves the file aside and goes on in a new one. If that is not possible, the old one is used for another while.
func (w *fileWriter) rotate() {
	aside := fmt.Sprintf("%s.%0*d", w.Path, seqDigits, w.first)
	_, err := os.Lstat(aside)
	if err == nil {
		err = fmt.Errorf("%s: %w", aside, fs.ErrExist)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = w.replace(func() error { return os.Rename(w.Path, aside) })
	}
	if err != nil {
		w.retry = time.Now().Add(rotateRetry)
		w.log.Error("audit: a file can't be rotated", "file", w.Path, "error", err)
		return
	}
	w.prune()
}

// replace goes on in a new file, which takes the place of the old one when clear has made room.
func (w *fileWriter) replace(clear func() error) error {
	if err := w.mend(); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return err
	}
	next, err := os.OpenFile(w.fresh(), os.O_RDWR|os.O_CREATE|os.O_TRUNC|noFollow, w.Mode)
	if err != nil {
		return err
	}
	before := w.chain.Head
	line := w.chain.append(nil, openLine())
	if _, err = next.Write(line); err == nil {
		err = next.Sync()
	}
	if err == nil {
		err = clear()
	}
	if err == nil {
		err = os.Rename(w.fresh(), w.Path)
	}
	if err == nil {
		err = syncFolder(w.Path)
	}
	if err != nil {
		w.chain.Head = before
		next.Close()
		return errors.Join(err, os.Remove(w.fresh()))
	}
	w.f.Close()
	w.f, w.size, w.first, w.born, w.dirty = next, int64(len(line)), before.Seq+1, time.Now(), false
	return nil
}

// prune removes rotated files that are not kept.
func (w *fileWriter) prune() {
	old, err := w.rotated()
	for ; w.Keep > 0 && len(old) > w.Keep && err == nil; old = old[1:] {
		err = os.Remove(old[0])
	}
	if err != nil {
		w.log.Error("audit: an old file can't be removed", "file", w.Path, "error", err)
	}
}

// look finds out whether the file is still as it was left and, now and then, whether it is still where it was; it makes a new
// one if it was moved away.
func (w *fileWriter) look() error {
	here, err := w.f.Stat()
	switch {
	case err != nil:
		return unavailable(err)
	case here.Size() < w.size:
		return unavailable(fmt.Errorf("it was truncated from %d to %d bytes", w.size, here.Size()))
	case here.Size() > w.size && !w.torn:
		return unavailable(fmt.Errorf("somebody else wrote to it: it has %d bytes in place of %d", here.Size(), w.size))
	}
	now := time.Now()
	if now.Sub(w.looked) < lookEvery {
		return nil
	}
	there, err := os.Lstat(w.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !os.SameFile(here, there) && there.Mode().IsRegular() && there.Size() == 0:
		w.log.Warn("audit: a file was moved away", "file", w.Path)
		err = w.replace(func() error { return nil })
	case err == nil && !os.SameFile(here, there):
		err = errors.New("another file has taken its place")
	}
	if err != nil {
		return unavailable(err)
	}
	w.looked = now
	return nil
}

// syncFolder makes safe which files there are.
func syncFolder(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return unavailable(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return unavailable(err)
	}
	return nil
}
