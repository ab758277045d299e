package verify_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/solegate/solegate/keys/verify"
)

// TestC19BehindAProxy has a proxy on the way that rewrites the host and takes
// a part of the path away.
func TestC19BehindAProxy(t *testing.T) {
	w := newWorld(t)
	c := w.client(t)
	mux := http.NewServeMux()
	inside := httptest.NewServer(mux)
	defer inside.Close()
	target, err := url.Parse(inside.URL)
	if err != nil {
		t.Fatal(err)
	}
	outside := httptest.NewServer(http.StripPrefix("/v1", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = "" // the proxy's own choice
	}}))
	defer outside.Close()
	v := w.verifier(t, func(c *verify.Config) { c.PublicURL = outside.URL + "/v1" })
	mux.Handle("/", v.Require("openid")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	call := func(address, host, htu string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", address, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		r.Header.Set("X-Forwarded-Host", "evil.example")
		r.Header.Set("Forwarded", "host=evil.example;proto=https")
		c.Authorize(r, htu, c.token, nil)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	public := outside.URL + "/v1/notes"
	for _, x := range []struct {
		name, address, host, htu string
		status                   int
	}{
		{"the public address", public, "", public, 200},
		{"with a query", public + "?a=b", "", public, 200},
		{"with escapes", outside.URL + "/v1/a%2Fb%7C", "", outside.URL + "/v1/%61%2fb|", 200},
		{"the address inside", public, "", inside.URL + "/notes", 401},
		{"without the prefix", public, "", outside.URL + "/notes", 401},
		{"the audience", public, "", notes, 401},
		{"a host that the caller names", public, "evil.example", "http://evil.example/v1/notes", 401},
		{"another path", outside.URL + "/v1/a%2Fb", "", outside.URL + "/v1/a/b", 401},
		{"straight to the inside, for the inside", inside.URL + "/notes", "evil.example", "http://evil.example/notes", 401},
	} {
		if got := call(x.address, x.host, x.htu); got != x.status {
			t.Errorf("%s: %d, %d expected", x.name, got, x.status)
		}
	}
}

// TestPathCantLengthenTheHost has a handler take so much of the path away that
// no slash is left.
func TestPathCantLengthenTheHost(t *testing.T) {
	w := newWorld(t)
	c := w.client(t)
	h := http.StripPrefix("/v1/", w.api)
	call := func(path, htu string) int {
		r := httptest.NewRequest("GET", path, nil)
		c.Authorize(r, htu, c.token, nil)
		return serve(h, r).Code
	}
	if got := call("/v1/notes", notes); got != 200 {
		t.Errorf("good: %d", got)
	}
	if got := call("/v1/.evil.example/notes", audience+".evil.example/notes"); got != 401 {
		t.Errorf("another host: %d", got)
	}
}

// TestPathIsAsItWasSent has characters that browsers send as they are, where
// net/url no longer knows which slash was one.
func TestPathIsAsItWasSent(t *testing.T) {
	w := newWorld(t)
	c := w.client(t)
	for htu, status := range map[string]int{audience + "/a%2Fb|c": 200, audience + "/a%2fb%7Cc": 200, audience + "/a/b|c": 401} {
		r := httptest.NewRequest("GET", "/a%2Fb|c", nil)
		c.Authorize(r, htu, c.token, nil)
		if rec := serve(w.api, r); rec.Code != status {
			t.Errorf("%s: %d, %d expected", htu, rec.Code, status)
		}
	}
}
