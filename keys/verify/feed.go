package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Feed is how the issuer's revocation feed is followed. Config.Credential must
// be set: the issuer tells a registered resource server what concerns its
// audience, and nobody else.
//
// The owner of the API decides one thing: what happens to requests while the
// issuer can't be reached, when nobody can say whether a token was revoked. See
// WhenStale.
type Feed struct {
	// StaleAfter is how long the API may be without word from the issuer
	// before WhenStale applies: 30 seconds if zero, otherwise 10 seconds to 10
	// minutes. The issuer says every five seconds that it has nothing to say,
	// so a feed that has merely stopped is noticed, too, and after two thirds
	// of this time asked for anew.
	StaleAfter time.Duration

	// WhenStale is what happens then, and from the start of the process until
	// the feed was read for the first time.
	WhenStale StalePolicy
}

// StalePolicy says what happens to a token while nobody knows what was revoked
// lately.
type StalePolicy uint8

const (
	// Refuse answers requests with 503, and Ready says why. No revoked token
	// ever passes; an outage of the issuer becomes one of the API after
	// StaleAfter. This is what happens if nothing else is asked for.
	Refuse StalePolicy = iota

	// Continue lets tokens pass that nothing is known against, with an alarm:
	// a line in the log, and [FeedState].Passed counts. An outage of the issuer
	// doesn't matter; who can keep the API from reaching it can use a revoked
	// token until it expires, some minutes.
	Continue

	// Introspect asks the issuer about each token (RFC 7662), and takes the
	// answer for a second. It helps when the issuer can be reached and the feed
	// can't, as behind a proxy that holds back what is streamed; if the issuer
	// is out of reach it answers 503 as Refuse does.
	Introspect
)

// String returns the policy's name.
func (p StalePolicy) String() string {
	switch p {
	case Refuse:
		return "refuse"
	case Continue:
		return "continue"
	case Introspect:
		return "introspect"
	}
	return fmt.Sprintf("StalePolicy(%d)", uint8(p))
}

const (
	defaultStaleAfter  = 30 * time.Second
	shortestStaleAfter = 10 * time.Second // two heartbeats
	longestStaleAfter  = 10 * time.Minute
)

func (f *Feed) complete(c *Credential) error {
	if f.StaleAfter == 0 {
		f.StaleAfter = defaultStaleAfter
	}
	switch {
	case c == nil:
		return errors.New("verify: Feed needs Credential: the issuer tells a registered resource server what was revoked; solegate resource register makes one")
	case f.StaleAfter < shortestStaleAfter || f.StaleAfter > longestStaleAfter:
		return fmt.Errorf("verify: Feed.StaleAfter is %s: %s to %s are expected", f.StaleAfter, shortestStaleAfter, longestStaleAfter)
	case f.WhenStale > Introspect:
		return fmt.Errorf("verify: Feed.WhenStale is %d: Refuse, Continue or Introspect is expected", f.WhenStale)
	}
	return nil
}

// FeedState is how things stand with the feed, for metrics. The counters begin
// with the process. To publish it with the standard library:
//
//	expvar.Publish("feed", expvar.Func(func() any { return v.FeedState() }))
type FeedState struct {
	// Following says that what was revoked is known, as of StaleAfter ago at
	// most. Otherwise WhenStale applies.
	Following bool
	// StaleSince is when Following ended, or when the process began; zero
	// while following.
	StaleSince time.Time
	// AsOf is the issuer's time as of which all is known; zero if nothing is.
	AsOf time.Time
	// Cursor is the place in the feed up to which it was read.
	Cursor string
	// Events is how many events are held.
	Events int64
	// Unknown counts events of a kind that this version doesn't know and can't
	// apply: update it.
	Unknown uint64
	// Reconnects counts how often the feed was asked for again.
	Reconnects uint64
	// LastError is why, the last time; "" if it never was.
	LastError string
	// Refused counts requests that were refused for what the feed said.
	Refused uint64
	// Unchecked counts requests that were refused because the feed was stale.
	Unchecked uint64
	// Passed counts requests that passed while it was stale, by Continue.
	Passed uint64
	// Introspected counts requests that the issuer was asked about, or that
	// took the answer of the last second.
	Introspected uint64
	// Watched is how many contexts of Watch are open.
	Watched int
	// Ended counts those that were ended for what the feed said, or because it
	// was stale.
	Ended uint64
}

// FeedState says how things stand with the revocation feed. It is the zero
// value without Config.Feed.
func (v *Verifier) FeedState() FeedState {
	if v.feed == nil {
		return FeedState{}
	}
	return v.feed.state()
}

// allow refuses a token that passed all else if the feed names it, or if nobody
// can say and the policy is not to go on.
func (f *follower) allow(ctx context.Context, e *entry, sum [32]byte, token string) error {
	// The version is read before the set is: what comes in between is looked
	// for again.
	if version, checked := f.set.version.Load(), e.checked.Load(); checked != version {
		if checked == 0 || f.set.recent.concern(e.marks.Load(), checked, version) {
			if why := f.set.names(e); why != "" {
				f.refused.Add(1)
				return revokedError(errors.New("the feed says: " + why))
			}
		}
		e.checked.Store(version)
	}
	if !f.stale.Load() {
		return nil
	}
	switch f.policy {
	case Continue:
		f.passed.Add(1)
		return nil
	case Introspect:
		f.introspected.Add(1)
		active, err := f.asked.active(ctx, sum, token)
		switch {
		case err != nil:
			f.unchecked.Add(1)
			return unchecked(fmt.Errorf("the revocation feed is stale and introspection fails: %w", err))
		case !active:
			return revokedError(errors.New("introspection says that it is not active"))
		}
		return nil
	}
	f.unchecked.Add(1)
	return unchecked(f.ready())
}

// revokedError refuses a token that was good once; the reason is for the log.
func revokedError(cause error) *Error {
	return &Error{Code: "invalid_token", Description: "The access token was revoked.", Status: http.StatusUnauthorized, Cause: cause}
}

// unchecked refuses a token that may be good.
func unchecked(cause error) *Error {
	return &Error{Code: "temporarily_unavailable", Description: "Whether the access token was revoked can't be checked now.", Status: http.StatusServiceUnavailable, Cause: cause}
}
