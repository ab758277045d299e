package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/solegate/solegate/keys/verify/feed"
)

// How the feed is asked for again.
const (
	shortestBackoff = 250 * time.Millisecond
	longestBackoff  = 8 * time.Second
	// steady is how long a connection must have lasted for the next one to be
	// made without much delay: one that fails again and again has to wait.
	steady = 10 * time.Second
	// firstRead is how long New waits for the feed: enough for a million events.
	firstRead = 10 * time.Second
	// sweepEvery is how often one shard of the set is swept: each is within
	// about a minute.
	sweepEvery = time.Second
	// slept is by how much the clock on the wall must be ahead of the
	// runtime's after a second to mean that this machine has slept.
	slept = 5 * time.Second
	// forever is longer than any event lives.
	forever = 100 * 365 * 24 * time.Hour
)

// follower reads the feed into a set and knows how fresh that is.
//
// All waiting and all ages are measured by the clock of the runtime, which only
// goes forward: Config.Now, the clock on the wall, may be set at any time. It
// is asked only where the issuer's clock comes in.
type follower struct {
	config   *Config
	keys     *keySet
	client   *http.Client // Config.Client for answers that don't end
	policy   StalePolicy
	patience time.Duration // StaleAfter
	stall    time.Duration // how long a connection may bring nothing
	born     time.Time
	set      *revoked
	asked    *introspector
	watchers *watchers

	whole     bool            // of run: the snapshot was read to its end
	endpoints *issuerMetadata // of run: nil before they are known

	stale atomic.Bool // looked at by each request

	refused, unchecked, passed, introspected, reconnects, unknown atomic.Uint64

	mu         sync.Mutex              // guards what follows
	at         feed.Cursor             // up to there the feed was read
	contact    time.Time               // up to then all is known, by the runtime's clock
	timer      *time.Timer             // makes stale what is not contacted
	asOf       time.Time               // the same by the issuer's clock
	drift      time.Duration           // the issuer's clock at born, since 1970, as far as it was seen
	staleSince time.Time               // by the clock on the wall
	told       bool                    // the log knows whether it is stale
	broken     bool                    // the log knows that the feed had to begin anew
	last       error                   // why the last connection ended
	cut        context.CancelCauseFunc // ends the connection; nil before the first

	read     chan struct{} // closed when the first attempt has succeeded or failed
	readOnce func()
}

func newFollower(c *Config, keys *keySet) *follower {
	client := *c.Client
	client.Timeout = 0 // the stall is what ends an answer that doesn't come
	client.Jar = nil
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	f := &follower{
		config: c, keys: keys, client: &client,
		policy: c.Feed.WhenStale, patience: c.Feed.StaleAfter, stall: c.Feed.StaleAfter * 2 / 3,
		born: time.Now(), set: newRevoked(), read: make(chan struct{}), staleSince: c.Now(),
	}
	f.readOnce = sync.OnceFunc(func() { close(f.read) })
	f.stale.Store(true) // what was revoked before this process began is not known
	f.asked = newIntrospector(f)
	f.watchers = newWatchers()
	f.set.changed = f.touched
	return f
}

// start begins to follow, until ctx ends. It waits a moment for the first read,
// so that a process that says it is there knows what was revoked.
func (f *follower) start(ctx context.Context) {
	go f.run(ctx)
	go f.sweep(ctx)
	if f.policy == Introspect {
		go f.questions(ctx)
	}
	timer := time.NewTimer(firstRead)
	defer timer.Stop()
	select {
	case <-f.read:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (f *follower) run(ctx context.Context) {
	delay := shortestBackoff
	for {
		began := time.Now()
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		lasted := time.Since(began)
		if errors.Is(err, errAnew) {
			// What a lost connection can't explain is read again from the
			// start: something between here and the issuer drops, repeats or
			// forges, or the issuer has another past now. Nothing that is known
			// is forgotten.
			f.whole = false
			f.moveTo("")
		}
		f.ended(err, lasted)
		if lasted >= steady {
			delay = shortestBackoff
		}
		wait := delay/2 + rand.N(delay/2+1) // not all APIs at the same moment
		if e, ok := errors.AsType[*answerError](err); ok {
			f.endpoints = nil // the server may have moved them
			wait = max(wait, min(e.after, f.patience/3))
		}
		delay = min(2*delay, longestBackoff)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		f.reconnects.Add(1)
	}
}

// sweep forgets what has expired, and notices when this machine has slept: the
// runtime's clock sleeps with it, so the connection would seem fresh for a while.
func (f *follower) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	alive, wall := time.Now(), f.config.Now().Round(0)
	for shard := 0; ; shard++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		nowAlive, nowWall := time.Now(), f.config.Now().Round(0)
		if nowWall.Sub(wall)-nowAlive.Sub(alive) > slept {
			f.mu.Lock()
			if f.cut != nil {
				f.cut(errors.New("the clock of this machine was set forward, or it has slept"))
			}
			f.mu.Unlock()
		}
		alive, wall = nowAlive, nowWall
		f.set.sweep(shard, f.seconds(nowAlive.Sub(f.born)), nowWall.Add(-f.config.Leeway))
	}
}

