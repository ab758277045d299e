package provider

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v3"
	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/handler/pkce"

	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/clients"
)

// What fosite asserts at run time, proved at compile time. There is no
// storage.Transactional: fosite's calls only note what is to happen, and
// work.commit does it in one step.
var (
	_ fosite.Storage                = adapter{}
	_ oauth2.CoreStorage            = adapter{}
	_ oauth2.TokenRevocationStorage = adapter{}
	_ pkce.PKCERequestStorage       = adapter{}
	_ fosite.Client                 = client{}
	_ fosite.ResponseModeClient     = client{}
	_ fosite.Session                = session{}
)

// adapter is the storage that fosite sees. It keeps nothing: reads come from
// the request's work, writes go into it.
type adapter struct{ p *Provider }

func (adapter) GetClient(ctx context.Context, id string) (fosite.Client, error) {
	if w := workOf(ctx); string(w.client.ID) == id {
		return client{w.client}, nil
	}
	return nil, fosite.ErrNotFound
}

var errUnused = errors.New("this part of fosite is not in use")

func (adapter) ClientAssertionJWTValid(context.Context, string) error { return errUnused }
func (adapter) SetClientAssertionJWT(context.Context, string, time.Time) error {
	return errUnused
}

// CreateAuthorizeCodeSession notes the grant that Authorize then stores.
func (a adapter) CreateAuthorizeCodeSession(ctx context.Context, signature string, _ fosite.Requester) error {
	w := workOf(ctx)
	if string(w.grant.ID) != signature {
		return errors.New("fosite stores another code than it generated")
	}
	in := w.authorization
	g := &w.grant
	g.Client, g.User, g.Session = in.Client.ID, in.Session.User, in.Session.ID
	g.AuthTime, g.ACR, g.AMR = in.Session.AuthTime, in.Session.ACR, in.Session.AMR
	g.Scope, g.Resource, g.Nonce = in.Scope, in.Resource, in.Nonce
	g.RedirectURI, g.CodeChallenge, g.JKT = in.RedirectURI, in.CodeChallenge, in.JKT
	g.CreatedAt, g.Epoch = w.now, in.Client.Epoch
	g.CodeExpires = w.now.Add(a.p.Code)
	g.Expires = g.CodeExpires // until the code is redeemed
	if a.p.Lists == nil {
		return nil
	}
	var err error
	g.Status, err = a.p.Lists.Place(g.Client, g.Epoch)
	return err
}

// GetAuthorizeCodeSession is asked twice in a code exchange; the second time
// the work answers, and the session that fosite passes in is left alone.
func (adapter) GetAuthorizeCodeSession(ctx context.Context, _ string, _ fosite.Session) (fosite.Requester, error) {
	w := workOf(ctx)
	st, err := w.redeemable(ctx)
	if err != nil {
		return nil, err
	}
	return w.requester(st.Grant), nil
}

func (adapter) InvalidateAuthorizeCodeSession(ctx context.Context, _ string) error {
	workOf(ctx).redeem = true
	return nil
}

// The PKCE challenge is part of the grant: it can't be lost before the code,
// so no order of attempts strips it.

func (adapter) CreatePKCERequestSession(context.Context, string, fosite.Requester) error { return nil }
func (adapter) DeletePKCERequestSession(context.Context, string) error                   { return nil }

func (adapter) GetPKCERequestSession(ctx context.Context, _ string, _ fosite.Session) (fosite.Requester, error) {
	w := workOf(ctx)
	st, err := w.code(ctx)
	if err != nil {
		return nil, err
	}
	return w.requester(st.Grant), nil
}

func (adapter) GetRefreshTokenSession(ctx context.Context, _ string, _ fosite.Session) (fosite.Requester, error) {
	w := workOf(ctx)
	st, err := w.refreshable(ctx)
	if err != nil {
		return nil, err
	}
	return w.requester(st.Grant), nil
}

func (adapter) RotateRefreshToken(ctx context.Context, _, _ string) error {
	workOf(ctx).rotate = true
	return nil
}

// Tokens are not stored: access tokens are verified by their signature,
// refresh tokens by the grant's salt and generation.

func (adapter) CreateAccessTokenSession(context.Context, string, fosite.Requester) error { return nil }
func (adapter) CreateRefreshTokenSession(context.Context, string, string, fosite.Requester) error {
	return nil
}

// The rest is called for reuse and revocation, which work and package
// revocation do.

