package authz

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/login"
	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/authz/provider"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// entrance is where an authorization request comes in.
type entrance uint8

const (
	front entrance = 1 << iota // /authorize, from the browser
	push                       // /par, from the client
	visit                      // /authorize, with the request_uri of a pushed request
	again                      // /authorize, back from a login step

	entry = front | push // where the parameters come from outside
	every = entry | visit | again
)

// checks are what an authorization request must pass before anybody sees a
// login page, in this order. Each is one function, in authorizechecks.go if in no
// file of its own, with the reason for its place; a new check is a function, a
// row here and a case in its test.
var checks = []struct {
	at    entrance
	check func(*Server, *authorization) error
}{
	{entry | visit, (*Server).parametersOnce}, // RFC 6749 §3.1: before any is read
	{visit, (*Server).pushedRequest},          // RFC 9126 §4: from here on it is what was pushed
	{every, (*Server).knownClient},            // RFC 6749 §2.2: whose redirect URIs to compare
	{every, (*Server).redirectURI},            // RFC 9700 §2.1: from here on errors go to the client
	{every, (*Server).stateLength},            // before it is echoed
	{front | again, (*Server).mustPush},       // RFC 9126 §6: nothing else of the front channel counts then
	{entry, (*Server).noRequestObject},        // RFC 9101: refused, never fetched
	{entry, (*Server).responseType},           // RFC 9700 §2.1.2: code only, and only who may redeem one
	{entry, (*Server).responseMode},           // the code travels in the query, nowhere else
	{every, (*Server).nonce},                  // OpenID Connect Core §3.1.2.1
	{every, (*Server).scope},                  // RFC 6749 §3.3
	{every, (*Server).pkce},                   // RFC 7636 §4.3: S256 only; a nonce may stand in for it
	{every, (*Server).dpopKey},                // RFC 9449 §10
	{every, (*Server).resource},               // RFC 8707 §2
	{every, (*Server).prompt},                 // OpenID Connect Core §3.1.2.1
	{every, (*Server).maxAge},                 // OpenID Connect Core §3.1.2.1
	{every, (*Server).acrValues},              // RFC 9470 §4
	{every, (*Server).idTokenHint},            // OpenID Connect Core §3.1.2.1
}

// authorization is an authorization request on its way through the checks.
// Only the check whose name a field bears sets it.
type authorization struct {
	ctx   context.Context
	query url.Values // of the request's URL
	body  url.Values // of the request's body

	form          url.Values // parametersOnce, pushedRequest, or what the login step brings back
	pushed        string     // pushedRequest, or what the login step brings back; empty if it was not pushed
	client        clients.Client
	redirectURI   clients.RedirectURI
	state         string
	nonce         string
	scope         []string
	codeChallenge string
	jkt           string // dpopKey
	resource      []string
	prompt        []string
	maxAge        time.Duration // negative: none
	idTokenHint   storage.UserID
}

// authorizationParameters are those that matter after the checks; no others
// travel through the login step.
var authorizationParameters = []string{
	"client_id", "redirect_uri", "response_type", "scope", "state", "nonce",
	"code_challenge", "code_challenge_method", "dpop_jkt", "resource", "prompt",
	"max_age", "acr_values", "id_token_hint", "login_hint",
}

// authorize is the authorization endpoint (RFC 6749 §3.1).
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	if !s.topLevel(w, r) {
		return
	}
	a := &authorization{ctx: r.Context(), maxAge: -1}
	at, pending := front, login.Pending{}
	if r.Method == http.MethodGet && r.URL.Query().Has(login.ResumeParameter) {
		var err error
		if pending, err = s.login.Resume(r); err != nil {
			s.page(w, r, http.StatusBadRequest, "This sign-in has ended", "It took too long, or it was started in another browser. Go back to the application and sign in again.", err)
			return
		}
		at, a.form, a.pushed = again, pending.Parameters, pending.Pushed
	} else if !s.parameters(w, r, a) {
		return
	} else if isPushed(a.query) || isPushed(a.body) {
		at = visit
	}
	if err := s.checkAuthorization(a, at); err != nil {
		s.refuseAuthorization(w, r, a, err)
		return
	}
	if r.Method == http.MethodPost {
		// A form post from another site carries no SameSite=Lax cookie, so
		// nobody would ever be logged in. The same request as a GET does.
		form := a.form
		if at == visit {
			form = a.body
		}
		s.redirect(w, s.Issuer+"/authorize?"+form.Encode())
		return
	}
	s.decide(w, r, a, pending)
}

