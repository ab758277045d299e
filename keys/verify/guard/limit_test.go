package guard_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/guard"
	"github.com/solegate/solegate/keys/verify/reports"
)

func limits(t testing.TB, lines ...string) (list []guard.Limit) {
	t.Helper()
	for _, line := range lines {
		l, err := guard.ParseLimit(line)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, l)
	}
	return list
}

// limited is a world with limits.
func limited(t testing.TB, lines ...string) func(*guard.Config) {
	return func(c *guard.Config) { c.Limits = limits(t, lines...) }
}

// hammer calls so many times and returns how many passed, and the last answer.
func (w *world) hammer(n int, method, path, token string) (passed int, last *http.Response) {
	w.t.Helper()
	for range n {
		last = w.response(method, path, token)
		io.Copy(io.Discard, last.Body)
		last.Body.Close()
		switch last.StatusCode {
		case 200:
			passed++
		case 429:
		default:
			w.t.Fatalf("%d", last.StatusCode)
		}
	}
	return passed, last
}

// TestF34AccountIsLimited by the guard, on all routes together and on each that
// has a limit of its own, and nobody else is.
func TestF34AccountIsLimited(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("RateLimit", `"own";r=1;t=1`) },
		limited(t, "account 10/1h", "GET /me account 3/1h", "client 1000/1h"))
	of := func(subject string) string {
		return w.Token(map[string]any{"sub": subject, "scope": "orders:read orders:write"})
	}
	alice := of("alice")
	if passed, last := w.hammer(5, "GET", "/me", alice); passed != 3 || last.StatusCode != 429 || last.Header.Get("Retry-After") == "" || !slices.Contains(last.Header.Values("RateLimit-Policy"), `"GET-me-account";q=3;w=3600`) {
		t.Errorf("%d passed on a route with a limit of its own: %v", passed, last.Header)
	}
	// What the route refused was not taken from the rest.
	passed, last := w.hammer(10, "GET", "/orders", alice)
	if passed != 7 || last.StatusCode != 429 {
		t.Errorf("%d passed on all routes, 7 are expected", passed)
	}
	if got := last.Header.Values("RateLimit"); len(got) != 1 || !strings.HasPrefix(got[0], `"account";r=0;t=`) {
		t.Errorf("%q", got)
	}
	// Who must log in first has asked, too.
	if status := w.call("DELETE", "/orders", alice); status != 429 {
		t.Errorf("a request that needs a fresh login: %d", status)
	}
	// Nobody is counted where nobody is known.
	if passed, _ := w.hammer(20, "GET", "/health", alice); passed != 20 {
		t.Errorf("%d of 20 passed on a public route", passed)
	}
	w.reached()
	if passed, last := w.hammer(12, "GET", "/orders", of("bob")); passed != 10 || len(w.reached()) != 10 {
		t.Errorf("%d of somebody else passed, %v", passed, last.Header)
	}
	// What the upstream says of its own limits stays.
	if resp := w.response("GET", "/orders", of("carol")); len(resp.Header.Values("RateLimit")) != 3 || resp.Header.Values("RateLimit")[0] != `"own";r=1;t=1` {
		t.Errorf("%q", resp.Header.Values("RateLimit"))
	}
	if s := w.guard.Verifier().LimitStats(); s.Limited == 0 {
		t.Errorf("%+v", s)
	}
}

