package authz_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/keys"
)

func TestSignInYieldsTokens(t *testing.T) {
	s := authztest.New(t)
	got := s.SignIn("alice")
	if got.TokenType != "Bearer" || got.ExpiresIn != 300 || got.Scope != "openid profile email offline_access notes:read" || got.RefreshToken == "" {
		t.Errorf("got %+v", got)
	}
	if c := got.Header.Get("Cache-Control"); c != "no-store" {
		t.Errorf("Cache-Control %q", c)
	}

	alice, now := s.User("alice"), float64(s.Clock.Now().Unix())
	access := authztest.Claims(t, got.AccessToken)
	for _, random := range []string{"jti", "sid", "grant_id"} {
		if v, _ := access[random].(string); len(v) < 16 {
			t.Errorf("%s is %v", random, access[random])
		}
		delete(access, random)
	}
	if diff := cmp.Diff(map[string]any{
		"iss": s.URL, "sub": string(alice.ID), "aud": authztest.Audience, "client_id": "spa",
		"iat": now, "exp": now + 300, "auth_time": now, "scope": got.Scope,
		"acr": "urn:solegate:acr:password", "amr": []any{"pwd"},
	}, access); diff != "" {
		t.Errorf("access token (-want +got):\n%s", diff)
	}
	if _, err := s.Ring.Verify(got.AccessToken, "at+jwt"); err != nil {
		t.Error(err)
	}
	id := authztest.Claims(t, got.IDToken)
	for _, random := range []string{"at_hash", "sid"} {
		if v, _ := id[random].(string); len(v) < 16 {
			t.Errorf("%s is %v", random, id[random])
		}
		delete(id, random)
	}
	if diff := cmp.Diff(map[string]any{
		"iss": s.URL, "sub": string(alice.ID), "aud": "spa", "nonce": "n-0S6_WzA2Mj",
		"iat": now, "exp": now + 300, "auth_time": now, "acr": "urn:solegate:acr:password", "amr": []any{"pwd"},
	}, id); diff != "" {
		t.Errorf("ID token (-want +got):\n%s", diff)
	}
}

