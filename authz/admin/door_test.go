package admin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/admin"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/storagetest"
)

// away is a store that can't be read while down is set.
type away struct {
	storage.Store
	down *atomic.Bool
}

func (a away) User(ctx context.Context, id storage.UserID) (storage.User, error) {
	if a.down.Load() {
		return storage.User{}, storage.ErrUnavailable
	}
	return a.Store.User(ctx, id)
}

func (a away) Standing(ctx context.Context, id storage.GrantID, client clients.ID) (storage.Standing, error) {
	if a.down.Load() {
		return storage.Standing{}, errors.New("any other error")
	}
	return a.Store.Standing(ctx, id, client)
}

// network is the door for access tokens, with a way to get one.
func network(w *world) (token func(name string, changes ...string) string) {
	console := w.AddClient(clients.Client{
		ID: "console", RedirectURIs: w.Client.RedirectURIs, Origins: w.Client.Origins,
		Audiences: []string{admin.Audience(w.URL)}, Scopes: []string{"openid", "offline_access", admin.Scope},
	})
	w.door = w.URL
	return func(name string, changes ...string) string {
		w.t.Helper()
		changes = append([]string{"client_id", string(console.ID), "scope", "openid offline_access " + admin.Scope}, changes...)
		tokens := w.Redeem(w.Browser().Code(name, changes...), "client_id", string(console.ID))
		if tokens.AccessToken == "" {
			w.t.Fatalf("no token: %+v", tokens)
		}
		return "Bearer " + tokens.AccessToken
	}
}

// TestErrorsAreAsDescribed: each that there can be, at both doors.
func TestErrorsAreAsDescribed(t *testing.T) {
	var down atomic.Bool
	var write atomic.Pointer[storagetest.Outcome]
	write.Store(&storagetest.Outcome{})
	w := newWorld(t, func(c *authz.Config) {
		c.Admin = true
		c.Store = storagetest.WithFaults(away{c.Store, &down}, func(name string) storagetest.Outcome {
			if name != "UpdateUser" {
				return storagetest.Outcome{}
			}
			return *write.Load()
		})
	})
	alice := "/admin/users/" + string(w.User("alice").ID)
	check(t, w.Store.CreateClient(t.Context(), clients.Client{ID: "declared", Declared: true}))
	want := func(why string, status int, got answer) {
		t.Helper()
		if got.status != status || got.Detail == "" {
			t.Errorf("%s: %d %s, expected is %d", why, got.status, got.text, status)
		}
		if status == 503 && got.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", why)
		}
	}
	want("an unknown member", 400, w.send("POST", alice+"/block", `{"x":"y"}`))
	want("nobody", 404, w.send("GET", "/admin/users/nobody", ""))
	want("a declared client", 409, w.send("POST", "/admin/clients/declared/disable", ""))
	want("a large body", 413, w.send("POST", alice+"/block", `{"reason":"`+strings.Repeat("x", 5000)+`"}`))
	want("a form", 415, w.send("POST", alice+"/block", "a=b", "Content-Type", "application/x-www-form-urlencoded"))
	want("another site", 403, w.send("GET", alice, "", "Origin", "https://evil.example"))

	down.Store(true)
	want("a store that is away", 503, w.send("GET", alice, ""))
	down.Store(false)
	write.Store(&storagetest.Outcome{Fail: true})
	want("a write that fails", 503, w.send("POST", alice+"/block", ""))
	if w.User("alice").Block != nil {
		t.Error("the write did not fail")
	}
	write.Store(&storagetest.Outcome{Lose: true})
	if got := w.send("POST", alice+"/block", ""); got.Detail != "It may have been done, or not: do it again." {
		t.Errorf("a write whose answer is lost: %d %s", got.status, got.text)
	}
	write.Store(&storagetest.Outcome{})
	w.must("POST", alice+"/block", "") // done again
	w.must("POST", alice+"/unblock", "")

	token := network(w)
	want("no token", 401, w.send("GET", alice, ""))
	want("no operator", 403, w.send("GET", alice, "", "Authorization", token("alice")))
	want("no scope", 403, w.send("GET", alice, "", "Authorization", token("alice", "scope", "openid")))
	check(t, w.Revoker.SetOperator(t.Context(), w.User("alice").ID, true))
	bearer := token("alice")
	if got := w.send("GET", alice, "", "Authorization", bearer); got.status != 200 || !got.Admin {
		t.Errorf("the operator: %d %s", got.status, got.text)
	}
	down.Store(true)
	want("a store that is away", 503, w.send("GET", alice, "", "Authorization", bearer))
	down.Store(false)

	// Who loops waits, and nobody else does.
	var got answer
	for range 300 {
		if got = w.send("GET", alice, "", "Authorization", bearer); got.status != 200 {
			break
		}
	}
	want("a loop", 429, got)
	w.AddUser("bob")
	check(t, w.Revoker.SetOperator(t.Context(), w.User("bob").ID, true))
	if got := w.send("GET", alice, "", "Authorization", token("bob")); got.status != 200 {
		t.Errorf("another operator: %d %s", got.status, got.text)
	}
	seconds, err := strconv.Atoi(got.header.Get("Retry-After"))
	check(t, err)
	w.Clock.Advance(time.Duration(seconds) * time.Second)
	if got := w.send("GET", alice, "", "Authorization", bearer); got.status != 200 {
		t.Errorf("after %d seconds: %d %s", seconds, got.status, got.text)
	}

	for name := range w.d.doc["components"].(map[string]any)["responses"].(map[string]any) {
		response, _ := w.d.at("components", "responses", name)
		if _, refusal := response["content"].(map[string]any)["application/problem+json"]; refusal && !w.d.used[name] && name != "Problem" {
			t.Errorf("%s is described, and was not answered", name)
		}
	}
}

