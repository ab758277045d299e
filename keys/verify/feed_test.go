package verify_test

import (
	"bytes"
	"fmt"
	"log/slog"
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

// logged is a log to look at.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines counts the lines with a text.
func (l *logged) lines(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// following is an API that follows its issuer's feed.
type following struct {
	*world
	log *logged
}

// follow starts an API of the issuer. In a bubble it has caught up.
func follow(tb testing.TB, issuer *verifytest.Issuer, options ...func(*verify.Config)) *following {
	tb.Helper()
	f := &following{world: &world{Issuer: issuer}, log: &logged{}}
	c := verify.Config{
		Issuer: issuer.URL, Audience: audience, Development: true, Client: issuer.Client,
		Credential: issuer.Credential(audience), Feed: &verify.Feed{},
		Log: slog.New(slog.NewTextHandler(f.log, nil)),
	}
	for _, option := range options {
		option(&c)
	}
	var err error
	if f.v, err = verify.New(tb.Context(), c); err != nil {
		tb.Fatal(err)
	}
	f.api = f.v.Require("openid")(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Write([]byte(verify.FromContext(r.Context()).Subject))
	}))
	return f
}

// answers tests what a token is answered with, twice: the second time it was
// seen before.
func (f *following) answers(t *testing.T, name, token string, status int) {
	t.Helper()
	for range 2 {
		rec := f.call(token)
		if rec.Code != status {
			t.Errorf("%s: %d, %d is expected: %s\n%+v\n%s", name, rec.Code, status, rec.Body, f.v.FeedState(), f.log)
			return
		}
		if status == 401 && (!strings.Contains(rec.Body.String(), `"The access token was revoked."`) || !strings.Contains(rec.Header().Get("WWW-Authenticate"), `error="invalid_token", error_description="The access token was revoked."`)) {
			t.Errorf("%s: %s %q", name, rec.Body, rec.Header().Get("WWW-Authenticate"))
		}
		if status == 503 && (rec.Header().Get("Retry-After") == "" || !strings.Contains(rec.Body.String(), "temporarily_unavailable")) {
			t.Errorf("%s: %s %v", name, rec.Body, rec.Header())
		}
	}
}

// TestRevokedIsRefusedAtOnce: each kind of event, at an API that has seen the
// token before and at one that has not.
func TestRevokedIsRefusedAtOnce(t *testing.T) {
	for _, test := range []struct {
		kind    feed.Kind
		subject string
		other   map[string]any // a token that it is not about
		log     string
	}{
		{feed.User, "alice", map[string]any{"sub": "bob"}, `the tokens of user \"alice\" were revoked`},
		{feed.Client, "spa", map[string]any{"client_id": "other"}, `the tokens of client \"spa\" were revoked`},
		{feed.Session, "session", map[string]any{"sid": "other"}, `the session \"session\" was revoked`},
		{feed.Grant, "grant", map[string]any{"grant_id": "other"}, `the grant \"grant\" was revoked`},
		{feed.Token, "one", map[string]any{"jti": "two"}, `the token \"one\" was revoked`},
	} {
		t.Run(string(test.kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				issuer := verifytest.NewInMemory(t)
				seen, fresh := follow(t, issuer), follow(t, issuer)
				token, other := issuer.Token(map[string]any{"jti": "one"}), issuer.Token(test.other)
				seen.answers(t, "before", token, 200)
				seen.answers(t, "another, before", other, 200)
				issuer.Revoke(test.kind, test.subject)
				synctest.Wait()
				for _, f := range []*following{seen, fresh} {
					f.answers(t, "revoked", token, 401)
					f.answers(t, "another", other, 200)
					if f.log.lines(test.log) != 2 {
						t.Errorf("the log doesn't say which event: %s", f.log)
					}
				}
				if s := seen.v.FeedState(); s.Refused != 2 || s.Events != 1 || !s.Following || s.Cursor == "" || s.AsOf.IsZero() || s.Reconnects != 0 {
					t.Errorf("the state is %+v", s)
				}
				// Users and clients come back, with new tokens.
				if test.kind == feed.User || test.kind == feed.Client {
					after := issuer.Token(nil)
					seen.answers(t, "of the next epoch", after, 200)
					seen.answers(t, "still revoked", token, 401)
					issuer.Revoke(test.kind, test.subject)
					synctest.Wait()
					seen.answers(t, "of an epoch that has ended, too", after, 401)
				}
			})
		})
	}
}

// TestRevokedKey: everything that a key signed is refused, though it is still
// in the key set, and the key can't speak for the feed any more.
func TestRevokedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		second := issuer.AddKey("key-2", "ES256")
		f := follow(t, issuer)
		by := func(k verifytest.Key) string {
			return issuer.Sign(k, map[string]any{"typ": "at+jwt"}, issuer.Claims(nil))
		}
		old, next := by(issuer.Key()), by(second)
		f.answers(t, "before", old, 200)
		issuer.Revoke(feed.Key, "key-1") // in a document that this very key signs
		synctest.Wait()
		f.answers(t, "by the revoked key", old, 401)
		f.answers(t, "by another key", next, 200)
		pass(5 * time.Second) // whoever has the key goes on with heartbeats
		as := f.v.FeedState()
		pass(40 * time.Second)
		if s := f.v.FeedState(); s.Following || !s.AsOf.Equal(as.AsOf) || !strings.Contains(s.LastError, `the key "key-1" was revoked`) {
			t.Errorf("a revoked key says that nothing happened: %+v", s)
		}
		issuer.Feed.SetKey(&second)
		pass(10 * time.Second)
		f.answers(t, "by the revoked key", old, 401)
		f.answers(t, "by another key", next, 200)
	})
}

