package verifytest

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

// ProofKey is a client's ES256 key, to which tokens are bound (RFC 9449):
//
//	key := verifytest.NewKey(t)
//	token := issuer.BoundToken(key, nil)
//	key.Authorize(r, "https://api.example.com/orders", token, nil)
type ProofKey struct {
	JKT string         // its thumbprint (RFC 7638)
	JWK map[string]any // its public part

	tb      testing.TB
	private *ecdsa.PrivateKey
	now     func() time.Time
}

// NewKey makes a client's key.
func NewKey(tb testing.TB) *ProofKey {
	tb.Helper()
	k := &ProofKey{tb: tb, now: time.Now}
	var err error
	if k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		tb.Fatal(err)
	}
	jwk := jose.JSONWebKey{Key: k.private.Public()}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		tb.Fatal(err)
	}
	k.JKT = base64.RawURLEncoding.EncodeToString(sum)
	raw, err := json.Marshal(jwk)
	if err == nil {
		err = json.Unmarshal(raw, &k.JWK)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// Public returns the key's public part.
func (k *ProofKey) Public() crypto.PublicKey { return k.private.Public() }

// SetClock gives the client another clock.
func (k *ProofKey) SetClock(now func() time.Time) { k.now = now }

// Proof returns a new proof for one request: method and url are the request's,
// and token the access token that goes with it, or "". The claims are those of
// a good proof with the changes; a nil value removes a claim, and "nonce" adds
// the server's.
func (k *ProofKey) Proof(method, url, token string, changes map[string]any) string {
	k.tb.Helper()
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": url, "iat": k.now().Unix()}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return k.SignProof(nil, change(claims, changes))
}

// SignProof signs claims as they are, with the header of a good proof and the
// changes in it.
func (k *ProofKey) SignProof(header, claims map[string]any) string {
	k.tb.Helper()
	part := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			k.tb.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	input := part(change(map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": k.JWK}, header)) + "." + part(claims)
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, k.private, digest[:])
	if err != nil {
		k.tb.Fatal(err)
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// Authorize puts the token and a new proof with the changes into the request's
// headers. url is how the API is publicly reached.
func (k *ProofKey) Authorize(r *http.Request, url, token string, changes map[string]any) {
	k.tb.Helper()
	r.Header.Set("Authorization", "DPoP "+token)
	r.Header.Set("DPoP", k.Proof(r.Method, url, token, changes))
}

// BoundToken returns an access token that is bound to the key, with the changes
// in its claims.
func (i *Issuer) BoundToken(k *ProofKey, changes map[string]any) string {
	i.tb.Helper()
	return i.Token(change(map[string]any{"cnf": map[string]any{"jkt": k.JKT}}, changes))
}

// change makes the changes; a nil value removes a member.
func change(m, changes map[string]any) map[string]any {
	maps.Copy(m, changes)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}
