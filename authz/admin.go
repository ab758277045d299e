package authz

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/solegate/solegate/authz/admin"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/oauth"
)

// adminProblems fills in the default of AdminMaxAge and says what is wrong with
// it.
func (c *Config) adminProblems() []Problem {
	if c.AdminMaxAge == 0 {
		c.AdminMaxAge = time.Hour
	}
	if c.AdminMaxAge < time.Minute || c.AdminMaxAge > 24*time.Hour {
		return []Problem{{"admin.max_age", fmt.Sprintf("%s is not between 1m and 24h", c.AdminMaxAge)}}
	}
	return nil
}

// administer is the operator's API (see package admin) for access tokens of
// operators. Only the Authorization header is looked at, never a cookie.
func (s *Server) administer(w http.ResponseWriter, r *http.Request) {
	s.admin.Serve(w, r, func() (string, error) {
		operator, err := s.operator(w, r)
		if err == nil {
			return operator, nil
		}
		if _, ok := err.(*admin.Problem); !ok {
			err = s.tokenProblem(w, r, err)
		}
		return "", err
	})
}

// ServeOperator answers a request to the operator's API that comes another way
// than over the network: whoever calls it vouches for the operator, whom the
// audit log then names.
func (s *Server) ServeOperator(w http.ResponseWriter, r *http.Request, operator string) {
	s.admin.Serve(w, r, func() (string, error) { return operator, nil })
}

// operator returns who makes the request. The token alone decides first, so
// that what is not signed for this API costs the store nothing.
func (s *Server) operator(w http.ResponseWriter, r *http.Request) (string, error) {
	scheme, token, err := presentedToken(r)
	if err != nil {
		return "", err
	}
	t, err := s.accessToken(token)
	switch {
	case err != nil:
		return "", err
	case t.Audience != admin.Audience(s.Issuer):
		return "", oauth.Errorf(oauth.InvalidToken, "The access token is for another API.", "audience %q", t.Audience)
	case !oauth.Has(oauth.SplitScope(t.Scope), admin.Scope):
		return "", oauth.Errorf(oauth.InsufficientScope, "The token lacks the scope "+admin.Scope+".", "scope %q", t.Scope)
	case t.Grant == "": // a client's own: an operator is a person
		return "", oauth.Errorf(oauth.InvalidToken, "The access token is nobody's.", "client %s got it for itself", t.ClientID)
	case s.Now().Sub(time.Unix(t.AuthTime, 0)) >= s.AdminMaxAge:
		return "", oauth.Errorf(oauth.InsufficientUserAuthentication, "A more recent login is required.", "user %s logged in at %s", t.Subject, time.Unix(t.AuthTime, 0).UTC())
	}
	if wait := s.turns.Take(string(t.Subject), s.Now()); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		return "", &admin.Problem{Status: http.StatusTooManyRequests, Detail: "There were too many requests: wait as Retry-After says."}
	}
	st, c, err := s.standing(r.Context(), t)
	if err == nil {
		err = s.possessed(w, r, scheme, token, t, c)
	}
	if err != nil {
		return "", err
	}
	if !st.User.Admin {
		s.audit.Record(r.Context(), audit.Event{What: "operator refused", User: st.User.ID, Client: c.ID, Session: t.Session, Reason: "the account is no operator's", Address: s.address(r), Request: s.requestID(r)})
		return "", &admin.Problem{Status: http.StatusForbidden, Detail: "The account is not an operator's."}
	}
	return "user:" + string(st.User.ID), nil
}

// tokenProblem is the refusal of an access token as the API answers it, with
// the challenge beside it. RFC 9470 §3: a login within max_age would be enough.
func (s *Server) tokenProblem(w http.ResponseWriter, r *http.Request, err error) error {
	needs := `scope="` + admin.Scope + `"`
	e := oauth.As(err)
	if e.Code == oauth.InsufficientUserAuthentication {
		needs = "max_age=" + strconv.Itoa(int(s.AdminMaxAge/time.Second))
	}
	w.Header()["WWW-Authenticate"] = challenges(r, err, needs)
	if err == errNoToken {
		return &admin.Problem{Status: http.StatusUnauthorized, Detail: "An access token is expected.", Cause: err}
	}
	return &admin.Problem{Status: e.HTTPStatus(), Detail: e.Description, Cause: e.Cause}
}
