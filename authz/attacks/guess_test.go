package attacks

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
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

const guessed = "a guess that is long enough"

func TestE28GuessesAtOnce(t *testing.T) {
	s := authztest.New(t)
	browsers, forms := make([]*authztest.Browser, 40), make([]url.Values, 40)
	for i := range browsers {
		browsers[i] = s.Browser()
		forms[i] = browsers[i].Authorize().Form()
		forms[i].Set("username", "alice")
		forms[i].Set("password", guessed)
	}
	var mu sync.Mutex
	statuses := map[int]int{}
	var all sync.WaitGroup
	for i, b := range browsers {
		all.Go(func() {
			p := b.Post("/login", forms[i])
			mu.Lock()
			defer mu.Unlock()
			statuses[p.StatusCode]++
		})
	}
	all.Wait()
	if statuses[http.StatusUnauthorized] != 10 || statuses[http.StatusTooManyRequests] != 30 {
		t.Errorf("statuses %v: 10 of 40 may be looked at", statuses)
	}
}

// A few guesses in each window, from new addresses and browsers, for as long
// as it takes.
func TestE28SlowGuessing(t *testing.T) {
	s := authztest.New(t, behindProxy)
	known := s.Browser()
	known.Code("alice")
	looked := 0
	for i := range 180 { // fifteen hours
		s.Clock.Advance(5 * time.Minute)
		if attempt(t, s, s.Browser(), fmt.Sprintf("192.0.2.%d", i), "alice", guessed).StatusCode == http.StatusUnauthorized {
			looked++
		}
	}
	if looked > 100 || looked < 40 {
		t.Errorf("%d guesses were looked at in a day", looked)
	}
	if p := attempt(t, s, known, "192.0.2.200", "alice", authztest.Password); p.StatusCode != http.StatusSeeOther {
		t.Errorf("the real person is locked out: %d", p.StatusCode)
	}
}

// The cookie of a browser where she once signed in (in a library, say) gives
// nobody a way to lock her out of her own.
func TestE28StolenDeviceLocksNobodyOut(t *testing.T) {
	s := authztest.New(t, behindProxy)
	own, library := s.Browser(), s.Browser()
	own.Code("alice")
	library.Code("alice")
	throttled := 0
	for range 30 {
		if attempt(t, s, library, "192.0.2.1", "alice", guessed).StatusCode == http.StatusTooManyRequests {
			throttled++
		}
	}
	if throttled < 20 {
		t.Errorf("the library's browser was throttled %d times of 30", throttled)
	}
	if p := attempt(t, s, own, "192.0.2.2", "alice", authztest.Password); p.StatusCode != http.StatusSeeOther {
		t.Errorf("the real person is locked out of her own browser: %d", p.StatusCode)
	}
}

// Step-ups (RFC 9470) make the real person type her password often. That locks
// nobody out, and does not let more guesses through beside it.
func TestE28ManyRightPasswordsInOneBrowser(t *testing.T) {
	s := authztest.New(t, behindProxy)
	own := s.Browser()
	for i := range 60 {
		if p := attempt(t, s, own, "192.0.2.1", "alice", authztest.Password); p.StatusCode != http.StatusSeeOther {
			t.Fatalf("login %d of the real person: %d", i, p.StatusCode)
		}
	}
	for name, b := range map[string]func() *authztest.Browser{"her own browser": func() *authztest.Browser { return own }, "unknown browsers": s.Browser} {
		guesses := 0
		for range 30 {
			if attempt(t, s, b(), "192.0.2.2", "alice", guessed).StatusCode != http.StatusTooManyRequests {
				guesses++
			}
		}
		if guesses > 10 {
			t.Errorf("%d guesses passed from %s, 10 at most expected", guesses, name)
		}
	}
}

// An office behind one address signs in at nine o'clock.
func TestE28ManyRightPasswordsFromOneAddress(t *testing.T) {
	s := authztest.New(t, behindProxy)
	for i := range 60 {
		name := fmt.Sprintf("person%d", i)
		s.AddUser(name)
		if p := attempt(t, s, s.Browser(), "192.0.2.1", name, authztest.Password); p.StatusCode != http.StatusSeeOther {
			t.Fatalf("person %d: %d", i, p.StatusCode)
		}
	}
}
