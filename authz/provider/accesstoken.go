package provider

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/ory/fosite"

	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/authz/statuslist"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
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
	// Grant is empty in a token that a client got for itself.
	Grant        storage.GrantID `json:"grant_id,omitempty"`
	Confirmation *Confirmation   `json:"cnf,omitempty"`
	// UserEpoch and ClientEpoch are those of the user and the client when the
	// grant was good: an event that ends all of either names the first that is
	// good again. In a token that a client got for itself it is all that ends
	// it.
	UserEpoch   uint64 `json:"user_epoch,omitempty"`
	ClientEpoch uint64 `json:"client_epoch,omitempty"`
	// Status is the place of the grant, or of a token that a client got for
	// itself (draft-ietf-oauth-status-list-21 §6.1), or nil.
	Status *statuslist.Claim `json:"status,omitempty"`
}

// Confirmation says which key must be proved with a token (RFC 7800 §3.1).
type Confirmation struct {
	JKT string `json:"jkt"` // RFC 9449 §6.1
}

// JKT is the thumbprint of the DPoP key that the token is bound to, or empty.
func (t *AccessToken) JKT() string {
	if t.Confirmation == nil {
		return ""
	}
	return t.Confirmation.JKT
}

// GenerateAccessToken signs the access token of the request's work.
func (s strategy) GenerateAccessToken(ctx context.Context, _ fosite.Requester) (string, string, error) {
	w := workOf(ctx)
	p := s.p
	var jti [16]byte
	if _, err := io.ReadFull(p.Rand, jti[:]); err != nil {
		return "", "", err
	}
	t := AccessToken{
		Issuer:   p.Issuer,
		Audience: w.audience,
		ClientID: string(w.client.ID),
		IssuedAt: w.now.Unix(),
		ID:       b64.EncodeToString(jti[:]),
		Scope:    oauth.JoinScope(w.scope),
	}
	w.accessExpires = w.now.Add(shorter(p.AccessToken, w.client.AccessTokenLife))
	if w.standing == nil {
		t.Subject, t.ClientEpoch = storage.UserID(w.client.ID), w.client.Epoch // RFC 9068 §2.2: the client itself
		if p.Lists != nil {
			place, err := p.Lists.Place(w.client.ID, w.client.Epoch)
			if err != nil {
				return "", "", err
			}
			t.Status = p.Lists.Claim(place, w.client.ID, w.client.Epoch)
		}
	} else {
		g := w.standing.Grant
		// No token outlives what it came from: the family, or the session.
		if w.form.Get("grant_type") == oauth.RefreshToken {
			w.accessExpires = earlier(w.accessExpires, g.Expires)
		} else {
			w.accessExpires = earlier(w.accessExpires, w.standing.Session.Expires)
		}
		t.Subject, t.Session, t.Grant = g.User, g.Session, g.ID
		t.UserEpoch, t.ClientEpoch = w.standing.User.Epoch, g.Epoch
		t.AuthTime, t.ACR, t.AMR = unix(g.AuthTime), g.ACR, g.AMR
		if p.Lists != nil {
			t.Status = p.Lists.Claim(g.Status, g.Client, g.Epoch)
		}
	}
	t.ExpiresAt = w.accessExpires.Unix()
	if w.jkt != "" {
		t.Confirmation = &Confirmation{w.jkt}
	}
	claims, err := json.Marshal(t)
	if err != nil {
		return "", "", err
	}
	alg := p.AccessTokenAlg
	if w.client.Profile == clients.Hardened && alg == keys.RS256 {
		alg = keys.ES256 // FAPI 2.0 Security Profile §5.4.1
	}
	token, err := p.Ring.Sign(alg, AccessTokenType, claims)
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
// grant holds stays as it is, so the next refresh may choose again. A client's
// own token is narrowed likewise from what the client is registered for.
type narrow struct{ p *Provider }

func (narrow) CanSkipClientAuth(context.Context, fosite.AccessRequester) bool { return false }
func (narrow) CanHandleTokenEndpointRequest(context.Context, fosite.AccessRequester) bool {
	return true
}

func (narrow) HandleTokenEndpointRequest(ctx context.Context, _ fosite.AccessRequester) error {
	w := workOf(ctx)
	grant := w.form.Get("grant_type")
	resources, scope := w.client.Audiences, own(w.client.Scopes)
	if grant != oauth.ClientCredentials {
		if w.standing == nil {
			return fosite.ErrUnknownRequest // no grant handler was responsible
		}
		resources, scope = w.standing.Grant.Resource, w.standing.Grant.Scope
	}

	// RFC 8707 §2.2: a resource of the grant, or its default.
	w.audience = resources[0]
	if resource := w.form.Get("resource"); resource != "" {
		if !oauth.Has(resources, resource) {
			return oauth.Errorf(oauth.InvalidTarget, "The resource was not granted.", "resource is not one of %q", resources)
		}
		w.audience = resource
	}
	if !w.client.HasAudience(w.audience) {
		return oauth.Errorf(oauth.InvalidTarget, "The resource is not available to this client.", "audience %q was taken from client %s", w.audience, w.client.ID)
	}

	// RFC 6749 §6: the grant's scope or less. A code exchange has no scope
	// parameter; one that is sent is ignored, as §3.2 asks.
	w.scope = scope
	if asked := oauth.SplitScope(w.form.Get("scope")); len(asked) > 0 && grant != oauth.AuthorizationCode {
		for _, s := range asked {
			if !oauth.Has(scope, s) {
				return oauth.Errorf(oauth.InvalidScope, "The scope exceeds what was granted.", "a scope beyond %q", scope)
			}
		}
		w.scope = asked
	}
	return nil
}

// own are the scopes that a client can have for itself: those that are about a
// person have nobody to be about.
func own(scopes []string) []string {
	var list []string
	for _, s := range scopes {
		if s != oauth.OpenID && s != oauth.Profile && s != oauth.Email && s != oauth.OfflineAccess {
			list = append(list, s)
		}
	}
	return list
}

func (narrow) PopulateTokenEndpointResponse(context.Context, fosite.AccessRequester, fosite.AccessResponder) error {
	return nil
}
