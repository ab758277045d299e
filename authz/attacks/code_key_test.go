package attacks

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
)

// B10 to B15 with codes that are bound to a key, pushed or not, and for
// confidential clients; code_test.go has them for the plain SPA.

// waysToBind are the ways to bind a code to the key of an app.
var waysToBind = map[string]func(b *authztest.Browser, app *authztest.Server, key *authztest.Key, changes ...string) string{
	"dpop_jkt in the front channel": func(b *authztest.Browser, _ *authztest.Server, key *authztest.Key, changes ...string) string {
		return b.Code("alice", append(changes, "dpop_jkt", key.JKT)...)
	},
	"a pushed proof": func(b *authztest.Browser, app *authztest.Server, _ *authztest.Key, changes ...string) string {
		return finish(b, app.Push(changes...).RequestURI).Answer().Get("code")
	},
	"a pushed proof and dpop_jkt": func(b *authztest.Browser, app *authztest.Server, key *authztest.Key, changes ...string) string {
		return finish(b, app.Push(append(changes, "dpop_jkt", key.JKT)...).RequestURI).Answer().Get("code")
	},
}

// B10: a code in a session whose verifier or whose key is another one.
func TestB10InjectedBoundCode(t *testing.T) {
	const other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for way, bind := range waysToBind {
		s := authztest.New(t)
		mine, theirs := s.Key(), s.Key()
		app, attacker := s.With(mine), s.With(theirs)
		victims := bind(s.Browser(), app, mine)
		attackers := bind(s.Browser(), attacker, theirs, "code_challenge", authztest.Challenge(other))
		for name, got := range map[string]authztest.Tokens{
			"the victim's code, the attacker's key and verifier": attacker.Redeem(victims, "code_verifier", other),
			"the victim's code and verifier, the attacker's key": attacker.Redeem(victims),
			"the victim's code and verifier, no key":             s.Redeem(victims),
			"the victim's code and key, the attacker's verifier": app.Redeem(victims, "code_verifier", other),
			"the attacker's code in the victim's app":            app.Redeem(attackers),
			"the attacker's code and verifier, the victim's key": app.Redeem(attackers, "code_verifier", other),
		} {
			if got.Status != http.StatusBadRequest || got.AccessToken != "" {
				t.Errorf("%s: %s: %+v", way, name, got)
			}
		}
		if n := redeemed(t, s); n != 0 {
			t.Errorf("%s: %d codes were used", way, n)
		}
		if got := app.Redeem(victims); got.Status != http.StatusOK || jktOf(t, got) != mine.JKT {
			t.Errorf("%s: the victim's own exchange: %+v", way, got)
		}
		if got := attacker.Redeem(attackers, "code_verifier", other); got.Status != http.StatusOK {
			t.Errorf("%s: the attacker's own exchange: %+v", way, got)
		}
	}
}

// B11 for a pushed request and for a confidential client, which may do without
// only where it is registered so, with a nonce.
func TestB11PKCEOfPushedRequestsAndBackends(t *testing.T) {
	s := authztest.New(t)
	_, signer := backend(s, nil)
	for name, changes := range map[string][]string{
		"no challenge": {"code_challenge", ""}, "none at all": {"code_challenge", "", "code_challenge_method", ""}, "no method": {"code_challenge_method", ""},
		"plain": {"code_challenge_method", "plain"}, "short": {"code_challenge", "x"}, "padded": {"code_challenge", strings.Repeat("A", 42) + "="},
	} {
		if got := s.Push(changes...); got.Error != "invalid_request" || got.RequestURI != "" {
			t.Errorf("pushed, %s: %+v", name, got)
		}
		if got := post(t, s, "/par", signer.Sign(s.Authorization(ofBackend(changes...)...), "backend", nil)); got.Error != "invalid_request" {
			t.Errorf("pushed by a backend, %s: %+v", name, got)
		}
	}
	// A proof of the key does not stand in for the verifier.
	key := s.Key()
	app := s.With(key)
	code := waysToBind["a pushed proof"](s.Browser(), app, key)
	for name, verifier := range map[string]string{"none": "", "wrong": strings.Repeat("x", 43), "the challenge": authztest.Challenge(authztest.Verifier)} {
		if got := app.Redeem(code, "code_verifier", verifier); got.Error != "invalid_grant" || got.AccessToken != "" {
			t.Errorf("verifier %s: %+v", name, got)
		}
	}
	if got := app.Redeem(code); got.Status != http.StatusOK {
		t.Errorf("the honest exchange: %+v", got)
	}
}

