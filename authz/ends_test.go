package authz_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/authz/backchannel"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/storage"
)

// What becomes of something at an event, as the README's table says it.
const (
	lives   = "lives on"
	dies    = "**dies**"
	dead    = "stays dead"
	expires = "until they expire"
	fetched = "**die** at its next fetch of the keys"
	sent    = "**sent**"
	none    = "–"
)

// ends is the table "event → what dies". Each cell is tried on a running
// server; the README's is made of it.
var ends = []struct {
	event string
	// session, refresh, code, online, followed, offline and logout: the login
	// session, refresh tokens, codes on their way, userinfo and introspection,
	// an API that follows the feed, one that does not, and the logout token.
	session, refresh, code, online, followed, offline, logout string
	do                                                        func(*scene)
}{
	{"signing out in an app", dies, dies, dies, dies, dies, expires, sent, (*scene).signOut},
	{"`user set-password NAME`", dies, dies, dies, dies, dies, expires, sent, func(s *scene) {
		s.check(s.Revoker.SetPassword(s.TB.Context(), s.alice, s.User("alice").Password))
	}},
	{"`user block NAME`", dies, dies, dies, dies, dies, expires, sent, (*scene).block},
	{"`user unblock NAME`", dead, dead, dead, dead, dead, expires, none, func(s *scene) {
		s.block()
		s.received() // that was the block's
		s.check(s.Revoker.UnblockUser(s.TB.Context(), s.alice))
	}},
	{"a rule suspends the account", dies, dies, dies, dies, dies, expires, sent, (*scene).suspend},
	{"a suspension ends, or is lifted", dead, dead, dead, dead, dead, expires, none, func(s *scene) {
		s.suspend()
		s.received() // that was the suspension's
		s.check(s.Revoker.Lift(s.TB.Context(), s.alice, "test"))
	}},
	{"a rule asks for a new login", dies, dies, dies, dies, dies, expires, sent, func(s *scene) {
		s.check(s.Revoker.DemandLogin(s.TB.Context(), s.alice, "flood", "test"))
	}},
	{"`user revoke NAME`", dies, dies, dies, dies, dies, expires, sent, func(s *scene) {
		s.check(s.Revoker.RevokeUser(s.TB.Context(), s.alice, "test"))
	}},
	{"`user remove NAME`", dies, dies, dies, dies, dies, expires, sent, func(s *scene) {
		s.check(s.Revoker.RemoveUser(s.TB.Context(), s.alice))
	}},
	{"a session ends: somebody else signs in in that browser", dies, dies, dies, dies, dies, expires, sent, func(s *scene) {
		s.AddUser("bob")
		s.browser.SignIn(s.browser.Authorize("prompt", "login"), "bob", authztest.Password)
	}},
	{"`user end-session NAME SESSION`", dies, dies, dies, dies, dies, expires, sent, func(s *scene) {
		s.check(s.Revoker.EndSession(s.TB.Context(), storage.SessionID(authztest.Claims(s.TB, s.tokens.IDToken)["sid"].(string)), "test"))
	}},
	{"the same person signs in again in that browser", lives, lives, lives, lives, lives, expires, none, func(s *scene) {
		s.browser.SignIn(s.browser.Authorize("prompt", "login"), "alice", authztest.Password)
		s.old = s.browser
	}},
	{"`client disable ID`", lives, dies, dies, dies, dies, expires, none, (*scene).disable},
	{"`client enable ID`", lives, dead, dead, dead, dead, expires, none, func(s *scene) {
		s.disable()
		s.check(s.Revoker.EnableClient(s.TB.Context(), "spa"))
	}},
	{"`client remove ID`", lives, dies, dies, dies, dies, expires, none, func(s *scene) {
		s.check(s.Revoker.RemoveClient(s.TB.Context(), "spa"))
	}},
	{"a redirect URI is removed (`client update ID`)", lives, lives, dies + " if sent there", lives, lives, expires, none, func(s *scene) {
		c, err := s.Store.Client(s.TB.Context(), "spa")
		s.check(err)
		c.RedirectURIs = []clients.RedirectURI{"https://spa.example.com/new"}
		s.check(s.Store.UpdateClient(s.TB.Context(), c))
	}},
	{"an app revokes its refresh token", lives, dies, lives, dies, dies, expires, none, func(s *scene) { s.revoke(s.tokens.RefreshToken) }},
	{"an app revokes its access token", lives, dies, lives, dies, dies, expires, none, func(s *scene) { s.revoke(s.tokens.AccessToken) }},
	{"a code is used twice", lives, dies, lives, dies, dies, expires, none, func(s *scene) {
		if got := s.Redeem(s.spent); got.Error != "invalid_grant" {
			s.TB.Errorf("a code worked twice: %+v", got)
		}
	}},
	{"a refresh token is used twice", lives, dies, lives, dies, dies, expires, none, func(s *scene) {
		stolen := s.tokens.RefreshToken
		s.tokens = s.Refresh(stolen)
		s.Clock.Advance(11 * time.Second) // past the grace window
		if got := s.Refresh(stolen); got.Error != "invalid_grant" {
			s.TB.Errorf("a refresh token worked twice: %+v", got)
		}
	}},
	{"`revoke --all`", dies, dies, dies, dies, dies, expires, sent, func(s *scene) {
		_, err := s.Revoker.RevokeAll(s.TB.Context(), "test")
		s.check(err)
	}},
	{"`key revoke KID`", lives, lives, lives, dies, dies, fetched, none, func(s *scene) {
		for _, k := range s.Ring.List() {
			if k.State == "active" && k.Algorithm == "ES256" {
				s.check(s.Revoker.RevokeKey(s.TB.Context(), s.Ring, k.ID, "leaked"))
			}
		}
	}},
}

