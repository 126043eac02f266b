package pki

import (
	"bytes"
	"sync"
)

// crlCache has the lists that were used last, as many as it may, and the very last one however long it is: a process that sees to
// thousands of shards must not have all of them in memory. The zero value is empty.
type crlCache struct {
	mu    sync.Mutex
	lists map[string]*cachedCRL // by published.cacheKey
	size  int                   // of all lists in bytes
	clock int64
}

type cachedCRL struct {
	sha256, der []byte
	used        int64 // of the cache's clock
}

const maxCachedCRLs = 8 << 20 // bytes

// cacheKey tells complete from delta lists.
func (p *published) cacheKey(name string) string {
	if p.Base != 0 {
		return name + ".delta"
	}
	return name
}

// get returns the list that has that hash, or nil. A number alone would not do: a store that was put back from a backup has it twice.
func (c *crlCache) get(key string, sha256 []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.lists[key]
	if list == nil || !bytes.Equal(list.sha256, sha256) {
		return nil
	}
	c.clock++
	list.used = c.clock
	return list.der
}

// put takes a list, in place of the one that has its key.
func (c *crlCache) put(key string, sha256, der []byte) {
	if cap(der) > len(der)+len(der)/2 { // it would keep a buffer that is much longer
		der = bytes.Clone(der)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(key)
	if c.lists == nil {
		c.lists = make(map[string]*cachedCRL)
	}
	c.clock++
	c.lists[key] = &cachedCRL{sha256, der, c.clock}
	c.size += cap(der)
	for c.size > maxCachedCRLs && len(c.lists) > 1 {
		oldest := key
		for other, list := range c.lists {
			if list.used < c.lists[oldest].used {
				oldest = other
			}
		}
		c.drop(oldest)
	}
}

// drop forgets a list. c.mu is held.
func (c *crlCache) drop(key string) {
	if list := c.lists[key]; list != nil {
		c.size -= cap(list.der)
		delete(c.lists, key)
	}
}