func TestIDTokenAlgorithmIsTheClients(t *testing.T) {
	s := authztest.New(t)
	for _, alg := range keys.Algorithms() {
		c, err := s.Store.Client(t.Context(), "spa")
		if err != nil {
			t.Fatal(err)
		}
		c.IDTokenAlg = string(alg)
		if err := s.Store.UpdateClient(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		got := s.SignIn("alice")
		if _, err := s.Ring.Verify(got.IDToken, "JWT"); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		if header := headerOf(t, got.IDToken); header["alg"] != string(alg) {
			t.Errorf("ID token is signed with %v, %s expected", header["alg"], alg)
		}
		if header := headerOf(t, got.AccessToken); header["alg"] != "ES256" {
			t.Errorf("access token is signed with %v, ES256 expected", header["alg"])
		}
	}
}

func TestRefreshRotates(t *testing.T) {
	s := authztest.New(t)
	first := s.SignIn("alice")
	s.Clock.Advance(4 * time.Minute)
	second := s.Refresh(first.RefreshToken)
	if second.Status != http.StatusOK || second.RefreshToken == first.RefreshToken || second.RefreshToken == "" {
		t.Fatalf("got %+v", second)
	}
	if second.IDToken != "" {
		t.Error("an ID token that nobody asked for")
	}
	a, b := authztest.Claims(t, first.AccessToken), authztest.Claims(t, second.AccessToken)
	if a["jti"] == b["jti"] || b["iat"].(float64)-a["iat"].(float64) != 240 || b["exp"].(float64)-a["exp"].(float64) != 240 {
		t.Errorf("claims were carried over: %v, then %v", a, b)
	}
	if a["auth_time"] != b["auth_time"] || a["grant_id"] != b["grant_id"] {
		t.Errorf("auth_time or grant_id changed: %v, then %v", a, b)
	}
	if third := s.Refresh(second.RefreshToken, "scope", second.Scope); third.Status != http.StatusOK || third.Scope != second.Scope {
		t.Errorf("a refresh that repeats the granted scopes: %+v", third)
	}
}

func TestRefreshedIDTokenHasNoNonce(t *testing.T) {
	s := authztest.New(t)
	c, _ := s.Store.Client(t.Context(), "spa")
	c.RefreshIDToken = true
	if err := s.Store.UpdateClient(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	first := s.SignIn("alice")
	second := s.Refresh(first.RefreshToken, "scope", "openid")
	if second.IDToken == "" {
		t.Fatalf("no ID token: %+v", second)
	}
	was, is := authztest.Claims(t, first.IDToken), authztest.Claims(t, second.IDToken)
	if is["nonce"] != nil || is["sub"] != was["sub"] || is["auth_time"] != was["auth_time"] || second.Scope != "openid" {
		t.Errorf("got %v", is)
	}
}

func TestResourceChoosesTheAudience(t *testing.T) {
	s := authztest.New(t)
	got := s.SignIn("alice", "resource", "https://reports.example.com")
	if aud := authztest.Claims(t, got.AccessToken)["aud"]; aud != "https://reports.example.com" {
		t.Errorf("aud is %v", aud)
	}
	if r := s.Refresh(got.RefreshToken, "resource", authztest.Audience); r.Error != "invalid_target" {
		t.Errorf("a resource that was not granted: %+v", r)
	}
	if r := s.Refresh(got.RefreshToken, "resource", "https://reports.example.com"); r.Status != http.StatusOK {
		t.Errorf("the refusal burnt the refresh token: %+v", r)
	}
	if p := s.Browser().Authorize("resource", "https://evil.example.com"); p.Answer().Get("error") != "invalid_target" {
		t.Errorf("an unregistered resource: %s", p.Header.Get("Location"))
	}
}

func TestWithoutOfflineAccessThereIsNoRefreshToken(t *testing.T) {
	s := authztest.New(t)
	got := s.SignIn("alice", "scope", "openid notes:read")
	if got.RefreshToken != "" || got.Scope != "openid notes:read" {
		t.Errorf("got %+v", got)
	}
	if status := s.UserInfo(got.AccessToken); status != http.StatusOK {
		t.Errorf("userinfo answered %d", status)
	}
}

func TestTokenRequestErrors(t *testing.T) {
	s := authztest.New(t)
	disabled := s.Client
	disabled.ID, disabled.Disabled = "disabled", true
	if err := s.Store.CreateClient(t.Context(), disabled); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		form url.Values
		code string
	}{
		{"no client", url.Values{"grant_type": {"refresh_token"}}, "invalid_request"},
		{"unknown client", url.Values{"grant_type": {"refresh_token"}, "client_id": {"nobody"}}, "invalid_client"},
		{"no grant type", url.Values{"client_id": {"spa"}}, "invalid_request"},
		{"unknown grant type", url.Values{"client_id": {"spa"}, "grant_type": {"password"}}, "unsupported_grant_type"},
		{"two grant types", url.Values{"client_id": {"spa"}, "grant_type": {"authorization_code refresh_token"}}, "unsupported_grant_type"},
		{"no code", url.Values{"client_id": {"spa"}, "grant_type": {"authorization_code"}, "code_verifier": {authztest.Verifier}}, "invalid_request"},
		{"no refresh token", url.Values{"client_id": {"spa"}, "grant_type": {"refresh_token"}}, "invalid_request"},
		{"empty refresh token", url.Values{"client_id": {"spa"}, "grant_type": {"refresh_token"}, "refresh_token": {""}}, "invalid_request"},
		{"garbage code", url.Values{"client_id": {"spa"}, "grant_type": {"authorization_code"}, "code": {"x"}, "code_verifier": {authztest.Verifier}}, "invalid_grant"},
		{"garbage refresh token", url.Values{"client_id": {"spa"}, "grant_type": {"refresh_token"}, "refresh_token": {"x"}}, "invalid_grant"},
		{"disabled client", url.Values{"client_id": {"disabled"}, "grant_type": {"refresh_token"}}, "invalid_client"},
		{"client secret", url.Values{"client_id": {"spa"}, "client_secret": {"x"}, "grant_type": {"refresh_token"}}, "invalid_client"},
	} {
		if got := s.PostForm("/token", c.form); got.Error != c.code || got.Status != http.StatusBadRequest {
			t.Errorf("%s: %d %s, %s expected", c.name, got.Status, got.Error, c.code)
		}
	}
}

func TestAccessTokenAlgorithmIsTheServers(t *testing.T) {
	s := authztest.New(t)
	for _, alg := range []keys.Algorithm{keys.ES256, keys.RS256, keys.EdDSA} {
		replica := s.Replica(func(c *authz.Config) { c.AccessTokenAlg = alg })
		tokens := replica.Redeem(s.Browser().Code("alice"))
		if header := headerOf(t, tokens.AccessToken); header["alg"] != string(alg) || header["typ"] != "at+jwt" {
			t.Errorf("%s: header %v", alg, header)
		}
		if s.UserInfo(tokens.AccessToken) != http.StatusOK {
			t.Errorf("%s: userinfo refuses it", alg)
		}
	}
}
