package authztest

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
)

// Browser is a browser's worth of cookies, without a page: it sends the
// headers that a browser sends for a navigation, and follows no redirect.
type Browser struct {
	*http.Client
	server *Server
}

// Browser returns a new browser.
func (s *Server) Browser() *Browser {
	jar, err := cookiejar.New(nil)
	check(s.TB, err)
	return &Browser{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, s}
}

// Page is an answer with its body read.
type Page struct {
	*http.Response
	Body string
}

// Get navigates to a path of the server.
func (b *Browser) Get(path string) Page {
	b.server.TB.Helper()
	if strings.HasPrefix(path, "/") {
		path = b.server.URL + path
	}
	r, err := http.NewRequestWithContext(b.server.TB.Context(), "GET", path, nil)
	check(b.server.TB, err)
	return b.Send(r, "none")
}

// Post submits a form of one of the server's own pages.
func (b *Browser) Post(path string, form url.Values) Page {
	b.server.TB.Helper()
	r, err := http.NewRequestWithContext(b.server.TB.Context(), "POST", b.server.URL+path, strings.NewReader(form.Encode()))
	check(b.server.TB, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", b.server.URL)
	return b.Send(r, "same-origin")
}

// Send sends a navigation; site is its Sec-Fetch-Site.
func (b *Browser) Send(r *http.Request, site string) Page {
	b.server.TB.Helper()
	for name, value := range map[string]string{"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"} {
		if _, ok := r.Header[name]; !ok {
			r.Header.Set(name, value)
		}
	}
	resp, err := b.Do(r)
	check(b.server.TB, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(b.server.TB, err)
	return Page{resp, string(body)}
}

// Follow follows redirects for as long as they stay at the server.
func (b *Browser) Follow(p Page) Page {
	b.server.TB.Helper()
	for p.StatusCode == http.StatusSeeOther && strings.HasPrefix(p.Header.Get("Location"), b.server.URL+"/") {
		p = b.Get(p.Header.Get("Location"))
	}
	return p
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([a-z]+)" value="([^"]*)">`)

// Form returns the hidden fields of the page's form.
func (p Page) Form() url.Values {
	form := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(p.Body, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	return form
}

// Authorize begins an authorization request and follows it to the first page
// or to the client.
func (b *Browser) Authorize(changes ...string) Page {
	b.server.TB.Helper()
	return b.Follow(b.Get("/authorize?" + b.server.Authorization(changes...).Encode()))
}

// SignIn fills in the login page and follows on.
func (b *Browser) SignIn(p Page, name, password string) Page {
	b.server.TB.Helper()
	form := p.Form()
	form.Set("username", name)
	form.Set("password", password)
	return b.Follow(b.Post("/login", form))
}

// Code logs the user in, if nobody is signed in yet, and returns the code that
// the client is sent.
func (b *Browser) Code(name string, changes ...string) string {
	b.server.TB.Helper()
	p := b.Authorize(changes...)
	if p.StatusCode == http.StatusOK {
		p = b.SignIn(p, name, Password)
	}
	code := p.Answer().Get("code")
	if code == "" {
		b.server.TB.Fatalf("no code: %d %s\n%s", p.StatusCode, p.Header.Get("Location"), p.Body)
	}
	return code
}

// Answer returns what the client is sent in the query of its redirect URI.
func (p Page) Answer() url.Values {
	u, err := url.Parse(p.Header.Get("Location"))
	if err != nil || p.StatusCode != http.StatusSeeOther {
		return url.Values{}
	}
	return u.Query()
}
