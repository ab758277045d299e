package attacks

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
)

// finish opens a pushed request, signs alice in if she is not, and returns what
// the client is told, or the page that ends it.
func finish(b *authztest.Browser, requestURI string, changes ...string) authztest.Page {
	p := b.Visit(requestURI, changes...)
	if p.StatusCode == http.StatusOK {
		p = b.SignIn(p, "alice", authztest.Password)
	}
	return p
}

func isRefusedHere(p authztest.Page) bool {
	return p.StatusCode == http.StatusBadRequest && p.Header.Get("Location") == ""
}

// A5 at /par: see TestA5ForeignOrigins for the other endpoints.
func TestA5PushFromForeignOrigins(t *testing.T) {
	s := authztest.New(t)
	key := s.Key()
	for _, origin := range lookAlikes {
		r := request(t, "POST", s.URL+"/par", s.Authorization(), "DPoP", key.Proof("POST", s.URL+"/par", nil))
		r.Header["Origin"] = []string{origin}
		got := s.Do(r)
		if got.Status != http.StatusForbidden || got.Header.Get("Access-Control-Allow-Origin") != "" || got.Header.Get("DPoP-Nonce") != "" {
			t.Errorf("from %q: %+v", origin, got)
		}
		r = request(t, "OPTIONS", s.URL+"/par", nil, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "dpop")
		r.Header["Origin"] = []string{origin}
		resp, err := http.DefaultClient.Do(r)
		check(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden || resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("preflight from %q: %d", origin, resp.StatusCode)
		}
	}
	// A refusal comes before any work: the proof is still good.
	proof := key.Proof("POST", s.URL+"/par", nil)
	if got := post(t, s, "/par", s.Authorization(), "DPoP", proof, "Origin", "https://evil.net"); got.Status != http.StatusForbidden {
		t.Errorf("the copy pushes: %+v", got)
	}
	got := post(t, s, "/par", s.Authorization(), "DPoP", proof, "Origin", "https://spa.example.com")
	if got.Status != http.StatusCreated || got.Header.Get("Access-Control-Allow-Origin") != "https://spa.example.com" {
		t.Errorf("the app pushes: %+v", got)
	}
	r := request(t, "POST", s.URL+"/par", s.Authorization())
	r.Header["Origin"] = []string{"https://spa.example.com", "https://evil.net"}
	if got := s.Do(r); got.Status != http.StatusForbidden {
		t.Errorf("two origins: %+v", got)
	}
	if after := leftBehind(t, s); after != (left{}) {
		t.Errorf("left behind: %+v", after)
	}
}

// A7 at /par: what a browser could not get past, a program can't push past.
func TestA7PushedRedirectURILookAlikes(t *testing.T) {
	s := authztest.New(t)
	if got := s.Push(); got.Status != http.StatusCreated {
		t.Fatalf("the honest push: %+v", got)
	}
	for _, uri := range []string{
		"https://spa.example.com/callback/", "https://spa.example.com/callback?x=1", "https://spa.example.com/callback#x",
		"https://spa.example.com/callback/../evil", "https://spa.example.com@evil.net/callback", "https://spa.example.com:443/callback",
		"https://SPA.example.com/callback", "http://spa.example.com/callback", "https://*.example.com/callback", "https://[::1]/callback",
		"https://spa.example.com/callback\x00", "https://spa.example.com/callback\r\nX: y", "javascript:alert(1)", "https://evil.net/callback",
	} {
		if got := s.Push("redirect_uri", uri); got.Status != http.StatusBadRequest || got.Error != "invalid_request" || got.RequestURI != "" {
			t.Errorf("%q: %+v", uri, got)
		}
	}
	if got := s.Push("redirect_uri", ""); got.Error != "invalid_request" {
		t.Errorf("no redirect_uri: %+v", got)
	}
}

