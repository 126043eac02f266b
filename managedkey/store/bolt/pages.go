package bolt

import (
	"encoding/binary"
	"fmt"
	"os"

	"go.etcd.io/bbolt"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// What the pages of a bbolt file look like, in the machine's byte order: https://github.com/etcd-io/bbolt, internal/common.
const (
	pageHeader  = 16 // number, 8; kind, 2; how many elements, 2; how many pages more, 4
	branchPage  = 1
	leafPage    = 2
	elementSize = 16 // of branches: where the key is, its length, the page; of leaves: kind, where, lengths of key and value
	bucketLeaf  = 1
)

// checkPages looks whether all pages that the database leads to are in the file, are read once, and have their elements within
// them. bbolt's own check reads them in another goroutine, where a fault or an endless recursion would be the end of the process.
func checkPages(t *bbolt.Tx) error {
	f, err := os.Open(t.DB().Path())
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	defer f.Close()
	w := &pageWalk{file: f, size: uint64(t.DB().Info().PageSize), seen: make(map[uint64]bool)}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	w.pages = uint64(info.Size()) / w.size
	return w.walk(uint64(t.Cursor().Bucket().Root()))
}

type pageWalk struct {
	file        *os.File
	size, pages uint64 // bytes of a page, pages of the file
	seen        map[uint64]bool
}

func (w *pageWalk) walk(number uint64) error {
	wrong := func(what string) error {
		return fmt.Errorf("structure: page %d %s: %w", number, what, store.ErrCorrupt)
	}
	if number >= w.pages {
		return wrong("is not in the file")
	}
	if w.seen[number] {
		return wrong("is used twice")
	}
	w.seen[number] = true
	page := make([]byte, w.size)
	if _, err := w.file.ReadAt(page, int64(number*w.size)); err != nil {
		return wrong("can't be read")
	}
	kind, count, more := binary.NativeEndian.Uint16(page[8:]), uint64(binary.NativeEndian.Uint16(page[10:])), uint64(binary.NativeEndian.Uint32(page[12:]))
	switch {
	case binary.NativeEndian.Uint64(page) != number:
		return wrong("says that it is another")
	case number+more >= w.pages:
		return wrong("goes on after the end of the file")
	case kind != branchPage && kind != leafPage:
		return wrong("is of a kind that has no place here")
	}
	if more > 0 {
		page = make([]byte, (1+more)*w.size)
		if _, err := w.file.ReadAt(page, int64(number*w.size)); err != nil {
			return wrong("can't be read")
		}
	}
	if pageHeader+count*elementSize > uint64(len(page)) {
		return wrong("has more elements than it can hold")
	}
	for i := range count {
		at := pageHeader + i*elementSize
		e := page[at : at+elementSize]
		u32 := func(n int) uint64 { return uint64(binary.NativeEndian.Uint32(e[n:])) }
		if kind == branchPage {
			if at+u32(0)+u32(4) > uint64(len(page)) {
				return wrong("has a key that is not in it")
			}
			if err := w.walk(binary.NativeEndian.Uint64(e[8:])); err != nil {
				return err
			}
			continue
		}
		from := at + u32(4) + u32(8)
		if from+u32(12) > uint64(len(page)) {
			return wrong("has a value that is not in it")
		}
		if u32(0)&bucketLeaf == 0 {
			continue
		}
		if u32(12) < 16 {
			return wrong("has a bucket that is too short")
		}
		if root := binary.NativeEndian.Uint64(page[from:]); root != 0 {
			if err := w.walk(root); err != nil {
				return err
			}
		}
	}
	return nil
}
