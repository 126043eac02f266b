package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/regularfile"
)

// secret checks a secret: what it refers to can be read, and one that stands in a file itself isn't there for everyone.
//
// A file that others can read is an error, and one that its group can read a warning: a service's group often has to.
func (l *loader) secret(pos Pos, name string, s backend.Secret) {
	if s == "" {
		l.add(pos, "argument %q is empty", name)
		return
	}
	if !s.IsReference() {
		switch mode := l.modes[pos.File]; {
		case mode&0o007 != 0:
			l.fail(pos, &invalid{"argument \"" + name + "\" has a secret in a file that everyone can read; take that right away (chmod o-rwx), or write \"env:NAME\" or \"file:/path\""})
		case mode&0o070 != 0:
			l.warn(pos, "argument %q has a secret in a file that its group can read; \"env:NAME\" or \"file:/path\" say where else it is", name)
		}
		return
	}
	if path, ok := strings.CutPrefix(string(s), "file:"); ok {
		if !filepath.IsAbs(path) {
			l.add(pos, "argument %q refers to %.100q; a path begins with a slash, as in \"file:/path\"", name, path)
			return
		}
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
			l.warn(pos, "argument %q refers to the file %q, which everyone can read", name, path)
		}
	}
	if _, seen := l.resolved[s]; seen {
		return // 10,000 keys have the PIN of one token
	}
	if _, err := s.Resolve(); err != nil {
		l.fail(pos, fmt.Errorf("argument %q: %w", name, err))
		return
	}
	l.resolved[s] = true
}

// regular checks that an argument that names a file which will be read names no pipe or the like. Whether there is one is found when it
// is: it may come later.
func (l *loader) regular(b *block, name, path string) {
	if path == "" {
		return
	}
	if err := regularfile.Check(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.fail(argPos(b, name), fmt.Errorf("argument %q: %w", name, err))
	}
}
