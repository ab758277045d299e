package authz_test

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
)

// backend registers a confidential client for the changes.
func backend(t *testing.T, s *authztest.Server, change func(*clients.Client)) (clients.Client, *authztest.Signer) {
	t.Helper()
	signer := s.Signer()
	c := clients.Client{
		ID: "backend", AuthMethod: clients.PrivateKeyJWT, JWKS: signer.JWKS,
		RedirectURIs: []clients.RedirectURI{"https://app.example.com/callback"},
		Audiences:    []string{authztest.Audience},
		Scopes:       []string{"openid", "offline_access", "notes:read"},
		GrantTypes:   []string{"authorization_code", "refresh_token", "client_credentials"},
	}
	if change != nil {
		change(&c)
	}
	return s.AddClient(c), signer
}

func asks(form url.Values, changes ...string) url.Values {
	for i := 0; i < len(changes); i += 2 {
		form.Set(changes[i], changes[i+1])
	}
	return form
}

func TestClientCredentials(t *testing.T) {
	s := authztest.New(t)
	c, signer := backend(t, s, nil)
	form := func(changes ...string) url.Values {
		return signer.Sign(asks(url.Values{"grant_type": {"client_credentials"}}, changes...), c.ID, nil)
	}
	got := postWith(t, s, "/token", form())
	if got.Status != http.StatusOK || got.TokenType != "Bearer" || got.Scope != "notes:read" || got.RefreshToken != "" || got.IDToken != "" {
		t.Fatalf("got %+v", got)
	}
	claims := authztest.Claims(t, got.AccessToken)
	if claims["sub"] != "backend" || claims["client_id"] != "backend" || claims["aud"] != authztest.Audience || claims["grant_id"] != nil || claims["sid"] != nil || claims["auth_time"] != nil {
		t.Errorf("claims %v", claims)
	}
	key := s.Key()
	if bound := s.With(key).PostForm("/token", form()); bound.Status == http.StatusOK {
		t.Error("a backend has no origin, and a browser's page may not ask for it")
	}
	bound := postWith(t, s, "/token", form(), "DPoP", key.Proof("POST", s.URL+"/token", nil))
	if bound.TokenType != "DPoP" || jktOf(t, bound) != key.JKT {
		t.Errorf("with a proof: %+v", bound)
	}
	for name, c := range map[string]struct {
		form  url.Values
		error string
	}{
		"a scope about a person": {form("scope", "openid"), "invalid_scope"},
		"a foreign scope":        {form("scope", "notes:write"), "invalid_scope"},
		"a foreign resource":     {form("resource", "https://other.example"), "invalid_target"},
		"a public client":        {url.Values{"grant_type": {"client_credentials"}, "client_id": {"spa"}}, "unauthorized_client"},
		"no credential":          {url.Values{"grant_type": {"client_credentials"}, "client_id": {"backend"}}, "invalid_client"},
	} {
		if got := postWith(t, s, "/token", c.form); got.Error != c.error {
			t.Errorf("%s: %+v, %s expected", name, got, c.error)
		}
	}
	// It ends with the client, and stays ended.
	rs, secret := addResourceServer(t, s)
	if active := introspect(t, s, rs, secret, got.AccessToken); !active {
		t.Fatal("the token is not active")
	}
	if err := s.Revoker.DisableClient(t.Context(), "backend"); err != nil {
		t.Fatal(err)
	}
	if introspect(t, s, rs, secret, got.AccessToken) {
		t.Error("a disabled client's token is active")
	}
	if err := s.Revoker.EnableClient(t.Context(), "backend"); err != nil {
		t.Fatal(err)
	}
	if introspect(t, s, rs, secret, got.AccessToken) {
		t.Error("a token of before the client was disabled is active")
	}
}

func addResourceServer(t *testing.T, s *authztest.Server) (clients.ID, string) {
	t.Helper()
	rs := clients.ResourceServer{ID: "notes-api", Audience: authztest.Audience}
	secret, err := rs.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Store.CreateResourceServer(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
	return rs.ID, secret
}

func introspect(t *testing.T, s *authztest.Server, rs clients.ID, secret, token string) bool {
	t.Helper()
	return strings.Contains(introspection(t, s, url.Values{"token": {token}}, "Authorization", basic(rs, secret)), `"active":true`)
}

func introspection(t *testing.T, s *authztest.Server, form url.Values, headers ...string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/introspect", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return s.Body(r)
}

func basic(id clients.ID, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(string(id))+":"+url.QueryEscape(secret)))
}