// seconds is a time since born in the unit of the set.
func (f *follower) seconds(d time.Duration) uint32 {
	return uint32(min(max(d/time.Second, 0), 1<<32-1))
}

// apply takes the events of a document. It was verified.
func (f *follower) apply(m *feed.Message) {
	known := m.Events[:0:0]
	for _, e := range m.Events {
		if e.Kind.Known() {
			known = append(known, e)
		} else if f.unknown.Add(1) == 1 {
			f.config.Log.Error("the revocation feed has events that this version doesn't know and can't apply; update keys/verify", "kind", e.Kind)
		}
	}
	now := time.Since(f.born)
	// By the issuer's clock at both ends, whatever ours says. Leeway, because
	// tokens live that much longer here; a second, because both are whole.
	f.set.add(known, func(e feed.Event) uint32 {
		return f.seconds(now + min(e.Until.Sub(m.IssuedAt), forever) + f.config.Leeway + time.Second)
	})
}

// moveTo takes note of the place up to which the feed was read. Only run moves.
func (f *follower) moveTo(at feed.Cursor) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = at
}

// complete takes note of a document that says that all was told as of its iat,
// and reports whether that is later than what was known.
//
// It counts as of when it was signed, not as of when it arrived: a proxy that
// holds documents back or sends old ones doesn't make the feed fresh. How long
// ago that was is judged by two clocks, and the younger age counts: ours, within
// Leeway, and the issuer's own as it was last seen, which goes on with the
// runtime's clock. So neither side's clock can be set in a way that matters.
func (f *follower) complete(iat time.Time) bool {
	now := time.Now()
	alive := now.Sub(f.born)
	f.mu.Lock()
	defer f.mu.Unlock()
	age := f.config.Now().Sub(iat) - f.config.Leeway
	signed := time.Duration(iat.UnixNano())
	if f.drift != 0 {
		age = min(age, f.drift+alive-signed)
	}
	age = max(age, 0)
	at := now.Add(-age)
	if !at.After(f.contact) || age >= f.patience {
		return false
	}
	f.drift = max(f.drift, signed-alive)
	f.contact, f.asOf = at, iat
	if f.timer == nil {
		f.timer = time.AfterFunc(f.patience-age, f.expire)
	} else {
		f.timer.Reset(f.patience - age)
	}
	if f.stale.Swap(false) {
		f.config.Log.Info("the revocation feed is followed", "issuer", f.config.Issuer, "cursor", f.at, "events", f.set.count.Load(), "stale_for", f.config.Now().Sub(f.staleSince).Round(time.Second))
		f.staleSince = time.Time{}
		f.told = false
	}
	return true
}

// expire makes the feed stale if it is.
func (f *follower) expire() {
	if !f.expired() {
		return
	}
	for _, w := range f.watchers.list() {
		f.outdated(w)
	}
}

// expired reports whether the feed is stale, and takes note of it.
func (f *follower) expired() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if age := time.Since(f.contact); age < f.patience { // there was word just now
		f.timer.Reset(f.patience - age)
		return false
	}
	if !f.stale.Swap(true) {
		f.staleSince = f.config.Now()
	}
	f.tell()
	return true
}

// tell tells the log that the feed is stale, once. mu is held.
func (f *follower) tell() {
	if f.told {
		return
	}
	f.told = true
	f.config.Log.Error("the revocation feed can't be followed; what was revoked lately is not known", "issuer", f.config.Issuer, "as_of", f.asOf, "when_stale", f.policy, "error", f.last)
}

// ended takes note of a connection that ended. The log hears of it only if it
// changes something.
func (f *follower) ended(err error, lasted time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = err
	if lasted >= steady {
		f.broken = false
	}
	switch {
	case f.stale.Load():
		f.tell()
	case errors.Is(err, errAnew) && !f.broken:
		f.broken = true
		f.config.Log.Warn("the revocation feed is read anew from its snapshot", "issuer", f.config.Issuer, "error", err)
	}
	f.readOnce()
}

// ready returns why the feed is stale, or nil.
func (f *follower) ready() error {
	if !f.stale.Load() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil {
		return errors.New("the revocation feed was not read yet, or has fallen silent")
	}
	return fmt.Errorf("the revocation feed can't be followed: %w", f.last)
}

func (f *follower) state() FeedState {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := FeedState{
		Following: !f.stale.Load(), StaleSince: f.staleSince, AsOf: f.asOf, Cursor: string(f.at),
		Events: f.set.count.Load(), Unknown: f.unknown.Load(), Reconnects: f.reconnects.Load(),
		Refused: f.refused.Load(), Unchecked: f.unchecked.Load(), Passed: f.passed.Load(), Introspected: f.introspected.Load(),
	}
	s.Watched, s.Ended = f.watchers.stats()
	if f.last != nil {
		s.LastError = f.last.Error()
	}
	return s
}

// LogValue is how a policy stands in a log.
func (p StalePolicy) LogValue() slog.Value { return slog.StringValue(p.String()) }
