package authz_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
)

func TestPushedRequest(t *testing.T) {
	s := authztest.New(t)
	p := s.Push()
	if p.Status != http.StatusCreated || !strings.HasPrefix(p.RequestURI, "urn:ietf:params:oauth:request_uri:") || p.ExpiresIn != 60 {
		t.Fatalf("got %+v", p)
	}
	if again := s.Push(); again.RequestURI == p.RequestURI {
		t.Error("two pushes have one request_uri")
	}
	b := s.Browser()
	// What comes beside it is ignored: it would have been a wrong redirect URI,
	// another scope, and no login page.
	page := b.Visit(p.RequestURI, "redirect_uri", "https://evil.example/", "scope", "notes:write", "prompt", "none", "state", "x")
	if !strings.Contains(page.Body, `name="password"`) {
		t.Fatalf("no login page: %d\n%s", page.StatusCode, page.Body)
	}
	// A reload, of the login page or of all of it, is no second use.
	if again := b.Get(page.Request.URL.String()); !strings.Contains(again.Body, `name="password"`) {
		t.Errorf("the login page is gone: %d", again.StatusCode)
	}
	if page = b.Visit(p.RequestURI); !strings.Contains(page.Body, `name="password"`) {
		t.Fatalf("a second visit: %d\n%s", page.StatusCode, page.Body)
	}
	end := b.SignIn(page, "alice", authztest.Password)
	answer := end.Answer()
	if answer.Get("state") != "af0ifjsldkj" || !strings.HasPrefix(end.Header.Get("Location"), "https://spa.example.com/callback?") {
		t.Fatalf("answered %s", end.Header.Get("Location"))
	}
	if tokens := s.Redeem(answer.Get("code")); tokens.Status != http.StatusOK || tokens.Scope != "openid profile email offline_access notes:read" {
		t.Errorf("tokens: %+v", tokens)
	}
	// Now the login has ended: nobody gets another code.
	for name, who := range map[string]*authztest.Browser{"the same browser": b, "another one": s.Browser()} {
		end := who.Visit(p.RequestURI)
		if end.StatusCode == http.StatusOK {
			end = who.SignIn(end, "alice", authztest.Password)
		}
		if end.StatusCode != http.StatusBadRequest || end.Header.Get("Location") != "" {
			t.Errorf("a second use in %s: %d %s", name, end.StatusCode, end.Header.Get("Location"))
		}
	}
}

func TestPushedRequestEnds(t *testing.T) {
	s := authztest.New(t)
	s.AddClient(clients.Client{ID: "other", RedirectURIs: []clients.RedirectURI{"https://other.example/"}, Origins: []clients.Origin{"https://other.example"}, Audiences: []string{authztest.Audience}})
	p := s.Push()
	refused := func(name string, page authztest.Page) {
		t.Helper()
		if page.StatusCode != http.StatusBadRequest || page.Header.Get("Location") != "" {
			t.Errorf("%s: %d %s", name, page.StatusCode, page.Header.Get("Location"))
		}
	}
	refused("another client", s.Browser().Visit(p.RequestURI, "client_id", "other"))
	refused("no client", s.Browser().Visit(p.RequestURI, "client_id", ""))
	refused("a made-up one", s.Browser().Visit(p.RequestURI[:len(p.RequestURI)-2]+"AA"))
	refused("none of ours", s.Browser().Visit("urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c"))
	slow := s.Browser()
	page := slow.Visit(p.RequestURI)
	s.Clock.Advance(time.Minute)
	refused("after its life", s.Browser().Visit(p.RequestURI))
	if end := slow.SignIn(page, "alice", authztest.Password); end.Answer().Get("code") == "" {
		t.Errorf("who came in time may take longer: %d", end.StatusCode)
	}
}

// TestAnswerEndsThePushedRequest: an error that the client is told is an end,
// too.
func TestAnswerEndsThePushedRequest(t *testing.T) {
	s := authztest.New(t)
	p := s.Push("prompt", "none")
	if a := s.Browser().Visit(p.RequestURI).Answer(); a.Get("error") != "login_required" || a.Get("iss") != s.URL {
		t.Fatalf("answered %v", a)
	}
	b := s.Browser()
	b.Code("alice")
	if page := b.Visit(p.RequestURI); page.StatusCode != http.StatusBadRequest {
		t.Errorf("a second use: %d %s", page.StatusCode, page.Header.Get("Location"))
	}
}

