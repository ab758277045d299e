package verify

import (
	"hash/maphash"
	"math"
	"sync"
)

// Sizes of the table of buckets.
const (
	bucketShards = 256
	maxAccounts  = 1 << 28
	leastSlots   = 8          // of a shard
	lookEvery    = int64(1e9) // nanoseconds between two looks for room in a full shard
	overflows    = 1024
)

// buckets are the token buckets of all accounts and limits. A bucket is one
// word: the time at which it is full again (the theoretical arrival time of
// GCRA, ITU-T I.371), which says all about it together with the limit's
// numbers. Times are nanoseconds since the Verifier began, by the monotonic
// clock: no step of the wall clock fills or drains one.
//
// A bucket that is full again says the same as none, so its place can go to
// another, and no other's can. The table grows and shrinks with the accounts
// that are not full again, to its bound and no further. Beyond that, an account
// that finds no place shares one of a few buckets with others that find none:
// a flood of identities can neither make a limited one forgotten, nor pass in
// unlimited numbers, nor use up memory.
type buckets struct {
	most   int // slots of a shard
	shards [bucketShards]bucketShard
}

type bucketShard struct {
	mu    sync.Mutex // guards all below
	slots []slot     // a power of two of them; collisions go to the next one
	used  int        // slots with a key
	swept int64      // when room was last looked for, of a shard that can't grow

	passed, limited, crowded uint64

	_ [56]byte // each shard's lock on a cache line of its own
}

// slot is a bucket and whose it is, by a keyed hash: nobody outside can choose
// two accounts that collide. Two of a million do by chance at one in 10^7.
type slot struct {
	key  uint64 // 0: nobody's
	full int64  // when the bucket is full again
}

// newBuckets returns a table with room for at least so many accounts, and for
// the chance that some shards get more of them than others.
func newBuckets(accounts int) *buckets {
	mean := float64(accounts) / bucketShards
	b := &buckets{most: leastSlots}
	for float64(b.most)*3/4 < mean+4*math.Sqrt(mean)+8 {
		b.most *= 2
	}
	for i := range b.shards {
		b.shards[i].slots = make([]slot, leastSlots)
	}
	return b
}

// crowd are the buckets that accounts share which find no place in the table.
type crowd struct {
	mu   sync.Mutex
	full [overflows]int64
}

// rate is a limit in the table's terms: nanoseconds that one request costs, and
// that a full bucket holds.
type rate struct{ cost, capacity int64 }

// take takes one request out of a bucket at a time, if it is there. backlog is
// how long the bucket needs to be full again, after that.
func (b *buckets) take(key uint64, now int64, r rate, c *crowd) (backlog int64, ok bool) {
	s := &b.shards[key>>(64-8)]
	s.mu.Lock()
	var full *int64
	if at := &s.slots[key&uint64(len(s.slots)-1)]; at.key == key {
		full = &at.full
	} else {
		full = s.find(key, now, b.most)
	}
	if full == nil {
		s.crowded++
		backlog, ok = c.take(key, now, r)
	} else {
		backlog, ok = r.take(full, now)
	}
	if ok {
		s.passed++
	} else {
		s.limited++
	}
	s.mu.Unlock()
	return backlog, ok
}

func (c *crowd) take(key uint64, now int64, r rate) (backlog int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return r.take(&c.full[key%overflows], now)
}

func (r rate) take(full *int64, now int64) (backlog int64, ok bool) {
	backlog = max(*full-now, 0)
	if backlog+r.cost > r.capacity {
		return backlog, false
	}
	backlog += r.cost
	*full = now + backlog
	return backlog, true
}

// raise makes a bucket as empty as it is elsewhere, if it is fuller here.
func (b *buckets) raise(key uint64, now, backlog int64) {
	s := &b.shards[key>>(64-8)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if full := s.find(key, now, b.most); full != nil {
		*full = max(*full, now+backlog)
	}
}

// find returns the bucket of a key, a full one if there was none; nil if there
// is no room. mu is held.
func (s *bucketShard) find(key uint64, now int64, most int) *int64 {
	for {
		last := uint64(len(s.slots) - 1)
		var vacant *slot
		for i := key & last; ; i = (i + 1) & last {
			at := &s.slots[i]
			if at.key == key {
				return &at.full
			}
			if at.key == 0 {
				if vacant == nil && s.used < len(s.slots)*3/4 {
					s.used++
					vacant = at
				}
				break
			}
			if vacant == nil && at.full <= now {
				vacant = at // the chain goes on behind it
			}
		}
		if vacant != nil {
			*vacant = slot{key, now}
			return &vacant.full
		}
		if !s.makeRoom(now, most) {
			return nil
		}
	}
}

// makeRoom puts the buckets that are not full again into a table in which they
// take up half of the slots at most, if that may be so large. It reports
// whether there is room now. mu is held.
func (s *bucketShard) makeRoom(now int64, most int) bool {
	if len(s.slots) == most {
		if s.swept > now-lookEvery && s.swept != 0 {
			return false
		}
		s.swept = now
	}
	draining := 0
	for i := range s.slots {
		if s.slots[i].key != 0 && s.slots[i].full > now {
			draining++
		}
	}
	size := leastSlots
	for size < most && draining > size/2-1 {
		size *= 2
	}
	old := s.slots
	s.slots, s.used = make([]slot, size), draining
	last := uint64(size - 1)
	for _, o := range old {
		if o.key == 0 || o.full <= now {
			continue
		}
		i := o.key & last
		for s.slots[i].key != 0 {
			i = (i + 1) & last
		}
		s.slots[i] = o
	}
	return s.used < size*3/4
}

// LimitStats counts what limits have done since the Verifier began.
type LimitStats struct {
	Passed  uint64 // requests that passed a limit
	Limited uint64 // requests that were answered 429
	Crowded uint64 // requests of accounts for which there was no place, see Limits.Accounts
	Buckets int    // places in use by accounts, some of them by ones that are full again
	Alone   bool   // Limits.Shared fails or is slow: this replica counts for itself
}

func (b *buckets) stats() (sum LimitStats) {
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		sum.Passed += s.passed
		sum.Limited += s.limited
		sum.Crowded += s.crowded
		sum.Buckets += s.used
		s.mu.Unlock()
	}
	return sum
}

// identify hashes who is limited. Each limit has seeds of its own, so that all
// limits share one table.
type identify struct{ subject, client maphash.Seed }

func newIdentify() identify { return identify{maphash.MakeSeed(), maphash.MakeSeed()} }

// key is never 0.
func (i identify) key(t *Token, by By) uint64 {
	var key uint64
	if by != ByClient {
		key = maphash.String(i.subject, t.Subject)
	}
	if by != BySubject {
		key ^= maphash.String(i.client, t.ClientID)
	}
	return max(key, 1)
}
