package attacks

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/admin"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// operated is a server with its operator's API on: alice is an operator, the
// client console may ask for tokens for it, and mallory is to be blocked.
type operated struct {
	*authztest.Server
	t      *testing.T
	victim storage.User
}

const consoleScope = "openid offline_access " + admin.Scope

func newOperated(t *testing.T) *operated {
	t.Helper()
	s := authztest.New(t, func(c *authz.Config) { c.Admin = true })
	s.AddClient(clients.Client{
		ID: "console", RedirectURIs: s.Client.RedirectURIs, Origins: s.Client.Origins,
		Audiences: []string{admin.Audience(s.URL), authztest.Audience}, Scopes: []string{"openid", "offline_access", admin.Scope},
	})
	check(t, s.Revoker.SetOperator(t.Context(), s.User("alice").ID, true))
	s.AddUser("mallory")
	return &operated{s, t, s.User("mallory")}
}

// signIn returns tokens of the console, or with the changes of another client.
func (o *operated) signIn(name string, changes ...string) authztest.Tokens {
	o.t.Helper()
	return signInOf(o.Server, o.Browser(), name, changes...)
}

func signInOf(s *authztest.Server, b *authztest.Browser, name string, changes ...string) authztest.Tokens {
	s.TB.Helper()
	tokens := s.Redeem(b.Code(name, append([]string{"client_id", "console", "scope", consoleScope}, changes...)...), "client_id", "console")
	if tokens.AccessToken == "" {
		s.TB.Fatalf("no token: %+v", tokens)
	}
	return tokens
}

func (o *operated) blockPath() string { return admin.Path + "/users/" + string(o.victim.ID) + "/block" }

// block asks to block mallory, and returns the answer.
func (o *operated) block(headers ...string) *http.Response {
	o.t.Helper()
	r := request(o.t, "POST", o.Address+o.blockPath(), nil, headers...)
	resp, err := http.DefaultClient.Do(r)
	check(o.t, err)
	resp.Body.Close()
	return resp
}

// untouched fails if mallory's account was changed.
func (o *operated) untouched(why string) {
	o.t.Helper()
	if u := o.User("mallory"); u.Version != o.victim.Version {
		o.t.Fatalf("%s: mallory is changed: %+v", why, u)
	}
}

// honest shows that the operator's request works, and undoes it.
func (o *operated) honest(headers ...string) {
	o.t.Helper()
	if resp := o.block(headers...); resp.StatusCode != http.StatusOK || o.User("mallory").Block == nil {
		o.t.Fatalf("the operator was answered %d %s", resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
	}
	check(o.t, o.Revoker.UnblockUser(o.t.Context(), o.victim.ID))
	o.victim = o.User("mallory")
}

// refused fails unless the request got nothing.
func (o *operated) refused(why string, status int, headers ...string) *http.Response {
	o.t.Helper()
	resp := o.block(headers...)
	if resp.StatusCode != status {
		o.t.Errorf("%s: %d, expected is %d", why, resp.StatusCode, status)
	}
	for name := range resp.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			o.t.Errorf("%s: answered with %s", why, name)
		}
	}
	if status == http.StatusUnauthorized && resp.Header.Get("WWW-Authenticate") == "" {
		o.t.Errorf("%s: no challenge", why)
	}
	o.untouched(why)
	return resp
}

