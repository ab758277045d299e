package verify_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify"
)

// ok answers 200.
var ok = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})

// as makes a request of one account with one app.
func (w *world) as(subject, client string) *http.Request {
	r := httptest.NewRequest("GET", "/notes", nil)
	r.Header.Set("Authorization", "Bearer "+w.Token(map[string]any{"sub": subject, "client_id": client}))
	return r
}

// TestLimitAnswers is the whole of what a client sees, answer by answer
// (draft-ietf-httpapi-ratelimit-headers-10).
func TestLimitAnswers(t *testing.T) {
	w := newWorld(t)
	api := w.v.Require("openid")(w.v.Limit(verify.Limit{Name: "notes", Requests: 20, Window: time.Minute, Burst: 3})(ok))
	for i, x := range []struct {
		after  time.Duration
		status int
		state  string
		retry  string
	}{
		{0, 200, `"notes";r=2;t=3`, ""},
		{0, 200, `"notes";r=1;t=3`, ""},
		{time.Second, 200, `"notes";r=0;t=2`, ""},
		{0, 429, `"notes";r=0;t=2`, "2"},
		{1900 * time.Millisecond, 429, `"notes";r=0;t=1`, "1"},
		{100 * time.Millisecond, 200, `"notes";r=0;t=3`, ""},
		{0, 429, `"notes";r=0;t=3`, "3"},
		{time.Hour, 200, `"notes";r=2;t=3`, ""},
	} {
		w.clock.advance(x.after)
		rec := serve(api, w.as("alice", "spa"))
		h := rec.Header()
		if rec.Code != x.status || h.Get("RateLimit") != x.state || h.Get("Retry-After") != x.retry || h.Get("RateLimit-Policy") != `"notes";q=20;w=60;solegate-burst=3` {
			t.Errorf("answer %d: %d %q", i, rec.Code, h)
		}
		if x.status != 429 {
			continue
		}
		const body = `{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"There were too many requests; try again later.","status":429,"violated-policies":["notes"]}` + "\n"
		if rec.Body.String() != body || h.Get("Content-Type") != "application/problem+json" || h.Get("Cache-Control") != "no-store" || h.Get("WWW-Authenticate") != "" {
			t.Errorf("answer %d: %s %q", i, rec.Body, h)
		}
	}
	if got := w.v.LimitStats(); got != (verify.LimitStats{Passed: 5, Limited: 3, Buckets: 1}) {
		t.Errorf("%+v", got)
	}
}

// TestRefusedRequestsCostNothing: without a good token nothing is counted and
// nothing told.
func TestRefusedRequestsCostNothing(t *testing.T) {
	w := newWorld(t)
	api := w.v.Require("notes:write")(w.v.Limit(verify.Limit{Requests: 1, Window: time.Second})(ok))
	rec := serve(api, w.as("alice", "spa"))
	if rec.Code != 403 || rec.Header().Get("RateLimit") != "" || w.v.LimitStats().Passed+w.v.LimitStats().Limited > 0 {
		t.Errorf("%d %q %+v", rec.Code, rec.Header(), w.v.LimitStats())
	}
}

func TestWhoseRequestsCountTogether(t *testing.T) {
	w := newWorld(t)
	type who struct{ subject, client string }
	all := []who{{"alice", "spa"}, {"alice", "backend"}, {"bob", "spa"}, {"bob", "backend"}}
	for by, want := range map[verify.By]string{
		verify.BySubject:          "200 429 200 429",
		verify.ByClient:           "200 200 429 429",
		verify.BySubjectAndClient: "200 200 200 200",
	} {
		limit := w.v.Limit(verify.Limit{Name: fmt.Sprint("by-", by), Requests: 1, Window: time.Minute, By: by})
		var got []string
		for _, x := range all {
			got = append(got, fmt.Sprint(serve(w.v.Require()(limit(ok)), w.as(x.subject, x.client)).Code))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("by %d: %s, %s expected", by, got, want)
		}
		for _, x := range all { // each has used up its own now
			if code := serve(w.v.Require()(limit(ok)), w.as(x.subject, x.client)).Code; code != 429 {
				t.Errorf("by %d: %v passes a second time: %d", by, x, code)
			}
		}
	}
}

