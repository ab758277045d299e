package guard_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/solegate/solegate/keys/verify/guard"
	"github.com/solegate/solegate/keys/verify/verifytest"
)

// asks is a guard that a proxy asks, at the place.
func asks(t *testing.T, place guard.ForwardAuth, options ...func(*guard.Config)) *world {
	return newWorld(t, nil, append([]func(*guard.Config){func(c *guard.Config) { c.Upstream, c.ForwardAuth = "", place }}, options...)...)
}

// ask is a proxy's question. The headers come in pairs; there may be several of
// one name.
func (w *world) ask(method, target, from, token string, headers ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = from
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header[headers[i]] = append(r.Header[headers[i]], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.guard.ServeHTTP(rec, r)
	return rec
}

const proxy = "127.0.0.1:4711"

func TestForwardAuthSaysWhoMayPass(t *testing.T) {
	for _, c := range []struct {
		place       guard.ForwardAuth
		method, uri string // names of headers
	}{{guard.Forwarded, "X-Forwarded-Method", "X-Forwarded-Uri"}, {guard.Original, "X-Original-Method", "X-Original-Uri"}} {
		w := asks(t, c.place)
		token := w.Token(map[string]any{"scope": "orders:read", "acr": "a", "auth_time": 1764000000})
		rec := w.ask("GET", "/any", proxy, token, c.method, "GET", c.uri, "/orders?page=2")
		h := rec.Header()
		if rec.Code != 200 || h.Get("X-Solegate-Subject") != "alice" || h.Get("X-Solegate-Scope") != "orders:read" || h.Get("X-Solegate-Auth-Time") != "1764000000" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: good: %d %v", c.place, rec.Code, h)
		}
		// All headers are there, so that a proxy that copies them replaces
		// what a client sent.
		rec = w.ask("GET", "/any", proxy, "", c.method, "GET", c.uri, "/health")
		for _, name := range []string{guard.HeaderSubject, guard.HeaderClient, guard.HeaderScope, guard.HeaderSession, guard.HeaderGrant, guard.HeaderACR, guard.HeaderAuthTime} {
			if v := rec.Header()[name]; rec.Code != 200 || len(v) != 1 || v[0] != "" {
				t.Errorf("%s: public: %d, %s is %q", c.place, rec.Code, name, v)
			}
		}
		other := "X-Original-Uri"
		if c.place == guard.Original {
			other = "X-Forwarded-Uri"
		}
		for name, c := range map[string]struct {
			token   string
			status  int
			headers []string
		}{
			"the other place doesn't count": {token, 403, []string{c.method, "GET", c.uri, "/admin", other, "/orders"}},
			"other method":                  {token, 403, []string{c.method, "POST", c.uri, "/orders"}},
			"unnamed method":                {token, 403, []string{c.method, "PUT", c.uri, "/orders"}},
			"unnamed path":                  {token, 403, []string{c.method, "GET", c.uri, "/secret"}},
			"no token":                      {"", 401, []string{c.method, "GET", c.uri, "/orders"}},
			"bad token":                     {"x", 401, []string{c.method, "GET", c.uri, "/orders"}},
			"token in the query":            {"", 403, []string{c.method, "GET", c.uri, "/orders?access_token=" + token}},
			"no method":                     {token, 403, []string{c.uri, "/orders"}},
			"no target":                     {token, 403, []string{c.method, "GET"}},
			"two targets":                   {token, 403, []string{c.method, "GET", c.uri, "/orders", c.uri, "/orders"}},
			"two methods":                   {token, 403, []string{c.method, "GET", c.method, "POST", c.uri, "/orders"}},
			"empty target":                  {token, 403, []string{c.method, "GET", c.uri, ""}},
			"no path":                       {token, 403, []string{c.method, "GET", c.uri, "orders"}},
			"a whole URL":                   {token, 403, []string{c.method, "GET", c.uri, "http://api.example.com/orders"}},
			"hidden dots":                   {token, 403, []string{c.method, "GET", c.uri, "/files/%2e%2e/admin"}},
			"encoded slash":                 {token, 403, []string{c.method, "GET", c.uri, "/files/..%2fadmin"}},
			"double slash":                  {token, 403, []string{c.method, "GET", c.uri, "//orders"}},
			"fragment":                      {token, 403, []string{c.method, "GET", c.uri, "/orders#/admin"}},
			"small letters":                 {token, 403, []string{c.method, "get", c.uri, "/orders"}},
			"forged identity":               {token, 403, []string{c.method, "GET", c.uri, "/orders", "X-Solegate-Subject", "root"}},
			"forged with underscores":       {token, 403, []string{c.method, "GET", c.uri, "/orders", "X_Solegate_Subject", "root"}},
			"another method beside":         {token, 403, []string{c.method, "GET", c.uri, "/orders", "X-Http-Method-Override", "DELETE"}},
			"another path beside":           {token, 403, []string{c.method, "GET", c.uri, "/orders", "X-Rewrite-Url", "/admin"}},
			"a preflight is not answered":   {"", 403, []string{c.method, "OPTIONS", c.uri, "/orders", "Origin", "https://app.example.com", "Access-Control-Request-Method", "GET"}},
		} {
			rec := w.ask("GET", "/orders", proxy, c.token, c.headers...)
			if rec.Code != c.status || rec.Header().Get("X-Solegate-Subject") != "" {
				t.Errorf("%s: %d %v, %d expected", name, rec.Code, rec.Header(), c.status)
			}
		}
		for from, status := range map[string]int{"192.0.2.1:1": 403, "[::1]:1": 200, "[::ffff:127.0.0.1]:1": 200, "10.0.0.1:1": 403, "": 403} {
			if rec := w.ask("GET", "/", from, token, c.method, "GET", c.uri, "/orders"); rec.Code != status {
				t.Errorf("%s from %q: %d", c.place, from, rec.Code)
			}
		}
	}
}

