package verify_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/keys/verify/verifytest"
)

func whenStale(p verify.StalePolicy) func(*verify.Config) {
	return func(c *verify.Config) { c.Feed = &verify.Feed{WhenStale: p} }
}

// TestF36CutOff: the API can't reach the issuer. Past StaleAfter it does what
// its owner chose, and then it catches up, with no event lost.
func TestF36CutOff(t *testing.T) {
	for policy, status := range map[verify.StalePolicy]int{verify.Refuse: 503, verify.Continue: 200, verify.Introspect: 503} {
		t.Run(policy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				issuer := verifytest.NewInMemory(t)
				f := follow(t, issuer, whenStale(policy))
				token, first := issuer.Token(nil), issuer.Token(map[string]any{"sid": "first"})
				issuer.Revoke(feed.Session, "first")
				pass(10500 * time.Millisecond)
				f.answers(t, "followed", token, 200)
				issuer.SetDown(true)
				issuer.Feed.Cut()
				issuer.Revoke(feed.Session, "second")
				pass(29 * time.Second)
				f.answers(t, "within StaleAfter", token, 200)
				f.answers(t, "known before", first, 401)
				if s := f.v.FeedState(); !s.Following || f.log.lines(`msg="the revocation feed can't be followed`) != 0 {
					t.Errorf("it is stale early: %+v\n%s", s, f.log)
				}
				pass(2 * time.Second)
				f.answers(t, "past StaleAfter", token, status)
				f.answers(t, "known before", first, 401)
				if rec := f.call(token[:len(token)-4] + "AAAA"); rec.Code != 401 {
					t.Errorf("a bad token: %d", rec.Code)
				}
				pass(3 * time.Minute)
				s := f.v.FeedState()
				if s.Following || s.StaleSince.IsZero() || s.LastError == "" || s.Unchecked+s.Passed != 2 || f.log.lines(`msg="the revocation feed can't be followed`) != 1 {
					t.Errorf("%+v\n%s", s, f.log)
				}
				if ready := f.v.Ready(); (ready != nil) != (policy == verify.Refuse) {
					t.Errorf("ready: %v", ready)
				}
				if s.Reconnects < 25 || s.Reconnects > 60 {
					t.Errorf("%d times it was asked for in 211 seconds; once in 4 to 8 seconds is expected", s.Reconnects)
				}
				issuer.SetDown(false)
				pass(10 * time.Second)
				fresh := issuer.Token(nil)
				f.answers(t, "followed again", fresh, 200)
				f.answers(t, "revoked meanwhile", issuer.Token(map[string]any{"sid": "second"}), 401)
				if s := f.v.FeedState(); !s.Following || !s.StaleSince.IsZero() || f.log.lines("is followed") != 2 || f.v.Ready() != nil {
					t.Errorf("%+v\n%s", s, f.log)
				}
			})
		})
	}
}