// TestRoutesShareALimitByItsName, and limits inside of one another tell both.
func TestRoutesShareALimitByItsName(t *testing.T) {
	w := newWorld(t)
	read := verify.Limit{Name: "read", Requests: 2, Window: time.Minute}
	one, other := w.v.Require()(w.v.Limit(read)(ok)), w.v.Require()(w.v.Limit(read)(ok))
	both := w.v.Require()(w.v.Limit(read)(w.v.Limit(verify.Limit{Name: "export", Requests: 1, Window: time.Hour})(ok)))
	rec := serve(both, w.as("alice", "spa"))
	if got := rec.Header().Values("RateLimit"); rec.Code != 200 || strings.Join(got, ", ") != `"read";r=1;t=30, "export";r=0;t=3600` {
		t.Errorf("%d %q", rec.Code, got)
	}
	if got := rec.Header().Values("RateLimit-Policy"); strings.Join(got, ", ") != `"read";q=2;w=60, "export";q=1;w=3600` {
		t.Errorf("%q", got)
	}
	if rec := serve(both, w.as("alice", "spa")); rec.Code != 429 || !strings.Contains(rec.Body.String(), `["export"]`) || rec.Header().Get("Retry-After") != "3600" {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	// What was told to one doesn't get into the answers of others.
	for _, api := range []http.Handler{one, other} {
		rec := serve(api, w.as("alice", "spa"))
		if got := rec.Header().Values("RateLimit"); rec.Code != 429 || len(got) != 1 || got[0] != `"read";r=0;t=30` {
			t.Errorf("%d %q", rec.Code, got)
		}
	}
	if rec := serve(one, w.as("bob", "spa")); rec.Code != 200 {
		t.Errorf("bob's first request: %d", rec.Code)
	}
}

func TestLimitTellsWithoutAPlaceForIt(t *testing.T) {
	w := newWorld(t)
	// More states than are kept: they are written for each answer.
	api := w.v.Require()(w.v.Limit(verify.Limit{Requests: 24, Window: 24 * time.Hour, Burst: 24})(ok))
	for i := range 24 {
		if got := serve(api, w.as("alice", "spa")).Header().Get("RateLimit"); got != fmt.Sprintf(`"default";r=%d;t=3600`, 23-i) {
			t.Fatalf("request %d: %q", i, got)
		}
	}
	if rec := serve(api, w.as("alice", "spa")); rec.Code != 429 || rec.Header().Get("Retry-After") != "3600" {
		t.Errorf("%d %q", rec.Code, rec.Header())
	}
}

func TestLimitThatCantBe(t *testing.T) {
	w := newWorld(t)
	panics := func(f func()) (did bool) {
		defer func() { did = recover() != nil }()
		f()
		return
	}
	good := verify.Limit{Name: "a.B-c_9", Requests: 7, Window: time.Minute, Burst: 3}
	w.v.Limit(good)
	for name, change := range map[string]func(*verify.Limit){
		"a quote in the name":      func(l *verify.Limit) { l.Name = `a"` },
		"a space in the name":      func(l *verify.Limit) { l.Name = "a b" },
		"a name beyond ASCII":      func(l *verify.Limit) { l.Name = "ä" },
		"a long name":              func(l *verify.Limit) { l.Name = strings.Repeat("a", 65) },
		"no requests":              func(l *verify.Limit) { l.Name, l.Requests = "x", 0 },
		"too many requests":        func(l *verify.Limit) { l.Name, l.Requests = "x", 1_000_000_001 },
		"no window":                func(l *verify.Limit) { l.Name, l.Window = "x", 0 },
		"part of a second":         func(l *verify.Limit) { l.Name, l.Window = "x", 1500*time.Millisecond },
		"two days":                 func(l *verify.Limit) { l.Name, l.Window = "x", 48*time.Hour },
		"negative burst":           func(l *verify.Limit) { l.Name, l.Burst = "x", -1 },
		"a burst of two days":      func(l *verify.Limit) { l.Name, l.Burst = "x", 7*60*48 },
		"by nobody":                func(l *verify.Limit) { l.Name, l.By = "x", 9 },
		"other numbers, same name": func(l *verify.Limit) { l.Requests = 8 },
	} {
		l := good
		change(&l)
		if !panics(func() { w.v.Limit(l) }) {
			t.Errorf("%s: accepted", name)
		}
	}
	outside := w.v.Limit(good)(http.NotFoundHandler())
	if !panics(func() { serve(outside, httptest.NewRequest("GET", "/", nil)) }) {
		t.Error("a request that did not come through Require was looked at")
	}
	for _, accounts := range []int{-1, 1<<28 + 1} {
		if _, err := verify.New(t.Context(), verify.Config{Issuer: w.URL, Audience: audience, Development: true, Limits: verify.Limits{Accounts: accounts}}); err == nil {
			t.Errorf("room for %d accounts is accepted", accounts)
		}
	}
}

// TestLimitWithoutRequire: who has a token by VerifyRequest and puts it into the
// context is limited as anybody, and gets back what time brings.
func TestLimitWithoutRequire(t *testing.T) {
	w := newWorld(t)
	v := w.verifier(t)
	h := v.Limit(verify.Limit{Requests: 2, Window: 2 * time.Second})(ok)
	ask := func() int {
		r := httptest.NewRequest("GET", "/", nil)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r.WithContext(verify.NewContext(r.Context(), &verify.Token{Subject: "alice"})))
		return rec.Code
	}
	for i, want := range []int{200, 200, 429} {
		if got := ask(); got != want {
			t.Errorf("%d: %d", i, got)
		}
	}
	w.clock.advance(time.Second)
	for i, want := range []int{200, 429} {
		if got := ask(); got != want {
			t.Errorf("%d, a second later: %d", i, got)
		}
	}
}