// B12: a bound code twice, and by two keys at once.
func TestB12BoundCodeUsedTwice(t *testing.T) {
	s := authztest.New(t)
	active := introspecting(t, s)
	key := s.Key()
	app := s.With(key)
	code := waysToBind["a pushed proof"](s.Browser(), app, key)
	first := app.Redeem(code)
	if first.Status != http.StatusOK || !active(first.AccessToken) {
		t.Fatalf("the first use: %+v", first)
	}
	// Who has the code without the verifier revokes nothing.
	if got := app.Redeem(code, "code_verifier", ""); got.Status != http.StatusBadRequest || !active(first.AccessToken) {
		t.Errorf("a second use without the verifier: %+v", got)
	}
	if got := app.Redeem(code); got.Error != "invalid_grant" || active(first.AccessToken) {
		t.Errorf("the second use: %+v", got)
	}
	if got := app.Refresh(first.RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("the first use's refresh token still works: %+v", got)
	}
}

func TestB12BoundCodeRace(t *testing.T) {
	for name, bound := range map[string]bool{"bound to the key": true, "bound to none": false} {
		s := authztest.New(t)
		active := introspecting(t, s)
		key := s.Key()
		apps := []*authztest.Server{s.With(key), s.Replica().With(key)}
		if !bound { // each request comes with a key of its own
			apps = []*authztest.Server{s.With(key), s.Replica().With(s.Key()), s}
		}
		var changes []string
		if bound {
			changes = []string{"dpop_jkt", key.JKT}
		}
		code := s.Browser().Code("alice", changes...)
		var mu sync.Mutex
		var won []authztest.Tokens
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				if got := apps[i%len(apps)].Redeem(code); got.Status == http.StatusOK {
					mu.Lock()
					won = append(won, got)
					mu.Unlock()
				} else if got.Error != "invalid_grant" && got.Error != "invalid_dpop_proof" {
					t.Errorf("%s: a loser got %+v", name, got)
				}
			})
		}
		all.Wait()
		if len(won) != 1 || active(won[0].AccessToken) || len(liveGrants(t, s)) != 0 {
			t.Errorf("%s: %d of 50 won, %d grants live", name, len(won), len(liveGrants(t, s)))
		}
	}
}

// B13: a code by another key, another client, in another time, whatever way it
// was bound.
func TestB13CodeWithAnotherKey(t *testing.T) {
	for way, bind := range waysToBind {
		s := authztest.New(t)
		other := s.Client
		other.ID = "other"
		s.AddClient(other)
		_, signer := backend(s, nil)
		key := s.Key()
		app := s.With(key)
		b := s.Browser()
		code := bind(b, app, key)
		theft := func(k *authztest.Key) string { return k.Proof("POST", s.URL+"/token", nil) }
		for name, got := range map[string]authztest.Tokens{
			"another key":                 s.With(s.Key()).Redeem(code),
			"no proof":                    s.Redeem(code),
			"dpop_jkt at /token":          post(t, s, "/token", with(exchange(code), "dpop_jkt", key.JKT)),
			"another key, named":          post(t, s, "/token", with(exchange(code), "dpop_jkt", key.JKT), "DPoP", theft(s.Key())),
			"another client":              app.Redeem(code, "client_id", "other"),
			"a backend, with the key":     post(t, s, "/token", signer.Sign(exchange(code), "backend", nil), "DPoP", theft(key)),
			"another redirect URI":        app.Redeem(code, "redirect_uri", "https://spa.example.com/"),
			"as a refresh token":          app.Refresh(code),
			"as a client's own":           app.Redeem(code, "grant_type", "client_credentials"),
			"another client's redirect":   app.Redeem(code, "redirect_uri", "https://app.example.com/callback"),
			"with a resource not granted": app.Redeem(code, "resource", "https://reports.example.com"),
		} {
			if got.Status/100 != 4 || got.AccessToken != "" {
				t.Errorf("%s: %s: %+v", way, name, got)
			}
		}
		s.Clock.Advance(59 * time.Second)
		if got := app.Redeem(code); got.Status != http.StatusOK || jktOf(t, got) != key.JKT || authztest.Claims(t, got.AccessToken)["client_id"] != "spa" {
			t.Errorf("%s: the honest exchange after 59 s: %+v", way, got)
		}
		late := bind(b, app, key)
		s.Clock.Advance(60 * time.Second)
		if got := app.Redeem(late); got.Error != "invalid_grant" {
			t.Errorf("%s: after 60 s: %+v", way, got)
		}
	}
}

