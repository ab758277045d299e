package attacks

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage/storagetest"
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

// TestPushedRequestInTwoBrowsers: two logins race for one request_uri, at two
// servers; one gets a code.
func TestPushedRequestInTwoBrowsers(t *testing.T) {
	s := authztest.New(t)
	other := s.Replica()
	pushed := s.Push().RequestURI
	var logins []func() authztest.Page
	for i := range 8 {
		b := s.Browser()
		p := b.Visit(pushed)
		form := p.Form()
		form.Set("username", "alice")
		form.Set("password", authztest.Password)
		resume := b.Post("/login", form).Header.Get("Location")
		if !strings.HasPrefix(resume, s.URL+"/authorize?resume=") {
			t.Fatalf("the login goes on to %s", resume)
		}
		if i%2 == 0 { // cookies know no ports
			resume = strings.Replace(resume, s.URL, other.Address, 1)
		}
		logins = append(logins, func() authztest.Page { return b.Get(resume) })
	}
	var mu sync.Mutex
	var codes []string
	var all sync.WaitGroup
	for _, login := range logins {
		all.Go(func() {
			p := login()
			mu.Lock()
			defer mu.Unlock()
			if code := p.Answer().Get("code"); code != "" {
				codes = append(codes, code)
			} else if !isRefusedHere(p) {
				t.Errorf("a loser got %d %s", p.StatusCode, p.Header.Get("Location"))
			}
		})
	}
	all.Wait()
	if n := len(grantsOf(t, s)); len(codes) != 1 || n != 1 {
		t.Fatalf("%d codes, %d grants", len(codes), n)
	}
	if got := s.Redeem(codes[0]); got.Status != http.StatusOK {
		t.Errorf("the one code: %+v", got)
	}
	// Going back in the history is a second use, too.
	for _, login := range logins {
		if p := login(); !isRefusedHere(p) {
			t.Errorf("again: %d %s", p.StatusCode, p.Header.Get("Location"))
		}
	}
}

// TestRequestURIOfAnotherPurpose: whatever else the server seals is no pushed
// request, and a pushed request is nothing else.
func TestRequestURIOfAnotherPurpose(t *testing.T) {
	const prefix = "urn:ietf:params:oauth:request_uri:"
	s := authztest.New(t)
	s.AddClient(clients.Client{ID: "other", RedirectURIs: []clients.RedirectURI{"https://other.example/"}, Origins: []clients.Origin{"https://other.example"}, Audiences: []string{authztest.Audience}})
	b := s.Browser()
	login := b.Get("/authorize?" + s.Authorization().Encode()).Header.Get("Location")
	u, err := url.Parse(login)
	check(t, err)
	page := b.Get(login)
	resume, err := url.Parse(b.Post("/login", with(page.Form(), "username", "alice", "password", authztest.Password)).Header.Get("Location"))
	check(t, err)
	tokens := s.SignIn("alice")
	before := leftBehind(t, s)
	pushed := s.Push().RequestURI
	sealed := strings.TrimPrefix(pushed, prefix)
	for name, uri := range map[string]string{
		"a login's request": prefix + u.Query().Get("request"), "a login's token": prefix + page.Form().Get("token"), "a resumption": prefix + resume.Query().Get("resume"),
		"an access token": prefix + tokens.AccessToken, "an ID token": prefix + tokens.IDToken, "a refresh token": prefix + tokens.RefreshToken,
		"one bit": prefix + sealed[:30] + flip(sealed[30:31]) + sealed[31:], "cut": pushed[:len(pushed)-4], "longer": pushed + "AAAA", "nothing": prefix,
		"two": pushed + "," + pushed, "padded": pushed + "==", "a line break": pushed + "\n", "a NUL": pushed + "\x00", "no UTF-8": pushed + "\xff",
		"huge": prefix + strings.Repeat("A", 4000), "another key's": prefix + s.Ring.Seal("DPoP nonces", []byte("{}")), "an empty one": prefix + s.Ring.Seal("pushed authorization request", []byte("{}")),
	} {
		if p := b.Visit(uri); !isRefusedHere(p) {
			t.Errorf("%s: %d %s", name, p.StatusCode, p.Header.Get("Location"))
		}
	}
	for _, path := range []string{"/login?request=", "/consent?request=", "/authorize?resume="} {
		if p := b.Get(path + sealed); p.StatusCode != http.StatusBadRequest {
			t.Errorf("a pushed request at %s: %d", path, p.StatusCode)
		}
	}
	// Another client's is neither used nor used up.
	if p := b.Visit(pushed, "client_id", "other"); !isRefusedHere(p) {
		t.Errorf("another client's: %d %s", p.StatusCode, p.Header.Get("Location"))
	}
	if after := leftBehind(t, s); after != before {
		t.Errorf("left behind: %+v, before %+v", after, before)
	}
	if a := b.Visit(pushed).Answer(); a.Get("code") == "" {
		t.Errorf("the honest visit: %v", a)
	}
	noSecrets(t, s, map[string]string{"pushed request": sealed})
}

