package authz_test

import (
	"bytes"
	"compress/zlib"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
	"github.com/solegate/solegate/storage/sqlite"
)

func withStatusList(c *authz.Config) { c.StatusList = true }

// reference is what an access token says of its status
// (draft-ietf-oauth-status-list-21 §6.2).
type reference struct {
	Index int    `json:"idx"`
	URI   string `json:"uri"`
}

func referenceOf(t testing.TB, token string) reference {
	t.Helper()
	var claims struct {
		Status struct {
			List *reference `json:"status_list"`
		} `json:"status"`
	}
	text, err := json.Marshal(authztest.Claims(t, token))
	check(t, err)
	check(t, json.Unmarshal(text, &claims))
	if claims.Status.List == nil {
		t.Fatalf("the token names no place: %s", text)
	}
	return *claims.Status.List
}

// list asks a server for the list that a token names.
func list(t testing.TB, at *authztest.Server, ref reference, headers ...string) (*http.Response, string) {
	t.Helper()
	path, ok := strings.CutPrefix(ref.URI, at.URL)
	if !ok {
		t.Fatalf("the list %s is not the issuer's, %s", ref.URI, at.URL)
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", at.Address+path, nil)
	check(t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	check(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(t, err)
	return resp, string(body)
}

// revokedIn reads the bit of a token as an API would that knows nothing of ours
// but the draft (§8.3), at one server.
func revokedIn(t testing.TB, at *authztest.Server, token string) bool {
	t.Helper()
	ref := referenceOf(t, token)
	resp, body := list(t, at, ref)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/statuslist+jwt" {
		t.Fatalf("the list: %d %s %.300s", resp.StatusCode, resp.Header, body)
	}
	keys, err := http.Get(at.Address + "/jwks")
	check(t, err)
	defer keys.Body.Close()
	var set jose.JSONWebKeySet
	check(t, json.NewDecoder(keys.Body).Decode(&set))
	jws, err := jose.ParseSignedCompact(body, []jose.SignatureAlgorithm{jose.ES256})
	check(t, err)
	payload, err := jws.Verify(set)
	check(t, err)
	if typ := jws.Signatures[0].Protected.ExtraHeaders["typ"]; typ != "statuslist+jwt" {
		t.Fatalf("typ is %v", typ)
	}
	var claims struct {
		Sub           string
		Iat, Exp, TTL int64
		List          struct {
			Bits int
			Lst  string
		} `json:"status_list"`
	}
	check(t, json.Unmarshal(payload, &claims))
	now := at.Clock.Now().Add(at.Skew).Unix()
	if claims.Sub != ref.URI || claims.Iat > now || claims.Exp <= now || claims.TTL <= 0 || claims.TTL > 10 || claims.List.Bits != 1 {
		t.Fatalf("at %d the list is %s", now, payload)
	}
	return bitOf(t, claims.List.Lst, ref.Index)
}

// bitOf takes a bit out of a list (§4.1).
func bitOf(t testing.TB, lst string, index int) bool {
	t.Helper()
	packed, err := base64.RawURLEncoding.DecodeString(lst)
	check(t, err)
	z, err := zlib.NewReader(bytes.NewReader(packed))
	check(t, err)
	bits, err := io.ReadAll(io.LimitReader(z, 1<<20))
	check(t, err)
	if index < 0 || index/8 >= len(bits) {
		t.Fatalf("the index %d is not in a list of %d bytes", index, len(bits))
	}
	return bits[index/8]>>(index%8)&1 == 1
}

// awaitBit waits until a server's list says that the token is revoked, and
// returns how long that took.
func awaitBit(t testing.TB, at *authztest.Server, token string) time.Duration {
	t.Helper()
	began := time.Now()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !revokedIn(t, at, token) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("the bit of %+v was not set in 10 s", referenceOf(t, token))
		}
		<-ticker.C
	}
	return time.Since(began)
}

// party is alice, who has two grants, and bob, who has one: whatever ends
// something of alice's leaves bob's alone.
type party struct {
	*authztest.Server
	alice          storage.UserID
	browser        *authztest.Browser
	spent          string // code of tokens
	tokens, second authztest.Tokens
	bob            authztest.Tokens
}

