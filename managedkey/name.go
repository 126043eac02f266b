package managedkey

// inlineName is the longest name, in bytes, that an entry keeps inside itself.
const inlineName = 23

// name is a string that, if it is short, is kept where the name itself is: a look-up must compare the name of what it
// found, and in a large registry another string elsewhere would cost it one more wait for memory.
type name struct {
	short  [inlineName]byte
	length uint8   // of short, if long is nil
	long   *string // the whole name, if short is too short for it
}

// newName returns a name that shares no memory with s.
func newName(s string) (n name) {
	if len(s) > inlineName {
		own := string([]byte(s))
		n.long = &own
		return n
	}
	n.length = uint8(copy(n.short[:], s))
	return n
}

// is reports whether the name is s.
func (n *name) is(s string) bool {
	if n.long != nil {
		return *n.long == s
	}
	return string(n.short[:n.length]) == s
}

// String returns the name.
func (n *name) String() string {
	if n.long != nil {
		return *n.long
	}
	return string(n.short[:n.length])
}
