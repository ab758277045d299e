package authz_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
)

// replicas starts two or three servers on one Redis, each with connections of
// its own, and clocks two seconds apart.
func replicas(t *testing.T, location string, n int) (*authztest.Server, []*authztest.Server) {
	t.Helper()
	stores := make([]storage.Store, n)
	for i := range stores {
		s, err := redis.Open(t.Context(), redis.Config{URL: location})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		stores[i] = s
	}
	return authztest.NewReplicas(t, stores, []time.Duration{0, 2 * time.Second, -2 * time.Second}[:n])
}

func TestReplicas(t *testing.T) {
	t.Run("TwoOnOne", func(t *testing.T) { testReplicas(t, "redis://"+redistest.Single(t).Addr, 2) })
	t.Run("ThreeOnOne", func(t *testing.T) { testReplicas(t, "redis://"+redistest.Single(t).Addr, 3) })
	t.Run("ThreeOnCluster", func(t *testing.T) { testReplicas(t, redistest.NewCluster(t).URL(), 3) })
}

func testReplicas(t *testing.T, location string, n int) {
	s, all := replicas(t, location, n)
	run, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	t.Cleanup(func() { stop(); work.Wait() })
	for _, r := range all {
		work.Go(func() { r.Handler.Run(run) })
	}
	// The whole flow, each request on another replica; it begins on another one
	// each time, so each step is on each of them.
	for i := range 2 * n {
		browser := s.Browser()
		for s.Turns.Load()%int64(n) != int64(i%n) {
			browser.Get("/readyz")
		}
		tokens := s.Redeem(browser.Code("alice"))
		if tokens.Status != http.StatusOK {
			t.Fatalf("flow %d: %+v", i, tokens)
		}
		hint := tokens.IDToken
		for range 4 {
			next := s.Refresh(tokens.RefreshToken)
			if next.Status != http.StatusOK || s.UserInfo(next.AccessToken) != http.StatusOK {
				t.Fatalf("flow %d: %+v", i, next)
			}
			tokens = next
		}
		// Signed in by now: no page.
		if p := browser.Authorize("prompt", "none"); p.Answer().Get("code") == "" {
			t.Fatalf("flow %d: signed in, and yet %d %s", i, p.StatusCode, p.Header.Get("Location"))
		}
		p := browser.Get("/logout?" + url.Values{"id_token_hint": {hint}, "client_id": {"spa"}}.Encode())
		if got := s.Refresh(tokens.RefreshToken); got.Error != "invalid_grant" {
			t.Fatalf("flow %d: after the logout (%d) a refresh got %+v", i, p.StatusCode, got)
		}
	}
	t.Run("RefreshTogether", func(t *testing.T) {
		tokens := s.SignIn("alice")
		var mu sync.Mutex
		got := map[string]int{}
		var together sync.WaitGroup
		for range 24 {
			together.Go(func() {
				next := s.Refresh(tokens.RefreshToken)
				mu.Lock()
				defer mu.Unlock()
				got[next.RefreshToken]++
			})
		}
		together.Wait()
		if len(got) != 1 || got[""] != 0 {
			t.Errorf("24 refreshes at once got %d different successors, %d errors: one family expected", len(got), got[""])
		}
	})
	t.Run("RedeemTogether", func(t *testing.T) {
		code := s.Browser().Code("alice")
		var mu sync.Mutex
		won := 0
		var together sync.WaitGroup
		for range 12 {
			together.Go(func() {
				if s.Redeem(code).Status == http.StatusOK {
					mu.Lock()
					won++
					mu.Unlock()
				}
			})
		}
		together.Wait()
		if won != 1 {
			t.Errorf("a code was redeemed %d times", won)
		}
	})
	t.Run("KeyRotation", func(t *testing.T) {
		tokens := s.SignIn("alice")
		old := kid(t, tokens.AccessToken)
		if err := all[0].Ring.Rotate(t.Context(), keys.ES256); err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			redistest.Wait(t, "every replica publishes the new key", func() error {
				if n := strings.Count(string(r.Ring.JWKS().Body), `"ES256"`); n != 2 {
					return fmt.Errorf("%d are published", n)
				}
				return nil
			})
		}
		s.Clock.Advance(14 * time.Minute)
		for range all {
			if tokens = s.Refresh(tokens.RefreshToken); kid(t, tokens.AccessToken) != old {
				t.Error("a key signs before every verifier has it")
			}
		}
		s.Clock.Advance(2 * time.Minute)
		for range all {
			tokens = s.Refresh(tokens.RefreshToken)
			if kid(t, tokens.AccessToken) == old {
				t.Error("the old key signs on")
			}
			for _, r := range all {
				if r.UserInfo(tokens.AccessToken) != http.StatusOK {
					t.Error("a replica does not know another's key")
				}
			}
		}
	})
	t.Run("Revocation", func(t *testing.T) {
		// Whatever clock made a grant and whatever clock ends it: it is dead,
		// and what comes after is good.
		for i, end := range []struct {
			name string
			do   func(r *authztest.Server, who storage.UserID) error
		}{
			{"user", func(r *authztest.Server, who storage.UserID) error {
				return r.Revoker.RevokeUser(t.Context(), who, "test")
			}},
			{"password", func(r *authztest.Server, who storage.UserID) error {
				return r.Revoker.SetPassword(t.Context(), who, r.User("alice").Password)
			}},
			{"block", func(r *authztest.Server, who storage.UserID) error {
				if err := r.Revoker.BlockUser(t.Context(), who, "test", time.Time{}); err != nil {
					return err
				}
				return r.Revoker.UnblockUser(t.Context(), who)
			}},
			{"client", func(r *authztest.Server, _ storage.UserID) error {
				if err := r.Revoker.DisableClient(t.Context(), "spa"); err != nil {
					return err
				}
				return r.Revoker.EnableClient(t.Context(), "spa")
			}},
		} {
			for j, ender := range all {
				name := fmt.Sprintf("person-%d-%d", i, j) // nobody signs in too often
				who := s.AddUser(name).ID
				browser := s.Browser()
				tokens := make([]authztest.Tokens, 3)
				for i := range tokens {
					tokens[i] = s.Redeem(browser.Code(name))
				}
				if err := end.do(ender, who); err != nil {
					t.Fatal(err)
				}
				for _, r := range all {
					for _, x := range tokens {
						if got := r.Refresh(x.RefreshToken); got.Error != "invalid_grant" {
							t.Errorf("%s ended by the clock at %s: a refresh at %s got %+v", end.name, ender.Skew, r.Skew, got)
						}
						if status := r.UserInfo(x.AccessToken); status != http.StatusUnauthorized {
							t.Errorf("%s ended by the clock at %s: userinfo at %s answered %d", end.name, ender.Skew, r.Skew, status)
						}
					}
				}
				for range all {
					if got := s.Refresh(s.SignIn(name).RefreshToken); got.Status != http.StatusOK {
						t.Errorf("%s ended by the clock at %s: signed in anew and got %+v", end.name, ender.Skew, got)
					}
				}
			}
		}
	})
	t.Run("Throttle", func(t *testing.T) {
		s.AddUser("bob")
		alone := authztest.New(t)
		alone.AddUser("bob")
		if together, one := guesses(s, "bob"), guesses(alone, "bob"); together != one {
			t.Errorf("%d replicas allow %d guesses, one allows %d", n, together, one)
		}
	})
	t.Run("Proof", func(t *testing.T) {
		key := s.Key()
		tokens := s.With(key).SignIn("alice")
		refresh := func(at *authztest.Server, proof string) authztest.Tokens {
			form := url.Values{"grant_type": {"refresh_token"}, "client_id": {"spa"}, "refresh_token": {tokens.RefreshToken}}
			return postWith(t, at, "/token", form, "DPoP", proof)
		}
		for i, first := range all {
			proof := key.Proof("POST", s.URL+"/token", nil)
			next := refresh(first, proof)
			if next.Status != http.StatusOK || jktOf(t, next) != key.JKT {
				t.Fatalf("a proof at replica %d: %+v", i, next)
			}
			tokens = next
			for j, second := range all {
				if got := refresh(second, proof); got.Error != "invalid_dpop_proof" {
					t.Errorf("a proof that was used at replica %d, again at %d: %+v", i, j, got)
				}
			}
		}
		// At all of them at once: one takes it.
		proof := key.Proof("POST", s.URL+"/token", nil)
		var won atomic.Int64
		var together sync.WaitGroup
		for i := range 12 {
			together.Go(func() {
				if refresh(all[i%n], proof).Status == http.StatusOK {
					won.Add(1)
				}
			})
		}
		together.Wait()
		if won.Load() != 1 {
			t.Errorf("one proof was taken %d times", won.Load())
		}
	})
	t.Run("PushedRequest", func(t *testing.T) {
		for i, at := range all {
			p := at.Push()
			if p.Status != http.StatusCreated {
				t.Fatalf("pushed at replica %d: %+v", i, p)
			}
			// The first visit is at another one, and so is each step of it.
			browser := s.Browser()
			for s.Turns.Load()%int64(n) != int64((i+1)%n) {
				browser.Get("/readyz")
			}
			page := browser.Visit(p.RequestURI)
			answer := browser.SignIn(page, "alice", authztest.Password).Answer()
			if tokens := s.Redeem(answer.Get("code")); tokens.Status != http.StatusOK {
				t.Fatalf("pushed at replica %d: %d, then %+v", i, page.StatusCode, tokens)
			}
			for range all { // each of them
				if again := browser.Visit(p.RequestURI); again.StatusCode != http.StatusBadRequest {
					t.Errorf("pushed at replica %d and spent: %d %s", i, again.StatusCode, again.Header.Get("Location"))
				}
			}
		}
	})
}

