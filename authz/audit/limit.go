package audit

import (
	"strings"
	"sync"
	"time"

	"github.com/solegate/solegate/storage"
)

// What is kept of events that somebody can cause as often as they like.
const (
	strangersPerSecond = 1
	strangersBurst     = 500
	strangersText      = 128 // bytes: for months, whoever attacks
	accountPerSecond   = 1
	accountBurst       = 60
	maxAccounts        = 4096 // who are remembered at once
)

// repeatable are the events that an account can cause without end, and that
// decide nothing.
var repeatable = map[string]bool{"code issued": true, "consent given": true, "consent denied": true}

// limits says which events are not kept, so that nobody fills the store. What is
// of consequence is always kept.
type limits struct {
	mu        sync.Mutex
	strangers bucket
	accounts  map[storage.UserID]*bucket
	left      int // out, since it was last asked
}

// ofStrangers reports whether e is what a stranger can cause.
func ofStrangers(e Event) bool { return strings.HasSuffix(e.What, " refused") }

// leftOut reports whether e, at now, is one too many, and counts it.
func (l *limits) leftOut(e Event, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	fits := true
	switch {
	case ofStrangers(e):
		fits = l.strangers.take(now, strangersPerSecond, strangersBurst)
	case repeatable[e.What]:
		b := l.accounts[e.User]
		if b == nil {
			if l.accounts == nil || len(l.accounts) >= maxAccounts {
				l.accounts = map[storage.UserID]*bucket{}
			}
			b = &bucket{}
			l.accounts[e.User] = b
		}
		fits = b.take(now, accountPerSecond, accountBurst)
	}
	if !fits {
		l.left++
	}
	return !fits
}

// take returns how many were left out since.
func (l *limits) take() (left int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left, l.left = l.left, 0
	return left
}

// bucket is a token bucket; the zero value is full.
type bucket struct {
	spent float64
	at    time.Time
}

func (b *bucket) take(now time.Time, perSecond, burst float64) bool {
	if passed := now.Sub(b.at); passed > 0 { // a clock that was set back gives nothing
		b.spent = max(0, b.spent-passed.Seconds()*perSecond)
	}
	b.at = now
	if b.spent+1 > burst {
		return false
	}
	b.spent++
	return true
}