// A8 at /par and beside a request_uri.
func TestA8PushedParameterPollution(t *testing.T) {
	s := authztest.New(t)
	good := s.Authorization("resource", authztest.Audience, "dpop_jkt", s.Key().JKT)
	if got := post(t, s, "/par", good); got.Status != http.StatusCreated {
		t.Fatalf("the honest push: %+v", got)
	}
	for name := range good {
		for _, second := range []string{good.Get(name), "other", ""} {
			twice := with(good)
			twice[name] = []string{good.Get(name), second}
			if got := post(t, s, "/par", twice); got.Status != http.StatusBadRequest || got.Error != "invalid_request" {
				t.Errorf("a second %s=%.20q: %+v", name, second, got)
			}
		}
	}
	for name, r := range map[string]*http.Request{
		"in the query":         request(t, "POST", s.URL+"/par?"+good.Encode(), nil),
		"in query and body":    request(t, "POST", s.URL+"/par?client_id=spa", good),
		"an empty query value": request(t, "POST", s.URL+"/par?x", good),
	} {
		if got := s.Do(r); got.Error != "invalid_request" {
			t.Errorf("parameters %s: %+v", name, got)
		}
	}
	r := request(t, "GET", s.URL+"/par?"+good.Encode(), nil)
	resp, err := http.DefaultClient.Do(r)
	check(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a GET: %d", resp.StatusCode)
	}

	b := s.Browser()
	b.Code("alice")
	before := leftBehind(t, s)
	pushed := s.Push().RequestURI
	q := url.Values{"client_id": {"spa"}, "request_uri": {pushed}}
	for _, more := range []string{"&client_id=spa", "&client_id=other", "&request_uri=" + url.QueryEscape(pushed), "&request_uri=https://evil.net", "&request_uri=", "&state=a&state=b"} {
		if p := b.Get("/authorize?" + q.Encode() + more); !isRefusedHere(p) {
			t.Errorf("%s beside the request_uri: %d %s", more, p.StatusCode, p.Header.Get("Location"))
		}
		if p := b.Get("/authorize?" + more[1:] + "&" + q.Encode()); !isRefusedHere(p) {
			t.Errorf("%s before the request_uri: %d %s", more, p.StatusCode, p.Header.Get("Location"))
		}
	}
	if p := b.Send(request(t, "POST", s.URL+"/authorize?"+q.Encode(), q), "cross-site"); !isRefusedHere(p) {
		t.Errorf("the request_uri in query and body: %d", p.StatusCode)
	}
	if p := b.Send(request(t, "GET", s.URL+"/authorize", q), "cross-site"); !isRefusedHere(p) {
		t.Errorf("the request_uri in the body of a GET: %d", p.StatusCode)
	}
	if after := leftBehind(t, s); after != before {
		t.Errorf("left behind: %+v, before %+v", after, before)
	}
	// None of it used the request up.
	if a := b.Visit(pushed).Answer(); a.Get("code") == "" {
		t.Errorf("the honest visit: %v", a)
	}
}

// A9: a pushed request can't ask for what the front channel may not, and no
// request_uri of anybody else is ever fetched.
func TestA9PushedOtherResponseTypesAndRequestObjects(t *testing.T) {
	s := authztest.New(t)
	fetched := make(chan string, 100)
	foreign := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { fetched <- r.URL.Path })}
	at := listen(t, foreign)
	b := s.Browser()
	b.Code("alice")
	before := leftBehind(t, s)
	for _, c := range []struct{ name, value, code string }{
		{"response_type", "token", "unsupported_response_type"},
		{"response_type", "code id_token", "unsupported_response_type"},
		{"response_type", "", "invalid_request"},
		{"response_mode", "form_post", "invalid_request"},
		{"response_mode", "fragment", "invalid_request"},
		{"request", "eyJhbGciOiJub25lIn0.e30.", "request_not_supported"},
		{"request_uri", at + "/request.jwt", "invalid_request"},
		{"request_uri", s.Push().RequestURI, "invalid_request"},
		{"registration", "{}", "registration_not_supported"},
		{"scope", "openid admin", "invalid_scope"},
		{"code_challenge_method", "plain", "invalid_request"},
	} {
		if got := s.Push(c.name, c.value); got.Error != c.code || got.RequestURI != "" {
			t.Errorf("%s=%s: %+v, %s expected", c.name, c.value, got, c.code)
		}
	}
	for _, uri := range []string{at + "/request.jwt", "https://evil.net/x", "file:///etc/passwd", "urn:ietf:params:oauth:request_uri", "URN:ietf:params:oauth:request_uri:x"} {
		p := b.Get("/authorize?" + s.Authorization("request_uri", uri).Encode())
		if a := p.Answer(); a.Get("error") != "request_uri_not_supported" || a.Get("iss") != s.URL {
			t.Errorf("request_uri=%s: %d %s", uri, p.StatusCode, p.Header.Get("Location"))
		}
	}
	if len(fetched) > 0 || leftBehind(t, s) != before {
		t.Errorf("something was fetched, or left behind: %+v", leftBehind(t, s))
	}
	if a := b.Visit(s.Push().RequestURI).Answer(); a.Get("code") == "" {
		t.Errorf("the honest push: %v", a)
	}
}

