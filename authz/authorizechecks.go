package authz

import (
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/solegate/solegate/authz/login"
	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/dpop"
)

// Bounds of what is echoed, sealed into URLs or stored.
const (
	maxState     = 1024
	maxNonce     = 512
	maxScope     = 1024
	maxParameter = 4096
)

func (s *Server) parametersOnce(a *authorization) error {
	all := a.query
	if len(all) == 0 {
		all = a.body
	}
	for name, values := range all {
		if len(values) > 1 {
			return errLocal{error: oauth.Errorf(oauth.InvalidRequest, "A parameter was sent more than once.", "parameter %.40q was sent %d times", name, len(values))}
		}
		// What is not UTF-8 (RFC 6749 appendix B) would come back as something
		// else from where it is sealed.
		if len(values[0]) > maxParameter || strings.ContainsRune(values[0], 0) || !utf8.ValidString(values[0]) {
			return errLocal{error: oauth.Errorf(oauth.InvalidRequest, "A parameter is too long, holds a NUL or is not UTF-8.", "parameter %.40q has %d bytes, a NUL or is not UTF-8", name, len(values[0]))}
		}
	}
	a.form = url.Values{}
	for name, values := range all {
		if values[0] != "" { // OAuth 2.1 §3.1: sent empty is as if absent
			a.form[name] = values
		}
	}
	return nil
}

func (s *Server) knownClient(a *authorization) error {
	c, err := s.recentClient(a.ctx, clients.ID(a.form.Get("client_id")))
	if err != nil {
		return errLocal{error: err, redirectURI: a.form.Get("redirect_uri")}
	}
	a.client = c
	return nil
}

func (s *Server) redirectURI(a *authorization) error {
	asked := a.form.Get("redirect_uri")
	if !a.client.HasRedirectURI(asked) {
		return errLocal{
			error:       oauth.Errorf(oauth.InvalidRequest, "The redirect_uri is not registered for this client.", "redirect_uri is none of client %s's", a.client.ID),
			redirectURI: asked,
		}
	}
	a.redirectURI = clients.RedirectURI(asked)
	return nil
}

func (s *Server) stateLength(a *authorization) error {
	state := a.form.Get("state")
	if len(state) > maxState {
		return oauth.Errorf(oauth.InvalidRequest, "The state is too long.", "state has %d bytes, at most %d", len(state), maxState)
	}
	a.state = state
	return nil
}

func (s *Server) noRequestObject(a *authorization) error {
	switch {
	case a.form.Has("request"):
		return oauth.Errorf(oauth.RequestNotSupported, "Request objects are not supported.", "request was sent")
	case a.form.Has("request_uri"):
		return oauth.Errorf(oauth.RequestURINotSupported, "The request_uri parameter is not supported.", "request_uri was sent")
	case a.form.Has("registration"):
		return oauth.Errorf(oauth.RegistrationNotSupported, "The registration parameter is not supported.", "registration was sent")
	}
	return nil
}

func (s *Server) responseType(a *authorization) error {
	if !a.client.HasGrantType(oauth.AuthorizationCode) {
		return oauth.Errorf(oauth.UnauthorizedClient, "The client may not use this grant type.", "client %s is not registered for %s", a.client.ID, oauth.AuthorizationCode)
	}
	switch a.form.Get("response_type") {
	case "code":
		return nil
	case "":
		return oauth.Errorf(oauth.InvalidRequest, "The response_type is missing.", "no response_type")
	}
	return oauth.Errorf(oauth.UnsupportedResponseType, "The only response_type is code.", "another response_type")
}

func (s *Server) responseMode(a *authorization) error {
	if mode := a.form.Get("response_mode"); mode != "" && mode != "query" {
		return oauth.Errorf(oauth.InvalidRequest, "The only response_mode is query.", "another response_mode")
	}
	return nil
}

func (s *Server) pkce(a *authorization) error {
	challenge := a.form.Get("code_challenge")
	switch method := a.form.Get("code_challenge_method"); {
	case challenge == "" && method == "" && a.nonce != "" && oauth.Has(a.scope, oauth.OpenID) && a.client.MayOmitPKCE():
	case challenge == "":
		return oauth.Errorf(oauth.InvalidRequest, "PKCE is required: the code_challenge is missing.", "no code_challenge")
	case method != "S256":
		return oauth.Errorf(oauth.InvalidRequest, "The only code_challenge_method is S256.", "another code_challenge_method")
	case !isChallenge(challenge):
		return oauth.Errorf(oauth.InvalidRequest, "The code_challenge is not a base64url SHA-256.", "code_challenge of %d bytes", len(challenge))
	}
	a.codeChallenge = challenge
	return nil
}

