package authz

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/solegate/solegate/authz/login"
	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/authz/pages"
	"github.com/solegate/solegate/authz/provider"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// The purposes separate what is sealed here from what is sealed elsewhere.
const (
	logoutPurpose = "logout"         // a page that waits for the person
	carryPurpose  = "logout request" // a request that was posted
)

// carryParameter is where a posted request stands when it comes again.
const carryParameter = "request"

// pendingLogout waits, sealed in the form of the page, until the person
// confirms.
type pendingLogout struct {
	Location string    `json:"l,omitempty"` // where to go then: a registered URI
	Client   string    `json:"c,omitempty"`
	At       time.Time `json:"t"`
	// Session is what the application has an ID token of, if it is another
	// one than the browser's: both end.
	Session storage.SessionID `json:"s,omitempty"`
}

// carriedLogout is a request that was posted, sealed into the URL that it goes
// on by.
type carriedLogout struct {
	Form url.Values `json:"f"`
	At   time.Time  `json:"t"`
}

// logoutRequest is what an application asks for.
type logoutRequest struct {
	client clients.Client // zero if it said nothing of itself, or is none that is served
	// hinted is the session that the application has an ID token of, or empty.
	hinted storage.SessionID
	// location is where to go then: an address registered for client, or a
	// page of ours.
	location string
	// away says that location is the application's.
	away bool
}

// logout is the end session endpoint (OpenID Connect RP-Initiated Logout
// 1.0). With an ID token of this server as proof the session that it names
// ends at once; without one, or with one of another session than the
// browser's, the person is asked (§2, §6). logout_hint and ui_locales say
// nothing that this server would do otherwise, and are ignored.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if !s.topLevel(w, r) {
		return
	}
	form, ok := s.logoutForm(w, r)
	if !ok {
		return
	}
	q, text, err := s.logoutRequest(r, form)
	switch {
	case err != nil && oauth.As(err).Code == oauth.TemporarilyUnavailable:
		s.stillSignedIn(w, r, err)
		return
	case err != nil:
		s.page(w, r, http.StatusBadRequest, "This sign-out link is not valid", text, err)
		return
	}
	session, _, err := s.login.Current(r)
	switch signedIn := err == nil; {
	case !signedIn && !errors.Is(err, login.ErrNoSession):
		s.stillSignedIn(w, r, err)
	case signedIn && q.hinted != session.ID, q.away && q.hinted == "":
		// Anybody can link here: it takes the person to agree, and to go on
		// to an application that did not show that it is it.
		s.askToLogOut(w, r, q)
	default:
		s.endSessions(w, r, q.location, q.hinted)
	}
}

// logoutForm returns the parameters of a request, each once. It answers by
// itself if they can't be read, and if they were posted: a form post from
// another site carries no SameSite=Lax cookie, so nobody would seem to be
// signed in. The same request as a GET carries it; the ID token travels sealed,
// not in the clear.
func (s *Server) logoutForm(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	refuse := func(text string, err error) (url.Values, bool) {
		s.page(w, r, http.StatusBadRequest, "This sign-out link is not valid", text, err)
		return nil, false
	}
	a := &authorization{ctx: r.Context()}
	if !s.parameters(w, r, a) {
		return nil, false
	}
	if r.Method == http.MethodGet && len(a.query) == 1 && len(a.query[carryParameter]) == 1 {
		var carried carriedLogout
		plain, err := s.Ring.Unseal(carryPurpose, a.query.Get(carryParameter))
		if err == nil {
			err = json.Unmarshal(plain, &carried)
		}
		if err == nil && s.Now().Sub(carried.At) > s.Lifetimes.Login {
			err = errors.New("the request is too old")
		}
		if err != nil {
			return refuse("It is too old, or does not come from here. Go back to the application and sign out again.", err)
		}
		return carried.Form, true
	}
	if err := s.parametersOnce(a); err != nil {
		return refuse(err.(errLocal).error.(*oauth.Error).Description, err)
	}
	if r.Method == http.MethodPost {
		form := url.Values{}
		for _, name := range []string{"id_token_hint", "client_id", "post_logout_redirect_uri", "state"} {
			if a.form.Has(name) {
				form.Set(name, a.form.Get(name))
			}
		}
		s.redirect(w, s.Issuer+"/logout?"+url.Values{carryParameter: {s.Ring.Seal(carryPurpose, marshal(carriedLogout{form, s.Now()}))}}.Encode())
		return nil, false
	}
	return a.form, true
}

