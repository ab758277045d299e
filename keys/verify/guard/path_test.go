package guard

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCanonicalPaths(t *testing.T) {
	for _, good := range []string{
		"/", "/orders", "/orders/", "/orders/1", "/a.b/c.json", "/.well-known/x", "/~alice", "/a:b", "/a@b", "/a,b=c", "/a+b", "/a%20b",
		"/a%40b", "/caf%C3%A9", "/caf%c3%a9", "/a%22b", "/(a)'*!$&", "/a%3Ab",
	} {
		if err := canonical(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "*", "orders", "http://a/b", "//", "//orders", "/orders//", "/orders//1", "/./orders", "/orders/.", "/orders/..", "/../orders", "/a/../b",
		"/%2e/orders", "/%2E%2e/orders", "/orders%2f1", "/orders%2F..%2fadmin", "/orders%5c1", `/orders\1`, "/orders;x=1", "/orders/;/admin", "/orders%3b", "/orders%3Bx",
		"/orders.", "/orders./1", "/orders../1", "/.../x", "/orders%20", "/orders%20/1", "/%20orders", "/%61dmin", "/admi%6E", "/%7Ealice", "/a%2Db",
		"/a%00", "/a%0a", "/a%0d%0ab", "/a%7f", "/a%", "/a%4", "/a%zz", "/a%u0041", "/a%252f", "/a%25", "/a%3f", "/a%23", "/a?b", "/a#b", "/a b", "/a|b", `/a"b`, "/a<b", "/a^b", "/a`b", "/a{b}", "/a[b]",
		"/caf\u00e9", "/a\x00", "/a\xff", "/a%ff", "/a%c0%af", "/a%e0%80%af", "/a%c0%ae", "/a%EF%BC%8Fb", "/a%EF%BC%8E", "/a%E2%80%A5/b", "/a%EF%BC%9Bb", "/a%ED%A0%80",
	} {
		if canonical(bad) == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestSensibleRequests(t *testing.T) {
	for _, c := range []struct {
		target string
		good   bool
	}{{"/a%40b?x=//..;%2f", true}, {"/a|b", false}, {"/a%2fb", false}, {"/a//b", false}, {"*", false}, {"/a%61", false}} {
		u, err := url.ParseRequestURI(c.target)
		if err != nil {
			t.Fatal(err)
		}
		if err := sensible(&http.Request{Method: "GET", URL: u}); (err == nil) != c.good {
			t.Errorf("%s: %v", c.target, err)
		}
	}
	for method, good := range map[string]bool{"GET": true, "M-SEARCH": true, "PROPFIND": true, "get": false, "Get": false, "": false, "CONNECT": false, "TRACE": false, "-": false, "G ET": false, "GET\r": false, "PRI*": false} {
		if err := sensibleMethod(method); (err == nil) != good {
			t.Errorf("method %q: %v", method, err)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for _, good := range []string{"/", "/orders?page=1", "/orders?next=//a/../b;c%2f", "/orders?", "/a%40b"} {
		u, err := parseTarget(good)
		if err != nil || u.RequestURI() != good {
			t.Errorf("%s: %v %v", good, u, err)
		}
	}
	for _, bad := range []string{"", "orders", "http://a/orders", "//a/orders", "/a#b", "/a?b#c", "/a b", "/a?b c", "/a\r\nX: y", "/a?\x00", "/a?\u00e9", "/..", "/a?" + strings.Repeat("x", maxTarget)} {
		if u, err := parseTarget(bad); err == nil {
			t.Errorf("%.40q: %v", bad, u)
		}
	}
}

// FuzzCanonical: what passes has no second spelling, by whatever Go has to
// normalise paths with.
func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{"/", "/orders/1", "/a%20b/", "/a%2fb", "/a/../b", "/a//b", "/a;b", "/%c0%af", "/caf%C3%A9", "/a%EF%BC%8Fb", "/a.", "*", "/a%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if canonical(p) != nil {
			return
		}
		decoded, err := url.PathUnescape(p)
		if err != nil || !utf8.ValidString(decoded) {
			t.Fatalf("%q passes and can't be decoded: %v", p, err)
		}
		if again, err := url.PathUnescape(decoded); err != nil || again != decoded {
			t.Errorf("%q passes and decodes twice", p)
		}
		clean := path.Clean(decoded)
		if clean != decoded && clean+"/" != decoded {
			t.Errorf("%q passes and is %q when it is clean", p, clean)
		}
		if strings.Count(decoded, "/") != strings.Count(p, "/") || strings.ContainsAny(decoded, "\\;?#%\x00\r\n") {
			t.Errorf("%q passes and hides something: %q", p, decoded)
		}
		u, err := url.ParseRequestURI(p)
		if err != nil || u.Path != decoded || u.Host != "" {
			t.Fatalf("%q passes and net/url reads %v, %v", p, u, err)
		}
		// As it goes on to the upstream.
		if sent := u.EscapedPath(); canonical(sent) != nil || sensible(&http.Request{Method: "GET", URL: u}) != nil {
			t.Errorf("%q goes on as %q", p, sent)
		}
	})
}

// FuzzParseTarget: what passes is what it says, as an upstream reads it.
func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"/", "/orders?page=1", "//a/b", "http://a/b", "/a#b", "/a?b?c", "/a%2fb?x", "/a?%zz"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := parseTarget(target)
		if err != nil {
			return
		}
		p, query, _ := strings.Cut(target, "?")
		if u.Host != "" || u.Scheme != "" || u.User != nil || u.Fragment != "" || u.RawQuery != query || canonical(p) != nil {
			t.Errorf("%q is read as %#v", target, u)
		}
		if decoded, err := url.PathUnescape(p); err != nil || decoded != u.Path {
			t.Errorf("%q has the path %q", target, u.Path)
		}
	})
}

