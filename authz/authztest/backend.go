package authztest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/url"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/solegate/solegate/clients"
)

// UpdateClient changes the one SPA and lets pass what the server may remember
// of it.
func (s *Server) UpdateClient(change func(*clients.Client)) {
	s.TB.Helper()
	c, err := s.Store.Client(s.TB.Context(), s.Client.ID)
	check(s.TB, err)
	change(&c)
	_, err = c.Validate(true)
	check(s.TB, err)
	check(s.TB, s.Store.UpdateClient(s.TB.Context(), c))
	s.Clock.Advance(time.Second)
}

// AddClient registers another client.
func (s *Server) AddClient(c clients.Client) clients.Client {
	s.TB.Helper()
	c.CreatedAt = s.Clock.Now()
	_, err := c.Validate(true)
	check(s.TB, err)
	check(s.TB, s.Store.CreateClient(s.TB.Context(), c))
	return c
}

// Signer signs client assertions (RFC 7523 §2.2).
type Signer struct {
	JWKS json.RawMessage // to register

	tb      testing.TB
	issuer  string
	private *ecdsa.PrivateKey
	now     func() time.Time
}

// Signer returns one with a new key.
func (s *Server) Signer() *Signer {
	s.TB.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(s.TB, err)
	jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: private.Public(), KeyID: "backend", Algorithm: "ES256", Use: "sig"}}})
	check(s.TB, err)
	return &Signer{JWKS: jwks, tb: s.TB, issuer: s.URL, private: private, now: s.now}
}

// Assertion returns a good assertion of a client, but for the changes in its
// claims; a nil value removes a claim.
func (k *Signer) Assertion(client clients.ID, changes map[string]any) string {
	k.tb.Helper()
	now := k.now().Unix()
	claims := map[string]any{"iss": client, "sub": client, "aud": k.issuer, "iat": now, "exp": now + 60, "jti": rand.Text()}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(claims)
	check(k.tb, err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: k.private, KeyID: "backend"}}, nil)
	check(k.tb, err)
	jws, err := signer.Sign(payload)
	check(k.tb, err)
	assertion, err := jws.CompactSerialize()
	check(k.tb, err)
	return assertion
}

// Sign adds an assertion of the client to a form.
func (k *Signer) Sign(form url.Values, client clients.ID, changes map[string]any) url.Values {
	k.tb.Helper()
	form.Set("client_id", string(client))
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", k.Assertion(client, changes))
	return form
}
