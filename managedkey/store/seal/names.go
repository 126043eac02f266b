package seal

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// outer is the reverse of inner. The error wraps store.ErrCorrupt if a name was not encrypted with the key of names.
func (r *ring) outer(path string) (string, error) {
	name, ok := strings.CutPrefix(path, dataPrefix)
	if !ok {
		return "", fmt.Errorf("seal: %.100q is not under %q: %w", path, dataPrefix, store.ErrCorrupt)
	}
	if r.siv == nil {
		return name, nil
	}
	var plain strings.Builder
	for segment := range strings.SplitSeq(name, "/") {
		data, err := base64.RawURLEncoding.Strict().DecodeString(segment)
		if err == nil {
			data, err = r.siv.DecryptDeterministically(data, []byte(plain.String()))
		}
		if err != nil {
			return "", fmt.Errorf("seal: the name %.100q was altered, moved or not made by this store: %w", path, store.ErrCorrupt)
		}
		plain.Write(data)
		plain.WriteByte('/')
	}
	return strings.TrimSuffix(plain.String(), "/"), nil
}

// inner returns the engine's key for a key, or for a prefix, which is empty or ends in a slash. Each segment is encrypted
// with the path before it as additional data, so that equal segments look equal only where their paths are equal.
func (r *ring) inner(path string) (string, error) {
	if r.siv == nil || path == "" {
		return r.fits(path, dataPrefix+path)
	}
	path, isPrefix := strings.CutSuffix(path, "/")
	segments := strings.Split(path, "/")
	at := 0
	for i, segment := range segments {
		data, err := r.siv.EncryptDeterministically([]byte(segment), []byte(path[:at]))
		if err != nil {
			return "", fmt.Errorf("seal: name: %w: %w", err, store.ErrInvalid)
		}
		at += len(segment) + 1
		segments[i] = base64.RawURLEncoding.EncodeToString(data)
	}
	name := dataPrefix + strings.Join(segments, "/")
	if isPrefix {
		name += "/"
	}
	return r.fits(path, name)
}

// fits checks that the engine's key is not too long.
func (r *ring) fits(path, name string) (string, error) {
	if len(strings.TrimSuffix(name, "/")) > store.MaxKey {
		return "", fmt.Errorf("seal: key of %d bytes, beginning with %.40q: the engine's key would have %d bytes and may have %d: %w",
			len(path), path, len(name), store.MaxKey, store.ErrTooLarge)
	}
	return name, nil
}
