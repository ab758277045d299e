package guard_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/solegate/solegate/keys/verify/guard"
)

// TestForgedHeadersNeverReachTheUpstream: whatever a client writes, in each
// shape that some server takes for the guard's word.
func TestForgedHeadersNeverReachTheUpstream(t *testing.T) {
	w := newWorld(t, nil)
	token := w.reader()
	good := "GET /orders HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer " + token + "\r\n"
	for _, forged := range []string{
		"X-Solegate-Subject: root\r\n",
		"x-solegate-subject: root\r\n",
		"X-SOLEGATE-SUBJECT: root\r\nX-Solegate-Subject: root\r\n",
		"X_Solegate_Subject: root\r\n",
		"X-Solegate_Subject: root\r\n",
		"X.Solegate.Subject: root\r\n",
		"X~Solegate~Subject: root\r\n",
		"X-Solegate-Subject: root\r\nConnection: X-Solegate-Subject\r\n",
		"Connection: X-Solegate-Subject, x-solegate-scope, X-Forwarded-For\r\n",
		"Connection: keep-alive\r\nConnection: x-solegate-subject\r\n",
		"X-Solegate-ACR: high\r\nX-Solegate-Auth-Time: 9999999999\r\nX-Solegate-New: x\r\n",
		"X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nX-Original-URI: /admin\r\nX-Forwarded-Uri: /admin\r\nX-Forwarded-Path: /admin\r\nX-Forwarded-Prefix: /admin\r\n",
		"X-HTTP-Method-Override: DELETE\r\nX-HTTP-Method: DELETE\r\nX-Method-Override: DELETE\r\nX-Forwarded-Method: DELETE\r\n",
		"Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\nX-Client-IP: 6.6.6.6\r\n",
		"Remote-User: root\r\nX-Remote-User: root\r\nProxy: http://evil.example\r\n",
		"Trailer: X-Solegate-Subject\r\n",
		"Te: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings\r\n",
		"Upgrade: websocket/13\r\nConnection: upgrade\r\n",
	} {
		if got := w.raw(good + forged + "\r\n"); len(got) != 1 || got[0] != 200 {
			t.Errorf("%q: %v", forged, got)
			continue
		}
		r := w.reached()[0]
		want := []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Solegate-Client", "X-Solegate-Grant", "X-Solegate-Scope", "X-Solegate-Session", "X-Solegate-Subject"}
		got := slices.DeleteFunc(slices.Sorted(maps.Keys(r.Header)), func(name string) bool { return name == "Accept-Encoding" || name == "Te" })
		if !slices.Equal(got, want) || r.Header.Get("X-Solegate-Subject") != "alice" || r.Header.Get("X-Forwarded-For") != "127.0.0.1" || len(r.Header["X-Solegate-Subject"]) != 1 {
			t.Errorf("%q: the upstream got %v", forged, r.Header)
		}
		if len(r.Trailer) != 0 || r.URL.Path != "/orders" || r.Method != "GET" {
			t.Errorf("%q: %s %s, trailers %v", forged, r.Method, r.URL, r.Trailer)
		}
	}
	// What is no header at all is no request.
	for _, broken := range []string{"X-Solegate-Subject : root\r\n", "X-Solegate-Subject\t: root\r\n", "X Solegate Subject: root\r\n", " X-Solegate-Subject: root\r\n", ": root\r\n", "X-A: b\x00c\r\n", "Host: other\r\n"} {
		if got := w.raw(good + broken + "\r\n"); len(got) > 0 && got[0] == 200 && w.reached()[0].Header.Get("X-Solegate-Subject") != "alice" {
			t.Errorf("%q: %v", broken, got)
		}
		w.reached()
	}
	// A trailer is no header either.
	body := "POST /orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + w.Token(map[string]any{"scope": "orders:write"}) + "\r\nTransfer-Encoding: chunked\r\nTrailer: X-Solegate-Subject\r\n\r\n1\r\na\r\n0\r\nX-Solegate-Subject: root\r\n\r\n"
	if got := w.raw(body); len(got) != 1 || got[0] != 200 {
		t.Fatalf("trailer: %v", got)
	}
	if r := w.reached()[0]; len(r.Trailer) != 0 || r.Header.Get("X-Solegate-Subject") != "alice" {
		t.Errorf("trailer: %v %v", r.Header, r.Trailer)
	}
}