func newParty(s *authztest.Server) *party {
	s.TB.Helper()
	// Others each time: logins are counted.
	alice, bob := strings.ToLower("alice"+rand.Text()), strings.ToLower("bob"+rand.Text())
	s.AddUser(bob)
	c, err := s.Store.Client(s.TB.Context(), "spa")
	check(s.TB, err)
	c.Disabled = false
	check(s.TB, s.Store.UpdateClient(s.TB.Context(), c))
	s.Clock.Advance(2 * time.Second) // what the servers remember of the client
	p := &party{Server: s, alice: s.AddUser(alice).ID, browser: s.Browser()}
	p.spent = p.browser.Code(alice)
	p.tokens = s.Redeem(p.spent)
	p.second = s.SignIn(alice)
	p.bob = s.SignIn(bob)
	return p
}

// statusEnds are the ways to end something, and what dies: only the first of
// alice's grants, both, or everybody's.
var statusEnds = []struct {
	name string
	dies string
	do   func(*party)
}{
	{"block", "alice", func(p *party) {
		check(p.TB, p.Revoker.BlockUser(p.TB.Context(), p.alice, "test", time.Time{}))
	}},
	{"suspend", "alice", func(p *party) {
		check(p.TB, p.Revoker.SuspendUser(p.TB.Context(), p.alice, "hammering", "test", time.Time{}))
	}},
	{"revoke user", "alice", func(p *party) { check(p.TB, p.Revoker.RevokeUser(p.TB.Context(), p.alice, "test")) }},
	{"set password", "alice", func(p *party) { check(p.TB, p.Revoker.SetPassword(p.TB.Context(), p.alice, "x")) }},
	{"remove user", "alice", func(p *party) { check(p.TB, p.Revoker.RemoveUser(p.TB.Context(), p.alice)) }},
	{"session end", "first", func(p *party) {
		sid := authztest.Claims(p.TB, p.tokens.AccessToken)["sid"].(string)
		check(p.TB, p.Revoker.EndSession(p.TB.Context(), storage.SessionID(sid), "test"))
	}},
	{"sign out", "first", func(p *party) {
		p.browser.Get("/logout?" + url.Values{"id_token_hint": {p.tokens.IDToken}}.Encode())
	}},
	{"grant revoke", "first", func(p *party) {
		id := authztest.Claims(p.TB, p.tokens.AccessToken)["grant_id"].(string)
		check(p.TB, p.Revoker.RevokeGrant(p.TB.Context(), storage.GrantID(id), "test"))
	}},
	{"access token revoked", "first", func(p *party) { p.revokeToken(p.tokens.AccessToken) }},
	{"refresh token revoked", "first", func(p *party) { p.revokeToken(p.tokens.RefreshToken) }},
	{"code reuse", "first", func(p *party) { p.Redeem(p.spent) }},
	{"refresh reuse", "first", func(p *party) {
		p.Refresh(p.tokens.RefreshToken)
		p.Clock.Advance(13 * time.Second) // past the grace window, by either clock
		p.Refresh(p.tokens.RefreshToken)
	}},
	{"client disabled", "all", func(p *party) { check(p.TB, p.Revoker.DisableClient(p.TB.Context(), "spa")) }},
	{"everything", "all", func(p *party) {
		_, err := p.Revoker.RevokeAll(p.TB.Context(), "test")
		check(p.TB, err)
	}},
}

func (p *party) revokeToken(token string) {
	p.TB.Helper()
	if got := p.PostForm("/revoke", url.Values{"client_id": {"spa"}, "token": {token}}); got.Status != http.StatusOK {
		p.TB.Fatalf("%+v", got)
	}
}

// TestStatusList: whatever ends something sets its bits at every server within
// a second, and no other.
func TestStatusList(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		path := t.TempDir() + "/solegate.db"
		testStatusList(t, func() storage.Store {
			s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
			check(t, err)
			return s
		})
	})
	t.Run("Redis", func(t *testing.T) {
		at := "redis://" + redistest.Single(t).Addr
		testStatusList(t, func() storage.Store {
			s, err := redis.Open(t.Context(), redis.Config{URL: at})
			check(t, err)
			return s
		})
	})
}

