package authz_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/feed"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
)

// api follows the feed with nothing but the wire format.
type api struct {
	*authztest.Server
	id, secret, audience string
	at                   feed.Cursor
	events               []feed.Event
	resp                 *http.Response
	stream               *feed.Reader
}

// registerAPI registers a resource server that has the audience.
func registerAPI(s *authztest.Server, id, audience string) *api {
	s.TB.Helper()
	a := &api{Server: s, id: id, secret: "secret of " + id, audience: audience}
	rs := clients.ResourceServer{ID: clients.ID(id), Audience: audience, SecretHash: sha256.Sum256([]byte(a.secret))}
	if err := s.Store.CreateResourceServer(s.TB.Context(), rs); err != nil {
		s.TB.Fatal(err)
	}
	return a
}

// run runs the server until the test ends.
func run(t testing.TB, s *authztest.Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Handler.Run(ctx); close(done) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// ask sends a request to the feed, with the credential.
func (a *api) ask(path string) *http.Response {
	a.TB.Helper()
	r, err := http.NewRequestWithContext(a.TB.Context(), "POST", a.Address+path, strings.NewReader(url.Values{"cursor": {string(a.at)}}.Encode()))
	if err != nil {
		a.TB.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(url.QueryEscape(a.id), url.QueryEscape(a.secret))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		a.TB.Fatal(err)
	}
	a.TB.Cleanup(func() { resp.Body.Close() })
	return resp
}

// follow begins a stream. A server that has just begun to run may need a
// moment.
func (a *api) follow() int {
	a.TB.Helper()
	for {
		a.resp = a.ask("/feed")
		if a.resp.StatusCode != http.StatusServiceUnavailable {
			break
		}
		a.resp.Body.Close()
	}
	a.stream = feed.NewReader(a.resp.Body)
	return a.resp.StatusCode
}

// take verifies a document and applies it.
func (a *api) take(jws string, types ...string) *feed.Message {
	a.TB.Helper()
	for _, typ := range types {
		payload, err := a.Ring.Verify(jws, typ)
		if err != nil {
			continue
		}
		m, err := feed.Parse(typ, payload, a.URL, a.audience)
		if err == nil {
			a.at, err = m.Follow(a.at)
		}
		if err != nil {
			a.TB.Fatalf("%s: %v", payload, err)
		}
		a.events = append(a.events, m.Events...)
		return m
	}
	a.TB.Fatalf("%.500s is none of %q", jws, types)
	return nil
}

func (a *api) next() *feed.Message {
	a.TB.Helper()
	for {
		jws, err := a.stream.Next()
		if err != nil {
			a.TB.Fatal(err)
		}
		_, event := a.Ring.Verify(jws, feed.EventType)
		_, heartbeat := a.Ring.Verify(jws, feed.HeartbeatType)
		if event == nil || heartbeat == nil {
			return a.take(jws, feed.EventType, feed.HeartbeatType)
		}
		// Signed by a key that was revoked on the way. Who comes again gets it
		// by the next one.
		a.resp.Body.Close()
		if got := a.follow(); got != http.StatusOK {
			a.TB.Fatalf("the stream goes on with %d", got)
		}
	}
}

func (a *api) snapshot() {
	a.TB.Helper()
	for more := true; more; {
		resp := a.ask("/feed/snapshot")
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != feed.SnapshotMediaType {
			a.TB.Fatalf("the snapshot is %d %s, %v", resp.StatusCode, body, err)
		}
		more = a.take(string(body), feed.SnapshotType).More
	}
}

// refuses reports whether what was read ends the access token.
func (a *api) refuses(token string) bool {
	a.TB.Helper()
	var t struct {
		Sub, SID, JTI string
		Client        string `json:"client_id"`
		Grant         string `json:"grant_id"`
		UserEpoch     uint64 `json:"user_epoch"`
		ClientEpoch   uint64 `json:"client_epoch"`
		IAT           int64
		KID           string
	}
	for _, part := range strings.Split(token, ".")[:2] {
		text, err := base64.RawURLEncoding.DecodeString(part)
		if err == nil {
			err = json.Unmarshal(text, &t)
		}
		if err != nil {
			a.TB.Fatal(err)
		}
	}
	for _, e := range a.events {
		switch s := e.Subject; {
		case e.Kind == feed.User && s == t.Sub && t.UserEpoch < e.Epoch, e.Kind == feed.Client && s == t.Client && t.ClientEpoch < e.Epoch,
			e.Kind == feed.Session && s == t.SID, e.Kind == feed.Grant && s == t.Grant, e.Kind == feed.Token && s == t.JTI,
			e.Kind == feed.Key && s == t.KID, e.Kind == feed.All && t.IAT <= e.NotBefore.Unix():
			return true
		}
	}
	return false
}

// awaitRefusal reads the stream until the token is refused; at the second
// heartbeat it has waited for long enough.
func (a *api) awaitRefusal(token string) bool {
	a.TB.Helper()
	for beats := 0; beats < 2; {
		if a.refuses(token) {
			return true
		}
		if len(a.next().Events) == 0 {
			beats++
		}
	}
	return false
}

// TestFeedEndpoint: two servers on one file, and a process that is none.
func TestFeedEndpoint(t *testing.T) {
	s := authztest.New(t)
	run(t, s)
	otherStore, err := sqlite.Open(t.Context(), sqlite.Config{Path: s.Path})
	check(t, err)
	t.Cleanup(func() { otherStore.Close() })
	second := *s
	second.Store = otherStore
	replica := second.Replica()
	run(t, replica)

	orders := registerAPI(s, "api", authztest.Audience)
	elsewhere := *orders
	elsewhere.Server = replica
	reports := registerAPI(s, "reports", "https://reports.example.com")
	tokens := s.SignIn("alice")
	for _, a := range []*api{orders, &elsewhere, reports} {
		a.snapshot()
		if got := a.follow(); got != http.StatusOK {
			t.Fatalf("the stream answers %d", got)
		}
		a.next()
	}
	if orders.refuses(tokens.AccessToken) {
		t.Fatal("nothing happened, and the token is refused")
	}
	// Revoked at one server: known at the other, and at no other audience, for
	// nothing of it is there.
	narrow := s.SignIn("alice", "resource", authztest.Audience)
	got := s.PostForm("/revoke", url.Values{"client_id": {"spa"}, "token": {narrow.AccessToken}})
	if got.Status != http.StatusOK || !orders.awaitRefusal(narrow.AccessToken) || !elsewhere.awaitRefusal(narrow.AccessToken) || orders.refuses(tokens.AccessToken) {
		t.Errorf("revocation answered %d, and the APIs know of it: %v, %v", got.Status, orders.events, elsewhere.events)
	}
	// By the command line, which is another process on the file.
	third, err := sqlite.Open(t.Context(), sqlite.Config{Path: s.Path})
	check(t, err)
	defer third.Close()
	operator := authztest.Operator(third, s.Clock.Now)
	check(t, operator.BlockUser(t.Context(), s.User("alice").ID, "too many requests", time.Time{}))
	for _, a := range []*api{orders, &elsewhere, reports} {
		if !a.awaitRefusal(tokens.AccessToken) {
			t.Errorf("%s at %s does not know of the block", a.id, a.Address)
		}
	}
	if len(reports.events) != 1 {
		t.Errorf("the other audience saw %+v, the block alone is expected", reports.events)
	}
	if reason := orders.events[len(orders.events)-1].Reason; reason != "blocked" {
		t.Errorf("the API is told %q: what the operator typed is nobody's business", reason)
	}
	// Who was away reads the same.
	late := *orders
	late.at, late.events = "", nil
	late.snapshot()
	if !late.refuses(tokens.AccessToken) || !late.refuses(narrow.AccessToken) {
		t.Errorf("a new API has %+v", late.events)
	}
	// New tokens are of the new epoch, and good.
	check(t, operator.UnblockUser(t.Context(), s.User("alice").ID))
	if fresh := s.SignIn("alice"); late.refuses(fresh.AccessToken) || authztest.Claims(t, fresh.AccessToken)["user_epoch"] != 1.0 {
		t.Errorf("after the block: %v", authztest.Claims(t, fresh.AccessToken))
	}
}

// TestFeedAcrossRestarts: the server is killed and started again between any two
// events; whoever follows misses none and gets none twice.
func TestFeedAcrossRestarts(t *testing.T) {
	s := authztest.New(t)
	a := registerAPI(s, "api", authztest.Audience)
	for round := range 4 {
		var stop func()
		if replica := s.Replica(); true {
			stop = run(t, replica)
			a.Server = replica
		}
		if got := a.follow(); got != http.StatusOK {
			t.Fatalf("round %d: %d", round, got)
		}
		for range 3 {
			check(t, s.Revoker.RevokeUser(t.Context(), s.User("alice").ID, "test"))
		}
		for len(a.events) < 4*round+3 {
			a.next()
		}
		stop()
		if _, err := a.stream.Next(); err == nil {
			t.Errorf("round %d: the stream outlives the server", round)
		}
		check(t, s.Revoker.RevokeUser(t.Context(), s.User("alice").ID, "test")) // while no server runs
	}
	a.snapshot()
	for i, e := range a.events {
		if e.Epoch != uint64(i+1) {
			t.Errorf("event %d is of epoch %d", i, e.Epoch)
		}
	}
	if len(a.events) != 16 {
		t.Errorf("%d events, 16 expected", len(a.events))
	}
}

func TestFeedCredential(t *testing.T) {
	s := authztest.New(t)
	run(t, s)
	registerAPI(s, "api", authztest.Audience)
	signer := s.Signer()
	check(t, s.Store.CreateResourceServer(t.Context(), clients.ResourceServer{
		ID: "keyed", Audience: authztest.Audience, AuthMethod: clients.PrivateKeyJWT, JWKS: signer.JWKS,
	}))
	check(t, s.Store.CreateResourceServer(t.Context(), clients.ResourceServer{ID: "off", Audience: authztest.Audience, SecretHash: sha256.Sum256([]byte("x")), Disabled: true}))
	ask := func(method, path, user, password string, form url.Values) (int, string) {
		t.Helper()
		var body io.Reader
		if form != nil {
			body = strings.NewReader(form.Encode())
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, method, s.URL+path, body)
		check(t, err)
		if form != nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		if user != "" {
			r.SetBasicAuth(user, password)
		}
		resp, err := http.DefaultClient.Do(r)
		check(t, err)
		defer resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Content-Type")
	}
	for _, path := range []string{"/feed/snapshot", "/feed"} {
		assertion := func(changes map[string]any) url.Values { return signer.Sign(url.Values{}, "keyed", changes) }
		used := assertion(nil)
		for range 2 {
			ask("GET", path, "api", "secret of api", nil) // until the server runs
		}
		for _, c := range []struct {
			name, method, query, user, password string
			form                                url.Values
			want                                int
		}{
			{"basic", "GET", "", "api", "secret of api", nil, 200},
			{"basic, POST", "POST", "", "api", "secret of api", url.Values{"cursor": {""}}, 200},
			{"basic, POST of nothing", "POST", "", "api", "secret of api", nil, 200},
			{"assertion", "POST", "", "", "", used, 200},
			{"none", "GET", "", "", "", nil, 401},
			{"wrong secret", "GET", "", "api", "secret of apI", nil, 401},
			{"no such resource server", "GET", "", "ap", "secret of api", nil, 401},
			{"a client's", "GET", "", "spa", "", nil, 401},
			{"disabled", "GET", "", "off", "x", nil, 401},
			{"assertion used before", "POST", "", "", "", used, 400},
			{"assertion of another key", "POST", "", "", "", s.Signer().Sign(url.Values{}, "keyed", nil), 400},
			{"assertion for somebody else", "POST", "", "", "", assertion(map[string]any{"aud": "https://other.example.com"}), 400},
			{"two credentials", "POST", "", "api", "secret of api", assertion(nil), 400},
			{"secret where an assertion is registered", "GET", "", "keyed", "x", nil, 401},
			{"secret in the body", "POST", "", "", "", url.Values{"client_id": {"api"}, "client_secret": {"secret of api"}}, 400},
			{"assertion in the URL", "GET", "?" + assertion(nil).Encode(), "", "", nil, 400},
			{"secret in the URL", "GET", "?client_id=api&client_secret=x", "", "", nil, 400},
			{"cursor in the URL of a POST", "POST", "?cursor=1", "api", "secret of api", url.Values{}, 400},
			{"two cursors", "GET", "?cursor=1&cursor=2", "api", "secret of api", nil, 400},
			{"malformed cursor", "GET", "?cursor=%0a", "api", "secret of api", nil, 400},
			{"long cursor", "GET", "?cursor=" + strings.Repeat("1", 65), "api", "secret of api", nil, 400},
			{"malformed query", "GET", "?cursor=%zz", "api", "secret of api", nil, 400},
			{"forged cursor", "GET", "?cursor=9", "api", "secret of api", nil, 410},
			{"DELETE", "DELETE", "", "api", "secret of api", nil, 405},
		} {
			status, media := ask(c.method, path+c.query, c.user, c.password, c.form)
			for status == http.StatusServiceUnavailable && c.want == 200 {
				status, media = ask(c.method, path+c.query, c.user, c.password, c.form)
			}
			if status != c.want || status == 200 && media == "application/json" {
				t.Errorf("%s, %s: %d %s, %d expected", path, c.name, status, media, c.want)
			}
		}
	}
	if strings.Contains(s.Log.String(), "secret of api") {
		t.Error("the secret is in the log")
	}
	// The browser of a person is no resource server.
	token := s.SignIn("alice").AccessToken
	r := httptest.NewRequest("GET", "/feed", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	s.Handler.ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("an access token: %d", w.Code)
	}
}

// TestStreamEndsWithItsCredential: at the next heartbeat after the resource
// server was changed, disabled or removed.
func TestStreamEndsWithItsCredential(t *testing.T) {
	for name, end := range map[string]func(storage.Store, clients.ResourceServer) error{
		"removed": func(s storage.Store, rs clients.ResourceServer) error {
			return s.RemoveResourceServer(context.Background(), rs.ID)
		},
		"disabled": func(s storage.Store, rs clients.ResourceServer) error {
			rs.Disabled = true
			return s.UpdateResourceServer(context.Background(), rs)
		},
		"rotated": func(s storage.Store, rs clients.ResourceServer) error {
			rs.SecretHash[0]++
			return s.UpdateResourceServer(context.Background(), rs)
		},
	} {
		s := authztest.New(t, func(c *authz.Config) { c.FeedHeartbeat = 10 * time.Millisecond })
		run(t, s)
		a := registerAPI(s, "api", authztest.Audience)
		if a.follow() != http.StatusOK {
			t.Fatal("no stream")
		}
		a.next()
		a.next()
		rs, err := s.Store.ResourceServer(t.Context(), "api")
		check(t, err)
		check(t, end(s.Store, rs))
		for {
			if _, err := a.stream.Next(); err != nil {
				break
			}
		}
		if got := a.follow(); got != http.StatusUnauthorized {
			t.Errorf("%s: it comes again and gets %d", name, got)
		}
	}
}

// TestSnapshotIsCacheable: by whoever asked, for a second, and then it need not
// be sent again.
func TestSnapshotIsCacheable(t *testing.T) {
	s := authztest.New(t)
	a := registerAPI(s, "api", authztest.Audience)
	first := a.ask("/feed/snapshot")
	etag := first.Header.Get("ETag")
	if first.StatusCode != http.StatusOK || etag == "" || first.Header.Get("Cache-Control") != "private, max-age=1" || first.Header.Get("Vary") != "Authorization" {
		t.Fatalf("%d %v", first.StatusCode, first.Header)
	}
	again := func() int {
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/feed/snapshot", nil)
		check(t, err)
		r.Header.Set("If-None-Match", etag)
		r.SetBasicAuth(a.id, url.QueryEscape(a.secret))
		resp, err := http.DefaultClient.Do(r)
		check(t, err)
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if got := again(); got != http.StatusNotModified {
		t.Errorf("nothing happened: %d", got)
	}
	check(t, s.Revoker.RevokeUser(t.Context(), s.User("alice").ID, "test"))
	if got := again(); got != http.StatusOK {
		t.Errorf("something happened: %d", got)
	}
}

func TestMetadataNamesTheFeed(t *testing.T) {
	s := authztest.New(t)
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/.well-known/oauth-authorization-server", nil)
	check(t, err)
	var m map[string]any
	check(t, json.Unmarshal([]byte(s.Body(r)), &m))
	if m[feed.MetadataName] != s.URL+"/feed" {
		t.Errorf("the metadata has %v", m[feed.MetadataName])
	}
}