// TestF36StartedWhileCutOff: what was revoked before is not known at all, so
// there is no time of grace.
func TestF36StartedWhileCutOff(t *testing.T) {
	for policy, status := range map[verify.StalePolicy]int{verify.Refuse: 503, verify.Continue: 200, verify.Introspect: 503} {
		synctest.Test(t, func(t *testing.T) {
			issuer := verifytest.NewInMemory(t)
			inner := issuer.Client.Transport
			issuer.Client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
				if strings.HasPrefix(r.URL.Path, "/feed") {
					return nil, fmt.Errorf("no route")
				}
				return inner.RoundTrip(r)
			})
			f := follow(t, issuer, whenStale(policy))
			if policy == verify.Introspect {
				// The metadata was there: the issuer can be asked.
				f.answers(t, "introspected", issuer.Token(nil), 200)
				return
			}
			f.answers(t, policy.String(), issuer.Token(nil), status)
			if f.log.lines(`msg="the revocation feed can't be followed`) != 1 {
				t.Errorf("%s", f.log)
			}
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestReconnectGoesOnWhereItWas: nothing is read twice, and nothing is missed.
func TestReconnectGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		f := follow(t, issuer)
		first, second := issuer.Token(map[string]any{"sid": "first"}), issuer.Token(map[string]any{"sid": "second"})
		issuer.Revoke(feed.Session, "first")
		synctest.Wait()
		issuer.Feed.Cut()
		issuer.Revoke(feed.Session, "second")
		pass(time.Second)
		f.answers(t, "before", first, 401)
		f.answers(t, "while cut", second, 401)
		if s := f.v.FeedState(); issuer.Feed.Pages.Load() != 1 || s.Reconnects != 1 || s.Events != 2 || f.log.lines("") != 1+4 {
			t.Errorf("%d pages, %+v\n%s", issuer.Feed.Pages.Load(), s, f.log)
		}
		// A stream that can't go on from there: a snapshot does.
		third := issuer.Token(map[string]any{"sid": "third"})
		issuer.Feed.Cut()
		issuer.Feed.Shorten()
		issuer.Revoke(feed.Session, "third")
		pass(2 * time.Second)
		f.answers(t, "too far behind", third, 401)
		if s := f.v.FeedState(); issuer.Feed.Pages.Load() != 2 || s.Events != 3 || f.log.lines("read anew") != 0 {
			t.Errorf("%d pages, %+v\n%s", issuer.Feed.Pages.Load(), s, f.log)
		}
		// A server that doesn't know the cursor: it has another past.
		issuer.Feed.Forget()
		issuer.Feed.Cut()
		pass(20 * time.Second)
		f.answers(t, "known to the API alone", first, 401)
		if s := f.v.FeedState(); issuer.Feed.Pages.Load() != 4 || !s.Following || f.log.lines("read anew") != 1 {
			t.Errorf("%d pages, %+v\n%s", issuer.Feed.Pages.Load(), s, f.log)
		}
	})
}

// TestSilentStall: the connection stays and nothing comes.
func TestSilentStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		f := follow(t, issuer)
		pass(500 * time.Millisecond)
		issuer.Feed.Stall(true)
		streams := issuer.Feed.Streams.Load()
		pass(19 * time.Second)
		if s := f.v.FeedState(); !s.Following || s.Reconnects != 0 {
			t.Errorf("%+v", s)
		}
		pass(2 * time.Second)
		if s := f.v.FeedState(); s.Reconnects != 1 || issuer.Feed.Streams.Load() != streams+1 || !strings.Contains(s.LastError, "nothing new was said within 20s") {
			t.Errorf("the stall was not noticed: %+v", s)
		}
		pass(10 * time.Second)
		f.answers(t, "stale", issuer.Token(nil), 503)
		// A connection that is silent from the start.
		pass(15 * time.Second)
		if s := f.v.FeedState(); s.Reconnects != 2 {
			t.Errorf("the second stall was not noticed: %+v", s)
		}
		issuer.Feed.Stall(false)
		synctest.Wait()
		f.answers(t, "followed again", issuer.Token(nil), 200)
	})
}