func TestAuthorizationPassesIfTold(t *testing.T) {
	for _, pass := range []bool{false, true} {
		w := newWorld(t, nil, withPassAuthorization(pass))
		token := w.reader()
		w.call("GET", "/orders", token)
		if got := w.reached()[0].Header.Get("Authorization") == "Bearer "+token; got != pass {
			t.Errorf("%t: %t", pass, got)
		}
	}
}

// TestPathTricks: over real connections, with a token that may read files and
// nothing else. What reaches the upstream is below /files/, however it reads.
func TestPathTricks(t *testing.T) {
	w := newWorld(t, nil)
	token := w.reader()
	ask := func(target string) (status []int, seen []*http.Request) {
		status = w.raw("GET " + target + " HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer " + token + "\r\nConnection: close\r\n\r\n")
		return status, w.reached()
	}
	for _, good := range []string{"/files/a", "/files/a%20b", "/files/", "http://evil.example/files/a", "/files/a?next=/../admin;x"} {
		status, seen := ask(good)
		if len(status) != 1 || status[0] != 200 || len(seen) != 1 || !strings.HasPrefix(seen[0].RequestURI, "/files/") || seen[0].Host == "evil.example" {
			t.Errorf("%s: %v %v", good, status, seen)
		}
	}
	for _, target := range []string{
		"/files/../admin", "/files/..%2fadmin", "/files/%2e%2e/admin", "/files/..;/admin", "/files/..%5cadmin", `/files/..\admin`, "/files//admin", "//admin", "//files/a", "/files/./a",
		"/files/a%2f..%2f..%2fadmin", "/files/%252e%252e/admin", "/files/..%c0%afadmin", "/files/a;/../../admin", "/files/a%00", "/files/a.", "/files/a#/admin", "/files/a%23", "/files/a%3f",
		"/%66iles/a", "/Files/a", "/files", "/FILES/../admin", "http://a/files/../admin", "http:///admin", "files/a", "*", "", "/fil\u0435s/a", "/files/\xff", "/admin", "/admin/", "/admin.json", "/ADMIN",
	} {
		status, seen := ask(target)
		if len(seen) != 0 || slices.Contains(status, 200) {
			t.Errorf("%q: %v, the upstream saw %s", target, status, seen[0].RequestURI)
		}
	}
}

// TestSmuggling: a second request hidden in the first is never one of its own
// at the upstream.
func TestSmuggling(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	token := w.Token(map[string]any{"scope": "orders:write"})
	hidden := "GET /admin HTTP/1.1\r\nHost: a\r\nX-Solegate-Scope: admin\r\n\r\n"
	head := "POST /orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + token + "\r\n"
	if got := w.raw(head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(hidden), hidden)); len(got) != 1 || got[0] != 200 || len(w.reached()) != 1 {
		t.Fatalf("a body that looks like a request: %v", got)
	}
	for _, shape := range []string{
		fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s", 5+len(hidden), hidden),
		"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
		"Content-Length: 0\r\nContent-Length: 5\r\n\r\n" + hidden,
		"Content-Length: 0, 5\r\n\r\n" + hidden,
		"Content-Length: +0\r\n\r\n" + hidden,
		"Content-Length: -1\r\n\r\n" + hidden,
		"Content-Length: 0x0\r\n\r\n" + hidden,
		"Content-Length : 0\r\n\r\n" + hidden,
		"Content_Length: 99\r\nContent-Length: 0\r\n\r\n" + hidden,
		"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hidden,
		"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + hidden,
		"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
		"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + hidden,
		"Transfer_Encoding: chunked\r\nContent-Length: 0\r\n\r\n" + hidden,
		"Transfer-Encoding: chunked\r\n\r\n0;ext=\"\n\r\n\r\n" + hidden,
		"Transfer-Encoding: chunked\r\n\r\n1\nA\n0\n\n" + hidden,
		"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff1\r\n" + hidden,
		"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n" + hidden,
		"Expect: 100-continue\r\nContent-Length: 0\r\n\r\n" + hidden,
		"Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n" + hidden,
	} {
		status := w.raw(head + shape)
		for _, r := range w.reached() {
			if r.URL.Path != "/orders" || r.Header.Get("X-Solegate-Subject") != "alice" || r.Header.Get("X-Solegate-Scope") != "orders:write" {
				t.Errorf("%q: %v, the upstream saw %s %s", shape, status, r.Method, r.URL)
			}
		}
	}
	// The same with a request that has no body by its method, and a WebSocket
	// with one.
	token = w.reader()
	for _, shape := range []string{"Content-Length: 5\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\nContent-Length: 70\r\n\r\n"} {
		status := w.raw("GET /orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + token + "\r\n" + shape + hidden)
		for _, r := range w.reached() {
			if r.URL.Path != "/orders" {
				t.Errorf("%q: %v, the upstream saw %s %s", shape, status, r.Method, r.URL)
			}
		}
	}
}

