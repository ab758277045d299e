package attacks

import (
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
)

// B12 for a confidential client: its credential does not make a code good twice.
func TestB12BackendsCodeRace(t *testing.T) {
	s := authztest.New(t)
	active := introspecting(t, s)
	c, signer := backend(s, nil)
	servers := []*authztest.Server{s, s.Replica()}
	code := s.Browser().Code("alice", ofBackend()...)
	redeem := func(server *authztest.Server) authztest.Tokens {
		return post(t, server, "/token", signer.Sign(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {authztest.Verifier}}, c.ID, nil))
	}
	var mu sync.Mutex
	var won []authztest.Tokens
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			if got := redeem(servers[i%2]); got.Status == http.StatusOK {
				mu.Lock()
				won = append(won, got)
				mu.Unlock()
			} else if got.Error != "invalid_grant" {
				t.Errorf("a loser got %+v", got)
			}
		})
	}
	all.Wait()
	if len(won) != 1 || active(won[0].AccessToken) || len(liveGrants(t, s)) != 0 {
		t.Fatalf("%d of 50 won, %d grants live", len(won), len(liveGrants(t, s)))
	}
	if got := post(t, s, "/token", signer.Sign(refreshing(won[0].RefreshToken), c.ID, nil)); got.Error != "invalid_grant" {
		t.Errorf("the winner's refresh token: %+v", got)
	}
}

// D24 for a confidential client: what ends it, ends what it holds, at once,
// though its refresh token never rotates.
func TestD24BackendsRefreshThatMayNot(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*testing.T, *authztest.Server, *clients.Client)
		code string
	}{
		"another key": {func(t *testing.T, s *authztest.Server, c *clients.Client) {
			c.JWKS = s.Signer().JWKS
			check(t, s.Store.UpdateClient(t.Context(), *c))
		}, "invalid_client"},
		"public now": {func(t *testing.T, s *authztest.Server, c *clients.Client) {
			c.AuthMethod, c.JWKS, c.GrantTypes = clients.None, nil, nil
			check(t, s.Store.UpdateClient(t.Context(), *c))
		}, "invalid_client"},
		"no refresh any more": {func(t *testing.T, s *authztest.Server, c *clients.Client) {
			c.GrantTypes = []string{"authorization_code"}
			check(t, s.Store.UpdateClient(t.Context(), *c))
		}, "unauthorized_client"},
		"scope taken away": {func(t *testing.T, s *authztest.Server, c *clients.Client) {
			c.Scopes = []string{"openid", "offline_access"}
			check(t, s.Store.UpdateClient(t.Context(), *c))
		}, "invalid_scope"},
		"audience taken away": {func(t *testing.T, s *authztest.Server, c *clients.Client) {
			c.Audiences = []string{"https://reports.example.com"}
			check(t, s.Store.UpdateClient(t.Context(), *c))
		}, "invalid_target"},
		"must prove a key": {func(t *testing.T, s *authztest.Server, c *clients.Client) {
			c.RequireDPoP = true
			check(t, s.Store.UpdateClient(t.Context(), *c))
		}, "invalid_dpop_proof"},
		"disabled and enabled": {func(t *testing.T, s *authztest.Server, c *clients.Client) {
			check(t, s.Revoker.DisableClient(t.Context(), c.ID))
			check(t, s.Revoker.EnableClient(t.Context(), c.ID))
		}, "invalid_grant"},
		"password changed": {func(t *testing.T, s *authztest.Server, _ *clients.Client) {
			check(t, s.Revoker.SetPassword(t.Context(), s.User("alice").ID, "x"))
		}, "invalid_grant"},
		"user blocked": {func(t *testing.T, s *authztest.Server, _ *clients.Client) {
			check(t, s.Revoker.BlockUser(t.Context(), s.User("alice").ID, "abuse", time.Time{}))
		}, "invalid_grant"},
		"user suspended": {func(t *testing.T, s *authztest.Server, _ *clients.Client) {
			check(t, s.Revoker.SuspendUser(t.Context(), s.User("alice").ID, "flood", "abuse", time.Time{}))
		}, "invalid_grant"},
		"idle life over": {func(_ *testing.T, s *authztest.Server, _ *clients.Client) { s.Clock.Advance(24 * time.Hour) }, "invalid_grant"},
	} {
		s := authztest.New(t)
		registered, signer := backend(s, nil)
		first := post(t, s, "/token", signer.Sign(url.Values{"grant_type": {"authorization_code"}, "code": {s.Browser().Code("alice", ofBackend()...)}, "code_verifier": {authztest.Verifier}}, registered.ID, nil))
		refresh := func() authztest.Tokens {
			return post(t, s, "/token", signer.Sign(refreshing(first.RefreshToken), registered.ID, nil))
		}
		if got := refresh(); got.Status != http.StatusOK || got.RefreshToken != first.RefreshToken {
			t.Fatalf("the honest refresh: %+v", got)
		}
		now, err := s.Store.Client(t.Context(), registered.ID)
		check(t, err)
		c.end(t, s, &now) // in the same second, while the server remembers the client
		if got := refresh(); got.Error != c.code || got.AccessToken != "" {
			t.Errorf("%s: %+v, %s expected", name, got, c.code)
		}
	}
}

