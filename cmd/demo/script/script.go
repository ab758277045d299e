// Package script is what a person can write who has an account and would rather
// not use the app: a program that signs in by the same pages, proves a key of its
// own, and calls the API. No server can tell it from the app by what it sends.
// It can't be anybody else, though: its tokens name the account.
package script

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
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

// App is what every visitor of the app can read in its config.json.
type App struct {
	Issuer      string `json:"issuer"`
	ClientID    string `json:"clientId"`
	API         string `json:"api"`
	RedirectURI string `json:"redirectUri"`
	Scope       string `json:"scope"`
}

// Tokens is what the token endpoint gives.
type Tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// Answer is what a server answered.
type Answer struct {
	Status int
	Header http.Header
	// Says is why it refused, in its words; empty if it did not.
	Says string
	body []byte
}

// Script is one program with one key. It is not safe for concurrent use.
type Script struct {
	App    App
	key    *ecdsa.PrivateKey
	client *http.Client
	nonces map[string]string // by origin (RFC 9449 §8.2)
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// New reads the app's config.json and makes a key.
func New(ctx context.Context, app string) (*Script, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	s := &Script{key: key, nonces: map[string]string{}, client: &http.Client{
		Jar: jar, Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	a, err := s.page(ctx, http.MethodGet, app+"/config.json", nil)
	if err == nil {
		err = json.Unmarshal(a.body, &s.App)
	}
	if err == nil && (a.Status != http.StatusOK || s.App.Issuer == "") {
		err = fmt.Errorf("config.json is %d without an issuer", a.Status)
	}
	if err != nil {
		return nil, fmt.Errorf("there is no app at %s: %w; start it with make demo", app, err)
	}
	return s, nil
}

// ErrRefused says that the login page took the name and the password and let
// nobody in; its text is the page's.
var ErrRefused = errors.New("the login page says")

var (
	hidden  = regexp.MustCompile(`<input type="hidden" name="([a-z]+)" value="([^"]*)">`)
	problem = regexp.MustCompile(`(?s)<p [^>]*id="problem"[^>]*>(.*?)</p>`)
)

// SignIn signs in as a browser would: it opens the authorization endpoint, fills
// in the login page, and redeems the code. The error wraps ErrRefused if the
// login page lets nobody in.
func (s *Script) SignIn(ctx context.Context, name, password string) (Tokens, error) {
	verifier := rand.Text() + rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	page, err := s.follow(ctx, http.MethodGet, s.App.Issuer+"/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {s.App.ClientID}, "redirect_uri": {s.App.RedirectURI}, "scope": {s.App.Scope},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}.Encode(), nil)
	if err != nil {
		return Tokens{}, err
	}
	if page.Status == http.StatusOK {
		form := url.Values{"username": {name}, "password": {password}}
		for _, field := range hidden.FindAllSubmatch(page.body, -1) {
			form.Set(string(field[1]), html.UnescapeString(string(field[2])))
		}
		if page, err = s.follow(ctx, http.MethodPost, s.App.Issuer+"/login", form); err != nil {
			return Tokens{}, err
		}
	}
	at, err := url.Parse(page.Header.Get("Location"))
	if err != nil || at.Query().Get("code") == "" {
		if said := problem.FindSubmatch(page.body); said != nil {
			return Tokens{}, fmt.Errorf("%w: %s", ErrRefused, html.UnescapeString(string(said[1])))
		}
		return Tokens{}, fmt.Errorf("the login server answered %d without a code", page.Status)
	}
	return s.token(ctx, url.Values{"grant_type": {"authorization_code"}, "code": {at.Query().Get("code")}, "redirect_uri": {s.App.RedirectURI}, "code_verifier": {verifier}})
}

// Refresh spends the refresh token.
func (s *Script) Refresh(ctx context.Context, t Tokens) (Tokens, error) {
	return s.token(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {t.Refresh}})
}

func (s *Script) token(ctx context.Context, form url.Values) (t Tokens, err error) {
	form.Set("client_id", s.App.ClientID)
	a, err := s.send(ctx, http.MethodPost, s.App.Issuer+"/token", "", "", form)
	if err != nil {
		return t, err
	}
	if a.Status != http.StatusOK {
		return t, fmt.Errorf("the login server refused: %s", a.Says)
	}
	return t, json.Unmarshal(a.body, &t)
}

// Call asks the API for the notes with the access token and a proof for it.
func (s *Script) Call(ctx context.Context, token string) (Answer, error) {
	return s.send(ctx, http.MethodGet, s.App.API+"/api/notes", "DPoP", token, nil)
}

// Outcome is what came of one try with a stolen token.
type Outcome struct {
	How    string `json:"how"`
	Status int    `json:"status"`
	Says   string `json:"says"` // why it was refused, in the API's words
}

// Replay asks the API for the notes with somebody else's access token, in every
// way that its thief has: alone, alone under the scheme DPoP, and with a good
// proof, by a key of the thief's own.
func (s *Script) Replay(ctx context.Context, token string) (all []Outcome, err error) {
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("an access token is expected")
	}
	for _, try := range []struct{ how, scheme string }{
		{"As a bearer token", "Bearer"},
		{"Without a proof", "DPoP"},
		{"With a proof by another key", "DPoP"},
	} {
		var a Answer
		if try.how == "With a proof by another key" {
			a, err = s.Call(ctx, token)
		} else {
			var r *http.Request
			if r, err = http.NewRequestWithContext(ctx, http.MethodGet, s.App.API+"/api/notes", nil); err == nil {
				r.Header.Set("Authorization", try.scheme+" "+token)
				a, err = s.do(r)
			}
		}
		if err != nil {
			return nil, err
		}
		all = append(all, Outcome{try.how, a.Status, a.Says})
	}
	return all, nil
}

// send sends a request with a proof, and once more with the nonce that it is
// told.
func (s *Script) send(ctx context.Context, method, to, scheme, token string, form url.Values) (Answer, error) {
	at, err := url.Parse(to)
	if err != nil {
		return Answer{}, err
	}
	for last := false; ; last = true {
		r, err := newRequest(ctx, method, to, form)
		if err != nil {
			return Answer{}, err
		}
		if scheme != "" {
			r.Header.Set("Authorization", scheme+" "+token)
		}
		proof, err := prove(s.key, method, to, token, s.nonces[at.Host])
		if err != nil {
			return Answer{}, err
		}
		r.Header.Set("DPoP", proof)
		a, err := s.do(r)
		if err != nil {
			return Answer{}, err
		}
		nonce := a.Header.Get("DPoP-Nonce")
		if nonce != "" {
			s.nonces[at.Host] = nonce
		}
		if last || nonce == "" || !strings.Contains(string(a.body)+a.Header.Get("WWW-Authenticate"), "use_dpop_nonce") {
			return a, nil
		}
	}
}

// follow opens a page and follows redirects for as long as they stay at the
// login server.
func (s *Script) follow(ctx context.Context, method, to string, form url.Values) (Answer, error) {
	for hops := 0; ; hops++ {
		a, err := s.page(ctx, method, to, form)
		if err != nil || a.Status != http.StatusSeeOther || hops == 10 || !strings.HasPrefix(a.Header.Get("Location"), s.App.Issuer+"/") {
			return a, err
		}
		method, to, form = http.MethodGet, a.Header.Get("Location"), nil
	}
}

// page opens a page with the headers of a browser.
func (s *Script) page(ctx context.Context, method, to string, form url.Values) (Answer, error) {
	r, err := newRequest(ctx, method, to, form)
	if err != nil {
		return Answer{}, err
	}
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	r.Header.Set("Sec-Fetch-Site", "none")
	if form != nil {
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Origin", s.App.Issuer)
	}
	return s.do(r)
}

func newRequest(ctx context.Context, method, to string, form url.Values) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(form.Encode()))
	if err == nil && form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r, err
}

func (s *Script) do(r *http.Request) (Answer, error) {
	resp, err := s.client.Do(r)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode, Header: resp.Header}
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return Answer{}, err
	}
	var said struct {
		Description string `json:"error_description"`
		Title       string `json:"title"` // RFC 9457
	}
	if a.Status >= 400 && json.Unmarshal(a.body, &said) == nil {
		a.Says = said.Description + said.Title
	}
	return a, nil
}
