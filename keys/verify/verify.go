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
// [Verifier.Verify] only where there is no HTTP request. The rest is optional:
// [Verifier.CORS] when the app is on another origin than the API,
// [Verifier.Metadata] to tell clients where to log in (RFC 9728).
//
// # What is checked
//
// A token passes if all of RFC 9068 §4 and RFC 8725 hold: it is a JWS in
// compact form in canonical base64url with no member twice; its typ is at+jwt;
// its algorithm is allowed and is the key's own; its key is one that the issuer
// publishes at this time; the signature is right; iss is the issuer and aud the
// audience, byte for byte; exp, iat, sub, client_id and jti are there; it has
// not expired and was not issued in the future. A token that is bound to a key
// (cnf) is refused as a bearer token.
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
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config says whose tokens are accepted, and for what. Issuer and Audience are
// required.
type Config struct {
	// Issuer is the authorization server's issuer, exactly as its metadata
	// and tokens have it.
	Issuer string

	// Audience is this API's identifier, exactly as tokens have it in aud.
	Audience string

	// Development allows an http issuer on loopback.
	Development bool

	// Algorithms are the accepted ones: ES256, RS256, PS256 and EdDSA if
	// empty.
	Algorithms []string

	// Leeway is how far the issuer's clock may be ahead or behind: 10
	// seconds if zero, none if negative, a minute at most.
	Leeway time.Duration

	// MaxStale is how long the keys at hand serve while the issuer can't be
	// reached: 24 hours if zero.
	MaxStale time.Duration

	// CacheSize is how many tokens that passed are remembered until they
	// expire: 10000 if zero, none if negative.
	CacheSize int

	// Origins, if not empty, are the web origins whose pages may call:
	// Require refuses a request that names another one, and CORS lets these
	// read the answers. A request without Origin passes.
	Origins []string

	// RequiredHeader, if set, is a header that each request must have, such
	// as "X-Requested-With": a page of another origin can't send it without
	// being asked first.
	RequiredHeader string

	// Scopes are what Metadata lists as scopes_supported.
	Scopes []string

	// Client fetches the keys; nil means one with a time-out of five seconds
	// that follows no redirect.
	Client *http.Client

	// Log takes what happened: a refused token with its reason, an issuer
	// that can't be reached. Nil discards it. No token is ever logged.
	Log *slog.Logger

	// Now is the clock; nil means the real one.
	Now func() time.Time
}

// Verifier checks access tokens. It is safe for concurrent use.
type Verifier struct {
	config   Config
	keys     *keySet
	seen     *cache
	metadata string // URL of the protected resource's metadata
	body     []byte // the metadata
}

// New returns a Verifier and fetches the issuer's keys. It fails for a Config
// that can't be, never because the issuer is out of reach: then it goes on
// trying in the background, requests are answered 503 until it has the keys,
// and Ready says so. The work in the background ends with ctx.
func New(ctx context.Context, c Config) (*Verifier, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	v := &Verifier{config: c, seen: newCache(c.CacheSize)}
	v.keys = newKeySet(&v.config)
	v.metadata, v.body = v.describe()
	if err := v.keys.refresh(ctx); err != nil {
		c.Log.Error("the issuer's keys can't be fetched; trying again in the background", "issuer", c.Issuer, "error", err)
	}
	go v.keys.run(ctx)
	return v, nil
}

func (c *Config) complete() error {
	u, err := url.Parse(c.Issuer)
	switch {
	case c.Issuer == "":
		return errors.New("verify: Issuer is missing: the authorization server's issuer, such as https://login.example.com, is expected")
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(c.Issuer, "/"):
		return fmt.Errorf("verify: Issuer %q: a URL without query, fragment and trailing slash is expected", c.Issuer)
	case u.Scheme != "https" && !(u.Scheme == "http" && c.Development && loopback(u.Hostname())):
		return fmt.Errorf("verify: Issuer %q must be https; on loopback, set Development to allow http", c.Issuer)
	case c.Audience == "":
		return errors.New("verify: Audience is missing: this API's identifier, as it was given to solegate client register --audience, is expected")
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = []string{"ES256", "RS256", "PS256", "EdDSA"}
	}
	for _, a := range c.Algorithms {
		if !slices.Contains([]string{"ES256", "RS256", "PS256", "EdDSA"}, a) {
			return fmt.Errorf("verify: Algorithms has %q: ES256, RS256, PS256 and EdDSA are supported", a)
		}
	}
	if c.Leeway == 0 {
		c.Leeway = 10 * time.Second
	}
	if c.Leeway = max(c.Leeway, 0); c.Leeway > time.Minute {
		return fmt.Errorf("verify: Leeway is %s: at most a minute is expected", c.Leeway)
	}
	if c.MaxStale == 0 {
		c.MaxStale = 24 * time.Hour
	}
	if c.CacheSize == 0 {
		c.CacheSize = 10000
	}
	if c.Client == nil {
		c.Client = &http.Client{Timeout: 5 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

func loopback(host string) bool {
	return host == "127.0.0.1" || host == "::1" || host == "localhost"
}

// Ready returns nil when tokens can be checked, or why not.
func (v *Verifier) Ready() error {
	_, err := v.keys.current()
	return err
}

// Verify checks an access token. The error is an [*Error].
func (v *Verifier) Verify(ctx context.Context, token string) (*Token, error) {
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
	if !k.verify(p.Signed, p.Signature) {
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
	case t.bound:
		return nil, nil, refuse("the token is bound to a key (cnf) and was presented without proof of it")
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
	Code        string // RFC 6750 §3.1
	Description string
	Status      int
	Cause       error
}

// Error returns the code and the cause.
func (e *Error) Error() string {
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
