package verify

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/solegate/solegate/keys/verify/dpop"
)

// prove checks that the request's one proof is for this request and this
// token, by the key that the token is bound to (RFC 9449 §7.1). Nothing is used
// up yet.
func (v *Verifier) prove(r *http.Request, token string, t *Token, now time.Time) (*dpop.Proof, error) {
	if t.JKT == "" {
		return nil, refuse("the token is not bound to a key (no cnf) and was presented with the DPoP scheme")
	}
	proof, err := dpop.FromHeader(r.Header)
	if err != nil {
		return nil, refuseProof(err)
	}
	leeway := v.config.Leeway
	if leeway == 0 {
		leeway = -1 // none: zero is the default there
	}
	p, err := dpop.Check(proof, dpop.Expect{
		Method: r.Method, URI: v.address(r), AccessToken: token, Nonces: v.nonces,
		Now: now, Lifetime: v.config.DPoPLifetime, Leeway: leeway,
	})
	switch {
	case errors.Is(err, dpop.ErrNonce):
		return nil, &Error{Code: "use_dpop_nonce", Description: "The DPoP proof needs the nonce of this response.", Status: http.StatusUnauthorized, Cause: err}
	case err != nil:
		return nil, refuseProof(err)
	case p.JKT != t.JKT:
		return nil, refuse("the proof is by another key than the one that the token is bound to")
	}
	return p, nil
}

// once uses up the proof.
func (v *Verifier) once(r *http.Request, p *dpop.Proof) error {
	first, err := v.replays.Once(r.Context(), p.Replay, p.Expires)
	switch {
	case err != nil:
		// Without the memory a stolen request could be sent again.
		return &Error{Code: "temporarily_unavailable", Description: "The request can't be checked now.", Status: http.StatusServiceUnavailable, Cause: fmt.Errorf("replay check: %w", err)}
	case !first:
		return refuseProof(errors.New("the proof was used before"))
	}
	return nil
}

// PublicURL is Config.PublicURL, or what stands for it: the scheme, host and
// port of Audience; "" if no DPoP is accepted.
func (v *Verifier) PublicURL() string { return v.config.PublicURL }

// address is where the client sent the request, as it must stand in htu. The
// host is never the request's: who sends a stolen proof would choose it.
func (v *Verifier) address(r *http.Request) string {
	path := r.URL.EscapedPath()
	if raw := r.URL.RawPath; raw != "" {
		// As it was sent, if no handler has changed Path since.
		if p, err := url.PathUnescape(raw); err == nil && p == r.URL.Path {
			path = raw
		}
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // so that no path can lengthen the host
	}
	return v.config.PublicURL + path
}

// refuseProof is an invalid proof; the reason is for the log.
func refuseProof(cause error) *Error {
	return &Error{Code: "invalid_dpop_proof", Description: "One DPoP proof for this request, made just now, is expected.", Status: http.StatusUnauthorized, Cause: cause}
}
