package attacks

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/storage"
)

// D22: the theft of a refresh token shows when it is used twice, and all access
// tokens of the stolen family end at every API, too, within a second. Nothing
// else of that person's ends.
func TestD22ReuseEndsAtTheAPI(t *testing.T) {
	onEachStore(t, func(t *testing.T, s *authztest.Server) {
		credential := registerAPI(t, s)
		apis := []*api{follow(t, s, credential, nil), follow(t, s, credential, nil)}
		elsewhere := s.SignIn("alice") // another device
		first := s.SignIn("alice")
		thiefs := s.Refresh(first.RefreshToken)
		for _, a := range apis {
			for _, tokens := range []authztest.Tokens{elsewhere, first, thiefs} {
				if tokens.Status != http.StatusOK || a.answers(tokens.AccessToken) != http.StatusOK {
					t.Fatalf("the first use: %+v", tokens)
				}
			}
		}
		before := leftBehind(t, s)
		s.Clock.Advance(11 * time.Second)
		if got := s.Refresh(first.RefreshToken); got.Error != "invalid_grant" || got.AccessToken != "" {
			t.Fatalf("the second use: %+v", got)
		}
		for i, a := range apis {
			if !a.refusesWithin(thiefs.AccessToken) || !a.refusesWithin(first.AccessToken) {
				t.Errorf("API %d accepts a token of the stolen family after a second", i)
			}
			if got := a.settles(elsewhere.AccessToken); got != http.StatusOK {
				t.Errorf("API %d answers the other device with %d", i, got)
			}
		}
		for _, token := range []string{first.RefreshToken, thiefs.RefreshToken} {
			if got := s.Refresh(token); got.Error != "invalid_grant" || got.AccessToken != "" {
				t.Errorf("afterwards: %+v", got)
			}
		}
		if after := leftBehind(t, s); after != before {
			t.Errorf("left behind are %+v, before were %+v", after, before)
		}
		live := liveGrants(t, s)
		if len(live) != 1 || string(live[0].ID) != authztest.Claims(t, elsewhere.AccessToken)["grant_id"] {
			t.Errorf("live grants %+v, the other device's expected", live)
		}
		for _, g := range grantsOf(t, s) {
			if !g.RevokedAt.IsZero() && (g.RevokedFor != storage.ReasonRefreshReuse || !strings.Contains(s.Log.String(), `"grant":"`+string(g.ID)+`"`)) {
				t.Errorf("grant %s was revoked for %q, and the audit log may not name it", g.ID, g.RevokedFor)
			}
		}
		if got := s.Refresh(elsewhere.RefreshToken); got.Status != http.StatusOK {
			t.Errorf("the other device: %+v", got)
		}

		// A code that is used twice.
		code := s.Browser().Code("alice")
		once := s.Redeem(code)
		if once.Status != http.StatusOK || apis[0].settles(once.AccessToken) != http.StatusOK {
			t.Fatalf("the first use of a code: %+v", once)
		}
		if got := s.Redeem(code); got.Error != "invalid_grant" || !apis[0].refusesWithin(once.AccessToken) || !apis[1].refusesWithin(once.AccessToken) {
			t.Errorf("the second use of a code: %+v, and the API accepts what the first one got", got)
		}
	})
}

// D22 for a family that is bound to a key: who has the token and not the key
// shows at once, within the grace window, too.
func TestD22TheftOfABoundFamilyEndsAtTheAPI(t *testing.T) {
	onEachStore(t, func(t *testing.T, s *authztest.Server) {
		a := follow(t, s, registerAPI(t, s), nil)
		key := s.Key()
		app, thief := s.With(key), s.With(s.Key())
		first := app.SignIn("alice")
		second := app.Refresh(first.RefreshToken)
		if second.Status != http.StatusOK || a.ask(second.AccessToken, key).StatusCode != http.StatusOK {
			t.Fatalf("the first use: %+v", second)
		}
		if got := thief.Refresh(first.RefreshToken); got.Status != http.StatusBadRequest || got.AccessToken != "" {
			t.Fatalf("the thief got %+v", got)
		}
		if !a.refusesBound(second.AccessToken, key) || !a.refusesBound(first.AccessToken, key) {
			t.Error("the API accepts a token of the stolen family after a second")
		}
		if got := app.Refresh(second.RefreshToken); got.Error != "invalid_grant" || len(liveGrants(t, s)) != 0 {
			t.Errorf("afterwards: %+v", got)
		}
	})
}

// What becomes of the family when a refresh was refused.
type becomes int