func TestG40UserTokenIsNoOperators(t *testing.T) {
	o := newOperated(t)
	good := o.signIn("alice")
	o.honest("Authorization", "Bearer "+good.AccessToken)
	o.AddUser("bob")
	for why, c := range map[string]struct {
		status int
		token  string
	}{
		"a user's token for the API":                  {401, o.SignIn("bob").AccessToken},
		"an operator's token for the API":             {401, o.SignIn("alice").AccessToken},
		"the scope at another audience":               {401, o.signIn("alice", "resource", authztest.Audience).AccessToken},
		"the audience without the scope":              {403, o.signIn("alice", "scope", "openid").AccessToken},
		"a token for the API of who is no operator":   {403, o.signIn("bob").AccessToken},
		"an operator's ID token":                      {401, good.IDToken},
		"an operator's refresh token":                 {401, good.RefreshToken},
		"an operator's token with another signature":  {401, good.AccessToken[:len(good.AccessToken)-10] + "AAAAAAAAAA"},
		"a token of nobody's making":                  {401, newForger(t).sign(t, `{"alg":"ES256","typ":"at+jwt","kid":"x"}`, `{"aud":"`+admin.Audience(o.URL)+`","scope":"solegate:admin"}`)},
		"nothing after Bearer":                        {400, ""},
		"an operator's token as if bound to some key": {401, "DPoP"},
	} {
		header := "Bearer " + c.token
		if c.token == "DPoP" {
			header = "DPoP " + good.AccessToken
		}
		o.refused(why, c.status, "Authorization", header)
	}
	o.refused("no token", 401)
	o.refused("two tokens", 400, "Authorization", "Bearer "+good.AccessToken, "Authorization", "Bearer "+good.AccessToken)
	r := request(t, "POST", o.Address+o.blockPath()+"?access_token="+good.AccessToken, nil)
	resp, err := http.DefaultClient.Do(r)
	check(t, err)
	resp.Body.Close()
	if o.untouched("a token in the URL"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a token in the URL: %d", resp.StatusCode)
	}
	noSecrets(t, o.Server, map[string]string{"access token": good.AccessToken, "refresh token": good.RefreshToken})
	if !strings.Contains(o.Log.String(), "the account is no operator's") {
		t.Error("the audit log does not say who was refused")
	}
	o.honest("Authorization", "Bearer "+good.AccessToken)
}

// Whatever an operator's token stands on is looked up at each request.
func TestG40OperatorsTokenDiesWithWhatItStandsOn(t *testing.T) {
	for why, c := range map[string]struct {
		status int
		end    func(o *operated, tokens authztest.Tokens) error
	}{
		"the operator is dismissed": {403, func(o *operated, _ authztest.Tokens) error {
			return o.Revoker.SetOperator(t.Context(), o.User("alice").ID, false)
		}},
		"the operator is blocked": {401, func(o *operated, _ authztest.Tokens) error {
			return o.Revoker.BlockUser(t.Context(), o.User("alice").ID, "", time.Time{})
		}},
		"the operator is revoked": {401, func(o *operated, _ authztest.Tokens) error {
			return o.Revoker.RevokeUser(t.Context(), o.User("alice").ID, "")
		}},
		"the operator is removed": {401, func(o *operated, _ authztest.Tokens) error {
			return o.Revoker.RemoveUser(t.Context(), o.User("alice").ID)
		}},
		"the session ends": {401, func(o *operated, tokens authztest.Tokens) error {
			sid, _ := authztest.Claims(t, tokens.AccessToken)["sid"].(string)
			return o.Revoker.EndSession(t.Context(), storage.SessionID(sid), "")
		}},
		"the client is disabled": {401, func(o *operated, _ authztest.Tokens) error {
			return o.Revoker.DisableClient(t.Context(), "console")
		}},
		"the refresh token is revoked": {401, func(o *operated, tokens authztest.Tokens) error {
			o.PostForm("/revoke", url.Values{"client_id": {"console"}, "token": {tokens.RefreshToken}})
			return nil
		}},
		"the token has expired": {401, func(o *operated, _ authztest.Tokens) error {
			o.Clock.Advance(6 * time.Minute)
			return nil
		}},
	} {
		o := newOperated(t)
		tokens := o.signIn("alice")
		o.honest("Authorization", "Bearer "+tokens.AccessToken)
		check(t, c.end(o, tokens))
		o.refused(why, c.status, "Authorization", "Bearer "+tokens.AccessToken)
	}
}

// A login of an hour ago is not enough, however fresh the token is (RFC 9470).
func TestG40OldLoginIsNotEnough(t *testing.T) {
	o := newOperated(t)
	b := o.Browser()
	tokens := signInOf(o.Server, b, "alice")
	for range 13 {
		o.honest("Authorization", "Bearer "+tokens.AccessToken)
		o.Clock.Advance(4*time.Minute + 37*time.Second)
		tokens = o.Refresh(tokens.RefreshToken, "client_id", "console")
	}
	resp := o.refused("an old login", 401, "Authorization", "Bearer "+tokens.AccessToken)
	if got := resp.Header.Get("WWW-Authenticate"); !strings.Contains(got, `error="insufficient_user_authentication"`) || !strings.HasSuffix(got, "max_age=3600") {
		t.Errorf("the challenge is %s", got)
	}
	// What the challenge asks for helps: the person logs in again.
	p := b.Authorize("client_id", "console", "scope", consoleScope, "max_age", "3600")
	code := b.SignIn(p, "alice", authztest.Password).Answer().Get("code")
	o.honest("Authorization", "Bearer "+o.Redeem(code, "client_id", "console").AccessToken)
}

