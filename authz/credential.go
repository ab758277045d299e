package authz

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/clients"
)

// credential is what a client presents to say who it is.
type credential struct {
	method    clients.AuthMethod
	client    clients.ID // that it names; empty if it names none
	secret    string     // of client_secret_basic
	assertion string     // of private_key_jwt
}

// assertionType is the client_assertion_type of private_key_jwt (RFC 7523 §2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// presented reads the one credential of a request. It believes nothing of it.
func (s *Server) presented(t *tokenRequest) error {
	basic, asserted := len(t.r.Header["Authorization"]) > 0, t.form.Has("client_assertion") || t.form.Has("client_assertion_type")
	switch {
	case basic && (asserted || t.form.Has("client_secret")):
		return oauth.Errorf(oauth.InvalidRequest, "There is more than one credential.", "an Authorization header and a credential in the body")
	case t.form.Has("client_secret"):
		// In a body it ends up in logs. A public client's proves nothing:
		// everybody who has the app has it (RFC 10017).
		return oauth.Errorf(oauth.InvalidClient, "A client_secret in the body is not accepted.", "a client_secret in the body")
	case basic:
		id, secret, err := basicCredential(t.r)
		if err != nil {
			return &oauth.Error{Code: oauth.InvalidClient, Status: http.StatusUnauthorized, Description: "The Authorization header holds no client credential.", Cause: err}
		}
		t.credential = credential{method: clients.SecretBasic, client: id, secret: secret}
	case asserted:
		if t.form.Get("client_assertion_type") != assertionType {
			return oauth.Errorf(oauth.InvalidClient, "The client_assertion_type is not supported.", "client_assertion_type is not %s", assertionType)
		}
		text := t.form.Get("client_assertion")
		id, err := assertedClient(text)
		if err != nil {
			return oauth.Errorf(oauth.InvalidClient, badAssertion, "client_assertion: %w", err)
		}
		t.credential = credential{method: clients.PrivateKeyJWT, client: id, assertion: text}
	default:
		t.credential = credential{method: clients.None}
	}
	return nil
}

// basicCredential reads the client's identifier and secret from HTTP Basic,
// both form-encoded (RFC 6749 §2.3.1). The error holds nothing of them.
func basicCredential(r *http.Request) (clients.ID, string, error) {
	user, secret, ok := r.BasicAuth()
	if !ok || len(r.Header["Authorization"]) != 1 {
		return "", "", errors.New("no HTTP Basic credential")
	}
	id, err := url.QueryUnescape(user)
	if err != nil || id == "" {
		return "", "", errors.New("malformed HTTP Basic user name, or none")
	}
	if secret, err = url.QueryUnescape(secret); err != nil {
		return "", "", errors.New("malformed HTTP Basic password")
	}
	return clients.ID(id), secret, nil
}

// identified finds the client that client_id or the credential names.
func (s *Server) identified(t *tokenRequest) error {
	id := clients.ID(t.form.Get("client_id"))
	switch named := t.credential.client; {
	case id == "":
		id = named
	case named != "" && named != id:
		refusal := oauth.Errorf(oauth.InvalidClient, badCredential, "client_id is another one than the credential's")
		if t.credential.method == clients.SecretBasic {
			refusal.Status = http.StatusUnauthorized // RFC 6749 §5.2
		}
		return refusal
	}
	read := s.recentClient
	switch g := t.form.Get("grant_type"); {
	case t.again:
		read = s.client
	case t.credential.method != clients.None && (t.at != atToken || g != oauth.AuthorizationCode && g != oauth.RefreshToken):
		read = s.client // no grant will tell that the client has changed, perhaps its credential
	}
	c, err := read(t.r.Context(), id)
	if err != nil {
		if e := oauth.As(err); e.Code == oauth.InvalidClient && len(t.r.Header["Authorization"]) > 0 {
			e.Status = http.StatusUnauthorized // RFC 6749 §5.2
		}
		return err
	}
	t.client = c
	return nil
}

const badCredential = "The client's credential is missing or wrong."

// authenticated checks the credential: it has to be of the registered kind. A
// public client that sends one is mistaken about what protects it.
func (s *Server) authenticated(t *tokenRequest) error {
	c := t.client
	registered := c.Method()
	var cause error
	switch {
	case t.credential.method != registered && registered == clients.None:
		refusal := oauth.Errorf(oauth.InvalidClient, "The client is public and has no credential.", "a credential was sent")
		if t.credential.method == clients.SecretBasic {
			refusal.Status = http.StatusUnauthorized // RFC 6749 §5.2
		}
		return refusal
	case t.credential.method != registered:
		cause = errors.New("it authenticates by " + string(t.credential.method) + ", not by " + string(registered))
	case registered == clients.SecretBasic && !c.CheckSecret(t.credential.secret):
		cause = errors.New("the secret is wrong")
	case registered == clients.PrivateKeyJWT:
		t.assertion, cause = s.checkAssertion(t.credential.assertion, string(c.ID), c.Keys)
	}
	if cause == nil {
		return nil
	}
	s.audit.Record(t.r.Context(), audit.Event{What: "client refused", Client: c.ID, Reason: cause.Error(), Address: s.address(t.r), Request: s.requestID(t.r)})
	return &oauth.Error{Code: oauth.InvalidClient, Status: basicStatus(registered, t.credential), Description: badCredential, Cause: cause}
}

// basicStatus is 401, which comes with a challenge for HTTP Basic, where that
// was tried or would be right, and else 400 (RFC 6749 §5.2): libraries take a
// challenge for one of the resource's and don't look at the error.
func basicStatus(registered clients.AuthMethod, presented credential) int {
	if registered == clients.SecretBasic || presented.method == clients.SecretBasic {
		return http.StatusUnauthorized
	}
	return http.StatusBadRequest
}

// assertedOnce refuses an assertion that was used before, here or at another
// server (RFC 7523 §3).
func (s *Server) assertedOnce(t *tokenRequest) error {
	if t.assertion == nil {
		return nil
	}
	return s.once(t.r.Context(), t.assertion.replay, t.assertion.expires,
		&oauth.Error{Code: oauth.InvalidClient, Description: badAssertion, Cause: errors.New("the assertion was used before")})
}