// TestLimitedAtTheProxy: Caddy and Traefik pass 429 on, nginx is told in its own
// way.
func TestLimitedAtTheProxy(t *testing.T) {
	for place, code := range map[guard.ForwardAuth]int{guard.Original: 403, guard.Forwarded: 429} {
		w := asks(t, place, limited(t, "account 2/1h"))
		ask := func() (int, http.Header) {
			rec := w.ask("GET", "/", proxy, w.reader(), "X-Original-Method", "GET", "X-Original-Uri", "/orders", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/orders")
			return rec.Code, rec.Header()
		}
		ask()
		if got, h := ask(); got != 200 || !strings.HasPrefix(h.Get("RateLimit"), `"account";r=0;`) || h.Get(guard.HeaderStatus) != "" {
			t.Errorf("%s: within the limit: %d %v", place, got, h)
		}
		got, h := ask()
		if got != code || (h.Get(guard.HeaderStatus) == "429") != (code == 403) || h.Get("Retry-After") == "" || h.Get(guard.HeaderSubject) != "" {
			t.Errorf("%s: beyond the limit: %d %v", place, got, h)
		}
	}
}

// TestLimitedIsReported with the caller's address, not the proxy's.
func TestLimitedIsReported(t *testing.T) {
	for name, option := range map[string]func(*guard.Config){
		"a proxy": func(c *guard.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} },
		"asked":   func(c *guard.Config) { c.Upstream, c.ForwardAuth = "", guard.Forwarded },
	} {
		w := newWorld(t, nil, limited(t, "account 1/1h"), option)
		c := guard.Config{
			Verify: w.config(), Upstream: w.upstream.URL, Routes: []guard.Route{{Pattern: "GET /orders"}}, Limits: limits(t, "account 1/1h"),
		}
		option(&c)
		c.Verify.Credential, c.Verify.Reports = w.Credential(audience), &verify.Reports{}
		w.guard = w.newGuard(c)
		for range 3 {
			w.ask("GET", "/orders", proxy, w.reader(), "X-Forwarded-For", "203.0.113.9", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/orders")
		}
		if err := w.guard.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		got := w.Reports()
		if len(got) != 1 || got[0].Kind != reports.Limit || got[0].Reason != "account" || got[0].Subject != "alice" || got[0].Count != 2 || len(got[0].Addresses) != 1 || got[0].Addresses[0].String() != "203.0.113.9" {
			t.Errorf("%s: reported %+v", name, got)
		}
		if s := w.guard.Verifier().ReportStats(); s.Sent != 2 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestParseLimit(t *testing.T) {
	for line, want := range map[string]guard.Limit{
		"account 100/1m":                          {Limit: verify.Limit{Requests: 100, Window: time.Minute}},
		" account  100/1m  burst 50 ":             {Limit: verify.Limit{Requests: 100, Window: time.Minute, Burst: 50}},
		"GET /orders client 10/1s":                {Route: "GET /orders", Limit: verify.Limit{Requests: 10, Window: time.Second, By: verify.ByClient}},
		"/files/ account-client 1/24h name files": {Route: "/files/", Limit: verify.Limit{Name: "files", Requests: 1, Window: 24 * time.Hour, By: verify.BySubjectAndClient}},
		"account 1/1s name a burst 9":             {Limit: verify.Limit{Name: "a", Requests: 1, Window: time.Second, Burst: 9}},
	} {
		if got, err := guard.ParseLimit(line); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v", line, got, err)
		}
	}
	for line, want := range map[string]string{
		"":                               "whose requests count",
		"100/1m":                         "whose requests count",
		"account":                        "whose requests count",
		"account 100/1m burst":           "whose requests count",
		"subject 100/1m":                 "whose requests count",
		"GET /a /b account 1/1s":         "whose requests count",
		"account 0/1m":                   "no number of requests",
		"account x/1m":                   "no number of requests",
		"account 100":                    "is no time",
		"account 100/m":                  "is no time",
		"account 100/-1m":                "is no time",
		"account 100/1500ms":             "whole seconds",
		"account 100/48h":                "a day at most",
		"account 100/1m burst 0":         "how many requests may come at once",
		"account 100/1m burst many":      "how many requests may come at once",
		"account 100/1m burst 1 burst 2": "twice",
		"account 100/1m called x":        "burst or name is expected",
		"account 100/1m name a/b":        "letters, digits",
		"account 1/24h burst 2":          "no more than come back in a day",
	} {
		if got, err := guard.ParseLimit(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; %q is expected", line, got, err, want)
		}
	}
}

func TestLimitsThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"good":                 {[]string{"account 10/1s", "account 600/1h name hourly", "GET /orders account 5/1s", "client 9/1s"}, ""},
		"good: shared":         {[]string{"GET /orders account 5/1s name x", "GET /me account 5/1s name x"}, ""},
		"no route":             {[]string{"GET /order account 5/1s"}, "Limits[0]: \"GET /order\" is no route"},
		"another spelling":     {[]string{"/orders account 5/1s"}, "is no route"},
		"public":               {[]string{"GET /health account 5/1s"}, "is public"},
		"one name":             {[]string{"account 10/1s", "account 600/1h"}, "Limits[1]: there is another limit called \"account\""},
		"twice":                {[]string{"account 10/1s name x", "account 10/1s name x"}, "another limit called"},
		"one name, by chance":  {[]string{"GET /a/b account 1/1s", "GET /a-b account 1/1s"}, "another limit called \"GET-a-b-account\""},
		"one name, two counts": {[]string{"GET /orders account 5/1s name x", "GET /me account 6/1s name x"}, "another limit called"},
	} {
		g := guard.Config{
			Verify: verify.Config{Issuer: "https://login.example.com", Audience: audience}, Upstream: "http://127.0.0.1:3000", Limits: limits(t, c.lines...),
			Routes: []guard.Route{{Pattern: "GET /orders"}, {Pattern: "GET /me"}, {Pattern: "GET /a/b"}, {Pattern: "GET /a-b"}, {Pattern: "GET /health", Public: true}},
		}
		got := ""
		for _, p := range g.Problems() {
			got += p.Field + ": " + p.Text
		}
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, %q is expected", name, got, c.want)
		}
	}
}

func FuzzParseLimit(f *testing.F) {
	for _, line := range []string{"account 100/1m burst 50", "GET /orders account 10/1s", "client 1/1s name x burst 3", "GET /{a}/b account-client 1/24h"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		l, err := guard.ParseLimit(line)
		if err != nil {
			return
		}
		if err := l.Validate(); err != nil && l.Name != "" {
			t.Fatalf("%q: %v", line, err)
		}
		// What is understood can be written in one way, and is understood so.
		by := []string{"account", "client", "account-client"}[l.By]
		again := fmt.Sprintf("%s %s %d/%s", l.Route, by, l.Requests, l.Window)
		if l.Burst != 0 {
			again += fmt.Sprintf(" burst %d", l.Burst)
		}
		if l.Name != "" {
			again += " name " + l.Name
		}
		if got, err := guard.ParseLimit(again); err != nil || !reflect.DeepEqual(got, l) {
			t.Fatalf("%q: %+v; %q: %+v, %v", line, l, again, got, err)
		}
	})
}
