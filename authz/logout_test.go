package authz_test

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/storagetest"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// register adds a client like the SPA, with another id.
func register(t *testing.T, s *authztest.Server, id clients.ID, change func(*clients.Client)) {
	t.Helper()
	c := s.Client
	c.ID = id
	if change != nil {
		change(&c)
	}
	check(t, s.Store.CreateClient(t.Context(), c))
}

func refreshes(s *authztest.Server, tokens authztest.Tokens, client string) bool {
	s.TB.Helper()
	return s.Refresh(tokens.RefreshToken, "client_id", client).Status == http.StatusOK
}

func confirm(b *authztest.Browser, p authztest.Page) authztest.Page {
	return b.Post("/logout/confirm", p.Form())
}

const doneURL = "/logout/done"

// TestOneBrowserHasOneSession: a step-up renews the session, so the person's
// other applications stay signed in, and whoever signs out is signed out of all
// that this browser signed in to.
func TestOneBrowserHasOneSession(t *testing.T) {
	for name, again := range map[string][]string{"prompt": {"prompt", "login"}, "max_age": {"max_age", "0"}, "select": {"prompt", "select_account"}} {
		t.Run(name, func(t *testing.T) {
			s := authztest.New(t)
			register(t, s, "other", nil)
			b := s.Browser()
			first := s.Redeem(b.Code("alice"))
			other := s.Redeem(b.Code("alice", "client_id", "other"), "client_id", "other")
			stolen := b.Jar.Cookies(mustURL(t, s.URL))
			s.Clock.Advance(time.Minute)

			p := b.Authorize(again...)
			if p.StatusCode != http.StatusOK {
				t.Fatalf("%d: the login page expected", p.StatusCode)
			}
			second := s.Redeem(b.SignIn(p, "alice", authztest.Password).Answer().Get("code"))
			one, two := authztest.Claims(t, first.IDToken), authztest.Claims(t, second.IDToken)
			if one["sid"] != two["sid"] || two["auth_time"].(float64)-one["auth_time"].(float64) != 60 {
				t.Errorf("sid %v, then %v; auth_time %v, then %v", one["sid"], two["sid"], one["auth_time"], two["auth_time"])
			}
			// Silent renewal by either goes on.
			if code := b.Authorize("prompt", "none", "client_id", "other").Answer().Get("code"); code == "" {
				t.Error("the other application can't renew after the step-up")
			}
			if got := s.Refresh(first.RefreshToken); got.Status != http.StatusOK {
				t.Errorf("the application's own refresh token after the step-up: %+v", got)
			}
			if !refreshes(s, other, "other") {
				t.Error("the other application was thrown out by the step-up")
			}
			list, err := s.Store.ListSessions(t.Context(), s.User("alice").ID, storage.Page{Limit: 10})
			check(t, err)
			if len(list) != 1 {
				t.Errorf("%d sessions of one browser", len(list))
			}
			// What the cookie was before the login is worth nothing after it.
			thief := s.Browser()
			thief.Jar.SetCookies(mustURL(t, s.URL), stolen)
			if got := thief.Authorize("prompt", "none").Answer().Get("error"); got != "login_required" {
				t.Errorf("the cookie from before the login: %q", got)
			}

			p = b.Get("/logout?" + url.Values{"id_token_hint": {second.IDToken}}.Encode())
			if p.Header.Get("Location") != s.URL+doneURL {
				t.Fatalf("the logout: %d", p.StatusCode)
			}
			for who, tokens := range map[string]authztest.Tokens{"spa": first, "other": other} {
				if refreshes(s, tokens, who) || s.UserInfo(tokens.AccessToken) != http.StatusUnauthorized {
					t.Errorf("%s was not signed out", who)
				}
			}
			if refreshes(s, second, "spa") {
				t.Error("the last login was not signed out")
			}
		})
	}
}

