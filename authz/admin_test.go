package authz_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/admin"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify"
)

// addConsole registers the operators' app and makes alice an operator.
func addConsole(t *testing.T, s *authztest.Server) {
	t.Helper()
	s.AddClient(clients.Client{
		ID: "console", RedirectURIs: s.Client.RedirectURIs, Origins: s.Client.Origins,
		Audiences: []string{admin.Audience(s.URL)}, Scopes: []string{"openid", admin.Scope},
	})
	check(t, s.Revoker.SetOperator(t.Context(), s.User("alice").ID, true))
}

func consoleToken(s *authztest.Server, name string) string {
	s.TB.Helper()
	return s.Redeem(s.Browser().Code(name, "client_id", "console", "scope", "openid "+admin.Scope), "client_id", "console").AccessToken
}

// TestStrangerCostsTheStoreNothing: what has no token for the operator's API is
// refused by its looks alone.
func TestStrangerCostsTheStoreNothing(t *testing.T) {
	store := &counting{}
	s := authztest.New(t, func(c *authz.Config) {
		store.Store = c.Store
		c.Store, c.Admin = store, true
	})
	addConsole(t, s)
	good, other := consoleToken(s, "alice"), s.SignIn("alice").AccessToken
	ask := func(headers ...string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/admin/users", nil)
		check(t, err)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		check(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	store.take()
	if got := ask("Authorization", "Bearer "+good); got != 200 {
		t.Fatalf("the operator: %d", got)
	}
	if trips := store.take(); !slices.Equal(trips, []string{"Standing", "Client"}) { // and the listing
		t.Errorf("the operator's request asked %q", trips)
	}
	store.Store = nil // whoever asks it for anything now is told nothing
	for why, headers := range map[string][]string{
		"no token":              nil,
		"a password":            {"Authorization", "Basic YTpi"},
		"nonsense":              {"Authorization", "Bearer " + strings.Repeat("x", 4000)},
		"a forged token":        {"Authorization", "Bearer " + good[:len(good)-4] + "AAAA"},
		"a user's token":        {"Authorization", "Bearer " + other},
		"another site's page":   {"Authorization", "Bearer " + good, "Origin", "https://evil.example"},
		"another site's image":  {"Sec-Fetch-Site", "cross-site"},
		"somebody with cookies": {"Cookie", "__Host-session=x"},
	} {
		if got := ask(headers...); got != 401 && got != 403 && got != 400 {
			t.Errorf("%s: %d", why, got)
		}
		if trips := store.take(); len(trips) > 0 {
			t.Errorf("%s asked %q", why, trips)
		}
	}
	s.Clock.Advance(10 * time.Minute)
	if got, trips := ask("Authorization", "Bearer "+good), store.take(); got != 401 || len(trips) > 0 {
		t.Errorf("an expired token: %d, %q", got, trips)
	}
}

// TestBlockReachesTheAPIWithinASecond: from the answer of POST …/block to the
// refusal by an API that follows the feed.
func TestBlockReachesTheAPIWithinASecond(t *testing.T) {
	s := authztest.New(t, func(c *authz.Config) { c.Now, c.Admin = time.Now, true })
	run(t, s)
	addConsole(t, s)
	registered := registerAPI(s, "api", authztest.Audience)
	v, err := verify.New(t.Context(), verify.Config{
		Issuer: s.URL, Audience: authztest.Audience, Development: true,
		Credential: &verify.Credential{ID: registered.id, Secret: registered.secret}, Feed: &verify.Feed{},
	})
	check(t, err)
	api := httptest.NewServer(v.Require("notes:read")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	defer api.Close()
	send := func(method, uri, token string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, uri, nil)
		check(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		check(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	operator := consoleToken(s, "alice")
	mallory := s.URL + "/admin/users/" + string(s.AddUser("mallory").ID)
	var took []time.Duration
	for range 10 {
		token := s.SignIn("mallory").AccessToken
		if got := send("GET", api.URL, token); got != 200 {
			t.Fatalf("before the block the API answers %d", got)
		}
		if got := send("POST", mallory+"/block", operator); got != 200 {
			t.Fatalf("block: %d", got)
		}
		answered := time.Now()
		for send("GET", api.URL, token) != http.StatusUnauthorized {
			if time.Since(answered) > 5*time.Second {
				t.Fatalf("the API takes the token still: %+v", v.FeedState())
			}
		}
		took = append(took, time.Since(answered))
		if got := send("POST", mallory+"/unblock", operator); got != 200 {
			t.Fatalf("unblock: %d", got)
		}
	}
	slices.Sort(took)
	t.Log("median", took[len(took)/2], "most", took[len(took)-1])
	if took[len(took)-1] > time.Second {
		t.Errorf("it took %s", took[len(took)-1])
	}
}
