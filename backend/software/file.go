package software

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// lockWait is how long a change waits for other programs that change the same file; lockPoll is how often it looks.
const (
	lockWait = 10 * time.Second
	lockPoll = 5 * time.Millisecond
)

// newFilePerm are the permissions of a new file. Of an existing file they are kept.
const newFilePerm fs.FileMode = 0o600

// OpenFile returns a Backend that keeps its keys in memory and in the file path, encrypted under passphrase (see the
// package documentation). If there is no such file, an empty store is made there, in a folder that must exist. opts may
// be nil.
//
// The error wraps backend.ErrCredentials if the passphrase is empty, can't be resolved, or does not decrypt the file;
// [ErrFormat] if the file is not a key store; backend.ErrNotPermitted if others may read it; backend.ErrInvalidParams if
// opts are out of bounds; and backend.ErrUnavailable, beside the system's own error, if it can't be read or made.
//
// Deriving the key takes, with the default costs, 64 MiB of memory and in the order of 100 ms.
func OpenFile(path string, passphrase backend.Secret, opts *Options) (*Backend, error) {
	return openFile(osDisk{}, path, passphrase, opts)
}

func openFile(d disk, path string, passphrase backend.Secret, opts *Options) (*Backend, error) {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	if o.Store == "" {
		o.Store = FileStore
	}
	if o.Store == MemoryStore {
		return nil, fmt.Errorf("software: options: store: got %q, which is the name of a store without a file: %w", o.Store, backend.ErrInvalidParams)
	}
	costs := o.Argon2id.withDefaults()
	if err := costs.validate(backend.ErrInvalidParams); err != nil {
		return nil, err
	}
	secret, err := passphrase.Resolve()
	switch {
	case err != nil:
		return nil, fmt.Errorf("software: passphrase: %w", err)
	case secret == "":
		return nil, fmt.Errorf("software: passphrase: it is empty: %w", backend.ErrCredentials)
	}
	path, err = d.Resolve(path)
	if err != nil {
		return nil, fmt.Errorf("software: path: %w: %w", backend.ErrUnavailable, err)
	}
	f := &file{disk: d, path: path, perm: newFilePerm, writer: make(chan struct{}, 1)}
	entries, err := f.open(secret)
	if errors.Is(err, fs.ErrNotExist) {
		entries, err = f.create(secret, costs)
	}
	if err != nil {
		return nil, err
	}
	return newBackend(o.Store, newStore(f, entries)), nil
}

// file is the file of a store. Except for lock, its methods are called one at a time.
type file struct {
	disk   disk
	path   string // absolute, without symbolic links
	writer chan struct{}

	kdf  kdf
	key  []byte      // made from the passphrase by kdf
	raw  []byte      // the content that was last read or written, nil if there is none yet
	perm fs.FileMode // of raw
}

// open reads the file and derives its key. It changes f only if it succeeds.
func (f *file) open(passphrase string) (map[string]*entry, error) {
	data, perm, err := f.read()
	if err != nil {
		return nil, err
	}
	h, line, ciphertext, err := parse(data)
	if err != nil {
		return nil, f.errorf(err)
	}
	k := h.kdf()
	key := k.key(passphrase)
	entries, err := decrypt(key, h, line, ciphertext)
	if err != nil {
		return nil, f.errorf(err)
	}
	f.kdf, f.key, f.raw, f.perm = k, key, data, perm
	return entries, nil
}

// create makes an empty store, or opens the one that another program has made in the meantime.
func (f *file) create(passphrase string, costs Argon2id) (map[string]*entry, error) {
	unlock, err := f.lock(context.Background(), "create")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if entries, err := f.open(passphrase); !errors.Is(err, fs.ErrNotExist) {
		return entries, err
	}
	f.kdf.Argon2id = costs
	rand.Read(f.kdf.salt[:])
	f.key = f.kdf.key(passphrase)
	entries := make(map[string]*entry)
	return entries, f.save(entries)
}

// reload reads the file and returns its keys if it is not what was last read or written. If there is an error, f is
// unchanged.
func (f *file) reload() (entries map[string]*entry, changed bool, err error) {
	data, perm, err := f.read()
	if err != nil {
		return nil, false, err
	}
	if bytes.Equal(data, f.raw) {
		f.perm = perm
		return nil, false, nil
	}
	h, line, ciphertext, err := parse(data)
	if err != nil {
		return nil, false, f.errorf(err)
	}
	if h.kdf() != f.kdf {
		return nil, false, fmt.Errorf("software: %q is another store than the one that was opened; it must be opened anew: %w", f.path, backend.ErrUnavailable)
	}
	entries, err = decrypt(f.key, h, line, ciphertext)
	if err != nil {
		return nil, false, f.errorf(err)
	}
	f.raw, f.perm = data, perm
	return entries, true, nil
}

