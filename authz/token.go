package authz

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/authz/provider"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/dpop"
	"github.com/solegate/solegate/storage"
)

// tokenRequest is a request of a client to /token, /par or /revoke.
type tokenRequest struct {
	w     http.ResponseWriter
	r     *http.Request
	at    clientEndpoint
	again bool       // the client turned out to be another one than was known
	form  url.Values // postedForm

	credential credential     // presented
	client     clients.Client // identified
	assertion  *assertion     // authenticated, if by one
	proof      *dpop.Proof    // proved, nil if there is none
}

// clientEndpoint is where a client asks.
type clientEndpoint uint8

const (
	atToken clientEndpoint = 1 << iota
	atPush
	atRevoke

	anywhere = atToken | atPush | atRevoke
)

// tokenChecks are what a client's request must pass before anything of a grant
// is looked at. First comes what only looks, then what is used up by being
// seen; the code or the refresh token is touched after all of it, so that no
// refusal here burns one (RFC 9449 §5).
var tokenChecks = []struct {
	at    clientEndpoint
	again bool // also when the client turns out to be another one than was known
	check func(*Server, *tokenRequest) error
}{
	{anywhere, false, (*Server).postedForm},         // RFC 6749 §3.2: POST, parameters in the body, each once
	{anywhere, false, (*Server).presented},          // RFC 6749 §2.3: one way to authenticate, not two
	{anywhere, true, (*Server).identified},          // RFC 6749 §3.2.1: whose origins and keys to compare
	{anywhere, true, (*Server).origin},              // RFC 10017: a browser says from which page it asks
	{anywhere, true, (*Server).authenticated},       // RFC 6749 §3.2.1: by the registered way and no other
	{atToken | atPush, true, (*Server).proved},      // RFC 9449 §4.3
	{anywhere, false, (*Server).assertedOnce},       // RFC 7523 §3: jti
	{atToken | atPush, false, (*Server).provedOnce}, // RFC 9449 §11.1
}

// clientRequest runs the checks. If one fails it has answered.
func (s *Server) clientRequest(w http.ResponseWriter, r *http.Request, at clientEndpoint) (*tokenRequest, bool) {
	t := &tokenRequest{w: w, r: r, at: at}
	for _, c := range tokenChecks {
		if c.at&at == 0 {
			continue
		}
		if err := c.check(s, t); err != nil {
			s.refuseJSON(w, r, err)
			return nil, false
		}
	}
	return t, true
}

