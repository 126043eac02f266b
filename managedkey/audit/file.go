package audit

import (
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// Sync says when what was written to a [File] is made safe against a loss of power. Against the end of the program it is
// safe once it is written: at once if the operation waits for that, and else within 2 milliseconds.
type Sync uint8

// The policies.
const (
	SyncEvery    Sync = iota // before the operation returns; operations that come together share one fsync
	SyncInterval             // every Interval
	SyncNever                // when the file is rotated or closed, and whenever the operating system does
)

// Defaults of [File].
const (
	DefaultInterval = time.Second
	DefaultMode     = fs.FileMode(0o600)
)

// File is a sink that is a file, of which one process at a time may write it. Path is always the file that is written;
// files that were rotated are beside it, their names are Path, a dot and the number of their first line in 20 digits. The folder must exist.
//
// Programs that rotate by moving the file away are noticed within a second, and the chain goes on in a new file; files that
// were truncated in place, as logrotate's copytruncate does, are no chain any more.
type File struct {
	Path string

	Sync     Sync
	Interval time.Duration // of SyncInterval; DefaultInterval if 0

	MaxSize int64         // bytes that the file is to have at most, but for what is written at once; 0 means that there is no limit
	MaxAge  time.Duration // age from which on the file is rotated, when something is written; 0 means never
	Keep    int           // rotated files that are kept, the newest; 0 means all

	Mode fs.FileMode // of new files; DefaultMode if 0. A file that exists must not have more permissions
}

func (f File) open(k keys, log *slog.Logger) (writer, error) {
	if f.Interval == 0 {
		f.Interval = DefaultInterval
	}
	if f.Mode == 0 {
		f.Mode = DefaultMode
	}
	if f.Path == "" || f.Sync > SyncNever || f.Interval < 0 || f.MaxSize < 0 || f.MaxAge < 0 || f.Keep < 0 || f.Mode&^fs.ModePerm != 0 || f.Mode&0o600 != 0o600 {
		return nil, fmt.Errorf("audit: file %q: Sync %d, Interval %v, MaxSize %d, MaxAge %v, Keep %d, Mode %v; it takes a path, a known policy, "+
			"nothing negative, and a mode that lets its owner read and write: %w", f.Path, f.Sync, f.Interval, f.MaxSize, f.MaxAge, f.Keep, f.Mode, backend.ErrInvalidParams)
	}
	w := &fileWriter{File: f, chain: newChain(k), log: log}
	if err := w.start(); err != nil {
		w.abandon()
		return nil, fmt.Errorf("audit: file %q: %w", f.Path, err)
	}
	return w, nil
}

// file is what is used of an *os.File.
type file interface {
	io.ReaderAt
	io.WriterAt
	Truncate(int64) error
	Sync() error
	Stat() (fs.FileInfo, error)
	Close() error
}

// fileWriter writes one chain to files.
type fileWriter struct {
	File
	chain *chain
	log   *slog.Logger

	lock  *os.File
	f     file
	size  int64     // of the lines; what is behind them is of a write that failed
	torn  bool      // there may be something behind them
	first uint64    // number of the file's first line
	born  time.Time // of the file's first line
	dirty bool      // something was written since the last fsync

	looked  time.Time // when it was looked last whether the file is still there
	retry   time.Time // rotation has failed, and is not tried again before
	scratch []byte
}

func (w *fileWriter) head() Head    { return w.chain.Head }
func (w *fileWriter) name() string  { return w.Path }
func (w *fileWriter) durable() bool { return w.Sync == SyncEvery }
func (w *fileWriter) quick() bool   { return w.Sync != SyncEvery } // it is a copy into the cache of the operating system

func (w *fileWriter) interval() time.Duration {
	if w.Sync == SyncInterval {
		return w.Interval
	}
	return 0
}

func (w *fileWriter) tick() error {
	if !w.dirty {
		return nil
	}
	if err := w.f.Sync(); err != nil {
		return unavailable(err)
	}
	w.dirty = false
	return nil
}

// write writes the records as one piece: if that fails, none of them is there.
func (w *fileWriter) write(records []*Record, lost uint64) error {
	if err := w.look(); err != nil {
		return err
	}
	if w.due(records) {
		w.rotate()
	}
	w.scratch = w.scratch[:0]
	before := w.chain.Head
	if lost > 0 {
		w.scratch = w.chain.append(w.scratch, gapLine(lost))
	}
	for _, r := range records {
		w.scratch = w.chain.append(w.scratch, r.body)
	}
	return w.put(w.scratch, before)
}

// put writes lines that the chain has made since before.
func (w *fileWriter) put(lines []byte, before Head) error {
	err := w.mend()
	if err == nil {
		w.torn = true
		if _, err = w.f.WriteAt(lines, w.size); err == nil && w.Sync == SyncEvery {
			err = w.f.Sync()
		}
	}
	if err != nil {
		w.chain.Head = before
		_ = w.mend() // or before the next write
		return unavailable(err)
	}
	w.torn, w.dirty = false, w.Sync != SyncEvery
	w.size += int64(len(lines))
	return nil
}

// mend takes away what a write that failed has left.
func (w *fileWriter) mend() error {
	if !w.torn {
		return nil
	}
	if err := w.f.Truncate(w.size); err != nil {
		return err
	}
	w.torn = false
	return nil
}

// close says that the program has ended as it should, and releases the file.
func (w *fileWriter) close() error {
	before := w.chain.Head
	err := w.put(w.chain.append(nil, plainLine("stop")), before)
	if err == nil {
		err = unavailable(w.f.Sync())
	}
	w.abandon()
	return err
}

// abandon releases what was opened.
func (w *fileWriter) abandon() {
	if w.f != nil {
		w.f.Close()
	}
	if w.lock != nil {
		w.lock.Close() // and with it the lock
	}
}

func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", backend.ErrUnavailable, err)
}
