package admin

import (
	"sync"
	"time"
)

// Each operator may send a burst of requests, and after it so many a second:
// enough for a program that goes through a listing, too little for one that
// loops.
const (
	burst     = 200
	perSecond = 20
	maxTurns  = 1024 // operators that are remembered
)

// Turns bounds how often each of those who have a token for the API may ask.
// The zero Turns is ready, and safe for concurrent use. It counts in memory: at
// each server by itself.
type Turns struct {
	mu sync.Mutex
	// until is when each would have used up nothing: so much ahead of now as is
	// used up. It is mu's.
	until map[string]time.Time
}

// Take takes a turn of who at now, and returns zero, or how long to wait for it.
func (t *Turns) Take(who string, now time.Time) (wait time.Duration) {
	const each, all = time.Second / perSecond, burst * time.Second / perSecond
	t.mu.Lock()
	defer t.mu.Unlock()
	until := t.until[who]
	if until.Before(now) || until.Sub(now) > all { // a clock that was put back
		until = now
	}
	if ahead := until.Add(each).Sub(now); ahead > all {
		return ahead - all
	}
	if _, known := t.until[who]; !known && len(t.until) >= maxTurns {
		t.forget(now)
	}
	if t.until == nil {
		t.until = map[string]time.Time{}
	}
	t.until[who] = until.Add(each)
	return 0
}

// forget makes room: those who have used up nothing are as if never seen. If
// everybody has, it is whoever comes first: to be forgotten is to begin anew.
func (t *Turns) forget(now time.Time) {
	for who, until := range t.until {
		if !until.After(now) {
			delete(t.until, who)
		}
	}
	for who := range t.until {
		if len(t.until) < maxTurns {
			return
		}
		delete(t.until, who)
	}
}