// TestLoginNeverRevivesASession: what has ended has ended, whatever the cookie
// says; and a login with a password that was changed meanwhile renews nothing.
func TestLoginNeverRevivesASession(t *testing.T) {
	s := authztest.New(t)
	b := s.Browser()
	first := s.Redeem(b.Code("alice"))
	sid := storage.SessionID(authztest.Claims(t, first.IDToken)["sid"].(string))
	p := b.Authorize("prompt", "login")
	check(t, s.Revoker.EndSession(t.Context(), sid, "by an operator"))
	second := s.Redeem(b.SignIn(p, "alice", authztest.Password).Answer().Get("code"))
	if got := authztest.Claims(t, second.IDToken)["sid"]; got == string(sid) {
		t.Error("the session that was ended was renewed")
	}
	if refreshes(s, first, "spa") || !refreshes(s, second, "spa") {
		t.Error("the first login must be dead and the second live")
	}
	// Somebody else in the same browser.
	s.AddUser("bob")
	third := s.Redeem(b.SignIn(b.Authorize("prompt", "login"), "bob", authztest.Password).Answer().Get("code"))
	if refreshes(s, second, "spa") || !refreshes(s, third, "spa") {
		t.Error("bob's login must end alice's session in that browser")
	}
	if !strings.Contains(s.Log.String(), "somebody else signed in") {
		t.Error("the end of alice's session is not in the audit log")
	}
}

func TestLogoutWithTheHintOfAnotherSessionAsks(t *testing.T) {
	s := authztest.New(t)
	s.AddUser("bob")
	for _, who := range []string{"alice", "bob"} {
		elsewhere := s.Redeem(s.Browser().Code(who))
		b := s.Browser()
		here := s.Redeem(b.Code("alice"))
		q := url.Values{"id_token_hint": {elsewhere.IDToken}, "post_logout_redirect_uri": {"https://spa.example.com/"}, "state": {"x"}}
		p := b.Get("/logout?" + q.Encode())
		if p.StatusCode != http.StatusOK || s.UserInfo(here.AccessToken) != http.StatusOK || s.UserInfo(elsewhere.AccessToken) != http.StatusOK {
			t.Fatalf("%d: somebody was signed out without being asked", p.StatusCode)
		}
		if p = confirm(b, p); p.Header.Get("Location") != "https://spa.example.com/?state=x" {
			t.Errorf("confirmed: %d %s", p.StatusCode, p.Header.Get("Location"))
		}
		if s.UserInfo(here.AccessToken) != http.StatusUnauthorized || s.UserInfo(elsewhere.AccessToken) != http.StatusUnauthorized {
			t.Errorf("%s: what was asked for and what is here must both have ended", who)
		}
	}
}

// TestLogoutWithoutTheBrowsersSession: the cookie has gone idle, or this is
// another device; the ID token is proof enough.
func TestLogoutWithoutTheBrowsersSession(t *testing.T) {
	s := authztest.New(t)
	tokens := s.SignIn("alice")
	p := s.Browser().Get("/logout?" + url.Values{"id_token_hint": {tokens.IDToken}, "post_logout_redirect_uri": {"https://spa.example.com/"}}.Encode())
	if p.Header.Get("Location") != "https://spa.example.com/" || refreshes(s, tokens, "spa") {
		t.Errorf("%d %s", p.StatusCode, p.Header.Get("Location"))
	}
	// The same again, as of a second tab.
	p = s.Browser().Get("/logout?" + url.Values{"id_token_hint": {tokens.IDToken}, "post_logout_redirect_uri": {"https://spa.example.com/"}}.Encode())
	if p.Header.Get("Location") != "https://spa.example.com/" {
		t.Errorf("a second time: %d", p.StatusCode)
	}
}

// TestLogoutWithoutHintNeverLeavesByItself: RP-Initiated Logout §3 allows the
// way back without a hint only if the request is known to be legitimate.
func TestLogoutWithoutHintNeverLeavesByItself(t *testing.T) {
	s := authztest.New(t)
	q := url.Values{"client_id": {"spa"}, "post_logout_redirect_uri": {"https://spa.example.com/"}, "logout_hint": {"alice"}, "ui_locales": {"de"}}.Encode()
	for _, signedIn := range []bool{true, false} {
		b := s.Browser()
		var tokens authztest.Tokens
		if signedIn {
			tokens = s.Redeem(b.Code("alice"))
		}
		p := b.Get("/logout?" + q)
		if p.StatusCode != http.StatusOK || !strings.Contains(p.Body, "Orders") || signedIn && s.UserInfo(tokens.AccessToken) != http.StatusOK {
			t.Fatalf("signed in %t: %d %s", signedIn, p.StatusCode, p.Header.Get("Location"))
		}
		if p = confirm(b, p); p.Header.Get("Location") != "https://spa.example.com/" || signedIn && refreshes(s, tokens, "spa") {
			t.Errorf("signed in %t, confirmed: %d %s", signedIn, p.StatusCode, p.Header.Get("Location"))
		}
	}
	for _, q := range []string{"post_logout_redirect_uri=https%3A%2F%2Fspa.example.com%2F", "client_id=nobody", "client_id=spa&client_id=spa", "post_logout_redirect_uri=https%3A%2F%2Fspa.example.com%2F&client_id=nobody"} {
		if p := s.Browser().Get("/logout?" + q); p.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", q, p.StatusCode)
		}
	}
	if p := s.Browser().Get("/logout?logout_hint=alice&ui_locales=de"); p.Header.Get("Location") != s.URL+doneURL {
		t.Errorf("nobody is signed in and nothing is asked for: %d", p.StatusCode)
	}
}