// flip returns another character of base64url.
func flip(c string) string {
	if c == "A" {
		return "B"
	}
	return "A"
}

// TestSmuggledBesideTheRequestURI: the browser can add what it likes; what was
// pushed counts. The request as a form post is no other one.
func TestSmuggledBesideTheRequestURI(t *testing.T) {
	s := authztest.New(t)
	key := s.Key()
	app := s.With(key)
	smuggled := []string{
		"redirect_uri", "https://evil.net/", "state", "evil", "nonce", "evil", "scope", "openid notes:write", "prompt", "none", "max_age", "0",
		"code_challenge", authztest.Challenge(strings.Repeat("x", 43)), "code_challenge_method", "plain", "dpop_jkt", s.Key().JKT,
		"resource", "https://reports.example.com", "response_mode", "fragment", "response_type", "token", "request", "x", "id_token_hint", "x", "client_secret", "x",
	}
	b := s.Browser()
	for name, end := range map[string]func(string) authztest.Page{
		"as a GET": func(uri string) authztest.Page { return finish(b, uri, smuggled...) },
		"as a form post": func(uri string) authztest.Page {
			q := with(url.Values{"client_id": {"spa"}, "request_uri": {uri}}, smuggled...)
			return b.Follow(b.Send(request(t, "POST", s.URL+"/authorize", q), "cross-site"))
		},
	} {
		p := end(app.Push().RequestURI)
		a := p.Answer()
		if !strings.HasPrefix(p.Header.Get("Location"), "https://spa.example.com/callback?") || a.Get("state") != "af0ifjsldkj" || a.Get("iss") != s.URL {
			t.Fatalf("%s: %d %s", name, p.StatusCode, p.Header.Get("Location"))
		}
		tokens := app.Redeem(a.Get("code"))
		if tokens.Status != http.StatusOK || jktOf(t, tokens) != key.JKT || strings.Contains(tokens.Scope, "write") ||
			authztest.Claims(t, tokens.AccessToken)["aud"] != authztest.Audience || authztest.Claims(t, tokens.IDToken)["nonce"] != "n-0S6_WzA2Mj" {
			t.Errorf("%s: %+v", name, tokens)
		}
	}
}

// TestHugePush: what is taken at /par can be taken up, whatever is in it; what
// can't be is refused there.
func TestHugePush(t *testing.T) {
	s := authztest.New(t)
	b := s.Browser()
	b.Code("alice")
	hint := s.SignIn("alice").IDToken
	for name, changes := range map[string][]string{
		"markup":      {"state", strings.Repeat("<", 1024)},
		"quotes":      {"state", strings.Repeat(`"`, 1024)},
		"two octets":  {"state", strings.Repeat("é", 512)},
		"all at once": {"state", strings.Repeat("<", 1024), "nonce", strings.Repeat("&", 512), "id_token_hint", hint, "login_hint", strings.Repeat("x", 300)},
		"a long hint": {"login_hint", strings.Repeat("x", 4096)},
		"unknown":     {"unknown", strings.Repeat("x", 4096), "unknown2", strings.Repeat("x", 4096)},
	} {
		pushed := s.Push(changes...)
		if pushed.Status == http.StatusBadRequest && pushed.Error == "invalid_request" && name != "markup" {
			continue
		}
		p := b.Visit(pushed.RequestURI)
		if a := p.Answer(); a.Get("code") == "" || a.Get("state") != s.Authorization(changes...).Get("state") {
			t.Errorf("%s: pushed %d, visited %d %.100s", name, pushed.Status, p.StatusCode, p.Header.Get("Location"))
		}
	}
	if got := s.Push("state", strings.Repeat("x", 70<<10)); got.Error != "invalid_request" {
		t.Errorf("70 KB: %+v", got)
	}
}

