package attacks

import (
	"cmp"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/storagetest"
)

// D22 to D25 for families that are bound to a key; refresh_test.go has them for
// those that are not.

func TestD22BoundRefreshTokenReuse(t *testing.T) {
	for name, thief := range map[string]func(*authztest.Server, *authztest.Server) *authztest.Server{
		"the app itself":   func(app, _ *authztest.Server) *authztest.Server { return app },
		"with another key": func(_, s *authztest.Server) *authztest.Server { return s.With(s.Key()) },
		"with no key":      func(_, s *authztest.Server) *authztest.Server { return s },
	} {
		s := authztest.New(t)
		app := s.With(s.Key())
		active := introspecting(t, s)
		first := app.SignIn("alice")
		second := app.Refresh(first.RefreshToken)
		third := app.Refresh(second.RefreshToken)
		if third.Status != http.StatusOK || !active(third.AccessToken) {
			t.Fatalf("the honest refreshes: %+v", third)
		}
		s.Clock.Advance(11 * time.Second)
		if got := thief(app, s).Refresh(second.RefreshToken); got.Status != http.StatusBadRequest || got.AccessToken != "" {
			t.Errorf("%s: %+v", name, got)
		}
		if got := app.Refresh(third.RefreshToken); got.Error != "invalid_grant" || active(third.AccessToken) {
			t.Errorf("%s: the family lives on: %+v", name, got)
		}
		grants := grantsOf(t, s)
		if len(grants) != 1 || grants[0].RevokedFor != storage.ReasonRefreshReuse {
			t.Errorf("%s: grants %+v", name, grants)
		}
		if log := s.Log.String(); !strings.Contains(log, `"msg":"grant revoked","audit":true`) || !strings.Contains(log, `"grant":"`+string(grants[0].ID)+`"`) {
			t.Errorf("%s: the audit log does not name the grant", name)
		}
	}
}

// D22: the live token in a thief's hands is worth nothing, and trying it burns
// nothing.
func TestD22StolenBoundRefreshToken(t *testing.T) {
	s := authztest.New(t)
	key := s.Key()
	app := s.With(key)
	tokens := app.SignIn("alice")
	stolen := key.Proof("POST", s.URL+"/token", nil) // a proof that the page sent elsewhere
	if got := post(t, s, "/token", refreshing("x"), "DPoP", stolen); got.Error != "invalid_grant" {
		t.Fatalf("the proof's first use: %+v", got)
	}
	for name, got := range map[string]authztest.Tokens{
		"no proof":          post(t, s, "/token", refreshing(tokens.RefreshToken)),
		"another key":       s.With(s.Key()).Refresh(tokens.RefreshToken),
		"a used proof":      post(t, s, "/token", refreshing(tokens.RefreshToken), "DPoP", stolen),
		"a proof for /par":  post(t, s, "/token", refreshing(tokens.RefreshToken), "DPoP", key.Proof("POST", s.URL+"/par", nil)),
		"a dpop_jkt":        post(t, s, "/token", with(refreshing(tokens.RefreshToken), "dpop_jkt", key.JKT)),
		"a cnf":             post(t, s, "/token", with(refreshing(tokens.RefreshToken), "cnf", `{"jkt":"`+key.JKT+`"}`)),
		"token_type Bearer": post(t, s, "/token", with(refreshing(tokens.RefreshToken), "token_type", "Bearer")),
	} {
		if got.Status != http.StatusBadRequest || got.AccessToken != "" || got.RefreshToken != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := app.Refresh(tokens.RefreshToken); got.Status != http.StatusOK || jktOf(t, got) != key.JKT {
		t.Errorf("the app afterwards: %+v", got)
	}
}

func TestD23BoundTabsRefreshTogether(t *testing.T) {
	s := authztest.New(t)
	key := s.Key()
	apps := []*authztest.Server{s.With(key), s.Replica().With(key)}
	first := apps[0].SignIn("alice")
	var mu sync.Mutex
	got := map[string]int{}
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			tokens := apps[i%2].Refresh(first.RefreshToken)
			if tokens.Status != http.StatusOK || tokens.TokenType != "DPoP" || jktOf(t, tokens) != key.JKT {
				t.Errorf("a tab was refused: %+v", tokens)
			}
			mu.Lock()
			got[tokens.RefreshToken]++
			mu.Unlock()
		})
	}
	all.Wait()
	if len(got) != 1 {
		t.Fatalf("%d different refresh tokens live, one expected", len(got))
	}
	for next := range got {
		s.Clock.Advance(time.Minute)
		if tokens := apps[0].Refresh(next); tokens.Status != http.StatusOK {
			t.Errorf("the family is dead: %+v", tokens)
		}
	}
	if grants := grantsOf(t, s); len(grants) != 1 || grants[0].Generation != 3 || grants[0].JKT != key.JKT || !grants[0].RevokedAt.IsZero() {
		t.Errorf("grants %+v", grants)
	}
}

