package authz

import (
	"errors"
	"net/http"

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
	t := &tokenRequest{w: w, r: r}
	err := s.postedForm(t)
	if err == nil {
		err = s.presented(t)
	}
	var rs clients.ResourceServer
	if err == nil {
		rs, err = s.resourceServer(t)
	}
	if err == nil {
		err = s.assertedOnce(t)
	}
	if err != nil {
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
		s.writeTokens(w, http.StatusOK, []byte(`{"active":false}`+"\n"))
	default:
		kind := "Bearer"
		if token.JKT() != "" {
			kind = "DPoP" // RFC 9449 §6.2; whether the key was proved is the resource server's to check
		}
		s.writeTokens(w, http.StatusOK, marshal(introspection{Active: true, AccessToken: token, TokenType: kind, Username: st.User.Name}))
	}
}

// resourceServer authenticates the resource server that asks, by the way it is
// registered for: client_secret_basic or private_key_jwt.
func (s *Server) resourceServer(t *tokenRequest) (clients.ResourceServer, error) {
	r := t.r
	var rs clients.ResourceServer
	refuse := func(cause string) (clients.ResourceServer, error) {
		s.audit.Record(r.Context(), audit.Event{What: "resource server refused", Reason: cause, Address: s.address(r), Request: s.requestID(r)})
		refusal := oauth.Errorf(oauth.InvalidClient, "The resource server's credential is missing or wrong.", "%s", cause)
		refusal.Status = basicStatus(rs.Method(), t.credential)
		return clients.ResourceServer{}, refusal
	}
	if t.credential.method == clients.None {
		return refuse("no credential")
	}
	var err error
	rs, err = s.Store.ResourceServer(r.Context(), t.credential.client)
	registered := rs.Method()
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return refuse("unknown resource server")
	case err != nil:
		return rs, &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server can't do this now; try again.", Cause: err}
	case t.credential.method != registered:
		return refuse("resource server " + string(rs.ID) + " authenticates by " + string(t.credential.method) + ", not by " + string(registered))
	case registered == clients.SecretBasic && !rs.CheckSecret(t.credential.secret):
		return refuse("wrong secret of resource server " + string(rs.ID))
	case registered == clients.PrivateKeyJWT:
		if t.assertion, err = s.checkAssertion(t.credential.assertion, string(rs.ID), rs.Keys); err != nil {
			return refuse("assertion of resource server " + string(rs.ID) + ": " + err.Error())
		}
	}
	if rs.Disabled {
		return refuse("disabled resource server " + string(rs.ID))
	}
	return rs, nil
}
