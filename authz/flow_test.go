package authz_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage/storagetest"
)

func TestChecks(t *testing.T) {
	s := authztest.New(t)
	pushes := s.Client
	pushes.ID, pushes.RequirePAR = "pushes", true
	s.AddClient(pushes)
	b := s.Browser()
	b.Code("alice") // signed in: what fails, fails by its check alone
	for _, c := range authz.FailingCases {
		p := b.Get("/authorize?" + s.Authorization(c.Changes...).Encode())
		if c.Error == "" {
			if p.StatusCode != http.StatusBadRequest || p.Header.Get("Location") != "" || !strings.Contains(p.Body, "name this request") {
				t.Errorf("%s %.40q: %d %s", c.Check, c.Changes, p.StatusCode, p.Header.Get("Location"))
			}
			continue
		}
		if got := p.Answer(); got.Get("error") != c.Error || got.Get("iss") != s.URL {
			t.Errorf("%s %.40q: %d %v, %s expected", c.Check, c.Changes, p.StatusCode, got, c.Error)
		}
	}
}

func TestPromptAndMaxAge(t *testing.T) {
	s := authztest.New(t)
	b := s.Browser()
	if a := b.Authorize("prompt", "none").Answer(); a.Get("error") != "login_required" {
		t.Errorf("prompt=none without a session: %v", a)
	}
	tokens := s.Redeem(b.Code("alice"))
	signedIn := s.Clock.Now()
	s.Clock.Advance(time.Minute)
	asks := func(changes ...string) bool {
		t.Helper()
		p := b.Authorize(changes...)
		if p.StatusCode == http.StatusOK && strings.Contains(p.Body, `name="password"`) {
			return true
		}
		if p.Answer().Get("code") == "" {
			t.Errorf("%v: %d %s", changes, p.StatusCode, p.Header.Get("Location"))
		}
		return false
	}
	for _, c := range []struct {
		changes []string
		asks    bool
	}{
		{nil, false},
		{[]string{"prompt", "none"}, false},
		{[]string{"prompt", "login"}, true},
		{[]string{"prompt", "select_account"}, true},
		{[]string{"max_age", "0"}, true},
		{[]string{"max_age", "59"}, true},
		{[]string{"max_age", "60"}, false},
		{[]string{"max_age", "3600"}, false},
		{[]string{"id_token_hint", tokens.IDToken}, false},
		{[]string{"id_token_hint", tokens.IDToken, "prompt", "none"}, false},
		{[]string{"acr_values", "urn:unknown urn:solegate:acr:password"}, false},
	} {
		if got := asks(c.changes...); got != c.asks {
			t.Errorf("%.60q: asks %t, %t expected", c.changes, got, c.asks)
		}
	}
	for _, changes := range [][]string{{"max_age", "0", "prompt", "none"}, {"max_age", "10", "prompt", "none"}} {
		if a := b.Authorize(changes...).Answer(); a.Get("error") != "login_required" {
			t.Errorf("%v: %v", changes, a)
		}
	}
	// A login that was asked for ends: it is not asked for again.
	for _, changes := range [][]string{{"max_age", "0"}, {"prompt", "login"}} {
		p := b.SignIn(b.Authorize(changes...), "alice", authztest.Password)
		fresh := s.Redeem(p.Answer().Get("code"))
		if at := authztest.Claims(t, fresh.IDToken)["auth_time"]; at != float64(s.Clock.Now().Unix()) || s.Clock.Now().Equal(signedIn) {
			t.Errorf("%v: auth_time %v", changes, at)
		}
		if acr := authztest.Claims(t, fresh.IDToken)["acr"]; acr != "urn:solegate:acr:password" {
			t.Errorf("acr %v", acr)
		}
	}
}

func TestIDTokenHintOfSomebodyElse(t *testing.T) {
	s := authztest.New(t)
	s.AddUser("bob")
	s.Clock.Advance(time.Second)
	alice := s.SignIn("alice")
	b := s.Browser()
	b.Code("bob")
	if a := b.Authorize("prompt", "none", "id_token_hint", alice.IDToken).Answer(); a.Get("error") != "login_required" {
		t.Errorf("silently: %v", a)
	}
	p := b.Authorize("id_token_hint", alice.IDToken)
	if p.StatusCode != http.StatusOK {
		t.Fatalf("no login page: %d", p.StatusCode)
	}
	if a := b.SignIn(p, "bob", authztest.Password).Answer(); a.Get("error") != "login_required" || a.Get("code") != "" {
		t.Errorf("the wrong person signed in: %v", a)
	}
	if a := b.SignIn(b.Authorize("id_token_hint", alice.IDToken), "alice", authztest.Password).Answer(); a.Get("code") == "" {
		t.Errorf("the right person signed in: %v", a)
	}
	if a := b.Authorize("id_token_hint", alice.AccessToken).Answer(); a.Get("error") != "invalid_request" {
		t.Errorf("an access token as the hint: %v", a)
	}
}

