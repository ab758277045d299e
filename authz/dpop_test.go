package authz_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
)

// TestProofBindsTokens: a client that sends a proof gets tokens that are bound
// to its key, whether it is registered so or not.
func TestProofBindsTokens(t *testing.T) {
	s := authztest.New(t)
	key := s.Key()
	app := s.With(key)
	first := app.SignIn("alice")
	if first.TokenType != "DPoP" || jktOf(t, first) != key.JKT {
		t.Fatalf("token type %s, cnf %v", first.TokenType, authztest.Claims(t, first.AccessToken)["cnf"])
	}
	second := app.Refresh(first.RefreshToken)
	if second.TokenType != "DPoP" || jktOf(t, second) != key.JKT {
		t.Errorf("after a refresh: %+v", second)
	}
	if plain := s.SignIn("alice"); plain.TokenType != "Bearer" || authztest.Claims(t, plain.AccessToken)["cnf"] != nil {
		t.Errorf("without a proof: %+v", plain)
	}
}

func jktOf(t *testing.T, tokens authztest.Tokens) string {
	t.Helper()
	cnf, _ := authztest.Claims(t, tokens.AccessToken)["cnf"].(map[string]any)
	jkt, _ := cnf["jkt"].(string)
	return jkt
}

// TestRefusalBurnsNothing: whatever is wrong with a proof, the code and the
// refresh token are as good afterwards as before (RFC 9449 §5).
func TestRefusalBurnsNothing(t *testing.T) {
	s := authztest.New(t)
	key, other := s.Key(), s.Key()
	app := s.With(key)
	code := s.Browser().Code("alice", "dpop_jkt", key.JKT)
	if got := s.Redeem(code); got.Error != "invalid_dpop_proof" {
		t.Errorf("a bound code without a proof: %+v", got)
	}
	if got := s.With(other).Redeem(code); got.Error != "invalid_grant" {
		t.Errorf("a bound code with another key: %+v", got)
	}
	tokens := app.Redeem(code)
	if tokens.Status != http.StatusOK {
		t.Fatalf("the code was burnt: %+v", tokens)
	}
	if got := s.Refresh(tokens.RefreshToken); got.Error != "invalid_dpop_proof" {
		t.Errorf("a bound refresh token without a proof: %+v", got)
	}
	if got := s.With(other).Refresh(tokens.RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("a bound refresh token with another key: %+v", got)
	}
	for name, bad := range map[string]map[string]any{
		"another method": {"htm": "GET"}, "another address": {"htu": s.URL + "/par"}, "another host": {"htu": "https://evil.example/token"},
		"no jti": {"jti": nil}, "no iat": {"iat": nil},
	} {
		form := url.Values{"grant_type": {"refresh_token"}, "client_id": {"spa"}, "refresh_token": {tokens.RefreshToken}}
		if got := postWith(t, s, "/token", form, "DPoP", key.Proof("POST", s.URL+"/token", bad)); got.Error != "invalid_dpop_proof" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := app.Refresh(tokens.RefreshToken); got.Status != http.StatusOK {
		t.Errorf("the refresh token was burnt: %+v", got)
	}
}

// postWith posts a form with headers, as pairs of name and value; a name may
// stand twice.
func postWith(t *testing.T, s *authztest.Server, path string, form url.Values, headers ...string) authztest.Tokens {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.Address+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return s.Do(r)
}

func TestProofIsUsedOnce(t *testing.T) {
	s := authztest.New(t)
	key := s.Key()
	tokens := s.With(key).SignIn("alice")
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {"spa"}, "refresh_token": {tokens.RefreshToken}}
	proof := key.Proof("POST", s.URL+"/token", nil)
	first := postWith(t, s, "/token", form, "DPoP", proof)
	if first.Status != http.StatusOK {
		t.Fatalf("the proof: %+v", first)
	}
	form.Set("refresh_token", first.RefreshToken)
	if got := postWith(t, s, "/token", form, "DPoP", proof); got.Error != "invalid_dpop_proof" {
		t.Errorf("the proof again: %+v", got)
	}
	replica := s.Replica()
	if got := postWith(t, replica, "/token", form, "DPoP", proof); got.Error != "invalid_dpop_proof" {
		t.Errorf("the proof again, at another server: %+v", got)
	}
	if got := postWith(t, s, "/token", form, "DPoP", key.Proof("POST", s.URL+"/token", nil), "DPoP", proof); got.Error != "invalid_dpop_proof" {
		t.Errorf("two proofs: %+v", got)
	}
}

