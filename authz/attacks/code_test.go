package attacks

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
)

func TestB10CodeInjection(t *testing.T) {
	s := authztest.New(t)
	s.AddUser("mallory")
	s.Clock.Advance(time.Second)
	// The attacker's code in the victim's app, which has another verifier, and
	// the other way round.
	const other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	attackers := s.Browser().Code("mallory", "code_challenge", authztest.Challenge(other))
	victims := s.Browser().Code("alice")
	if got := s.Redeem(attackers); got.Error != "invalid_grant" {
		t.Errorf("the attacker's code in the victim's app: %+v", got)
	}
	if got := s.Redeem(victims, "code_verifier", other); got.Error != "invalid_grant" {
		t.Errorf("the victim's code in the attacker's app: %+v", got)
	}
	// The refusals burnt neither.
	if got := s.Redeem(victims); got.Status != http.StatusOK {
		t.Errorf("the victim's own exchange: %+v", got)
	}
}

func TestB11PKCE(t *testing.T) {
	s := authztest.New(t)
	b := s.Browser()
	for name, changes := range map[string][]string{
		"no challenge":            {"code_challenge", ""},
		"no challenge, no method": {"code_challenge", "", "code_challenge_method", ""},
		"no method":               {"code_challenge_method", ""},
		"plain":                   {"code_challenge_method", "plain"},
		"lower case":              {"code_challenge_method", "s256"},
		"short":                   {"code_challenge", "x"},
		"42 characters":           {"code_challenge", strings.Repeat("A", 42)},
		"44 characters":           {"code_challenge", strings.Repeat("A", 44)},
		"padded":                  {"code_challenge", strings.Repeat("A", 42) + "="},
		"wrong alphabet":          {"code_challenge", strings.Repeat("A", 42) + "+"},
		"plain verifier":          {"code_challenge", authztest.Verifier + "~"},
	} {
		p := b.Get("/authorize?" + s.Authorization(changes...).Encode())
		if p.Answer().Get("error") != "invalid_request" {
			t.Errorf("%s: %d %s: refused before any login expected", name, p.StatusCode, p.Header.Get("Location"))
		}
	}
	code := b.Code("alice")
	for name, verifier := range map[string]string{
		"none": "", "wrong": strings.Repeat("x", 43), "short": "abc", "the challenge": authztest.Challenge(authztest.Verifier),
		"long": strings.Repeat("x", 129), "case": strings.ToUpper(authztest.Verifier),
	} {
		for range 2 { // no attempt makes the next one easier
			if got := s.Redeem(code, "code_verifier", verifier); got.Error != "invalid_grant" || got.AccessToken != "" {
				t.Errorf("verifier %s: %+v", name, got)
			}
		}
	}
	if got := s.Redeem(code); got.Status != http.StatusOK {
		t.Errorf("the honest exchange: %+v", got)
	}
}

func TestB12CodeUsedTwice(t *testing.T) {
	s := authztest.New(t)
	code := s.Browser().Code("alice")
	first := s.Redeem(code)
	if first.Status != http.StatusOK || s.UserInfo(first.AccessToken) != http.StatusOK {
		t.Fatalf("the first use: %+v", first)
	}
	// Who has the code alone, without the verifier, revokes nothing.
	if got := s.Redeem(code, "code_verifier", strings.Repeat("x", 43)); got.Error != "invalid_grant" || s.UserInfo(first.AccessToken) != http.StatusOK {
		t.Errorf("a second use without the verifier: %+v; userinfo %d", got, s.UserInfo(first.AccessToken))
	}
	if got := s.Redeem(code); got.Error != "invalid_grant" {
		t.Errorf("the second use: %+v", got)
	}
	if status := s.UserInfo(first.AccessToken); status != http.StatusUnauthorized {
		t.Errorf("the first use's access token still works: %d", status)
	}
	if got := s.Refresh(first.RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("the first use's refresh token still works: %+v", got)
	}
	if !strings.Contains(s.Log.String(), "authorization code used twice") {
		t.Error("the audit log does not say so")
	}
}

