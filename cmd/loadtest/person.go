package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// The one client and the one person.
const (
	spaOrigin   = "http://127.0.0.1:1"
	spaRedirect = spaOrigin + "/callback"
	audience    = "https://api.bench.example"
	scopeAPI    = "notes:read"
	scopes      = "openid offline_access " + scopeAPI
	username    = "bench"
)

// person is somebody who has logged in, in a browser with cookies.
type person struct {
	authorize string // the target of an authorization request
	cookies   string // the Cookie header field
	verifier  string // PKCE, the same one each time: only the server is measured
}

// login goes through the pages as a browser does: the authorization request,
// the form, and back.
func login(ctx context.Context, issuer, clientID, name, password string) (person, error) {
	verifier := rand.Text() + rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	p := person{verifier: verifier, authorize: "/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {spaRedirect},
		"scope": {scopes}, "state": {rand.Text()}, "nonce": {rand.Text()},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}.Encode()}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return person{}, err
	}
	back := errors.New("back at the SPA")
	browser := &http.Client{Jar: jar, Timeout: 30 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), spaRedirect) {
			return back
		}
		return nil
	}}
	status, page, err := fetch(ctx, browser, "GET", issuer+p.authorize, nil)
	if err != nil {
		return person{}, fmt.Errorf("the login page: %w", err)
	}
	if status != http.StatusOK {
		return person{}, fmt.Errorf("the login page was expected, the answer is %d", status)
	}
	form := hidden(page)
	form.Set("username", name)
	form.Set("password", password)
	status, _, err = fetch(ctx, browser, "POST", issuer+"/login", form)
	switch {
	case err == nil:
		return person{}, fmt.Errorf("a redirect to the SPA was expected after the login, the answer is %d", status)
	case !errors.Is(err, back):
		return person{}, fmt.Errorf("the login: %w", err)
	}
	u, err := url.Parse(issuer)
	if err != nil {
		return person{}, err
	}
	var cookies []string
	for _, c := range jar.Cookies(u) {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	p.cookies = "Cookie: " + strings.Join(cookies, "; ") + "\r\n"
	return p, nil
}

// fetch navigates, with the header fields that a browser sends.
func fetch(ctx context.Context, browser *http.Client, method, target string, form url.Values) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	r.Header.Set("Sec-Fetch-Site", "none")
	if method == "POST" {
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := browser.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return resp.StatusCode, string(page), err
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// hidden are the hidden fields of a page's form.
func hidden(page string) url.Values {
	form := url.Values{}
	for _, field := range hiddenField.FindAllStringSubmatch(page, -1) {
		form.Set(html.UnescapeString(field[1]), html.UnescapeString(field[2]))
	}
	return form
}

// code is what came back to the redirect URI, as the server wrote it: it goes
// into a form just so.
func code(location string) (string, error) {
	query, found := strings.CutPrefix(location, spaRedirect+"?")
	if !found {
		return "", fmt.Errorf("a redirect to %s was expected", spaRedirect)
	}
	for field := range strings.SplitSeq(query, "&") {
		if value, found := strings.CutPrefix(field, "code="); found {
			return value, nil
		}
	}
	return "", errors.New("the redirect has no code")
}
