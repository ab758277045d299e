package authz

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/authz/provider"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/dpop"
	"github.com/solegate/solegate/storage"
)

// claims are what userinfo tells (OpenID Connect Core §5.1).
type claims struct {
	Subject           storage.UserID `json:"sub"`
	Name              string         `json:"name,omitempty"`
	PreferredUsername string         `json:"preferred_username,omitempty"`
	UpdatedAt         int64          `json:"updated_at,omitempty"`
	Email             string         `json:"email,omitempty"`
	EmailVerified     *bool          `json:"email_verified,omitempty"`
}

// userinfo is the UserInfo endpoint (OpenID Connect Core §5.3). It takes any
// live access token with the scope openid, the API's too: the server knows its
// own tokens and sees at once when the grant has ended.
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) {
	// A page of a registered app may read why it was refused, before it is
	// known whose token it has.
	if origins := r.Header["Origin"]; len(origins) == 1 {
		if known, err := s.knownOrigin(r, origins[0]); err == nil && known {
			allowOrigin(w, origins[0])
		}
	}
	scheme, token, err := presentedToken(r)
	if err != nil {
		s.refuseToken(w, r, err)
		return
	}
	t, st, c, err := s.liveToken(r.Context(), token)
	if err == nil {
		err = s.possessed(w, r, scheme, token, t, c)
	}
	if err != nil {
		s.refuseToken(w, r, err)
		return
	}
	if err := s.origin(&tokenRequest{w: w, r: r, client: c}); err != nil {
		w.Header().Del("Access-Control-Allow-Origin")
		s.refuseJSON(w, r, err)
		return
	}
	scope := oauth.SplitScope(t.Scope)
	if !oauth.Has(scope, oauth.OpenID) {
		s.refuseToken(w, r, oauth.Errorf(oauth.InsufficientScope, "The token lacks the scope openid.", "scope %q", t.Scope))
		return
	}
	u := st.User
	answer := claims{Subject: u.ID}
	if oauth.Has(scope, oauth.Profile) {
		answer.Name, answer.PreferredUsername, answer.UpdatedAt = u.DisplayName, u.Name, u.UpdatedAt.Unix()
	}
	if oauth.Has(scope, oauth.Email) && u.Email != "" {
		answer.Email, answer.EmailVerified = u.Email, &u.EmailVerified
	}
	s.writeTokens(w, http.StatusOK, marshal(answer))
}

// presentedToken returns the scheme, Bearer or DPoP, and the token of the
// Authorization header, the only place where one is taken from (RFC 6750 §2.1,
// RFC 9449 §7.1, RFC 9700 §4.3.2).
func presentedToken(r *http.Request) (scheme, token string, err error) {
	headers := r.Header["Authorization"]
	if len(headers) == 0 {
		return "", "", errNoToken
	}
	scheme, token, _ = strings.Cut(headers[0], " ")
	for _, known := range []string{"Bearer", "DPoP"} {
		if len(headers) == 1 && strings.EqualFold(scheme, known) && token != "" {
			return known, token, nil
		}
	}
	return "", "", oauth.Errorf(oauth.InvalidRequest, "One Authorization header with a Bearer or DPoP token is expected.", "%d Authorization headers", len(headers))
}

var errNoToken = errors.New("no access token")

// possessed refuses a token that is bound to a key unless the request proves
// the key (RFC 9449 §7), and one that is not as if it were.
func (s *Server) possessed(w http.ResponseWriter, r *http.Request, scheme, token string, t provider.AccessToken, c clients.Client) error {
	if t.JKT() == "" {
		if scheme != "Bearer" {
			return oauth.Errorf(oauth.InvalidToken, "The access token is not bound to a key.", "scheme DPoP with a token that has no cnf")
		}
		return nil
	}
	if scheme != "DPoP" {
		return oauth.Errorf(oauth.InvalidToken, "The access token is bound to a key: the scheme DPoP is expected.", "a bound token as Bearer")
	}
	proof, err := s.checkProof(w, r, c, token)
	switch {
	case err != nil:
	case proof == nil:
		err = oauth.Errorf(oauth.InvalidDPoPProof, "A DPoP proof is required.", "a bound token without a proof")
	case proof.JKT != t.JKT():
		err = oauth.Errorf(oauth.InvalidToken, "The access token is bound to another key.", "a proof of another key")
	default:
		err = s.proofOnce(r.Context(), proof)
	}
	if e := oauth.As(err); err != nil && (e.Code == oauth.InvalidDPoPProof || e.Code == oauth.UseDPoPNonce) {
		e.Status = http.StatusUnauthorized // RFC 9449 §7.1
	}
	return err
}