// read returns the content, if it is not open to others.
func (f *file) read() ([]byte, fs.FileMode, error) {
	data, perm, err := f.disk.Read(f.path, maxFile+1)
	if err != nil {
		return nil, 0, fmt.Errorf("software: %w: %w", backend.ErrUnavailable, err)
	}
	// Group-readable is let through: that is how orchestrators mount files for processes that aren't root.
	if runtime.GOOS != "windows" && perm&0o027 != 0 {
		return nil, 0, fmt.Errorf("software: %q has permissions %#o, which let others in; chmod 600 mends it: %w", f.path, perm, backend.ErrNotPermitted)
	}
	return data, perm, nil
}

// save replaces the file by one that holds entries. If there is an error, the file is as it was, or else the error says
// that it may not be; f.raw tells reload in either case.
func (f *file) save(entries map[string]*entry) error {
	data, err := encrypt(f.key, f.kdf, entries)
	if err != nil {
		return f.errorf(err)
	}
	err = f.replace(data)
	if err == nil {
		f.raw = data
		return nil
	}
	err = fmt.Errorf("software: save %q: %w: %w", f.path, backend.ErrUnavailable, err)
	// A rename that took place although it failed, or one that could not be made to last, is undone: the caller is told
	// that nothing was stored, and a second attempt must not find a key that is there already.
	if undo := f.restore(); undo != nil {
		return fmt.Errorf("%w; undoing it failed too, the change may have been kept: %w", err, undo)
	}
	return err
}

// replace writes data to a temporary file, which lasts before it takes the place of the old one. The caller holds the
// lock, so that nobody else uses the temporary file: what is there was left behind by a crash.
func (f *file) replace(data []byte) error {
	temp := f.path + ".tmp"
	if err := f.disk.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := f.writeTemp(temp, data); err != nil {
		f.disk.Remove(temp) // what is left is removed by the next save
		return err
	}
	if err := f.disk.Rename(temp, f.path); err != nil {
		f.disk.Remove(temp)
		return err
	}
	return f.disk.SyncDir(filepath.Dir(f.path))
}

func (f *file) writeTemp(path string, data []byte) error {
	w, err := f.disk.Create(path, f.perm)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

// restore puts the content of f.raw back, unless it is there.
func (f *file) restore() error {
	data, _, err := f.disk.Read(f.path, maxFile+1)
	switch {
	case f.raw == nil && errors.Is(err, fs.ErrNotExist):
		return nil
	case f.raw == nil:
		return errors.Join(f.disk.Remove(f.path), f.disk.SyncDir(filepath.Dir(f.path)))
	case err == nil && bytes.Equal(data, f.raw):
		return nil
	}
	return f.replace(f.raw)
}

// lock keeps other writers out, in this program and in others, until unlock is called. It waits until ctx ends, and for
// lockWait at most.
func (f *file) lock(ctx context.Context, op string) (unlock func(), err error) {
	wait := time.NewTimer(lockWait)
	defer wait.Stop()
	busy := func() error {
		return fmt.Errorf("software: %s: %q was locked by another program for %v: %w", op, f.path+".lock", lockWait, backend.ErrUnavailable)
	}
	select {
	case f.writer <- struct{}{}:
	case <-ctx.Done():
		return nil, contextError(ctx, op)
	case <-wait.C:
		return nil, busy()
	}
	for {
		release, err := f.disk.Lock(f.path + ".lock")
		switch {
		case err == nil:
			return func() { release(); <-f.writer }, nil
		case !errors.Is(err, errLocked):
			<-f.writer
			return nil, fmt.Errorf("software: %s: %w: %w", op, backend.ErrUnavailable, err)
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			<-f.writer
			return nil, contextError(ctx, op)
		case <-wait.C:
			<-f.writer
			return nil, busy()
		}
	}
}

// wipe overwrites the key. The file can't be used afterwards.
func (f *file) wipe() { clear(f.key) }

func (f *file) errorf(err error) error { return fmt.Errorf("%w (file %q)", err, f.path) }

// Resolve implements disk.
func (osDisk) Resolve(path string) (string, error) {
	if path == "" {
		return "", errors.New("it is empty")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	// A rename would replace a symbolic link and leave its target as it is.
	real, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, os.ErrNotExist) {
		return abs, nil
	}
	return real, err
}