// TestRedisIsAway: whatever is asked meanwhile is answered soon, with 503 and
// when to come back where no redirect says it, and then all goes on as before.
func TestRedisIsAway(t *testing.T) {
	redis := redistest.Single(t, "--appendfsync", "always")
	s, all := replicas(t, "redis://"+redis.Addr+"?timeout=500ms", 3)
	browser := s.Browser()
	tokens := s.Redeem(browser.Code("alice"))
	code := browser.Code("alice")
	ready := func() int { return browser.Get("/readyz").StatusCode }
	redis.Kill()
	for range all {
		for what, got := range map[string]authztest.Tokens{"refresh": s.Refresh(tokens.RefreshToken), "code exchange": s.Redeem(code)} {
			if got.Status != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" {
				t.Errorf("%s: %+v", what, got)
			}
		}
		if status := s.UserInfo(tokens.AccessToken); status != http.StatusServiceUnavailable {
			t.Errorf("userinfo: %d", status)
		}
		if p := browser.Authorize(); p.Answer().Get("error") != "temporarily_unavailable" { // RFC 6749 §4.1.2.1
			t.Errorf("authorize: %d %v", p.StatusCode, p.Header)
		}
		if status := ready(); status != http.StatusServiceUnavailable {
			t.Errorf("it calls itself ready: %d", status)
		}
	}
	redis.Start()
	for i, one := range all { // each notices by itself
		browser := one.Browser()
		redistest.Wait(t, "every replica is ready", func() error {
			if status := browser.Get("/readyz").StatusCode; status != http.StatusOK {
				return fmt.Errorf("replica %d: %d", i, status)
			}
			return nil
		})
	}
	for range all {
		if tokens = s.Refresh(tokens.RefreshToken); tokens.Status != http.StatusOK || s.UserInfo(tokens.AccessToken) != http.StatusOK {
			t.Errorf("afterwards: %+v", tokens)
		}
	}
	if got := s.Redeem(code); got.Status != http.StatusOK {
		t.Errorf("a code that was not redeemed: %+v", got)
	}
}