// B12: the second use comes with another key than the first, or with none. A
// code that is bound to no key takes the first one, which may be a thief's, so
// the grant ends whoever comes second with the verifier.
func TestB12SecondUseWithAnotherKey(t *testing.T) {
	s := authztest.New(t)
	active := introspecting(t, s)
	thief, app := s.With(s.Key()), s.With(s.Key())
	for name, c := range map[string]struct{ first, second *authztest.Server }{
		"the thief's key, the app's key": {thief, app}, "the thief's key, no key": {thief, s}, "no key, the app's key": {s, app},
	} {
		code := s.Browser().Code("alice")
		first := c.first.Redeem(code)
		if first.Status != http.StatusOK || !active(first.AccessToken) {
			t.Fatalf("%s: the first use: %+v", name, first)
		}
		if got := c.second.Redeem(code, "code_verifier", strings.Repeat("x", 43)); got.Status != http.StatusBadRequest || !active(first.AccessToken) {
			t.Errorf("%s: a second use with another verifier: %+v", name, got)
		}
		if got := c.second.Redeem(code); got.Error != "invalid_grant" || active(first.AccessToken) {
			t.Errorf("%s: the second use: %+v; the first one's token works: %t", name, got, active(first.AccessToken))
		}
		if got := c.first.Refresh(first.RefreshToken); got.Error != "invalid_grant" {
			t.Errorf("%s: the first use's refresh token still works: %+v", name, got)
		}
	}
	// A code that is bound before it is used takes no other key first, and the
	// grant ends all the same.
	key := s.Key()
	bound := s.With(key)
	for name, second := range map[string]*authztest.Server{"another key": app, "no key": s} {
		code := waysToBind["dpop_jkt in the front channel"](s.Browser(), bound, key)
		if got := second.Redeem(code); got.Status != http.StatusBadRequest {
			t.Errorf("%s first: %+v", name, got)
		}
		first := bound.Redeem(code)
		if first.Status != http.StatusOK {
			t.Fatalf("the first use of a bound code: %+v", first)
		}
		if got := second.Redeem(code); got.Error != "invalid_grant" || active(first.AccessToken) {
			t.Errorf("%s after the first use: %+v; the first one's token works: %t", name, got, active(first.AccessToken))
		}
	}
}