// FuzzParseRoute: what is read makes a table or a mistake, and never panics;
// and no text makes a public route.
func FuzzParseRoute(f *testing.F) {
	for _, seed := range []string{"GET /orders=orders:read", "DELETE /orders/{id}=orders:write max_age=1m acr=urn:a", "/me", "GET /{x...}", "GET /{$}", "GET /a=", "=", "/{x}/{X}", "GET /%41", "GET  /a", "/a{"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRoute(text)
		if err != nil {
			return
		}
		if r.Public {
			t.Errorf("%q is public", text)
		}
		tab, problems := newTable([]Route{r, {Pattern: "GET /admin", Scopes: []string{"admin"}}})
		if len(problems) > 0 {
			return
		}
		for _, p := range []string{"/", "/admin", "/Admin", "/admin/", "/admin.json", "/x/y"} {
			rt, err := tab.find("GET", p)
			if (rt == nil) == (err == nil) {
				t.Fatalf("%q: %s: %v, %v", text, p, rt, err)
			}
			// Near enough to /admin for an upstream, and by no other demand.
			if rt != nil && !slices.Contains(rt.Scopes, "admin") && !slices.Contains([]string{"/", "/x/y"}, p) {
				t.Errorf("%q: %s takes %q only", text, p, rt.Scopes)
			}
		}
	})
}