func TestConsent(t *testing.T) {
	s := authztest.New(t)
	c, _ := s.Store.Client(t.Context(), "spa")
	c.Consent = true
	if err := s.Store.UpdateClient(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	b := s.Browser()
	decide := func(p authztest.Page, decision string) authztest.Page {
		t.Helper()
		if !strings.Contains(p.Body, "Allow Orders?") {
			t.Fatalf("no consent page: %d %s", p.StatusCode, p.Header.Get("Location"))
		}
		form := p.Form()
		form.Set("decision", decision)
		return b.Follow(b.Post("/consent", form))
	}
	p := b.SignIn(b.Authorize("scope", "openid"), "alice", authztest.Password)
	if a := decide(p, "deny").Answer(); a.Get("error") != "access_denied" {
		t.Errorf("denied: %v", a)
	}
	if a := b.Authorize("scope", "openid", "prompt", "none").Answer(); a.Get("error") != "consent_required" {
		t.Errorf("prompt=none: %v", a)
	}
	if a := decide(b.Authorize("scope", "openid"), "allow").Answer(); a.Get("code") == "" {
		t.Errorf("allowed: %v", a)
	}
	if a := b.Authorize("scope", "openid", "prompt", "none").Answer(); a.Get("code") == "" {
		t.Errorf("it was not remembered: %v", a)
	}
	if a := b.Authorize("scope", "openid notes:read", "prompt", "none").Answer(); a.Get("error") != "consent_required" {
		t.Errorf("more than was allowed: %v", a)
	}
	if a := decide(b.Authorize("scope", "openid", "prompt", "consent"), "allow").Answer(); a.Get("code") == "" {
		t.Errorf("prompt=consent: %v", a)
	}
}

func TestUserinfo(t *testing.T) {
	s := authztest.New(t)
	ask := func(method, token string) (int, map[string]any, http.Header) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL+"/userinfo", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var claims map[string]any
		json.NewDecoder(resp.Body).Decode(&claims)
		return resp.StatusCode, claims, resp.Header
	}
	alice := s.User("alice")
	all := s.SignIn("alice")
	_, claims, _ := ask("GET", all.AccessToken)
	want := map[string]any{"sub": string(alice.ID), "name": "Alice", "preferred_username": "alice", "updated_at": float64(alice.UpdatedAt.Unix()), "email": "alice@example.com", "email_verified": true}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if status, claims, _ := ask("POST", s.SignIn("alice", "scope", "openid").AccessToken); status != 200 || len(claims) != 1 {
		t.Errorf("with openid alone: %d %v", status, claims)
	}
	if status, _, h := ask("GET", s.SignIn("alice", "scope", "notes:read").AccessToken); status != 403 || !strings.Contains(h.Get("WWW-Authenticate"), `error="insufficient_scope"`) {
		t.Errorf("without openid: %d %v", status, h)
	}
	if status, _, h := ask("GET", ""); status != 401 || h.Get("WWW-Authenticate") != `Bearer realm="solegate"` {
		t.Errorf("without a token: %d %v", status, h)
	}
	for _, bad := range []string{all.IDToken, all.RefreshToken, all.AccessToken + "x"} {
		if status, _, h := ask("GET", bad); status != 401 || !strings.Contains(h.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("a bad token: %d %v", status, h)
		}
	}
	s.Clock.Advance(5 * time.Minute)
	if status, _, _ := ask("GET", all.AccessToken); status != 401 {
		t.Errorf("an expired token: %d", status)
	}
}

