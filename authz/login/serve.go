package login

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/login/password"
	"github.com/solegate/solegate/authz/pages"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// Bounds of the login form, in bytes.
const (
	maxForm     = 64 << 10
	maxUsername = 256
)

// NormalizeName returns a user name in the one form that is stored and
// compared (RFC 8265 §3.3), or an error for what can't be a user name: look-
// alikes by width and case are the same name, and mixed directions are none.
func NormalizeName(name string) (string, error) {
	if len(name) > maxUsername || !utf8.ValidString(name) {
		return "", fmt.Errorf("a user name has at most %d bytes of UTF-8", maxUsername)
	}
	s, err := precis.UsernameCaseMapped.String(name)
	if err != nil || s == "" {
		return "", errors.New("a user name is made of letters, digits and punctuation, without spaces")
	}
	return s, nil
}

// The one answer to a wrong name, a wrong password and no account.
const wrong = "The user name or the password is not right."

// ServeLogin shows the login page and takes its form.
func (l *Login) ServeLogin(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		if p, ok := l.shown(w, r, loginPurpose); ok {
			l.loginPage(w, r, http.StatusOK, p, r.URL.Query().Get("request"), p.LoginHint, "")
		}
		return
	}
	form, p, ok := l.posted(w, r, loginPurpose)
	if !ok {
		return
	}
	username, secret, sealed := form.Get("username"), form.Get("password"), form.Get("request")
	again := func(status int, typed, problem string) {
		l.loginPage(w, r, status, p, sealed, typed, problem)
	}
	name, err := NormalizeName(strings.TrimSpace(username))
	if err != nil || len(secret) > password.MaxBytes || !utf8.ValidString(secret) || strings.ContainsRune(secret, 0) {
		again(http.StatusBadRequest, "", wrong)
		return
	}
	began := l.Now() // before the account is read
	u, wait, err := l.verify(r, name, secret)
	switch {
	case wait > 0:
		w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())+1))
		l.refused(r, "", "login throttled")
		again(http.StatusTooManyRequests, username, fmt.Sprintf("There were too many attempts. Try again in %s.", inWords(wait)))
		return
	case errors.Is(err, errWrong):
		l.refused(r, u.ID, "wrong user name or password")
		again(http.StatusUnauthorized, username, wrong)
		return
	case errors.Is(err, password.ErrBusy):
		w.Header().Set("Retry-After", "2")
		again(http.StatusServiceUnavailable, username, "Too many people are signing in at this moment. Try again in a few seconds.")
		return
	case err != nil:
		l.fail(w, r, http.StatusServiceUnavailable, "This did not work", "The server can't sign you in now. Try again.", err)
		return
	// Only who knows the password is told.
	case revocation.Suspended(u, l.Now()):
		l.refused(r, u.ID, "the user is suspended")
		again(http.StatusForbidden, username, l.suspended(u.Block.Until))
		return
	case revocation.Blocked(u, l.Now()):
		l.refused(r, u.ID, "the user is blocked")
		again(http.StatusForbidden, username, "This account is blocked. Ask the people who run this service.")
		return
	}
	// And only who knows it uses up the one login.
	if wait, err = l.slow(r.Context(), u); wait > 0 {
		w.Header().Set("Retry-After", retryAfter(wait))
		l.refused(r, u.ID, "the user is throttled")
		again(http.StatusTooManyRequests, username, l.tooSoon(wait))
		return
	}
	var s storage.Session
	if err == nil {
		s, err = l.start(r.Context(), w, r, u, began)
	}
	if err == nil {
		err = l.rememberDevice(w, r, u.ID)
	}
	if err != nil {
		l.fail(w, r, http.StatusServiceUnavailable, "This did not work", "The server can't sign you in now. Try again.", err)
		return
	}
	l.Audit.Record(r.Context(), audit.Event{What: "login succeeded", Client: p.ClientID, User: u.ID, Session: s.ID, Address: l.Address(r)})
	p.LoggedIn = &Proof{Session: s.ID, At: l.Now()}
	l.resume(w, r, p)
}

// ServeConsent shows the consent page and takes its form.
func (l *Login) ServeConsent(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		p, ok := l.shown(w, r, consentPurpose)
		if !ok {
			return
		}
		_, u, err := l.Current(r)
		if err != nil {
			l.resume(w, r, p) // the authorization endpoint asks for a login
			return
		}
		token, err := l.Token(w, r, consentPurpose)
		if err != nil {
			l.fail(w, r, http.StatusInternalServerError, "This did not work", "Try again.", err)
			return
		}
		l.Pages.Write(w, l.headers(p.RedirectOrigin), http.StatusOK, pages.Consent{
			ClientName: p.ClientName, Username: u.Name, Scopes: describe(p.Scopes),
			Request: r.URL.Query().Get("request"), Token: token,
		})
		return
	}
	form, p, ok := l.posted(w, r, consentPurpose)
	if !ok {
		return
	}
	s, u, err := l.Current(r)
	if err != nil {
		l.resume(w, r, p)
		return
	}
	proof := &Proof{Session: s.ID, At: l.Now(), Scopes: p.Scopes, Denied: form.Get("decision") != "allow"}
	if !proof.Denied {
		if err := l.agree(r.Context(), u, p); err != nil {
			l.fail(w, r, http.StatusServiceUnavailable, "This did not work", "The server can't remember your answer now. Try again.", err)
			return
		}
	}
	l.Audit.Record(r.Context(), audit.Event{What: map[bool]string{true: "consent denied", false: "consent given"}[proof.Denied], Client: p.ClientID, User: u.ID, Session: s.ID, Address: l.Address(r)})
	p.Consented = proof
	l.resume(w, r, p)
}