// TestRevokeAll: by the time of issue. In the same second the event wins.
func TestRevokeAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		f := follow(t, issuer)
		pass(500 * time.Millisecond)
		early := issuer.Token(map[string]any{"sub": "bob"})
		f.answers(t, "before", early, 200)
		issuer.Revoke(feed.All, "")
		pass(400 * time.Millisecond)
		same := issuer.Token(nil)
		pass(100 * time.Millisecond)
		late := issuer.Token(nil)
		f.answers(t, "issued before", early, 401)
		f.answers(t, "issued in the same second", same, 401)
		f.answers(t, "issued in the next second", late, 200)
	})
}

func TestRevokedWithProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		f := follow(t, issuer)
		key := verifytest.NewKey(t)
		token := issuer.BoundToken(key, nil)
		call := func() *httptest.ResponseRecorder {
			r := httptest.NewRequest("GET", "/", nil)
			key.Authorize(r, audience+"/", token, nil)
			rec := httptest.NewRecorder()
			f.api.ServeHTTP(rec, r)
			return rec
		}
		if rec := call(); rec.Code != 200 {
			t.Fatalf("before: %d %s", rec.Code, rec.Body)
		}
		issuer.Revoke(feed.Grant, "grant")
		synctest.Wait()
		if rec := call(); rec.Code != 401 || !strings.HasPrefix(rec.Header().Get("WWW-Authenticate"), "DPoP ") || !strings.Contains(rec.Header().Get("WWW-Authenticate"), `error="invalid_token", error_description="The access token was revoked."`) {
			t.Errorf("revoked: %d %q", rec.Code, rec.Header().Get("WWW-Authenticate"))
		}
	})
}

// TestRestartedAPIKnowsWhatWasRevoked from its first request on.
func TestRestartedAPIKnowsWhatWasRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := verifytest.NewInMemory(t)
		issuer.Feed.SetPage(3)
		var tokens []string
		for i := range 10 {
			tokens = append(tokens, issuer.Token(map[string]any{"sid": fmt.Sprint(i)}))
			issuer.Revoke(feed.Session, fmt.Sprint(i))
		}
		f := follow(t, issuer)
		for i, token := range tokens {
			f.answers(t, fmt.Sprint(i), token, 401)
		}
		f.answers(t, "another", issuer.Token(nil), 200)
		if pages := issuer.Feed.Pages.Load(); pages != 4 {
			t.Errorf("%d pages were read, 4 are expected", pages)
		}
	})
}

// TestFiveFollowersMissNothing: they begin, are cut off and come back while
// things are revoked all the time, over a real network.
func TestFiveFollowersMissNothing(t *testing.T) {
	issuer := verifytest.New(t)
	issuer.Feed.SetPage(7)
	const events = 300
	var tokens []string
	for i := range events {
		tokens = append(tokens, issuer.Token(map[string]any{"sid": fmt.Sprint(i)}))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range events {
			issuer.Revoke(feed.Session, fmt.Sprint(i))
			if i%60 == 30 {
				issuer.Feed.Cut()
			}
		}
	})
	apis := make([]*following, 5)
	for i := range apis {
		wg.Go(func() { apis[i] = follow(t, issuer) })
	}
	wg.Wait()
	for _, f := range apis {
		f.until(t, 10*time.Second, tokens[events-1], 401)
		for i, token := range tokens {
			if rec := f.call(token); rec.Code != 401 {
				t.Fatalf("session %d: %d %s\n%+v", i, rec.Code, rec.Body, f.v.FeedState())
			}
		}
		if rec := f.call(issuer.Token(nil)); rec.Code != 200 {
			t.Errorf("another: %d", rec.Code)
		}
	}
}

// until asks until the answer is the status, and says how long that took.
func (f *following) until(t *testing.T, limit time.Duration, token string, status int) time.Duration {
	t.Helper()
	began := time.Now()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		rec := f.call(token)
		took := time.Since(began)
		switch {
		case rec.Code == status:
			return took
		case took > limit:
			t.Fatalf("after %s: %d %s\n%+v\n%s", limit, rec.Code, rec.Body, f.v.FeedState(), f.log)
		}
		<-ticker.C
	}
}

// TestWithinASecond over a real network, by HTTP/1.1 and HTTP/2, with a secret
// and with a key.
func TestWithinASecond(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *verifytest.Issuer{"HTTP/1.1": verifytest.New, "HTTP/2": verifytest.NewTLS} {
		t.Run(name, func(t *testing.T) {
			issuer := start(t)
			key := verifytest.New(t).Key()
			for _, credential := range []*verify.Credential{issuer.Credential(audience), issuer.KeyCredential(audience, key)} {
				f := follow(t, issuer, func(c *verify.Config) { c.Credential = credential })
				for i := range 20 {
					sid := fmt.Sprint(credential.ID, i)
					token := issuer.Token(map[string]any{"sid": sid})
					f.answers(t, "before", token, 200)
					issuer.Revoke(feed.Session, sid)
					f.until(t, time.Second, token, 401)
				}
			}
		})
	}
}

// pass lets time pass in a bubble, where nobody waits for it.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
