// Package verify is the API's side of Solegate: it checks access tokens
// locally, against the issuer's published keys, at memory speed.
//
//	v, err := verify.New(ctx, verify.Config{
//		Issuer:   "https://login.example.com",
//		Audience: "https://api.example.com",
//	})
//	mux.Handle("GET /orders", v.Require("orders:read")(orders))
//
// and in the handler
//
//	who := verify.FromContext(r.Context()).Subject
//
// Use [New] once and [Verifier.Require] around each handler. Use
// [Verifier.VerifyRequest] and [Verifier.Refuse] only where there is no
// handler to put it around, and [Verifier.Verify] only where there is no HTTP
// request. The rest is optional: [Verifier.RequireLogin] where a login of this
// morning is not enough, [Verifier.CORS] when the app is on another origin than
// the API, [Verifier.Metadata] to tell clients where to log in (RFC 9728).
//
// # What is checked
//
// A token passes if all of RFC 9068 §4 and RFC 8725 hold: it is a JWS in
// compact form in canonical base64url with no member twice; its typ is at+jwt;
// its algorithm is allowed and is the key's own; its key is one that the issuer
// publishes at this time; the signature is right; iss is the issuer and aud the
// audience, byte for byte; exp, iat, sub, client_id and jti are there; it has
// not expired and was not issued in the future.
//
// # DPoP
//
// A token that is bound to a key (RFC 9449, cnf.jkt) passes with the DPoP
// scheme and one proof: by that key, made just now, for this method, this
// address and this token, and never seen before. It is refused as Bearer, so
// who steals it can do nothing with it; and a token that is not bound is
// refused as DPoP. Both schemes are accepted side by side unless RequireDPoP is
// set. A cnf that holds anything but a jkt is refused.
//
// The address is [Config].PublicURL and the request's path. Set it if Audience
// is no https URL, or a proxy takes a part of the path away. The request's Host
// and X-Forwarded-Host are not looked at: nothing breaks if a proxy rewrites
// them, and nobody can choose them. If a handler outside of Require takes a
// part of the path away, as [http.StripPrefix] does, that part belongs to
// PublicURL, too.
//
// A proof lives a minute. In that time this process accepts it once, and
// another replica once more, unless Replays is one that they share. With
// DPoPNonceKey a proof needs a nonce of this API on top, which keeps out proofs
// that were made in advance, and lives as long as that, four minutes at most;
// clients learn it from the answers.
//
// The package [github.com/solegate/solegate/keys/verify/dpop] says what a proof
// must be. It is checked after the token, and marked as used when all else is
// good: a request that is refused can be repeated as it is.
//
// # Keys
//
// The key set is fetched once and kept. It is fetched again in the background,
// as often as the issuer's Cache-Control says, and when a token names an
// unknown key, at most every ten seconds. A key that the issuer withdraws is
// refused after the next fetch, with every token it ever signed. If the issuer
// can't be reached the keys at hand serve on, for a day by default.
//
// # What it can't do
//
// A token that was revoked before it expires passes until it expires: its few
// minutes of life are the bound. The allow-list of origins and the required
// header (see [Config]) keep other people's pages from using a visitor's
// browser; a program outside of a browser sends what it likes.
//
// The package needs the standard library and go-jose, nothing else.
package verify

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/solegate/solegate/keys/verify/dpop"
	"github.com/solegate/solegate/keys/verify/internal/strict"
)

// Verifier checks access tokens. It is safe for concurrent use.
type Verifier struct {
	config   Config
	keys     *keySet
	seen     *cache
	replays  Replays
	nonces   *dpop.Nonces // nil if none are demanded
	metadata string       // URL of the protected resource's metadata
	body     []byte       // the metadata
}

// New returns a Verifier and fetches the issuer's keys. It fails for a Config
// that can't be, never because the issuer is out of reach: then it goes on
// trying in the background, requests are answered 503 until it has the keys,
// and Ready says so. The work in the background ends with ctx.
func New(ctx context.Context, c Config) (*Verifier, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	v := &Verifier{config: c, seen: newCache(c.CacheSize), replays: c.Replays}
	if v.replays == nil {
		v.replays = newMemory(maxReplays, c.Now, c.Log)
	}
	if len(c.DPoPNonceKey) > 0 {
		v.nonces = dpop.NewNonces([32]byte(c.DPoPNonceKey))
	}
	v.keys = newKeySet(&v.config)
	v.metadata, v.body = v.describe()
	if err := v.keys.refresh(ctx); err != nil {
		c.Log.Error("the issuer's keys can't be fetched; trying again in the background", "issuer", c.Issuer, "error", err)
	}
	go v.keys.run(ctx)
	return v, nil
}

