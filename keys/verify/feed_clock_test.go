package verify_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/keys/verify/verifytest"
)

// stepped is a clock that goes on, and that somebody sets.
type stepped struct{ by atomic.Int64 }

func (s *stepped) Now() time.Time        { return time.Now().Add(time.Duration(s.by.Load())) }
func (s *stepped) set(off time.Duration) { s.by.Store(int64(off)) }

// TestClockOfTheAPIIsSet: it makes the feed neither stale nor fresh, and what
// was revoked is neither forgotten nor missed.
func TestClockOfTheAPIIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		c := &stepped{}
		f := follow(t, issuer, func(config *verify.Config) { config.Now = c.Now })
		issuer.Revoke(feed.Session, "session")
		synctest.Wait()
		for _, off := range []time.Duration{time.Hour, -time.Hour, 24 * time.Hour, 0} {
			c.set(off)
			pass(70 * time.Second) // each shard of the set was swept
			s := f.v.FeedState()
			if !s.Following || s.Events != 1 || f.log.lines("level=ERROR") != 0 {
				t.Errorf("after %s: %+v\n%s", off, s, f.log)
			}
		}
		// The clock is right, and the event's 300 seconds will have gone.
		pass(100 * time.Second)
		if s := f.v.FeedState(); s.Events != 0 {
			t.Errorf("what has expired is kept: %+v", s)
		}
		issuer.SetDown(true)
		issuer.Feed.Cut()
		pass(20 * time.Second)
		c.set(-time.Hour)
		pass(20 * time.Second)
		if s := f.v.FeedState(); s.Following {
			t.Errorf("setting the clock back makes it fresh: %+v", s)
		}
	})
}

// TestClockOfTheAPIIsWrong from the start: within Leeway that doesn't matter.
func TestClockOfTheAPIIsWrong(t *testing.T) {
	for off, following := range map[time.Duration]bool{9 * time.Second: true, -9 * time.Second: true, 38 * time.Second: true, time.Minute: false, -time.Hour: true} {
		synctest.Test(t, func(t *testing.T) {
			issuer := verifytest.NewInMemory(t)
			c := &stepped{}
			c.set(off)
			f := follow(t, issuer, func(config *verify.Config) { config.Now = c.Now })
			pass(5 * time.Minute)
			if s := f.v.FeedState(); s.Following != following {
				t.Errorf("%s: %+v", off, s)
			}
		})
	}
}

// TestClockOfTheIssuerIsSet: forward, and back to what it should be.
func TestClockOfTheIssuerIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		c := &stepped{}
		issuer.SetClock(c.Now)
		f := follow(t, issuer)
		for _, off := range []time.Duration{time.Hour, 0, 20 * time.Second, 0} {
			c.set(off)
			pass(50 * time.Second)
			if s := f.v.FeedState(); !s.Following || f.log.lines("level=ERROR") != 0 {
				t.Errorf("after %s: %+v\n%s", off, s, f.log)
			}
		}
	})
}

// TestMachineSlept: the connection that it had is not trusted for long.
func TestMachineSlept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		c := &stepped{}
		f := follow(t, issuer, func(config *verify.Config) { config.Now = c.Now })
		pass(5 * time.Second)
		c.set(time.Hour)
		pass(2 * time.Second)
		if s := f.v.FeedState(); s.Reconnects != 1 || !strings.Contains(s.LastError, "slept") {
			t.Errorf("%+v", s)
		}
	})
}

