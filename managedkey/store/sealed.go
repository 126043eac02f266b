package store

// Sealer is a Store that knows whether values are encrypted before its engine sees them. A Store that wraps another one answers
// for it.
type Sealer interface {
	Store

	// Sealed reports whether every value is encrypted, with a key that is not in the store. It never changes.
	Sealed() bool
}

// IsSealed reports whether s says of itself that it encrypts what it is given. A Store that isn't a [Sealer] doesn't.
func IsSealed(s Store) bool {
	sealer, ok := s.(Sealer)
	return ok && sealer.Sealed()
}
