package attacks

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
)

// hardened is a server whose SPA has the hardened profile, and the app with a
// key.
func hardened(t *testing.T) (s, app *authztest.Server, key *authztest.Key) {
	t.Helper()
	s = authztest.New(t)
	s.UpdateClient(func(c *clients.Client) { c.Profile = clients.Hardened })
	key = s.Key()
	return s, s.With(key), key
}

// TestHardenedProfileHasNoWayDown: no endpoint gives or takes a bearer token, a
// proof without a nonce, or a request that was not pushed.
func TestHardenedProfileHasNoWayDown(t *testing.T) {
	s, app, key := hardened(t)
	active := introspecting(t, s)
	b := s.Browser()
	code := finish(b, app.Push().RequestURI).Answer().Get("code")
	tokens := app.Redeem(code)
	if tokens.TokenType != "DPoP" || jktOf(t, tokens) != key.JKT || !active(tokens.AccessToken) {
		t.Fatalf("the honest way: %+v", tokens)
	}
	before := leftBehind(t, s)

	// The front channel.
	for name, q := range map[string]url.Values{
		"plain": s.Authorization(), "with the key named": s.Authorization("dpop_jkt", key.JKT), "prompt=none": s.Authorization("prompt", "none"),
		"an empty request_uri": with(s.Authorization(), "request_uri", " "),
	} {
		if a := b.Get("/authorize?" + q.Encode()).Answer(); a.Get("error") != "invalid_request" || a.Get("code") != "" {
			t.Errorf("not pushed, %s: %v", name, a)
		}
		if a := b.Follow(b.Send(request(t, "POST", s.URL+"/authorize", q), "cross-site")).Answer(); a.Get("error") != "invalid_request" {
			t.Errorf("not pushed, as a form post, %s: %v", name, a)
		}
	}

	// Codes and refresh tokens. A pushed request may come without a proof: the
	// code is then bound when it is redeemed.
	unbound := finish(b, s.Push().RequestURI).Answer().Get("code")
	nonce := post(t, s, "/token", exchange("x"), "DPoP", key.Proof("POST", s.URL+"/token", nil)).Header.Get("DPoP-Nonce")
	proof := func(changes map[string]any) string { return key.Proof("POST", s.URL+"/token", changes) }
	for name, form := range map[string]url.Values{"a code": exchange(unbound), "a refresh token": refreshing(tokens.RefreshToken)} {
		for how, got := range map[string]authztest.Tokens{
			"no proof":              post(t, s, "/token", form),
			"no proof, Bearer":      post(t, s, "/token", with(form, "token_type", "Bearer")),
			"an empty proof":        post(t, s, "/token", form, "DPoP", ""),
			"no nonce":              post(t, s, "/token", form, "DPoP", proof(nil)),
			"a made-up nonce":       post(t, s, "/token", form, "DPoP", proof(map[string]any{"nonce": strings.Repeat("A", 32)})),
			"the nonce in the form": post(t, s, "/token", with(form, "nonce", nonce), "DPoP", proof(nil)),
		} {
			if got.Status != http.StatusBadRequest || got.Error != "invalid_dpop_proof" && got.Error != "use_dpop_nonce" || got.AccessToken != "" {
				t.Errorf("%s, %s: %+v", name, how, got)
			}
		}
	}
	if got := app.Redeem(unbound); got.TokenType != "DPoP" || jktOf(t, got) != key.JKT {
		t.Errorf("the code was burnt: %+v", got)
	}
	if got := app.Refresh(tokens.RefreshToken); got.TokenType != "DPoP" || jktOf(t, got) != key.JKT {
		t.Errorf("the refresh token was burnt: %+v", got)
	}
	// Userinfo.
	for _, scheme := range []string{"Bearer", "bearer", "DPoP"} {
		if status, _ := userInfo(t, s, scheme, tokens.AccessToken); status != http.StatusUnauthorized {
			t.Errorf("userinfo as %s: %d", scheme, status)
		}
	}
	if status, challenge := userInfo(t, s, "DPoP", tokens.AccessToken, "DPoP", proofFor(s, key, tokens.AccessToken)); status != http.StatusUnauthorized || !strings.Contains(challenge, "use_dpop_nonce") {
		t.Errorf("userinfo without a nonce: %d %s", status, challenge)
	}
	if status, _ := userInfo(t, s, "DPoP", tokens.AccessToken, "DPoP", key.Proof("GET", s.URL+"/userinfo", map[string]any{"ath": authztest.ATH(tokens.AccessToken), "nonce": nonce})); status != http.StatusOK {
		t.Errorf("the honest question: %d", status)
	}
	if after := leftBehind(t, s); after.grants != before.grants+1 { // the unbound code's
		t.Errorf("left behind: %+v, before %+v", after, before)
	}
}

