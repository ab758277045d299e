package guard_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/guard"
	"github.com/solegate/solegate/keys/verify/verifytest"
)

const audience = "https://api.example.com"

// world is an issuer, an upstream that remembers what reached it, and a guard
// between it and the client, all over real HTTP.
type world struct {
	*verifytest.Issuer
	t        testing.TB
	guard    *guard.Guard
	server   *httptest.Server // the guard's
	upstream *httptest.Server

	mu   sync.Mutex
	seen []*http.Request
}

// newWorld starts all of it; handler, if not nil, is the upstream's.
func newWorld(t testing.TB, handler http.HandlerFunc, options ...func(*guard.Config)) *world {
	t.Helper()
	w := &world{Issuer: verifytest.New(t), t: t}
	if handler == nil {
		handler = func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "orders") }
	}
	w.upstream = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.seen = append(w.seen, r.Clone(context.Background()))
		w.mu.Unlock()
		handler(rw, r)
	}))
	t.Cleanup(w.upstream.Close)
	c := guard.Config{
		Verify:   w.config(),
		Upstream: w.upstream.URL,
		Routes: []guard.Route{
			{Pattern: "GET /orders", Scopes: []string{"orders:read"}},
			{Pattern: "POST /orders", Scopes: []string{"orders:write"}},
			{Pattern: "DELETE /orders", Scopes: []string{"orders:write"}, Login: verify.Login{MaxAge: time.Minute}},
			{Pattern: "GET /admin", Scopes: []string{"admin"}},
			{Pattern: "/files/", Scopes: []string{"orders:read"}},
			{Pattern: "GET /me"},
			{Pattern: "GET /health", Public: true},
		},
	}
	for _, option := range options {
		option(&c)
	}
	w.guard = w.newGuard(c)
	w.server = httptest.NewUnstartedServer(w.guard)
	w.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.server.Start()
	t.Cleanup(w.server.Close)
	return w
}

func (w *world) config() verify.Config {
	return verify.Config{Issuer: w.URL, Audience: audience, Development: true}
}

func (w *world) newGuard(c guard.Config) *guard.Guard {
	w.t.Helper()
	g, err := guard.New(w.t.Context(), c)
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

// reader is a token that may read orders.
func (w *world) reader() string { return w.Token(map[string]any{"scope": "openid orders:read"}) }

// reached returns what reached the upstream since it was last asked.
func (w *world) reached() []*http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

// call makes a request of the guard with a bearer token, or without one, and
// returns the status. The headers come in pairs.
func (w *world) call(method, path, token string, headers ...string) int {
	w.t.Helper()
	resp := w.response(method, path, token, headers...)
	resp.Body.Close()
	return resp.StatusCode
}

func (w *world) response(method, path, token string, headers ...string) *http.Response {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.server.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header[headers[i]] = append(r.Header[headers[i]], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp
}

// raw sends bytes, and one more request that ends the connection, and returns
// the answers' status lines, without that of the last.
func (w *world) raw(text string) []int {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second)) // if the last was taken for a body
	io.WriteString(conn, text+"GET /.well-known/oauth-protected-resource HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	var list []int
	for b := bufio.NewReader(conn); ; {
		resp, err := http.ReadResponse(b, nil)
		if err != nil {
			return list
		}
		if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), "authorization_servers") {
			list = append(list, resp.StatusCode)
		}
	}
}

func TestGoodRequestPassesWithItsIdentity(t *testing.T) {
	w := newWorld(t, nil)
	token := w.Token(map[string]any{"scope": "openid orders:read", "acr": "urn:solegate:acr:password", "auth_time": 1764000000})
	resp := w.response("GET", "/orders?page=2&q=a%20b", token, "Accept", "text/plain")
	body, _ := io.ReadAll(resp.Body)
	seen := w.reached()
	if resp.StatusCode != 200 || string(body) != "orders" || len(seen) != 1 {
		t.Fatalf("%d %q, %d reached the upstream", resp.StatusCode, body, len(seen))
	}
	r := seen[0]
	for name, want := range map[string]string{
		"X-Solegate-Subject": "alice", "X-Solegate-Client": "spa", "X-Solegate-Scope": "openid orders:read",
		"X-Solegate-Session": "session", "X-Solegate-Grant": "grant", "X-Solegate-ACR": "urn:solegate:acr:password",
		"X-Solegate-Auth-Time": "1764000000", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "api.example.com",
		"X-Forwarded-Proto": "https", "Accept": "text/plain",
	} {
		if got := r.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, %q expected", name, got, want)
		}
	}
	for _, name := range []string{"Authorization", "DPoP", "Forwarded"} {
		if r.Header.Get(name) != "" {
			t.Errorf("%s reached the upstream", name)
		}
	}
	if r.RequestURI != "/orders?page=2&q=a%20b" || r.Host != w.upstream.Listener.Addr().String() {
		t.Errorf("the upstream saw %s at %s", r.RequestURI, r.Host)
	}
}