// B13: names of keys that are none, and two that differ.
func TestB13KeyNames(t *testing.T) {
	s := authztest.New(t)
	key := s.Key()
	app := s.With(key)
	b := s.Browser()
	b.Code("alice")
	before := leftBehind(t, s)
	for _, name := range []string{"x", key.JKT + "A", key.JKT[:42], key.JKT + "=", " " + key.JKT, key.JKT + "\n", key.JKT[:42] + nextBase64(key.JKT[42]), strings.Repeat("A", 42) + "+", strings.Repeat("x", 4000), key.JKT + "," + key.JKT} {
		if a := b.Authorize("dpop_jkt", name).Answer(); a.Get("error") != "invalid_request" || a.Get("code") != "" {
			t.Errorf("dpop_jkt %q: %v", name, a)
		}
		if got := s.Push("dpop_jkt", name); got.Error != "invalid_request" || got.RequestURI != "" {
			t.Errorf("pushed dpop_jkt %q: %+v", name, got)
		}
	}
	if got := app.Push("dpop_jkt", s.Key().JKT); got.Error != "invalid_request" || got.RequestURI != "" {
		t.Errorf("a proof of one key, the name of another: %+v", got)
	}
	if got := s.With(s.Key()).Push("dpop_jkt", key.JKT); got.Error != "invalid_request" {
		t.Errorf("the other way round: %+v", got)
	}
	if after := leftBehind(t, s); after != before {
		t.Errorf("left behind: %+v, before %+v", after, before)
	}
	if got := app.Redeem(b.Code("alice", "dpop_jkt", key.JKT)); jktOf(t, got) != key.JKT {
		t.Errorf("the honest name: %+v", got)
	}
}

// B14: every answer to the client has iss, whatever way the request came and
// however it ends, and it is the metadata's issuer.
func TestB14IssuerInEveryKindOfResponse(t *testing.T) {
	s := authztest.New(t)
	issuers := map[string]string{}
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"} {
		resp, err := http.Get(s.URL + path)
		check(t, err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		check(t, err)
		var m struct {
			Issuer string `json:"issuer"`
			Says   bool   `json:"authorization_response_iss_parameter_supported"`
		}
		check(t, json.Unmarshal(body, &m))
		if !m.Says {
			t.Errorf("%s does not promise iss", path)
		}
		issuers[m.Issuer] = path
	}
	if len(issuers) != 1 || issuers[s.URL] == "" {
		t.Fatalf("issuers %v", issuers)
	}
	b := s.Browser()
	hostile := func(q url.Values) authztest.Page {
		r := request(t, "GET", s.URL+"/authorize?"+q.Encode(), nil, "X-Forwarded-Host", "evil.net")
		r.Host = "evil.net"
		return b.Follow(b.Send(r, "none"))
	}
	for name, p := range map[string]authztest.Page{
		"an error before the login":  b.Authorize("scope", "other"),
		"prompt=none":                b.Authorize("prompt", "none"),
		"pushed, prompt=none":        b.Visit(s.Push("prompt", "none").RequestURI),
		"with an iss in the request": b.Authorize("prompt", "none", "iss", "https://evil.net"),
		"under another host":         hostile(s.Authorization("prompt", "none")),
		"a code":                     b.SignIn(b.Authorize(), "alice", authztest.Password),
		"a pushed request's code":    finish(b, s.Push().RequestURI),
	} {
		if a := p.Answer(); len(a["iss"]) != 1 || a.Get("iss") != s.URL || a.Get("state") != "af0ifjsldkj" {
			t.Errorf("%s: %d %s", name, p.StatusCode, p.Header.Get("Location"))
		}
	}
	s.UpdateClient(func(c *clients.Client) { c.Consent = true })
	p := b.Authorize()
	form := p.Form()
	form.Set("decision", "deny")
	p = b.Follow(b.Post("/consent", form))
	if a := p.Answer(); a.Get("error") != "access_denied" || a.Get("iss") != s.URL {
		t.Errorf("consent refused: %d %s", p.StatusCode, p.Header.Get("Location"))
	}
	s.UpdateClient(func(c *clients.Client) { c.Profile = clients.Hardened })
	if a := b.Authorize().Answer(); a.Get("error") != "invalid_request" || a.Get("iss") != s.URL {
		t.Errorf("not pushed: %v", a)
	}
	tokens := s.With(s.Key()).Push()
	if tokens.Status != http.StatusCreated {
		t.Errorf("the honest push: %+v", tokens)
	}
}

