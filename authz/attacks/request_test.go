package attacks

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/storage"
)

// grantsOf lists alice's grants.
func grantsOf(t *testing.T, s *authztest.Server) []storage.Grant {
	t.Helper()
	list, err := s.Store.ListGrants(t.Context(), s.User("alice").ID, storage.Page{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// lookAlikes are origins that are not https://spa.example.com.
var lookAlikes = []string{
	"null", "http://spa.example.com", "https://spa.example.com:8443", "https://spa.example.com:443", "https://spa.example.com/",
	"https://spa.example.com.", "https://SPA.example.com", "HTTPS://spa.example.com", "https://spa.example.com.evil.net",
	"https://evilspa.example.com", "https://evil.net", "https://spa.example", "https://xn--sp-hia.example.com", "https://spa.example.com@evil.net",
	"https://user@spa.example.com", "file://", "", "https://spa.example.com, https://evil.net",
}

func TestA5ForeignOrigins(t *testing.T) {
	s := authztest.New(t)
	send := func(method, path, origin string, form url.Values, header ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if form != nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		r.Header["Origin"] = []string{origin}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	tokens := s.SignIn("alice")
	refresh := url.Values{"grant_type": {"refresh_token"}, "client_id": {"spa"}, "refresh_token": {tokens.RefreshToken}}
	revoke := url.Values{"client_id": {"spa"}, "token": {tokens.RefreshToken}}
	for _, origin := range lookAlikes {
		for path, form := range map[string]url.Values{"/token": refresh, "/revoke": revoke} {
			if resp := send("POST", path, origin, form); resp.StatusCode != http.StatusForbidden || resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s from %q: %d, allowed origin %q", path, origin, resp.StatusCode, resp.Header.Get("Access-Control-Allow-Origin"))
			}
		}
		if resp := send("GET", "/userinfo", origin, nil, "Authorization", "Bearer "+tokens.AccessToken); resp.StatusCode != http.StatusForbidden || resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("/userinfo from %q: %d", origin, resp.StatusCode)
		}
		if resp := send("OPTIONS", "/token", origin, nil, "Access-Control-Request-Method", "POST"); resp.StatusCode != http.StatusForbidden || resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("preflight from %q: %d", origin, resp.StatusCode)
		}
	}
	// The attempts used nothing up and revoked nothing.
	resp := send("OPTIONS", "/token", "https://spa.example.com", nil, "Access-Control-Request-Method", "POST")
	if resp.StatusCode != http.StatusNoContent || resp.Header.Get("Access-Control-Allow-Origin") != "https://spa.example.com" || resp.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("the app's preflight: %d %v", resp.StatusCode, resp.Header)
	}
	if resp := send("POST", "/token", "https://spa.example.com", refresh); resp.StatusCode != http.StatusOK || resp.Header.Get("Access-Control-Allow-Origin") != "https://spa.example.com" {
		t.Errorf("the app's refresh: %d %v", resp.StatusCode, resp.Header)
	}
	if resp := send("GET", "/authorize?"+s.Authorization().Encode(), "https://spa.example.com", nil); resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("the authorization endpoint has CORS headers")
	}
}