// D23: a thief among the tabs, with another key or none, ends the family if
// the token was already exchanged, and else gets nothing.
func TestD23ThiefAmongTheTabs(t *testing.T) {
	for name, thief := range map[string]func(*authztest.Server) *authztest.Server{
		"another key": func(s *authztest.Server) *authztest.Server { return s.With(s.Key()) },
		"no key":      func(s *authztest.Server) *authztest.Server { return s },
	} {
		s := authztest.New(t)
		app, stranger := s.With(s.Key()), thief(s.Replica())
		first := app.SignIn("alice")
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				if i%5 == 0 {
					if got := stranger.Refresh(first.RefreshToken); got.Status != http.StatusBadRequest || got.AccessToken != "" || got.RefreshToken != "" {
						t.Errorf("%s: the thief got %+v", name, got)
					}
					return
				}
				if got := app.Refresh(first.RefreshToken); got.Status != http.StatusOK && got.Error != "invalid_grant" {
					t.Errorf("%s: a tab got %+v", name, got)
				}
			})
		}
		all.Wait()
		second := app.Refresh(first.RefreshToken)
		s.Clock.Advance(9 * time.Second) // still within the grace window
		if got := stranger.Refresh(first.RefreshToken); got.Status != http.StatusBadRequest {
			t.Errorf("%s: %+v", name, got)
		}
		// The thief may have ended it before second came.
		if got := app.Refresh(cmp.Or(second.RefreshToken, first.RefreshToken)); got.Error != "invalid_grant" || len(liveGrants(t, s)) != 0 {
			t.Errorf("%s: the family lives on: %+v", name, got)
		}
	}
}