// TestStrangeHostIsNotTheUpstreams: what a client says in Host goes nowhere.
func TestStrangeHostIsNotTheUpstreams(t *testing.T) {
	w := newWorld(t, nil)
	for _, host := range []string{"evil.example", "127.0.0.1:1", "a@b", "[::1]:99", "localhost.", "api.example.com, evil.example", "x:y:z", ""} {
		w.raw("GET /orders HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: Bearer " + w.reader() + "\r\n\r\n")
		for _, r := range w.reached() {
			if r.Host != w.upstream.Listener.Addr().String() || r.Header.Get("X-Forwarded-Host") != "api.example.com" {
				t.Errorf("%q: the upstream got Host %q, %v", host, r.Host, r.Header)
			}
		}
	}
}

// TestForgedOverHTTP2: names are in small letters there.
func TestForgedOverHTTP2(t *testing.T) {
	w := newWorld(t, nil)
	server, client := w.serveTLS()
	r, _ := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/orders", nil)
	r.Header.Set("Authorization", "Bearer "+w.reader())
	for _, name := range []string{"x-solegate-subject", "x_solegate_subject", "X-Solegate-Acr", "x-forwarded-for", "x-http-method-override"} {
		r.Header[name] = []string{"root"}
	}
	resp, err := client.Do(r)
	if err != nil || resp.StatusCode != 200 || resp.ProtoMajor != 2 || resp.TLS.Version < tls.VersionTLS12 {
		t.Fatalf("%v %v", resp, err)
	}
	h := w.reached()[0].Header
	for name, values := range h {
		if slices.Contains(values, "root") {
			t.Errorf("%s reached the upstream", name)
		}
	}
	if h.Get("X-Solegate-Subject") != "alice" {
		t.Error(h)
	}
}

func TestTrustedProxySaysWhereFrom(t *testing.T) {
	for _, c := range []struct {
		trusted string
		chain   []string
		want    string
	}{
		{"", []string{"9.9.9.9"}, "127.0.0.1"},
		{"127.0.0.0/8", []string{"6.6.6.6, 9.9.9.9"}, "9.9.9.9"},
		{"127.0.0.0/8", []string{"6.6.6.6", "9.9.9.9, 127.0.0.5"}, "9.9.9.9"},
		{"127.0.0.0/8", []string{"rubbish"}, "127.0.0.1"},
		{"10.0.0.0/8", []string{"9.9.9.9"}, "127.0.0.1"},
	} {
		w := newWorld(t, nil, func(g *guard.Config) {
			if c.trusted != "" {
				g.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(c.trusted)}
			}
		})
		var headers []string
		for _, line := range c.chain {
			headers = append(headers, "X-Forwarded-For", line)
		}
		w.call("GET", "/orders", w.reader(), append(headers, "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "ftp", "Forwarded", "for=6.6.6.6")...)
		h := w.reached()[0].Header
		if got := h["X-Forwarded-For"]; len(got) != 1 || got[0] != c.want {
			t.Errorf("%v from %s: %q", c.chain, c.trusted, got)
		}
		if h.Get("X-Forwarded-Host") != "api.example.com" || h.Get("X-Forwarded-Proto") != "https" || h.Get("Forwarded") != "" {
			t.Errorf("%v", h)
		}
	}
}
