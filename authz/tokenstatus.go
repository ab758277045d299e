package authz

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/solegate/solegate/authz/provider"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
)

// TokenStatus is what an operator may know of an access token. Of one that is
// not ours only Reason and Detail say something.
type TokenStatus struct {
	Active bool `json:"active"`
	// Reason is why it is not active, a fixed text; Detail is what is written
	// down of it.
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`

	ID        string            `json:"jti,omitempty"`
	User      string            `json:"user,omitempty"` // the name
	UserID    storage.UserID    `json:"user_id,omitempty"`
	Client    string            `json:"client_id,omitempty"`
	Session   storage.SessionID `json:"session,omitempty"`
	Grant     storage.GrantID   `json:"grant_id,omitempty"`
	Audience  string            `json:"audience,omitempty"`
	Scope     string            `json:"scope,omitempty"`
	JKT       string            `json:"jkt,omitempty"` // of the key that it is bound to
	IssuedAt  time.Time         `json:"issued_at,omitzero"`
	ExpiresAt time.Time         `json:"expires_at,omitzero"`
}

// DescribeToken says of an access token how it stands by what is in the store
// of c, which needs Store and Ring, and Issuer unless the token may be of any.
// The error says that the store can't be read.
func DescribeToken(ctx context.Context, c Config, token string) (TokenStatus, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	var claims provider.AccessToken
	payload, err := c.Ring.Verify(token, provider.AccessTokenType)
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err != nil {
		reason, detail := whyNotOurs(c.Ring, token, err)
		return TokenStatus{Reason: reason, Detail: detail}, nil
	}
	s := TokenStatus{
		ID: claims.ID, Client: claims.ClientID, Session: claims.Session, Grant: claims.Grant, Audience: claims.Audience, Scope: claims.Scope, JKT: claims.JKT(),
		IssuedAt: time.Unix(claims.IssuedAt, 0).UTC(), ExpiresAt: time.Unix(claims.ExpiresAt, 0).UTC(),
	}
	if claims.Grant != "" {
		s.UserID = claims.Subject
	}
	dead, err := c.standing(ctx, &s, claims)
	switch {
	case err != nil:
		return TokenStatus{}, err
	case c.Issuer != "" && claims.Issuer != c.Issuer:
		s.Reason, s.Detail = "it is another issuer's", claims.Issuer
	case c.Now().Unix() >= claims.ExpiresAt:
		// Whatever else is so: it would be dead without it.
		s.Reason, s.Detail = "it has expired", ""
	case dead != nil:
		s.Reason = dead.Error()
	default:
		s.Active, s.Detail = true, ""
	}
	return s, nil
}

// standing says what the token's grant, user and client are like, and returns
// what ended it, if anything did.
func (c *Config) standing(ctx context.Context, s *TokenStatus, t provider.AccessToken) (dead, err error) {
	client, err := c.Store.Client(ctx, clients.ID(t.ClientID))
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return errors.New("the client was removed"), nil
	case err != nil:
		return nil, err
	case client.Development && !c.Development:
		return errors.New("the client is for development, the server is not"), nil
	case client.Disabled:
		return revocation.ErrClientDisabled, nil
	}
	if t.Grant == "" {
		if t.ClientEpoch != client.Epoch {
			return revocation.ErrClientRevoked, nil
		}
	} else {
		st, err := c.Store.Standing(ctx, t.Grant, client.ID)
		if errors.Is(err, storage.ErrNotFound) {
			return errors.New("its grant is gone"), nil
		} else if err != nil {
			return nil, err
		}
		s.User = st.User.Name
		if dead := revocation.Live(st, client, c.Now()); dead != nil {
			switch b := st.User.Block; {
			case errors.Is(dead, revocation.ErrGrantRevoked):
				s.Detail = st.Grant.RevokedFor
			case errors.Is(dead, revocation.ErrUserBlocked) && b.Rule != "":
				s.Detail = fmt.Sprintf("%s, by rule %s", b.Reason, b.Rule)
				dead = errors.New("the user is suspended")
			case errors.Is(dead, revocation.ErrUserBlocked):
				s.Detail = b.Reason
			}
			return dead, nil
		}
	}
	if dead := stillMay(t, client); dead != nil {
		return dead, nil
	}
	return c.named(ctx, t)
}

// named returns what ended a token that only events say is dead.
func (c *Config) named(ctx context.Context, t provider.AccessToken) (dead, err error) {
	for after := storage.Cursor(""); ; {
		list, next, err := c.Store.Events(ctx, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			switch {
			case e.Kind == storage.EventToken && e.Subject == t.ID:
				return errors.New("it was revoked by its client"), nil
			case e.Kind == storage.EventAll && t.IssuedAt <= e.NotBefore.Unix():
				return fmt.Errorf("all tokens issued until %s were revoked", e.NotBefore.UTC().Format(time.RFC3339)), nil
			}
		}
		if after = next; len(list) == 0 {
			return nil, nil
		}
	}
}

// whyNotOurs says why the ring does not know a token. Nothing of the token is in
// it but the identifier of a key that was ours.
func whyNotOurs(ring *keys.Ring, token string, err error) (reason, detail string) {
	head, _, _ := strings.Cut(token, ".")
	raw, _ := base64.RawURLEncoding.DecodeString(head)
	var header struct {
		KeyID string `json:"kid"`
		Type  string `json:"typ"`
	}
	json.Unmarshal(raw, &header) // what is no JSON is no header of ours
	switch {
	case strings.HasPrefix(token, "sgr_"):
		return "it is a refresh token: an access token is expected", ""
	case strings.HasPrefix(token, "sgc_"):
		return "it is an authorization code: an access token is expected", ""
	}
	for _, k := range ring.List() {
		switch {
		case k.ID != header.KeyID:
		case !k.RevokedAt.IsZero():
			return "its key was revoked", "key " + k.ID
		case header.Type != provider.AccessTokenType:
			return "it is no access token", ""
		default:
			return "its signature is wrong: it was altered", "key " + k.ID
		}
	}
	if header.KeyID != "" {
		return "its key is unknown: it is another server's, or so old that its key is gone", ""
	}
	return "it is no token of this server", err.Error()
}