func TestG40APICredentialIsNoOperators(t *testing.T) {
	o := newOperated(t)
	o.honest("Authorization", "Bearer "+o.signIn("alice").AccessToken)
	rs := clients.ResourceServer{ID: "admin-api", Audience: admin.Audience(o.URL)}
	secret, err := rs.NewSecret(rand.Reader)
	check(t, err)
	check(t, o.Store.CreateResourceServer(t.Context(), rs))
	o.refused("an API's credential", 400, "Authorization", basic("admin-api", secret))
	signer := o.Signer()
	o.AddClient(clients.Client{
		ID: "robot", AuthMethod: clients.PrivateKeyJWT, JWKS: signer.JWKS, GrantTypes: []string{"client_credentials"},
		Audiences: []string{admin.Audience(o.URL)}, Scopes: []string{admin.Scope},
	})
	tokens := post(t, o.Server, "/token", signer.Sign(url.Values{"grant_type": {"client_credentials"}, "scope": {admin.Scope}}, "robot", nil))
	if tokens.AccessToken == "" {
		t.Fatalf("no token: %+v", tokens)
	}
	resp := o.refused("a client's own token", 401, "Authorization", "Bearer "+tokens.AccessToken)
	if got := resp.Header.Get("WWW-Authenticate"); !strings.Contains(got, `error="invalid_token"`) {
		t.Errorf("a client's own token: %s", got) // no login makes it a person's
	}
	o.refused("an API's assertion", 401, "Authorization", "Bearer "+signer.Assertion("robot", nil))
}

// A client that is not registered for the API can't ask for tokens for it, and
// no app can put the scope into those that it gets.
func TestG40AppThatIsNotRegisteredGetsNoToken(t *testing.T) {
	o := newOperated(t)
	b := o.Browser()
	signInOf(o.Server, b, "alice")
	for why, c := range map[string]struct {
		want    string
		changes []string
	}{
		"the audience": {"invalid_target", []string{"resource", admin.Audience(o.URL)}},
		"the scope":    {"invalid_scope", []string{"scope", "openid " + admin.Scope}},
	} {
		if got := b.Authorize(c.changes...).Answer(); got.Get("error") != c.want || got.Has("code") {
			t.Errorf("%s: %v", why, got)
		}
	}
	o.untouched("an app")
}

func TestG40BoundTokenNeedsItsKey(t *testing.T) {
	o := newOperated(t)
	key := o.Key()
	tokens := signInOf(o.Server.With(key), o.Browser(), "alice")
	proof := func(k *authztest.Key, uri string) string {
		return k.Proof("POST", uri, map[string]any{"ath": authztest.ATH(tokens.AccessToken)})
	}
	uri := o.URL + o.blockPath()
	used := proof(key, uri)
	o.honest("Authorization", "DPoP "+tokens.AccessToken, "DPoP", used)
	o.refused("as a bearer token", 401, "Authorization", "Bearer "+tokens.AccessToken)
	o.refused("without a proof", 401, "Authorization", "DPoP "+tokens.AccessToken)
	o.refused("with a thief's key", 401, "Authorization", "DPoP "+tokens.AccessToken, "DPoP", proof(o.Key(), uri))
	o.refused("with a proof for another path", 401, "Authorization", "DPoP "+tokens.AccessToken, "DPoP", proof(key, o.URL+"/admin/users"))
	o.refused("with a proof that was used", 401, "Authorization", "DPoP "+tokens.AccessToken, "DPoP", used)
}

// A form of another site's page brings the operator's cookies along, and they
// are worth nothing here.
func TestG40CSRFPostGetsNothing(t *testing.T) {
	o := newOperated(t)
	b := o.Browser()
	tokens := signInOf(o.Server, b, "alice")
	o.honest("Authorization", "Bearer "+tokens.AccessToken)
	for why, headers := range map[string][]string{
		"a form of another site": {"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example", "Content-Type", "application/x-www-form-urlencoded"},
		"JSON in plain text":     {"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example", "Content-Type", "text/plain"},
		"a sandboxed frame":      {"Sec-Fetch-Site", "cross-site", "Origin", "null", "Content-Type", "text/plain"},
		"an old browser":         {"Origin", "https://evil.example", "Content-Type", "text/plain"},
		"a form of our own":      {"Sec-Fetch-Site", "same-origin", "Origin", o.URL, "Content-Type", "application/x-www-form-urlencoded"},
		"a typed address":        {"Sec-Fetch-Site", "none"},
	} {
		r := request(t, "POST", o.Address+o.blockPath(), nil, headers...)
		resp, err := b.Do(r)
		check(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d", why, resp.StatusCode)
		}
		o.untouched(why)
	}
}