// TestUnverifiedNeverReachesTheUpstream: of all that is wrong with a request,
// nothing gets there.
func TestUnverifiedNeverReachesTheUpstream(t *testing.T) {
	w := newWorld(t, nil)
	stranger := verifytest.New(t)
	old := time.Now().Add(-time.Hour).Unix()
	key := verifytest.NewKey(t)
	for _, c := range []struct {
		name, method, path, token string
		status                    int
		headers                   []string
	}{
		{"good", "GET", "/orders", w.reader(), 200, nil},
		{"good: HEAD is GET", "HEAD", "/orders", w.reader(), 200, nil},
		{"good: any token", "GET", "/me", w.Token(nil), 200, nil},
		{"good: public", "GET", "/health", "", 200, nil},
		{"good: fresh login", "DELETE", "/orders", w.Token(map[string]any{"scope": "orders:write", "auth_time": time.Now().Unix()}), 200, nil},
		{"no token", "GET", "/orders", "", 401, nil},
		{"no token where any would do", "GET", "/me", "", 401, nil},
		{"rubbish", "GET", "/orders", "x", 401, nil},
		{"basic", "GET", "/orders", "", 400, []string{"Authorization", "Basic YTpi"}},
		{"two tokens", "GET", "/orders", w.reader(), 400, []string{"Authorization", "Bearer x"}},
		{"token in the query", "GET", "/orders?access_token=" + w.reader(), "", 400, nil},
		{"no scope", "GET", "/orders", w.Token(nil), 403, nil},
		{"scope of another route", "POST", "/orders", w.reader(), 403, nil},
		{"scope in another case", "GET", "/orders", w.Token(map[string]any{"scope": "Orders:Read"}), 403, nil},
		{"expired", "GET", "/orders", w.Token(map[string]any{"scope": "orders:read", "iat": old, "exp": old + 60}), 401, nil},
		{"other audience", "GET", "/orders", w.Token(map[string]any{"scope": "orders:read", "aud": "https://other.example"}), 401, nil},
		{"other issuer", "GET", "/orders", stranger.Token(map[string]any{"scope": "orders:read", "iss": w.URL}), 401, nil},
		{"ID token", "GET", "/orders", w.Sign(w.Key(), map[string]any{"typ": "JWT"}, w.Claims(map[string]any{"scope": "orders:read"})), 401, nil},
		{"bound token as Bearer", "GET", "/orders", w.BoundToken(key, map[string]any{"scope": "orders:read"}), 401, nil},
		{"login too old", "DELETE", "/orders", w.Token(map[string]any{"scope": "orders:write", "auth_time": old}), 401, nil},
		{"login not said", "DELETE", "/orders", w.Token(map[string]any{"scope": "orders:write"}), 401, nil},
		{"unnamed path", "GET", "/secret", w.reader(), 404, nil},
		{"unnamed method", "PUT", "/orders", w.reader(), 404, nil},
		{"below a path", "GET", "/orders/1", w.reader(), 404, nil},
		{"root", "GET", "/", w.reader(), 404, nil},
		{"directory without its slash", "GET", "/files", w.reader(), 404, nil},
		{"method overridden", "GET", "/admin", w.reader(), 403, []string{"X-Http-Method-Override", "POST"}},
		{"TRACE", "TRACE", "/files/x", w.reader(), 400, nil},
		{"method in small letters", "get", "/files/x", w.reader(), 400, nil},
		{"token with a claim that is no header", "GET", "/orders", w.Token(map[string]any{"scope": "orders:read", "sub": "alice\r\nX-Solegate-Scope: admin"}), 401, nil},
		{"token with a name outside of ASCII", "GET", "/orders", w.Token(map[string]any{"scope": "orders:read", "sub": "älice"}), 401, nil},
	} {
		status := w.call(c.method, c.path, c.token, c.headers...)
		if status != c.status {
			t.Errorf("%s: %d, %d expected", c.name, status, c.status)
		}
		if n := len(w.reached()); (n == 1) != (c.status == 200) || n > 1 {
			t.Errorf("%s: %d requests reached the upstream", c.name, n)
		}
	}
}