// TestErrorsOfTheStore: what is answered, and that nothing of them is.
func TestErrorsOfTheStore(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		detail string
	}{
		{storage.ErrNotFound, 404, "There is none by that identifier."},
		{storage.ErrConflict, 409, "It was changed by somebody else at this moment: look at it and try again."},
		{storage.ErrUnknown, 503, "It may have been done, or not: do it again."},
		{storage.ErrUnavailable, 503, "The server can't do this now; try again."},
		{fmt.Errorf("%w: %w", revocation.ErrNotRecorded, storage.ErrUnknown), 503, "It is done, and the audit log may not have it: do it again."},
		{errors.New("disk full at /var/lib/solegate"), 503, "The server can't do this now; try again."},
	} {
		p := admin.ProblemOf(fmt.Errorf("block user: %w", c.err))
		if p.Status != c.status || p.Detail != c.detail || !errors.Is(p, c.err) {
			t.Errorf("%v: %d %s", c.err, p.Status, p.Detail)
		}
	}
}

// TestWhatHasBegunIsFinished: an operator who hangs up has blocked all the same.
func TestWhatHasBegunIsFinished(t *testing.T) {
	requests := make(chan context.Context, 1)
	var hangUp atomic.Pointer[context.CancelFunc]
	w := newWorld(t, func(c *authz.Config) {
		c.Store = storagetest.WithFaults(c.Store, func(name string) storagetest.Outcome {
			if stop := hangUp.Load(); name == "UpdateUser" && stop != nil {
				(*stop)()
				<-(<-requests).Done() // the server has noticed
			}
			return storagetest.Outcome{}
		})
	})
	served := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		requests <- r.Context()
		w.Handler.ServeOperator(rw, r, "test")
		close(served)
	}))
	defer web.Close()
	ctx, cancel := context.WithCancel(t.Context())
	hangUp.Store(&cancel)
	r, err := http.NewRequestWithContext(ctx, "POST", web.URL+"/admin/users/"+string(w.User("alice").ID)+"/block", nil)
	check(t, err)
	if resp, err := http.DefaultClient.Do(r); err == nil {
		resp.Body.Close()
		t.Fatal("nobody hung up")
	}
	<-served
	if w.User("alice").Block == nil {
		t.Error("alice is not blocked")
	}
}

// TestTurns: a burst, then as many as there are a second; whoever waits as told
// gets a turn; and what is remembered is bounded.
func TestTurns(t *testing.T) {
	var turns admin.Turns
	now := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	passed := func(who string, tries int) (n int, wait time.Duration) {
		for range tries {
			if w := turns.Take(who, now); w == 0 {
				n++
			} else {
				wait = w
			}
		}
		return n, wait
	}
	n, wait := passed("alice", 500)
	if n != 200 || wait <= 0 || wait > time.Second {
		t.Fatalf("%d passed, and then wait %s", n, wait)
	}
	now = now.Add(wait - 1)
	if n, _ := passed("alice", 1); n != 0 {
		t.Error("too early, and passed")
	}
	now = now.Add(1)
	if n, _ := passed("alice", 1); n != 1 {
		t.Error("waited as told, and refused")
	}
	now = now.Add(2 * time.Second)
	if n, _ := passed("alice", 100); n != 40 {
		t.Errorf("%d passed after two seconds", n)
	}
	now = now.Add(-time.Hour) // the clock is put back
	if n, _ := passed("alice", 1); n != 1 {
		t.Error("refused for an hour")
	}
	for i := range 5000 {
		if n, _ := passed(strconv.Itoa(i), 1); n != 1 {
			t.Fatalf("the first request of %d is refused", i)
		}
	}
	if n := turns.Remembered(); n > 1024 {
		t.Errorf("%d are remembered", n)
	}
}

// TestAuditLogNamesTheOperator: each act is written down with who did it, at both
// doors.
func TestAuditLogNamesTheOperator(t *testing.T) {
	w := newWorld(t, func(c *authz.Config) { c.Admin = true })
	alice, bob := w.User("alice").ID, w.AddUser("bob").ID
	path := "/admin/users/" + string(bob)
	w.must("POST", path+"/block", `{"reason":"by the socket"}`)
	token := network(w)
	check(t, w.Revoker.SetOperator(t.Context(), alice, true))
	bearer := token("alice")
	for _, act := range []string{path + "/unblock", path + "/revoke", "/admin/clients/spa/disable", "/admin/clients/spa/enable", "/admin/keys/" + w.Ring.Signer(keys.RS256) + "/revoke", "/admin/revoke-all"} {
		if got := w.send("POST", act, "", "Authorization", bearer); got.status != 200 {
			t.Errorf("%s: %d %s", act, got.status, got.text)
		}
	}
	for what, who := range map[string]string{
		"user blocked": "test", "user unblocked": "user:" + string(alice), "user revoked": "user:" + string(alice), "client disabled": "user:" + string(alice),
		"client enabled": "user:" + string(alice), "key revoked": "user:" + string(alice), "everything revoked": "user:" + string(alice),
	} {
		named := false
		for line := range strings.Lines(w.Audited()) {
			named = named || strings.Contains(line, `"`+what+`"`) && strings.Contains(line, `"operator":"`+who+`"`)
		}
		if !named {
			t.Errorf("nobody did it: %s; expected is %s, of\n%s", what, who, w.Audited())
		}
	}
}
