package guard_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/solegate/solegate/keys/verify/guard"
	"github.com/solegate/solegate/keys/verify/verifytest"
)

// What the guard costs beside a plain ReverseProxy with the same upstream and
// client on the same machine, by a bearer token that was seen before and by
// DPoP, with a proof for each request.
func BenchmarkPlainProxy(b *testing.B) {
	w := newWorld(b, nil)
	target, _ := url.Parse(w.upstream.URL)
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded() },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	})
	defer server.Close()
	token := w.reader()
	benchmark(b, server.URL, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) })
}

func BenchmarkGuardBearer(b *testing.B) {
	w := newWorld(b, nil)
	token := w.reader()
	benchmark(b, w.server.URL, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) })
}

func BenchmarkGuardDPoP(b *testing.B) {
	w := newWorld(b, nil)
	key := verifytest.NewKey(b)
	token := w.BoundToken(key, map[string]any{"scope": "orders:read"})
	proofs := make([]string, b.N)
	for i := range proofs {
		proofs[i] = key.Proof("GET", audience+"/orders", token, nil)
	}
	i := 0
	benchmark(b, w.server.URL, func(r *http.Request) {
		r.Header.Set("Authorization", "DPoP "+token)
		r.Header.Set("DPoP", proofs[i])
		i++
	})
}

func benchmark(b *testing.B, address string, authorize func(*http.Request)) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		r, err := http.NewRequest("GET", address+"/orders", nil)
		if err != nil {
			b.Fatal(err)
		}
		authorize(r)
		resp, err := client.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 {
			b.Fatal(resp.StatusCode)
		}
	}
}

// BenchmarkForwardAuth is the question alone, without a connection.
func BenchmarkForwardAuth(b *testing.B) {
	w := newWorld(b, nil, func(c *guard.Config) { c.Upstream, c.ForwardAuth = "", guard.Original })
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = proxy
	r.Header.Set("Authorization", "Bearer "+w.reader())
	r.Header.Set("X-Original-Method", "GET")
	r.Header.Set("X-Original-URI", "/orders?page=2")
	b.ReportAllocs()
	for b.Loop() {
		rec := httptest.NewRecorder()
		w.guard.ServeHTTP(rec, r)
		if rec.Code != 200 {
			b.Fatal(rec.Code)
		}
	}
}
