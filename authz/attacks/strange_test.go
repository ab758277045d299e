package attacks

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
)

// E27: on plain http the cookies bear other names, and the log says so.
func TestE27PlainHTTPIsSaid(t *testing.T) {
	const warning = "cookies are sent over plain http"
	s := authztest.New(t)
	p := s.Browser().Authorize()
	if !strings.Contains(s.Log.String(), warning) {
		t.Error("the log does not say that cookies are sent over plain http")
	}
	if p.StatusCode != http.StatusOK {
		t.Errorf("the login page: %d", p.StatusCode)
	}
	secure := authztest.New(t, func(c *authz.Config) { c.Development, c.Issuer = false, "https://login.example.com" })
	if strings.Contains(secure.Log.String(), warning) {
		t.Error("a server on https says so, too")
	}
}

// E30 for all that takes forms of clients: 10 MB, many parameters, many bytes
// in a header, strange names and values. Clear refusals, and nothing of it long
// in the log.
func TestE30StrangeClientRequests(t *testing.T) {
	s := authztest.New(t)
	tokens := s.SignIn("alice")
	long := strings.Repeat("x", 60<<10)
	paths := []string{"/token", "/par", "/revoke", "/introspect"}
	for _, path := range paths {
		r := request(t, "POST", s.URL+path, url.Values{"x": {strings.Repeat("A", 10<<20)}}, "Authorization", basic("x", "y"))
		if resp, err := http.DefaultClient.Do(r); err == nil { // or the server hung up
			resp.Body.Close()
			if resp.StatusCode/100 != 4 {
				t.Errorf("10 MB to %s: %d", path, resp.StatusCode)
			}
		}
		for name, form := range map[string]url.Values{
			"a long client_id":        {"client_id": {long}},
			"a NUL in client_id":      {"client_id": {"spa\x00"}},
			"no UTF-8 in client_id":   {"client_id": {"\xff"}},
			"a look-alike client_id":  {"client_id": {"ſpa"}},
			"a line break":            {"client_id": {"spa\r\n"}},
			"a long assertion":        {"client_assertion": {long}, "client_assertion_type": {jwtBearer}},
			"an assertion of NULs":    {"client_assertion": {strings.Repeat("\x00", 100)}, "client_assertion_type": {jwtBearer}},
			"a long assertion's type": {"client_assertion": {"x"}, "client_assertion_type": {long}},
		} {
			if got := post(t, s, path, form); got.Error != "invalid_client" {
				t.Errorf("%s to %s: %+v", name, path, got)
			}
		}
		many := url.Values{"client_id": {"spa"}}
		for i := range 5000 {
			many.Set(fmt.Sprint("p", i), "")
		}
		if got := post(t, s, path, many); got.Status/100 != 4 {
			t.Errorf("5000 parameters to %s: %+v", path, got)
		}
		for name, r := range map[string]*http.Request{
			"10000 bytes of proof":         request(t, "POST", s.URL+path, url.Values{"client_id": {"spa"}}, "DPoP", strings.Repeat("x", 10000)),
			"10000 bytes of credential":    request(t, "POST", s.URL+path, url.Values{"client_id": {"spa"}}, "Authorization", "Basic "+strings.Repeat("x", 10000)),
			"10000 bytes of Origin":        request(t, "POST", s.URL+path, url.Values{"client_id": {"spa"}}, "Origin", "https://"+strings.Repeat("x", 10000)),
			"another charset":              request(t, "POST", s.URL+path, url.Values{"client_id": {"spa"}}, "Content-Type", "application/json"),
			"a form that can't be decoded": request(t, "POST", s.URL+path, nil, "Content-Type", "application/x-www-form-urlencoded"),
		} {
			if got := s.Do(r); got.Status/100 != 4 {
				t.Errorf("%s to %s: %+v", name, path, got)
			}
		}
	}
	for name, form := range map[string]url.Values{
		"a long code": exchange(long), "a long refresh token": refreshing(long), "a code of dots": exchange("sgc_" + strings.Repeat("x.", 100) + "." + strings.Repeat("A", 43)),
		"a code of NULs": exchange("sgc_\x00.\xff.a." + strings.Repeat("A", 43)), "a refresh token of no grant": refreshing("sgr_...." + strings.Repeat("A", 54)),
	} {
		if got := post(t, s, "/token", form); got.Error != "invalid_grant" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	b := s.Browser()
	for name, value := range map[string]string{"no UTF-8": "\xff", "half a character": "\xe2\x82", "a NUL": "a\x00b", "a surrogate": "\xed\xa0\x80"} {
		for _, parameter := range []string{"state", "nonce", "login_hint", "ui_locales", "unknown"} {
			if p := b.Get("/authorize?" + s.Authorization(parameter, value).Encode()); !isRefusedHere(p) {
				t.Errorf("%s in %s: %d %s", name, parameter, p.StatusCode, p.Header.Get("Location"))
			}
			if got := s.Push(parameter, value); got.Error != "invalid_request" {
				t.Errorf("%s in a pushed %s: %+v", name, parameter, got)
			}
		}
	}
	// What is odd and allowed comes back as it was.
	b.Code("alice")
	for _, state := range []string{"é€𝄞", "a\r\nb", "<script>", "%00", "a+b c&d=e#f", "\u2028\ufffd"} {
		for way, p := range map[string]authztest.Page{"front": b.Authorize("state", state), "pushed": b.Visit(s.Push("state", state).RequestURI)} {
			if a := p.Answer(); a.Get("state") != state || a.Get("code") == "" {
				t.Errorf("state %q, %s: %d %v", state, way, p.StatusCode, a)
			}
		}
	}
	for line := range strings.Lines(s.Log.String()) {
		if len(line) > 2000 {
			t.Errorf("a line of %d bytes in the log: %.200s", len(line), line)
		}
	}
	if got := s.Refresh(tokens.RefreshToken); got.Status != http.StatusOK {
		t.Errorf("the server is out of order: %+v", got)
	}
}

// TestUncleanPathsGoNowhere: no redirect by 307, which would carry a password
// or a code on, and no other spelling of an endpoint.
func TestUncleanPathsGoNowhere(t *testing.T) {
	s := authztest.New(t)
	for _, line := range []string{
		"POST //token", "POST //login", "POST /x/../token", "POST /./par", "GET //authorize?client_id=spa", "GET /authorize/../login", "GET //evil.net/", "GET //evil.net/..", `GET /\evil.net//x`,
		"GET http://evil.net//authorize", "POST /token/", "GET /login/", "GET /.well-known//openid-configuration",
	} {
		resp := raw(t, s, line+" HTTP/1.1\r\nHost: evil.net\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		if resp.StatusCode != http.StatusNotFound || resp.Header.Get("Location") != "" {
			t.Errorf("%s: %d %s", line, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
	for line, status := range map[string]int{"GET /livez": http.StatusOK, "GET /.well-known/openid-configuration": http.StatusOK, "POST /token": http.StatusBadRequest, "GET /": http.StatusOK} {
		if resp := raw(t, s, line+" HTTP/1.1\r\nHost: evil.net\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"); resp.StatusCode != status {
			t.Errorf("%s: %d", line, resp.StatusCode)
		}
	}
}

// raw sends bytes as they are, and returns the answer's head.
func raw(t *testing.T, s *authztest.Server, text string) *http.Response {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.Address, "http://"))
	check(t, err)
	defer c.Close()
	fmt.Fprint(c, text)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	check(t, err)
	resp.Body.Close()
	return resp
}

// TestHeadIsNoRequest: a HEAD, which nobody sees the answer of, makes no code
// and ends no session.
func TestHeadIsNoRequest(t *testing.T) {
	s := authztest.New(t)
	b := s.Browser()
	tokens := s.Redeem(b.Code("alice"))
	before := leftBehind(t, s)
	pushed := s.Push().RequestURI
	for _, path := range []string{
		"/authorize?" + s.Authorization().Encode(), "/authorize?" + url.Values{"client_id": {"spa"}, "request_uri": {pushed}}.Encode(),
		"/logout?" + url.Values{"id_token_hint": {tokens.IDToken}}.Encode(),
	} {
		if p := b.Send(request(t, "HEAD", s.URL+path, nil), "none"); p.StatusCode != http.StatusBadRequest || p.Header.Get("Location") != "" {
			t.Errorf("HEAD %.20s: %d %s", path, p.StatusCode, p.Header.Get("Location"))
		}
	}
	if after := leftBehind(t, s); after != before || s.UserInfo(tokens.AccessToken) != http.StatusOK {
		t.Errorf("left behind: %+v, before %+v", after, before)
	}
	if a := b.Visit(pushed).Answer(); a.Get("code") == "" {
		t.Errorf("the honest GET: %v", a)
	}
}

// E32 for what a client says of itself and sends along, pushed or not: no page
// of ours has it unescaped.
func TestE32PushedMarkup(t *testing.T) {
	const payload = `"><script>alert(1)</script><img src=x onerror=alert(1)>'`
	s := authztest.New(t)
	s.UpdateClient(func(c *clients.Client) { c.Name, c.Consent = payload, true })
	b := s.Browser()
	clean := func(where string, p authztest.Page) {
		t.Helper()
		if strings.Contains(p.Body, "<script>alert") || strings.Contains(p.Body, "<img src=x") || !strings.Contains(p.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: %s\n%s", where, p.Header.Get("Content-Security-Policy"), p.Body)
		}
	}
	p := b.Visit(s.Push("state", payload, "login_hint", payload, "ui_locales", payload, "nonce", payload).RequestURI)
	if !strings.Contains(p.Body, "&lt;script&gt;alert(1)") {
		t.Errorf("the name is not on the page:\n%s", p.Body)
	}
	clean("login page", p)
	clean("consent page", b.SignIn(p, "alice", authztest.Password))
	clean("error page", b.Visit(payload))
	clean("error page of a request_uri", b.Visit("urn:ietf:params:oauth:request_uri:"+payload))
	clean("logout page", b.Get("/logout?client_id=spa"))
}
