package verify

import (
	"sync"
	"time"
)

// cache remembers tokens that passed, by the SHA-256 of the whole token: not
// by its signature, of which there are several that verify. It is bounded, and
// nothing in it outlives the token.
type cache struct{ shards [shardCount]shard }

const shardCount = 16

type shard struct {
	mu      sync.RWMutex
	entries map[[32]byte]entry
	order   [][32]byte // a ring: the oldest gives way
	next    int
}

type entry struct {
	token *Token
	key   *key
}

// newCache returns a cache of about size tokens, or nil for none.
func newCache(size int) *cache {
	if size < 0 {
		return nil
	}
	c := &cache{}
	for i := range c.shards {
		c.shards[i].entries = map[[32]byte]entry{}
		c.shards[i].order = make([][32]byte, (size+shardCount-1)/shardCount)
	}
	return c
}

func (c *cache) get(sum [32]byte) (*Token, *key) {
	if c == nil {
		return nil, nil
	}
	s := &c.shards[sum[0]%shardCount]
	s.mu.RLock()
	e := s.entries[sum]
	s.mu.RUnlock()
	return e.token, e.key
}

func (c *cache) put(sum [32]byte, t *Token, k *key, now time.Time) {
	if c == nil || !now.Before(t.Expires) {
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
	s.entries[sum] = entry{t, k}
}