func TestIntrospection(t *testing.T) {
	s := authztest.New(t)
	rs := clients.ResourceServer{ID: "api", Audience: authztest.Audience}
	secret, err := rs.NewSecret(strings.NewReader(strings.Repeat("x", 32)))
	if err != nil {
		t.Fatal(err)
	}
	other := clients.ResourceServer{ID: "reports", Audience: "https://reports.example.com"}
	otherSecret, _ := other.NewSecret(strings.NewReader(strings.Repeat("y", 32)))
	for _, r := range []clients.ResourceServer{rs, other} {
		if err := s.Store.CreateResourceServer(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(id, secret, token string) (int, map[string]any) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/introspect", strings.NewReader(url.Values{"token": {token}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if id != "" {
			r.SetBasicAuth(id, secret)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var answer map[string]any
		json.NewDecoder(resp.Body).Decode(&answer)
		return resp.StatusCode, answer
	}
	tokens := s.SignIn("alice")
	status, got := ask("api", secret, tokens.AccessToken)
	if status != 200 || got["active"] != true || got["sub"] != string(s.User("alice").ID) || got["aud"] != authztest.Audience || got["client_id"] != "spa" || got["username"] != "alice" || got["token_type"] != "Bearer" {
		t.Errorf("%d %v", status, got)
	}
	inactive := func(what string, status int, got map[string]any) {
		t.Helper()
		if status != 200 || got["active"] != false || len(got) != 1 {
			t.Errorf("%s: %d %v", what, status, got)
		}
	}
	for what, token := range map[string]string{"refresh token": tokens.RefreshToken, "ID token": tokens.IDToken, "garbage": "x"} {
		status, got := ask("api", secret, token)
		inactive(what, status, got)
	}
	status, got = ask("reports", otherSecret, tokens.AccessToken)
	inactive("another audience", status, got)
	for what, c := range map[string][2]string{"nobody": {"", ""}, "wrong secret": {"api", otherSecret}, "unknown": {"x", secret}, "client id": {"spa", ""}, "empty secret": {"api", ""}} {
		if status, got := ask(c[0], c[1], tokens.AccessToken); status != 401 || got["error"] != "invalid_client" {
			t.Errorf("%s: %d %v", what, status, got)
		}
	}
	s.PostForm("/revoke", url.Values{"client_id": {"spa"}, "token": {tokens.RefreshToken}})
	status, got = ask("api", secret, tokens.AccessToken)
	inactive("revoked", status, got)
}

func TestRevocation(t *testing.T) {
	s := authztest.New(t)
	c := s.Client
	c.ID = "other"
	if err := s.Store.CreateClient(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	revoke := func(client, token string) authztest.Tokens {
		t.Helper()
		return s.PostForm("/revoke", url.Values{"client_id": {client}, "token": {token}, "token_type_hint": {"unknown"}})
	}
	tokens := s.SignIn("alice")
	for what, token := range map[string]string{"garbage": "x", "ID token": tokens.IDToken} {
		if got := revoke("spa", token); got.Status != 200 || !strings.HasPrefix(got.Header.Get("Content-Type"), "application/json") {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if got := revoke("other", tokens.RefreshToken); got.Status != 200 || s.UserInfo(tokens.AccessToken) != 200 {
		t.Error("another client revoked the token")
	}
	if got := revoke("spa", ""); got.Error != "invalid_request" {
		t.Errorf("no token: %+v", got)
	}
	next := s.Refresh(tokens.RefreshToken)
	if got := revoke("spa", tokens.RefreshToken); got.Status != 200 || s.UserInfo(next.AccessToken) != 401 || s.Refresh(next.RefreshToken).Error != "invalid_grant" {
		t.Errorf("a past token of the family: %+v", got)
	}
	byAccess := s.SignIn("alice")
	if got := revoke("spa", byAccess.AccessToken); got.Status != 200 || s.UserInfo(byAccess.AccessToken) != 401 || s.Refresh(byAccess.RefreshToken).Error != "invalid_grant" {
		t.Errorf("an access token: %+v", got)
	}
	// Never 200 while the token works on.
	live := s.SignIn("alice")
	broken := s.Replica(func(c *authz.Config) {
		c.Store = storagetest.WithFaults(s.Store, func(write string) storagetest.Outcome { return storagetest.Outcome{Fail: write == "RevokeGrant"} })
	})
	if got := broken.PostForm("/revoke", url.Values{"client_id": {"spa"}, "token": {live.RefreshToken}}); got.Status != http.StatusServiceUnavailable {
		t.Errorf("with the store down: %+v", got)
	}
}

func TestMetadataAndKeys(t *testing.T) {
	s := authztest.New(t)
	get := func(path string, header ...string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	_, openid := get("/.well-known/openid-configuration")
	_, oauth := get("/.well-known/oauth-authorization-server")
	if openid != oauth {
		t.Error("the two metadata documents differ")
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(oauth), &m); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"issuer": s.URL, "jwks_uri": s.URL + "/jwks", "authorization_response_iss_parameter_supported": true,
		"response_types_supported": []any{"code"}, "code_challenge_methods_supported": []any{"S256"}, "grant_types_supported": []any{"authorization_code", "client_credentials", "refresh_token"},
		"pushed_authorization_request_endpoint": s.URL + "/par", "require_pushed_authorization_requests": false,
		"dpop_signing_alg_values_supported":                []any{"ES256", "PS256", "EdDSA", "Ed25519"},
		"token_endpoint_auth_methods_supported":            []any{"none", "client_secret_basic", "private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": []any{"ES256", "PS256", "EdDSA", "Ed25519"},
		"request_uri_parameter_supported":                  false, "request_parameter_supported": false,
	} {
		if diff := cmp.Diff(want, m[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for name, v := range m {
		if path, ok := strings.CutPrefix(stringOf(v), s.URL+"/"); ok && strings.HasSuffix(name, "_endpoint") {
			if resp, _ := get("/" + path); resp.StatusCode == http.StatusNotFound {
				t.Errorf("%s is not there", name)
			}
		}
	}
	for _, path := range []string{"/jwks", "/.well-known/openid-configuration"} {
		resp, _ := get(path)
		etag := resp.Header.Get("ETag")
		if resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(resp.Header.Get("Cache-Control"), "max-age=300") || etag == "" {
			t.Errorf("%s: %v", path, resp.Header)
		}
		if resp, body := get(path, "If-None-Match", etag); resp.StatusCode != http.StatusNotModified || body != "" {
			t.Errorf("%s again: %d %q", path, resp.StatusCode, body)
		}
	}
}

func stringOf(v any) string {
	s, _ := v.(string)
	return s
}

func TestReadyTellsOfTheStore(t *testing.T) {
	s := authztest.New(t)
	status := func(path string) int {
		t.Helper()
		resp, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if status("/livez") != 200 || status("/readyz") != 200 {
		t.Error("not alive and ready")
	}
	s.Store.Close()
	if status("/livez") != 200 || status("/readyz") != 503 {
		t.Error("without the store: alive, but not ready, expected")
	}
}

func TestConfigIsChecked(t *testing.T) {
	for issuer, want := range map[string]bool{
		"https://login.example.com": true, "http://127.0.0.1:8080": true, "http://localhost:1": true,
		"": false, "http://login.example.com": false, "https://login.example.com/": false, "https://login.example.com/path": false, "https://Login.example.com": false,
		"https://login.example.com?x": false, "https://user@login.example.com": false, "login.example.com": false, "ftp://login.example.com": false,
	} {
		c := authz.Config{Issuer: issuer, Development: true}
		if got := len(c.Problems()) == 0; got != want {
			t.Errorf("%q: %v", issuer, c.Problems())
		}
	}
	c := authz.Config{Issuer: "https://a.example", AccessTokenAlg: "HS256", Lifetimes: authz.Lifetimes{Code: time.Hour, AccessToken: 2 * time.Hour, Login: -1}}
	if n := len(c.Problems()); n != 4 {
		t.Errorf("%d problems, 4 expected: %v", n, c.Problems())
	}
}

// TestPrefetchDoesNothing: a browser that fetches a page ahead has no click of
// the person's for it.
func TestPrefetchDoesNothing(t *testing.T) {
	s := authztest.New(t)
	b := s.Browser()
	tokens := s.Redeem(b.Code("alice"))
	for _, path := range []string{"/authorize?" + s.Authorization().Encode(), "/logout?id_token_hint=" + tokens.IDToken} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Sec-Purpose", "prefetch;prerender")
		if p := b.Send(r, "none"); p.StatusCode != http.StatusForbidden || p.Header.Get("Location") != "" {
			t.Errorf("%.10s: %d %s", path, p.StatusCode, p.Header.Get("Location"))
		}
	}
	if p := b.Authorize("prompt", "none"); p.Answer().Get("code") == "" {
		t.Error("the person was signed out ahead of the click")
	}
}