// Not even with a good token does a page of another origin get anything, nor is
// it told anything.
func TestG40CrossOriginFetchGetsNothing(t *testing.T) {
	o := newOperated(t)
	bearer := "Bearer " + o.signIn("alice").AccessToken
	o.honest("Authorization", bearer)
	o.honest("Authorization", bearer, "Origin", o.URL, "Sec-Fetch-Site", "same-origin")
	for _, origin := range append([]string{"https://spa.example.com", "https://evil.example", o.URL + "/", o.URL + ".evil.example"}, lookAlikes...) {
		o.refused("Origin "+origin, 403, "Authorization", bearer, "Origin", origin)
	}
	for _, site := range []string{"cross-site", "same-site", "", "SAME-ORIGIN", "other"} {
		o.refused("Sec-Fetch-Site "+site, 403, "Authorization", bearer, "Sec-Fetch-Site", site)
	}
	o.refused("two origins", 403, "Authorization", bearer, "Origin", o.URL, "Origin", "https://evil.example")
	for _, origin := range []string{"https://spa.example.com", "https://evil.example"} {
		r := request(t, "OPTIONS", o.Address+o.blockPath(), nil, "Origin", origin,
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type")
		resp, err := http.DefaultClient.Do(r)
		check(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden || resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("the preflight of %s: %d %v", origin, resp.StatusCode, resp.Header)
		}
	}
}

// Nobody without a token learns anything, not even what there is.
func TestG40StrangerLearnsNothing(t *testing.T) {
	o := newOperated(t)
	bearer := "Bearer " + o.signIn("alice").AccessToken
	for _, path := range []string{"", "/", "/users", "/users/" + string(o.victim.ID), "/users/nobody", "/clients/spa", "/keys", "/openapi.yaml", "/revoke-all", "/nothing", "/users/../keys"} {
		for _, method := range []string{"GET", "POST", "DELETE", "HEAD", "PUT"} {
			r := request(t, method, o.Address+admin.Path+path, nil)
			resp, err := http.DefaultClient.Do(r)
			check(t, err)
			var problem struct{ Detail string }
			if method != "HEAD" && resp.StatusCode == http.StatusUnauthorized {
				check(t, json.NewDecoder(resp.Body).Decode(&problem))
			}
			resp.Body.Close()
			if strings.Contains(path, "..") {
				if resp.StatusCode != http.StatusNotFound {
					t.Errorf("%s %s: %d", method, path, resp.StatusCode)
				}
			} else if resp.StatusCode != http.StatusUnauthorized || method != "HEAD" && problem.Detail != "An access token is expected." {
				t.Errorf("%s %s: %d %q", method, path, resp.StatusCode, problem.Detail)
			}
		}
	}
	o.honest("Authorization", bearer)
}

// Who has stolen a token that is worth nothing by itself can't keep the operator
// out by asking too often in their name.
func TestG40ThiefUsesUpNoTurnOfTheOperators(t *testing.T) {
	o := newOperated(t)
	key := o.Key()
	bound := signInOf(o.Server.With(key), o.Browser(), "alice")
	ended := o.signIn("alice")
	o.honest("Authorization", "Bearer "+ended.AccessToken)
	sid, _ := authztest.Claims(t, ended.AccessToken)["sid"].(string)
	check(t, o.Revoker.EndSession(t.Context(), storage.SessionID(sid), ""))
	for range 210 {
		o.refused("a bound token without its key", 401, "Authorization", "DPoP "+bound.AccessToken)
		o.refused("a token that has ended", 401, "Authorization", "Bearer "+ended.AccessToken)
	}
	proof := key.Proof("POST", o.URL+o.blockPath(), map[string]any{"ath": authztest.ATH(bound.AccessToken)})
	o.honest("Authorization", "DPoP "+bound.AccessToken, "DPoP", proof)
}