// logoutRequest checks the parameters. With an error comes the text for the
// page that refuses them.
func (s *Server) logoutRequest(r *http.Request, form url.Values) (q logoutRequest, refusal string, err error) {
	id := form.Get("client_id")
	if text := form.Get("id_token_hint"); text != "" {
		hint, err := s.parseIDTokenHint(text)
		if err != nil {
			return q, "The application sent an ID token that is not this server's.", err
		}
		if id != "" && id != hint.Audience {
			return q, "The application sent another application's ID token.", errors.New("id_token_hint of another client")
		}
		id, q.hinted = hint.Audience, hint.Session
	}
	q.location = s.Issuer + "/logout/done"
	if id != "" {
		q.client, err = s.client(r.Context(), clients.ID(id))
		switch {
		case err == nil, oauth.As(err).Code == oauth.TemporarilyUnavailable:
		case q.hinted != "":
			// Who signed in to an application that was disabled since can
			// sign out all the same. The way back is closed.
			return q, "", nil
		}
		if err != nil {
			return q, "The application is not known here.", err
		}
	}
	uri := form.Get("post_logout_redirect_uri")
	if uri == "" {
		return q, "", nil
	}
	if !q.client.HasPostLogoutRedirectURI(uri) {
		return q, "The application asked to go on to an address that is not registered for it.", errors.New("unregistered post_logout_redirect_uri")
	}
	q.location, q.away = uri, true
	if state := form.Get("state"); state != "" && len(state) <= maxState {
		separator := "?"
		if strings.Contains(uri, "?") {
			separator = "&"
		}
		q.location += separator + url.Values{"state": {state}}.Encode()
	}
	return q, "", nil
}

func (s *Server) askToLogOut(w http.ResponseWriter, r *http.Request, q logoutRequest) {
	token, err := s.login.Token(w, r, logoutPurpose)
	if err != nil {
		s.page(w, r, http.StatusInternalServerError, "You are still signed in", "The server can't sign you out now. Try again.", err)
		return
	}
	h := s.headers()
	h.FormAction = originOf(q.location)
	s.pages.Write(w, h, http.StatusOK, pages.Logout{
		ClientName: q.client.Name, Token: token,
		Request: s.Ring.Seal(logoutPurpose, marshal(pendingLogout{Location: q.location, Client: q.client.Name, At: s.Now(), Session: q.hinted})),
	})
}

func (s *Server) stillSignedIn(w http.ResponseWriter, r *http.Request, err error) {
	s.page(w, r, http.StatusServiceUnavailable, "You are still signed in", "The server can't sign you out now. Try again.", err)
}

// confirmLogout is what the page's form posts to.
func (s *Server) confirmLogout(w http.ResponseWriter, r *http.Request) {
	refuse := func(err error) {
		s.page(w, r, http.StatusBadRequest, "You are still signed in", "The page was too old or did not come from here. Go back and sign out again.", err)
	}
	if err := login.SameOriginPost(r, s.Issuer); err != nil {
		refuse(err)
		return
	}
	form, err := formBody(w, r)
	if err != nil {
		refuse(err)
		return
	}
	if err := s.login.CheckToken(r, logoutPurpose, form.Get("token")); err != nil {
		refuse(err)
		return
	}
	var next pendingLogout
	plain, err := s.Ring.Unseal(logoutPurpose, form.Get("request"))
	if err == nil {
		err = json.Unmarshal(plain, &next)
	}
	if err == nil && s.Now().Sub(next.At) > s.Lifetimes.Login {
		err = errors.New("the page is too old")
	}
	if err != nil {
		refuse(err)
		return
	}
	session, _, err := s.login.Current(r)
	if err != nil && !errors.Is(err, login.ErrNoSession) {
		s.stillSignedIn(w, r, err)
		return
	}
	s.endSessions(w, r, next.Location, session.ID, next.Session)
}

// endSessions ends the sessions, and with them every grant that came of them,
// takes the cookie and goes on to location.
func (s *Server) endSessions(w http.ResponseWriter, r *http.Request, location string, ids ...storage.SessionID) {
	for _, id := range ids {
		if id == "" {
			continue
		}
		err := s.revoker.EndSession(r.Context(), id, "signed out")
		// A line that the audit log does not have yet keeps nobody signed in.
		if err != nil && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, revocation.ErrNotRecorded) {
			s.stillSignedIn(w, r, err)
			return
		}
	}
	s.login.End(w, r)
	s.redirect(w, location)
}

func (s *Server) loggedOut(w http.ResponseWriter, _ *http.Request) {
	s.pages.Write(w, s.headers(), http.StatusOK, pages.LoggedOut{})
}

// parseIDTokenHint returns the claims of an ID token that this server signed,
// expired or not (OpenID Connect Core §3.1.2.1).
func (s *Server) parseIDTokenHint(hint string) (provider.IDToken, error) {
	var t provider.IDToken
	payload, err := s.Ring.Verify(hint, provider.IDTokenType)
	if err == nil {
		err = json.Unmarshal(payload, &t)
	}
	if err == nil && t.Issuer != s.Issuer {
		err = errors.New("signed for another issuer")
	}
	return t, err
}