// B15: proofs, assertions, request_uris, secrets, bound codes and tokens stand
// in no log, whether they pass, are refused, or meet a page of ours.
func TestB15NoProofNorAssertionLeaks(t *testing.T) {
	s := authztest.New(t)
	var secret string
	_, signer := backend(s, nil)
	s.AddClient(func() clients.Client {
		c := clients.Client{ID: "secretive", AuthMethod: clients.SecretBasic, Audiences: []string{authztest.Audience}, Scopes: []string{"notes:read"}, GrantTypes: []string{"client_credentials"}}
		var err error
		secret, err = c.NewSecret(zeros{})
		check(t, err)
		return c
	}())
	s.UpdateClient(func(c *clients.Client) { c.RequireDPoPNonce = true })
	key := s.Key()
	app := s.With(key)
	secrets := map[string]string{"client secret": secret}
	keep := func(name, secret string) string {
		secrets[fmt.Sprintf("%s %d", name, len(secrets))] = secret
		return secret
	}
	assertion := func(changes map[string]any) url.Values {
		form := signer.Sign(url.Values{"grant_type": {"client_credentials"}}, "backend", changes)
		keep("assertion", form.Get("client_assertion"))
		return form
	}
	proof := func(changes map[string]any) string {
		return keep("proof", key.Proof("POST", s.URL+"/token", changes))
	}
	b := s.Browser()
	pushed := keep("request_uri", app.Push().RequestURI)
	code := keep("code", finish(b, pushed).Answer().Get("code"))
	finish(b, pushed)
	finish(b, pushed, "client_id", "backend")
	finish(b, pushed+"x")
	tokens := app.Redeem(code)
	keep("access token", tokens.AccessToken)
	keep("refresh token", tokens.RefreshToken)
	keep("ID token", tokens.IDToken)
	app.Redeem(code)
	s.With(s.Key()).Redeem(code)
	for _, bad := range []map[string]any{nil, {"nonce": "x"}, {"htu": s.URL + "/other"}, {"htu": s.URL + "/other?code=" + code}, {"htu": "x:" + code}, {"iat": 1}, {"htm": "GET"}, {"jti": nil}} {
		post(t, s, "/token", refreshing(tokens.RefreshToken), "DPoP", proof(bad))
		post(t, s, "/token", exchange(code), "DPoP", proof(bad), "DPoP", proof(bad))
		userInfo(t, s, "DPoP", tokens.AccessToken, "DPoP", proof(bad))
		userInfo(t, s, "Bearer", tokens.AccessToken)
	}
	for _, bad := range []map[string]any{nil, {"aud": "x"}, {"exp": 1}, {"iss": "x"}, {"sub": "x"}, {"jti": nil}} {
		form := assertion(bad)
		post(t, s, "/token", form)
		post(t, s, "/token", form)
		post(t, s, "/par", assertion(bad))
		post(t, s, "/revoke", assertion(bad))
		post(t, s, "/introspect", with(assertion(bad), "token", tokens.AccessToken))
		post(t, s, "/token", assertion(bad), "Authorization", basic("backend", secret))
	}
	for _, id := range []string{"secretive", "backend", "spa", "nobody"} {
		post(t, s, "/token", url.Values{"grant_type": {"client_credentials"}}, "Authorization", basic(id, secret))
		post(t, s, "/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}})
		post(t, s, "/introspect", url.Values{"token": {tokens.AccessToken}}, "Authorization", basic(id, secret))
	}
	// A person's browser that is sent to the wrong place shows none of it, either.
	for _, path := range []string{"/authorize?code=" + code, "/authorize?client_id=" + url.QueryEscape(tokens.RefreshToken), "/logout?id_token_hint=" + tokens.AccessToken, "/login?request=" + code, "/authorize?client_id=spa&request_uri=" + url.QueryEscape(pushed)} {
		p := b.Get(path)
		for name, secret := range secrets {
			if strings.Contains(p.Body, secret) {
				t.Errorf("the %s is on the page of %.40s", name, path)
			}
		}
		if policy := p.Header.Get("Referrer-Policy"); policy != "no-referrer" {
			t.Errorf("Referrer-Policy of %.40s: %q", path, policy)
		}
	}
	noSecrets(t, s, secrets)
}

// zeros is no source of randomness.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
