package verify

import (
	"sync"
	"sync/atomic"
	"time"
)

// cache remembers tokens that passed, by the SHA-256 of the whole token: not
// by its signature, of which there are several that verify. It is bounded, and
// nothing in it outlives the token.
type cache struct{ shards [shardCount]shard }

const shardCount = 16

type shard struct {
	mu      sync.RWMutex
	entries map[[32]byte]*entry
	order   [][32]byte // a ring: the oldest gives way
	next    int
}

// entry is a token that passed, and the key that it was signed with.
type entry struct {
	token *Token
	key   *key

	// What the feed knows is never part of what passed: it is asked each time.
	checked atomic.Uint64         // the version of the feed's set that doesn't name the token; 0 for none
	marks   atomic.Pointer[marks] // for the next time, once they were needed
}

// newCache returns a cache of about size tokens, or nil for none.
func newCache(size int) *cache {
	if size < 0 {
		return nil
	}
	c := &cache{}
	for i := range c.shards {
		c.shards[i].entries = map[[32]byte]*entry{}
		c.shards[i].order = make([][32]byte, (size+shardCount-1)/shardCount)
	}
	return c
}

func (c *cache) get(sum [32]byte) *entry {
	if c == nil {
		return nil
	}
	s := &c.shards[sum[0]%shardCount]
	s.mu.RLock()
	e := s.entries[sum]
	s.mu.RUnlock()
	return e
}

func (c *cache) put(sum [32]byte, e *entry, now time.Time) {
	if c == nil || !now.Before(e.token.Expires) {
		return
	}
	s := &c.shards[sum[0]%shardCount]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.entries[sum]; !ok {
		delete(s.entries, s.order[s.next])
		s.order[s.next] = sum
		s.next = (s.next + 1) % len(s.order)
	}
	s.entries[sum] = e
}
