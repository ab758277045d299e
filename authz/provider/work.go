package provider

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/ory/fosite"

	"github.com/solegate/solegate/authz/oauth"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// work is one request's unit of work: what fosite's dozen storage calls read
// and write. It is read from the store once and committed once.
type work struct {
	provider *Provider
	now      time.Time
	client   clients.Client

	// of an authorization request
	authorization *Authorization
	grant         storage.Grant // to create

	// of a token request
	form       url.Values
	standing   *storage.Standing // what was read
	generation uint64            // of the refresh token that was presented
	redeem     bool              // fosite invalidated the code
	rotate     bool              // fosite rotated the refresh token
	announced  bool              // the APIs were told that the grant ends
	scope      []string          // of this access token: the grant's, or less
	audience   string            // of this access token
	jkt        string            // of the key that was proved, or empty

	accessExpires time.Time
	idToken       string
}

type workKey struct{}

func workOf(ctx context.Context) *work { return ctx.Value(workKey{}).(*work) }

// Answers to a bad code or refresh token. One text for every reason: the log
// has the reason, and a guesser learns nothing (RFC 6749 §5.2).
const (
	badCode    = "The authorization code is invalid, expired, used or was issued to another client."
	badRefresh = "The refresh token is invalid, expired, revoked or was issued to another client."
)

// unavailable says that the store could not do it; the client may try again.
func unavailable(err error) error {
	return &oauth.Error{Code: oauth.TemporarilyUnavailable, Description: "The server can't do this now; try again.", Cause: err}
}

// read reads the grant's standing once per request.
func (w *work) read(ctx context.Context, id storage.GrantID, refusal string) (*storage.Standing, error) {
	if w.standing != nil {
		return w.standing, nil
	}
	st, err := w.provider.Grants.Standing(ctx, id, w.client.ID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, oauth.Errorf(oauth.InvalidGrant, refusal, "no grant %s", id)
	} else if err != nil {
		return nil, unavailable(err)
	}
	if st.Grant.Client != w.client.ID {
		// Not revoked: whoever merely saw it could end another client's grant.
		return nil, oauth.Errorf(oauth.InvalidGrant, refusal, "grant %s is client %q's, presented by %q", id, st.Grant.Client, w.client.ID)
	}
	if st.ClientVersion != w.client.Version {
		return nil, ErrClientChanged
	}
	w.standing = &st
	return w.standing, nil
}

// code returns the standing of the grant whose code the request presents.
func (w *work) code(ctx context.Context) (*storage.Standing, error) {
	id, tag, ok := parseCode(w.form.Get("code"))
	if !ok {
		return nil, oauth.Errorf(oauth.InvalidGrant, badCode, "malformed code")
	}
	st, err := w.read(ctx, id, badCode)
	if err != nil {
		return nil, err
	}
	if !w.provider.isCode(st.Grant, tag) {
		return nil, oauth.Errorf(oauth.InvalidGrant, badCode, "code of grant %s has a wrong tag", id)
	}
	if st.Grant.CodeChallenge == "" && !w.client.MayOmitPKCE() {
		return nil, oauth.Errorf(oauth.InvalidGrant, badCode, "grant %s has no code challenge, which client %s may not omit any more", id, w.client.ID)
	}
	return st, nil
}

// bound refuses a request that does not prove the key that the grant is bound
// to: the code's (RFC 9449 §10), and a public client's family (§5). A public
// client's family that began without a key never gets one: each refresh token
// that is issued with a proof must be bound to its key, and whoever stole the
// one before would choose it. What a confidential client holds is bound by its
// credential, so it may come with another key, but never with none: that would
// turn what is bound into bearer tokens. Nothing is consumed.
func (w *work) bound(refusal string) error {
	g := w.standing.Grant
	code := w.form.Get("grant_type") == oauth.AuthorizationCode
	switch {
	case g.JKT == "" && w.jkt != "" && !code && !w.client.Confidential():
		return oauth.Errorf(oauth.InvalidGrant, refusal, "grant %s of client %s is bound to no key, and there is a proof", g.ID, w.client.ID)
	case g.JKT == "" || g.JKT == w.jkt:
		return nil
	case w.jkt == "":
		return oauth.Errorf(oauth.InvalidDPoPProof, "A DPoP proof is required.", "grant %s is bound to a key, and there is no proof", g.ID)
	case code || !w.client.Confidential():
		return oauth.Errorf(oauth.InvalidGrant, refusal, "grant %s is bound to another key", g.ID)
	}
	return nil
}