// TestAssertion: what RFC 7523 §3 and RFC 10070 ask of an assertion.
func TestAssertion(t *testing.T) {
	s := authztest.New(t)
	c, signer := backend(t, s, nil)
	ask := func(changes map[string]any) authztest.Tokens {
		t.Helper()
		return postWith(t, s, "/token", signer.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, changes))
	}
	if got := ask(nil); got.Status != http.StatusOK {
		t.Fatalf("a good one: %+v", got)
	}
	now := s.Clock.Now()
	for name, changes := range map[string]map[string]any{
		"the token endpoint as audience": {"aud": s.URL + "/token"},
		"a list of audiences":            {"aud": []string{s.URL}},
		"two audiences":                  {"aud": []string{s.URL, "https://other.example"}},
		"no audience":                    {"aud": nil},
		"another issuer":                 {"iss": "spa"},
		"another subject":                {"sub": "spa"},
		"no jti":                         {"jti": nil},
		"no exp":                         {"exp": nil},
		"expired":                        {"exp": now.Unix()},
		"far ahead":                      {"exp": now.Add(time.Hour).Unix()},
		"issued in the future":           {"iat": now.Add(time.Minute).Unix()},
		"not valid yet":                  {"nbf": now.Add(time.Minute).Unix()},
	} {
		if got := ask(changes); got.Error != "invalid_client" || got.AccessToken != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	form := signer.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, nil)
	if got := postWith(t, s, "/token", form); got.Status != http.StatusOK {
		t.Fatalf("once: %+v", got)
	}
	if got := postWith(t, s, "/token", form); got.Error != "invalid_client" {
		t.Errorf("twice: %+v", got)
	}
	if got := postWith(t, s.Replica(), "/token", form); got.Error != "invalid_client" {
		t.Errorf("at another server: %+v", got)
	}
	stranger := s.Signer()
	if got := postWith(t, s, "/token", stranger.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, nil)); got.Error != "invalid_client" {
		t.Errorf("another key: %+v", got)
	}
	two := signer.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, nil)
	if got := postWith(t, s, "/token", two, "Authorization", basic(c.ID, "x")); got.Error != "invalid_request" {
		t.Errorf("two credentials: %+v", got)
	}
	if log := s.Log.String(); strings.Contains(log, form.Get("client_assertion")) {
		t.Error("an assertion is in the log")
	}
}

func TestSecret(t *testing.T) {
	s := authztest.New(t)
	var secret string
	c, _ := backend(t, s, func(c *clients.Client) {
		c.AuthMethod, c.JWKS = clients.SecretBasic, nil
		var err error
		if secret, err = c.NewSecret(rand.Reader); err != nil {
			t.Fatal(err)
		}
	})
	form := url.Values{"grant_type": {"client_credentials"}}
	if got := postWith(t, s, "/token", form, "Authorization", basic(c.ID, secret)); got.Status != http.StatusOK {
		t.Fatalf("the secret: %+v", got)
	}
	for name, c := range map[string]struct {
		form    url.Values
		headers []string
		status  int
	}{
		"a wrong secret":        {form, []string{"Authorization", basic(c.ID, secret+"x")}, 401},
		"no secret":             {form, []string{"Authorization", basic(c.ID, "")}, 401},
		"another client":        {asks(url.Values{"client_id": {"spa"}}, "grant_type", "client_credentials"), []string{"Authorization", basic(c.ID, secret)}, 401},
		"in the body":           {url.Values{"grant_type": {"client_credentials"}, "client_id": {"backend"}, "client_secret": {secret}}, nil, 400},
		"an unknown client":     {form, []string{"Authorization", basic("nobody", secret)}, 401},
		"a public client":       {form, []string{"Authorization", basic("spa", secret)}, 401},
		"not a credential":      {form, []string{"Authorization", "Basic x"}, 401},
		"a token as credential": {form, []string{"Authorization", "Bearer x"}, 401},
	} {
		got := postWith(t, s, "/token", c.form, c.headers...)
		if got.Status != c.status || got.Error != "invalid_client" {
			t.Errorf("%s: %+v, %d expected", name, got, c.status)
		}
		if got.Status == 401 && got.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: 401 without a challenge", name)
		}
	}
	if strings.Contains(s.Log.String(), secret) {
		t.Error("the secret is in the log")
	}
	// A secret that was replaced is worth nothing at once, also where a request
	// says that it is of a kind for which the client may be remembered.
	push := asks(s.Authorization("client_id", "backend", "redirect_uri", "https://app.example.com/callback", "scope", "openid"), "grant_type", "refresh_token")
	if got := postWith(t, s, "/par", push, "Authorization", basic(c.ID, secret)); got.Status != http.StatusCreated {
		t.Fatalf("pushed: %+v", got)
	}
	now, err := s.Store.Client(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := now.NewSecret(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if err := s.Store.UpdateClient(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if got := postWith(t, s, "/token", form, "Authorization", basic(c.ID, secret)); got.Error != "invalid_client" {
		t.Errorf("the old secret: %+v", got)
	}
	for _, path := range []string{"/par", "/revoke"} {
		if got := postWith(t, s, path, asks(push, "token", "x"), "Authorization", basic(c.ID, secret)); got.Error != "invalid_client" {
			t.Errorf("the old secret at %s: %+v", path, got)
		}
	}
}

// TestConfidentialClientKeepsItsRefreshToken: it is bound to the client's
// credential, so it need not rotate (FAPI 2.0), and the client may come with a
// new key, but not with none.
func TestConfidentialClientKeepsItsRefreshToken(t *testing.T) {
	s := authztest.New(t)
	c, signer := backend(t, s, nil)
	code := s.Browser().Code("alice", "client_id", "backend", "redirect_uri", "https://app.example.com/callback", "scope", "openid offline_access notes:read")
	form := func(values url.Values) url.Values { return signer.Sign(values, c.ID, nil) }
	key := s.Key()
	proof := func(k *authztest.Key) string { return k.Proof("POST", s.URL+"/token", nil) }
	exchange := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {authztest.Verifier}}
	first := postWith(t, s, "/token", form(exchange), "DPoP", proof(key))
	if first.TokenType != "DPoP" || first.RefreshToken == "" {
		t.Fatalf("got %+v", first)
	}
	refresh := func() url.Values {
		return form(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first.RefreshToken}})
	}
	for range 3 {
		s.Clock.Advance(time.Hour)
		next := s.Key()
		got := postWith(t, s, "/token", refresh(), "DPoP", proof(next))
		if got.Status != http.StatusOK || got.RefreshToken != first.RefreshToken || jktOf(t, got) != next.JKT {
			t.Fatalf("with a new key: %+v", got)
		}
	}
	if got := postWith(t, s, "/token", refresh()); got.Error != "invalid_dpop_proof" {
		t.Errorf("with no key: %+v", got)
	}
	plain := url.Values{"grant_type": {"refresh_token"}, "client_id": {"backend"}, "refresh_token": {first.RefreshToken}}
	if got := postWith(t, s, "/token", plain, "DPoP", proof(key)); got.Error != "invalid_client" {
		t.Errorf("without the credential: %+v", got)
	}
}