func TestA7RedirectURILookAlikes(t *testing.T) {
	s := authztest.New(t)
	b := s.Browser()
	if code := b.Code("alice"); code == "" {
		t.Fatal("the honest request fails")
	}
	before := len(grantsOf(t, s))
	for _, uri := range []string{
		"https://spa.example.com/callback/", "https://spa.example.com/callback?x=1", "https://spa.example.com/callback?", "https://spa.example.com/callback#x", "https://spa.example.com/callback#",
		"https://spa.example.com/callback/../evil", "https://spa.example.com/x/../callback", "https://spa.example.com/%63allback", "https://spa.example.com/callback/%2e%2e/evil", "https://spa.example.com/./callback",
		"https://spa.example.com//callback", "https://spa.example.com@evil.net/callback", "https://evil.net/callback@spa.example.com", "https://user:pw@spa.example.com/callback",
		"https://spa.example.com:443/callback", "https://SPA.example.com/callback", "https://spa.example.com/Callback", "HTTPS://spa.example.com/callback", "http://spa.example.com/callback",
		"https://*.example.com/callback", "https://spa.example.com./callback", "https://spa.example.com.evil.net/callback", "https://evilspa.example.com/callback",
		`https://spa.example.com\callback`, `https:\\spa.example.com/callback`, "https://spa.example.com/callback\r\nX: y", "https://spa.example.com/callback%0d%0aX:y", "https://spa.example.com/callback\x00", " https://spa.example.com/callback", "https://spa.example.com/callback ",
		"https://[::1]/callback", "https://2130706433/callback", "https://127.0.0.1/callback", "http://127.0.0.1:9002/callback", "http://localhost/callback",
		"javascript:alert(1)", "data:text/html,x", "//spa.example.com/callback", "/callback", "callback", "spa.example.com/callback", "",
	} {
		q := s.Authorization()
		q["redirect_uri"] = []string{uri}
		p := b.Get("/authorize?" + q.Encode())
		if p.StatusCode != http.StatusBadRequest || p.Header.Get("Location") != "" {
			t.Errorf("%q: %d, Location %q", uri, p.StatusCode, p.Header.Get("Location"))
		}
		if len(uri) > 12 && strings.Contains(p.Body, uri) {
			t.Errorf("%q is on the page", uri)
		}
	}
	if p := b.Get("/authorize?" + s.Authorization("redirect_uri", "").Encode()); p.StatusCode != http.StatusBadRequest {
		t.Errorf("no redirect_uri: %d", p.StatusCode)
	}
	if p := b.Get("/authorize?" + s.Authorization().Encode() + "&redirect_uri=https%3A%2F%2Fevil.net%2F"); p.StatusCode != http.StatusBadRequest {
		t.Errorf("two redirect_uri: %d", p.StatusCode)
	}
	if n := len(grantsOf(t, s)); n != before {
		t.Errorf("%d grants, %d before", n, before)
	}
}