// checkAuthorization runs the checks of an entrance.
func (s *Server) checkAuthorization(a *authorization, at entrance) error {
	for _, c := range checks {
		if c.at&at != 0 {
			if err := c.check(s, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// parameters reads where the parameters may stand: the query of a GET, the
// body of a POST. It answers by itself when they stand elsewhere.
func (s *Server) parameters(w http.ResponseWriter, r *http.Request, a *authorization) bool {
	var err error
	if a.query, err = url.ParseQuery(r.URL.RawQuery); err == nil {
		a.body, err = formBody(w, r)
	}
	switch {
	case err != nil:
	case r.Method == http.MethodHead: // nobody would see a page, take up a code or know of a logout
		err = errors.New("a GET or a POST is expected")
	case r.Method == http.MethodPost && len(a.query) > 0:
		err = errors.New("parameters in the query of a POST")
	case r.Method == http.MethodGet && len(a.body) > 0:
		err = errors.New("parameters in the body of a GET")
	}
	if err != nil {
		s.page(w, r, http.StatusBadRequest, "This sign-in link is not valid", "The application sent a request that can't be read.", err)
		return false
	}
	return true
}

// decide is what happens to a request that passed the checks: a login, a
// consent, a code or an error. It is the only place that decides it; each
// login step comes back here with its proof.
func (s *Server) decide(w http.ResponseWriter, r *http.Request, a *authorization, pending login.Pending) {
	refuse := func(code oauth.Code, description, cause string) {
		s.refuseAuthorization(w, r, a, oauth.Errorf(code, description, "%s", cause))
	}
	session, user, err := s.login.Current(r)
	if err != nil && !errors.Is(err, login.ErrNoSession) {
		s.refuseAuthorization(w, r, a, &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server can't do this now; try again.", Cause: err})
		return
	}
	signedIn := err == nil
	// The proof of a login that was made for this very request.
	fresh := signedIn && pending.LoggedIn != nil && pending.LoggedIn.Session == session.ID
	none := oauth.Has(a.prompt, "none")

	var why string
	switch {
	case !signedIn:
		why = "nobody is signed in"
	case fresh:
	case oauth.Has(a.prompt, "login"), oauth.Has(a.prompt, "select_account"):
		why = "prompt asks for it"
	case a.maxAge == 0, a.maxAge > 0 && s.Now().Sub(session.AuthTime) > a.maxAge:
		why = "the login is older than max_age"
	case a.idTokenHint != "" && a.idTokenHint != user.ID:
		why = "id_token_hint names somebody else"
	}
	if why != "" {
		if none {
			refuse(oauth.LoginRequired, "The person must sign in.", why)
			return
		}
		s.login.BeginLogin(w, r, s.pending(a, pending))
		return
	}
	if a.idTokenHint != "" && a.idTokenHint != user.ID {
		refuse(oauth.LoginRequired, "Somebody else signed in.", "id_token_hint names somebody else than who signed in")
		return
	}

	if s.needsConsent(a, user) {
		proof := pending.Consented
		switch {
		case proof != nil && proof.Session == session.ID && proof.Denied:
			refuse(oauth.AccessDenied, "The person did not agree.", "consent denied")
			return
		case proof != nil && proof.Session == session.ID && covers(proof.Scopes, a.scope):
		case none:
			refuse(oauth.ConsentRequired, "The person must agree first.", "consent needed")
			return
		default:
			s.login.BeginConsent(w, r, s.pending(a, pending))
			return
		}
	}

	// A code is worth new tokens, however little the person did for it: whoever
	// may not refresh now gets none here instead.
	if wait, err := s.login.Grant(r.Context(), user); wait > 0 || err != nil {
		switch {
		case err != nil:
			s.refuseAuthorization(w, r, a, &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server can't do this now; try again.", Cause: err})
		case none:
			s.refuseAuthorization(w, r, a, oauth.TooSoon(wait, errors.New("the user is throttled")))
		default:
			s.login.TooSoon(w, r, user, wait)
		}
		return
	}

	// Now the login has ended, and with it a pushed request.
	if err := s.pushedOnce(a); err != nil {
		s.refuseAuthorization(w, r, a, err)
		return
	}
	a.pushed = "" // used: what the client is told from here on is no second use
	code, grant, err := s.provider.Authorize(r.Context(), provider.Authorization{
		Client: a.client, Session: session, RedirectURI: a.redirectURI, State: a.state,
		Scope: a.scope, Resource: a.resource, Nonce: a.nonce, CodeChallenge: a.codeChallenge, JKT: a.jkt,
	})
	if err != nil {
		s.refuseAuthorization(w, r, a, err)
		return
	}
	s.audit.Record(r.Context(), audit.Event{What: "code issued", Client: a.client.ID, User: user.ID, Session: session.ID, Grant: grant, Address: s.address(r)})
	s.answerAuthorization(w, a, url.Values{"code": {code}})
}

// needsConsent reports whether the person has to be asked: where the client is
// registered for it and asks for more than was agreed to, and wherever the
// request itself asks for it.
func (s *Server) needsConsent(a *authorization, u storage.User) bool {
	if oauth.Has(a.prompt, "consent") {
		return true
	}
	return a.client.Consent && !covers(u.Consents[a.client.ID], a.scope)
}

func covers(agreed, asked []string) bool {
	for _, scope := range asked {
		if !slices.Contains(agreed, scope) {
			return false
		}
	}
	return agreed != nil
}

// travelling are the parameters of a checked request that go on with it.
func travelling(checked url.Values) url.Values {
	form := url.Values{}
	for _, name := range authorizationParameters {
		if checked.Has(name) {
			form.Set(name, checked.Get(name))
		}
	}
	return form
}

// pending is a as it waits for a login step.
func (s *Server) pending(a *authorization, before login.Pending) login.Pending {
	before.Parameters, before.Pushed = travelling(a.form), a.pushed
	before.ClientName = a.client.Name
	before.ClientID = a.client.ID
	before.RedirectOrigin = originOf(string(a.redirectURI))
	before.LoginHint = a.form.Get("login_hint")
	before.Scopes = a.scope
	if before.IssuedAt.IsZero() {
		before.IssuedAt = s.Now()
	}
	return before
}

// errLocal marks a refusal that must be shown here: there is no redirect URI
// that may be trusted with it.
type errLocal struct {
	error
	redirectURI string // what was asked for, for the audit log
}

// Unwrap returns what may be told.
func (e errLocal) Unwrap() error { return e.error }

// refuseAuthorization answers err: to the client if its redirect URI is known
// to be right (RFC 6749 §4.1.2.1), else on a page of ours.
func (s *Server) refuseAuthorization(w http.ResponseWriter, r *http.Request, a *authorization, err error) {
	if a.pushed != "" {
		// Whatever the client is told ends the request, too. If it was used
		// before, the client has had its answer.
		if once := s.pushedOnce(a); once != nil && oauth.As(once).Code == oauth.InvalidRequestURI {
			err = once
		}
	}
	event := audit.Event{What: "authorization refused", Client: a.client.ID, Address: s.address(r), Request: s.requestID(r), Reason: err.Error()}
	if local, ok := errors.AsType[errLocal](err); ok {
		event.RedirectURI = local.redirectURI
		s.audit.Record(r.Context(), event)
		e := oauth.As(local.error)
		s.page(w, r, e.HTTPStatus(), "This sign-in link is not valid", e.Description+" Nothing was sent to the application.", err)
		return
	}
	s.audit.Record(r.Context(), event)
	e := oauth.As(err)
	s.logRefusal(r, e)
	answer := url.Values{"error": {string(e.Code)}}
	if e.Description != "" {
		answer.Set("error_description", e.Description)
	}
	s.answerAuthorization(w, a, answer)
}

// answerAuthorization sends the browser back to the client, by 303 so that no
// body travels on (RFC 9700 §4.12), with state and iss (RFC 9207 §2).
func (s *Server) answerAuthorization(w http.ResponseWriter, a *authorization, answer url.Values) {
	if a.state != "" {
		answer.Set("state", a.state)
	}
	answer.Set("iss", s.Issuer)
	separator := "?"
	if strings.Contains(string(a.redirectURI), "?") {
		separator = "&"
	}
	s.redirect(w, string(a.redirectURI)+separator+answer.Encode())
}

// redirect sends the browser to location, which is ours or registered.
func (s *Server) redirect(w http.ResponseWriter, location string) {
	h := w.Header()
	s.pageHeaders(w)
	h.Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
}

// originOf is the origin of a registered redirect URI.
func originOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
