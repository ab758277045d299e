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
// morning is not enough, [Verifier.Limit] and [Verifier.Report] against accounts
// that ask too much, [Verifier.Watch] to end a WebSocket with its token,
// [Verifier.CORS] when the app is on another origin than
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
// # Limits and reports
//
// [Verifier.Limit] gives each account a token bucket, and answers 429 when it is
// empty. Every answer says what is left. With [Config].Reports the issuer is told
// which accounts come nevertheless, and those that the API reports by itself with
// [Verifier.Report]: added up by account, app, session, key and reason, with how
// often, when and from where, every second, in the background. Neither ever
// makes a request wait, whatever the issuer or the network does: what can't be
// sent waits for ten minutes, and what is too much is dropped and counted
// ([Verifier.ReportStats]). Call [Verifier.Close] when the HTTP server has shut
// down.
//
// A limit costs some 200 ns and no allocation. Memory is bounded by
// [Limits].Accounts. An account is forgotten when its bucket is full again,
// which changes nothing, and never before: a flood of other accounts frees
// nobody. Replicas count each for itself unless [Limits].Shared lets them count
// together.
//
// # Keys
//
// The key set is fetched once and kept. It is fetched again in the background,
// as often as the issuer's Cache-Control says, and when a token names an
// unknown key, at most every ten seconds. A key that the issuer withdraws is
// refused after the next fetch, with every token it ever signed. If the issuer
// can't be reached the keys at hand serve on, for a day by default.
//
// # Revoked at once
//
// With [Config].Feed the API follows the issuer's revocation feed: whatever ends
// a user, a session, a grant, a token, a client or a key there is refused here
// within a second, as a rule within a few hundredths, also if the token was seen
// before. The events are kept in memory, some 85 bytes each, as long as tokens
// live that they could hit; a request costs the same with a million of them.
//
// The feed is read at start and then followed, over a connection that stays
// open. Each of its documents is signed by a key of the issuer, says what it
// follows upon, and when it was signed. So a proxy that forges, drops, repeats,
// reorders, cuts off or holds back any of it is noticed; the feed is read again,
// and nothing that is known is forgotten. Setting a clock changes nothing.
//
// If there is no word from the issuer for StaleAfter, nobody knows what was
// revoked since. What happens then is the owner's to decide: see [StalePolicy].
// Unless told otherwise the API refuses, so that cutting it off from the issuer
// does not bring revoked tokens back. [Verifier.FeedState] is for metrics; the
// log has a line when it changes.
//
// # What it can't do
//
// Without a feed, a token that was revoked before it expires passes until it
// expires: its few minutes of life are the bound. With one, a request that was
// let in goes on to its end: who serves streams or WebSockets ends them when
// [Verifier.Watch] says so. A machine that slept learns of what it missed when it
// wakes, up to a second later. The allow-list of origins and the required header
// (see [Config]) keep other people's pages from using a visitor's browser; a
// program outside of a browser sends what it likes.
//
// The package needs the standard library and go-jose, nothing else.
package verify

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"sync"
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
	feed     *follower    // nil if none is followed
	metadata string       // URL of the protected resource's metadata
	body     []byte       // the metadata
	limits   *limits
	reports  *reporter // nil if the issuer is told nothing
	unsent   sync.Once // says so in the log
}

// New returns a Verifier and fetches the issuer's keys. It fails for a Config
// that can't be, never because the issuer is out of reach: then it goes on
// trying in the background, requests are answered 503 until it has the keys,
// and Ready says so. With Config.Feed it also reads that, for ten seconds at
// most. The work in the background ends with ctx.
func New(ctx context.Context, c Config) (*Verifier, error) {
	ownClock := c.Now != nil
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
	v.limits = newLimits(&v.config, ownClock)
	if v.limits.shared != nil {
		go v.limits.share(ctx)
	}
	if c.Reports != nil {
		v.reports = newReporter(ctx, &v.config)
		go v.reports.run()
	}
	v.keys = newKeySet(&v.config)
	v.metadata, v.body = v.describe()
	if err := v.keys.refresh(ctx); err != nil {
		c.Log.Error("the issuer's keys can't be fetched; trying again in the background", "issuer", c.Issuer, "error", err)
	}
	go v.keys.run(ctx)
	if c.Feed != nil {
		v.feed = newFollower(&v.config, v.keys)
		v.feed.start(ctx)
	}
	return v, nil
}

// Ready returns nil when tokens can be checked, or why not. A feed that can't
// be followed is a reason if [Feed].WhenStale is [Refuse].
func (v *Verifier) Ready() error {
	if _, err := v.keys.current(); err != nil {
		return err
	}
	if v.feed != nil && v.config.Feed.WhenStale == Refuse {
		return v.feed.ready()
	}
	return nil
}

// Verify checks an access token that came without a request. A token that is
// bound to a key is refused: there is no proof here. The error is an [*Error].
func (v *Verifier) Verify(ctx context.Context, token string) (*Token, error) {
	t, err := v.token(ctx, token, v.config.Now())
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
func (v *Verifier) token(ctx context.Context, token string, now time.Time) (*Token, error) {
	if len(token) > maxToken {
		return nil, refuse("the token has %d bytes, at most %d are expected", len(token), maxToken)
	}
	keys, err := v.keys.current()
	if err != nil {
		return nil, &Error{Code: "temporarily_unavailable", Description: "The issuer's keys are not known yet.", Status: http.StatusServiceUnavailable, Cause: err}
	}
	sum := sha256.Sum256([]byte(token))
	e := v.seen.get(sum)
	if e != nil && keys.byID[e.key.id] == e.key {
		if err := v.timely(e.token, now); err != nil {
			return nil, err
		}
	} else {
		t, key, err := v.check(ctx, keys, token, now)
		if err != nil {
			return nil, err
		}
		e = &entry{token: t, key: key}
		v.seen.put(sum, e, now)
	}
	if v.feed != nil {
		if err := v.feed.allow(ctx, e, sum, token); err != nil {
			return nil, err
		}
	}
	return e.token, nil
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
	t.keyID = k.id
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