// agree remembers what the person agreed to.
func (l *Login) agree(ctx context.Context, u storage.User, p Pending) error {
	for range 10 {
		agreed := slices.Clone(u.Consents[p.ClientID])
		for _, scope := range p.Scopes {
			if !slices.Contains(agreed, scope) {
				agreed = append(agreed, scope)
			}
		}
		if u.Consents == nil {
			u.Consents = map[clients.ID][]string{}
		}
		u.Consents[p.ClientID] = agreed
		err := l.Store.UpdateUser(ctx, u)
		if !errors.Is(err, storage.ErrConflict) {
			return err
		}
		if u, err = l.Store.User(ctx, u.ID); err != nil {
			return err
		}
	}
	return storage.ErrConflict
}

// describe says in words what a scope allows. What is the application's own is
// named as it is.
func describe(scopes []string) []pages.Scope {
	known := map[string]string{
		"openid":         "know that it is you",
		"profile":        "see your name and user name",
		"email":          "see your email address",
		"offline_access": "keep you signed in",
	}
	var list []pages.Scope
	for _, s := range scopes {
		if text := known[s]; text != "" {
			list = append(list, pages.Scope{Text: text})
		} else {
			list = append(list, pages.Scope{Name: s, Text: "use the permission"})
		}
	}
	return list
}

// shown checks the request for a page of a step. It answers by itself if the
// page can't be shown.
func (l *Login) shown(w http.ResponseWriter, r *http.Request, purpose string) (Pending, bool) {
	if err := TopLevel(r); err != nil {
		l.fail(w, r, http.StatusForbidden, "This page can't be shown here", "It opens only as a page of its own.", err)
		return Pending{}, false
	}
	q := r.URL.Query()
	if len(q["request"]) != 1 || len(q) != 1 {
		l.ended(w, r, errors.New("one request parameter expected"))
		return Pending{}, false
	}
	p, err := l.unsealPending(r, purpose, q.Get("request"))
	if err != nil {
		l.ended(w, r, err)
		return Pending{}, false
	}
	return p, true
}

// posted checks the form of a step's page: where it comes from, its token and
// its pending request. It answers by itself if one does not fit.
func (l *Login) posted(w http.ResponseWriter, r *http.Request, purpose string) (url.Values, Pending, bool) {
	err := SameOriginPost(r, l.Issuer)
	var form url.Values
	if err == nil {
		form, err = readForm(w, r)
	}
	if err == nil {
		err = l.CheckToken(r, purpose, form.Get("token"))
	}
	var p Pending
	if err == nil {
		p, err = l.unsealPending(r, purpose, form.Get("request"))
	}
	if err != nil {
		l.refused(r, "", err.Error())
		l.ended(w, r, err)
		return nil, Pending{}, false
	}
	return form, p, true
}

func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/x-www-form-urlencoded" {
		return nil, errors.New("a form was expected")
	}
	if r.URL.RawQuery != "" {
		return nil, errors.New("parameters in the query of a form post")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errors.New("the form can't be read")
	}
	for name, values := range form {
		if len(values) > 1 {
			return nil, fmt.Errorf("field %.40q was sent %d times", name, len(values))
		}
	}
	return form, nil
}

func (l *Login) loginPage(w http.ResponseWriter, r *http.Request, status int, p Pending, sealed, username, problem string) {
	token, err := l.Token(w, r, loginPurpose)
	if err != nil {
		l.fail(w, r, http.StatusInternalServerError, "This did not work", "Try again.", err)
		return
	}
	if len(username) > maxUsername || !utf8.ValidString(username) {
		username = ""
	}
	l.Pages.Write(w, l.headers(p.RedirectOrigin), status, pages.Login{
		ClientName: p.ClientName, Request: sealed, Token: token, Username: username, Problem: problem,
	})
}

func (l *Login) ended(w http.ResponseWriter, r *http.Request, err error) {
	l.fail(w, r, http.StatusBadRequest, "This sign-in has ended", "It took too long, or it was started in another browser. Go back to the application and sign in again.", err)
}

func (l *Login) fail(w http.ResponseWriter, r *http.Request, status int, title, text string, cause error) {
	id := l.RequestID(r)
	level := slog.LevelInfo
	if status >= 500 {
		level = slog.LevelError
	}
	l.Log.Log(r.Context(), level, "page refused", "path", r.URL.Path, "page", title, "cause", cause, "request", id)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	l.Pages.Write(w, l.headers(""), status, pages.Error{Title: title, Text: text, RequestID: id})
}

func (l *Login) refused(r *http.Request, u storage.UserID, reason string) {
	l.Audit.Record(r.Context(), audit.Event{What: "login refused", User: u, Address: l.Address(r), Reason: reason, Request: l.RequestID(r)})
}

func (l *Login) headers(formAction string) pages.Headers {
	return pages.Headers{Secure: !l.Development, FormAction: formAction}
}

// suspended is what a person reads who is suspended.
func (l *Login) suspended(until time.Time) string {
	if until.IsZero() {
		return l.SuspendedNotice
	}
	return l.SuspendedNotice + " This ends on " + moment(until) + "."
}

// moment is a time as one writes it, not before it.
func moment(t time.Time) string {
	return t.Add(time.Minute - 1).UTC().Truncate(time.Minute).Format("2 January 2006 at 15:04 UTC")
}

// inWords is a wait as one says it.
func inWords(d time.Duration) string {
	if d <= time.Minute {
		return "a minute"
	}
	if d > 2*time.Hour {
		return strconv.Itoa(int((d+time.Hour-1)/time.Hour)) + " hours"
	}
	return strconv.Itoa(int((d+time.Minute-1)/time.Minute)) + " minutes"
}
