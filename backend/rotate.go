package backend

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Rotator is a Generator that makes the next version of a key by itself.
type Rotator interface {
	Generator

	// Rotate makes, inside the key manager, a key of the same kind as the one that params describe, beside it, as its version
	// of that number, 2 or more, and opens it. It returns the parameters that open it. How the new key is named says the
	// backend's documentation. The key of params stays as it is and need not be there any more.
	//
	// The error wraps ErrKeyExists if there is a key already where the new one would be, ErrUnsupported if keys like this
	// can't be made, or what Generate returns.
	Rotate(ctx context.Context, params Params, version int) (Key, Params, error)
}

// Versioned is a Backend whose key manager keeps several versions of a key under one name.
type Versioned interface {
	Backend

	// ExactParams returns params so changed that they open the version that key is, which these params opened, and no later
	// one. It makes no call.
	ExactParams(params Params, key Key) Params
}

// VersionName returns the name of a version of the key called name, for key managers that have one key under a name: NAME-v2 for
// version 2, and NAME-v3 for version 3 whether name is NAME or NAME-v2. The error wraps [ErrInvalidParams] if it is longer than
// longest bytes.
func VersionName(name string, version, longest int) (string, error) {
	if stem, ok := strings.CutSuffix(name, "-v"+strconv.Itoa(version-1)); ok && stem != "" {
		name = stem
	}
	next := name + "-v" + strconv.Itoa(version)
	if len(next) > longest {
		return "", fmt.Errorf("backend: the name of version %d would be %.80q…, of %d bytes; it takes at most %d: %w", version, next, len(next), longest, ErrInvalidParams)
	}
	return next, nil
}