func testStatusList(t *testing.T, open func() storage.Store) {
	stores := []storage.Store{open(), open()}
	for _, s := range stores {
		t.Cleanup(func() { s.Close() })
	}
	s, replicas := authztest.NewReplicas(t, stores, []time.Duration{0, time.Second}, withStatusList)
	for _, r := range replicas {
		run(t, r)
	}
	var took []time.Duration
	for _, end := range statusEnds {
		t.Run(end.name, func(t *testing.T) {
			s := *s
			s.TB = t
			p := newParty(&s)
			tokens := map[string]string{"first": p.tokens.AccessToken, "second": p.second.AccessToken, "bob": p.bob.AccessToken}
			for _, r := range replicas {
				for whose, token := range tokens {
					if revokedIn(t, r, token) {
						t.Fatalf("the bit of %s is set before anything ended", whose)
					}
				}
			}
			end.do(p)
			dead := map[string][]string{"first": {"first"}, "alice": {"first", "second"}, "all": {"first", "second", "bob"}}[end.dies]
			for _, r := range replicas {
				for _, whose := range dead {
					took = append(took, awaitBit(t, r, tokens[whose]))
				}
				for whose, token := range tokens {
					if !slices.Contains(dead, whose) && revokedIn(t, r, token) {
						t.Errorf("the bit of %s is set, too", whose)
					}
				}
			}
		})
	}
	if slices.Sort(took); len(took) == 0 {
		t.Fatal("nothing was measured")
	}
	t.Log("median", took[len(took)/2], "most", took[len(took)-1])
	if most := took[len(took)-1]; most > time.Second {
		t.Errorf("it took %s", most)
	}
	// Whoever signs in again is good.
	p := newParty(s)
	for _, r := range replicas {
		if revokedIn(t, r, p.tokens.AccessToken) {
			t.Error("a new grant is dead")
		}
	}
}

// TestStatusListOfAGrant: all tokens of a grant have one place, and no two
// grants have the same. Without the setting no token names any.
func TestStatusListOfAGrant(t *testing.T) {
	s := authztest.New(t, withStatusList)
	tokens := s.SignIn("alice")
	ref := referenceOf(t, tokens.AccessToken)
	for range 3 {
		tokens = s.Refresh(tokens.RefreshToken)
		if got := referenceOf(t, tokens.AccessToken); got != ref {
			t.Errorf("after a refresh %+v, before %+v", got, ref)
		}
	}
	// Another one of the same process is in the same list.
	if other := referenceOf(t, s.SignIn("alice").AccessToken); other.URI != ref.URI || other.Index == ref.Index {
		t.Errorf("another grant has %+v, the first %+v", other, ref)
	}
	// One of another client, or of another epoch of this one, is in another.
	register(t, s, "other", nil)
	if other := referenceOf(t, s.Redeem(s.Browser().Code("alice", "client_id", "other"), "client_id", "other").AccessToken); other.URI == ref.URI {
		t.Errorf("another client's grant has %+v", other)
	}
	check(t, s.Revoker.DisableClient(t.Context(), "spa"))
	check(t, s.Revoker.EnableClient(t.Context(), "spa"))
	s.Clock.Advance(time.Second)
	if other := referenceOf(t, s.SignIn("alice").AccessToken); other.URI == ref.URI {
		t.Errorf("a grant of the next epoch has %+v", other)
	}
	without := authztest.New(t)
	if claims := authztest.Claims(t, without.SignIn("alice").AccessToken); claims["status"] != nil {
		t.Errorf("without the setting a token says %v", claims)
	}
	without.URL = s.URL
	if resp, _ := list(t, without, ref); resp.StatusCode != http.StatusNotFound {
		t.Errorf("without the setting a list is %d", resp.StatusCode)
	}
}

