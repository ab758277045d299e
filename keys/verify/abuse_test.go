package verify_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/reports"
)

// TestAbuserIsReported is the API's side of F34, over HTTP: who hammers is
// answered 429 and reported, and so is who misbehaves in the API's own
// judgement; nobody else is.
func TestAbuserIsReported(t *testing.T) {
	var log lockedLog
	w := newWorld(t)
	v := w.verifier(t, func(c *verify.Config) {
		c.Credential = &verify.Credential{ID: "orders-api", Secret: "hush-hush"}
		c.Reports = &verify.Reports{Address: func(r *http.Request) netip.Addr {
			a, _ := netip.ParseAddr(r.Header.Get("X-Real-IP"))
			return a
		}}
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	mux := http.NewServeMux()
	mux.Handle("GET /orders", v.Require()(v.Limit(verify.Limit{Name: "orders", Requests: 5, Window: time.Minute})(ok)))
	mux.Handle("GET /trap", v.Require()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		v.Report(r.Context(), "scraping “all”, "+strings.Repeat("x", 100))
	})))
	api := httptest.NewServer(mux)
	defer api.Close()
	key := w.client(t)
	call := func(path, token, from string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", api.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Real-IP", from)
		if strings.HasPrefix(token, "DPoP ") {
			key.Authorize(r, audience+path, strings.TrimPrefix(token, "DPoP "), nil)
		} else {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp.StatusCode
	}
	mallory := "DPoP " + w.BoundToken(key.ProofKey, map[string]any{"sub": "mallory", "sid": "evening"})
	got := map[int]int{}
	for i := range 25 {
		got[call("/orders", mallory, []string{"192.0.2.7", "2001:db8::7"}[i%2])]++
	}
	if got[200] != 5 || got[429] != 20 {
		t.Errorf("answers %v", got)
	}
	alice, carol := w.Token(nil), w.Token(map[string]any{"sub": "carol"})
	if a, b := call("/orders", alice, "192.0.2.1"), call("/trap", carol, "192.0.2.3"); a != 200 || b != 200 {
		t.Errorf("alice got %d, carol %d", a, b)
	}
	if err := v.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	list := w.Reports()
	if len(list) != 2 {
		t.Fatalf("%d reports arrived: %+v", len(list), list)
	}
	r := list[0]
	if r.Subject != "mallory" || r.Client != "spa" || r.Session != "evening" || r.Key != key.JKT || r.Kind != reports.Limit || r.Reason != "orders" || r.Count != 20 || !r.First.Equal(w.clock.Now()) || len(r.Addresses) != 2 || r.Addresses[0] != netip.MustParseAddr("2001:db8::7") {
		t.Errorf("%+v", r)
	}
	if r := list[1]; r.Subject != "carol" || r.Kind != reports.Judgement || r.Reason != "scraping ?all?, "+strings.Repeat("x", 44) || r.Count != 1 || len(r.Addresses) != 1 || r.Addresses[0] != netip.MustParseAddr("192.0.2.3") {
		t.Errorf("%+v", r)
	}
	if s := v.ReportStats(); s != (verify.ReportStats{Sent: 21}) {
		t.Errorf("%+v", s)
	}
	if strings.Contains(log.String(), "hush") {
		t.Errorf("the secret is in the log: %s", &log)
	}
}

// TestReportsAreSignedAnew: with a key, each try has an assertion of its own,
// as the server takes each once, and is otherwise the same.
func TestReportsAreSignedAnew(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	var mu sync.Mutex
	var ids []string
	assertions := map[string]bool{}
	arrived := make(chan struct{}, 1)
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/reports" {
			http.NotFound(rw, r) // the keys: they are of no matter here
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		b, assertion, err := reports.Parse(body)
		if err != nil || r.Header.Get("Authorization") != "" {
			t.Errorf("%v; Authorization %q", err, r.Header.Get("Authorization"))
			return
		}
		jws, err := jose.ParseSignedCompact(assertion, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Error(err)
			return
		}
		payload, err := jws.Verify(private.Public())
		var claims struct {
			Sub, Aud, Jti string
			Iat           int64
		}
		if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Iat != w.clock.Now().Unix() || claims.Sub != "orders-api" || claims.Aud != "http://"+r.Host {
			t.Errorf("%v: %s", err, payload)
		}
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, b.ID)
		assertions[claims.Jti] = true
		if len(ids) < 3 {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		rw.WriteHeader(http.StatusNoContent)
		arrived <- struct{}{}
	}))
	defer front.Close()
	v, err := verify.New(t.Context(), verify.Config{
		Issuer: front.URL, Audience: audience, Development: true, Now: w.clock.Now,
		Credential: &verify.Credential{ID: "orders-api", Key: private}, Reports: &verify.Reports{},
	})
	if err != nil {
		t.Fatal(err)
	}
	v.Report(verify.NewContext(t.Context(), &verify.Token{Subject: "mallory", ClientID: "spa"}), "scraping")
	if err := v.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-arrived
	if len(ids) != 3 || ids[0] != ids[1] || ids[1] != ids[2] || len(assertions) != 3 {
		t.Errorf("batches %q with %d assertions", ids, len(assertions))
	}
}

func TestReportWithoutAnybodyToTell(t *testing.T) {
	var log lockedLog
	w := newWorld(t, func(c *verify.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	ctx := verify.NewContext(t.Context(), &verify.Token{Subject: "mallory", ClientID: "spa"})
	for range 3 {
		w.v.Report(ctx, "scraping")
	}
	if n := strings.Count(log.String(), "Config.Reports"); n != 1 {
		t.Errorf("the log says so %d times: %s", n, &log)
	}
	if s := w.v.ReportStats(); s != (verify.ReportStats{}) || w.v.Close(context.Background()) != nil {
		t.Errorf("%+v", s)
	}
	if api := w.v.Require()(w.v.Limit(verify.Limit{Requests: 1, Window: time.Minute})(ok)); serve(api, w.as("alice", "spa")).Code != 200 || serve(api, w.as("alice", "spa")).Code != 429 {
		t.Error("the limit needs somebody to tell")
	}
	defer func() {
		if recover() == nil {
			t.Error("a report about nobody")
		}
	}()
	w.v.Report(t.Context(), "scraping")
}

func TestReportsNeedACredential(t *testing.T) {
	for name, c := range map[string]*verify.Credential{"none": nil, "one that can't be": {ID: "a"}} {
		_, err := verify.New(t.Context(), verify.Config{Issuer: "https://login.example.com", Audience: audience, Reports: &verify.Reports{}, Credential: c})
		if err == nil || !strings.Contains(err.Error(), "Credential") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
