package config

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/regularfile"
	"github.com/managedkeys/managedkeys/namespace"
)

// Load reads a file, or the files of a folder whose names end in ".hcl" or ".json", as one configuration. Files of other names are
// HCL if they are asked for by name. Of a folder it reads no folders inside, and nothing whose name begins with a dot. Symbolic links are
// followed; what is no regular file then, such as a pipe or a device, is an error, and never waited for.
//
// with are the types of connections and stores that there are: what the files say for them is then checked too. If it is nil,
// Load checks the rest, and the configuration can be neither opened nor planned.
//
// The error is an *[Error] with all problems, or that of the system.
func Load(path string, with *Builders) (*Config, error) {
	paths := []string{path}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if info.IsDir() {
		if paths, err = list(path); err != nil {
			return nil, err
		}
	}
	l := newLoader(with)
	for left := int64(MaxTotal); len(paths) > 0; paths = paths[1:] {
		path := paths[0]
		data, mode, err := regularfile.Read(path, MaxFile)
		if err != nil {
			return nil, fmt.Errorf("config: %w", err)
		}
		if left -= int64(len(data)); left < 0 {
			return nil, fmt.Errorf("config: the files up to %q have more than %d bytes together", path, MaxTotal)
		}
		if runtime.GOOS != "windows" {
			l.modes[path] = mode
		}
		l.file(path, data)
	}
	return l.done()
}

// Parse reads one file that is in memory, as Load does; JSON if name ends in ".json". Since it has no mode, secrets may stand in it.
func Parse(name string, data []byte, with *Builders) (*Config, error) {
	l := newLoader(with)
	l.file(name, data)
	return l.done()
}

// list returns the files of a folder that are read, sorted.
func list(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	var paths []string
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() && !strings.HasPrefix(name, ".") && (strings.HasSuffix(name, ".hcl") || strings.HasSuffix(name, ".json")) {
			paths = append(paths, filepath.Join(folder, name))
		}
	}
	if len(paths) == 0 || len(paths) > MaxFiles {
		return nil, &Error{[]Problem{{Pos{File: folder}, &invalid{fmt.Sprintf("the folder has %d files of names that end in .hcl or .json; it takes 1 to %d", len(paths), MaxFiles)}}}}
	}
	return paths, nil
}

// loader makes a Config of blocks.
type loader struct {
	problems
	reader   reader
	cfg      *Config
	with     *Builders
	modes    map[string]os.FileMode
	resolved map[backend.Secret]bool // references that were tried

	// What there is of each kind, and where.
	connections, keys, mounts, namespaces, policies, identities, singles places
}

type places map[string]Pos

func newLoader(with *Builders) *loader {
	l := &loader{
		cfg: &Config{builders: with}, with: with, modes: make(map[string]os.FileMode), resolved: make(map[backend.Secret]bool),
		connections: places{}, keys: places{}, mounts: places{}, namespaces: places{}, policies: places{}, identities: places{}, singles: places{},
	}
	l.reader.problems = &l.problems
	return l
}

// once notes that there is something of that name, and refuses a second one.
func (l *loader) once(at places, kind, name string, pos Pos) {
	if first, twice := at[name]; twice {
		l.add(pos, "%s %.200q is defined twice; the first one is at %s", kind, name, first)
		return
	}
	at[name] = pos
}

// name refuses names that are none.
func (l *loader) name(pos Pos, kind, name string) {
	if err := namespace.ValidateName(name); err != nil {
		l.add(pos, "%s: %s", kind, err)
	}
}

func (l *loader) file(name string, data []byte) {
	for _, b := range l.reader.read(name, data) {
		switch b.kind {
		case "kms_library":
			l.library(b)
		case "connection":
			l.connection(b)
		case "namespace":
			l.namespace(b)
		case "managed_key":
			l.key(b)
		case "mount":
			l.mount(b)
		case "store":
			l.store(b)
		case "seal":
			l.seal(b)
		case "listener":
			l.listener(b)
		case "audit":
			l.audit(b)
		case "telemetry":
			l.telemetry(b)
		case "policy":
			l.policy(b)
		case "auth":
			l.auth(b)
		}
	}
}

// done returns the configuration once all files were read.
func (l *loader) done() (*Config, error) {
	l.relations()
	if err := l.err(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(l.warnings, func(a, b Problem) int { return a.Pos.compare(b.Pos) })
	l.cfg.Warnings = l.warnings
	return l.cfg, nil
}

func argPos(b *block, name string) Pos {
	if a := b.args[name]; a != nil {
		return a.pos
	}
	return b.pos
}