// guesses returns how many wrong passwords for the name are tried before the server
// says to wait.
func guesses(s *authztest.Server, name string) int {
	browser := s.Browser()
	p := browser.Authorize()
	for n := 1; n < 1000; n++ {
		form := p.Form()
		form.Set("username", name)
		form.Set("password", "a wrong password")
		p = browser.Follow(browser.Post("/login", form))
		if p.StatusCode == http.StatusTooManyRequests {
			return n
		}
	}
	return -1
}

func kid(t *testing.T, token string) string {
	t.Helper()
	header, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil || len(b) == 0 {
		t.Fatalf("no header in %q", token)
	}
	_, id, _ := strings.Cut(string(b), `"kid":"`)
	id, _, _ = strings.Cut(id, `"`)
	return id
}

// TestNothingSecretIsStored looks at every byte in the Redis for what only
// browsers, people and the operator may know.
func TestNothingSecretIsStored(t *testing.T) {
	server := redistest.Single(t)
	s, _ := replicas(t, "redis://"+server.Addr, 3)
	browser := s.Browser()
	code := browser.Code("alice")
	tokens := s.Redeem(code)
	next := s.Refresh(tokens.RefreshToken)
	const nobody = "nobody-of-that-name" // long enough not to be in other text by chance
	guesses(s, nobody)
	secrets := map[string]string{"password": authztest.Password, "code": code, "refresh token": tokens.RefreshToken, "next refresh token": next.RefreshToken,
		"access token": tokens.AccessToken, "ID token": tokens.IDToken, "master key": authztest.MasterKey, "verifier": authztest.Verifier, "a user name in a counter": nobody}
	at, _ := url.Parse(s.URL)
	for _, c := range browser.Jar.Cookies(at) {
		_, secret, _ := strings.Cut(c.Value, ".")
		secrets["cookie "+c.Name] = secret[strings.LastIndexByte(secret, '.')+1:]
	}
	// Parts of them are as bad, and so is what they decode to.
	for name, secret := range secrets {
		last := secret[strings.LastIndexByte(secret, '.')+1:]
		if raw, err := base64.RawURLEncoding.DecodeString(last); err == nil && len(raw) >= 16 {
			secrets[name+", its last part"], secrets[name+", decoded"] = last, string(raw)
		}
	}
	client := goredis.NewClient(&goredis.Options{Addr: server.Addr})
	defer client.Close()
	s.Audited() // the audit log is there, too
	var found []string
	for keys := client.Scan(t.Context(), 0, "*", 1000).Iterator(); keys.Next(t.Context()); {
		dump := keys.Val()
		switch kind := client.Type(t.Context(), keys.Val()).Val(); kind {
		case "string":
			dump += client.Get(t.Context(), keys.Val()).Val()
		case "hash":
			for k, v := range client.HGetAll(t.Context(), keys.Val()).Val() {
				dump += k + v
			}
		case "zset":
			dump += strings.Join(client.ZRange(t.Context(), keys.Val(), 0, -1).Val(), " ")
		case "stream":
			for _, m := range client.XRange(t.Context(), keys.Val(), "-", "+").Val() {
				dump += fmt.Sprint(m.Values)
			}
		default:
			t.Errorf("%s is a %s", keys.Val(), kind)
		}
		for name, secret := range secrets {
			if secret != "" && strings.Contains(dump, secret) {
				t.Errorf("%s is in %s", name, keys.Val())
			}
		}
		found = append(found, keys.Val())

		// What is not the operator's ends by itself, or is swept.
		name := strings.TrimPrefix(keys.Val(), "sg:")
		lasts := slices.ContainsFunc([]string{"{a}audit", "{r}", "n{", "o{", "u{"}, func(p string) bool { return strings.HasPrefix(name, p) })
		if ttl := client.TTL(t.Context(), keys.Val()).Val(); lasts && name != "{r}ready" && ttl > 0 || !lasts && (ttl <= 0 || ttl > 8*24*time.Hour) {
			t.Errorf("%s lives for %s", keys.Val(), ttl)
		}
	}
	if len(found) < 10 {
		t.Errorf("only %v was found", found)
	}
}