// TestStatusListOutlivesItsServer: a server knows the lists of one that is gone,
// what ended before it started and what ends since.
func TestStatusListOutlivesItsServer(t *testing.T) {
	s := authztest.New(t, withStatusList)
	stop := run(t, s)
	s.AddUser("bob")
	dead, alive := s.SignIn("alice").AccessToken, s.SignIn("bob").AccessToken
	check(t, s.Revoker.RevokeUser(t.Context(), s.User("alice").ID, "test"))
	stop()
	next := s.Replica(withStatusList)
	if referenceOf(t, dead).URI != referenceOf(t, alive).URI || !revokedIn(t, next, dead) || revokedIn(t, next, alive) {
		t.Error("the lists of the server before are not what they were")
	}
	run(t, next)
	check(t, s.Revoker.RevokeUser(t.Context(), s.User("bob").ID, "test"))
	awaitBit(t, next, alive)
}

// TestStatusListAnswers: who asks gets what RFC 9110 and the draft promise,
// and who makes an address up gets nothing.
func TestStatusListAnswers(t *testing.T) {
	s := authztest.New(t, withStatusList)
	ref := referenceOf(t, s.SignIn("alice").AccessToken)
	resp, body := list(t, s, ref)
	h := resp.Header
	if resp.StatusCode != http.StatusOK || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Cache-Control") != "public, max-age=1" || h.Get("Vary") != "Accept" || h.Get("Etag") == "" || len(h["Set-Cookie"]) != 0 {
		t.Fatalf("%d %v", resp.StatusCode, h)
	}
	if n := len(body); n > 700 {
		t.Errorf("a list in which all is good takes %d bytes", n)
	}
	if again, text := list(t, s, ref, "If-None-Match", h.Get("Etag")); again.StatusCode != http.StatusNotModified || text != "" {
		t.Errorf("the same again: %d %q", again.StatusCode, text)
	}
	for accept, want := range map[string]int{
		"": 200, "application/statuslist+jwt": 200, "*/*": 200, "application/*;q=0.5, text/html": 200, "Application/StatusList+JWT; q=1": 200, "nonsense": 200,
		"application/statuslist+cwt": 406, "text/html": 406, "application/statuslist+jwt;q=0": 406, "application/statuslist+cwt, */*;q=0.0": 406,
	} {
		if got, _ := list(t, s, ref, "Accept", accept); got.StatusCode != want {
			t.Errorf("Accept %q: %d, %d expected", accept, got.StatusCode, want)
		}
	}
	// A list of the past is not to be had, and not the present one in its place.
	past := ref
	past.URI += "?time=1686925000"
	if got, _ := list(t, s, past); got.StatusCode != http.StatusNotImplemented {
		t.Errorf("a list of the past: %d", got.StatusCode)
	}
	at := strings.LastIndexByte(ref.URI, '/') + 1
	for i := at; i < len(ref.URI); i++ {
		for _, c := range []string{"A", "B", "_", "", "AA", "%0A", "="} {
			forged := reference{URI: ref.URI[:i] + c + ref.URI[i+1:]}
			if got, _ := list(t, s, forged); forged != (reference{URI: ref.URI}) && got.StatusCode != http.StatusNotFound {
				t.Errorf("%s: %d", forged.URI, got.StatusCode)
			}
		}
	}
	for _, id := range []string{"", "x", strings.Repeat("A", 48), strings.Repeat("A", 5000), "..%2fjwks"} {
		if got, _ := list(t, s, reference{URI: ref.URI[:at] + id}); got.StatusCode != http.StatusNotFound {
			t.Errorf("%.60q: %d", id, got.StatusCode)
		}
	}
	// Another store's server did not make it.
	other := authztest.New(t, withStatusList)
	other.URL = s.URL
	if got, _ := list(t, other, ref); got.StatusCode != http.StatusNotFound {
		t.Errorf("at another server: %d", got.StatusCode)
	}
	r, err := http.NewRequestWithContext(t.Context(), "OPTIONS", ref.URI, nil)
	check(t, err)
	r.Header.Set("Origin", "https://any.example")
	r.Header.Set("Access-Control-Request-Method", "GET")
	preflight, err := http.DefaultClient.Do(r)
	check(t, err)
	preflight.Body.Close()
	if preflight.StatusCode != http.StatusNoContent || preflight.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("a preflight: %d %v", preflight.StatusCode, preflight.Header)
	}
}