// TestWhatWasBearerEndsWithTheProfile: once a client must prove its key, what
// it had as a bearer is worth nothing at the server, and comes to life by no
// proof.
func TestWhatWasBearerEndsWithTheProfile(t *testing.T) {
	s := authztest.New(t)
	active := introspecting(t, s)
	tokens := s.SignIn("alice")
	if !active(tokens.AccessToken) || s.UserInfo(tokens.AccessToken) != http.StatusOK {
		t.Fatal("the honest token fails")
	}
	c, secret := secretive(t, s)
	own := post(t, s, "/token", url.Values{"grant_type": {"client_credentials"}}, "Authorization", basic("secretive", secret)).AccessToken
	if !active(own) {
		t.Fatal("the client's own token fails")
	}
	s.UpdateClient(func(c *clients.Client) { c.RequireDPoP = true })
	c, err := s.Store.Client(t.Context(), c.ID)
	check(t, err)
	c.RequireDPoP = true
	check(t, s.Store.UpdateClient(t.Context(), c))
	if status := s.UserInfo(tokens.AccessToken); status != http.StatusUnauthorized {
		t.Errorf("a bearer token at userinfo: %d", status)
	}
	key := s.Key()
	if status, _ := userInfo(t, s, "DPoP", tokens.AccessToken, "DPoP", proofFor(s, key, tokens.AccessToken)); status != http.StatusUnauthorized {
		t.Errorf("a bearer token with a proof: %d", status)
	}
	if active(tokens.AccessToken) || active(own) {
		t.Error("a bearer token is active")
	}
	for name, app := range map[string]*authztest.Server{"no proof": s, "a proof": s.With(key)} {
		if got := app.Refresh(tokens.RefreshToken); got.Status == http.StatusOK {
			t.Errorf("an unbound refresh token with %s: %+v", name, got)
		}
	}
	if bound := s.With(key).SignIn("alice"); !active(bound.AccessToken) {
		t.Error("a new login fails")
	}
}

// TestProfileBackAndForth: who turns the profile off does not free what is
// bound.
func TestProfileBackAndForth(t *testing.T) {
	s, app, key := hardened(t)
	tokens := app.Redeem(finish(s.Browser(), app.Push().RequestURI).Answer().Get("code"))
	s.UpdateClient(func(c *clients.Client) { c.Profile = "" })
	if got := s.Refresh(tokens.RefreshToken); got.Error != "invalid_dpop_proof" {
		t.Errorf("without a proof: %+v", got)
	}
	if got := s.With(s.Key()).Refresh(tokens.RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("with another key: %+v", got)
	}
	if status := s.UserInfo(tokens.AccessToken); status != http.StatusUnauthorized {
		t.Errorf("as Bearer: %d", status)
	}
	if got := app.Refresh(tokens.RefreshToken); got.Status != http.StatusOK || jktOf(t, got) != key.JKT {
		t.Errorf("the app: %+v", got)
	}
}