// D24: nothing turns a bound family into another one.
func TestD24BoundRefreshThatMayNot(t *testing.T) {
	s := authztest.New(t)
	c := s.Client
	c.ID = "other"
	s.AddClient(c)
	key := s.Key()
	app := s.With(key)
	tokens := app.SignIn("alice")
	for name, c := range map[string]struct {
		changes []string
		code    string
	}{
		"another client":   {[]string{"client_id", "other"}, "invalid_grant"},
		"wider scope":      {[]string{"scope", "openid notes:write"}, "invalid_scope"},
		"another audience": {[]string{"resource", "https://reports.example.com"}, "invalid_target"},
		"as a code":        {[]string{"grant_type", "authorization_code", "code", tokens.RefreshToken, "code_verifier", authztest.Verifier}, "invalid_grant"},
	} {
		if got := app.Refresh(tokens.RefreshToken, c.changes...); got.Error != c.code || got.AccessToken != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if tokens = app.Refresh(tokens.RefreshToken); tokens.Status != http.StatusOK {
		t.Fatalf("the honest refresh: %+v", tokens)
	}
	s.Clock.Advance(24 * time.Hour)
	if got := app.Refresh(tokens.RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("after the idle life: %+v", got)
	}
}

// TestD24UnboundFamilyStaysUnbound: RFC 9449 §5 binds every refresh token that
// a public client is issued with a proof. A family that began without a key is
// not continued with one: whoever stole its token would choose the key.
func TestD24UnboundFamilyStaysUnbound(t *testing.T) {
	s := authztest.New(t)
	plain := s.SignIn("alice")
	if got := s.With(s.Key()).Refresh(plain.RefreshToken); got.Error != "invalid_grant" || got.RefreshToken != "" {
		t.Errorf("an unbound token with a proof: %+v", got)
	}
	second := s.Refresh(plain.RefreshToken)
	if second.Status != http.StatusOK || second.TokenType != "Bearer" {
		t.Fatalf("the refusal burnt it: %+v", second)
	}
	// Nor is it theft within the grace window: there is no key that it lacks.
	if got := s.With(s.Key()).Refresh(plain.RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("the token before, with a proof: %+v", got)
	}
	if third := s.Refresh(second.RefreshToken); third.Status != http.StatusOK {
		t.Errorf("the family was ended: %+v", third)
	}
}

// D25: the server dies between storing and answering, or the store fails; the
// client tries again with the same key and a new proof.
func TestD25InterruptedBoundRotation(t *testing.T) {
	s := authztest.New(t)
	var outcome storagetest.Outcome
	broken := s.Replica(func(c *authz.Config) {
		c.Store = storagetest.WithFaults(s.Store, func(write string) storagetest.Outcome {
			if write == "Rotate" || write == "Redeem" {
				return outcome
			}
			return storagetest.Outcome{}
		})
	})
	key := s.Key()
	app, interrupted := s.With(key), broken.With(key)
	tokens := app.SignIn("alice")
	outcome.Lose = true
	if got := interrupted.Refresh(tokens.RefreshToken); got.Status != http.StatusServiceUnavailable || got.RefreshToken != "" || got.AccessToken != "" {
		t.Fatalf("an unknown outcome: %+v", got)
	}
	again, twice := app.Refresh(tokens.RefreshToken), app.Refresh(tokens.RefreshToken)
	if again.Status != http.StatusOK || again.RefreshToken != twice.RefreshToken || jktOf(t, again) != key.JKT {
		t.Fatalf("the client is locked out, or there are two families: %+v %+v", again, twice)
	}
	outcome = storagetest.Outcome{Fail: true}
	if got := interrupted.Refresh(again.RefreshToken); got.Status != http.StatusServiceUnavailable {
		t.Errorf("a failed store: %+v", got)
	}
	if got := app.Refresh(again.RefreshToken); got.Status != http.StatusOK || len(liveGrants(t, s)) != 1 {
		t.Errorf("after a failure: %+v", got)
	}
	code := s.Browser().Code("alice")
	if got := interrupted.Redeem(code); got.Status != http.StatusServiceUnavailable {
		t.Errorf("a failed store at redemption: %+v", got)
	}
	if got := app.Redeem(code); got.Status != http.StatusOK {
		t.Errorf("after a failure the code is burnt: %+v", got)
	}
	// What was stored and not answered is taken up by nobody else.
	outcome, tokens = storagetest.Outcome{Lose: true}, app.SignIn("alice")
	interrupted.Refresh(tokens.RefreshToken)
	if got := s.With(s.Key()).Refresh(tokens.RefreshToken); got.Status != http.StatusBadRequest {
		t.Errorf("a thief after the interruption: %+v", got)
	}
	if got := app.Refresh(tokens.RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("the family outlives the theft: %+v", got)
	}
}

// TestConfidentialClientRefreshesTogether: its refresh token stays, so tabs,
// servers and keys do not matter; its credential does.
func TestConfidentialClientRefreshesTogether(t *testing.T) {
	s := authztest.New(t)
	c, signer := backend(s, nil)
	key := s.Key()
	form := signer.Sign(map[string][]string{"grant_type": {"authorization_code"}, "code": {s.Browser().Code("alice", ofBackend()...)}, "code_verifier": {authztest.Verifier}}, c.ID, nil)
	first := post(t, s, "/token", form, "DPoP", key.Proof("POST", s.URL+"/token", nil))
	if first.Status != http.StatusOK || first.TokenType != "DPoP" {
		t.Fatalf("the honest exchange: %+v", first)
	}
	servers := []*authztest.Server{s, s.Replica()}
	refresh := func(server *authztest.Server, k *authztest.Key) authztest.Tokens {
		form := signer.Sign(map[string][]string{"grant_type": {"refresh_token"}, "refresh_token": {first.RefreshToken}}, c.ID, nil)
		if k == nil {
			return post(t, server, "/token", form)
		}
		return post(t, server, "/token", form, "DPoP", k.Proof("POST", s.URL+"/token", nil))
	}
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			k := s.Key()
			if got := refresh(servers[i%2], k); got.Status != http.StatusOK || got.RefreshToken != first.RefreshToken || jktOf(t, got) != k.JKT {
				t.Errorf("got %+v", got)
			}
		})
	}
	all.Wait()
	if got := refresh(s, nil); got.Error != "invalid_dpop_proof" || got.AccessToken != "" {
		t.Errorf("with no key, a bearer token: %+v", got)
	}
	stranger := s.Signer()
	form = stranger.Sign(map[string][]string{"grant_type": {"refresh_token"}, "refresh_token": {first.RefreshToken}}, c.ID, nil)
	if got := post(t, s, "/token", form, "DPoP", key.Proof("POST", s.URL+"/token", nil)); got.Error != "invalid_client" {
		t.Errorf("with the key and another credential: %+v", got)
	}
	if got := refresh(s, key); got.Status != http.StatusOK || len(liveGrants(t, s)) != 1 {
		t.Errorf("the attempts ended the family: %+v", got)
	}
}

