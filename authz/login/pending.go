package login

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"time"
)

// ResumeParameter is where the sealed request stands when the browser comes
// back to the authorization endpoint.
const ResumeParameter = "resume"

// Purposes separate the sealed requests: one that waits for the login page
// resumes nothing, and the other way round.
const (
	loginPurpose   = "pending login"
	consentPurpose = "pending consent"
	resumePurpose  = "resume"
)

// sealedRequest is a Pending bound to the browser.
type sealedRequest struct {
	Pending
	Browser string
}

// ErrPending says that a pending request is none of this browser, too old, or
// was not made by this server for this step.
var ErrPending = errors.New("the pending request is not valid here")

func (l *Login) sealPending(purpose, browser string, p Pending) (string, error) {
	if len(p.LoginHint) > maxUsername { // it names nobody, and the URL has to stay short
		p.LoginHint, p.Parameters = "", maps.Clone(p.Parameters)
		p.Parameters.Del("login_hint")
	}
	var plain bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false) // a state of angle brackets would become six times as long
	if err := e.Encode(sealedRequest{p, browser}); err != nil {
		return "", err
	}
	return l.Seal(purpose, plain.Bytes()), nil
}

func (l *Login) unsealPending(r *http.Request, purpose, sealed string) (Pending, error) {
	browser, ok := l.knownBrowser(r)
	if !ok {
		return Pending{}, fmt.Errorf("%w: no browser cookie", ErrPending)
	}
	plain, err := l.Unseal(purpose, sealed)
	if err != nil {
		return Pending{}, fmt.Errorf("%w: %w", ErrPending, err)
	}
	var s sealedRequest
	if err := json.Unmarshal(plain, &s); err != nil {
		return Pending{}, fmt.Errorf("%w: %w", ErrPending, err)
	}
	if s.Browser != browser {
		return Pending{}, fmt.Errorf("%w: begun in another browser", ErrPending)
	}
	if age := l.Now().Sub(s.IssuedAt); age > l.Life || age < -time.Minute {
		return Pending{}, fmt.Errorf("%w: begun %s ago", ErrPending, age)
	}
	return s.Pending, nil
}

// BeginLogin sends the browser to the login page.
func (l *Login) BeginLogin(w http.ResponseWriter, r *http.Request, p Pending) {
	l.begin(w, r, "/login", loginPurpose, p)
}

// BeginConsent sends the browser to the consent page.
func (l *Login) BeginConsent(w http.ResponseWriter, r *http.Request, p Pending) {
	l.begin(w, r, "/consent", consentPurpose, p)
}

func (l *Login) begin(w http.ResponseWriter, r *http.Request, path, purpose string, p Pending) {
	browser, err := l.browser(w, r)
	if err == nil {
		var sealed string
		if sealed, err = l.sealPending(purpose, browser, p); err == nil {
			l.see(w, l.Issuer+path+"?"+url.Values{"request": {sealed}}.Encode(), "")
			return
		}
	}
	l.fail(w, r, http.StatusInternalServerError, "This did not work", "The server could not begin the sign-in. Try again.", err)
}

// resume sends the browser back to the authorization endpoint with p, the
// step's proof in it.
func (l *Login) resume(w http.ResponseWriter, r *http.Request, p Pending) {
	browser, ok := l.knownBrowser(r)
	if !ok {
		l.fail(w, r, http.StatusBadRequest, "This sign-in has ended", "Go back to the application and sign in again.", ErrPending)
		return
	}
	sealed, err := l.sealPending(resumePurpose, browser, p)
	if err != nil {
		l.fail(w, r, http.StatusInternalServerError, "This did not work", "The server could not go on. Try again.", err)
		return
	}
	l.see(w, l.Issuer+"/authorize?"+url.Values{ResumeParameter: {sealed}}.Encode(), p.RedirectOrigin)
}

// Resume returns the pending request that the browser brings back to the
// authorization endpoint. The error is ErrPending.
func (l *Login) Resume(r *http.Request) (Pending, error) {
	q := r.URL.Query()
	if len(q) != 1 || len(q[ResumeParameter]) != 1 {
		return Pending{}, fmt.Errorf("%w: other parameters beside it", ErrPending)
	}
	return l.unsealPending(r, resumePurpose, q.Get(ResumeParameter))
}

// see redirects by 303, so that no body travels on.
func (l *Login) see(w http.ResponseWriter, location, formAction string) {
	l.headers(formAction).Set(w)
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
}
