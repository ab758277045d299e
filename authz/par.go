package authz

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/clients"
)

// requestURIPrefix begins every request_uri of ours (RFC 9126 §2.2). No other
// request_uri is looked at, and none is ever fetched.
const requestURIPrefix = "urn:ietf:params:oauth:request_uri:"

// pushedLife is how long a browser may take to come with a request_uri.
const pushedLife = time.Minute

// pushedPurpose separates what is sealed here from what is sealed elsewhere.
const pushedPurpose = "pushed authorization request"

// pushedAuthorization is a pushed request, sealed in its own request_uri:
// nothing waits in the store, so nobody can fill it by pushing, and any server
// takes any request up. That it is used once is remembered when it was.
type pushedAuthorization struct {
	ID         string     `json:"i"` // random
	Client     clients.ID `json:"c"`
	Parameters url.Values `json:"p"`
	At         time.Time  `json:"t"`
}

// par is the pushed authorization request endpoint (RFC 9126 §2). What passes
// here has passed all that the front channel asks, so the browser is not sent
// to a login in vain.
func (s *Server) par(w http.ResponseWriter, r *http.Request) {
	t, ok := s.clientRequest(w, r, atPush)
	if !ok {
		return
	}
	a := &authorization{ctx: r.Context(), maxAge: -1, body: t.form}
	if t.form.Has("request_uri") {
		s.refuseJSON(w, r, oauth.Errorf(oauth.InvalidRequest, "A request_uri can't be pushed.", "request_uri was pushed"))
		return
	}
	t.form.Set("client_id", string(t.client.ID)) // the credential may have named it alone
	if t.proof != nil {
		// RFC 9449 §10.1: the proof names the key that the code is bound to.
		if named := t.form.Get("dpop_jkt"); named != "" && named != t.proof.JKT {
			s.refuseJSON(w, r, oauth.Errorf(oauth.InvalidRequest, "The dpop_jkt is not that of the DPoP proof.", "dpop_jkt names another key than the proof's"))
			return
		}
		t.form.Set("dpop_jkt", t.proof.JKT)
	}
	if err := s.checkAuthorization(a, push); err != nil {
		s.refuseJSON(w, r, err)
		return
	}
	uri := requestURIPrefix + s.Ring.Seal(pushedPurpose, marshalPlain(pushedAuthorization{s.randomText(16), t.client.ID, travelling(a.form), s.Now()}))
	if len(uri) > maxParameter { // the authorization endpoint would not take it
		s.refuseJSON(w, r, oauth.Errorf(oauth.InvalidRequest, "The request is too large to be pushed.", "the request_uri has %d bytes, at most %d", len(uri), maxParameter))
		return
	}
	s.writeTokens(w, http.StatusCreated, marshal(struct {
		RequestURI string `json:"request_uri"`
		ExpiresIn  int64  `json:"expires_in"` // seconds
	}{uri, int64(pushedLife / time.Second)}))
}

// marshalPlain is marshal for what no browser reads: without the escapes for
// HTML a state of angle brackets is a sixth as long.
func marshalPlain(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func isPushed(form url.Values) bool {
	return strings.HasPrefix(form.Get("request_uri"), requestURIPrefix)
}

// pushedRequest puts what was pushed in the place of the parameters. Those that
// came beside client_id and request_uri are ignored: they come from the
// browser, where anybody may have changed them (RFC 9126 §4).
func (s *Server) pushedRequest(a *authorization) error {
	refuse := func(cause error) error {
		return errLocal{error: &oauth.Error{Code: oauth.InvalidRequestURI, Description: "The request_uri is invalid, too old or another application's.", Cause: cause}}
	}
	sealed, ours := strings.CutPrefix(a.form.Get("request_uri"), requestURIPrefix)
	if !ours {
		return refuse(errors.New("it is none of ours"))
	}
	plain, err := s.Ring.Unseal(pushedPurpose, sealed)
	if err != nil {
		return refuse(err)
	}
	var p pushedAuthorization
	if err := json.Unmarshal(plain, &p); err != nil {
		return refuse(err)
	}
	age := s.Now().Sub(p.At)
	switch {
	case a.form.Get("client_id") != string(p.Client):
		return refuse(errors.New("it was pushed by another client"))
	case age >= pushedLife || age < -clockLeeway:
		return refuse(errors.New("it was pushed " + age.String() + " ago"))
	}
	a.form, a.pushed = p.Parameters, p.ID
	return nil
}

// pushedOnce ends a pushed request: whoever comes with it again is refused. It
// is called when the login has ended and not at the first visit, so that a
// person may reload the page.
func (s *Server) pushedOnce(a *authorization) error {
	if a.pushed == "" {
		return nil
	}
	key := sha256.Sum256([]byte(pushedPurpose + "\x00" + a.pushed))
	err := s.once(a.ctx, key, s.Now().Add(pushedLife+s.Lifetimes.Login+clockLeeway),
		oauth.Errorf(oauth.InvalidRequestURI, "The request_uri was used before.", "the pushed request was used before"))
	if err != nil && oauth.As(err).Code == oauth.InvalidRequestURI {
		return errLocal{error: err}
	}
	return err
}

func (s *Server) mustPush(a *authorization) error {
	if a.client.MustPush() && a.pushed == "" {
		return oauth.Errorf(oauth.InvalidRequest, "The request must be pushed.", "client %s must push its requests", a.client.ID)
	}
	return nil
}