// D24: a confidential client's family ends, too, however often it is used.
func TestD24BackendsAbsoluteLife(t *testing.T) {
	s := authztest.New(t)
	c, signer := backend(s, nil)
	first := post(t, s, "/token", signer.Sign(url.Values{"grant_type": {"authorization_code"}, "code": {s.Browser().Code("alice", ofBackend()...)}, "code_verifier": {authztest.Verifier}}, c.ID, nil))
	refresh := func() authztest.Tokens {
		return post(t, s, "/token", signer.Sign(refreshing(first.RefreshToken), c.ID, nil))
	}
	for day := range 7 {
		s.Clock.Advance(23 * time.Hour)
		if got := refresh(); got.Status != http.StatusOK {
			t.Fatalf("day %d: %+v", day, got)
		}
	}
	s.Clock.Advance(7 * time.Hour)
	if got := refresh(); got.Error != "invalid_grant" {
		t.Errorf("after seven days of use: %+v", got)
	}
}

// C19 behind a proxy that ends TLS: the public address is https, the server is
// reached by http under another name.
func TestC19BehindAProxyThatEndsTLS(t *testing.T) {
	const public = "https://login.example.com"
	s := authztest.New(t, func(c *authz.Config) { c.Issuer, c.Development = public, false })
	s.UpdateClient(func(c *clients.Client) { c.Development = false })
	key := s.Key()
	push := func(htu string) authztest.Tokens {
		return post(t, s, "/par", s.Authorization(), "DPoP", key.Proof("POST", htu, nil))
	}
	for _, htu := range []string{public + "/par", public + ":443/par", "HTTPS://LOGIN.example.com/par"} {
		if got := push(htu); got.Status != http.StatusCreated {
			t.Errorf("htu %s: %+v", htu, got)
		}
	}
	for _, htu := range []string{s.Address + "/par", "http://login.example.com/par", public + ":80/par", public + ":8443/par", public + "/PAR", public + "/par/", public + "/", "https://login.example.com.evil.net/par", "https://evil.net/par"} {
		if got := push(htu); got.Error != "invalid_dpop_proof" {
			t.Errorf("htu %s: %+v", htu, got)
		}
	}
}

// TestD24EndsWhileTokensAreAskedFor: whatever is handed out while something
// ends is dead afterwards.
func TestD24EndsWhileTokensAreAskedFor(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *authztest.Server) error{
		"user blocked": func(t *testing.T, s *authztest.Server) error {
			return s.Revoker.BlockUser(t.Context(), s.User("alice").ID, "abuse", time.Time{})
		},
		"user suspended": func(t *testing.T, s *authztest.Server) error {
			return s.Revoker.SuspendUser(t.Context(), s.User("alice").ID, "flood", "abuse", time.Time{})
		},
		"session ended": func(t *testing.T, s *authztest.Server) error {
			return s.Revoker.EndSession(t.Context(), grantsOf(t, s)[0].Session, "x")
		},
		"grant revoked": func(t *testing.T, s *authztest.Server) error {
			return s.Revoker.RevokeGrant(t.Context(), grantsOf(t, s)[0].ID, "x")
		},
		"client disabled": func(t *testing.T, s *authztest.Server) error { return s.Revoker.DisableClient(t.Context(), "spa") },
		"its own tokens":  func(t *testing.T, s *authztest.Server) error { return s.Revoker.DisableClient(t.Context(), "backend") },
	} {
		s := authztest.New(t)
		active := introspecting(t, s)
		c, signer := backend(s, nil)
		key := s.Key()
		apps := []*authztest.Server{s.With(key), s.Replica().With(key)}
		first := apps[0].SignIn("alice")
		ask := func(i int) authztest.Tokens {
			if name == "its own tokens" {
				return post(t, apps[i%2], "/token", signer.Sign(url.Values{"grant_type": {"client_credentials"}}, c.ID, nil))
			}
			return apps[i%2].Refresh(first.RefreshToken)
		}
		if got := ask(0); got.Status != http.StatusOK || !active(got.AccessToken) {
			t.Fatalf("%s: the honest request: %+v", name, got)
		}
		var mu sync.Mutex
		got := []authztest.Tokens{first}
		var all sync.WaitGroup
		for i := range 30 {
			all.Go(func() {
				if i == 15 {
					if err := end(t, s); err != nil {
						t.Error(err)
					}
					return
				}
				if tokens := ask(i); tokens.Status == http.StatusOK {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, tokens)
				}
			})
		}
		all.Wait()
		for _, tokens := range got {
			if name == "its own tokens" && tokens.RefreshToken != "" {
				continue // alice's, of the other client
			}
			if active(tokens.AccessToken) {
				t.Errorf("%s: an access token lives on", name)
			}
			if tokens.RefreshToken != "" && apps[0].Refresh(tokens.RefreshToken).Status == http.StatusOK {
				t.Errorf("%s: a refresh token lives on", name)
			}
		}
	}
}
