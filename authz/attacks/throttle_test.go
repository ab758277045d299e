package attacks

import (
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/storage"
)

// F34: a program that is logged in many times over and is slowed down tries
// every door to a new access token, at two servers and all at once: refreshes
// with all of its grants, silent and open authorizations, logins, the way back
// from a login again and again. In each part of time it gets what one grant and
// one refresh are worth, and nothing of it is taken for theft.
func TestF34ThrottledProgramGetsNoMoreTokens(t *testing.T) {
	const every = 10 * time.Minute
	onEachStore(t, func(t *testing.T, s *authztest.Server) {
		servers := []*authztest.Server{s, s.Replica()}
		var browsers []*authztest.Browser
		var refresh []string
		for i := range 6 {
			b := servers[i%2].Browser()
			tokens := s.Redeem(b.Code("alice"))
			if tokens.Status != http.StatusOK {
				t.Fatalf("the honest login: %+v", tokens)
			}
			browsers, refresh = append(browsers, b), append(refresh, tokens.RefreshToken)
		}
		for _, b := range browsers { // before, everybody may as often as they like
			if b.Authorize("prompt", "none").Answer().Get("code") == "" {
				t.Fatal("the honest authorization does not work")
			}
		}
		check(t, s.Revoker.ThrottleUser(t.Context(), s.User("alice").ID, storage.Throttle{Rule: "flood", Every: every}))
		for range 3 {
			s.Clock.Advance(every - time.Duration(s.Clock.Now().UnixNano()%int64(every)) + time.Minute)
			var mu sync.Mutex
			refreshed, granted, loggedIn, waits := map[int]bool{}, 0, 0, 0
			count := func(n *int) { mu.Lock(); defer mu.Unlock(); *n++ }
			exchange := func(i int, code string) {
				if code != "" && servers[i%2].Redeem(code).Status == http.StatusOK {
					count(&granted)
				}
			}
			var all sync.WaitGroup
			for i, b := range browsers {
				all.Go(func() {
					for range 2 {
						switch got := servers[i%2].Refresh(refresh[i]); got.Status {
						case http.StatusOK:
							mu.Lock()
							refreshed[i], refresh[i] = true, got.RefreshToken
							mu.Unlock()
						case http.StatusTooManyRequests:
							count(&waits)
						default:
							t.Errorf("a refresh: %+v", got)
						}
					}
				})
				all.Go(func() {
					exchange(i, b.Authorize("prompt", "none").Answer().Get("code"))
					exchange(i, b.Authorize().Answer().Get("code"))
				})
				all.Go(func() {
					other := servers[i%2].Browser()
					form := other.Authorize().Form()
					form.Set("username", "alice")
					form.Set("password", authztest.Password)
					p := other.Post("/login", form)
					if p.StatusCode != http.StatusSeeOther {
						return
					}
					count(&loggedIn)
					for range 3 {
						exchange(i, other.Get(p.Header.Get("Location")).Answer().Get("code"))
					}
				})
			}
			all.Wait()
			if len(refreshed) != 1 || granted != 1 || loggedIn > 1 || waits == 0 {
				t.Errorf("%d grants were refreshed, %d were made, %d logged in, %d were told to wait; one, one, at most one, and some expected", len(refreshed), granted, loggedIn, waits)
			}
			for _, g := range grantsOf(t, s) {
				if !g.RevokedAt.IsZero() {
					t.Errorf("a grant was ended: %s", g.RevokedFor)
				}
			}
		}
		// Who was patient is as well as before.
		check(t, s.Revoker.Lift(t.Context(), s.User("alice").ID, "x"))
		for i, token := range refresh {
			if got := s.Refresh(token); got.Status != http.StatusOK {
				t.Errorf("family %d: %+v", i, got)
			}
		}
		if got := s.PostForm("/revoke", url.Values{"client_id": {"spa"}, "token": {refresh[0]}}); got.Status != http.StatusOK {
			t.Errorf("signing out: %+v", got)
		}
	})
}
