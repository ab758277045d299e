package provider

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/ory/fosite"

	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/storage"
)

// AccessTokenType is the typ of an access token's header (RFC 9068 §2.1).
const AccessTokenType = "at+jwt"

// AccessToken are the claims of an access token (RFC 9068 §2.2). They are made
// anew at each issue: nothing is carried over from the token before.
type AccessToken struct {
	Issuer    string            `json:"iss"`
	Subject   storage.UserID    `json:"sub"`
	Audience  string            `json:"aud"`
	ClientID  string            `json:"client_id"`
	ExpiresAt int64             `json:"exp"`
	IssuedAt  int64             `json:"iat"`
	ID        string            `json:"jti"`
	Scope     string            `json:"scope,omitempty"`
	AuthTime  int64             `json:"auth_time,omitempty"`
	ACR       string            `json:"acr,omitempty"`
	AMR       []string          `json:"amr,omitempty"`
	Session   storage.SessionID `json:"sid,omitempty"`
	Grant     storage.GrantID   `json:"grant_id"`
}

// GenerateAccessToken signs the access token of the request's work.
func (s strategy) GenerateAccessToken(ctx context.Context, _ fosite.Requester) (string, string, error) {
	w := workOf(ctx)
	p, g := s.p, w.standing.Grant
	var jti [16]byte
	if _, err := io.ReadFull(p.Rand, jti[:]); err != nil {
		return "", "", err
	}
	w.accessExpires = w.now.Add(shorter(p.AccessToken, w.client.AccessTokenLife))
	// No token outlives what it came from: the family, or the session.
	if w.form.Get("grant_type") == oauth.RefreshToken {
		w.accessExpires = earlier(w.accessExpires, g.Expires)
	} else {
		w.accessExpires = earlier(w.accessExpires, w.standing.Session.Expires)
	}
	claims, err := json.Marshal(AccessToken{
		Issuer:    p.Issuer,
		Subject:   g.User,
		Audience:  w.audience,
		ClientID:  string(g.Client),
		ExpiresAt: w.accessExpires.Unix(),
		IssuedAt:  w.now.Unix(),
		ID:        b64.EncodeToString(jti[:]),
		Scope:     oauth.JoinScope(w.scope),
		AuthTime:  unix(g.AuthTime),
		ACR:       g.ACR,
		AMR:       g.AMR,
		Session:   g.Session,
		Grant:     g.ID,
	})
	if err != nil {
		return "", "", err
	}
	token, err := p.Ring.Sign(p.AccessTokenAlg, AccessTokenType, claims)
	return token, "", err
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// narrow is the fosite handler that decides what this one access token is
// for: one audience of the grant's, and the grant's scope or less. What the
// grant holds stays as it is, so the next refresh may choose again.
type narrow struct{ p *Provider }

func (narrow) CanSkipClientAuth(context.Context, fosite.AccessRequester) bool { return false }
func (narrow) CanHandleTokenEndpointRequest(context.Context, fosite.AccessRequester) bool {
	return true
}

func (narrow) HandleTokenEndpointRequest(ctx context.Context, _ fosite.AccessRequester) error {
	w := workOf(ctx)
	if w.standing == nil {
		return fosite.ErrUnknownRequest // no grant handler was responsible
	}
	g := w.standing.Grant

	// RFC 8707 §2.2: a resource of the grant, or its default.
	w.audience = g.Resource[0]
	if resource := w.form.Get("resource"); resource != "" {
		if !oauth.Has(g.Resource, resource) {
			return oauth.Errorf(oauth.InvalidTarget, "The resource was not granted.", "resource is not one of %q", g.Resource)
		}
		w.audience = resource
	}
	if !w.clientHasAudience(w.audience) {
		return oauth.Errorf(oauth.InvalidTarget, "The resource is not available to this client.", "audience %q was taken from client %s", w.audience, g.Client)
	}

	// RFC 6749 §6: the grant's scope or less. A code exchange has no scope
	// parameter; one that is sent is ignored, as §3.2 asks.
	w.scope = g.Scope
	if asked := oauth.SplitScope(w.form.Get("scope")); len(asked) > 0 && w.form.Get("grant_type") == oauth.RefreshToken {
		for _, s := range asked {
			if !oauth.Has(g.Scope, s) {
				return oauth.Errorf(oauth.InvalidScope, "The scope exceeds what was granted.", "a scope beyond %q", g.Scope)
			}
		}
		w.scope = asked
	}
	return nil
}

func (w *work) clientHasAudience(audience string) bool {
	return oauth.Has(w.client.Audiences, audience)
}

func (narrow) PopulateTokenEndpointResponse(context.Context, fosite.AccessRequester, fosite.AccessResponder) error {
	return nil
}