// TestClientWithoutRefreshGetsNoRefreshToken: not even where its scope has
// offline_access.
func TestClientWithoutRefreshGetsNoRefreshToken(t *testing.T) {
	for name, grants := range map[string][]string{"with": nil, "without": {"authorization_code"}} {
		s := authztest.New(t)
		c, signer := backend(s, func(c *clients.Client) { c.GrantTypes = grants })
		form := signer.Sign(map[string][]string{"grant_type": {"authorization_code"}, "code": {s.Browser().Code("alice", ofBackend()...)}, "code_verifier": {authztest.Verifier}}, c.ID, nil)
		got := post(t, s, "/token", form)
		if got.Status != http.StatusOK || (got.RefreshToken != "") != (grants == nil) {
			t.Errorf("%s: %+v", name, got)
		}
		if g := grantsOf(t, s)[0]; grants != nil && g.Expires.After(s.Clock.Now().Add(5*time.Minute)) {
			t.Errorf("%s: the grant lives until %s", name, g.Expires)
		}
	}
}

// TestMachineHasNoLogin: nobody signs in to a client that only asks for itself.
func TestMachineHasNoLogin(t *testing.T) {
	s := authztest.New(t)
	c, signer := backend(s, func(c *clients.Client) {
		c.GrantTypes, c.Scopes = []string{"client_credentials"}, []string{"notes:read"}
	})
	if got := post(t, s, "/token", signer.Sign(map[string][]string{"grant_type": {"client_credentials"}}, c.ID, nil)); got.Status != http.StatusOK {
		t.Fatalf("the honest request: %+v", got)
	}
	changes := ofBackend("scope", "notes:read")
	if a := s.Browser().Authorize(changes...).Answer(); a.Get("error") != "unauthorized_client" || a.Get("iss") != s.URL {
		t.Errorf("at the front channel: %v", a)
	}
	if got := post(t, s, "/par", signer.Sign(s.Authorization(changes...), c.ID, nil)); got.Error != "unauthorized_client" {
		t.Errorf("pushed: %+v", got)
	}
}
