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
	"github.com/solegate/solegate/keys"
)

// asToken tells whether anything of ours takes the text for a live access
// token: userinfo by either scheme, introspection, revocation.
func asToken(t *testing.T, s *authztest.Server, active func(string) bool, text string) string {
	t.Helper()
	if !strings.ContainsAny(text, "\r\n\x00") { // no header has them
		for _, scheme := range []string{"Bearer", "DPoP"} {
			if status, _ := userInfo(t, s, scheme, text); status != http.StatusUnauthorized && status != http.StatusBadRequest {
				return scheme
			}
		}
	}
	if active(text) {
		return "introspection"
	}
	before := len(liveGrants(t, s))
	post(t, s, "/revoke", url.Values{"client_id": {"spa"}, "token": {text}})
	if len(liveGrants(t, s)) != before {
		return "revocation"
	}
	return ""
}

// C16 at the server's own endpoints; keys/verify has it for the API.
func TestC16ForgedTokensAtTheServer(t *testing.T) {
	s := authztest.New(t)
	active := introspecting(t, s)
	good := s.SignIn("alice").AccessToken
	if status, _ := userInfo(t, s, "Bearer", good); status != http.StatusOK || !active(good) {
		t.Fatalf("the honest token: %d", status)
	}
	head, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	claims := authztest.Claims(t, good)
	kid := ""
	var publicJWK, set []byte
	for _, k := range s.Ring.List() {
		if k.Algorithm == "ES256" {
			kid = k.ID
		}
	}
	set = s.Ring.JWKS().Body
	var parsed struct{ Keys []json.RawMessage }
	check(t, json.Unmarshal(set, &parsed))
	for _, k := range parsed.Keys {
		if strings.Contains(string(k), kid) {
			publicJWK = k
		}
	}
	header := map[string]any{"alg": "ES256", "kid": kid, "typ": "at+jwt"}
	plain := object(t, claims, nil)
	mine := newForger(t)
	signed := func(typ string, changes map[string]any) string {
		text, err := s.Ring.Sign(keys.ES256, typ, []byte(object(t, claims, changes)))
		check(t, err)
		return text
	}
	if again := signed("at+jwt", nil); !active(again) {
		t.Fatal("a token signed anew is not active: the cases below would show nothing")
	}
	now := s.Clock.Now()
	cases := map[string]string{
		"alg none":                  encode([]byte(object(t, header, map[string]any{"alg": "none"}))) + "." + payload + ".",
		"alg none, with signature":  encode([]byte(object(t, header, map[string]any{"alg": "none"}))) + "." + payload + "." + signature,
		"alg None":                  encode([]byte(object(t, header, map[string]any{"alg": "None"}))) + "." + payload + ".",
		"HS256 with the key":        hs256(object(t, header, map[string]any{"alg": "HS256"}), plain, publicJWK),
		"HS256 with the set":        hs256(object(t, header, map[string]any{"alg": "HS256"}), plain, set),
		"HS256 with nothing":        hs256(object(t, header, map[string]any{"alg": "HS256"}), plain, nil),
		"another key":               mine.sign(t, object(t, header, nil), plain),
		"another kid":               mine.sign(t, object(t, header, map[string]any{"kid": "other"}), plain),
		"no kid":                    mine.sign(t, object(t, header, map[string]any{"kid": nil}), plain),
		"an embedded jwk":           mine.sign(t, object(t, header, map[string]any{"jwk": mine.jwk}), plain),
		"jku":                       mine.sign(t, object(t, header, map[string]any{"jku": "https://evil.net/jwks"}), plain),
		"x5u":                       mine.sign(t, object(t, header, map[string]any{"x5u": "https://evil.net/cert"}), plain),
		"crit":                      mine.sign(t, object(t, header, map[string]any{"crit": []string{"x"}, "x": 1}), plain),
		"no signature":              head + "." + payload + ".",
		"two parts":                 head + "." + payload,
		"four parts":                good + ".x",
		"another payload":           head + "." + encode([]byte(object(t, claims, map[string]any{"scope": "openid admin"}))) + "." + signature,
		"one bit of the signature":  head + "." + payload + "." + flip(signature[:1]) + signature[1:],
		"non-canonical":             good[:len(good)-1] + nextBase64(good[len(good)-1]),
		"padded":                    good + "==",
		"a line break":              head + "." + payload + "\n." + signature,
		"a line break at the end":   good + "\r\n",
		"absurdly long":             head + "." + strings.Repeat("A", 9<<10) + "." + signature,
		"wrong iss":                 signed("at+jwt", map[string]any{"iss": "https://evil.net"}),
		"no iss":                    signed("at+jwt", map[string]any{"iss": nil}),
		"expired":                   signed("at+jwt", map[string]any{"exp": now.Unix()}),
		"no exp":                    signed("at+jwt", map[string]any{"exp": nil}),
		"a grant that is none":      signed("at+jwt", map[string]any{"grant_id": "x.y.z"}),
		"as an ID token":            signed("JWT", nil),
		"as a logout token":         signed("logout+jwt", nil),
		"as a feed event":           signed("secevent+jwt", nil),
		"with the long typ":         signed("application/at+jwt", nil),
		"typ in upper case":         signed("AT+JWT", nil),
		"an access token as a list": "[" + good + "]",
	}
	for name, text := range cases {
		if where := asToken(t, s, active, text); where != "" {
			t.Errorf("%s passes at %s", name, where)
		}
	}
	if !active(good) {
		t.Error("the attempts ended the honest token")
	}
	s.Clock.Advance(5 * time.Minute)
	if where := asToken(t, s, active, good); where != "" {
		t.Errorf("an expired token passes at %s", where)
	}
}

