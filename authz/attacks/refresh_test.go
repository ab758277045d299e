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

func TestD24RefreshThatMayNot(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*testing.T, *authztest.Server)
		form []string
		code string
	}{
		"another client": {func(t *testing.T, s *authztest.Server) {
			c := s.Client
			c.ID = "other"
			if err := s.Store.CreateClient(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}, []string{"client_id", "other"}, "invalid_grant"},
		"wider scope":      {nothing, []string{"scope", "openid notes:write"}, "invalid_scope"},
		"another audience": {nothing, []string{"resource", "https://reports.example.com"}, "invalid_target"},
		"after the idle life": {func(_ *testing.T, s *authztest.Server) {
			s.Clock.Advance(24 * time.Hour)
		}, nil, "invalid_grant"},
		"after the absolute life": {func(t *testing.T, s *authztest.Server) {
			s.Clock.Advance(7 * 24 * time.Hour)
		}, nil, "invalid_grant"},
		"user blocked": {func(t *testing.T, s *authztest.Server) {
			check(t, s.Revoker.BlockUser(t.Context(), s.User("alice").ID, "abuse", time.Time{}))
		}, nil, "invalid_grant"},
		"user blocked and unblocked": {func(t *testing.T, s *authztest.Server) {
			check(t, s.Revoker.BlockUser(t.Context(), s.User("alice").ID, "abuse", time.Time{}))
			s.Clock.Advance(time.Second)
			check(t, s.Revoker.UnblockUser(t.Context(), s.User("alice").ID))
		}, nil, "invalid_grant"},
		"user revoked": {func(t *testing.T, s *authztest.Server) {
			check(t, s.Revoker.RevokeUser(t.Context(), s.User("alice").ID, "x"))
		}, nil, "invalid_grant"},
		"user removed": {func(t *testing.T, s *authztest.Server) {
			check(t, s.Revoker.RemoveUser(t.Context(), s.User("alice").ID))
		}, nil, "invalid_grant"},
		"password changed": {func(t *testing.T, s *authztest.Server) {
			check(t, s.Revoker.SetPassword(t.Context(), s.User("alice").ID, "x"))
		}, nil, "invalid_grant"},
		"client disabled": {func(t *testing.T, s *authztest.Server) {
			check(t, s.Revoker.DisableClient(t.Context(), "spa"))
		}, nil, "invalid_client"},
		"client disabled and enabled": {func(t *testing.T, s *authztest.Server) {
			check(t, s.Revoker.DisableClient(t.Context(), "spa"))
			check(t, s.Revoker.EnableClient(t.Context(), "spa"))
		}, nil, "invalid_grant"},
		"client removed": {func(t *testing.T, s *authztest.Server) {
			check(t, s.Revoker.RemoveClient(t.Context(), "spa"))
		}, nil, "invalid_client"},
		"audience taken away": {func(t *testing.T, s *authztest.Server) {
			c, err := s.Store.Client(t.Context(), "spa")
			check(t, err)
			c.Audiences = []string{"https://reports.example.com"}
			check(t, s.Store.UpdateClient(t.Context(), c))
		}, nil, "invalid_target"},
		"session ended": {func(t *testing.T, s *authztest.Server) {
			check(t, s.Revoker.EndSession(t.Context(), grantsOf(t, s)[0].Session, "x"))
		}, nil, "invalid_grant"},
		"grant revoked": {func(t *testing.T, s *authztest.Server) {
			check(t, s.Revoker.RevokeGrant(t.Context(), grantsOf(t, s)[0].ID, "x"))
		}, nil, "invalid_grant"},
	} {
		t.Run(name, func(t *testing.T) {
			s := authztest.New(t)
			tokens := s.Refresh(s.SignIn("alice").RefreshToken)
			if tokens.Status != http.StatusOK {
				t.Fatalf("the honest refresh: %+v", tokens)
			}
			c.end(t, s)
			if got := s.Refresh(tokens.RefreshToken, c.form...); got.Error != c.code || got.AccessToken != "" {
				t.Errorf("got %+v, %s expected", got, c.code)
			}
		})
	}
}

func nothing(*testing.T, *authztest.Server) {}

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