// TestF37Tampered: somebody between the issuer and the API. Whatever he does to
// one document, its event is applied in the end, and what was known stays.
func TestF37Tampered(t *testing.T) {
	stranger := verifytest.New(t)
	instead := func(make func(*verifytest.Issuer) string) func(*verifytest.Issuer) verifytest.Tamper {
		return func(issuer *verifytest.Issuer) verifytest.Tamper {
			done := false
			return func(jws string) []string {
				if done {
					return []string{jws}
				}
				done = true
				return []string{make(issuer)}
			}
		}
	}
	document := func(typ string, change map[string]any, sign func(*verifytest.Issuer) *verifytest.Issuer) func(*verifytest.Issuer) verifytest.Tamper {
		return instead(func(issuer *verifytest.Issuer) string {
			now := time.Now().Unix()
			claims := map[string]any{
				"iss": issuer.URL, "aud": audience, "iat": now, "jti": "x", "feed": map[string]any{"from": "000000000001", "to": "000000000002"},
			}
			if typ == feed.EventType {
				claims["events"] = map[string]any{"x": map[string]any{"kind": "session", "subject": "innocent", "not_before": now, "until": now + 300}}
			}
			for name, value := range change {
				claims[name] = value
			}
			by := sign(issuer)
			return by.Sign(by.Key(), map[string]any{"typ": typ}, claims)
		})
	}
	own := func(i *verifytest.Issuer) *verifytest.Issuer { return i }
	foreign := func(*verifytest.Issuer) *verifytest.Issuer { return stranger }
	simple := func(make func() verifytest.Tamper) func(*verifytest.Issuer) verifytest.Tamper {
		return func(*verifytest.Issuer) verifytest.Tamper { return make() }
	}
	for name, tamper := range map[string]func(*verifytest.Issuer) verifytest.Tamper{
		"dropped":                 simple(verifytest.Drop),
		"repeated":                simple(verifytest.Repeat),
		"truncated":               simple(verifytest.Truncate),
		"forged":                  simple(verifytest.Forge),
		"reordered":               simple(verifytest.Reorder),
		"nothing":                 instead(func(*verifytest.Issuer) string { return "" }),
		"text":                    instead(func(*verifytest.Issuer) string { return "<html>" }),
		"two lines":               instead(func(*verifytest.Issuer) string { return "a\ndata: b" }),
		"a very long line":        instead(func(*verifytest.Issuer) string { return strings.Repeat("a", 1<<20) }),
		"by a stranger":           document(feed.EventType, nil, foreign),
		"for another API":         document(feed.EventType, map[string]any{"aud": "https://other.example.com"}, own),
		"for two APIs":            document(feed.EventType, map[string]any{"aud": []string{audience, "x"}}, own),
		"of another issuer":       document(feed.EventType, map[string]any{"iss": stranger.URL}, own),
		"an access token":         document("at+jwt", nil, own),
		"without typ":             document("", nil, own),
		"a snapshot":              document(feed.SnapshotType, map[string]any{"events": []any{}}, own),
		"a heartbeat that hides":  document(feed.HeartbeatType, map[string]any{"feed": map[string]any{"from": "000000000002", "to": "000000000002"}}, own),
		"a heartbeat of the past": document(feed.HeartbeatType, map[string]any{"feed": map[string]any{"from": "", "to": ""}}, own),
		"an event with a gap":     document(feed.EventType, map[string]any{"feed": map[string]any{"from": "000000000003", "to": "000000000004"}}, own),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				issuer := verifytest.NewInMemory(t)
				f := follow(t, issuer)
				known, token, innocent := issuer.Token(map[string]any{"sid": "known"}), issuer.Token(map[string]any{"sid": "revoked"}), issuer.Token(map[string]any{"sid": "innocent"})
				issuer.Revoke(feed.Session, "known")
				synctest.Wait()
				f.answers(t, "known", known, 401)
				issuer.Feed.Tamper(tamper(issuer))
				issuer.Revoke(feed.Session, "revoked")
				synctest.Wait()
				f.answers(t, "known, at once", known, 401)
				f.answers(t, "innocent, at once", innocent, 200)
				pass(3 * time.Second)
				f.answers(t, "known", known, 401)
				f.answers(t, "revoked", token, 401)
				f.answers(t, "innocent", innocent, 200)
				s := f.v.FeedState()
				if !s.Following || s.Reconnects == 0 || s.Events != 2 {
					t.Errorf("%+v", s)
				}
				if f.log.lines("read anew") != 1 && name != "by a stranger" { // whose key may be on its way
					t.Errorf("the log says %s", f.log)
				}
			})
		})
	}
}

