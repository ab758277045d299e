package attacks

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/storagetest"
)

func TestD22RefreshTokenReuse(t *testing.T) {
	s := authztest.New(t)
	first := s.SignIn("alice")
	second := s.Refresh(first.RefreshToken)
	third := s.Refresh(second.RefreshToken)
	if third.Status != http.StatusOK || s.UserInfo(third.AccessToken) != http.StatusOK {
		t.Fatalf("the honest refreshes: %+v", third)
	}
	s.Clock.Advance(11 * time.Second)
	if got := s.Refresh(second.RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("reuse outside of the grace window: %+v", got)
	}
	if got := s.Refresh(third.RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("the live token after reuse: %+v", got)
	}
	if status := s.UserInfo(third.AccessToken); status != http.StatusUnauthorized {
		t.Errorf("an access token of the grant after reuse: %d", status)
	}
	grants := grantsOf(t, s)
	if len(grants) != 1 || grants[0].RevokedFor != storage.ReasonRefreshReuse {
		t.Errorf("grants %+v", grants)
	}
	if log := s.Log.String(); !strings.Contains(log, `"msg":"grant revoked","audit":true`) || !strings.Contains(log, `"grant":"`+string(grants[0].ID)+`"`) {
		t.Error("the audit log does not name the grant")
	}

	// Who never had a token of the family can't revoke it by guessing.
	fresh := s.SignIn("alice")
	id := fresh.RefreshToken[:30]
	for _, forged := range []string{id + fresh.RefreshToken[30:len(fresh.RefreshToken)-4] + "AAAA", id + strings.Repeat("A", len(fresh.RefreshToken)-30)} {
		if got := s.Refresh(forged); got.Error != "invalid_grant" {
			t.Errorf("a forged token: %+v", got)
		}
	}
	if got := s.Refresh(fresh.RefreshToken); got.Status != http.StatusOK {
		t.Errorf("a forged token ended the family: %+v", got)
	}
}

func TestD23TabsRefreshTogether(t *testing.T) {
	s := authztest.New(t)
	other := s.Replica()
	first := s.SignIn("alice")
	var mu sync.Mutex
	got := map[string]int{}
	var wg sync.WaitGroup
	for i := range 50 {
		server := s
		if i%2 == 0 {
			server = other
		}
		wg.Go(func() {
			tokens := server.Refresh(first.RefreshToken)
			if tokens.Status != http.StatusOK {
				t.Errorf("a tab was refused: %+v", tokens)
			}
			mu.Lock()
			got[tokens.RefreshToken]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if len(got) != 1 {
		t.Fatalf("%d different refresh tokens live, one expected", len(got))
	}
	var next string
	for token := range got {
		next = token
	}
	s.Clock.Advance(time.Minute)
	if tokens := s.Refresh(next); tokens.Status != http.StatusOK {
		t.Errorf("the family is dead: %+v", tokens)
	}
	if grants := grantsOf(t, s); len(grants) != 1 || grants[0].Generation != 3 {
		t.Errorf("grants %+v", grants)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestD24AbsoluteLifeIsNotExtendedByUse(t *testing.T) {
	s := authztest.New(t)
	token := s.SignIn("alice").RefreshToken
	for day := range 7 {
		s.Clock.Advance(23 * time.Hour)
		got := s.Refresh(token)
		if got.Status != http.StatusOK {
			t.Fatalf("day %d: %+v", day, got)
		}
		token = got.RefreshToken
	}
	s.Clock.Advance(7 * time.Hour)
	if got := s.Refresh(token); got.Error != "invalid_grant" {
		t.Errorf("after seven days of use: %+v", got)
	}
}

// D25: the server does its write and dies before it answers; or it dies before
// the write; or the store fails.
func TestD25InterruptedRotation(t *testing.T) {
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
	tokens := s.SignIn("alice")

	outcome.Lose = true
	if got := broken.Refresh(tokens.RefreshToken); got.Status != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" || got.RefreshToken != "" {
		t.Fatalf("an unknown outcome: %+v", got)
	}
	again := s.Refresh(tokens.RefreshToken)
	if again.Status != http.StatusOK {
		t.Fatalf("the client tries again and is locked out: %+v", again)
	}
	twice := s.Refresh(tokens.RefreshToken)
	if twice.RefreshToken != again.RefreshToken {
		t.Error("there are two live families")
	}
	outcome = storagetest.Outcome{Fail: true}
	if got := broken.Refresh(again.RefreshToken); got.Status != http.StatusServiceUnavailable {
		t.Errorf("a failed store: %+v", got)
	}
	if got := s.Refresh(again.RefreshToken); got.Status != http.StatusOK {
		t.Errorf("after a failure the token is burnt: %+v", got)
	}

	code := s.Browser().Code("alice")
	if got := broken.Redeem(code); got.Status != http.StatusServiceUnavailable {
		t.Errorf("a failed store at redemption: %+v", got)
	}
	if got := s.Redeem(code); got.Status != http.StatusOK {
		t.Errorf("after a failure the code is burnt: %+v", got)
	}
}
