package verify_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/keys/verify/verifytest"
)

// open opens something that goes on, as a handler would.
func (f *following) open(tb testing.TB, token string) (context.Context, context.CancelFunc) {
	tb.Helper()
	var watched context.Context
	var stop context.CancelFunc
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	rec := httptest.NewRecorder()
	f.v.Require()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { watched, stop = f.v.Watch(r.Context()) })).ServeHTTP(rec, r)
	if watched == nil {
		tb.Fatalf("it was not let in: %d %s", rec.Code, rec.Body)
	}
	tb.Cleanup(stop)
	return watched, stop
}

// ended returns the status of the error that ended a context; 0 if it goes on.
func ended(t *testing.T, ctx context.Context) int {
	t.Helper()
	if ctx.Err() == nil {
		return 0
	}
	e, ok := errors.AsType[*verify.Error](context.Cause(ctx))
	if !ok {
		t.Fatalf("it ended by %v", context.Cause(ctx))
	}
	return e.Status
}

// TestWatchEndsWithItsToken: each kind of event ends what it is about and
// nothing else, without any request.
func TestWatchEndsWithItsToken(t *testing.T) {
	for _, test := range []struct {
		kind    feed.Kind
		subject string
		other   map[string]any // a token that it is not about
	}{
		{feed.User, "alice", map[string]any{"sub": "bob"}},
		{feed.Client, "spa", map[string]any{"client_id": "other"}},
		{feed.Session, "session", map[string]any{"sid": "other"}},
		{feed.Grant, "grant", map[string]any{"grant_id": "other"}},
		{feed.Token, "one", map[string]any{"jti": "two"}},
		{feed.All, "", nil},
		{feed.Key, "key-1", nil},
	} {
		t.Run(string(test.kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				issuer := verifytest.NewInMemory(t)
				f := follow(t, issuer)
				one, _ := f.open(t, issuer.Token(map[string]any{"jti": "one"}))
				again, _ := f.open(t, issuer.Token(map[string]any{"jti": "one"}))
				other := one
				if test.other != nil {
					other, _ = f.open(t, issuer.Token(test.other))
				}
				issuer.Revoke(feed.Session, "of somebody else")
				pass(time.Second)
				if ended(t, one) != 0 || ended(t, again) != 0 || ended(t, other) != 0 {
					t.Fatal("it ended before")
				}
				issuer.Revoke(test.kind, test.subject)
				synctest.Wait()
				if ended(t, one) != 401 || ended(t, again) != 401 {
					t.Errorf("it goes on: %d, %d", ended(t, one), ended(t, again))
				}
				left := 0
				if test.other != nil {
					left = 1
					if ended(t, other) != 0 {
						t.Error("another ended, too")
					}
				}
				if s := f.v.FeedState(); s.Watched != left || s.Ended != 2 {
					t.Errorf("%+v", s)
				}
				// Of the next epoch, which the event is not about.
				if test.kind == feed.User || test.kind == feed.Client {
					next, _ := f.open(t, issuer.Token(nil))
					issuer.RevokeEvents(feed.Event{ID: "x", Kind: test.kind, Subject: test.subject, Epoch: 1, NotBefore: time.Now(), Until: time.Now().Add(time.Hour)})
					synctest.Wait()
					if ended(t, next) != 0 {
						t.Error("an event of an earlier epoch ended it")
					}
				}
			})
		})
	}
}

func TestWatchEndsWhenItsTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		for name, f := range map[string]*following{"with a feed": follow(t, issuer), "without": follow(t, issuer, func(c *verify.Config) { c.Feed = nil })} {
			ctx, _ := f.open(t, issuer.Token(map[string]any{"exp": time.Now().Add(time.Minute).Unix()}))
			pass(59 * time.Second)
			if ended(t, ctx) != 0 {
				t.Errorf("%s: it ended early", name)
			}
			pass(time.Second)
			if ended(t, ctx) != 401 || f.v.FeedState().Watched != 0 || f.v.FeedState().Ended != 0 {
				t.Errorf("%s: it goes on: %+v", name, f.v.FeedState())
			}
		}
	})
}

// TestF36WhatIsOpenWhileCutOff: past StaleAfter what goes on is treated as a
// request would be.
func TestF36WhatIsOpenWhileCutOff(t *testing.T) {
	for policy, status := range map[verify.StalePolicy]int{verify.Refuse: 503, verify.Continue: 0, verify.Introspect: 503} {
		t.Run(policy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				issuer := verifytest.NewInMemory(t)
				f := follow(t, issuer, whenStale(policy))
				ctx, _ := f.open(t, issuer.Token(map[string]any{"exp": time.Now().Add(time.Hour).Unix()}))
				issuer.SetDown(true)
				issuer.Feed.Cut()
				pass(29 * time.Second)
				if ended(t, ctx) != 0 {
					t.Error("it ended within StaleAfter")
				}
				pass(3 * time.Second)
				if got := ended(t, ctx); got != status {
					t.Errorf("past StaleAfter: %d, %d is expected", got, status)
				}
			})
		})
	}
}