func TestPublicRouteHasNoIdentity(t *testing.T) {
	w := newWorld(t, nil)
	if status := w.call("GET", "/health", w.reader(), "X-Solegate-Subject", "root"); status != 200 {
		t.Fatal(status)
	}
	for name := range w.reached()[0].Header {
		if strings.HasPrefix(name, "X-Solegate") || name == "Authorization" {
			t.Errorf("the upstream got %s", name)
		}
	}
}

func TestUnknownKeysRefuse(t *testing.T) {
	w := newWorld(t, nil)
	w.SetDown(true)
	c := guard.Config{Verify: w.config(), Upstream: w.upstream.URL, Routes: []guard.Route{{Pattern: "GET /orders"}, {Pattern: "GET /health", Public: true}}}
	g := w.newGuard(c)
	if g.Ready() == nil {
		t.Error("ready without keys")
	}
	r := httptest.NewRequest("GET", "/orders", nil)
	r.Header.Set("Authorization", "Bearer "+w.reader())
	rec := httptest.NewRecorder()
	g.ServeHTTP(rec, r)
	if rec.Code != 503 || len(w.reached()) != 0 {
		t.Errorf("%d without keys", rec.Code)
	}
}

// panics is a memory of proofs that breaks.
type panics struct{}

func (panics) Once(context.Context, [32]byte, time.Time) (bool, error) { panic("out of memory") }

// fails is one that can't be asked.
type fails struct{}

func (fails) Once(context.Context, [32]byte, time.Time) (bool, error) {
	return true, errors.New("no connection")
}

func TestBrokenCheckRefuses(t *testing.T) {
	for name, replays := range map[string]verify.Replays{"panics": panics{}, "fails": fails{}} {
		w := newWorld(t, nil, func(c *guard.Config) { c.Verify.Replays = replays })
		key := verifytest.NewKey(t)
		token := w.BoundToken(key, map[string]any{"scope": "orders:read"})
		r, _ := http.NewRequestWithContext(t.Context(), "GET", w.server.URL+"/orders", nil)
		key.Authorize(r, audience+"/orders", token, nil)
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != 503 {
				t.Errorf("%s: %d", name, resp.StatusCode)
			}
		}
		if n := len(w.reached()); n != 0 {
			t.Errorf("%s: %d requests reached the upstream", name, n)
		}
	}
}

