package authz_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// TestDescribeToken: an operator is told what the network is not: why a token
// is dead.
func TestDescribeToken(t *testing.T) {
	for name, test := range map[string]struct {
		do             func(*testing.T, *authztest.Server, authztest.Tokens)
		reason, detail string
	}{
		"nothing": {func(*testing.T, *authztest.Server, authztest.Tokens) {}, "", ""},
		"expired": {func(_ *testing.T, s *authztest.Server, _ authztest.Tokens) { s.Clock.Advance(5 * time.Minute) }, "it has expired", ""},
		"blocked": {func(t *testing.T, s *authztest.Server, _ authztest.Tokens) {
			check(t, s.Revoker.BlockUser(t.Context(), s.User("alice").ID, "too much", time.Time{}))
		}, "the user is blocked", "too much"},
		"suspended": {func(t *testing.T, s *authztest.Server, _ authztest.Tokens) {
			check(t, s.Revoker.SuspendUser(t.Context(), s.User("alice").ID, "hammering", "limit exceeded", time.Time{}))
		}, "the user is suspended", "limit exceeded, by rule hammering"},
		"blocked and then not": {func(t *testing.T, s *authztest.Server, _ authztest.Tokens) {
			check(t, s.Revoker.BlockUser(t.Context(), s.User("alice").ID, "too much", time.Time{}))
			check(t, s.Revoker.UnblockUser(t.Context(), s.User("alice").ID))
		}, "the user's grants were revoked", ""},
		"removed": {func(t *testing.T, s *authztest.Server, _ authztest.Tokens) {
			check(t, s.Revoker.RemoveUser(t.Context(), s.User("alice").ID))
		}, "the user was removed", ""},
		"signed out": {func(t *testing.T, s *authztest.Server, tokens authztest.Tokens) {
			check(t, s.Revoker.EndSession(t.Context(), storage.SessionID(authztest.Claims(t, tokens.AccessToken)["sid"].(string)), "test"))
		}, "the login session has ended", ""},
		"revoked": {func(t *testing.T, s *authztest.Server, tokens authztest.Tokens) {
			s.PostForm("/revoke", url.Values{"client_id": {"spa"}, "token": {tokens.AccessToken}})
		}, "the grant was revoked", "revoked by the client"},
		"refresh token reused": {func(t *testing.T, s *authztest.Server, tokens authztest.Tokens) {
			s.Refresh(tokens.RefreshToken)
			s.Clock.Advance(11 * time.Second)
			s.Refresh(tokens.RefreshToken)
		}, "the grant was revoked", storage.ReasonRefreshReuse},
		"client disabled": {func(t *testing.T, s *authztest.Server, _ authztest.Tokens) {
			check(t, s.Revoker.DisableClient(t.Context(), "spa"))
		}, "the client is disabled", ""},
		"client enabled again": {func(t *testing.T, s *authztest.Server, _ authztest.Tokens) {
			check(t, s.Revoker.DisableClient(t.Context(), "spa"))
			check(t, s.Revoker.EnableClient(t.Context(), "spa"))
		}, "the client was disabled since", ""},
		"client removed": {func(t *testing.T, s *authztest.Server, _ authztest.Tokens) {
			check(t, s.Revoker.RemoveClient(t.Context(), "spa"))
		}, "the client was removed", ""},
		"client must prove": {func(_ *testing.T, s *authztest.Server, _ authztest.Tokens) {
			s.UpdateClient(func(c *clients.Client) { c.RequireDPoP = true })
		}, "it is bound to no key, and client spa must prove one", ""},
		"key revoked": {func(t *testing.T, s *authztest.Server, _ authztest.Tokens) {
			check(t, s.Revoker.RevokeKey(t.Context(), s.Ring, s.Ring.Signer("ES256"), "leaked"))
		}, "its key was revoked", "key "},
		"everything": {func(t *testing.T, s *authztest.Server, _ authztest.Tokens) {
			check(t, s.Store.AppendEvents(t.Context(), []storage.Event{{ID: "e", Kind: storage.EventAll, NotBefore: s.Clock.Now(), Until: s.Clock.Now().Add(time.Hour)}}, s.Clock.Now()))
		}, "all tokens issued until ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := authztest.New(t)
			tokens := s.SignIn("alice")
			test.do(t, s, tokens)
			got, err := authz.DescribeToken(t.Context(), describing(s), tokens.AccessToken)
			check(t, err)
			if got.Active != (test.reason == "") || !strings.HasPrefix(got.Reason, test.reason) || !strings.HasPrefix(got.Detail, test.detail) || test.detail == "" && got.Detail != "" {
				t.Errorf("got %+v, %q and %q expected", got, test.reason, test.detail)
			}
			claims := authztest.Claims(t, tokens.AccessToken)
			if name != "key revoked" && (got.ID != claims["jti"] || got.Client != "spa" || string(got.UserID) != claims["sub"] || string(got.Grant) != claims["grant_id"] || got.ExpiresAt.Sub(got.IssuedAt) != 5*time.Minute) {
				t.Errorf("got %+v of %v", got, claims)
			}
			if got.Active && got.User != "alice" {
				t.Errorf("it is %q's", got.User)
			}
		})
	}
}

