// Package provider is the wall around fosite, the OAuth engine: no other
// package imports it, and no type of it is seen outside.
//
// Use [Provider.Authorize] for an authorization request that was checked and
// whose person is logged in; it issues the code. Use [Provider.Token] for a
// token request of a client that was identified; it redeems a code or rotates
// a refresh token, or gives a client a token of its own. Both take what was
// decided, never what was asked: every check that a person could see the result
// of happens before, and so do the client's authentication and the DPoP proof.
//
// # What fosite does and what it does not
//
// fosite parses the request, runs the grant handlers in order, compares the
// PKCE verifier, the client and the redirect URI. Its storage calls end in a
// unit of work ([work]): whatever a token request reads is read once, and
// whatever it changes is one atomic commit after the tokens are signed. Codes,
// refresh tokens, access tokens and ID tokens are made by strategies of ours.
//
// # A new grant
//
// A grant type is one file named grant_*.go with a fosite.TokenEndpointHandler
// and one line in grants.
package provider

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/handler/pkce"

	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/authz/statuslist"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
)

// Config is what a [Provider] is made of. Every field but Lists and Rand is
// required.
type Config struct {
	Issuer  string
	Grants  storage.Grants
	Ring    *keys.Ring
	Revoker *revocation.Revoker

	// Lists give each grant, and each token that a client gets for itself, a
	// place in a Token Status List; nil gives none.
	Lists *statuslist.Lists

	// AccessTokenAlg signs access tokens.
	AccessTokenAlg keys.Algorithm

	// Lives of what is issued. A client's own may only shorten them.
	AccessToken  time.Duration
	IDToken      time.Duration
	Code         time.Duration
	RefreshIdle  time.Duration
	RefreshLife  time.Duration
	RefreshGrace time.Duration

	Now func() time.Time
	// Rand makes identifiers and salts; nil means crypto/rand.
	Rand io.Reader
}

// Provider issues codes and tokens. It is safe for concurrent use.
type Provider struct {
	Config
	engine   *fosite.Fosite
	tokenKey [32]byte // makes codes and refresh tokens
}

