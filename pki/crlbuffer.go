package pki

import (
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// entryList is RevokedCertificates in DER, one after the other, in a buffer that has room for the rest of a CertificateList around them.
// A list with a million entries has tens of megabytes, so that it is built where it will be signed, stored and served from, and never
// copied. The zero value is empty.
type entryList struct {
	buf   []byte // begins with entryRoom bytes of anything, unless it is nil
	count int
}

const (
	entryRoom  = 1 << 10 // for what comes before the entries: see frame
	entrySpare = 8 << 10 // for extensions and signature after them
)

// reserve makes room for entries of that many bytes together.
func (l *entryList) reserve(n int) {
	if cap(l.buf)-max(len(l.buf), entryRoom) >= n+entrySpare {
		return
	}
	buf := make([]byte, entryRoom, entryRoom+l.size()+n+entrySpare)
	if l.buf != nil {
		buf = append(buf, l.der()...)
	}
	l.buf = buf
}

// put appends DER of that many entries.
func (l *entryList) put(der []byte, count int) {
	if cap(l.buf)-len(l.buf) < len(der)+entrySpare || l.buf == nil {
		l.reserve(len(der) + l.size()/4)
	}
	l.buf = append(l.buf, der...)
	l.count += count
}

func (l *entryList) size() int { return max(0, len(l.buf)-entryRoom) }

// der returns the entries.
func (l *entryList) der() []byte {
	if l.buf == nil {
		return nil
	}
	return l.buf[entryRoom:]
}

// wrap returns a CertificateList in DER, whose signature is what sign returns, in the list's own buffer, so that the list is of no more
// use. check, if not nil, is told the result.
func (l *entryList) wrap(head, tail, algorithm []byte, sign func(tbs []byte) ([]byte, error), check func(der []byte) error) ([]byte, error) {
	l.reserve(0)
	entries := l.size()
	if entries > 0 { // an empty list is absent (RFC 5280, Section 5.1.2.6)
		head = appendHeader(slices.Clip(head), entries)
	}
	front := append(appendHeader(nil, len(head)+entries+len(tail)), head...)
	const outer = 8 // more than its header has
	buf, start := l.buf, entryRoom-len(front)
	if start < outer { // names and URLs are long
		buf = slices.Concat(make([]byte, outer+len(front)), l.der())
		start = outer
	}
	copy(buf[start:], front)
	buf = append(buf, tail...)
	signature, err := sign(buf[start:len(buf):len(buf)])
	if err != nil {
		return nil, err
	}
	buf = append(buf, algorithm...)
	var bits cryptobyte.Builder
	bits.AddASN1BitString(signature)
	buf = append(buf, bits.BytesOrPanic()...)
	header := appendHeader(nil, len(buf)-start)
	der := buf[start-len(header):]
	copy(der, header)
	if check != nil {
		return der, check(der)
	}
	return der, nil
}

// sample returns entries from all over a list, and all if there are few. The list stays as it is.
func (l *entryList) sample() (*entryList, error) {
	out, step := new(entryList), max(1, l.count/maxLinted)
	for i, rest := 0, l.der(); len(rest) > 0; i++ {
		entry, next, err := nextEntry(rest)
		if err != nil {
			return nil, err
		}
		if rest = next; i%step == 0 || len(rest) == 0 {
			out.put(entry, 1)
		}
	}
	return out, nil
}

// sort puts the entries in order, which takes more memory than the list.
func (l *entryList) sort() error {
	all := make([][]byte, 0, l.count)
	for rest := l.der(); len(rest) > 0; {
		entry, next, err := nextEntry(rest)
		if err != nil {
			return err
		}
		all, rest = append(all, entry), next
	}
	slices.SortFunc(all, func(a, b []byte) int { return compareSerials(entrySerial(a), entrySerial(b)) })
	var sorted entryList
	sorted.reserve(l.size())
	for _, entry := range all {
		sorted.put(entry, 1)
	}
	*l = sorted
	return nil
}
