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
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// logoutPurpose separates what is sealed here from what is sealed elsewhere.
const logoutPurpose = "logout"

// pendingLogout waits, sealed in the form of the page, until the person
// confirms.
type pendingLogout struct {
	Location string    `json:"l,omitempty"` // where to go then: a registered URI
	Client   string    `json:"c,omitempty"`
	At       time.Time `json:"t"`
}

// logout is the end session endpoint (OpenID Connect RP-Initiated Logout
// 1.0). With an ID token of this server as proof the session that it names
// ends at once; without one the person is asked (§6).
func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if !s.topLevel(w, r) {
		return
	}
	refuse := func(text string, cause error) {
		s.page(w, r, http.StatusBadRequest, "This sign-out link is not valid", text, cause)
	}
	a := &authorization{ctx: r.Context()}
	if !s.parameters(w, r, a) {
		return
	}
	if err := s.parametersOnce(a); err != nil {
		refuse(err.(errLocal).error.(*oauth.Error).Description, err)
		return
	}
	form := a.form

	var hint provider.IDToken
	clientID := form.Get("client_id")
	if text := form.Get("id_token_hint"); text != "" {
		var err error
		if hint, err = s.parseIDTokenHint(text); err != nil {
			refuse("The application sent an ID token that is not this server's.", err)
			return
		}
		if clientID != "" && clientID != hint.Audience {
			refuse("The application sent another application's ID token.", errors.New("id_token_hint of another client"))
			return
		}
		clientID = hint.Audience
	}
	var c clients.Client
	if clientID != "" {
		var err error
		if c, err = s.client(r.Context(), clients.ID(clientID)); err != nil {
			refuse("The application is not known here.", err)
			return
		}
	}
	next := pendingLogout{Location: s.Issuer + "/logout/done", Client: c.Name, At: s.Now()}
	if uri := form.Get("post_logout_redirect_uri"); uri != "" {
		if !c.HasPostLogoutRedirectURI(uri) {
			refuse("The application asked to go on to an address that is not registered for it.", errors.New("unregistered post_logout_redirect_uri"))
			return
		}
		next.Location = uri
		if state := form.Get("state"); state != "" && len(state) <= maxState {
			separator := "?"
			if strings.Contains(uri, "?") {
				separator = "&"
			}
			next.Location += separator + url.Values{"state": {state}}.Encode()
		}
	}

	session, _, err := s.login.Current(r)
	switch {
	case err != nil && !errors.Is(err, login.ErrNoSession):
		s.page(w, r, http.StatusServiceUnavailable, "You are still signed in", "The server can't sign you out now. Try again.", err)
	case err == nil && (hint.Session == "" || hint.Session != session.ID):
		// Anybody can link here: it takes the person to agree.
		token, err := s.login.Token(w, r, logoutPurpose)
		if err != nil {
			s.page(w, r, http.StatusInternalServerError, "You are still signed in", "The server can't sign you out now. Try again.", err)
			return
		}
		h := s.headers()
		h.FormAction = originOf(next.Location)
		s.pages.Write(w, h, http.StatusOK, pages.Logout{
			ClientName: c.Name, Request: s.Ring.Seal(logoutPurpose, marshal(next)), Token: token,
		})
	default:
		s.endSession(w, r, hint.Session, next.Location)
	}
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
		s.page(w, r, http.StatusServiceUnavailable, "You are still signed in", "The server can't sign you out now. Try again.", err)
		return
	}
	s.endSession(w, r, session.ID, next.Location)
}

// endSession ends the session, and with it every grant that came of it, takes
// the cookie and goes on to location.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request, id storage.SessionID, location string) {
	if id != "" {
		err := s.revoker.EndSession(r.Context(), id, "signed out")
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			s.page(w, r, http.StatusServiceUnavailable, "You are still signed in", "The server can't sign you out now. Try again.", err)
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
