package authztest

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"

	"github.com/solegate/solegate/keys/verify/verifytest"
)

// Key is a DPoP key, as a browser holds it.
type Key struct{ *verifytest.ProofKey }

// Key returns a new key whose proofs are dated by the server's clock.
func (s *Server) Key() *Key {
	s.TB.Helper()
	k := verifytest.NewKey(s.TB)
	k.SetClock(s.now)
	return &Key{k}
}

// Proof returns a good proof for a request (RFC 9449 §4.2), but for the changes
// in its claims; a nil value removes a claim.
func (k *Key) Proof(method, uri string, changes map[string]any) string {
	return k.ProofKey.Proof(method, uri, "", changes)
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
