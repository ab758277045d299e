package verify

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Shared lets replicas count together. Requests never wait for it: what a
// replica let through is charged in the background, every tenth of a second,
// and the answer says how much all of them together have used up. So an
// account can have at most its burst once more at each further replica, and
// what comes in a tenth of a second; in the long run it has its rate once.
//
// While it can't be reached or is slow, each replica's own limit goes on alone,
// and the log says so once. What was to be charged then is not charged later.
//
// It needs no knowledge of the limits. The README has a script for Redis.
type Shared interface {
	// Charge adds each Cost to how long the bucket of Key needs to be full
	// again, which is not less than zero before, and sets Backlog to the sum:
	// for each key in one atomic step, counted by one clock for all replicas.
	// A bucket that is full again may be forgotten. It must return when ctx
	// ends; after an error no Backlog counts.
	Charge(ctx context.Context, charges []Charge) error
}

// Charge is what one account has used of one limit since the last charge.
type Charge struct {
	Key     [32]byte      // whose and which limit's: a hash, the same in all replicas
	Cost    time.Duration // how long the bucket needs longer to be full again
	Backlog time.Duration // the answer: how long it needs now
}

// Bounds of sharing.
const (
	shareEvery   = 100 * time.Millisecond
	shareTimeout = time.Second
	shareRetry   = time.Second // after an error
	maxShared    = 1 << 16     // accounts between two charges; what others use is not shared
	maxCharges   = 1000        // in one call
)

// limits are the limits of a Verifier and their buckets.
type limits struct {
	*buckets
	audience string
	shared   Shared
	log      *slog.Logger
	start    time.Time    // when the time of the buckets began
	clock    func() int64 // their time
	alone    atomic.Bool  // the last charge failed

	mu     sync.Mutex // guards what follows
	byName map[string]*limit
	due    map[uint64]*due // by the bucket's key
}

// due is what is to be charged.
type due struct {
	limit *limit
	key   [32]byte
	cost  int64
}

// newLimits returns the limits of a completed Config. Without a clock of its
// own, the monotonic one is asked alone, which is half the price.
func newLimits(c *Config, ownClock bool) *limits {
	start := c.Now()
	clock := func() int64 { return int64(time.Since(start)) }
	if ownClock {
		clock = func() int64 { return int64(c.Now().Sub(start)) }
	}
	return &limits{
		buckets: newBuckets(c.Limits.Accounts), audience: c.Audience, shared: c.Limits.Shared,
		log: c.Log, start: start, clock: clock, byName: map[string]*limit{}, due: map[uint64]*due{},
	}
}

// add returns the limit, the same one for the same numbers.
func (s *limits) add(l Limit) *limit {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.byName[l.Name]; x != nil {
		if x.Limit != l {
			panic(fmt.Sprintf("verify: there are two limits named %q with different numbers: give one of them another Name", l.Name))
		}
		return x
	}
	x := newLimit(l)
	s.byName[l.Name] = x
	return x
}

// time is the time of the buckets when a request came, or now if that is not
// known.
func (s *limits) time(came time.Time) int64 {
	if came.IsZero() {
		return s.clock()
	}
	return int64(came.Sub(s.start))
}

// take takes one request out of an account's bucket at a time.
func (s *limits) take(l *limit, t *Token, now int64) (backlog int64, ok bool) {
	key := l.key(t, l.By)
	backlog, ok = s.buckets.take(key, now, l.rate, &l.crowd)
	if ok && s.shared != nil {
		s.used(l, t, key)
	}
	return backlog, ok
}

// used notes that a request is to be charged.
func (s *limits) used(l *limit, t *Token, key uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.due[key]
	if d == nil {
		if len(s.due) >= maxShared {
			return
		}
		d = &due{limit: l, key: l.sharedKey(s.audience, t)}
		s.due[key] = d
	}
	d.cost += l.cost
}

// sharedKey is the bucket's key between replicas.
func (l *limit) sharedKey(audience string, t *Token) [32]byte {
	parts := [4]string{audience, l.Name}
	if l.By != ByClient {
		parts[2] = t.Subject
	}
	if l.By != BySubject {
		parts[3] = t.ClientID
	}
	text := append(make([]byte, 0, 256), "limit"...)
	for _, part := range parts {
		text = binary.BigEndian.AppendUint32(text, uint32(len(part)))
		text = append(text, part...)
	}
	return sha256.Sum256(text)
}

// share charges what was used until ctx ends.
func (s *limits) share(ctx context.Context) {
	failing := false
	for {
		wait := shareEvery
		if failing {
			wait = shareRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		charged, err := s.charge(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case !charged:
			continue
		case err != nil && !failing:
			s.log.Error("the limits of all replicas can't be charged; each goes on with its own", "error", err)
		case err == nil && failing:
			s.log.Info("the limits of all replicas are charged again")
		}
		failing = err != nil
		s.alone.Store(failing)
	}
}

// stats counts what was done.
func (s *limits) stats() LimitStats {
	sum := s.buckets.stats()
	sum.Alone = s.alone.Load()
	return sum
}

// charge charges what was used since the last time. It reports false if there
// was nothing.
func (s *limits) charge(ctx context.Context) (bool, error) {
	s.mu.Lock()
	used := s.due
	if len(used) == 0 {
		s.mu.Unlock()
		return false, nil
	}
	s.due = map[uint64]*due{}
	s.mu.Unlock()
	charges := make([]Charge, 0, min(len(used), maxCharges))
	buckets := make([]uint64, 0, cap(charges))
	send := func() error {
		if len(charges) == 0 {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, shareTimeout)
		defer cancel()
		if err := s.shared.Charge(ctx, charges); err != nil {
			return err
		}
		now := s.clock()
		for i, c := range charges {
			// Not more than two buckets' worth, whatever it says: an
			// account can't be shut out for longer.
			s.raise(buckets[i], now, min(int64(c.Backlog), 2*used[buckets[i]].limit.capacity))
		}
		charges, buckets = charges[:0], buckets[:0]
		return nil
	}
	for key, d := range used {
		charges, buckets = append(charges, Charge{Key: d.key, Cost: time.Duration(d.cost)}), append(buckets, key)
		if len(charges) == maxCharges {
			if err := send(); err != nil {
				return true, err
			}
		}
	}
	return true, send()
}
