package authz

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/solegate/solegate/authz/admin"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/authz/provider"
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
	s.admin.Serve(w, r, func() (admin.Operator, error) {
		operator, err := s.operator(w, r)
		if _, ok := errors.AsType[*admin.Problem](err); err != nil && !ok {
			err = s.tokenProblem(w, r, err)
		}
		return operator, err
	})
}

// ServeOperator answers a request to the operator's API that comes another way
// than over the network: whoever calls it vouches for the operator, whom the
// audit log then names.
func (s *Server) ServeOperator(w http.ResponseWriter, r *http.Request, operator string) {
	s.admin.Serve(w, r, func() (admin.Operator, error) { return admin.Operator{Name: operator}, nil })
}

// operator returns who makes the request. The token alone decides first, so
// that what is not signed for this API costs the store nothing.
func (s *Server) operator(w http.ResponseWriter, r *http.Request) (o admin.Operator, err error) {
	scheme, token, err := presentedToken(r)
	if err != nil {
		return o, err
	}
	t, err := s.accessToken(token)
	if err == nil {
		err = s.operatorsToken(t)
	}
	if err != nil {
		return o, err
	}
	st, c, err := s.standing(r.Context(), t)
	if err == nil {
		err = s.possessed(w, r, scheme, token, t, c)
	}
	if err != nil {
		return o, err
	}
	// Only now: whoever has stolen a token, and not its key, or one that has
	// ended, uses up no turn of the operator's.
	if wait := s.turns.Take(string(t.Subject), s.Now()); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		return o, &admin.Problem{Status: http.StatusTooManyRequests, Detail: "There were too many requests: wait as Retry-After says."}
	}
	if !st.User.Admin {
		s.audit.Record(r.Context(), audit.Event{What: "operator refused", User: st.User.ID, Client: c.ID, Session: t.Session, Reason: "the account is no operator's", Address: s.address(r), Request: s.requestID(r)})
		return o, &admin.Problem{Status: http.StatusForbidden, Detail: "The account is not an operator's."}
	}
	still := func(ctx context.Context) error {
		if err := s.operatorsToken(t); err != nil {
			return err
		}
		st, _, err := s.standing(ctx, t)
		if err == nil && !st.User.Admin {
			err = errors.New("the account is no operator's")
		}
		return err
	}
	return admin.Operator{Name: "user:" + string(st.User.ID), Still: still}, nil
}

// operatorsToken refuses an access token of ours that is not for the operator's
// API, or no longer.
func (s *Server) operatorsToken(t provider.AccessToken) error {
	switch now, login := s.Now(), time.Unix(t.AuthTime, 0); {
	case t.Audience != admin.Audience(s.Issuer):
		return oauth.Errorf(oauth.InvalidToken, "The access token is for another API.", "audience %q", t.Audience)
	case !oauth.Has(oauth.SplitScope(t.Scope), admin.Scope):
		return oauth.Errorf(oauth.InsufficientScope, "The token lacks the scope "+admin.Scope+".", "scope %q", t.Scope)
	case t.Grant == "": // a client's own: an operator is a person
		return oauth.Errorf(oauth.InvalidToken, "The access token is nobody's.", "client %s got it for itself", t.ClientID)
	case now.Sub(login) >= s.AdminMaxAge:
		return oauth.Errorf(oauth.InsufficientUserAuthentication, "A more recent login is required.", "user %s logged in at %s", t.Subject, login.UTC())
	case now.Unix() >= t.ExpiresAt: // of a stream that went on
		return oauth.Errorf(oauth.InvalidToken, "The access token has expired.", "expired")
	}
	return nil
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
	if errors.Is(err, errNoToken) {
		return &admin.Problem{Status: http.StatusUnauthorized, Detail: "An access token is expected.", Cause: err}
	}
	return &admin.Problem{Status: e.HTTPStatus(), Detail: e.Description, Cause: e.Cause}
}