func (w *work) tokenType() string {
	if w.jkt != "" {
		return "DPoP" // RFC 9449 §5
	}
	return "Bearer"
}

// redeemable refuses a code that is spent or dead. A spent one revokes the
// grant: everybody who can present it twice has the verifier, too. The key is
// not asked for then: a code that was bound to none is bound to whose key came
// first, and that may have been the thief's.
func (w *work) redeemable(ctx context.Context) (*storage.Standing, error) {
	st, err := w.code(ctx)
	if err != nil {
		return nil, err
	}
	if !st.Grant.RedeemedAt.IsZero() {
		if err := w.announce(ctx, storage.ReasonCodeReuse); err != nil {
			return nil, err
		}
		return nil, w.spend(ctx)
	}
	if err := w.bound(badCode); err != nil {
		return nil, err
	}
	if err := revocation.Live(*st, w.client, w.now); err != nil {
		return nil, oauth.Errorf(oauth.InvalidGrant, badCode, "grant %s: %w", st.Grant.ID, err)
	}
	if !w.client.HasRedirectURI(string(st.Grant.RedirectURI)) {
		return nil, oauth.Errorf(oauth.InvalidGrant, badCode, "grant %s: its redirect URI is no longer registered", st.Grant.ID)
	}
	return st, nil
}

// refreshable returns the standing of the grant whose refresh token the
// request presents, if the token may be used.
func (w *work) refreshable(ctx context.Context) (*storage.Standing, error) {
	id, generation, tag, ok := parseRefreshToken(w.form.Get("refresh_token"))
	if !ok {
		return nil, oauth.Errorf(oauth.InvalidGrant, badRefresh, "malformed refresh token")
	}
	st, err := w.read(ctx, id, badRefresh)
	if err != nil {
		return nil, err
	}
	g := st.Grant
	if !w.provider.isRefreshToken(g, generation, tag) || g.RedeemedAt.IsZero() {
		return nil, oauth.Errorf(oauth.InvalidGrant, badRefresh, "refresh token of grant %s was never issued", id)
	}
	w.generation = generation
	if err := revocation.Live(*st, w.client, w.now); err != nil {
		if errors.Is(err, revocation.ErrGrantRevoked) && g.RevokedFor == storage.ReasonRefreshReuse {
			// Perhaps by a process that died before it told the APIs.
			if err := w.announce(ctx, g.RevokedFor); err != nil {
				return nil, err
			}
		}
		return nil, oauth.Errorf(oauth.InvalidGrant, badRefresh, "grant %s: %w", id, err)
	}
	key := w.bound(badRefresh)
	if generation == g.Generation {
		return st, key
	}
	if again := generation+1 == g.Generation && w.now.Sub(g.RotatedAt) <= w.provider.RefreshGrace; again && (key == nil || g.JKT == "") {
		return st, key
	} else if again {
		// Within the grace window the same client asks again. With another
		// key it is not the same one: the token was stolen.
		if err := w.provider.Revoker.EndGrant(ctx, g, storage.ReasonRefreshReuse); err != nil {
			return nil, unavailable(err)
		}
		return nil, key
	}
	// The store decides, atomically, and revokes the family; to sign tokens
	// first would be work for a thief. The APIs are told before it does.
	if generation < g.Generation {
		if err := w.announce(ctx, storage.ReasonRefreshReuse); err != nil {
			return nil, err
		}
	}
	return nil, w.spend(ctx)
}

// commit makes what fosite did count: the code is spent, or the refresh token
// rotated, in one atomic step.
func (w *work) commit(ctx context.Context) error {
	if w.redeem || w.rotate {
		return w.spend(ctx)
	}
	if w.form.Get("grant_type") == oauth.ClientCredentials {
		return nil // nothing is used up, and the token is not stored
	}
	return &oauth.Error{Code: oauth.ServerError, Description: "The server met an unexpected condition.",
		Cause: errors.New("tokens were made but neither a code nor a refresh token was used")}
}