// TestFAPISecurityProfile: what FAPI 2.0 asks of a server, with a client that
// authenticates by private_key_jwt and binds by DPoP, attacked clause by
// clause. The numbers are of the Security Profile (final), §5.3.2.
func TestFAPISecurityProfile(t *testing.T) {
	s := authztest.New(t)
	c, signer := backend(s, func(c *clients.Client) { c.Profile, c.OptionalPKCE = clients.Hardened, true })
	key := s.Key()
	nonce := ""
	ask := func(path string, form url.Values, k *authztest.Key, changes map[string]any) authztest.Tokens {
		t.Helper()
		claims := map[string]any{"nonce": nonce}
		for name, v := range changes {
			claims[name] = v
		}
		got := post(t, s, path, signer.Sign(form, c.ID, nil), "DPoP", k.Proof("POST", s.URL+path, claims))
		nonce = got.Header.Get("DPoP-Nonce")
		return got
	}
	var pushed struct {
		URI     string `json:"request_uri"`
		Expires int    `json:"expires_in"`
	}
	push := func(changes ...string) string {
		t.Helper()
		form := signer.Sign(s.Authorization(ofBackend(changes...)...), c.ID, nil)
		body := s.Body(request(t, "POST", s.URL+"/par", form, "DPoP", key.Proof("POST", s.URL+"/par", map[string]any{"nonce": nonce})))
		pushed.URI = ""
		check(t, json.Unmarshal([]byte(body), &pushed))
		return pushed.URI
	}
	if got := ask("/par", s.Authorization(ofBackend()...), key, nil); got.Error != "use_dpop_nonce" || nonce == "" {
		t.Fatalf("without a nonce: %+v", got)
	}
	b := s.Browser()
	login := func(uri string) string { return finish(b, uri, "client_id", "backend").Answer().Get("code") }
	code := login(push())
	if code == "" || pushed.Expires >= 600 {
		t.Fatalf("the honest push: %+v", pushed)
	}
	redeem := func(code string, k *authztest.Key, changes ...string) authztest.Tokens {
		return ask("/token", with(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {authztest.Verifier}}, changes...), k, nil)
	}

	// Only pushed, only by the client, only with PKCE by S256 (§5.3.2.2).
	if a := b.Authorize(ofBackend()...).Answer(); a.Get("error") != "invalid_request" {
		t.Errorf("not pushed: %v", a)
	}
	if got := post(t, s, "/par", s.Authorization(ofBackend()...)); got.Error != "invalid_client" {
		t.Errorf("pushed by nobody: %+v", got)
	}
	for name, changes := range map[string][]string{
		"no PKCE": {"code_challenge", "", "code_challenge_method", ""}, "plain": {"code_challenge_method", "plain"},
		"no redirect_uri": {"redirect_uri", ""}, "another redirect_uri": {"redirect_uri", "https://app.example.com/callback/x"}, "http": {"redirect_uri", "http://app.example.com/callback"},
		"an implicit answer": {"response_type", "code token"}, "a request object": {"request", "x"},
	} {
		if uri := push(changes...); uri != "" {
			t.Errorf("%s: pushed", name)
		}
	}
	// The audience of the assertion is the issuer, as one string.
	for name, aud := range map[string]any{"/par": s.URL + "/par", "/token": s.URL + "/token", "a list": []string{s.URL}} {
		form := signer.Sign(s.Authorization(ofBackend()...), c.ID, map[string]any{"aud": aud})
		if got := post(t, s, "/par", form, "DPoP", key.Proof("POST", s.URL+"/par", map[string]any{"nonce": nonce})); got.Error != "invalid_client" {
			t.Errorf("aud %s: %+v", name, got)
		}
	}
	// The code: bound to the key that pushed, and to the client; 60 s; once.
	if got := redeem(code, s.Key()); got.Error != "invalid_grant" {
		t.Errorf("another key: %+v", got)
	}
	if got := post(t, s, "/token", signer.Sign(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {authztest.Verifier}}, c.ID, nil)); got.AccessToken != "" || got.Error != "invalid_dpop_proof" {
		t.Errorf("no proof: %+v", got)
	}
	tokens := redeem(code, key)
	if tokens.TokenType != "DPoP" || jktOf(t, tokens) != key.JKT || tokens.RefreshToken == "" {
		t.Fatalf("the honest exchange: %+v", tokens)
	}
	late := login(push())
	s.Clock.Advance(60 * time.Second)
	if got := redeem(late, key); got.Error != "invalid_grant" {
		t.Errorf("after 60 s: %+v", got)
	}
	// No rotation: a client that lost an answer is not logged out, ever so
	// late; and never a bearer token.
	for range 3 {
		s.Clock.Advance(time.Hour)
		nonce = ask("/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}, key, nil).Header.Get("DPoP-Nonce")
		got := ask("/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.RefreshToken}}, key, nil)
		if got.TokenType != "DPoP" || got.RefreshToken != tokens.RefreshToken {
			t.Errorf("a refresh: %+v", got)
		}
	}
	// Clocks: 10 s ahead is taken, a minute is not (§5.3.2.1).
	for ahead, want := range map[int64]string{9: "", 61: "invalid_client"} {
		form := signer.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, map[string]any{"iat": s.Clock.Now().Unix() + ahead, "nbf": s.Clock.Now().Unix() + ahead, "exp": s.Clock.Now().Unix() + 120})
		if got := post(t, s, "/token", form, "DPoP", key.Proof("POST", s.URL+"/token", map[string]any{"nonce": nonce, "iat": s.Clock.Now().Unix() + min(ahead, 10)})); got.Error != want {
			t.Errorf("%d s ahead: %+v", ahead, got)
		}
	}
	// Not even a nonce stands in for the clock of a proof that is so far ahead.
	for ahead, want := range map[int64]string{-3600: "", 9: "", 60: "", 61: "invalid_dpop_proof", 86400: "invalid_dpop_proof"} {
		if got := ask("/token", url.Values{"grant_type": {"client_credentials"}}, key, map[string]any{"iat": s.Clock.Now().Unix() + ahead}); got.Error != want {
			t.Errorf("a proof %d s ahead: %+v", ahead, got)
		}
	}
	// The machine's own token is bound, too.
	if got := ask("/token", url.Values{"grant_type": {"client_credentials"}}, key, nil); got.TokenType != "DPoP" || jktOf(t, got) != key.JKT {
		t.Errorf("the machine's own: %+v", got)
	}
	if got := post(t, s, "/token", signer.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, nil)); got.AccessToken != "" {
		t.Errorf("the machine's own as a bearer: %+v", got)
	}
	// A second code for the same push, and the first one again.
	uri := push()
	once := login(uri)
	if p := b.Visit(uri, "client_id", "backend"); once == "" || !isRefusedHere(p) {
		t.Errorf("the request_uri again: %d %s", p.StatusCode, p.Header.Get("Location"))
	}
	if got := redeem(once, key); got.Status != http.StatusOK {
		t.Errorf("its code: %+v", got)
	}
	if got := redeem(once, key); got.Error != "invalid_grant" || got.AccessToken != "" {
		t.Errorf("its code again: %+v", got)
	}
}