// TestLogoutByPost: a form post from another site carries no cookie. It must
// neither take the cookie away from who stays signed in, nor put the ID token
// into a URL.
func TestLogoutByPost(t *testing.T) {
	s := authztest.New(t)
	b := s.Browser()
	tokens := s.Redeem(b.Code("alice"))
	post := func(form url.Values) authztest.Page {
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/logout", strings.NewReader(form.Encode()))
		check(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "https://spa.example.com")
		return s.Browser().Send(r, "cross-site") // the browser sends no cookie
	}
	p := post(url.Values{})
	if p.StatusCode != http.StatusSeeOther || len(p.Cookies()) > 0 {
		t.Fatalf("a post without a hint: %d, sets %v", p.StatusCode, p.Cookies())
	}
	if p = b.Get(p.Header.Get("Location")); p.StatusCode != http.StatusOK || s.UserInfo(tokens.AccessToken) != http.StatusOK {
		t.Errorf("it goes on to %d: the question expected", p.StatusCode)
	}
	p = post(url.Values{"id_token_hint": {tokens.IDToken}, "post_logout_redirect_uri": {"https://spa.example.com/"}, "state": {"x"}, "junk": {"y"}})
	next := p.Header.Get("Location")
	if strings.Contains(next, tokens.IDToken) || strings.Contains(next, strings.Split(tokens.IDToken, ".")[1]) {
		t.Error("the ID token is in the URL")
	}
	if p = s.Browser().Get(strings.TrimSuffix(next, next[len(next)-4:]) + "AAAA"); p.StatusCode != http.StatusBadRequest {
		t.Errorf("an altered request: %d", p.StatusCode)
	}
	if p = b.Get(next + "&state=y"); p.StatusCode == http.StatusSeeOther {
		t.Error("parameters beside the sealed request were taken")
	}
	if p = b.Get(next); p.Header.Get("Location") != "https://spa.example.com/?state=x" || refreshes(s, tokens, "spa") {
		t.Errorf("the hint: %d %s", p.StatusCode, p.Header.Get("Location"))
	}
	s.Clock.Advance(11 * time.Minute)
	if p = b.Get(next); p.StatusCode != http.StatusBadRequest {
		t.Errorf("eleven minutes later: %d", p.StatusCode)
	}
}

// TestLogoutOfADisabledClient: its people can still sign out, the way back is
// closed.
func TestLogoutOfADisabledClient(t *testing.T) {
	s := authztest.New(t)
	register(t, s, "other", nil)
	b := s.Browser()
	tokens := s.Redeem(b.Code("alice"))
	other := s.Redeem(b.Code("alice", "client_id", "other"), "client_id", "other")
	check(t, s.Revoker.DisableClient(t.Context(), "spa"))
	p := b.Get("/logout?" + url.Values{"id_token_hint": {tokens.IDToken}, "post_logout_redirect_uri": {"https://spa.example.com/"}}.Encode())
	if p.Header.Get("Location") != s.URL+doneURL || refreshes(s, other, "other") {
		t.Errorf("%d %s", p.StatusCode, p.Header.Get("Location"))
	}
}

// TestLogoutWhileTheStoreIsDown: nobody is told to be signed out who is not.
func TestLogoutWhileTheStoreIsDown(t *testing.T) {
	var store *blind
	s := authztest.New(t, func(c *authz.Config) { store = &blind{Store: c.Store}; c.Store = store })
	b := s.Browser()
	tokens := s.Redeem(b.Code("alice"))
	q := url.Values{"id_token_hint": {tokens.IDToken}}.Encode()
	for _, what := range []string{"client", "session", "end"} {
		store.to = what
		if p := b.Get("/logout?" + q); p.StatusCode != http.StatusServiceUnavailable || len(p.Cookies()) > 0 {
			t.Errorf("%s: %d, sets %v", what, p.StatusCode, p.Cookies())
		}
	}
	store.to = ""
	if p := b.Get("/logout?" + q); p.StatusCode != http.StatusSeeOther || refreshes(s, tokens, "spa") {
		t.Errorf("once it is back: %d", p.StatusCode)
	}
}

