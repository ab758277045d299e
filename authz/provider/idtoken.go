package provider

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"

	"github.com/ory/fosite"

	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
)

// IDTokenType is the typ of an ID token's header. An access token's is another
// one, so neither passes for the other (RFC 8725 §3.11).
const IDTokenType = "JWT"

// IDToken are the claims of an ID token (OpenID Connect Core §2). The claims
// of the scopes profile and email are at the userinfo endpoint (§5.4).
type IDToken struct {
	Issuer          string            `json:"iss"`
	Subject         storage.UserID    `json:"sub"`
	Audience        string            `json:"aud"`
	ExpiresAt       int64             `json:"exp"`
	IssuedAt        int64             `json:"iat"`
	AuthTime        int64             `json:"auth_time"`
	Nonce           string            `json:"nonce,omitempty"`
	ACR             string            `json:"acr,omitempty"`
	AMR             []string          `json:"amr,omitempty"`
	AccessTokenHash string            `json:"at_hash"`
	Session         storage.SessionID `json:"sid,omitempty"`
}

// idToken is the fosite handler that issues the ID token: with every code
// exchange of an openid grant, and with a refresh only if its scope asks for
// openid and the client is registered so.
type idToken struct{ p *Provider }

func (idToken) CanSkipClientAuth(context.Context, fosite.AccessRequester) bool { return false }
func (idToken) CanHandleTokenEndpointRequest(context.Context, fosite.AccessRequester) bool {
	return true
}
func (idToken) HandleTokenEndpointRequest(context.Context, fosite.AccessRequester) error {
	return fosite.ErrUnknownRequest // nothing to check before
}

func (h idToken) PopulateTokenEndpointResponse(ctx context.Context, _ fosite.AccessRequester, resp fosite.AccessResponder) error {
	w := workOf(ctx)
	if w.standing == nil || !oauth.Has(w.scope, oauth.OpenID) {
		return nil
	}
	g := w.standing.Grant
	refresh := w.form.Get("grant_type") == oauth.RefreshToken
	if refresh && (!w.client.RefreshIDToken || !oauth.Has(oauth.SplitScope(w.form.Get("scope")), oauth.OpenID)) {
		return nil
	}
	alg := keys.Algorithm(w.client.IDTokenAlg)
	t := IDToken{
		Issuer:          h.p.Issuer,
		Subject:         g.User,
		Audience:        string(g.Client),
		ExpiresAt:       earlier(w.now.Add(h.p.IDToken), w.standing.Session.Expires).Unix(),
		IssuedAt:        w.now.Unix(),
		AuthTime:        unix(g.AuthTime),
		ACR:             g.ACR,
		AMR:             g.AMR,
		AccessTokenHash: accessTokenHash(alg, resp.GetAccessToken()),
		Session:         g.Session,
	}
	if !refresh {
		t.Nonce = g.Nonce // OpenID Connect Core §12.2: none from a refresh
	}
	claims, err := json.Marshal(t)
	if err != nil {
		return err
	}
	w.idToken, err = h.p.Ring.Sign(alg, IDTokenType, claims)
	return err
}

// accessTokenHash is at_hash (OpenID Connect Core §3.1.3.6): the left half of
// the hash that the algorithm uses; Ed25519 uses SHA-512.
func accessTokenHash(alg keys.Algorithm, accessToken string) string {
	if alg == keys.EdDSA {
		h := sha512.Sum512([]byte(accessToken))
		return b64.EncodeToString(h[:32])
	}
	h := sha256.Sum256([]byte(accessToken))
	return b64.EncodeToString(h[:16])
}