// scene is alice signed in to the SPA, which has tokens and is about to redeem
// another code, and wants to be told of logouts.
type scene struct {
	*authztest.Server
	alice        storage.UserID
	browser, old *authztest.Browser // old has the cookie from before the event
	spent, code  string
	tokens       authztest.Tokens
	logouts      chan string // logout tokens that the SPA's backend received
	api          *verify.Verifier
	follower     *api
}

func (s *scene) check(err error) {
	s.TB.Helper()
	if err != nil {
		s.TB.Fatal(err)
	}
}

func newScene(t *testing.T) *scene {
	s := &scene{Server: authztest.New(t), logouts: make(chan string, 10)}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		s.logouts <- r.PostForm.Get("logout_token")
	}))
	t.Cleanup(receiver.Close)
	register(t, s.Server, "other", nil)
	c, err := s.Store.Client(t.Context(), "spa")
	s.check(err)
	c.BackchannelLogoutURI = receiver.URL + "/logout"
	s.check(s.Store.UpdateClient(t.Context(), c))
	s.follower = registerAPI(s.Server, "api", authztest.Audience)
	run(t, s.Server)

	s.alice = s.User("alice").ID
	s.browser = s.Browser()
	s.spent = s.browser.Code("alice")
	s.tokens = s.Redeem(s.spent)
	s.code = s.browser.Code("alice")
	s.old = s.Browser()
	s.old.Jar.SetCookies(mustURL(t, s.URL), s.browser.Jar.Cookies(mustURL(t, s.URL)))
	s.api, err = verify.New(t.Context(), verify.Config{Issuer: s.URL, Audience: authztest.Audience, Development: true, Now: s.Clock.Now})
	s.check(err)
	return s
}

func (s *scene) signOut() {
	p := s.browser.Get("/logout?" + url.Values{"id_token_hint": {s.tokens.IDToken}}.Encode())
	if p.StatusCode != http.StatusSeeOther {
		s.TB.Errorf("logout: %d", p.StatusCode)
	}
}

func (s *scene) block() {
	s.check(s.Revoker.BlockUser(s.TB.Context(), s.alice, "test", time.Time{}))
}

func (s *scene) suspend() {
	s.check(s.Revoker.SuspendUser(s.TB.Context(), s.alice, "flood", "test", time.Time{}))
}

func (s *scene) disable() { s.check(s.Revoker.DisableClient(s.TB.Context(), "spa")) }

func (s *scene) revoke(token string) {
	if got := s.PostForm("/revoke", url.Values{"client_id": {"spa"}, "token": {token}}); got.Status != http.StatusOK {
		s.TB.Errorf("revocation: %+v", got)
	}
}

// received waits for a logout token, checks whose it is, and waits until the
// server has noted that it was delivered.
func (s *scene) received() {
	s.TB.Helper()
	payload, err := s.Ring.Verify(<-s.logouts, backchannel.TokenType)
	s.check(err)
	var claims struct {
		Sub storage.UserID `json:"sub"`
		Sid string         `json:"sid"`
		Aud string         `json:"aud"`
	}
	s.check(json.Unmarshal(payload, &claims))
	if want := authztest.Claims(s.TB, s.tokens.IDToken)["sid"]; claims.Sub != s.alice || claims.Aud != "spa" || claims.Sid != want {
		s.TB.Errorf("logout token %+v: user %s, session %v, client spa expected", claims, s.alice, want)
	}
	for s.owed() {
		runtime.Gosched()
	}
}

// owed reports whether a logout token waits or was received. What is received
// was in the queue before, so a look at both, in this order, misses none.
func (s *scene) owed() bool {
	n := 0
	s.check(s.Store.EachLogout(s.TB.Context(), func(storage.Logout) error { n++; return nil }))
	return n+len(s.logouts) > 0
}