// TestOptionalPKCE: only a confidential OpenID Connect client with a nonce may
// come without, and then no verifier fits.
func TestOptionalPKCE(t *testing.T) {
	s := authztest.New(t)
	c, signer := backend(t, s, func(c *clients.Client) { c.OptionalPKCE = true })
	b := s.Browser()
	b.Code("alice")
	base := []string{"client_id", "backend", "redirect_uri", "https://app.example.com/callback", "scope", "openid", "code_challenge", "", "code_challenge_method", ""}
	code := b.Authorize(base...).Answer().Get("code")
	if code == "" {
		t.Fatal("no code")
	}
	exchange := func(code string, changes ...string) authztest.Tokens {
		return postWith(t, s, "/token", signer.Sign(asks(url.Values{"grant_type": {"authorization_code"}, "code": {code}}, changes...), c.ID, nil))
	}
	if got := exchange(code, "code_verifier", authztest.Verifier); got.Error != "invalid_grant" {
		t.Errorf("a verifier without a challenge: %+v", got)
	}
	if got := exchange(code); got.Status != http.StatusOK || authztest.Claims(t, got.IDToken)["nonce"] != "n-0S6_WzA2Mj" {
		t.Errorf("the exchange: %+v", got)
	}
	for name, changes := range map[string][]string{
		"no nonce":       append(base[:len(base):len(base)], "nonce", ""),
		"no openid":      append(base[:len(base):len(base)], "scope", "notes:read"),
		"a plain method": append(base[:len(base):len(base)], "code_challenge_method", "plain"),
	} {
		if a := b.Authorize(changes...).Answer(); a.Get("error") != "invalid_request" {
			t.Errorf("%s: %v", name, a)
		}
	}
	if a := b.Authorize("code_challenge", "", "code_challenge_method", "").Answer(); a.Get("error") != "invalid_request" {
		t.Errorf("a public client: %v", a)
	}
	with := b.Authorize(append(base[:len(base):len(base)], "code_challenge", authztest.Challenge(authztest.Verifier), "code_challenge_method", "S256")...).Answer().Get("code")
	if got := exchange(with); got.Error != "invalid_grant" {
		t.Errorf("a challenge without a verifier: %+v", got)
	}
}

// TestResourceServerByAssertion: a resource server may have a key, too.
func TestResourceServerByAssertion(t *testing.T) {
	s := authztest.New(t)
	signer := s.Signer()
	if err := s.Store.CreateResourceServer(t.Context(), clients.ResourceServer{ID: "notes-api", Audience: authztest.Audience, AuthMethod: clients.PrivateKeyJWT, JWKS: signer.JWKS}); err != nil {
		t.Fatal(err)
	}
	token := s.With(s.Key()).SignIn("alice").AccessToken
	form := signer.Sign(url.Values{"token": {token}}, "notes-api", nil)
	answer := introspection(t, s, form)
	if !strings.Contains(answer, `"active":true`) || !strings.Contains(answer, `"token_type":"DPoP"`) || !strings.Contains(answer, `"cnf":{"jkt":"`) {
		t.Errorf("got %s", answer)
	}
	if again := introspection(t, s, form); !strings.Contains(again, "invalid_client") {
		t.Errorf("the assertion again: %s", again)
	}
	if secret := introspection(t, s, url.Values{"token": {token}}, "Authorization", basic("notes-api", "")); !strings.Contains(secret, "invalid_client") {
		t.Errorf("a secret that it has not: %s", secret)
	}
}