// refuseToken answers with the challenges of RFC 6750 §3 and RFC 9449 §7.1.
func (s *Server) refuseToken(w http.ResponseWriter, r *http.Request, err error) {
	w.Header()["WWW-Authenticate"] = challenges(r, err, `scope="openid"`)
	if errors.Is(err, errNoToken) {
		w.Header()["Cache-Control"] = noStore
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	s.refuseJSON(w, r, err)
}

// challenges say what is wrong with the access token of a request, if it is
// that. needs is the parameter that says what would be enough, where the token
// is good and not enough.
func challenges(r *http.Request, err error, needs string) []string {
	algs := `algs="` + strings.Join(dpop.Algorithms(), " ") + `"`
	if errors.Is(err, errNoToken) { // no error code for who sent none (§3.1)
		return []string{`Bearer realm="solegate"`, `DPoP realm="solegate", ` + algs}
	}
	e := oauth.As(err)
	if e.HTTPStatus() >= 500 {
		return nil
	}
	challenge := ` realm="solegate", error="` + string(e.Code) + `", error_description="` + e.Description + `"`
	if e.Code == oauth.InsufficientScope || e.Code == oauth.InsufficientUserAuthentication {
		challenge += ", " + needs
	}
	if scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "DPoP") {
		return []string{"DPoP" + challenge + ", " + algs}
	}
	return []string{"Bearer" + challenge}
}

// accessToken returns the claims of an access token that this server signed
// and that has not expired. Whether its grant still stands is not looked at.
func (s *Server) accessToken(token string) (provider.AccessToken, error) {
	var t provider.AccessToken
	payload, err := s.Ring.Verify(token, provider.AccessTokenType)
	if err == nil {
		err = json.Unmarshal(payload, &t)
	}
	if err == nil && t.Issuer != s.Issuer {
		err = errors.New("signed for another issuer")
	}
	if err == nil && s.Now().Unix() >= t.ExpiresAt {
		err = errors.New("expired")
	}
	if err != nil {
		return t, oauth.Errorf(oauth.InvalidToken, "The access token is invalid or has expired.", "access token: %w", err)
	}
	return t, nil
}

// liveToken returns an access token of ours whose grant still stands, with
// what it stands on.
func (s *Server) liveToken(ctx context.Context, token string) (t provider.AccessToken, st storage.Standing, c clients.Client, err error) {
	if t, err = s.accessToken(token); err != nil {
		return t, st, c, err
	}
	st, c, err = s.standing(ctx, t)
	return t, st, c, err
}

// standing returns what an access token of ours stands on, and refuses one
// whose grant has ended.
func (s *Server) standing(ctx context.Context, t provider.AccessToken) (st storage.Standing, c clients.Client, err error) {
	const refusal = "The access token was revoked."
	if t.Grant == "" { // a client's own: it stands as long as the client does, or until it is revoked
		c, err = s.client(ctx, clients.ID(t.ClientID))
		if err == nil && t.ClientEpoch != c.Epoch {
			err = revocation.ErrClientRevoked
		}
		if err == nil {
			err = stillMay(t, c)
		}
		if err == nil {
			err = s.notRevoked(ctx, t)
		}
		if err != nil && oauth.As(err).Code != oauth.TemporarilyUnavailable {
			err = oauth.Errorf(oauth.InvalidToken, refusal, "%w", err)
		}
		return st, c, err
	}
	st, err = s.Store.Standing(ctx, t.Grant, clients.ID(t.ClientID))
	if errors.Is(err, storage.ErrNotFound) {
		return st, c, oauth.Errorf(oauth.InvalidToken, refusal, "no grant %s", t.Grant)
	} else if err != nil {
		return st, c, &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server can't do this now; try again.", Cause: err}
	}
	if c, err = s.client(ctx, st.Grant.Client); err != nil {
		if oauth.As(err).Code == oauth.TemporarilyUnavailable {
			return st, c, err
		}
		return st, c, oauth.Errorf(oauth.InvalidToken, refusal, "%w", err)
	}
	err = revocation.Live(st, c, s.Now())
	if err == nil {
		err = stillMay(t, c)
	}
	if err != nil {
		return st, c, oauth.Errorf(oauth.InvalidToken, refusal, "grant %s: %w", t.Grant, err)
	}
	return st, c, nil
}

// stillMay refuses a bearer token of a client that has had to prove its key
// since: the switch ends what was issued before it.
func stillMay(t provider.AccessToken, c clients.Client) error {
	if t.JKT() == "" && c.MustProve() {
		return fmt.Errorf("it is bound to no key, and client %s must prove one", c.ID)
	}
	return nil
}

// notRevoked refuses a client's own token that was revoked: no record stands
// behind it, but an event does.
func (s *Server) notRevoked(ctx context.Context, t provider.AccessToken) error {
	revoked, err := s.feed.TokenRevoked(ctx, t.ID)
	switch {
	case err != nil:
		return &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server can't do this now; try again.", Cause: err}
	case revoked:
		return errors.New("the token was revoked")
	}
	return nil
}
