package backchannel

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
)

// TokenType is the typ of a logout token's header: no other token of ours has
// it, so none passes for a logout token, nor the other way round (Back-Channel
// Logout §2.4, RFC 8725 §3.11).
const TokenType = "logout+jwt"

// tokenLife is the most that Back-Channel Logout §2.4 recommends.
const tokenLife = 2 * time.Minute

// Event is the one member of a logout token's events claim.
const Event = "http://schemas.openid.net/event/backchannel-logout"

// logoutToken are the claims of a logout token (Back-Channel Logout §2.4).
// There is no nonce: with one it could pass for an ID token.
type logoutToken struct {
	Issuer    string              `json:"iss"`
	Subject   storage.UserID      `json:"sub"`
	Audience  clients.ID          `json:"aud"`
	IssuedAt  int64               `json:"iat"`
	ExpiresAt int64               `json:"exp"`
	ID        string              `json:"jti"`
	Session   storage.SessionID   `json:"sid"`
	Events    map[string]struct{} `json:"events"`
}

// token makes a new logout token for client c about the session.
func (s *Sender) token(c clients.Client, id storage.SessionID) (string, error) {
	var jti [16]byte
	if _, err := io.ReadFull(s.Rand, jti[:]); err != nil {
		return "", err
	}
	now := s.Now()
	claims, err := json.Marshal(logoutToken{
		Issuer: s.Issuer, Subject: id.User(), Audience: c.ID, Session: id,
		IssuedAt: now.Unix(), ExpiresAt: now.Add(tokenLife).Unix(),
		ID:     base64.RawURLEncoding.EncodeToString(jti[:]),
		Events: map[string]struct{}{Event: {}},
	})
	if err != nil {
		return "", err
	}
	return s.Sign(keys.Algorithm(c.IDTokenAlg), TokenType, claims)
}