// TestIntrospectWhenStale: the issuer is there, the stream is held back.
func TestIntrospectWhenStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		f := follow(t, issuer, whenStale(verify.Introspect))
		issuer.Feed.Stall(true)
		pass(31 * time.Second)
		good, bad := issuer.Token(nil), issuer.Token(map[string]any{"sid": "bad"})
		issuer.Revoke(feed.Session, "bad")
		f.answers(t, "good", good, 200)
		f.answers(t, "revoked", bad, 401)
		if n := issuer.Feed.Questions.Load(); n != 2 {
			t.Errorf("%d questions for two tokens in a second", n)
		}
		issuer.Revoke(feed.Session, "session")
		f.answers(t, "revoked, within the second", good, 200)
		pass(time.Second)
		f.answers(t, "revoked", good, 401)
		if s := f.v.FeedState(); s.Introspected != 8 || s.Unchecked != 0 || s.Following || f.v.Ready() != nil {
			t.Errorf("%+v, %v", s, f.v.Ready())
		}
		issuer.SetDown(true)
		pass(time.Second)
		f.answers(t, "the issuer is down", issuer.Token(map[string]any{"sid": "other"}), 503)
		issuer.SetDown(false)
		issuer.Feed.Stall(false)
		pass(30 * time.Second)
		before := issuer.Feed.Questions.Load()
		f.answers(t, "followed again", issuer.Token(map[string]any{"sid": "other"}), 200)
		if n := issuer.Feed.Questions.Load(); n != before {
			t.Errorf("%d questions while the feed is followed", n-before)
		}
	})
}

// TestIntrospectionIsBounded: a flood of tokens asks the issuer about 16 at a
// time, and about one token once, however many ask.
func TestIntrospectionIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		inner := issuer.Client.Transport
		var mu sync.Mutex
		var now, most int
		issuer.Client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			switch r.URL.Path {
			case "/feed":
				return nil, errors.New("no route")
			case "/introspect":
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				<-time.After(100 * time.Millisecond)
				mu.Lock()
				now--
				mu.Unlock()
			}
			return inner.RoundTrip(r)
		})
		f := follow(t, issuer, whenStale(verify.Introspect))
		pass(31 * time.Second)
		var wg sync.WaitGroup
		for i := range 40 {
			token := issuer.Token(map[string]any{"sid": string(rune('a' + i))})
			for range 5 {
				wg.Go(func() {
					if rec := f.call(token); rec.Code != 200 {
						t.Errorf("%d %s", rec.Code, rec.Body)
					}
				})
			}
		}
		wg.Wait()
		if n := issuer.Feed.Questions.Load(); n != 40 || most != 16 {
			t.Errorf("%d questions, %d at a time", n, most)
		}
	})
}

// TestUnknownKindIsTold: an event of a later server.
func TestUnknownKindIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		f := follow(t, issuer)
		now := time.Now()
		for range 3 {
			issuer.RevokeEvents(feed.Event{ID: "x", Kind: "of_tomorrow", Subject: "session", NotBefore: now, Until: now.Add(time.Minute)})
		}
		synctest.Wait()
		f.answers(t, "another", issuer.Token(nil), 200)
		if s := f.v.FeedState(); s.Unknown != 3 || s.Reconnects != 0 || s.Events != 0 || f.log.lines("update keys/verify") != 1 {
			t.Errorf("%+v\n%s", s, f.log)
		}
	})
}

func TestFeedConfig(t *testing.T) {
	credential := &verify.Credential{ID: "api", Secret: "s"}
	for name, c := range map[string]verify.Config{
		"no credential":   {Feed: &verify.Feed{}},
		"stale in 1 s":    {Credential: credential, Feed: &verify.Feed{StaleAfter: time.Second}},
		"stale in a day":  {Credential: credential, Feed: &verify.Feed{StaleAfter: 24 * time.Hour}},
		"negative":        {Credential: credential, Feed: &verify.Feed{StaleAfter: -1}},
		"unknown policy":  {Credential: credential, Feed: &verify.Feed{WhenStale: 3}},
		"half credential": {Credential: &verify.Credential{ID: "api"}, Feed: &verify.Feed{}},
	} {
		c.Issuer, c.Audience = "https://login.example.com", audience
		if _, err := verify.New(t.Context(), c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	w := newWorld(t)
	if s := w.v.FeedState(); s != (verify.FeedState{}) {
		t.Errorf("without a feed: %+v", s)
	}
}
