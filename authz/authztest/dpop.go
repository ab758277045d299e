package authztest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Key is a DPoP key, as a browser holds it.
type Key struct {
	JKT string // its thumbprint

	tb      testing.TB
	private *ecdsa.PrivateKey
	now     func() time.Time
}

// Key returns a new key whose proofs are dated by the server's clock.
func (s *Server) Key() *Key {
	s.TB.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(s.TB, err)
	thumbprint, err := (&jose.JSONWebKey{Key: private.Public()}).Thumbprint(crypto.SHA256)
	check(s.TB, err)
	return &Key{JKT: base64.RawURLEncoding.EncodeToString(thumbprint), tb: s.TB, private: private, now: s.now}
}

// Proof returns a good proof for a request (RFC 9449 §4.2), but for the changes
// in its claims; a nil value removes a claim.
func (k *Key) Proof(method, uri string, changes map[string]any) string {
	k.tb.Helper()
	claims := map[string]any{"htm": method, "htu": uri, "iat": k.now().Unix(), "jti": rand.Text()}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(claims)
	check(k.tb, err)
	options := (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: k.private}, options)
	check(k.tb, err)
	jws, err := signer.Sign(payload)
	check(k.tb, err)
	proof, err := jws.CompactSerialize()
	check(k.tb, err)
	return proof
}

// ATH is the hash of an access token in a proof (RFC 9449 §4.2).
func ATH(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// With returns the same server as an app sees it that proves k with each of its
// token and pushed authorization requests, and tries again with the nonce that
// it is told.
func (s *Server) With(k *Key) *Server {
	with := *s
	with.key = k
	return &with
}

// prove adds the proof of a request, if the app has a key.
func (s *Server) prove(r *http.Request, nonce string) {
	if s.key == nil {
		return
	}
	changes := map[string]any{}
	if nonce != "" {
		changes["nonce"] = nonce
	}
	r.Header.Set("DPoP", s.key.Proof(r.Method, s.URL+r.URL.Path, changes))
}
