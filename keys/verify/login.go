package verify

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Login says how the person must have logged in (RFC 9470). At least one of
// the fields must be set.
type Login struct {
	// MaxAge is how long ago the person may have logged in, in whole seconds.
	// Zero means that it doesn't matter. There is no max_age of zero: no login
	// is that fresh when its token arrives, and the person would be sent to
	// log in for ever.
	MaxAge time.Duration

	// ACR, if not empty, are the classes of login of which the token's acr
	// must be one, the preferred ones first.
	ACR []string
}

// RequireLogin lets a request through if its token comes from a login as l
// says. Otherwise it answers by RFC 9470 §3: 401 with the error
// insufficient_user_authentication and what is missing, so that the client
// sends the person to log in with this max_age and these acr_values. A token
// that doesn't say when the person logged in (auth_time) is refused: there may
// have been none.
//
// It belongs inside of Require:
//
//	mux.Handle("DELETE /orders", v.Require("orders:write")(v.RequireLogin(verify.Login{MaxAge: time.Minute})(remove)))
//
// It panics at once if l can't be, and for a request that did not come through
// Require.
func (v *Verifier) RequireLogin(l Login) func(http.Handler) http.Handler {
	if err := l.Validate(); err != nil {
		panic(err)
	}
	l.ACR = slices.Clone(l.ACR)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			t := FromContext(r.Context())
			if t == nil {
				panic("verify: RequireLogin belongs inside of Require: there is no token")
			}
			if err := v.loggedIn(t, l); err != nil {
				v.Refuse(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Validate returns what RequireLogin would panic with.
func (l Login) Validate() error {
	if l.MaxAge < 0 || l.MaxAge%time.Second != 0 {
		return fmt.Errorf("verify: Login.MaxAge is %s: whole seconds are expected", l.MaxAge)
	}
	if l.MaxAge == 0 && len(l.ACR) == 0 {
		return fmt.Errorf("verify: Login demands nothing: set MaxAge or ACR")
	}
	for _, acr := range l.ACR {
		if acr == "" || strings.ContainsFunc(acr, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			return fmt.Errorf("verify: Login.ACR has %q: names without spaces and quotes are expected, such as urn:solegate:acr:password", acr)
		}
	}
	return nil
}

// loggedIn checks a token against l.
func (v *Verifier) loggedIn(t *Token, l Login) error {
	now := v.config.Now()
	var cause error
	description := "A more recent login is required."
	switch {
	case t.AuthTime.IsZero():
		cause = fmt.Errorf("the token has no auth_time")
	case t.AuthTime.After(now.Add(v.config.Leeway)):
		cause = fmt.Errorf("auth_time is in the future, at %s", t.AuthTime.UTC().Format(time.RFC3339))
	case l.MaxAge > 0 && now.Sub(t.AuthTime) > l.MaxAge+v.config.Leeway:
		cause = fmt.Errorf("the login is %s old, at most %s is expected", now.Sub(t.AuthTime).Round(time.Second), l.MaxAge)
	case len(l.ACR) > 0 && !slices.Contains(l.ACR, t.ACR):
		cause = fmt.Errorf("acr is %.100q, one of %q is expected", t.ACR, l.ACR)
		description = "Another kind of login is required."
	default:
		return nil
	}
	e := &Error{Code: "insufficient_user_authentication", Description: description, Status: http.StatusUnauthorized, Cause: cause}
	if l.MaxAge > 0 {
		e.parameters = append(e.parameters, parameter{"max_age", strconv.FormatInt(int64(l.MaxAge/time.Second), 10)})
	}
	if len(l.ACR) > 0 {
		e.parameters = append(e.parameters, parameter{"acr_values", strings.Join(l.ACR, " ")})
	}
	return e
}
