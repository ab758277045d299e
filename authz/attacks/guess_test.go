package attacks

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/storage"
)

// between calls a function once, after an account was read by its name: while
// its password is being hashed.
type between struct {
	storage.Store
	call func()
}

func (b *between) UserByName(ctx context.Context, name string) (storage.User, error) {
	u, err := b.Store.UserByName(ctx, name)
	if call := b.call; call != nil {
		b.call = nil
		call()
	}
	return u, err
}

// Who guessed the old password gets nothing for it when it was changed while
// the guess was being checked.
func TestE24PasswordChangedDuringTheLogin(t *testing.T) {
	store := &between{}
	s := authztest.New(t, func(c *authz.Config) { store.Store, c.Store = c.Store, store })
	tokens := s.SignIn("alice")
	for name, change := range map[string]func() error{
		"password changed": func() error {
			u := s.User("alice")
			return s.Revoker.SetPassword(t.Context(), u.ID, u.Password)
		},
		"user revoked": func() error { return s.Revoker.RevokeUser(t.Context(), s.User("alice").ID, "leaked") },
	} {
		store.call = func() {
			s.Clock.Advance(time.Second)
			check(t, change())
			s.Clock.Advance(time.Second)
		}
		b := s.Browser()
		if p := b.SignIn(b.Authorize(), "alice", authztest.Password); p.Answer().Get("code") != "" {
			t.Errorf("%s: the login from before it still got a code", name)
		}
		if p := b.Authorize("prompt", "none"); p.Answer().Get("error") != "login_required" {
			t.Errorf("%s: the session from before it lives: %s", name, p.Header.Get("Location"))
		}
	}
	if s.UserInfo(tokens.AccessToken) != http.StatusUnauthorized {
		t.Error("the grant from before lives")
	}
	if s.SignIn("alice").AccessToken == "" {
		t.Error("the honest login afterwards fails")
	}
}
