package authz_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/storage/sqlite"
)

// TestAPIFollowsTheServer: the verifier that APIs use, at the server as it is.
func TestAPIFollowsTheServer(t *testing.T) {
	s := authztest.New(t, withStatusList, func(c *authz.Config) { c.Now = time.Now })
	stop := run(t, s)
	registered := registerAPI(s, "api", authztest.Audience)
	follow := func() *verify.Verifier {
		v, err := verify.New(t.Context(), verify.Config{
			Issuer: s.URL, Audience: authztest.Audience, Development: true,
			Credential: &verify.Credential{ID: registered.id, Secret: registered.secret}, Feed: &verify.Feed{},
		})
		check(t, err)
		return v
	}
	v := follow()
	// await asks until the token is refused, and says how long that took.
	await := func(v *verify.Verifier, token string) time.Duration {
		t.Helper()
		began := time.Now()
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for {
			_, err := v.Verify(t.Context(), token)
			took := time.Since(began)
			if err != nil && strings.Contains(err.Error(), "invalid_token") {
				return took
			}
			if took > 5*time.Second {
				t.Fatalf("%v\n%+v", err, v.FeedState())
			}
			<-ticker.C
		}
	}
	passes := func(v *verify.Verifier, token string) {
		t.Helper()
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Fatalf("%v\n%+v", err, v.FeedState())
		}
	}
	other, err := sqlite.Open(t.Context(), sqlite.Config{Path: s.Path})
	check(t, err)
	defer other.Close()
	operator := authztest.Operator(other, time.Now)
	alice := s.User("alice").ID
	var took []time.Duration
	var dead []string
	for round := range 6 {
		token := s.SignIn("alice").AccessToken
		passes(v, token)
		switch round % 3 {
		case 0:
			check(t, operator.RevokeUser(t.Context(), alice, "test"))
		case 1:
			check(t, operator.BlockUser(t.Context(), alice, "test", time.Time{}))
			check(t, operator.UnblockUser(t.Context(), alice))
		case 2:
			if got := s.PostForm("/revoke", url.Values{"client_id": {"spa"}, "token": {token}}); got.Status != 200 {
				t.Fatalf("%d", got.Status)
			}
		}
		took = append(took, await(v, token))
		dead = append(dead, token)
	}
	// What a client got for itself ends alone, and as quickly.
	backend, signer := backend(t, s, nil)
	for range 3 {
		now := time.Now().Unix()
		asked := map[string]any{"iat": now, "exp": now + 60}
		own := func() string {
			return postWith(t, s, "/token", signer.Sign(url.Values{"grant_type": {"client_credentials"}}, backend.ID, asked)).AccessToken
		}
		token, other := own(), own()
		passes(v, token)
		if got := postWith(t, s, "/revoke", signer.Sign(url.Values{"token": {token}}, backend.ID, asked)); got.Status != 200 {
			t.Fatalf("%+v", got)
		}
		took = append(took, await(v, token))
		dead = append(dead, token)
		passes(v, other)
	}
	slices.Sort(took)
	t.Log("median", took[len(took)/2], "most", took[len(took)-1])
	if took[len(took)-1] > time.Second {
		t.Errorf("it took %s", took[len(took)-1])
	}
	fresh := s.SignIn("alice").AccessToken
	passes(v, fresh)
	late := follow()
	passes(late, fresh)
	for _, token := range dead {
		await(late, token)
	}
	// A key that has leaked: what it signed is refused at once, and the feed
	// goes on by the next one.
	check(t, operator.RevokeKey(t.Context(), s.Ring, s.Ring.List()[0].ID, "leaked"))
	for _, api := range []*verify.Verifier{v, late} {
		await(api, fresh)
	}
	next := s.SignIn("alice").AccessToken
	for _, api := range []*verify.Verifier{v, late} {
		passes(api, next)
	}
	check(t, operator.RevokeUser(t.Context(), alice, "test"))
	for _, api := range []*verify.Verifier{v, late} {
		t.Log("after the key, in", await(api, next))
	}
	// The server restarts, and something ends while nobody serves the feed.
	away := s.SignIn("alice").AccessToken
	passes(v, away)
	stop()
	check(t, operator.RevokeUser(t.Context(), alice, "test"))
	run(t, s)
	for _, api := range []*verify.Verifier{v, late} {
		t.Log("after a restart, in", await(api, away))
	}
	last := s.SignIn("alice").AccessToken
	_, err = operator.RevokeAll(t.Context(), "test")
	check(t, err)
	for _, api := range []*verify.Verifier{v, late} {
		await(api, last)
	}
}