// nextBase64 is the character after c in the alphabet of base64url: the same
// bytes in another spelling, if c is the last one and had spare bits.
func nextBase64(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[(strings.IndexByte(alphabet, c)+1)%64])
}

// TestC16NothingPassesForAnotherKind: each thing that the server or a client
// signs or makes, presented as each other one.
func TestC16NothingPassesForAnotherKind(t *testing.T) {
	s := authztest.New(t)
	active := introspecting(t, s)
	c, signer := backend(s, nil)
	key := s.Key()
	app := s.With(key)
	b := s.Browser()
	code := b.Code("alice")
	tokens := app.SignIn("alice")
	logout, err := s.Ring.Sign(keys.ES256, "logout+jwt", []byte(object(t, map[string]any{
		"iss": s.URL, "aud": "spa", "sub": s.User("alice").ID, "sid": authztest.Claims(t, tokens.IDToken)["sid"], "jti": "x",
		"iat": s.Clock.Now().Unix(), "exp": s.Clock.Now().Add(time.Minute).Unix(), "events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}, nil)))
	check(t, err)
	ownToken := post(t, s, "/token", signer.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, nil)).AccessToken
	things := map[string]string{
		"code": code, "access token": tokens.AccessToken, "refresh token": tokens.RefreshToken, "ID token": tokens.IDToken, "logout token": logout,
		"client's own token": ownToken, "proof": key.Proof("POST", s.URL+"/token", nil), "proof for userinfo": proofFor(s, key, tokens.AccessToken),
		"assertion": signer.Assertion(c.ID, nil), "request_uri": s.Push().RequestURI,
	}
	before := leftBehind(t, s)
	live := len(liveGrants(t, s))
	attempts := []struct {
		as    string
		takes []string // what passes, rightly
		try   func(string) bool
	}{
		{"code", []string{"code"}, func(x string) bool { return app.Redeem(x).Status == http.StatusOK }},
		{"refresh token", []string{"refresh token"}, func(x string) bool { return app.Refresh(x).Status == http.StatusOK }},
		{"bearer token", nil, func(x string) bool { status, _ := userInfo(t, s, "Bearer", x); return status == http.StatusOK }},
		{"bound token", []string{"access token"}, func(x string) bool {
			status, _ := userInfo(t, s, "DPoP", x, "DPoP", proofFor(s, key, x))
			return status == http.StatusOK
		}},
		{"introspected token", []string{"access token", "client's own token"}, active},
		{"proof", []string{"proof"}, func(x string) bool {
			got := post(t, s, "/token", exchange("x"), "DPoP", x)
			return got.Error != "invalid_dpop_proof"
		}},
		{"assertion", []string{"assertion"}, func(x string) bool {
			form := url.Values{"grant_type": {"client_credentials"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {x}, "client_id": {"backend"}}
			return post(t, s, "/token", form).Error != "invalid_client"
		}},
		{"request_uri", []string{"request_uri"}, func(x string) bool { return !isRefusedHere(s.Browser().Visit(x)) && strings.HasPrefix(x, "urn:") }},
		{"hint at login", []string{"ID token"}, func(x string) bool {
			return s.Browser().Authorize("prompt", "none", "id_token_hint", x).Answer().Get("error") != "invalid_request"
		}},
		{"hint at logout", []string{"ID token"}, func(x string) bool {
			p := s.Browser().Get("/logout?" + url.Values{"id_token_hint": {x}, "client_id": {"other"}}.Encode())
			return !strings.Contains(p.Body, "is not this server&#39;s") && !strings.Contains(p.Body, "is not this server's")
		}},
		{"session cookie", nil, func(x string) bool {
			u, _ := url.Parse(s.URL)
			stranger := s.Browser()
			stranger.Jar.SetCookies(u, []*http.Cookie{{Name: "solegate-session", Value: x}})
			return stranger.Authorize("prompt", "none").Answer().Get("error") != "login_required"
		}},
	}
	for _, a := range attempts {
		for name, thing := range things {
			if rightly := strings.Contains(","+strings.Join(a.takes, ",")+",", ","+name+","); a.try(thing) != rightly {
				t.Errorf("the %s as %s: passes %v", name, a.as, !rightly)
			}
		}
	}
	if after := leftBehind(t, s); after != before || len(liveGrants(t, s)) != live {
		t.Errorf("left behind: %+v, before %+v; %d grants live of %d", after, before, len(liveGrants(t, s)), live)
	}
	noSecrets(t, s, things)
}

// TestC16OneSpelling: a code, a token, a hint has one spelling. The decoder of
// base64 skips line breaks, and a form can carry them.
func TestC16OneSpelling(t *testing.T) {
	s := authztest.New(t)
	active := introspecting(t, s)
	code := s.Browser().Code("alice")
	tokens := s.SignIn("alice")
	cut := strings.LastIndexByte(tokens.RefreshToken, '.') + 1
	for _, breaks := range []string{"\n", "\r\n", "\r"} {
		all := strings.Repeat(breaks, 60)
		for name, got := range map[string]authztest.Tokens{
			"a refresh token":               s.Refresh(tokens.RefreshToken + breaks),
			"the middle of a refresh token": s.Refresh(tokens.RefreshToken[:cut+5] + breaks + tokens.RefreshToken[cut+5:]),
			"all of a refresh token":        s.Refresh(tokens.RefreshToken[:cut] + all[:54]),
			"all but little":                s.Refresh(tokens.RefreshToken[:cut] + "AAAA" + all[:50]),
			"a code":                        s.Redeem(code + breaks),
			"all of a code":                 s.Redeem(code[:strings.LastIndexByte(code, '.')+1] + all[:43]),
		} {
			if got.Error != "invalid_grant" {
				t.Errorf("%q in %s: %+v", breaks, name, got)
			}
		}
		if active(tokens.AccessToken+breaks) || active(breaks+tokens.AccessToken) {
			t.Errorf("%q beside an access token: active", breaks)
		}
		if got := s.PostForm("/revoke", url.Values{"client_id": {"spa"}, "token": {tokens.RefreshToken[:cut] + all[:54]}}); got.Status != http.StatusOK {
			t.Errorf("revocation of line breaks: %+v", got)
		}
		if a := s.Browser().Authorize("prompt", "none", "id_token_hint", tokens.IDToken+breaks).Answer(); a.Get("error") != "invalid_request" {
			t.Errorf("%q in a hint: %v", breaks, a)
		}
	}
	if !active(tokens.AccessToken) || s.Redeem(code).Status != http.StatusOK || s.Refresh(tokens.RefreshToken).Status != http.StatusOK {
		t.Error("the honest spelling fails")
	}
}

// C17 at the server: it is asked about a token by its audience's API alone.
func TestC17TokenForAnotherAPIAtTheServer(t *testing.T) {
	s := authztest.New(t)
	active := introspecting(t, s) // of https://api.example.com
	ours := s.SignIn("alice")
	theirs := s.SignIn("alice", "resource", "https://reports.example.com")
	if !active(ours.AccessToken) {
		t.Fatal("our own token is not active")
	}
	if active(theirs.AccessToken) {
		t.Error("an API learns of another API's token")
	}
	if got := s.Refresh(theirs.RefreshToken, "resource", authztest.Audience); got.Error != "invalid_target" {
		t.Errorf("a refresh turns it into ours: %+v", got)
	}
	// A disabled API learns nothing any more.
	rs, err := s.Store.ResourceServer(t.Context(), "notes-api")
	check(t, err)
	rs.Disabled = true
	check(t, s.Store.UpdateResourceServer(t.Context(), rs))
	body := s.Body(request(t, "POST", s.URL+"/introspect", url.Values{"token": {ours.AccessToken}}, "Authorization", basic("notes-api", "x")))
	if !strings.Contains(body, "invalid_client") || strings.Contains(body, "active") {
		t.Errorf("a disabled API: %s", body)
	}
}

// C18: what a key signed is worth nothing once the key is revoked or retired:
// not an access token, not a hint. Codes and refresh tokens hang on no such key.
func TestC18RevokedKeyAndHints(t *testing.T) {
	s := authztest.New(t)
	tokens := s.SignIn("alice")
	hint := func(prompt ...string) string {
		return s.Browser().Authorize(append(prompt, "prompt", "none", "id_token_hint", tokens.IDToken)...).Answer().Get("error")
	}
	if got := hint(); got != "login_required" {
		t.Fatalf("the honest hint: %s", got)
	}
	for _, k := range s.Ring.List() {
		if k.Algorithm == "ES256" {
			check(t, s.Ring.Revoke(t.Context(), k.ID, "leaked"))
		}
	}
	if got := hint(); got != "invalid_request" {
		t.Errorf("a hint of the revoked key: %s", got)
	}
	if status, challenge := userInfo(t, s, "Bearer", tokens.AccessToken); status != http.StatusUnauthorized || !strings.Contains(challenge, `error="invalid_token"`) {
		t.Errorf("a token of the revoked key: %d %s", status, challenge)
	}
	if got := s.Refresh(tokens.RefreshToken); got.Status != http.StatusOK || s.UserInfo(got.AccessToken) != http.StatusOK {
		t.Errorf("the honest refresh: %+v", got)
	}
}

// TestClientsOwnTokenIsNobodys: a token that a client got for itself opens no
// person's data, whatever its sub looks like.
func TestClientsOwnTokenIsNobodys(t *testing.T) {
	s := authztest.New(t)
	active := introspecting(t, s)
	alice := s.User("alice")
	// The worst name that an administrator could choose: alice's identifier.
	signer := s.Signer()
	c := s.AddClient(clients.Client{
		ID: clients.ID(alice.ID), AuthMethod: clients.PrivateKeyJWT, JWKS: signer.JWKS, RedirectURIs: []clients.RedirectURI{"https://app.example.com/"},
		Audiences: []string{authztest.Audience}, Scopes: []string{"openid", "profile", "email", "offline_access", "notes:read"}, GrantTypes: []string{"authorization_code", "client_credentials"},
	})
	ask := func(changes ...string) authztest.Tokens {
		return post(t, s, "/token", signer.Sign(with(url.Values{"grant_type": {"client_credentials"}}, changes...), c.ID, nil))
	}
	own := ask()
	if own.Status != http.StatusOK || own.Scope != "notes:read" || !active(own.AccessToken) {
		t.Fatalf("the honest request: %+v", own)
	}
	for _, scope := range []string{"openid", "profile", "email", "offline_access", "openid notes:read"} {
		if got := ask("scope", scope); got.Error != "invalid_scope" {
			t.Errorf("scope %s: %+v", scope, got)
		}
	}
	if status, challenge := userInfo(t, s, "Bearer", own.AccessToken); status != http.StatusForbidden || !strings.Contains(challenge, "insufficient_scope") {
		t.Errorf("at userinfo: %d %s", status, challenge)
	}
	claims := authztest.Claims(t, own.AccessToken)
	if claims["client_id"] != claims["sub"] || claims["sid"] != nil || claims["grant_id"] != nil || claims["auth_time"] != nil || claims["acr"] != nil {
		t.Errorf("claims %v: an API could take them for a person's", claims)
	}
	// Its client may revoke it, and nobody else; that ends no other one.
	if got := s.PostForm("/revoke", url.Values{"client_id": {"spa"}, "token": {own.AccessToken}}); got.Status != http.StatusOK || !active(own.AccessToken) {
		t.Errorf("another client revokes it: %+v", got)
	}
	spent := ask()
	if got := post(t, s, "/revoke", signer.Sign(url.Values{"token": {spent.AccessToken}}, c.ID, nil)); got.Status != http.StatusOK || active(spent.AccessToken) || !active(own.AccessToken) {
		t.Errorf("its revocation: %+v", got)
	}
	// Nor does blocking the person of that name end it, or the other way round.
	tokens := s.SignIn("alice")
	check(t, s.Revoker.DisableClient(t.Context(), c.ID))
	if s.UserInfo(tokens.AccessToken) != http.StatusOK || active(own.AccessToken) {
		t.Error("the client and the person are mixed up")
	}
	if n := len(grantsOf(t, s)); n != 1 {
		t.Errorf("%d grants", n)
	}
}