func TestDPoPThroughTheGuard(t *testing.T) {
	w := newWorld(t, nil, func(c *guard.Config) {
		c.Verify.RequireDPoP = true
		c.Verify.PublicURL = audience + "/v1" // a proxy in front takes it away
		c.Verify.DPoPNonceKey = make([]byte, 32)
	})
	key := verifytest.NewKey(t)
	token := w.BoundToken(key, map[string]any{"scope": "orders:read"})
	call := func(proof string) *http.Response {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", w.server.URL+"/orders?page=1", nil)
		r.Header.Set("Authorization", "DPoP "+token)
		r.Header.Set("DPoP", proof)
		r.Host = "evil.example"
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	resp := call(key.Proof("GET", audience+"/v1/orders", token, nil))
	nonce := resp.Header.Get("DPoP-Nonce")
	if resp.StatusCode != 401 || nonce == "" || !strings.Contains(resp.Header.Get("WWW-Authenticate"), "use_dpop_nonce") {
		t.Fatalf("no nonce: %d %v", resp.StatusCode, resp.Header)
	}
	with := map[string]any{"nonce": nonce}
	proof := key.Proof("GET", audience+"/v1/orders", token, with)
	if resp := call(proof); resp.StatusCode != 200 {
		t.Errorf("good: %d %v", resp.StatusCode, resp.Header)
	}
	if seen := w.reached(); len(seen) != 1 || seen[0].Header.Get("DPoP") != "" || seen[0].Header.Get("X-Solegate-Subject") != "alice" {
		t.Errorf("the upstream saw %v", seen)
	}
	for name, proof := range map[string]string{
		"again":           proof,
		"other method":    key.Proof("POST", audience+"/v1/orders", token, with),
		"other path":      key.Proof("GET", audience+"/v1/admin", token, with),
		"the inner path":  key.Proof("GET", audience+"/orders", token, with),
		"the Host header": key.Proof("GET", "https://evil.example/orders", token, with),
		"another key":     verifytest.NewKey(t).Proof("GET", audience+"/v1/orders", token, with),
	} {
		if resp := call(proof); resp.StatusCode != 401 || len(w.reached()) != 0 {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	if status := w.call("GET", "/orders", w.reader()); status != 401 {
		t.Errorf("Bearer: %d", status)
	}
}

// TestAnswersOfGuardAndUpstreamAreOne: where both have a word the guard's
// counts, also after an answer of 1xx.
func TestAnswersOfGuardAndUpstreamAreOne(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "early" {
			rw.Header().Set("Link", "</a.css>; rel=preload")
			rw.WriteHeader(http.StatusEarlyHints)
		}
		rw.Header().Set("Cache-Control", "public, max-age=60")
		rw.Header().Set("Access-Control-Allow-Origin", "*")
		rw.Header().Set("Access-Control-Allow-Credentials", "true")
		rw.Header().Set("Access-Control-Expose-Headers", "X-Total")
		rw.Header().Set("Alt-Svc", `h3=":3000"`)
		io.WriteString(rw, "orders")
	}, func(c *guard.Config) {
		c.Verify.Origins = []string{"https://app.example.com"}
		c.Verify.DPoPNonceKey = make([]byte, 32)
	})
	key := verifytest.NewKey(t)
	token := w.BoundToken(key, map[string]any{"scope": "orders:read"})
	nonce := w.response("GET", "/orders", "").Header.Get("DPoP-Nonce")
	for _, accept := range []string{"early", "late"} {
		proof := key.Proof("GET", audience+"/orders", token, map[string]any{"nonce": nonce})
		resp := w.response("GET", "/orders", "", "Authorization", "DPoP "+token, "Dpop", proof, "Origin", "https://app.example.com", "Accept", accept)
		h := resp.Header
		if resp.StatusCode != 200 || fmt.Sprint(h["Access-Control-Allow-Origin"]) != "[https://app.example.com]" || h.Get("Alt-Svc") != "" || fmt.Sprint(h["Vary"]) != "[Origin]" ||
			h.Get("Access-Control-Allow-Credentials") != "" || !strings.Contains(fmt.Sprint(h["Access-Control-Expose-Headers"]), "X-Total WWW-Authenticate") {
			t.Errorf("%s: %d %v", accept, resp.StatusCode, h)
		}
	}
	if resp := w.response("GET", "/health", "", "Origin", "https://evil.example"); resp.StatusCode != 200 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another origin at a public route: %d %v", resp.StatusCode, resp.Header)
	}
	if resp := w.response("GET", "/orders", w.reader(), "Origin", "https://evil.example"); resp.StatusCode != 403 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another origin: %d %v", resp.StatusCode, resp.Header)
	}
	w.reached()
	if resp := w.response("OPTIONS", "/orders", "", "Origin", "https://app.example.com", "Access-Control-Request-Method", "GET"); resp.StatusCode != 204 || resp.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" || len(w.reached()) != 0 {
		t.Errorf("preflight: %d %v", resp.StatusCode, resp.Header)
	}
}

func TestMetadataIsServed(t *testing.T) {
	w := newWorld(t, nil)
	resp := w.response("GET", "/.well-known/oauth-protected-resource", "")
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || !strings.Contains(string(body), `"scopes_supported":["admin","orders:read","orders:write"]`) || len(w.reached()) != 0 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}