func TestA8ParameterPollution(t *testing.T) {
	s := authztest.New(t)
	b := s.Browser()
	code := b.Code("alice")
	before := len(grantsOf(t, s))
	good := s.Authorization("prompt", "login", "max_age", "1", "login_hint", "x", "resource", authztest.Audience)
	for name := range good {
		for _, second := range []string{good.Get(name), "other", ""} {
			if p := b.Get("/authorize?" + good.Encode() + "&" + url.Values{name: {second}}.Encode()); p.StatusCode != http.StatusBadRequest || p.Header.Get("Location") != "" {
				t.Errorf("/authorize with a second %s: %d %s", name, p.StatusCode, p.Header.Get("Location"))
			}
		}
	}
	if p := b.Get("/authorize?" + good.Encode() + "&unknown=1&unknown=2"); p.StatusCode != http.StatusBadRequest {
		t.Errorf("an unknown parameter twice: %d", p.StatusCode)
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/authorize?"+good.Encode(), strings.NewReader(good.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if p := b.Send(r, "cross-site"); p.StatusCode != http.StatusBadRequest {
		t.Errorf("parameters in query and body: %d", p.StatusCode)
	}
	r, err = http.NewRequestWithContext(t.Context(), "GET", s.URL+"/authorize", strings.NewReader(good.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if p := b.Send(r, "cross-site"); p.StatusCode != http.StatusBadRequest {
		t.Errorf("parameters in the body of a GET: %d", p.StatusCode)
	}

	form := url.Values{"grant_type": {"authorization_code"}, "client_id": {"spa"}, "code": {code}, "redirect_uri": {"https://spa.example.com/callback"}, "code_verifier": {authztest.Verifier}}
	for name := range form {
		twice := url.Values{}
		for k, v := range form {
			twice[k] = v
		}
		twice[name] = []string{form.Get(name), form.Get(name)}
		if got := s.PostForm("/token", twice); got.Error != "invalid_request" || got.Status != http.StatusBadRequest {
			t.Errorf("/token with a second %s: %+v", name, got)
		}
	}
	if got := s.PostForm("/token?"+form.Encode(), form); got.Error != "invalid_request" {
		t.Errorf("/token with a query: %+v", got)
	}
	if got := s.PostForm("/token?"+form.Encode(), url.Values{}); got.Error != "invalid_request" {
		t.Errorf("/token with a query alone: %+v", got)
	}
	if n := len(grantsOf(t, s)); n != before {
		t.Errorf("%d grants, %d before", n, before)
	}
	if got := s.Redeem(code); got.Status != http.StatusOK {
		t.Errorf("the attempts used up the code: %+v", got)
	}
	// The honest request as a form post.
	r, err = http.NewRequestWithContext(t.Context(), "POST", s.URL+"/authorize", strings.NewReader(s.Authorization().Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if p := b.Follow(b.Send(r, "cross-site")); p.Answer().Get("code") == "" {
		t.Errorf("a good form post: %d %s", p.StatusCode, p.Header.Get("Location"))
	}
}

func TestA9OtherResponseTypesAndRequestObjects(t *testing.T) {
	s := authztest.New(t)
	fetched := false
	foreign := http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetched = true })}
	defer foreign.Close()
	b := s.Browser()
	if b.Code("alice") == "" {
		t.Fatal("the honest request fails")
	}
	before := len(grantsOf(t, s))
	for _, c := range []struct{ name, value, code string }{
		{"response_type", "token", "unsupported_response_type"},
		{"response_type", "id_token", "unsupported_response_type"},
		{"response_type", "code id_token", "unsupported_response_type"},
		{"response_type", "code token", "unsupported_response_type"},
		{"response_type", "CODE", "unsupported_response_type"},
		{"response_type", "none", "unsupported_response_type"},
		{"response_type", "", "invalid_request"},
		{"response_mode", "form_post", "invalid_request"},
		{"response_mode", "fragment", "invalid_request"},
		{"response_mode", "web_message", "invalid_request"},
		{"request", "eyJhbGciOiJub25lIn0.e30.", "request_not_supported"},
		{"request_uri", "https://evil.net/request.jwt", "request_uri_not_supported"},
		{"registration", "{}", "registration_not_supported"},
		{"prompt", "create", "invalid_request"},
		{"prompt", "none login", "invalid_request"},
		{"max_age", "-1", "invalid_request"},
		{"max_age", "abc", "invalid_request"},
		{"scope", "openid admin", "invalid_scope"},
		{"scope", "OPENID", "invalid_scope"},
		{"id_token_hint", "x.y.z", "invalid_request"},
	} {
		p := b.Get("/authorize?" + s.Authorization(c.name, c.value).Encode())
		a := p.Answer()
		if a.Get("error") != c.code || a.Get("code") != "" || a.Get("iss") != s.URL || a.Get("state") != "af0ifjsldkj" || !strings.HasPrefix(p.Header.Get("Location"), "https://spa.example.com/callback?") {
			t.Errorf("%s=%s: %d %s, %s expected", c.name, c.value, p.StatusCode, p.Header.Get("Location"), c.code)
		}
		if c.value != "" && strings.Contains(a.Get("error_description"), c.value) && len(c.value) > 8 {
			t.Errorf("%s=%s: the description repeats it", c.name, c.value)
		}
	}
	if fetched || len(grantsOf(t, s)) != before {
		t.Error("a URL was fetched, or a grant made")
	}
	if p := b.Get("/authorize?" + s.Authorization("response_mode", "query").Encode()); p.Answer().Get("code") == "" {
		t.Error("response_mode=query is refused")
	}
}