func TestParseRoute(t *testing.T) {
	for text, want := range map[string]string{
		"GET /orders=orders:read":                                  "GET /orders [orders:read] 0s []",
		"GET /orders = orders:read orders:list":                    "GET /orders [orders:read orders:list] 0s []",
		"DELETE /orders/{id}=orders:write max_age=90s acr=a acr=b": "DELETE /orders/{id} [orders:write] 1m30s [a b]",
		"/me":                   "/me [] 0s []",
		"GET /a=x=y":            "GET /a [x=y] 0s []",
		"GET /a=max_age=1m":     "GET /a [] 1m0s []",
		"GET /files/{path...}":  "GET /files/{path...} [] 0s []",
		"GET /{$}=orders:read":  "GET /{$} [orders:read] 0s []",
		"GET /a=public":         "GET /a [public] 0s []",
		"PROPFIND /dav/=public": "PROPFIND /dav/ [public] 0s []",
	} {
		r, err := ParseRoute(text)
		if got := strings.Join([]string{r.Pattern, "[" + strings.Join(r.Scopes, " ") + "]", r.Login.MaxAge.String(), "[" + strings.Join(r.Login.ACR, " ") + "]"}, " "); err != nil || got != want || r.Public {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "GET", "GET /a=", "GET /a= ", "orders", "=x", "GET orders=x", "get /a=x", "GET /a=max_age=x", "GET /a=max_age=-1s", "GET /a=max_age=1m max_age=2m", "GET /a=acr=", `GET /a="x"`, "GET /a//b=x", "GET /a/../b", "GET example.com/a=x"} {
		if r, err := ParseRoute(text); err == nil {
			t.Errorf("%q is read as %+v", text, r)
		}
	}
}

// TestLaxUpstreamsCannotBeConfused: a path that a framework takes for another
// route's, whose demands are others, is nobody's.
func TestLaxUpstreamsCannotBeConfused(t *testing.T) {
	read, admin := []string{"read"}, []string{"admin"}
	tab, problems := newTable([]Route{
		{Pattern: "/{path...}", Scopes: read},
		{Pattern: "GET /admin", Scopes: admin},
		{Pattern: "/Users/{id}/Keys/", Scopes: admin},
		{Pattern: "GET /users/{id}", Scopes: read},
		{Pattern: "GET /users/me", Scopes: admin},
		{Pattern: "GET /stra%C3%9Fe", Scopes: admin},
		{Pattern: "GET /same", Scopes: read},
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, c := range []struct {
		method, path, want string
	}{
		{"GET", "/", "/{path...}"},
		{"GET", "/orders/A.json", "/{path...}"},
		{"GET", "/orders/", "/{path...}"},
		{"GET", "/admin", "GET /admin"},
		{"HEAD", "/admin", "GET /admin"},
		{"POST", "/admin", "/{path...}"},
		{"GET", "/administrators", "/{path...}"},
		{"GET", "/users/Alice", "GET /users/{id}"},
		{"GET", "/Users/Alice", "/{path...}"},
		{"GET", "/users/me", "GET /users/me"},
		{"GET", "/Users/1/Keys/2", "/Users/{id}/Keys/"},
		{"GET", "/stra\u00dfe", "GET /stra%C3%9Fe"},
		{"GET", "/same", "GET /same"},
		{"GET", "/same/", "/{path...}"},
		{"GET", "/.well-known/x", "/{path...}"},

		{"GET", "/Admin", ""}, {"HEAD", "/Admin", ""}, {"GET", "/ADMIN/", ""}, {"GET", "/admin/", ""}, {"GET", "/admin.json", ""}, {"GET", "/Admin.JSON", ""},
		{"GET", "/users/Me", ""}, {"GET", "/users/me/", ""}, {"GET", "/users/me.xml", ""}, {"GET", "/Users/me", ""},
		{"GET", "/users/1/keys/2", ""}, {"GET", "/users/1/keys", ""}, {"DELETE", "/users/1/KEYS/2", ""}, {"GET", "/Users/1/Keys", ""},
		{"GET", "/STRASSE", "/{path...}"}, {"GET", "/STRA\u00dfE", ""}, {"GET", "/\u212aeys", "/{path...}"},
	} {
		rt, err := tab.find(c.method, c.path)
		got := ""
		if rt != nil {
			got = rt.Pattern
		}
		if got != c.want {
			t.Errorf("%s %s: %q, %q expected (%v)", c.method, c.path, got, c.want, err)
		}
	}
}

func TestHeadersThatAreOurs(t *testing.T) {
	for name, want := range map[string]bool{
		"Accept": false, "Cookie": false, "X-Requested-With": false, "Content-Type": false, "X-Solegate": false, "Sec-Ch-Ua": false, "Idempotency-Key": false,
		"X-Solegate-Subject": true, "x-solegate-anything": true, "X_Solegate_Subject": true, "X-Solegate_subject": true, "X.Solegate.Subject": true, "X~A": true, "": false,
		"X-Forwarded-For": true, "X-Forwarded-Uri": true, "X-Forwarded": true, "Forwarded": true, "X-Original-Url": true, "X-Rewrite-Url": true, "X-Real-Ip": true, "X-Http-Method-Override": true, "Proxy": true, "Content_Length": true,
	} {
		if ours(name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
	for name, want := range map[string]bool{
		"Accept": false, "X-Forwarded-For": false, "X-Forwarded-Uri": false, "X-Original-Uri": false,
		"X-Solegate-Subject": true, "x-solegate-acr": true, "X_Solegate_Subject": true, "X-Solegate.subject": true, "X-Original-Url": true, "X-Rewrite-Url": true, "X_HTTP_METHOD_OVERRIDE": true,
	} {
		if forged(name) != want {
			t.Errorf("forged %q: %t", name, !want)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "[::ffff:1.2.3.4]:5"
	if a := peer(r); a.String() != "1.2.3.4" {
		t.Error(a)
	}
}