func TestForwardAuthTrustsWhomItIsTold(t *testing.T) {
	w := asks(t, guard.Original, func(c *guard.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	for from, status := range map[string]int{"10.1.2.3:1": 200, "127.0.0.1:1": 403} {
		if rec := w.ask("GET", "/", from, w.reader(), "X-Original-Method", "GET", "X-Original-Uri", "/orders"); rec.Code != status {
			t.Errorf("from %s: %d", from, rec.Code)
		}
	}
}

// TestForwardAuthByTheRequestItself, as Envoy asks.
func TestForwardAuthByTheRequestItself(t *testing.T) {
	w := asks(t, guard.Request)
	for _, c := range []struct {
		method, target string
		status         int
		headers        []string
	}{
		{"GET", "/orders?page=2", 200, nil},
		{"GET", "/admin", 403, []string{"X-Forwarded-Uri", "/orders", "X-Original-Uri", "/orders"}},
		{"POST", "/orders", 403, []string{"X-Forwarded-Method", "GET"}},
		{"GET", "/files/%2e%2e/admin", 403, nil},
		{"GET", "/files/a|b", 403, nil},
		{"GET", "/.well-known/oauth-protected-resource", 403, nil},
	} {
		if rec := w.ask(c.method, c.target, proxy, w.reader(), c.headers...); rec.Code != c.status {
			t.Errorf("%s %s: %d, %d expected", c.method, c.target, rec.Code, c.status)
		}
	}
}

func TestForwardAuthWithDPoP(t *testing.T) {
	w := asks(t, guard.Original, func(c *guard.Config) {
		c.Verify.PublicURL = audience + "/v1"
		c.Verify.DPoPNonceKey = make([]byte, 32)
		c.Verify.Origins = []string{"https://app.example.com"}
	})
	key := verifytest.NewKey(t)
	token := w.BoundToken(key, map[string]any{"scope": "orders:read"})
	call := func(proof string) *httptest.ResponseRecorder {
		return w.ask("GET", "/auth", proxy, "", "X-Original-Method", "GET", "X-Original-Uri", "/orders?page=2", "Origin", "https://app.example.com",
			"Authorization", "DPoP "+token, "Dpop", proof, "X-Forwarded-Host", "evil.example")
	}
	rec := call(key.Proof("GET", audience+"/v1/orders", token, nil))
	nonce := rec.Header().Get("DPoP-Nonce")
	if rec.Code != 401 || nonce == "" || !strings.Contains(rec.Header().Get("WWW-Authenticate"), "use_dpop_nonce") || rec.Header().Get("Access-Control-Allow-Origin") == "" {
		t.Fatalf("no nonce: %d %v", rec.Code, rec.Header())
	}
	with := map[string]any{"nonce": nonce}
	good := key.Proof("GET", audience+"/v1/orders", token, with)
	if rec := call(good); rec.Code != 200 || rec.Header().Get("X-Solegate-Subject") != "alice" {
		t.Errorf("good: %d %v", rec.Code, rec.Header())
	}
	for _, path := range []string{"/orders", "/files/a"} { // no method, and any
		rec := w.ask("OPTIONS", "/auth", proxy, "", "X-Original-Method", "OPTIONS", "X-Original-Uri", path, "Origin", "https://app.example.com", "Access-Control-Request-Method", "GET")
		if rec.Code != 401 && rec.Code != 403 {
			t.Errorf("a preflight request at %s may pass: %d", path, rec.Code)
		}
	}
	for name, proof := range map[string]string{
		"again":               good,
		"the guard's address": key.Proof("GET", audience+"/v1/auth", token, with),
		"the Host":            key.Proof("GET", "https://evil.example/orders", token, with),
		"without the prefix":  key.Proof("GET", audience+"/orders", token, with),
	} {
		if rec := call(proof); rec.Code != 401 {
			t.Errorf("%s: %d", name, rec.Code)
		}
	}
}

// TestForwardAuthWithoutKeys: what is not known does not pass. nginx is told in
// its own way.
func TestForwardAuthWithoutKeys(t *testing.T) {
	w := asks(t, guard.Original)
	w.SetDown(true)
	for place, want := range map[guard.ForwardAuth]struct {
		code   int
		status string
	}{guard.Original: {403, "503"}, guard.Forwarded: {503, ""}} {
		w.guard = w.newGuard(guard.Config{Verify: w.config(), ForwardAuth: place, Routes: []guard.Route{{Pattern: "GET /orders"}}})
		rec := w.ask("GET", "/", proxy, w.reader(), "X-Original-Method", "GET", "X-Original-Uri", "/orders", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/orders")
		if rec.Code != want.code || rec.Header().Get(guard.HeaderStatus) != want.status || rec.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d %v", place, rec.Code, rec.Header())
		}
	}
}

// TestForwardAuthOverHTTP is the whole of it once, over a connection.
func TestForwardAuthOverHTTP(t *testing.T) {
	w := asks(t, guard.Forwarded)
	for _, c := range []struct {
		token  string
		status int
	}{{w.reader(), 200}, {"", 401}, {w.Token(nil), 403}} {
		resp := w.response("GET", "/", c.token, "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/orders")
		resp.Body.Close()
		if resp.StatusCode != c.status || (c.status == http.StatusOK) != (resp.Header.Get(guard.HeaderSubject) == "alice") || (c.status == 401) != (resp.Header.Get("WWW-Authenticate") != "" && c.status == 401) {
			t.Errorf("%d %v, %d expected", resp.StatusCode, resp.Header, c.status)
		}
	}
}
