package authz

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/dpop"
	"github.com/solegate/solegate/storage"
)

// clockLeeway is how far two clocks may differ: of two servers, or of a server
// and a client.
const clockLeeway = dpop.DefaultLeeway

// proved checks the request's DPoP proof (RFC 9449 §4.3), if there is one or
// the client must have one. A pushed request may come without: it may name the
// key by dpop_jkt, or leave it to the token request.
func (s *Server) proved(t *tokenRequest) error {
	proof, err := s.checkProof(t.w, t.r, t.client, "")
	if err != nil {
		return err
	}
	if proof == nil && t.client.MustProve() && t.at == atToken {
		return oauth.Errorf(oauth.InvalidDPoPProof, "A DPoP proof is required.", "client %s must prove its key", t.client.ID)
	}
	t.proof = proof
	return nil
}

// provedOnce refuses a proof that was used before, here or at another server.
func (s *Server) provedOnce(t *tokenRequest) error { return s.proofOnce(t.r.Context(), t.proof) }

// maxAhead is how far a proof of a client with the hardened profile may be dated
// ahead, even with a nonce (FAPI 2.0 Security Profile §5.3.2.1, number 13).
const maxAhead = time.Minute

// checkProof checks the DPoP proof of a request of client c, which comes with
// the given access token or with none. It returns nil if there is no proof. The
// URI that it has to be for is the issuer's, never what the Host header says.
//
// Who must have a nonce, has one, or has a clock that is wrong is told the
// current one (RFC 9449 §8).
func (s *Server) checkProof(w http.ResponseWriter, r *http.Request, c clients.Client, accessToken string) (*dpop.Proof, error) {
	tellNonce := func() { w.Header().Set("DPoP-Nonce", s.nonces.Current(s.Now())) }
	if c.MustHaveNonce() {
		tellNonce()
	}
	text, err := dpop.FromHeader(r.Header)
	if errors.Is(err, dpop.ErrNone) {
		return nil, nil
	}
	var proof *dpop.Proof
	if err == nil {
		proof, err = dpop.Check(text, dpop.Expect{
			Method: r.Method, URI: s.Issuer + r.URL.Path, AccessToken: accessToken, Now: s.Now(),
			Nonces: s.nonces, NonceOptional: !c.MustHaveNonce(),
		})
	}
	switch {
	case errors.Is(err, dpop.ErrNonce):
		tellNonce()
		return nil, &oauth.Error{Code: oauth.UseDPoPNonce, Description: "The DPoP proof needs the nonce of the DPoP-Nonce header.", Cause: err}
	case err != nil:
		return nil, &oauth.Error{Code: oauth.InvalidDPoPProof, Description: "The DPoP proof is invalid, too old or for another request.", Cause: err}
	case c.Profile == clients.Hardened && proof.IssuedAt.After(s.Now().Add(maxAhead)):
		return nil, oauth.Errorf(oauth.InvalidDPoPProof, "The DPoP proof is of the future.", "iat is %s ahead, %s at most: the client's clock is wrong", proof.IssuedAt.Sub(s.Now()), maxAhead)
	case proof.Nonce != "":
		tellNonce()
	}
	return proof, nil
}

// proofOnce refuses a proof that was used before.
func (s *Server) proofOnce(ctx context.Context, proof *dpop.Proof) error {
	if proof == nil {
		return nil
	}
	return s.once(ctx, proof.Replay, proof.Expires, oauth.Errorf(oauth.InvalidDPoPProof, "The DPoP proof was used before.", "jti was used before"))
}

// once returns used if the key was used before, and remembers it. When the
// store can't tell, nobody passes.
func (s *Server) once(ctx context.Context, key [32]byte, until time.Time, used *oauth.Error) error {
	err := s.Store.Once(ctx, key, s.Now(), until)
	if errors.Is(err, storage.ErrExists) {
		return used
	} else if err != nil {
		return &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server can't do this now; try again.", Cause: err}
	}
	return nil
}