func (adapter) GetAccessTokenSession(context.Context, string, fosite.Session) (fosite.Requester, error) {
	return nil, errUnused
}
func (adapter) DeleteAccessTokenSession(context.Context, string) error  { return errUnused }
func (adapter) DeleteRefreshTokenSession(context.Context, string) error { return errUnused }
func (adapter) RevokeRefreshToken(context.Context, string) error        { return errUnused }
func (adapter) RevokeAccessToken(context.Context, string) error         { return errUnused }

// identified is fosite's client authentication: the endpoint has identified
// the client already.
func identified(ctx context.Context, _ *http.Request, _ url.Values) (fosite.Client, error) {
	return client{workOf(ctx).client}, nil
}

// client is a clients.Client as fosite wants to see it.
type client struct{ clients.Client }

func (c client) GetID() string                      { return string(c.ID) }
func (c client) GetHashedSecret() []byte            { return nil }
func (c client) GetResponseTypes() fosite.Arguments { return responseTypes }
func (c client) GetScopes() fosite.Arguments        { return c.Scopes }
func (c client) IsPublic() bool                     { return !c.Confidential() }
func (c client) GetAudience() fosite.Arguments      { return c.Audiences }

// GetGrantTypes tells fosite whether to issue a refresh token. Whether the grant
// of the request is the client's, Token has decided.
func (c client) GetGrantTypes() fosite.Arguments {
	if c.HasGrantType(oauth.RefreshToken) {
		return grantTypes
	}
	return withoutRefresh
}
func (c client) GetRedirectURIs() []string {
	uris := make([]string, len(c.RedirectURIs))
	for i, u := range c.RedirectURIs {
		uris[i] = string(u)
	}
	return uris
}
func (c client) GetResponseModes() []fosite.ResponseModeType {
	return []fosite.ResponseModeType{fosite.ResponseModeQuery}
}

var (
	grantTypes     = fosite.Arguments(GrantTypes())
	withoutRefresh = fosite.Arguments{oauth.AuthorizationCode, oauth.ClientCredentials}
	responseTypes  = fosite.Arguments{"code"}
)

// session is fosite's session, which holds nothing: the grant does. Expiries
// that fosite sets are ignored; the strategies and work decide them.
type session struct{}

func (session) SetExpiresAt(fosite.TokenType, time.Time)       {}
func (session) GetExpiresAt(fosite.TokenType) (zero time.Time) { return }
func (session) GetUsername() string                            { return "" }
func (session) GetSubject() string                             { return "" }
func (s session) Clone() fosite.Session                        { return s }

// noFetch refuses to fetch a client's keys: no URL of a client is ever read.
type noFetch struct{}

func (noFetch) Resolve(context.Context, string, bool) (*jose.JSONWebKeySet, error) {
	return nil, errUnused
}

// noSecrets refuses client secrets: the endpoint has authenticated the client.
type noSecrets struct{}

func (noSecrets) Compare(context.Context, []byte, []byte) error { return errUnused }
func (noSecrets) Hash(context.Context, []byte) ([]byte, error)  { return nil, errUnused }

// translate turns what fosite returns into what the network may be told: our
// own error if there is one inside, else fixed text for fosite's code.
func translate(err error) error {
	if e, ok := errors.AsType[*oauth.Error](err); ok {
		return e
	}
	if errors.Is(err, ErrClientChanged) {
		return ErrClientChanged
	}
	if _, ok := errors.AsType[*fosite.RFC6749Error](err); !ok {
		return &oauth.Error{Code: oauth.ServerError, Description: "The server met an unexpected condition.", Cause: err}
	}
	rfc := fosite.ErrorToRFC6749Error(err)
	known, ok := refusals[rfc.ErrorField]
	if !ok {
		known = refusal{oauth.ServerError, "The server met an unexpected condition."}
	}
	return &oauth.Error{Code: known.code, Description: known.description,
		Cause: errors.New(rfc.ErrorField + ": " + rfc.HintField + " " + rfc.DebugField)}
}

type refusal struct {
	code        oauth.Code
	description string
}

// refusals are fosite's error codes that a request can earn here. Its other
// codes, some of them unregistered, become server_error.
var refusals = map[string]refusal{
	"invalid_request":           {oauth.InvalidRequest, "The request is malformed."},
	"invalid_client":            {oauth.InvalidClient, "The client is unknown or disabled."},
	"invalid_grant":             {oauth.InvalidGrant, "The grant is invalid: the code, its verifier, its redirect_uri or the refresh token does not fit."},
	"invalid_scope":             {oauth.InvalidScope, "The scope is unknown or not allowed for this client."},
	"scope_not_granted":         {oauth.InvalidGrant, badRefresh},
	"unauthorized_client":       {oauth.UnauthorizedClient, "The client may not use this grant type."},
	"unsupported_response_type": {oauth.UnsupportedResponseType, "The response type is not supported."},
}