// Ready returns nil when tokens can be checked, or why not.
func (v *Verifier) Ready() error {
	_, err := v.keys.current()
	return err
}

// Verify checks an access token that came without a request. A token that is
// bound to a key is refused: there is no proof here. The error is an [*Error].
func (v *Verifier) Verify(ctx context.Context, token string) (*Token, error) {
	t, err := v.token(ctx, token)
	if err != nil {
		return nil, err
	}
	if err := t.unbound(); err != nil {
		return nil, err
	}
	return t, nil
}

// token checks an access token, whether it is bound to a key or not: the
// caller must look at JKT.
func (v *Verifier) token(ctx context.Context, token string) (*Token, error) {
	if len(token) > maxToken {
		return nil, refuse("the token has %d bytes, at most %d are expected", len(token), maxToken)
	}
	keys, err := v.keys.current()
	if err != nil {
		return nil, &Error{Code: "temporarily_unavailable", Description: "The issuer's keys are not known yet.", Status: http.StatusServiceUnavailable, Cause: err}
	}
	now := v.config.Now()
	sum := sha256.Sum256([]byte(token))
	if t, key := v.seen.get(sum); t != nil && keys.byID[key.id] == key {
		if err := v.timely(t, now); err != nil {
			return nil, err
		}
		return t, nil
	}
	t, key, err := v.check(ctx, keys, token, now)
	if err != nil {
		return nil, err
	}
	v.seen.put(sum, t, key, now)
	return t, nil
}

// check checks a token that was not seen before.
func (v *Verifier) check(ctx context.Context, keys *keys, token string, now time.Time) (*Token, *key, error) {
	p, err := parse(token)
	if err != nil {
		return nil, nil, err
	}
	if !slices.Contains(v.config.Algorithms, p.header.algorithm) {
		return nil, nil, refuse("the algorithm %.20q is not allowed", p.header.algorithm)
	}
	k := keys.byID[p.header.keyID]
	if k == nil {
		if k, err = v.keys.find(ctx, p.header.keyID); err != nil {
			return nil, nil, err
		}
	}
	if k.algorithm != p.header.algorithm {
		return nil, nil, refuse("the algorithm %.20q is not that of key %s", p.header.algorithm, k.id)
	}
	// The key's own algorithm, whatever the token says.
	if !strict.Verify(k.algorithm, k.public, p.Signed, p.Signature) {
		return nil, nil, refuse("the signature is wrong")
	}
	t, err := p.token()
	if err != nil {
		return nil, nil, err
	}
	switch {
	case t.Issuer != v.config.Issuer:
		return nil, nil, refuse("iss is %.100q, %q is expected", t.Issuer, v.config.Issuer)
	case !slices.Contains(t.Audience, v.config.Audience):
		return nil, nil, refuse("aud is %.200q, %q is expected", t.Audience, v.config.Audience)
	}
	return t, k, v.timely(t, now)
}

// timely checks what changes with time.
func (v *Verifier) timely(t *Token, now time.Time) error {
	switch {
	case !now.Before(t.Expires.Add(v.config.Leeway)):
		return refuse("the token expired at %s", t.Expires.UTC().Format(time.RFC3339))
	case t.IssuedAt.After(now.Add(v.config.Leeway)):
		return refuse("the token was issued in the future, at %s", t.IssuedAt.UTC().Format(time.RFC3339))
	case t.notBefore.After(now.Add(v.config.Leeway)):
		return refuse("the token is not valid before %s", t.notBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// Error is why a request was refused. Code and Description may be told to the
// caller; Cause is for the log. No part of it holds a token.
type Error struct {
	Code        string // RFC 6750 §3.1, RFC 9449 §7.1, RFC 9470 §3; "" if there was no token
	Description string
	Status      int
	Cause       error

	parameters []parameter // of the challenge, beside the code
}

// Error returns the code and the cause.
func (e *Error) Error() string {
	if e.Code == "" {
		return e.Cause.Error()
	}
	if e.Cause != nil {
		return e.Code + ": " + e.Cause.Error()
	}
	return e.Code + ": " + e.Description
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// refuse is an invalid token; the reason is for the log.
func refuse(format string, args ...any) *Error {
	return &Error{Code: "invalid_token", Description: "The access token is invalid or has expired.", Status: http.StatusUnauthorized, Cause: fmt.Errorf(format, args...)}
}