// TestPushIsCheckedLikeTheFrontChannel: what would fail there fails here, before
// any browser is sent anywhere.
func TestPushIsCheckedLikeTheFrontChannel(t *testing.T) {
	s := authztest.New(t)
	for _, c := range authz.FailingCases {
		if !c.Pushed {
			continue
		}
		want := c.Error
		if want == "" {
			want = "invalid_request"
		}
		if c.Check == "knownClient" && len(c.Changes[1]) > 0 {
			want = "invalid_client"
		}
		if got := s.Push(c.Changes...); got.Error != want || got.RequestURI != "" {
			t.Errorf("%s %.40q: %+v, %s expected", c.Check, c.Changes, got, want)
		}
	}
	if got := s.Push("request_uri", "https://evil.example/"); got.Error != "invalid_request" {
		t.Errorf("a request_uri: %+v", got)
	}
}

func TestClientThatMustPush(t *testing.T) {
	s := authztest.New(t)
	s.UpdateClient(func(c *clients.Client) { c.RequirePAR = true })
	b := s.Browser()
	if a := b.Authorize().Answer(); a.Get("error") != "invalid_request" {
		t.Errorf("a request that was not pushed: %v", a)
	}
	page := b.SignIn(b.Visit(s.Push().RequestURI), "alice", authztest.Password)
	if page.Answer().Get("code") == "" {
		t.Errorf("a pushed request: %d", page.StatusCode)
	}
}

// TestPushedProofBindsTheCode (RFC 9449 §10.1).
func TestPushedProofBindsTheCode(t *testing.T) {
	s := authztest.New(t)
	key := s.Key()
	app := s.With(key)
	b := s.Browser()
	code := b.SignIn(b.Visit(app.Push().RequestURI), "alice", authztest.Password).Answer().Get("code")
	if got := s.With(s.Key()).Redeem(code); got.Error != "invalid_grant" {
		t.Errorf("with another key: %+v", got)
	}
	if got := app.Redeem(code); got.TokenType != "DPoP" {
		t.Errorf("with the key: %+v", got)
	}
	if got := app.Push("dpop_jkt", s.Key().JKT); got.Error != "invalid_request" {
		t.Errorf("a dpop_jkt that is not the proof's: %+v", got)
	}
}

// TestHardenedProfile: one switch.
func TestHardenedProfile(t *testing.T) {
	s := authztest.New(t, func(c *authz.Config) { c.AccessTokenAlg = keys.RS256 })
	s.UpdateClient(func(c *clients.Client) { c.Profile = clients.Hardened })
	key := s.Key()
	app := s.With(key)
	b := s.Browser()
	if a := b.Authorize().Answer(); a.Get("error") != "invalid_request" {
		t.Errorf("not pushed: %v", a)
	}
	code := b.SignIn(b.Visit(app.Push().RequestURI), "alice", authztest.Password).Answer().Get("code")
	form := url.Values{
		"grant_type": {"authorization_code"}, "client_id": {"spa"}, "code": {code},
		"redirect_uri": {"https://spa.example.com/callback"}, "code_verifier": {authztest.Verifier},
	}
	if got := s.PostForm("/token", form); got.Error != "invalid_dpop_proof" {
		t.Errorf("no proof: %+v", got)
	}
	if got := postWith(t, s, "/token", form, "DPoP", key.Proof("POST", s.URL+"/token", nil)); got.Error != "use_dpop_nonce" {
		t.Errorf("no nonce: %+v", got)
	}
	tokens := app.Redeem(code)
	if tokens.TokenType != "DPoP" || jktOf(t, tokens) != key.JKT {
		t.Fatalf("got %+v", tokens)
	}
	if alg := headerOf(t, tokens.AccessToken)["alg"]; alg != "ES256" {
		t.Errorf("alg %v: FAPI 2.0 §5.4.1 allows no RS256", alg)
	}
	late := b.Visit(app.Push().RequestURI).Answer().Get("code")
	s.Clock.Advance(time.Minute)
	if got := app.Redeem(late); got.Error != "invalid_grant" {
		t.Errorf("a code of a minute ago: %+v", got)
	}
}