const (
	untouched becomes = iota // it goes on, and so do its access tokens
	ended                    // it is dead, and the API refuses its access tokens within a second
	expired                  // it is dead, and its access tokens have expired
	narrowed                 // it can't be refreshed, and its access tokens live out their minutes
)

// refusals are the refreshes that may not be, each after what makes it so.
var refusals = map[string]struct {
	end     func(*testing.T, *authztest.Server, storage.User) error
	form    []string
	code    string
	becomes becomes
}{
	"another client": {func(t *testing.T, s *authztest.Server, _ storage.User) error {
		c := s.Client
		c.ID = "other"
		return s.Store.CreateClient(t.Context(), c)
	}, []string{"client_id", "other"}, "invalid_grant", untouched},
	"wider scope":      {nil, []string{"scope", "openid notes:write"}, "invalid_scope", untouched},
	"another audience": {nil, []string{"resource", "https://accounts.example.com"}, "invalid_target", untouched},
	"after the idle life": {func(_ *testing.T, s *authztest.Server, _ storage.User) error {
		s.Clock.Advance(24*time.Hour + time.Second) // one of the servers is ahead
		return nil
	}, nil, "invalid_grant", expired},
	"after the absolute life": {func(_ *testing.T, s *authztest.Server, _ storage.User) error {
		s.Clock.Advance(7*24*time.Hour + time.Second)
		return nil
	}, nil, "invalid_grant", expired},
	"user blocked": {func(t *testing.T, s *authztest.Server, u storage.User) error {
		return s.Revoker.BlockUser(t.Context(), u.ID, "abuse", time.Time{})
	}, nil, "invalid_grant", ended},
	"user blocked for a time, which is over": {func(t *testing.T, s *authztest.Server, u storage.User) error {
		err := s.Revoker.BlockUser(t.Context(), u.ID, "abuse", s.Clock.Now().Add(2*time.Second))
		s.Clock.Advance(5 * time.Second)
		return err
	}, nil, "invalid_grant", ended},
	"user blocked and unblocked": {func(t *testing.T, s *authztest.Server, u storage.User) error {
		err := s.Revoker.BlockUser(t.Context(), u.ID, "abuse", time.Time{})
		if err == nil {
			err = s.Revoker.UnblockUser(t.Context(), u.ID)
		}
		return err
	}, nil, "invalid_grant", ended},
	"user suspended": {func(t *testing.T, s *authztest.Server, u storage.User) error {
		return s.Revoker.SuspendUser(t.Context(), u.ID, "flood", "abuse", time.Time{})
	}, nil, "invalid_grant", ended},
	"user suspended for a time, which is over": {func(t *testing.T, s *authztest.Server, u storage.User) error {
		err := s.Revoker.SuspendUser(t.Context(), u.ID, "flood", "abuse", s.Clock.Now().Add(2*time.Second))
		s.Clock.Advance(5 * time.Second)
		return err
	}, nil, "invalid_grant", ended},
	"user suspended, which was lifted": {func(t *testing.T, s *authztest.Server, u storage.User) error {
		err := s.Revoker.SuspendUser(t.Context(), u.ID, "flood", "abuse", time.Time{})
		if err == nil {
			err = s.Revoker.Lift(t.Context(), u.ID, "x")
		}
		return err
	}, nil, "invalid_grant", ended},
	"login demanded": {func(t *testing.T, s *authztest.Server, u storage.User) error {
		return s.Revoker.DemandLogin(t.Context(), u.ID, "flood", "abuse")
	}, nil, "invalid_grant", ended},
	"user revoked": {func(t *testing.T, s *authztest.Server, u storage.User) error {
		return s.Revoker.RevokeUser(t.Context(), u.ID, "x")
	}, nil, "invalid_grant", ended},
	"user removed": {func(t *testing.T, s *authztest.Server, u storage.User) error {
		return s.Revoker.RemoveUser(t.Context(), u.ID)
	}, nil, "invalid_grant", ended},
	"password changed": {func(t *testing.T, s *authztest.Server, u storage.User) error {
		return s.Revoker.SetPassword(t.Context(), u.ID, u.Password)
	}, nil, "invalid_grant", ended},
	"client disabled": {func(t *testing.T, s *authztest.Server, _ storage.User) error {
		return s.Revoker.DisableClient(t.Context(), "spa")
	}, nil, "invalid_client", ended},
	"client disabled and enabled": {func(t *testing.T, s *authztest.Server, _ storage.User) error {
		err := s.Revoker.DisableClient(t.Context(), "spa")
		if err == nil {
			err = s.Revoker.EnableClient(t.Context(), "spa")
		}
		return err
	}, nil, "invalid_grant", ended},
	"client removed": {func(t *testing.T, s *authztest.Server, _ storage.User) error {
		return s.Revoker.RemoveClient(t.Context(), "spa")
	}, nil, "invalid_client", ended},
	"audience taken away": {func(t *testing.T, s *authztest.Server, _ storage.User) error {
		before, err := s.Store.Client(t.Context(), "spa")
		check(t, err)
		after := before
		after.Audiences = []string{"https://reports.example.com"}
		_, err = s.Revoker.ChangeClient(t.Context(), before, after)
		return err
	}, nil, "invalid_target", narrowed},
	"session ended": {func(t *testing.T, s *authztest.Server, _ storage.User) error {
		return s.Revoker.EndSession(t.Context(), grantsOf(t, s)[0].Session, "x")
	}, nil, "invalid_grant", ended},
	"grant revoked": {func(t *testing.T, s *authztest.Server, _ storage.User) error {
		return s.Revoker.RevokeGrant(t.Context(), grantsOf(t, s)[0].ID, "x")
	}, nil, "invalid_grant", ended},
}