// spend uses up the code or the refresh token that the request presents.
func (w *work) spend(ctx context.Context) error {
	p, g := w.provider, w.standing.Grant
	var err error
	refusal := badRefresh
	if w.form.Get("grant_type") == oauth.AuthorizationCode {
		refusal = badCode
		r := storage.Redemption{Grant: g.ID, At: w.now, Expires: w.accessExpires, JKT: w.jkt}
		if w.refreshTokenGranted() {
			r.Expires = w.familyExpires()
			r.IdleExpires = earlier(w.now.Add(w.refreshIdle()), r.Expires)
		} else if w.client.BackchannelLogoutURI != "" {
			// Nothing can be had of it any more, but it says who is to be
			// told when the session ends.
			r.Expires = w.standing.Session.Expires
		}
		err = p.Grants.Redeem(ctx, r)
	} else {
		r := storage.Rotation{
			Grant: g.ID, From: w.generation, At: w.now, Grace: p.RefreshGrace,
			IdleExpires: earlier(w.now.Add(w.refreshIdle()), g.Expires),
			Keep:        w.client.Confidential(),
		}
		if u := w.standing.User; revocation.Throttled(u, w.now) {
			r.OnlyUntil = u.Throttle.Next(w.now)
		}
		err = p.Grants.Rotate(ctx, r)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, storage.ErrTooSoon):
		return oauth.TooSoon(w.standing.User.Throttle.Next(w.now).Sub(w.now), fmt.Errorf("refresh of grant %s: %w: the user is throttled by rule %q", g.ID, err, w.standing.User.Throttle.Rule))
	case errors.Is(err, storage.ErrReused):
		reason := storage.ReasonRefreshReuse
		if refusal == badCode {
			reason = storage.ReasonCodeReuse
		}
		p.Revoker.RecordReuse(ctx, g, reason)
		if !w.announced {
			if err := w.announce(ctx, reason); err != nil {
				return err
			}
		}
		return oauth.Errorf(oauth.InvalidGrant, refusal, "grant %s: %s", g.ID, reason)
	case errors.Is(err, storage.ErrNotFound), errors.Is(err, storage.ErrExpired), errors.Is(err, storage.ErrRevoked):
		return oauth.Errorf(oauth.InvalidGrant, refusal, "grant %s: %w", g.ID, err)
	}
	return unavailable(err)
}

// announce tells the APIs that the grant ends because of what was presented. It
// comes before the store is asked wherever the reuse can be seen in what was
// read; where only the store sees it, because two came at once, right after.
func (w *work) announce(ctx context.Context, reason string) error {
	if err := w.provider.Revoker.AnnounceGrant(ctx, w.standing.Grant, reason); err != nil {
		return unavailable(err)
	}
	w.announced = true
	return nil
}

func (w *work) refreshTokenGranted() bool {
	return oauth.Has(w.standing.Grant.Scope, oauth.OfflineAccess) && w.client.HasGrantType(oauth.RefreshToken)
}

func (w *work) refreshIdle() time.Duration {
	return shorter(w.provider.RefreshIdle, w.client.RefreshIdle)
}

// familyExpires is when the family that starts now ends, however it is used:
// no later than the login session that it came from (RFC 10017).
func (w *work) familyExpires() time.Time {
	return earlier(w.now.Add(shorter(w.provider.RefreshLife, w.client.RefreshLife)), w.standing.Session.Expires)
}

// requester is the grant as fosite wants to see it.
func (w *work) requester(g storage.Grant) fosite.Requester {
	form := url.Values{
		"code_challenge":        {g.CodeChallenge},
		"code_challenge_method": {"S256"},
	}
	// OAuth 2.1 §4.1.3: the token request may leave redirect_uri out; if it
	// is there it must be the same.
	if w.form.Get("redirect_uri") != "" {
		form.Set("redirect_uri", string(g.RedirectURI))
	}
	return &fosite.Request{
		ID: string(g.ID), RequestedAt: g.CreatedAt, Client: client{w.client}, Form: form, Session: session{},
		// No audience: narrow decides it, with the error that RFC 8707 asks for.
		RequestedScope: g.Scope, GrantedScope: g.Scope,
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// shorter is the client's own life if it has one and it is shorter.
func shorter(server, client time.Duration) time.Duration {
	if client > 0 && client < server {
		return client
	}
	return server
}
