package abuse

import (
	"math"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// maxTally is where a count stops: above every Count of a rule, below what an
// int holds anywhere.
const maxTally = math.MaxInt32

// happened is when something was reported to have been: at Last by the API's
// clock, which may be ahead, and nothing that is reported lies ahead.
func happened(r *reports.Report, now time.Time) time.Time {
	if r.Last.After(now) {
		return now
	}
	return r.Last
}

// counts is how much of a report counts within the given length of time before
// now: all of it, or none if its end is not within. One that spans more than
// that, because the API could not send for long, was spread evenly as far as
// anybody knows.
func counts(r *reports.Report, within time.Duration, now time.Time) int {
	if now.Sub(happened(r, now)) >= within {
		return 0
	}
	if span := r.Last.Sub(r.First); span > within {
		return max(1, int(float64(r.Count)*(float64(within)/float64(span))))
	}
	return r.Count
}

// window is the number of the window that t is in: see [storage.CaseTally].
func window(t time.Time, within time.Duration) int64 {
	n := t.UnixNano()
	w := n / int64(within)
	if n%int64(within) < 0 {
		w--
	}
	return w
}

// turn moves a tally on to the window of now. One that is a window ahead is
// another server's, whose clock is: it stays. One further ahead, or of a rule
// whose Within was changed, says nothing.
func turn(t *storage.CaseTally, within time.Duration, now time.Time) {
	switch w := window(now, within); w - t.Window {
	case 0, -1:
	case 1:
		t.Window, t.Previous, t.Current = w, t.Current, 0
	default:
		t.Window, t.Previous, t.Current = w, 0, 0
	}
}

// add counts n that happened at a time within the window before now.
func add(t *storage.CaseTally, n int, at time.Time, within time.Duration, now time.Time) {
	turn(t, within, now)
	in := &t.Current
	if window(at, within) < t.Window {
		in = &t.Previous
	}
	*in += min(n, maxTally-*in)
}

// estimate is how much was counted within the window before now: the window
// before counts for the share of it that is still covered.
func estimate(t storage.CaseTally, within time.Duration, now time.Time) int {
	turn(&t, within, now)
	into := time.Duration(max(0, now.UnixNano()-t.Window*int64(within)))
	share := 1 - float64(into)/float64(within)
	return t.Current + int(float64(t.Previous)*share)
}

// lapsed reports whether a tally can't count any more.
func lapsed(t storage.CaseTally, p *Policy, now time.Time) bool {
	r := p.rule(t.Rule)
	if r == nil {
		return true
	}
	turn(&t, r.Within, now)
	return t.Current == 0 && t.Previous == 0
}

// tallyOf returns the place of the tally of a rule and a resource server, made
// if there is none. If there is no room the smallest goes: whoever it is of is
// treated more kindly, never more harshly.
func tallyOf(c *storage.Case, p *Policy, r *Rule, rs clients.ID, now time.Time) *storage.CaseTally {
	smallest, least := 0, math.MaxInt
	for i := range c.Tallies {
		t := &c.Tallies[i]
		if t.Rule == r.Name && t.ResourceServer == rs {
			return t
		}
		size := 0
		if other := p.rule(t.Rule); other != nil {
			size = estimate(*t, other.Within, now)
		}
		if size < least {
			smallest, least = i, size
		}
	}
	fresh := storage.CaseTally{Rule: r.Name, ResourceServer: rs, Window: window(now, r.Within)}
	if len(c.Tallies) < storage.MaxTallies {
		c.Tallies = append(c.Tallies, fresh)
		return &c.Tallies[len(c.Tallies)-1]
	}
	c.Tallies[smallest] = fresh
	return &c.Tallies[smallest]
}