// isChallenge reports whether c is 32 bytes in base64url without padding.
func isChallenge(c string) bool {
	if len(c) != 43 {
		return false
	}
	for i := range len(c) {
		ch := c[i]
		if (ch < 'A' || ch > 'Z') && (ch < 'a' || ch > 'z') && (ch < '0' || ch > '9') && ch != '-' && ch != '_' {
			return false
		}
	}
	return true
}

func (s *Server) scope(a *authorization) error {
	if len(a.form.Get("scope")) > maxScope {
		return oauth.Errorf(oauth.InvalidScope, "The scope is too long.", "scope has %d bytes", len(a.form.Get("scope")))
	}
	asked := oauth.SplitScope(a.form.Get("scope"))
	for _, scope := range asked {
		if !oauth.Has(a.client.Scopes, scope) {
			return oauth.Errorf(oauth.InvalidScope, "The scope is unknown or not allowed for this client.", "a scope that client %s is not registered for", a.client.ID)
		}
	}
	a.scope = asked
	return nil
}

func (s *Server) dpopKey(a *authorization) error {
	jkt := a.form.Get("dpop_jkt")
	if jkt != "" && !dpop.ValidThumbprint(jkt) {
		return oauth.Errorf(oauth.InvalidRequest, "The dpop_jkt is not a base64url SHA-256.", "dpop_jkt of %d bytes", len(jkt))
	}
	a.jkt = jkt
	return nil
}

func (s *Server) resource(a *authorization) error {
	asked := a.form.Get("resource")
	if asked == "" {
		if len(a.client.Audiences) == 0 {
			return oauth.Errorf(oauth.InvalidTarget, "The client has no resource.", "client %s has no audience", a.client.ID)
		}
		a.resource = a.client.Audiences[:1]
		return nil
	}
	if !a.client.HasAudience(asked) {
		return oauth.Errorf(oauth.InvalidTarget, "The resource is unknown or not allowed for this client.", "a resource that client %s is not registered for", a.client.ID)
	}
	a.resource = []string{asked}
	return nil
}

func (s *Server) nonce(a *authorization) error {
	nonce := a.form.Get("nonce")
	if len(nonce) > maxNonce {
		return oauth.Errorf(oauth.InvalidRequest, "The nonce is too long.", "nonce has %d bytes, at most %d", len(nonce), maxNonce)
	}
	a.nonce = nonce
	return nil
}

func (s *Server) prompt(a *authorization) error {
	asked := oauth.SplitScope(a.form.Get("prompt"))
	for _, p := range asked {
		switch p {
		case "none":
			if len(asked) > 1 {
				return oauth.Errorf(oauth.InvalidRequest, "prompt=none stands alone.", "none with others")
			}
		case "login", "consent", "select_account":
		default:
			return oauth.Errorf(oauth.InvalidRequest, "The prompt is not supported.", "unknown prompt")
		}
	}
	a.prompt = asked
	return nil
}

func (s *Server) maxAge(a *authorization) error {
	text := a.form.Get("max_age")
	if text == "" {
		return nil
	}
	seconds, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return oauth.Errorf(oauth.InvalidRequest, "The max_age is not a number of seconds.", "max_age is no number")
	}
	a.maxAge = time.Duration(seconds) * time.Second
	return nil
}

// acrValues refuses what no login here could bring: an API that asked for it
// (RFC 9470 §4) would ask for ever. It is enough that one of them is known.
func (s *Server) acrValues(a *authorization) error {
	asked := oauth.SplitScope(a.form.Get("acr_values"))
	if len(asked) > 0 && !oauth.Has(asked, login.ACRPassword) {
		return oauth.Errorf(oauth.UnmetAuthentication, "This way to authenticate is not offered.", "acr_values without %s", login.ACRPassword)
	}
	return nil
}

func (s *Server) idTokenHint(a *authorization) error {
	hint := a.form.Get("id_token_hint")
	if hint == "" {
		return nil
	}
	t, err := s.parseIDTokenHint(hint)
	if err != nil {
		return oauth.Errorf(oauth.InvalidRequest, "The id_token_hint is not an ID token of this server.", "id_token_hint: %w", err)
	}
	if t.Audience != string(a.client.ID) {
		return oauth.Errorf(oauth.InvalidRequest, "The id_token_hint was issued to another client.", "id_token_hint for %q", t.Audience)
	}
	a.idTokenHint = t.Subject
	return nil
}