// identifiedAgain runs the checks that look at the client, with the client as
// it is now.
func (s *Server) identifiedAgain(t *tokenRequest) error {
	s.recent.forget(t.client.ID)
	t.again = true
	for _, c := range tokenChecks {
		if c.again && c.at&t.at != 0 {
			if err := c.check(s, t); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Server) postedForm(t *tokenRequest) error {
	if t.r.URL.RawQuery != "" {
		return oauth.Errorf(oauth.InvalidRequest, "Parameters belong in the body.", "parameters in the query")
	}
	form, err := formBody(t.w, t.r)
	if err != nil {
		return oauth.Errorf(oauth.InvalidRequest, "The body is not a readable form.", "%w", err)
	}
	for name, values := range form {
		if len(values) > 1 {
			return oauth.Errorf(oauth.InvalidRequest, "A parameter was sent more than once.", "parameter %.40q was sent %d times", name, len(values))
		}
	}
	t.form = form
	return nil
}

// recentClient is client, as it was at most a second ago.
func (s *Server) recentClient(ctx context.Context, id clients.ID) (clients.Client, error) {
	if c, ok := s.recent.get(id, s.Now()); ok {
		return c, nil
	}
	read := s.Now() // what is read may be as old
	c, err := s.client(ctx, id)
	if err == nil {
		s.recent.put(c, read)
	}
	return c, err
}

// recent remembers clients for a second, so that a request need not read its
// own. The token endpoint checks what it knows against the client's version,
// which comes with the grant, and whether the client still has the redirect
// URI that a code was sent to: so what was changed a moment before a code was
// issued makes the code worthless.
type recent struct{ clients sync.Map } // clients.ID to recentClient

type recentClient struct {
	client clients.Client
	read   time.Time
}

const recentFor = time.Second

func (r *recent) get(id clients.ID, now time.Time) (clients.Client, bool) {
	c, ok := r.clients.Load(id)
	if !ok {
		return clients.Client{}, false
	}
	known := c.(recentClient)
	age := now.Sub(known.read)
	return known.client, age >= 0 && age < recentFor
}

func (r *recent) put(c clients.Client, now time.Time) { r.clients.Store(c.ID, recentClient{c, now}) }
func (r *recent) forget(id clients.ID)                { r.clients.Delete(id) }

// origin refuses a browser on a page that is not the client's. A program
// outside any browser sends what it likes: this protects people, not the
// endpoint.
func (s *Server) origin(t *tokenRequest) error {
	origins := t.r.Header["Origin"]
	if len(origins) == 0 {
		return nil
	}
	if len(origins) > 1 || !t.client.HasOrigin(origins[0]) {
		s.audit.Record(t.r.Context(), audit.Event{What: "origin refused", Client: t.client.ID, Origin: origins[0], Address: s.address(t.r), Request: s.requestID(t.r)})
		return &oauth.Error{Code: oauth.InvalidRequest, Status: http.StatusForbidden,
			Description: "This origin is not registered for the client.", Cause: errors.New("unregistered origin")}
	}
	allowOrigin(t.w, origins[0])
	return nil
}

// token is the token endpoint (RFC 6749 §3.2).
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	t, ok := s.clientRequest(w, r, atToken)
	if !ok {
		return
	}
	tokens, err := s.provider.Token(r.Context(), t.request())
	if errors.Is(err, provider.ErrClientChanged) {
		if err = s.identifiedAgain(t); err == nil {
			tokens, err = s.provider.Token(r.Context(), t.request())
		}
	}
	if errors.Is(err, provider.ErrClientChanged) { // once more, in the middle of this request
		err = &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server can't do this now; try again.", Cause: err}
	}
	if err != nil {
		s.refuseJSON(w, r, err)
		return
	}
	s.writeTokens(w, http.StatusOK, marshal(tokens))
}

func (t *tokenRequest) request() provider.TokenRequest {
	request := provider.TokenRequest{Client: t.client, Form: t.form}
	if t.proof != nil {
		request.JKT = t.proof.JKT
	}
	return request
}

// writeTokens writes an answer that nobody may keep (RFC 6749 §5.1).
func (s *Server) writeTokens(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Cache-Control"] = noStore
	h["Pragma"] = noCache
	h["X-Content-Type-Options"] = noSniff
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	w.Write(body)
}

// revoke is the revocation endpoint (RFC 7009). A refresh token, live or
// past, ends its grant, and so does an access token of it. One that a client
// got for itself ends alone.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	t, ok := s.clientRequest(w, r, atRevoke)
	if !ok {
		return
	}
	token := t.form.Get("token")
	if token == "" {
		s.refuseJSON(w, r, oauth.Errorf(oauth.InvalidRequest, "The token parameter is missing.", "no token"))
		return
	}
	if err := s.revokeToken(r.Context(), t.client, token); err != nil && !errors.Is(err, storage.ErrNotFound) {
		// Never 200 while the token may still work (RFC 7009 §2.2.1).
		s.refuseJSON(w, r, &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server can't do this now; try again.", Cause: err})
		return
	}
	s.writeTokens(w, http.StatusOK, []byte("{}\n"))
}

// revokeToken ends what a token of client c belongs to. Nothing happens to
// what is no token of that client, or has expired.
func (s *Server) revokeToken(ctx context.Context, c clients.Client, token string) error {
	const reason = "revoked by the client"
	t, err := s.accessToken(token)
	switch {
	case err != nil:
		grant, err := s.provider.GrantOfRefreshToken(ctx, c, token)
		if err != nil || grant == "" {
			return err
		}
		return s.revoker.RevokeGrant(ctx, grant, reason)
	case t.ClientID != string(c.ID):
		return nil
	case t.Grant != "":
		return s.revoker.RevokeGrant(ctx, t.Grant, reason)
	}
	// Who revokes it again fills nothing.
	if revoked, err := s.feed.TokenRevoked(ctx, t.ID); err != nil || revoked {
		return err
	}
	own := revocation.Token{ID: t.ID, Client: c.ID, Audience: t.Audience}
	if s.lists != nil {
		own.Status = s.lists.PlaceOf(t.Status)
	}
	return s.revoker.RevokeToken(ctx, own, reason)
}