func TestB12CodeRace(t *testing.T) {
	s := authztest.New(t)
	other := s.Replica()
	code := s.Browser().Code("alice")
	var mu sync.Mutex
	var won []authztest.Tokens
	var wg sync.WaitGroup
	for i := range 50 {
		server := s
		if i%2 == 0 {
			server = other
		}
		wg.Go(func() {
			if got := server.Redeem(code); got.Status == http.StatusOK {
				mu.Lock()
				won = append(won, got)
				mu.Unlock()
			} else if got.Error != "invalid_grant" || got.Status != http.StatusBadRequest {
				t.Errorf("a loser got %+v", got)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d of 50 won", len(won))
	}
	if got := s.Refresh(won[0].RefreshToken); got.Error != "invalid_grant" || s.UserInfo(won[0].AccessToken) != http.StatusUnauthorized {
		t.Error("the winner's tokens live on")
	}
}

func TestB13CodeElsewhere(t *testing.T) {
	s := authztest.New(t)
	c := s.Client
	c.ID, c.Name = "other", "Other"
	if err := s.Store.CreateClient(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	code := s.Browser().Code("alice")
	if got := s.Redeem(code, "client_id", "other"); got.Error != "invalid_grant" {
		t.Errorf("another client: %+v", got)
	}
	for _, uri := range []string{"https://spa.example.com/", "https://spa.example.com/callback/", "https://evil.net/"} {
		if got := s.Redeem(code, "redirect_uri", uri); got.Error != "invalid_grant" {
			t.Errorf("redirect_uri %s: %+v", uri, got)
		}
	}
	s.Clock.Advance(59 * time.Second)
	if got := s.Redeem(code, "redirect_uri", ""); got.Status != http.StatusOK {
		t.Errorf("the honest exchange after 59 s, without redirect_uri: %+v", got)
	}
	late := s.Browser().Code("alice")
	s.Clock.Advance(60 * time.Second)
	if got := s.Redeem(late); got.Error != "invalid_grant" {
		t.Errorf("after 60 s: %+v", got)
	}
	for _, forged := range []string{"sgc_", "sgc_" + strings.Repeat("A", 64), late[:len(late)-1], late + "A", strings.ToUpper(late)} {
		if got := s.Redeem(forged); got.Error != "invalid_grant" {
			t.Errorf("forged code: %+v", got)
		}
	}
}

func TestB14IssuerInEveryResponse(t *testing.T) {
	s := authztest.New(t)
	resp, err := http.Get(s.URL + "/.well-known/oauth-authorization-server")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b := s.Browser()
	p := b.Authorize("prompt", "none")
	if a := p.Answer(); a.Get("error") != "login_required" || a.Get("iss") != s.URL {
		t.Errorf("an error: %v", a)
	}
	p = b.SignIn(b.Authorize(), "alice", authztest.Password)
	if a := p.Answer(); a.Get("code") == "" || a.Get("iss") != s.URL || a.Get("state") != "af0ifjsldkj" {
		t.Errorf("a success: %v", a)
	}
}

func TestB15NoSecretLeaks(t *testing.T) {
	s := authztest.New(t)
	b := s.Browser()
	p := b.SignIn(b.Authorize(), "alice", authztest.Password)
	if policy := p.Header.Get("Referrer-Policy"); policy != "no-referrer" {
		t.Errorf("Referrer-Policy of the redirect: %q", policy)
	}
	code := p.Answer().Get("code")
	tokens := s.Redeem(code)
	second := s.Refresh(tokens.RefreshToken)
	s.UserInfo(second.AccessToken)
	s.UserInfo(second.AccessToken + "x")
	s.Redeem(code)
	s.Refresh(tokens.RefreshToken)
	s.Refresh(second.RefreshToken + "x")
	s.PostForm("/revoke", url.Values{"client_id": {"spa"}, "token": {second.RefreshToken}})
	b.SignIn(b.Authorize("prompt", "login"), "alice", "a wrong password of mine")
	u, _ := url.Parse(s.URL)
	log, kept := s.Log.String(), s.Audited()
	for _, what := range []string{"login succeeded", "code issued", "login refused", "grant revoked"} {
		if !strings.Contains(kept, what) {
			t.Errorf("the audit log in the store has no line %q", what)
		}
	}
	secrets := map[string]string{
		"code": code, "access token": tokens.AccessToken, "refresh token": tokens.RefreshToken, "second refresh token": second.RefreshToken,
		"ID token": tokens.IDToken, "password": authztest.Password, "wrong password": "a wrong password of mine", "verifier": authztest.Verifier,
	}
	for _, c := range b.Jar.Cookies(u) {
		secrets["cookie "+c.Name] = c.Value
	}
	for name, secret := range secrets {
		for where, text := range map[string]string{"log": log, "audit log in the store": kept} {
			if len(secret) < 8 || strings.Contains(text, secret) || strings.Contains(text, secret[len(secret)/2:]) {
				t.Errorf("the %s is in the %s", name, where)
			}
		}
	}
	for _, g := range grantsOf(t, s) {
		if strings.Contains(code, string(g.Salt[:])) {
			t.Error("the salt is in the code")
		}
	}
}

func TestC18RetiredAndRevokedKeys(t *testing.T) {
	s := authztest.New(t)
	tokens := s.SignIn("alice")
	if s.UserInfo(tokens.AccessToken) != http.StatusOK {
		t.Fatal("the honest request fails")
	}
	kid := ""
	for _, k := range s.Ring.List() {
		if k.Algorithm == "ES256" {
			kid = k.ID
		}
	}
	if err := s.Ring.Revoke(t.Context(), kid, "leaked"); err != nil {
		t.Fatal(err)
	}
	if status := s.UserInfo(tokens.AccessToken); status != http.StatusUnauthorized {
		t.Errorf("a token of the revoked key: %d", status)
	}
	if strings.Contains(string(s.Ring.JWKS().Body), kid) {
		t.Error("the revoked key is still published")
	}
	if again := s.Refresh(tokens.RefreshToken); s.UserInfo(again.AccessToken) != http.StatusOK {
		t.Errorf("with the new key: %+v", again)
	}
}