// A8 wherever else parameters are taken, and the credentials in headers.
func TestA8PollutionElsewhere(t *testing.T) {
	s := authztest.New(t)
	active := introspecting(t, s)
	b := s.Browser()
	tokens := s.Redeem(b.Code("alice"))
	for path, form := range map[string]url.Values{
		"/revoke":     {"client_id": {"spa"}, "token": {tokens.RefreshToken}, "token_type_hint": {"refresh_token"}},
		"/introspect": {"token": {tokens.AccessToken}},
		"/token":      refreshing(tokens.RefreshToken),
	} {
		for name := range form {
			twice := with(form)
			twice[name] = []string{form.Get(name), form.Get(name)}
			if got := post(t, s, path, twice); got.Error != "invalid_request" {
				t.Errorf("%s with a second %s: %+v", path, name, got)
			}
		}
		if got := post(t, s, path+"?"+form.Encode(), form); got.Error != "invalid_request" {
			t.Errorf("%s with a query: %+v", path, got)
		}
	}
	logout := url.Values{"id_token_hint": {tokens.IDToken}, "post_logout_redirect_uri": {"https://spa.example.com/"}, "client_id": {"spa"}, "state": {"x"}}
	for name := range logout {
		if p := b.Get("/logout?" + logout.Encode() + "&" + url.Values{name: {logout.Get(name)}}.Encode()); !isRefusedHere(p) {
			t.Errorf("/logout with a second %s: %d %s", name, p.StatusCode, p.Header.Get("Location"))
		}
	}
	if p := b.Send(request(t, "POST", s.URL+"/logout?"+logout.Encode(), logout), "cross-site"); !isRefusedHere(p) {
		t.Errorf("/logout with query and body: %d", p.StatusCode)
	}
	bearer := "Bearer " + tokens.AccessToken
	for name, r := range map[string]*http.Request{
		"two tokens":               request(t, "GET", s.URL+"/userinfo", nil, "Authorization", bearer, "Authorization", bearer),
		"two tokens in one header": request(t, "GET", s.URL+"/userinfo", nil, "Authorization", bearer+", "+bearer),
		"a token in the body":      request(t, "POST", s.URL+"/userinfo", url.Values{"access_token": {tokens.AccessToken}}),
		"a token in the query":     request(t, "GET", s.URL+"/userinfo?access_token="+tokens.AccessToken, nil),
		"a token in a cookie":      request(t, "GET", s.URL+"/userinfo", nil, "Cookie", "access_token="+tokens.AccessToken),
		"two spaces":               request(t, "GET", s.URL+"/userinfo", nil, "Authorization", "Bearer  "+tokens.AccessToken),
	} {
		resp, err := http.DefaultClient.Do(r)
		check(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("/userinfo with %s: %d", name, resp.StatusCode)
		}
	}
	if !active(tokens.AccessToken) || s.UserInfo(tokens.AccessToken) != http.StatusOK || s.Refresh(tokens.RefreshToken).Status != http.StatusOK {
		t.Error("the attempts ended something, or the honest requests fail")
	}
}

// A5 from the origin of another registered app: the preflight can't know for
// whom it asks; the request itself is refused, and its answer not readable.
func TestA5AnotherAppsOrigin(t *testing.T) {
	s := authztest.New(t)
	s.AddClient(clients.Client{ID: "other", RedirectURIs: []clients.RedirectURI{"https://other.example/"}, Origins: []clients.Origin{"https://other.example"}, Audiences: []string{authztest.Audience}})
	_, signer := backend(s, nil)
	key := s.Key()
	tokens, bound := s.SignIn("alice"), s.With(key).SignIn("alice")
	before := leftBehind(t, s)
	for name, r := range map[string]*http.Request{
		"/token":                request(t, "POST", s.URL+"/token", refreshing(tokens.RefreshToken)),
		"/par":                  request(t, "POST", s.URL+"/par", s.Authorization()),
		"/revoke":               request(t, "POST", s.URL+"/revoke", url.Values{"client_id": {"spa"}, "token": {tokens.RefreshToken}}),
		"/userinfo":             request(t, "GET", s.URL+"/userinfo", nil, "Authorization", "Bearer "+tokens.AccessToken),
		"/userinfo with a key":  request(t, "GET", s.URL+"/userinfo", nil, "Authorization", "DPoP "+bound.AccessToken, "DPoP", proofFor(s, key, bound.AccessToken)),
		"/token of a backend":   request(t, "POST", s.URL+"/token", signer.Sign(url.Values{"grant_type": {"client_credentials"}}, "backend", nil)),
		"/par of a backend":     request(t, "POST", s.URL+"/par", signer.Sign(s.Authorization(ofBackend()...), "backend", nil)),
		"/token with no client": request(t, "POST", s.URL+"/token", url.Values{"grant_type": {"refresh_token"}}),
	} {
		r.Header.Set("Origin", "https://other.example")
		got := s.Do(r)
		if got.Status != http.StatusForbidden && name != "/token with no client" || got.Status/100 != 4 || got.Header.Get("Access-Control-Allow-Origin") != "" || got.AccessToken != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if after := leftBehind(t, s); after != before || len(liveGrants(t, s)) != 2 {
		t.Errorf("left behind: %+v, before %+v", after, before)
	}
	if got := s.Refresh(tokens.RefreshToken); got.Status != http.StatusOK {
		t.Errorf("the app: %+v", got)
	}
}