// New returns a Provider.
func New(c Config) (*Provider, error) {
	if c.Issuer == "" || c.Grants == nil || c.Ring == nil || c.Revoker == nil || c.Now == nil {
		return nil, errors.New("provider: Issuer, Grants, Ring, Revoker and Now are required")
	}
	for _, life := range []time.Duration{c.AccessToken, c.IDToken, c.Code, c.RefreshIdle, c.RefreshLife} {
		if life <= 0 {
			return nil, errors.New("provider: every lifetime must be positive")
		}
	}
	if c.Code > time.Minute {
		return nil, errors.New("provider: a code lives 60 seconds at most")
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	p := &Provider{Config: c, tokenKey: c.Ring.Secret("authorization codes and refresh tokens")}

	// Every function-valued field is set: fosite's getters write the nil ones
	// when first read, which is a data race under load.
	settings := &fosite.Config{
		AccessTokenLifespan:            c.AccessToken,
		RefreshTokenLifespan:           c.RefreshLife,
		AuthorizeCodeLifespan:          c.Code,
		IDTokenLifespan:                c.IDToken,
		ScopeStrategy:                  fosite.ExactScopeStrategy,
		AudienceMatchingStrategy:       fosite.ExactAudienceMatchingStrategy,
		EnforcePKCE:                    false, // a client decides: see clients.Client.MayOmitPKCE
		EnforcePKCEForPublicClients:    true,
		EnablePKCEPlainChallengeMethod: false,
		RedirectSecureChecker:          fosite.IsRedirectURISecureStrict,
		RefreshTokenScopes:             []string{oauth.OfflineAccess},
		MinParameterEntropy:            fosite.MinParameterEntropy,
		OmitRedirectScopeParam:         true,
		DisableRefreshTokenValidation:  true,
		ClientAuthenticationStrategy:   identified,
		ResponseModeHandlerExtension:   &fosite.DefaultResponseModeHandler{},
		JWKSFetcherStrategy:            noFetch{},
		ClientSecretsHasher:            noSecrets{},
	}
	a, s := adapter{p}, strategy{p}
	code := &oauth2.AuthorizeExplicitGrantHandler{
		AccessTokenStrategy: s, RefreshTokenStrategy: s, AuthorizeCodeStrategy: s,
		CoreStorage: a, TokenRevocationStorage: a, Config: settings,
	}
	challenge := &pkce.Handler{AuthorizeCodeStrategy: s, Storage: a, Config: settings}
	settings.AuthorizeEndpointHandlers = fosite.AuthorizeEndpointHandlers{code, challenge}
	settings.TokenEndpointHandlers = fosite.TokenEndpointHandlers{
		// The verifier first: who can't show it learns nothing about the
		// code and revokes nothing by showing it twice.
		challenge,
		code,
		&oauth2.RefreshTokenGrantHandler{
			AccessTokenStrategy: s, RefreshTokenStrategy: s,
			TokenRevocationStorage: a, Config: settings,
		},
		&oauth2.ClientCredentialsGrantHandler{
			HandleHelper: &oauth2.HandleHelper{AccessTokenStrategy: s, AccessTokenStorage: a, Config: settings},
			Config:       settings,
		},
		narrow{p},  // before anything is signed: scope and resource
		idToken{p}, // after the access token, whose hash it carries
	}
	p.engine = &fosite.Fosite{Store: a, Config: settings}
	return p, nil
}

// grants are the grant types that Token serves; the metadata follows.
var grants = map[string]bool{
	oauth.AuthorizationCode: true,
	oauth.RefreshToken:      true,
	oauth.ClientCredentials: true,
}

// Authorization is an authorization request of which everything was checked
// and decided.
type Authorization struct {
	Client        clients.Client
	Session       storage.Session
	RedirectURI   clients.RedirectURI
	State         string
	Scope         []string
	Resource      []string // the first is the default audience
	Nonce         string
	CodeChallenge string // S256; empty only for a client that may do without
	JKT           string // thumbprint of the DPoP key that the code is bound to, or empty
}

// Authorize issues an authorization code for a (RFC 6749 §4.1.2) and returns
// it with the grant that it belongs to. An error is an [*oauth.Error].
func (p *Provider) Authorize(ctx context.Context, a Authorization) (code string, g storage.GrantID, err error) {
	w := &work{provider: p, now: p.Now(), client: a.Client, authorization: &a}
	ctx = context.WithValue(ctx, workKey{}, w)
	form := url.Values{
		"response_type":         {"code"},
		"client_id":             {string(a.Client.ID)},
		"redirect_uri":          {string(a.RedirectURI)},
		"scope":                 {oauth.JoinScope(a.Scope)},
		"state":                 {a.State},
		"code_challenge":        {a.CodeChallenge},
		"code_challenge_method": {"S256"},
	}
	if a.CodeChallenge == "" {
		form.Del("code_challenge_method")
	}
	ar, err := p.engine.NewAuthorizeRequest(ctx, formRequest(form))
	// The length of state is the client's business when PKCE is there; it is
	// fosite's last check, so the request is complete (RFC 9700 §2.1.1).
	if err != nil && !errors.Is(err, fosite.ErrInvalidState) {
		return "", "", translate(err)
	}
	for _, s := range a.Scope {
		ar.GrantScope(s)
	}
	for _, r := range a.Resource {
		ar.GrantAudience(r)
	}
	resp, err := p.engine.NewAuthorizeResponse(ctx, ar, session{})
	if err != nil {
		return "", "", translate(err)
	}
	if err := p.Grants.CreateGrant(ctx, w.grant); err != nil {
		return "", "", unavailable(err)
	}
	return resp.GetCode(), w.grant.ID, nil
}

// Tokens is the answer to a token request (RFC 6749 §5.1).
type Tokens struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"` // seconds
	RefreshToken string `json:"refresh_token,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
	Scope        string `json:"scope,omitempty"`
}

// ErrClientChanged says that the client is not what the caller knows any more:
// it was changed, disabled or removed. Nothing was consumed. Read it again,
// check the request again, and call again.
var ErrClientChanged = errors.New("the client was changed since it was read")

// TokenRequest is a token request whose client was identified, and has
// authenticated if it is confidential.
type TokenRequest struct {
	Client clients.Client // may have been read a while ago
	Form   url.Values     // each parameter once at most
	// JKT is the thumbprint of the key that the request's DPoP proof proves
	// possession of, or empty.
	JKT string
}

// Token answers a token request. An error is an [*oauth.Error] or
// ErrClientChanged.
func (p *Provider) Token(ctx context.Context, r TokenRequest) (Tokens, error) {
	switch grant := r.Form.Get("grant_type"); {
	case grant == "":
		return Tokens{}, oauth.Errorf(oauth.InvalidRequest, "The grant_type parameter is missing.", "no grant_type")
	case !grants[grant]:
		return Tokens{}, oauth.Errorf(oauth.UnsupportedGrantType, "The grant type is not supported.", "unsupported grant_type")
	case !r.Client.HasGrantType(grant):
		return Tokens{}, oauth.Errorf(oauth.UnauthorizedClient, "The client may not use this grant type.", "client %s is not registered for %s", r.Client.ID, grant)
	case grant == oauth.AuthorizationCode && r.Form.Get("code") == "":
		return Tokens{}, oauth.Errorf(oauth.InvalidRequest, "The code parameter is missing.", "no code")
	case grant == oauth.RefreshToken && r.Form.Get("refresh_token") == "":
		return Tokens{}, oauth.Errorf(oauth.InvalidRequest, "The refresh_token parameter is missing.", "no refresh_token")
	}
	form := r.Form
	w := &work{provider: p, now: p.Now(), client: r.Client, form: form, jkt: r.JKT}
	ctx = context.WithValue(ctx, workKey{}, w)
	req, err := p.engine.NewAccessRequest(ctx, formRequest(form), session{})
	if err != nil {
		return Tokens{}, translate(err)
	}
	resp, err := p.engine.NewAccessResponse(ctx, req)
	if err != nil {
		return Tokens{}, translate(err)
	}
	// Everything is signed; now it counts, in one step, or not at all.
	if err := w.commit(ctx); err != nil {
		return Tokens{}, err
	}
	t := Tokens{
		AccessToken: resp.GetAccessToken(),
		TokenType:   w.tokenType(),
		ExpiresIn:   int64(w.accessExpires.Sub(w.now) / time.Second),
		IDToken:     w.idToken,
		Scope:       oauth.JoinScope(w.scope),
	}
	t.RefreshToken, _ = resp.GetExtra("refresh_token").(string)
	return t, nil
}

// formRequest is a request that has been parsed already: fosite reads its
// parameters and nothing else. What fosite must never see, such as request
// and request_uri, is not in it.
func formRequest(form url.Values) *http.Request {
	return &http.Request{Method: http.MethodPost, Form: form, PostForm: form}
}

// GrantTypes are the grant types that Token serves, sorted.
func GrantTypes() []string { return slices.Sorted(maps.Keys(grants)) }
