package clients_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/solegate/solegate/clients"
)

func TestParseRedirectURI(t *testing.T) {
	for _, s := range []string{
		"https://app.example.com/", "https://app.example.com/callback", "https://app.example.com:8443/a/b?x=1", "https://xn--bcher-kva.example/cb",
		"https://192.0.2.1/cb", "https://[2001:db8::1]/cb", "https://app.example.com/a%20b", "https://localhost/cb",
	} {
		if got, err := clients.ParseRedirectURI(s, false); err != nil || string(got) != s {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{
		"", "/callback", "app.example.com/cb", "//app.example.com/cb", "http://app.example.com/cb", "http://127.0.0.1/cb", "http://localhost:3000/cb",
		"javascript:alert(1)", "javascript://app.example.com/%0aalert(1)", "data:text/html,x", "myapp://callback", "com.example.app:/cb", "ftp://app.example.com/cb",
		"https://*.example.com/cb", "https://app.example.com/*", "https://app.example.com/cb#x", "https://app.example.com/cb#",
		"https://user@app.example.com/cb", "https://user:pw@app.example.com/cb", "https://app.example.com@evil.net/cb",
		"https://App.example.com/cb", "HTTPS://app.example.com/cb", "https://app.example.com:443/cb", "https://app.example.com:/cb", "https://app.example.com:0443/cb", "https://app.example.com:99999/cb",
		"https://app.example.com./cb", "https://app..example.com/cb", "https://.example.com/cb", "https://-a.example.com/cb", "https:///cb", "https://",
		"https://app.example.com", "https://app.example.com/../cb", "https://app.example.com/./cb", "https://app.example.com/a/%2e%2e/cb", "https://app.example.com/a%2Fb", "https://app.example.com/a%5cb", "https://app.example.com/%00", "https://app.example.com/%252e", "https://app.example.com//cb",
		`https://app.example.com\cb`, "https://app.example.com/c b", "https://app.example.com/cb\r\n", "https://app.example.com/cb\x00", "https://bücher.example/cb", "https://app.example.com/ü",
		"https://2130706433/cb", "https://0x7f.1/cb", "https://127.1/cb", "https://[::ffff:127.0.0.1]/cb", "https://[0:0::1]/cb", "https://[fe80::1%25eth0]/cb",
		"https://app.example.com/" + strings.Repeat("a", 3000), "https://app.example.com/cb?<script>", "https://app.example.com/cb?iss=https://evil.net", "https://app.example.com/cb?a=b&state=x", "https://app.example.com/cb?c%6Fde=x", "https://app.example.com/cb?error", "https://app.example.com/cb?x=%zz", "https://app.example.com/cb?a;state=x",
		`https://app.example.com/cb"`,
	} {
		if _, err := clients.ParseRedirectURI(s, false); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
	for s, want := range map[string]bool{
		"http://127.0.0.1:9002/cb": true, "http://localhost:3000/cb": true, "http://[::1]:3000/cb": true, "http://127.0.0.1/cb": true,
		"http://127.0.0.2/cb": false, "http://192.168.0.1/cb": false, "http://localhost.evil.net/cb": false, "http://127.0.0.1:80/cb": false, "http://app.example.com/cb": false,
	} {
		if _, err := clients.ParseRedirectURI(s, true); (err == nil) != want {
			t.Errorf("in development %q: %v", s, err)
		}
	}
}

func TestParseOrigin(t *testing.T) {
	for s, want := range map[string]bool{
		"https://app.example.com": true, "https://app.example.com:8443": true,
		"https://app.example.com/": false, "https://app.example.com?": false, "null": false, "*": false, "https://*": false, "http://app.example.com": false, "https://app.example.com:443": false, "": false,
	} {
		if _, err := clients.ParseOrigin(s, false); (err == nil) != want {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func good() clients.Client {
	return clients.Client{
		ID: "spa", RedirectURIs: []clients.RedirectURI{"https://app.example.com/cb"},
		Origins: []clients.Origin{"https://app.example.com"}, Audiences: []string{"https://api.example.com"},
	}
}

func TestValidate(t *testing.T) {
	c := good()
	warnings, err := c.Validate(false)
	if err != nil || len(warnings) != 0 || c.Name != "spa" || c.IDTokenAlg != "ES256" || len(c.Scopes) == 0 {
		t.Errorf("%+v, %v, %v", c, warnings, err)
	}
	for name, change := range map[string]func(*clients.Client){
		"no id":             func(c *clients.Client) { c.ID = "" },
		"id with a space":   func(c *clients.Client) { c.ID = "a b" },
		"no redirect URI":   func(c *clients.Client) { c.RedirectURIs = nil },
		"no origin":         func(c *clients.Client) { c.Origins = nil },
		"no audience":       func(c *clients.Client) { c.Audiences = nil },
		"twice":             func(c *clients.Client) { c.Origins = append(c.Origins, c.Origins[0]) },
		"audience is id":    func(c *clients.Client) { c.ID, c.Audiences = "urn.x", []string{"urn.x"} },
		"relative audience": func(c *clients.Client) { c.Audiences = []string{"api"} },
		"audience fragment": func(c *clients.Client) { c.Audiences = []string{"https://api.example.com#x"} },
		"scope with space":  func(c *clients.Client) { c.Scopes = []string{"a b"} },
		"scope with quote":  func(c *clients.Client) { c.Scopes = []string{`a"`} },
		"algorithm":         func(c *clients.Client) { c.IDTokenAlg = "none" },
		"HS256":             func(c *clients.Client) { c.IDTokenAlg = "HS256" },
		"name":              func(c *clients.Client) { c.Name = "a\nb" },
		"long name":         func(c *clients.Client) { c.Name = strings.Repeat("x", 101) },
		"life":              func(c *clients.Client) { c.RefreshIdle = -1 },
		"logout URI":        func(c *clients.Client) { c.PostLogoutRedirectURIs = []clients.RedirectURI{"http://x/"} },
	} {
		c := good()
		change(&c)
		if _, err := c.Validate(false); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c = good()
	c.ID, c.Audiences, c.RedirectURIs = "a b", nil, []clients.RedirectURI{"http://x/"}
	if _, err := c.Validate(false); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("all mistakes at once: %v", err)
	}
	c = good()
	if _, err := c.Validate(true); err != nil || c.Development {
		t.Errorf("a client without http, registered in development mode: development %t, %v", c.Development, err)
	}
	c.RedirectURIs = []clients.RedirectURI{"http://localhost:3000/cb"}
	if _, err := c.Validate(true); err != nil || !c.Development {
		t.Errorf("a client with http: development %t, %v", c.Development, err)
	}
	c = good()
	c.Origins = append(c.Origins, "https://other.example.com")
	c.RedirectURIs = append(c.RedirectURIs, "https://third.example.com/cb")
	if warnings, err := c.Validate(false); err != nil || len(warnings) != 2 {
		t.Errorf("warnings %q, %v", warnings, err)
	}
}

// FuzzParseRedirectURI: what is accepted is https with a host, and its
// spelling is the one that a browser would send.
func FuzzParseRedirectURI(f *testing.F) {
	for _, s := range []string{"https://app.example.com/cb", "https://a@b/", "https://[::1]/", "http://127.0.0.1/", "https://1.1/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := clients.ParseRedirectURI(s, false)
		if err != nil {
			return
		}
		u, err := url.Parse(s)
		if err != nil || string(got) != s || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.String() != s && !strings.Contains(s, "?") {
			t.Errorf("%q was accepted", s)
		}
	})
}

func FuzzParseOrigin(f *testing.F) {
	f.Add("https://app.example.com")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := clients.ParseOrigin(s, false); err == nil && strings.Count(s, "/") != 2 {
			t.Errorf("%q was accepted", s)
		}
	})
}