// TestNonce: a client that must have one is told so, and every server knows the
// nonces of all.
func TestNonce(t *testing.T) {
	s := authztest.New(t)
	s.UpdateClient(func(c *clients.Client) { c.RequireDPoPNonce = true })
	key := s.Key()
	code := s.Browser().Code("alice")
	form := url.Values{
		"grant_type": {"authorization_code"}, "client_id": {"spa"}, "code": {code},
		"redirect_uri": {"https://spa.example.com/callback"}, "code_verifier": {authztest.Verifier},
	}
	refused := postWith(t, s, "/token", form, "DPoP", key.Proof("POST", s.URL+"/token", nil))
	nonce := refused.Header.Get("DPoP-Nonce")
	if refused.Status != http.StatusBadRequest || refused.Error != "use_dpop_nonce" || nonce == "" {
		t.Fatalf("without a nonce: %+v", refused)
	}
	if got := postWith(t, s, "/token", form, "DPoP", key.Proof("POST", s.URL+"/token", map[string]any{"nonce": nonce[1:] + "A"})); got.Error != "use_dpop_nonce" {
		t.Errorf("with a made-up nonce: %+v", got)
	}
	replica := s.Replica()
	tokens := postWith(t, replica, "/token", form, "DPoP", key.Proof("POST", s.URL+"/token", map[string]any{"nonce": nonce}))
	if tokens.Status != http.StatusOK || tokens.Header.Get("DPoP-Nonce") == "" {
		t.Fatalf("with the nonce, at another server: %+v", tokens)
	}
	s.Clock.Advance(10 * time.Minute)
	old := url.Values{"grant_type": {"refresh_token"}, "client_id": {"spa"}, "refresh_token": {tokens.RefreshToken}}
	if got := postWith(t, s, "/token", old, "DPoP", key.Proof("POST", s.URL+"/token", map[string]any{"nonce": nonce})); got.Error != "use_dpop_nonce" {
		t.Errorf("with an old nonce: %+v", got)
	}
	if got := s.With(key).Refresh(tokens.RefreshToken); got.Status != http.StatusOK {
		t.Errorf("with a new nonce: %+v", got)
	}
}

// TestWrongClock: a person whose clock is wrong is not locked out. The server
// gives the client a nonce, and asks no clock.
func TestWrongClock(t *testing.T) {
	s := authztest.New(t)
	key := s.Key()
	tokens := s.With(key).SignIn("alice")
	for _, wrong := range []time.Duration{-24 * time.Hour, -2 * time.Minute, time.Minute, 24 * time.Hour} {
		form := url.Values{"grant_type": {"refresh_token"}, "client_id": {"spa"}, "refresh_token": {tokens.RefreshToken}}
		proof := func(nonce any) string {
			return key.Proof("POST", s.URL+"/token", map[string]any{"iat": s.Clock.Now().Add(wrong).Unix(), "nonce": nonce})
		}
		told := postWith(t, s, "/token", form, "DPoP", proof(nil))
		nonce := told.Header.Get("DPoP-Nonce")
		if told.Error != "use_dpop_nonce" || nonce == "" {
			t.Fatalf("%s off, without a nonce: %+v", wrong, told)
		}
		used := proof(nonce)
		next := postWith(t, s, "/token", form, "DPoP", used)
		if next.Status != http.StatusOK || next.Header.Get("DPoP-Nonce") == "" {
			t.Fatalf("%s off, with the nonce: %+v", wrong, next)
		}
		form.Set("refresh_token", next.RefreshToken)
		if got := postWith(t, s, "/token", form, "DPoP", used); got.Error != "invalid_dpop_proof" {
			t.Errorf("%s off, the proof again: %+v", wrong, got)
		}
		// When its iat has come, and its nonce is old, it is as bad.
		s.Clock.Advance(max(wrong, 10*time.Minute))
		if got := postWith(t, s, "/token", form, "DPoP", used); got.Error != "use_dpop_nonce" {
			t.Errorf("%s off, the proof later: %+v", wrong, got)
		}
		tokens = s.With(key).SignIn("alice")
	}
}

