package config

import (
	"errors"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

// blame returns the place of the argument that err is about, at if it can't be told: the first argument that the text names outside of
// quotation marks. All that reads fields names the one that it refuses, some by the name that it has in Go; and a wrong guess shows
// nothing but another line of the same block.
func blame(at Pos, args map[string]Pos, err error) Pos {
	if unknown, ok := errors.AsType[*backend.UnknownFieldError](err); ok {
		if pos, there := args[unknown.Field]; there {
			return pos
		}
	}
	if outer, ok := errors.AsType[*managedkey.Error](err); ok {
		err = outer.Err // without the key's name
	}
	byName := make(map[string]Pos, len(args))
	for name, pos := range args {
		byName[plainName(name)] = pos
	}
	for i, part := range strings.Split(err.Error(), `"`) {
		if i%2 == 1 {
			continue
		}
		for _, word := range strings.FieldsFunc(part, func(r rune) bool { return r != '_' && (r < '0' || r > '9') && (r|' ' < 'a' || r|' ' > 'z') }) {
			if pos, there := byName[plainName(word)]; there {
				return pos
			}
		}
	}
	return at
}

// plainName returns what key_type and KeyType have in common.
func plainName(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }

// places returns where the arguments of a block are.
func (b *block) places() map[string]Pos {
	out := make(map[string]Pos, len(b.args))
	for name, a := range b.args {
		out[name] = a.pos
	}
	return out
}
