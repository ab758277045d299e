package verifytest

import (
	"sync"
	"time"
)

// Clock is a clock that stands still until it is told to go on: for limits,
// which fill up again with time.
//
//	clock := verifytest.NewClock(time.Now())
//	issuer.SetClock(clock.Now)
//	v, err := verify.New(ctx, verify.Config{…, Now: clock.Now})
//	…                          // until the answer is 429
//	clock.Advance(time.Minute) // and now 200 again
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at a time.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance puts the clock forward, or back.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