func TestUserInfoAsksForTheKey(t *testing.T) {
	s := authztest.New(t)
	key := s.Key()
	tokens := s.With(key).SignIn("alice")
	plain := s.SignIn("alice")
	ask := func(scheme, token string, proofs ...string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/userinfo", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", scheme+" "+token)
		r.Header["Dpop"] = proofs
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("WWW-Authenticate")
	}
	proof := func(changes map[string]any) string {
		if changes["ath"] == nil {
			changes["ath"] = authztest.ATH(tokens.AccessToken)
		}
		return key.Proof("GET", s.URL+"/userinfo", changes)
	}
	used := proof(map[string]any{})
	if status, _ := ask("DPoP", tokens.AccessToken, used); status != http.StatusOK {
		t.Fatalf("with the key: %d", status)
	}
	if status, _ := ask("Bearer", plain.AccessToken); status != http.StatusOK {
		t.Fatalf("a token without a key: %d", status)
	}
	for name, c := range map[string]struct {
		scheme, token string
		proofs        []string
		says          string
	}{
		"a bound token as Bearer":               {"Bearer", tokens.AccessToken, []string{proof(map[string]any{})}, `Bearer realm="solegate", error="invalid_token"`},
		"no proof":                              {"DPoP", tokens.AccessToken, nil, `DPoP realm="solegate", error="invalid_dpop_proof"`},
		"a proof that was used":                 {"DPoP", tokens.AccessToken, []string{used}, `error="invalid_dpop_proof"`},
		"another key's proof":                   {"DPoP", tokens.AccessToken, []string{s.Key().Proof("GET", s.URL+"/userinfo", map[string]any{"ath": authztest.ATH(tokens.AccessToken)})}, `error="invalid_token"`},
		"a proof for another token":             {"DPoP", tokens.AccessToken, []string{proof(map[string]any{"ath": authztest.ATH(plain.AccessToken)})}, `error="invalid_dpop_proof"`},
		"a proof for no token":                  {"DPoP", tokens.AccessToken, []string{key.Proof("GET", s.URL+"/userinfo", nil)}, `error="invalid_dpop_proof"`},
		"two proofs":                            {"DPoP", tokens.AccessToken, []string{proof(map[string]any{}), proof(map[string]any{})}, `error="invalid_dpop_proof"`},
		"a token that has no key, as if it did": {"DPoP", plain.AccessToken, []string{key.Proof("GET", s.URL+"/userinfo", map[string]any{"ath": authztest.ATH(plain.AccessToken)})}, `error="invalid_token"`},
	} {
		status, challenge := ask(c.scheme, c.token, c.proofs...)
		if status != http.StatusUnauthorized || !strings.Contains(challenge, c.says) {
			t.Errorf("%s: %d %s", name, status, challenge)
		}
		if c.scheme == "DPoP" && !strings.Contains(challenge, `algs="ES256 PS256 EdDSA Ed25519"`) {
			t.Errorf("%s: %s names no algorithms", name, challenge)
		}
	}
}

// TestReplayByAnotherKeyIsTheft: within the grace window the same client may
// ask again; with another key, or none, it is not the same.
func TestReplayByAnotherKeyIsTheft(t *testing.T) {
	for _, thief := range []func(*authztest.Server) *authztest.Server{
		func(s *authztest.Server) *authztest.Server { return s },
		func(s *authztest.Server) *authztest.Server { return s.With(s.Key()) },
	} {
		s := authztest.New(t)
		app := s.With(s.Key())
		first := app.SignIn("alice")
		second := app.Refresh(first.RefreshToken)
		if again := app.Refresh(first.RefreshToken); again.Status != http.StatusOK || again.RefreshToken != second.RefreshToken {
			t.Fatalf("the app asks again: %+v", again)
		}
		if got := thief(s).Refresh(first.RefreshToken); got.Status != http.StatusBadRequest {
			t.Errorf("the thief: %+v", got)
		}
		if got := app.Refresh(second.RefreshToken); got.Error != "invalid_grant" {
			t.Errorf("the family lives on after a theft: %+v", got)
		}
	}
}

// TestClientThatMustProve: it gets no bearer token, and what it had before it
// had to prove is worth nothing.
func TestClientThatMustProve(t *testing.T) {
	s := authztest.New(t)
	before := s.SignIn("alice")
	s.UpdateClient(func(c *clients.Client) { c.RequireDPoP = true })
	code := s.Browser().Code("alice")
	if got := s.Redeem(code); got.Error != "invalid_dpop_proof" {
		t.Errorf("a code without a proof: %+v", got)
	}
	app := s.With(s.Key())
	if got := app.Redeem(code); got.TokenType != "DPoP" {
		t.Errorf("a code with a proof: %+v", got)
	}
	if got := app.Refresh(before.RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("a refresh token from before: %+v", got)
	}
}
