package verify

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/solegate/solegate/keys/verify/dpop"
)

type contextKey struct{}

// passed is what a request's context has: its token, and by what check it came
// there if it came through Require.
type passed struct {
	token                *Token
	by                   *Verifier
	authorization, proof string
	request              *http.Request // for reports
	at                   time.Time     // when it came; zero if that is not known
}

// FromContext returns the token that Require checked. It is nil for a request
// that did not come through Require, so that using it there fails loudly.
func FromContext(ctx context.Context) *Token {
	p, _ := ctx.Value(contextKey{}).(passed)
	return p.token
}

// NewContext returns a context with t as its token, for tests of handlers.
func NewContext(ctx context.Context, t *Token) context.Context {
	return context.WithValue(ctx, contextKey{}, passed{token: t})
}

// Require lets a request through if it brings a token that passes and has all
// of the scopes: as DPoP with its proof if it is bound to a key (RFC 9449 §7.1),
// as Bearer if it is not (RFC 6750 §2.1). Otherwise it answers as
// [Verifier.Refuse] does: 401 without a token, with a bad one or without a good
// proof, 403 if a scope is missing, 400 if the token stands where it must not,
// 503 while the issuer's keys are not known or the proof can't be held against
// the used ones. One Require inside of another looks at its scopes only.
func (v *Verifier) Require(scopes ...string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// One time for all: asking for it is a fifth of what a limit costs.
			now := v.config.Now()
			t, p, err := v.request(r, scopes, now)
			if err != nil {
				v.Refuse(w, r, err, scopes...)
				return
			}
			if p != nil && v.nonces != nil {
				// Each nonce is told once, as soon as it is the current one:
				// answers with one are not for caches (RFC 9449 §8.2).
				if nonce := v.nonces.Current(now); nonce != p.Nonce {
					w.Header().Set("DPoP-Nonce", nonce)
					w.Header().Set("Cache-Control", "no-store")
				}
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, passed{t, v, r.Header.Get("Authorization"), r.Header.Get("DPoP"), r, now})))
		})
	}
}

// VerifyRequest checks a request as Require does, for those who can't use it.
// The error is an [*Error]; answer with Refuse. A request that passes has used
// up its proof: check it once. With Config.DPoPNonceKey, Require also tells a
// client the next nonce when it passes; here it learns it from a refusal.
func (v *Verifier) VerifyRequest(r *http.Request, scopes ...string) (*Token, error) {
	t, _, err := v.request(r, scopes, v.config.Now())
	return t, err
}

// request checks a request. The order is: where it comes from, the token, the
// proof, the scopes, and last whether the proof is new, so that a request that
// is refused for anything else uses up nothing. The proof is nil for Bearer.
func (v *Verifier) request(r *http.Request, scopes []string, now time.Time) (*Token, *dpop.Proof, error) {
	// The proof was used up by a Require further outside: it is not asked for
	// a second time in the same request.
	if p, ok := r.Context().Value(contextKey{}).(passed); ok && p.by == v && p.authorization == r.Header.Get("Authorization") && p.proof == r.Header.Get("DPoP") {
		if err := p.token.has(scopes); err != nil {
			return nil, nil, err
		}
		return p.token, nil, nil
	}
	scheme, token, err := v.presented(r)
	if err != nil {
		return nil, nil, err
	}
	t, err := v.token(r.Context(), token, now)
	if err != nil {
		return nil, nil, err
	}
	var p *dpop.Proof
	if scheme == schemeDPoP {
		p, err = v.prove(r, token, t, now)
	} else {
		err = t.unbound()
	}
	if err != nil {
		return nil, nil, err
	}
	if err := t.has(scopes); err != nil {
		return nil, nil, err
	}
	if p != nil {
		if err := v.once(r, p); err != nil {
			return nil, nil, err
		}
	}
	return t, p, nil
}

// has refuses a token that lacks one of the scopes.
func (t *Token) has(scopes []string) error {
	for _, scope := range scopes {
		if !t.HasScope(scope) {
			return &Error{Code: "insufficient_scope", Description: "The access token lacks a scope that this needs.", Status: http.StatusForbidden, Cause: errors.New("no scope " + scope), parameters: []parameter{{"scope", strings.Join(scopes, " ")}}}
		}
	}
	return nil
}

// presented returns the request's token and its scheme, if the request may be
// made at all.
func (v *Verifier) presented(r *http.Request) (scheme, token string, err error) {
	if origins := r.Header["Origin"]; len(v.config.Origins) > 0 && len(origins) > 0 {
		if len(origins) > 1 || !slices.Contains(v.config.Origins, origins[0]) {
			return "", "", &Error{Code: "invalid_request", Description: "This origin may not call.", Status: http.StatusForbidden, Cause: errors.New("unlisted Origin")}
		}
	}
	if h := v.config.RequiredHeader; h != "" && r.Header.Get(h) == "" {
		return "", "", &Error{Code: "invalid_request", Description: "A required header is missing.", Status: http.StatusForbidden, Cause: errors.New("no " + h)}
	}
	// RFC 9700 §4.3.2: a token in a URL ends up in logs and histories.
	if strings.Contains(r.URL.RawQuery, "access_token") {
		if q, err := url.ParseQuery(r.URL.RawQuery); err != nil || q.Has("access_token") {
			return "", "", &Error{Code: "invalid_request", Description: "The access token belongs in the Authorization header.", Status: http.StatusBadRequest, Cause: errors.New("access token in the query")}
		}
	}
	headers := r.Header["Authorization"]
	if len(headers) == 0 { // no error code (RFC 6750 §3.1)
		return "", "", &Error{Status: http.StatusUnauthorized, Cause: errors.New("no access token")}
	}
	scheme = authScheme(r)
	_, token, _ = strings.Cut(headers[0], " ")
	switch {
	case len(headers) > 1 || scheme == "" || token == "":
		return "", "", &Error{Code: "invalid_request", Description: "One Authorization header with an access token is expected.", Status: http.StatusBadRequest, Cause: errors.New("several or malformed Authorization headers")}
	case scheme == schemeDPoP && v.config.PublicURL == "":
		return "", "", refuse("the token came with the DPoP scheme; set Config.PublicURL to accept it")
	case scheme == schemeBearer && v.config.RequireDPoP:
		return "", "", refuse("the token came as Bearer; Config.RequireDPoP is set")
	}
	return scheme, token, nil
}