func describing(s *authztest.Server) authz.Config {
	return authz.Config{Issuer: s.URL, Development: true, Store: s.Store, Ring: s.Ring, Now: s.Clock.Now}
}

// TestDescribeOtherTokens: what is no access token of this server is called
// what it is, and none of it is repeated.
func TestDescribeOtherTokens(t *testing.T) {
	s, other := authztest.New(t), authztest.New(t)
	tokens := s.SignIn("alice")
	good := tokens.AccessToken
	at := strings.LastIndexByte(good, '.') - 3
	for reason, token := range map[string]string{
		"its signature is wrong":       good[:at] + strings.Map(func(r rune) rune { return 'A' + (r+1)%26 }, good[at:at+1]) + good[at+1:],
		"its key is unknown":           other.SignIn("alice").AccessToken,
		"it is a refresh token":        tokens.RefreshToken,
		"it is an authorization code":  s.Browser().Code("alice"),
		"it is no access token":        tokens.IDToken,
		"it is no token of this serve": "seven green otters",
	} {
		got, err := authz.DescribeToken(t.Context(), describing(s), token)
		check(t, err)
		if got.Active || !strings.HasPrefix(got.Reason, reason) || got.ID != "" || strings.Contains(got.Reason+got.Detail, token[len(token)-8:]) {
			t.Errorf("%s: %+v", reason, got)
		}
	}
	elsewhere := describing(s)
	elsewhere.Issuer = "https://login.example.com"
	if got, err := authz.DescribeToken(t.Context(), elsewhere, good); err != nil || got.Active || got.Reason != "it is another issuer's" {
		t.Errorf("%+v, %v", got, err)
	}
	elsewhere.Issuer = "" // of any
	if got, err := authz.DescribeToken(t.Context(), elsewhere, good); err != nil || !got.Active {
		t.Errorf("%+v, %v", got, err)
	}
	// A client's own.
	c, signer := backend(t, s, nil)
	own := postWith(t, s, "/token", signer.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, nil)).AccessToken
	if got, err := authz.DescribeToken(t.Context(), describing(s), own); err != nil || !got.Active || got.UserID != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if got := postWith(t, s, "/revoke", signer.Sign(url.Values{"token": {own}}, c.ID, nil)); got.Status != http.StatusOK {
		t.Fatalf("%+v", got)
	}
	if got, err := authz.DescribeToken(t.Context(), describing(s), own); err != nil || got.Active || got.Reason != "it was revoked by its client" {
		t.Errorf("%+v, %v", got, err)
	}
	// A store that is down is an error, and no answer.
	s.Store.Close()
	if got, err := authz.DescribeToken(t.Context(), describing(s), good); err == nil || got != (authz.TokenStatus{}) {
		t.Errorf("%+v, %v", got, err)
	}
}