// TestStatusListKey: lists are signed by the key that signs tokens, and not by
// one that has leaked.
func TestStatusListKey(t *testing.T) {
	s := authztest.New(t, withStatusList)
	run(t, s)
	token := s.SignIn("alice").AccessToken
	_, before := list(t, s, referenceOf(t, token))
	check(t, s.Revoker.RevokeKey(t.Context(), s.Ring, s.Ring.Signer("ES256"), "leaked"))
	_, after := list(t, s, referenceOf(t, token))
	if before == after || revokedIn(t, s, token) { // checked by the key set as it is now
		t.Error("the list is still that of the leaked key")
	}
}

// TestOwnTokenIsRevoked: a token that a client got for itself ends alone, at
// introspection, in its list, and at an API that follows the feed.
func TestOwnTokenIsRevoked(t *testing.T) {
	s := authztest.New(t, withStatusList)
	run(t, s)
	c, signer := backend(t, s, nil)
	api := registerAPI(s, "api", authztest.Audience)
	if api.follow() != http.StatusOK {
		t.Fatal("no feed")
	}
	ask := func(path string, form url.Values) authztest.Tokens {
		t.Helper()
		got := postWith(t, s, path, signer.Sign(form, c.ID, nil))
		if got.Status != http.StatusOK {
			t.Fatalf("%s: %+v", path, got)
		}
		return got
	}
	own := func() string { return ask("/token", url.Values{"grant_type": {"client_credentials"}}).AccessToken }
	first, second := own(), own()
	if referenceOf(t, first) == referenceOf(t, second) {
		t.Error("two tokens have one place")
	}
	if api.refuses(first) || revokedIn(t, s, first) {
		t.Fatal("it is dead before anything ended")
	}
	for range 3 { // again and again says nothing new
		ask("/revoke", url.Values{"token": {first}})
	}
	if !api.awaitRefusal(first) || api.refuses(second) {
		t.Errorf("at the API: %t, the other one %t", api.refuses(first), api.refuses(second))
	}
	awaitBit(t, s, first)
	if revokedIn(t, s, second) {
		t.Error("the other one's bit is set, too")
	}
	events, _, err := s.Store.Events(t.Context(), "", 100)
	check(t, err)
	if len(events) != 1 || events[0].Kind != storage.EventToken || events[0].Reason != "revoked" || !slices.Equal(events[0].Audiences, []string{authztest.Audience}) {
		t.Errorf("events: %+v", events)
	}
	if !strings.Contains(s.Log.String(), `"token revoked"`) {
		t.Error("the audit log does not say it")
	}
	// Disabled, the client's other tokens are dead, too.
	check(t, s.Revoker.DisableClient(t.Context(), clients.ID(c.ID)))
	awaitBit(t, s, second)
}

// TestStatusListAsked: a flood for lists asks the store once a second at most,
// by the server's clock.
func TestStatusListAsked(t *testing.T) {
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: t.TempDir() + "/solegate.db"})
	check(t, err)
	defer store.Close()
	asked := &counting{Store: store}
	s, _ := authztest.NewReplicas(t, []storage.Store{asked}, []time.Duration{0}, withStatusList)
	ref := referenceOf(t, s.SignIn("alice").AccessToken)
	list(t, s, ref)
	asked.take()
	var first string
	for i := range 50 {
		_, body := list(t, s, ref)
		if i == 0 {
			first = body
		}
		if body != first {
			t.Fatal("it is signed again while nothing happens")
		}
		list(t, s, reference{URI: fmt.Sprint(ref.URI, i)})
	}
	if got := asked.take(); len(got) > 0 {
		t.Errorf("the store was asked for %v", got)
	}
	s.Clock.Advance(2 * time.Second)
	for range 50 {
		list(t, s, ref)
	}
	if got := asked.take(); !slices.Equal(got, []string{"Events"}) {
		t.Errorf("after two seconds the store was asked for %v", got)
	}
}