// D24: the refresh is refused, and whatever ended is refused by the API, too,
// within a second. A refusal by itself ends nothing.
func TestD24RefreshThatMayNot(t *testing.T) {
	for name, c := range refusals {
		t.Run(name, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, s *authztest.Server) {
				a := follow(t, s, registerAPI(t, s), nil)
				alice := s.User("alice")
				first := s.SignIn("alice")
				tokens := s.Refresh(first.RefreshToken)
				if tokens.Status != http.StatusOK || a.answers(first.AccessToken) != http.StatusOK || a.answers(tokens.AccessToken) != http.StatusOK {
					t.Fatalf("the honest refresh: %+v", tokens)
				}
				count := func() (n left) {
					grants, err := s.Store.ListGrants(t.Context(), alice.ID, storage.Page{Limit: 100})
					check(t, err)
					sessions, err := s.Store.ListSessions(t.Context(), alice.ID, storage.Page{Limit: 100})
					check(t, err)
					return left{len(grants), len(sessions)}
				}
				if c.end != nil {
					check(t, c.end(t, s, alice))
				}
				before := count()
				if c.becomes == ended && (!a.refusesWithin(tokens.AccessToken) || !a.refusesWithin(first.AccessToken)) {
					t.Error("the API accepts an access token after a second")
				}
				if got := s.Refresh(tokens.RefreshToken, c.form...); got.Error != c.code || got.AccessToken != "" || got.RefreshToken != "" || got.IDToken != "" {
					t.Errorf("got %+v, %s expected", got, c.code)
				}
				if after := count(); after != before {
					t.Errorf("left behind are %+v, before were %+v", after, before)
				}
				again := s.Refresh(tokens.RefreshToken)
				want := http.StatusOK
				switch c.becomes {
				case untouched:
					if again.Status != http.StatusOK || a.answers(again.AccessToken) != http.StatusOK {
						t.Errorf("the honest refresh afterwards: %+v", again)
					}
				case expired, ended:
					want = http.StatusUnauthorized
					fallthrough
				case narrowed:
					if again.Status == http.StatusOK || again.AccessToken != "" {
						t.Errorf("the honest refresh afterwards: %+v", again)
					}
				}
				for _, token := range []string{first.AccessToken, tokens.AccessToken} {
					if got := a.settles(token); got != want {
						t.Errorf("the API answers %d, %d expected", got, want)
					}
				}
			}, func(c *authz.Config) { c.FeedHeartbeat = 50 * time.Millisecond })
		})
	}
}

// D24: a client that was removed and is there again by its name is another one,
// also while its first tokens would still be good.
func TestD24RefreshOfAClientOfTheSameName(t *testing.T) {
	onEachStore(t, func(t *testing.T, s *authztest.Server) {
		a := follow(t, s, registerAPI(t, s), nil)
		tokens := s.SignIn("alice")
		if got := a.answers(tokens.AccessToken); got != http.StatusOK {
			t.Fatalf("the API answers %d", got)
		}
		check(t, s.Revoker.RemoveClient(t.Context(), "spa"))
		_, err := s.Revoker.DeclareClient(t.Context(), s.Client)
		check(t, err)
		if got := s.Refresh(tokens.RefreshToken); got.Status == http.StatusOK || got.AccessToken != "" {
			t.Errorf("got %+v", got)
		}
		if !a.refusesWithin(tokens.AccessToken) {
			t.Error("the API accepts the access token after a second")
		}
		s.Clock.Advance(2 * time.Second)
		if fresh := s.SignIn("alice"); a.settles(fresh.AccessToken) != http.StatusOK {
			t.Error("the API refuses a token of the new client")
		}
	})
}