// TestPushedWithPromptNone: a hidden request tells the client alone, and an
// answer is an end.
func TestPushedWithPromptNone(t *testing.T) {
	s := authztest.New(t)
	b := s.Browser()
	b.Code("alice")
	if a := b.Visit(s.Push("prompt", "none").RequestURI).Answer(); a.Get("code") == "" {
		t.Fatalf("signed in: %v", a)
	}
	before := leftBehind(t, s)
	pushed := s.Push("prompt", "none").RequestURI
	r := request(t, "GET", s.URL+"/authorize?"+url.Values{"client_id": {"spa"}, "request_uri": {pushed}}.Encode(), nil, "Sec-Fetch-Dest", "iframe")
	if p := b.Send(r, "cross-site"); p.StatusCode != http.StatusForbidden {
		t.Errorf("in a frame: %d %s", p.StatusCode, p.Header.Get("Location"))
	}
	if a := s.Browser().Visit(pushed).Answer(); a.Get("error") != "login_required" || a.Get("iss") != s.URL {
		t.Errorf("a stranger: %v", a)
	}
	if p := b.Visit(pushed); !isRefusedHere(p) {
		t.Errorf("after the answer: %d %s", p.StatusCode, p.Header.Get("Location"))
	}
	if after := leftBehind(t, s); after != before {
		t.Errorf("left behind: %+v, before %+v", after, before)
	}
}

// TestPushedRequestWithoutAStore: when the store can't tell whether the request
// was used, nobody gets a code; when the code can't be stored, the client is
// told so and not that its request was used before.
func TestPushedRequestWithoutAStore(t *testing.T) {
	s := authztest.New(t)
	failing := ""
	broken := s.Replica(func(c *authz.Config) {
		c.Store = storagetest.WithFaults(s.Store, func(write string) storagetest.Outcome {
			return storagetest.Outcome{Fail: write == failing}
		})
	})
	b := s.Browser()
	b.Code("alice")
	before := leftBehind(t, s)
	for _, failing = range []string{"Once", "CreateGrant"} {
		q := url.Values{"client_id": {"spa"}, "request_uri": {s.Push().RequestURI}}
		p := b.Get(broken.Address + "/authorize?" + q.Encode())
		if a := p.Answer(); a.Get("error") != "temporarily_unavailable" || a.Get("code") != "" || a.Get("state") == "" {
			t.Errorf("%s fails: %d %s", failing, p.StatusCode, p.Header.Get("Location"))
		}
	}
	if after := leftBehind(t, s); after != before {
		t.Errorf("left behind: %+v, before %+v", after, before)
	}
	failing = ""
	if a := b.Visit(s.Push().RequestURI).Answer(); a.Get("code") == "" {
		t.Errorf("with a store: %v", a)
	}
}

// TestRequirementAppliesToLoginsUnderWay: who must push from now on gets no
// code for a request that was begun in the front channel before.
func TestRequirementAppliesToLoginsUnderWay(t *testing.T) {
	s := authztest.New(t)
	b, pushing := s.Browser(), s.Browser()
	page := b.Authorize()
	s.UpdateClient(func(c *clients.Client) { c.RequirePAR = true })
	if a := b.SignIn(page, "alice", authztest.Password).Answer(); a.Get("code") != "" || a.Get("error") != "invalid_request" {
		t.Errorf("a request from before: %v", a)
	}
	if n := len(grantsOf(t, s)); n != 0 {
		t.Errorf("%d grants", n)
	}
	if a := finish(pushing, s.Push().RequestURI).Answer(); a.Get("code") == "" {
		t.Errorf("a pushed request: %v", a)
	}
	s.Clock.Advance(time.Minute)
}