func (s *scene) introspects() bool {
	s.TB.Helper()
	r, err := http.NewRequestWithContext(s.TB.Context(), "POST", s.URL+"/introspect", strings.NewReader(url.Values{"token": {s.tokens.AccessToken}}.Encode()))
	s.check(err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("api", url.QueryEscape(s.follower.secret))
	resp, err := http.DefaultClient.Do(r)
	s.check(err)
	defer resp.Body.Close()
	var answer struct{ Active bool }
	body, err := io.ReadAll(resp.Body)
	s.check(err)
	if err := json.Unmarshal(body, &answer); err != nil || resp.StatusCode != http.StatusOK {
		s.TB.Fatalf("introspection: %d %s", resp.StatusCode, body)
	}
	return answer.Active
}

func (s *scene) accepted() bool {
	_, err := s.api.Verify(s.TB.Context(), s.tokens.AccessToken)
	return err == nil
}

func TestEnds(t *testing.T) {
	for _, row := range ends {
		t.Run(row.event, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			if !s.accepted() || !s.introspects() || s.UserInfo(s.tokens.AccessToken) != http.StatusOK || s.owed() {
				t.Fatal("before the event all must be well")
			}
			if s.follower.follow() != http.StatusOK || s.follower.refuses(s.tokens.AccessToken) {
				t.Fatal("before the event the feed must say nothing")
			}
			tokens := []string{s.tokens.AccessToken}
			row.do(s)
			tokens = append(tokens, s.tokens.AccessToken)
			cell := func(what, want string, alive bool) {
				t.Helper()
				if expected := want == lives; alive != expected {
					t.Errorf("%s: alive is %t, the table says %q", what, alive, want)
				}
			}
			if row.logout == sent {
				s.received()
			} else if s.owed() {
				t.Error("a logout token is sent; the table says none")
			}
			switch row.offline {
			case expires:
				if !s.accepted() {
					t.Error("the API refuses the token; the table says that it lives until it expires")
				}
			case fetched:
				if !s.accepted() {
					t.Error("the API refuses the token before it knows of anything")
				}
				// A token of the new key makes it fetch.
				if _, err := s.api.Verify(t.Context(), s.SignIn("alice").AccessToken); err != nil || s.accepted() {
					t.Errorf("after it fetched the keys: the new token: %v, the old one accepted: %t", err, s.accepted())
				}
			}
			for _, token := range tokens {
				if row.followed == lives {
					s.follower.snapshot()
					cell("an API that follows", row.followed, !s.follower.refuses(token))
				} else {
					cell("an API that follows", row.followed, !s.follower.awaitRefusal(token))
				}
			}
			cell("userinfo", row.online, s.UserInfo(s.tokens.AccessToken) == http.StatusOK)
			cell("introspection", row.online, s.introspects())
			// Another app shows whether the session lives.
			cell("session", row.session, s.old.Authorize("prompt", "none", "client_id", "other").Answer().Get("code") != "")
			cell("code", row.code, s.Redeem(s.code).Status == http.StatusOK)
			refreshed := s.Refresh(s.tokens.RefreshToken)
			cell("refresh token", row.refresh, refreshed.Status == http.StatusOK)
			s.Clock.Advance(5*time.Minute + 11*time.Second) // and the leeway
			if s.accepted() {
				t.Error("the API accepts a token after its five minutes")
			}
			if row.logout != sent && s.owed() {
				t.Error("a logout token was sent later; the table says none")
			}
		})
	}
}

// TestEndsInREADME holds the README's table to this one. Run it with
// SOLEGATE_TEST_UPDATE=1 to write the table.
func TestEndsInREADME(t *testing.T) {
	var b strings.Builder
	b.WriteString("<!-- ends:begin -->\n| event | login session | refresh tokens | codes on their way | userinfo, introspection | access tokens at an API that follows the feed | at one that does not | logout token |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range ends {
		fmt.Fprintf(&b, "| %s |\n", strings.Join([]string{r.event, r.session, r.refresh, r.code, r.online, r.followed, r.offline, r.logout}, " | "))
	}
	b.WriteString("<!-- ends:end -->")
	path := filepath.Join("..", "README.md")
	readme, err := os.ReadFile(path)
	check(t, err)
	marked := regexp.MustCompile(`(?s)<!-- ends:begin -->.*<!-- ends:end -->`)
	if os.Getenv("SOLEGATE_TEST_UPDATE") != "" {
		check(t, os.WriteFile(path, marked.ReplaceAllLiteral(readme, []byte(b.String())), 0o644))
		return
	}
	if got := marked.Find(readme); !slices.Equal(got, []byte(b.String())) {
		t.Errorf("the README's table is stale; run SOLEGATE_TEST_UPDATE=1 go test ./authz -run EndsInREADME, want:\n%s", b.String())
	}
}
