package authz_test

import (
	"context"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
)

// counting notes what is asked of a store; each is one round trip.
type counting struct {
	storage.Store
	mu    sync.Mutex
	asked []string
	hold  chan struct{} // nil: nothing is held
}

func (c *counting) note(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, name)
}

// take returns what was asked since.
func (c *counting) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.asked
	c.asked = nil
	return asked
}

func (c *counting) Client(ctx context.Context, id clients.ID) (clients.Client, error) {
	c.note("Client")
	return c.Store.Client(ctx, id)
}

func (c *counting) User(ctx context.Context, id storage.UserID) (storage.User, error) {
	c.note("User")
	return c.Store.User(ctx, id)
}

func (c *counting) SessionUser(ctx context.Context, id storage.SessionID) (storage.Session, storage.User, error) {
	c.note("SessionUser")
	return c.Store.SessionUser(ctx, id)
}

func (c *counting) RenewSession(ctx context.Context, x storage.Session) error {
	c.note("RenewSession")
	return c.Store.RenewSession(ctx, x)
}
func (c *counting) TouchSession(ctx context.Context, id storage.SessionID, seen, idle time.Time) error {
	c.note("TouchSession")
	return c.Store.TouchSession(ctx, id, seen, idle)
}

func (c *counting) CreateGrant(ctx context.Context, g storage.Grant) error {
	c.note("CreateGrant")
	return c.Store.CreateGrant(ctx, g)
}

func (c *counting) Standing(ctx context.Context, id storage.GrantID, client clients.ID) (storage.Standing, error) {
	c.note("Standing")
	return c.Store.Standing(ctx, id, client)
}

func (c *counting) Redeem(ctx context.Context, r storage.Redemption) error {
	c.note("Redeem")
	return c.Store.Redeem(ctx, r)
}

func (c *counting) Rotate(ctx context.Context, r storage.Rotation) error {
	c.note("Rotate")
	return c.Store.Rotate(ctx, r)
}

func (c *counting) Count(ctx context.Context, key string, n int, now time.Time, window time.Duration) (storage.Tally, error) {
	c.note("Count")
	return c.Store.Count(ctx, key, n, now, window)
}

func (c *counting) Once(ctx context.Context, key [32]byte, now, until time.Time) error {
	c.note("Once")
	return c.Store.Once(ctx, key, now, until)
}

func (c *counting) Events(ctx context.Context, after storage.Cursor, limit int) ([]storage.Event, storage.Cursor, error) {
	c.note("Events")
	return c.Store.Events(ctx, after, limit)
}

// AppendAudit hangs while the test holds it, and is a trip for who waits for it:
// nobody does for what is only recorded, see TestAuditHoldsUpNobody.
func (c *counting) AppendAudit(ctx context.Context, after storage.AuditHead, lines []storage.AuditLine) error {
	if c.hold != nil {
		c.note("AppendAudit")
		<-c.hold
	}
	return c.Store.AppendAudit(ctx, after, lines)
}

// TestAuditHoldsUpNobody: whatever the audit log waits for, people sign in and
// refresh meanwhile. Whoever ends something waits for its line, which is one trip
// more: what an operator or the policy did must not be missing in the log.
func TestAuditHoldsUpNobody(t *testing.T) {
	real, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "solegate.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer real.Close()
	store := &counting{Store: real, hold: make(chan struct{})}
	s, _ := authztest.NewReplicas(t, []storage.Store{store}, []time.Duration{0})
	tokens := s.Redeem(s.Browser().Code("alice"))
	for range 10 {
		if tokens = s.Refresh(tokens.RefreshToken); tokens.Status != http.StatusOK {
			t.Fatalf("a refresh: %+v", tokens)
		}
	}
	ended := make(chan int)
	go func() {
		ended <- s.PostForm("/revoke", url.Values{"client_id": {"spa"}, "token": {tokens.RefreshToken}}).Status
	}()
	select {
	case status := <-ended:
		t.Errorf("a grant was revoked, and its line is not written: %d", status)
	case store.hold <- struct{}{}: // the lines of the login
	}
	close(store.hold)
	if status := <-ended; status != http.StatusOK {
		t.Errorf("the revocation: %d", status)
	}
	kept := s.Audited()
	for _, what := range []string{"login succeeded", "code issued", "grant revoked"} {
		if !strings.Contains(kept, what) {
			t.Errorf("there is no line %q", what)
		}
	}
	appends := 0
	for _, name := range store.take() {
		if name == "AppendAudit" {
			appends++
		}
	}
	if appends == 0 || appends > 5 {
		t.Errorf("the audit log was appended to %d times: what came together was not kept together", appends)
	}
}

// TestTrips: how often a request asks the store, when the client was asked for
// within the last second.
func TestTrips(t *testing.T) {
	t.Run("Plain", func(t *testing.T) { testTrips(t) })
	// A place in a status list costs none.
	t.Run("StatusList", func(t *testing.T) { testTrips(t, withStatusList) })
}

func testTrips(t *testing.T, options ...func(*authz.Config)) {
	real, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "solegate.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer real.Close()
	store := &counting{Store: real}
	s, _ := authztest.NewReplicas(t, []storage.Store{store}, []time.Duration{0}, options...)
	browser := s.Browser()
	tokens := s.Redeem(browser.Code("alice"))
	store.take()
	want := func(what string, trips ...string) {
		t.Helper()
		if got := store.take(); !slices.Equal(got, trips) {
			t.Errorf("%s asked the store for %v, %v expected", what, got, trips)
		}
	}
	code := browser.Code("alice")
	want("an authorization of somebody who is signed in", "SessionUser", "CreateGrant")
	s.Redeem(code)
	want("a code exchange", "Standing", "Redeem")
	s.Refresh(tokens.RefreshToken)
	want("a refresh", "Standing", "Rotate")

	// DPoP costs the replay check, nothing else; pushing nothing at all.
	app := s.With(s.Key())
	pushed := app.Push().RequestURI
	want("a push with a proof", "Once")
	code = browser.Visit(pushed).Answer().Get("code")
	want("an authorization that was pushed", "SessionUser", "Once", "CreateGrant")
	tokens = app.Redeem(code)
	want("a code exchange with a proof", "Once", "Standing", "Redeem")
	app.Refresh(tokens.RefreshToken)
	want("a refresh with a proof", "Once", "Standing", "Rotate")
}

// TestRedirectURIIsRemoved: a code that is on its way to an address that is
// registered no more is worth nothing when it arrives.
func TestRedirectURIIsRemoved(t *testing.T) {
	s := authztest.New(t)
	code := s.Browser().Code("alice")
	c, err := s.Store.Client(t.Context(), "spa")
	if err != nil {
		t.Fatal(err)
	}
	c.RedirectURIs = []clients.RedirectURI{"https://spa.example.com/another"}
	if err := s.Store.UpdateClient(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := s.Redeem(code); got.Status != http.StatusBadRequest || got.Error != "invalid_grant" {
		t.Errorf("the code was redeemed: %+v", got)
	}
}