// TestF37Replayed: a stream of yesterday, or one that is held back, doesn't
// make the feed fresh.
func TestF37Replayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		f := follow(t, issuer)
		old := ""
		issuer.Feed.Tamper(func(jws string) []string {
			if old == "" {
				old = jws
			}
			return []string{old}
		})
		pass(time.Second)
		f.answers(t, "now", issuer.Token(nil), 200)
		// StaleAfter, and Leeway on top: the clocks could be that far apart.
		pass(42 * time.Second)
		f.answers(t, "later", issuer.Token(nil), 503)
		if s := f.v.FeedState(); s.Reconnects == 0 {
			t.Errorf("the connection that repeats itself is kept: %+v", s)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		inner, recorded := issuer.Client.Transport, map[string]string{}
		var mu sync.Mutex
		replay := false
		issuer.Client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path != "/feed"+feed.SnapshotPath {
				return inner.RoundTrip(r)
			}
			mu.Lock()
			defer mu.Unlock()
			if replay {
				rec := httptest.NewRecorder()
				rec.Header().Set("Content-Type", feed.SnapshotMediaType)
				rec.WriteString(recorded["page"])
				return rec.Result(), nil
			}
			resp, err := inner.RoundTrip(r)
			if err == nil {
				rec := httptest.NewRecorder()
				resp.Write(rec)
				_, recorded["page"], _ = strings.Cut(rec.Body.String(), "\r\n\r\n")
				_, rest, chunked := strings.Cut(recorded["page"], "\r\n")
				if chunked {
					recorded["page"], _, _ = strings.Cut(rest, "\r\n")
				}
				rec = httptest.NewRecorder()
				rec.Header().Set("Content-Type", feed.SnapshotMediaType)
				rec.WriteString(recorded["page"])
				return rec.Result(), nil
			}
			return resp, err
		})
		follow(t, issuer)
		pass(time.Hour)
		mu.Lock()
		replay = true
		mu.Unlock()
		issuer.Revoke(feed.Session, "session")
		issuer.Feed.Stall(true)
		f := follow(t, issuer)
		f.answers(t, "after a snapshot of an hour ago", issuer.Token(nil), 503)
		issuer.Feed.Stall(false)
		synctest.Wait()
		f.answers(t, "revoked after that snapshot", issuer.Token(nil), 401)
		f.answers(t, "another", issuer.Token(map[string]any{"sid": "other"}), 200)
	})
}

// TestF37Withheld: events come and heartbeats don't. Somebody may hold back what
// comes after the events, so they don't make the feed fresh.
func TestF37Withheld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		f := follow(t, issuer)
		issuer.Feed.Tamper(func(jws string) []string {
			header, _, _ := strings.Cut(jws, ".")
			if text, _ := base64.RawURLEncoding.DecodeString(header); strings.Contains(string(text), feed.HeartbeatType) {
				return nil
			}
			return []string{jws}
		})
		for i := range 10 {
			pass(4 * time.Second)
			issuer.Revoke(feed.Session, fmt.Sprint(i))
		}
		synctest.Wait()
		f.answers(t, "later", issuer.Token(nil), 503)
		f.answers(t, "revoked", issuer.Token(map[string]any{"sid": "9"}), 401)
		if s := f.v.FeedState(); s.Reconnects != 0 || s.Following {
			t.Errorf("%+v", s)
		}
	})
}

// TestKeyRotatesInMidStream: an event by a key that nobody has seen. Tokens
// with made-up keys don't keep the follower from asking for it.
func TestKeyRotatesInMidStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		f := follow(t, issuer)
		pass(time.Second)
		stranger := verifytest.Key{ID: "made up", Algorithm: "ES256", Private: issuer.Key().Private}
		if rec := f.call(issuer.Sign(stranger, map[string]any{"typ": "at+jwt"}, issuer.Claims(nil))); rec.Code != 401 {
			t.Errorf("a made-up key: %d", rec.Code)
		}
		next := issuer.AddKey("key-2", "ES256")
		issuer.Feed.SetKey(&next)
		token := issuer.Token(nil)
		issuer.Revoke(feed.Session, "session")
		synctest.Wait()
		f.answers(t, "by a new key", token, 401)
		if s := f.v.FeedState(); s.Reconnects != 0 {
			t.Errorf("%+v", s)
		}
		// One that is published late.
		late := verifytest.Key{ID: "key-3", Algorithm: "ES256", Private: verifytest.NewInMemory(t).Key().Private}
		issuer.Feed.SetKey(&late)
		token = issuer.Token(map[string]any{"sid": "other"})
		issuer.Revoke(feed.Session, "other")
		pass(5 * time.Second)
		f.answers(t, "by a key that is not published", token, 200)
		issuer.Publish(late)
		pass(10 * time.Second)
		f.answers(t, "once it is published", token, 401)
		if s := f.v.FeedState(); !s.Following || issuer.Feed.Pages.Load() != 1 {
			t.Errorf("%+v", s)
		}
	})
}