// TestLogoutWhileTheAuditLogIsDown: the session has ended, so nobody is told that
// it has not, or keeps a second one for that.
func TestLogoutWhileTheAuditLogIsDown(t *testing.T) {
	s := authztest.New(t, func(c *authz.Config) {
		log := audit.New(audit.Config{Store: storagetest.WithFaults(c.Store, func(write string) storagetest.Outcome {
			return storagetest.Outcome{Fail: write == "AppendAudit"}
		})})
		t.Cleanup(func() {
			ended, cancel := context.WithCancel(context.Background())
			cancel()
			log.Close(ended)
		})
		c.Audit = log
	})
	s.AddUser("bob")
	b := s.Browser()
	s.Redeem(b.Code("alice"))
	// Somebody else signs in in the same browser.
	p := b.SignIn(b.Authorize("prompt", "login"), "bob", authztest.Password)
	if p.Answer().Get("code") == "" {
		t.Fatalf("another login: %d", p.StatusCode)
	}
	tokens := s.Redeem(p.Answer().Get("code"))
	if p := b.Get("/logout?" + url.Values{"id_token_hint": {tokens.IDToken}}.Encode()); p.StatusCode != http.StatusSeeOther || refreshes(s, tokens, "spa") {
		t.Errorf("the logout: %d", p.StatusCode)
	}
}

// blind is a store that can't do one thing.
type blind struct {
	storage.Store
	to string
}

func (b *blind) Client(ctx context.Context, id clients.ID) (clients.Client, error) {
	if b.to == "client" {
		return clients.Client{}, storage.ErrUnavailable
	}
	return b.Store.Client(ctx, id)
}

func (b *blind) SessionUser(ctx context.Context, id storage.SessionID) (storage.Session, storage.User, error) {
	if b.to == "session" {
		return storage.Session{}, storage.User{}, storage.ErrUnavailable
	}
	return b.Store.SessionUser(ctx, id)
}

func (b *blind) EndSession(ctx context.Context, id storage.SessionID, at time.Time) error {
	if b.to == "end" {
		return storage.ErrUnknown
	}
	return b.Store.EndSession(ctx, id, at)
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	check(t, err)
	return u
}

// TestClientWithoutRefreshTokenIsToldLater: a backend with a session of its own
// and no refresh token, long after its access token has expired.
func TestClientWithoutRefreshTokenIsToldLater(t *testing.T) {
	s := authztest.New(t)
	register(t, s, "backend", func(c *clients.Client) { c.BackchannelLogoutURI = "https://backend.example.com/logout" })
	b := s.Browser()
	want := func(n int) {
		t.Helper()
		got := 0
		check(t, s.Store.EachLogout(t.Context(), func(l storage.Logout) error { got++; return nil }))
		if got != n {
			t.Errorf("%d logout tokens are owed, %d expected", got, n)
		}
	}
	for _, client := range []string{"spa", "backend"} { // spa has no such URI
		tokens := s.Redeem(b.Code("alice", "client_id", client, "scope", "openid"), "client_id", client)
		if tokens.Status != http.StatusOK || tokens.RefreshToken != "" {
			t.Fatalf("%+v", tokens)
		}
		s.Clock.Advance(12 * time.Hour)
		if got := s.UserInfo(tokens.AccessToken); got != http.StatusUnauthorized {
			t.Errorf("the access token after 12 hours: %d", got)
		}
		_, err := s.Store.Sweep(t.Context(), s.Clock.Now(), 1000)
		check(t, err)
	}
	want(0)
	confirm(b, b.Get("/logout"))
	want(1)
}

// TestLogoutNetworksOfEverything: an allowance that switches the guard off is
// refused, by the setting's name.
func TestLogoutNetworksOfEverything(t *testing.T) {
	for text, good := range map[string]bool{"10.1.0.0/16": true, "fd00::/8": true, "0.0.0.0/0": false, "::/0": false} {
		c := authz.Config{Issuer: "https://login.example.com", LogoutNetworks: []netip.Prefix{netip.MustParsePrefix(text)}}
		problems := c.Problems()
		if good != (len(problems) == 0) || !good && problems[0].Setting != "backchannel_logout.allow_networks" {
			t.Errorf("%s: %v", text, problems)
		}
	}
}
