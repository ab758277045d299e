package authz

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/authz/provider"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// introspection is the answer about a live access token (RFC 7662 §2.2).
type introspection struct {
	Active bool `json:"active"`
	provider.AccessToken
	TokenType string `json:"token_type"`
	Username  string `json:"username,omitempty"`
}

// introspect is the introspection endpoint (RFC 7662). Only a registered
// resource server asks, with its own credential, and only about access tokens
// for its own audience: about all else the answer is that it is not active.
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) {
	rs, err := s.resourceServer(r)
	if err != nil {
		s.refuseJSON(w, r, err)
		return
	}
	t := &tokenRequest{w: w, r: r}
	if err := s.postedForm(t); err != nil {
		s.refuseJSON(w, r, err)
		return
	}
	if t.form.Get("token") == "" {
		s.refuseJSON(w, r, oauth.Errorf(oauth.InvalidRequest, "The token parameter is missing.", "no token"))
		return
	}
	token, st, _, err := s.liveToken(r.Context(), t.form.Get("token"))
	switch {
	case err != nil && oauth.As(err).HTTPStatus() >= 500:
		s.refuseJSON(w, r, err)
	case err != nil || token.Audience != rs.Audience:
		s.writeTokens(w, []byte(`{"active":false}`+"\n"))
	default:
		s.writeTokens(w, marshal(introspection{Active: true, AccessToken: token, TokenType: "Bearer", Username: st.User.Name}))
	}
}

// resourceServer authenticates the resource server that asks: HTTP Basic,
// both parts form-encoded (RFC 6749 §2.3.1).
func (s *Server) resourceServer(r *http.Request) (clients.ResourceServer, error) {
	refuse := func(cause string) (clients.ResourceServer, error) {
		s.audit.Record(r.Context(), audit.Event{What: "resource server refused", Reason: cause, Address: s.address(r), Request: s.requestID(r)})
		refusal := oauth.Errorf(oauth.InvalidClient, "The resource server's credential is missing or wrong.", "%s", cause)
		refusal.Status = http.StatusUnauthorized
		return clients.ResourceServer{}, refusal
	}
	user, secret, ok := r.BasicAuth()
	if !ok || len(r.Header["Authorization"]) != 1 {
		return refuse("no HTTP Basic credential")
	}
	id, err := url.QueryUnescape(user)
	if err != nil {
		return refuse("malformed HTTP Basic user name")
	}
	if secret, err = url.QueryUnescape(secret); err != nil {
		return refuse("malformed HTTP Basic password")
	}
	rs, err := s.Store.ResourceServer(r.Context(), clients.ID(id))
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return refuse("unknown resource server")
	case err != nil:
		return rs, &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server can't do this now; try again.", Cause: err}
	case !rs.CheckSecret(secret):
		return refuse("wrong secret of resource server " + string(rs.ID))
	case rs.Disabled:
		return refuse("disabled resource server " + string(rs.ID))
	}
	return rs, nil
}
