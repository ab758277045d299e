package attacks

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis"
	"github.com/solegate/solegate/storage/redis/redistest"
	"github.com/solegate/solegate/storage/sqlite"
)

// F35: what an operator ends is refused by every replica of the API within a
// second, whichever server and whichever process wrote it. Everybody else goes
// on.
func TestF35EndsAtEveryAPI(t *testing.T) {
	s, path := twoServers(t)
	credential := registerAPI(t, s)
	var apis []*api
	for range 3 {
		apis = append(apis, follow(t, s, credential, nil))
	}
	s.AddUser("bob")
	bob := s.SignIn("bob").AccessToken
	other, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	check(t, err)
	defer other.Close()
	operator := authztest.Operator(other, s.Clock.Now)
	alice := s.User("alice").ID
	for _, end := range []struct {
		name string
		do   func(authztest.Tokens) error
	}{
		{"user block", func(authztest.Tokens) error {
			return operator.BlockUser(t.Context(), alice, "too many requests", time.Time{})
		}},
		{"user revoke", func(authztest.Tokens) error { return operator.RevokeUser(t.Context(), alice, "by hand") }},
		{"a grant", func(tokens authztest.Tokens) error {
			id, _ := authztest.Claims(t, tokens.AccessToken)["grant_id"].(string)
			return operator.RevokeGrant(t.Context(), storage.GrantID(id), "by hand")
		}},
		{"a session", func(tokens authztest.Tokens) error {
			id, _ := authztest.Claims(t, tokens.AccessToken)["sid"].(string)
			return operator.EndSession(t.Context(), storage.SessionID(id), "by hand")
		}},
		{"by the app itself", func(tokens authztest.Tokens) error {
			if got := s.PostForm("/revoke", map[string][]string{"client_id": {"spa"}, "token": {tokens.RefreshToken}}); got.Status != http.StatusOK {
				return fmt.Errorf("it answered %+v", got)
			}
			return nil
		}},
	} {
		tokens := s.SignIn("alice")
		for _, a := range apis {
			if got := a.answers(tokens.AccessToken); got != http.StatusOK {
				t.Fatalf("%s: before it the API answers %d", end.name, got)
			}
		}
		check(t, end.do(tokens))
		for i, a := range apis {
			if !a.refusesWithin(tokens.AccessToken) {
				t.Errorf("%s: API %d accepts the token after a second", end.name, i)
			}
			if got := a.answers(bob); got != http.StatusOK {
				t.Errorf("%s: somebody else gets %d", end.name, got)
			}
		}
		check(t, operator.UnblockUser(t.Context(), alice))
	}
	// All at once; and everybody may come again.
	_, err = operator.RevokeAll(t.Context(), "by hand")
	check(t, err)
	for _, a := range apis {
		if !a.refusesWithin(bob) {
			t.Error("revoke --all: the API accepts a token after a second")
		}
	}
	s.Clock.Advance(2 * time.Second) // past the moment, by the clock of either server
	fresh := s.SignIn("bob").AccessToken
	for _, a := range apis {
		if got := a.answers(fresh); got != http.StatusOK {
			t.Errorf("after revoke --all a new login gets %d", got)
		}
	}
}

// F35: an account that was blocked and let in again has tokens of the time
// before and of the time after in hand. Only the new ones are good.
func TestF35OldTokensStayDead(t *testing.T) {
	s := authztest.New(t)
	serve(t, s)
	a := follow(t, s, registerAPI(t, s), nil)
	before := s.SignIn("alice").AccessToken
	check(t, s.Revoker.BlockUser(t.Context(), s.User("alice").ID, "", time.Time{}))
	check(t, s.Revoker.UnblockUser(t.Context(), s.User("alice").ID))
	after := s.SignIn("alice").AccessToken // in the same second, by a clock that stands still
	if !a.refusesWithin(before) || a.answers(after) != http.StatusOK {
		t.Errorf("the old token gets %d, the new one %d", a.answers(before), a.answers(after))
	}
}

// TestMain lets the test binary be the operator that TestF39 kills.
func TestMain(m *testing.M) {
	if path := os.Getenv("SOLEGATE_TEST_OPERATOR"); path != "" {
		operate(path)
	}
	os.Exit(m.Run())
}

// operate blocks alice, says so, and waits to be killed.
func operate(path string) {
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: path})
	if err == nil {
		var u storage.User
		now := time.Date(2026, 11, 23, 12, 0, 1, 0, time.UTC)
		if u, err = s.UserByName(context.Background(), "alice"); err == nil {
			err = authztest.Operator(s, func() time.Time { return now }).BlockUser(context.Background(), u.ID, "too many requests", time.Time{})
		}
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("acknowledged")
	select {}
}

// F39: what was acknowledged survives kill -9 of whoever acknowledged it, and a
// restart of servers and APIs at once: nothing of it is in anybody's memory.
func TestF39AcknowledgedEndSurvivesKill(t *testing.T) {
	s := authztest.New(t)
	stop := serve(t, s)
	credential := registerAPI(t, s)
	a := follow(t, s, credential, nil)
	token := s.SignIn("alice").AccessToken
	if got := a.answers(token); got != http.StatusOK {
		t.Fatalf("before the block: %d", got)
	}
	stop() // no server runs meanwhile
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "SOLEGATE_TEST_OPERATOR="+s.Path)
	out, err := child.StdoutPipe()
	check(t, err)
	check(t, child.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "acknowledged\n" {
		t.Fatalf("the operator says %q, %v", line, err)
	}
	check(t, child.Process.Kill())
	child.Wait()

	serve(t, s)
	if !follow(t, s, credential, nil).refusesWithin(token) {
		t.Error("a new API accepts the token")
	}
	for began := time.Now(); a.answers(token) == http.StatusOK; {
		if time.Since(began) > 20*time.Second {
			t.Fatal("the API that was there all the while accepts the token")
		}
	}
}

// F39: so does what a Redis acknowledged whose primary is killed right after.
func TestF39AcknowledgedEndSurvivesFailover(t *testing.T) {
	servers := redistest.NewSentinel(t)
	store, err := redis.Open(t.Context(), redis.Config{URL: servers.URL() + "?timeout=10s"})
	check(t, err)
	t.Cleanup(func() { store.Close() })
	s, all := authztest.NewReplicas(t, []storage.Store{store}, []time.Duration{0})
	serve(t, all[0])
	credential := registerAPI(t, s)
	a := follow(t, s, credential, nil)
	s.AddUser("bob")
	token, bob := s.SignIn("alice").AccessToken, s.SignIn("bob").AccessToken
	check(t, s.Revoker.BlockUser(t.Context(), s.User("alice").ID, "", time.Time{}))
	old := servers.Primary()
	old.Kill()
	redistest.Wait(t, "the replica to take over", func() error {
		if servers.Primary() == old {
			return fmt.Errorf("%s is still said to be the primary", old.Addr)
		}
		return nil
	})
	servers.Settle()
	if !a.refusesWithin(token) {
		t.Error("the API accepts the token")
	}
	// And what is ended at the new one arrives.
	redistest.Wait(t, "the new primary to write", func() error { return store.Ready(t.Context()) })
	check(t, s.Revoker.RevokeUser(t.Context(), s.User("bob").ID, ""))
	for began := time.Now(); a.answers(bob) != http.StatusUnauthorized; {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("after the failover: %d", a.answers(bob))
		}
	}
	if !follow(t, s, credential, nil).refusesWithin(token) {
		t.Error("a new API accepts the token")
	}
}