// TestIntrospectAsksAboutWhatIsOpen while the feed is stale and the issuer is
// there.
func TestIntrospectAsksAboutWhatIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		inner, cut := issuer.Client.Transport, false
		issuer.Client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			if cut && r.URL.Path == "/feed" {
				return nil, fmt.Errorf("no route")
			}
			return inner.RoundTrip(r)
		})
		f := follow(t, issuer, whenStale(verify.Introspect))
		hour := time.Now().Add(time.Hour).Unix()
		var open []context.Context
		for i := range 20 {
			ctx, _ := f.open(t, issuer.Token(map[string]any{"exp": hour, "sid": fmt.Sprint(i)}))
			open = append(open, ctx)
		}
		pass(10 * time.Second)
		if n := issuer.Feed.Questions.Load(); n != 0 {
			t.Errorf("%d questions while the feed is followed", n)
		}
		cut = true
		issuer.Feed.SetPage(0) // no snapshot either
		issuer.Feed.Stall(true)
		pass(time.Minute)
		asked := issuer.Feed.Questions.Load()
		if f.v.FeedState().Following || asked == 0 {
			t.Fatalf("%d questions, %+v", asked, f.v.FeedState())
		}
		for i, ctx := range open {
			if ended(t, ctx) != 0 {
				t.Fatalf("%d ended: %v", i, context.Cause(ctx))
			}
		}
		issuer.Revoke(feed.Session, "7")
		pass(2100 * time.Millisecond)
		for i, ctx := range open {
			want := 0
			if i == 7 {
				want = 401
			}
			if got := ended(t, ctx); got != want {
				t.Errorf("%d: %d, %d is expected", i, got, want)
			}
		}
		if more := issuer.Feed.Questions.Load() - asked; more > 3*20 {
			t.Errorf("%d questions in two seconds", more)
		}
		// A token that nobody can ask about can't go on.
		ctx, stop := f.v.Watch(verify.NewContext(t.Context(), &verify.Token{Subject: "alice", Expires: time.Now().Add(time.Hour)}))
		defer stop()
		if ended(t, ctx) != 503 {
			t.Error("a token that can't be asked about goes on")
		}
	})
}

// TestWatchIsForgotten when it is stopped, or the request's context ends.
func TestWatchIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		f := follow(t, issuer)
		var stops []context.CancelFunc
		for i := range 10 {
			// All with something in common, and each with something of its own.
			_, stop := f.open(t, issuer.Token(map[string]any{"sid": fmt.Sprint(i / 2)}))
			stops = append(stops, stop)
		}
		left, _ := f.open(t, issuer.Token(map[string]any{"sid": "left"}))
		for _, i := range []int{3, 0, 9, 9, 5, 1, 2, 4, 8, 6, 7} { // in the middle, first, last, twice
			stops[i]()
		}
		parent, cancel := context.WithCancel(t.Context())
		gone, _ := f.v.Watch(verify.NewContext(parent, &verify.Token{Expires: time.Now().Add(time.Hour)}))
		cancel()
		synctest.Wait()
		if s := f.v.FeedState(); s.Watched != 1 || s.Ended != 0 || gone.Err() == nil || !errors.Is(context.Cause(gone), context.Canceled) {
			t.Errorf("%+v, %v", s, context.Cause(gone))
		}
		issuer.Revoke(feed.Client, "spa")
		synctest.Wait()
		if s := f.v.FeedState(); s.Watched != 0 || s.Ended != 1 || ended(t, left) != 401 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWatchBelongsBehindRequire(t *testing.T) {
	f := follow(t, verifytest.New(t))
	defer func() {
		if recover() == nil {
			t.Error("it takes a request without a token")
		}
	}()
	f.v.Watch(t.Context())
}

// TestNoWatchIsMissed: what opens while it is being ended is ended.
func TestNoWatchIsMissed(t *testing.T) {
	issuer := verifytest.New(t)
	f := follow(t, issuer)
	const n = 300
	tokens := make([]*verify.Token, n)
	for i := range tokens {
		tokens[i] = &verify.Token{SessionID: fmt.Sprint(i), Expires: time.Now().Add(time.Hour)}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			verify.RevokeForTest(f.v, []feed.Event{{Kind: feed.Session, Subject: fmt.Sprint(i)}})
		}
	})
	for _, token := range tokens {
		ctx, stop := f.v.Watch(verify.NewContext(t.Context(), token))
		defer stop()
		wg.Go(func() { <-ctx.Done() })
	}
	wg.Wait() // or for ever
	if s := f.v.FeedState(); s.Ended != n {
		t.Errorf("%d ended", s.Ended)
	}
}

// BenchmarkWatch is what one event costs with so many open WebSockets, of which
// it ends none; and what opening one costs.
func BenchmarkWatch(b *testing.B) {
	for _, open := range []int{0, 10_000} {
		f := follow(b, verifytest.New(b))
		request := func(i int) context.Context {
			return verify.NewContext(b.Context(), &verify.Token{Subject: fmt.Sprint(i), ClientID: "spa", SessionID: fmt.Sprint(i), GrantID: fmt.Sprint(i), ID: fmt.Sprint(i), Expires: time.Now().Add(time.Hour)})
		}
		for i := range open {
			_, stop := f.v.Watch(request(i))
			defer stop()
		}
		until := time.Now().Add(time.Hour)
		b.Run(fmt.Sprintf("event-%d", open), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				verify.RevokeForTest(f.v, []feed.Event{{Kind: feed.User, Subject: fmt.Sprint("other", i), Epoch: 1, Until: until}})
			}
		})
		b.Run(fmt.Sprintf("open-%d", open), func(b *testing.B) {
			ctx := request(-1)
			b.ReportAllocs()
			for b.Loop() {
				_, stop := f.v.Watch(ctx)
				stop()
			}
		})
	}
}
