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
	b.Code("alice") // signed in, whichever comes first
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
