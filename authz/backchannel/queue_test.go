package backchannel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/storagetest"
)

func TestEveryEndOwesWhoWasSignedInto(t *testing.T) {
	two := []string{"u.s1 rp", "u.s2 rp"}
	for name, c := range map[string]struct {
		end  func(context.Context, *revocation.Revoker) error
		want []string
	}{
		"session":      {func(ctx context.Context, r *revocation.Revoker) error { return r.EndSession(ctx, "u.s1", "test") }, []string{"u.s1 rp"}},
		"block":        {func(ctx context.Context, r *revocation.Revoker) error { return r.BlockUser(ctx, "u", "x", time.Time{}) }, two},
		"revoke":       {func(ctx context.Context, r *revocation.Revoker) error { return r.RevokeUser(ctx, "u", "x") }, two},
		"password":     {func(ctx context.Context, r *revocation.Revoker) error { return r.SetPassword(ctx, "u", "x") }, two},
		"remove":       {func(ctx context.Context, r *revocation.Revoker) error { return r.RemoveUser(ctx, "u") }, two},
		"unblock":      {func(ctx context.Context, r *revocation.Revoker) error { return r.UnblockUser(ctx, "u") }, nil},
		"grant":        {func(ctx context.Context, r *revocation.Revoker) error { return r.RevokeGrant(ctx, "u.s1.rp", "x") }, nil},
		"client":       {func(ctx context.Context, r *revocation.Revoker) error { return r.DisableClient(ctx, "rp") }, nil},
		"nobody":       {func(ctx context.Context, r *revocation.Revoker) error { return r.RevokeUser(ctx, "nobody", "x") }, nil},
		"ended before": {func(ctx context.Context, r *revocation.Revoker) error { return r.EndSession(ctx, "u.s0", "x") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "https://rp.example.com/logout")
			w.session("u.s2", "rp")
			w.session("u.s3", "spa")       // who does not want to be told
			w.session("u.s0", "rp")        // ended before
			w.grant("u.s3.g", "rp", false) // a code that was never redeemed
			check(t, w.store.EndSession(t.Context(), "u.s0", w.clock()))
			if err := c.end(t.Context(), w.revoker); err != nil && !errors.Is(err, storage.ErrNotFound) {
				t.Fatal(err)
			}
			w.wantOwed(c.want...)
		})
	}
}

// TestGrantThatIsDeadIsToldAll: a client's own session knows nothing of tokens.
func TestGrantThatIsDeadIsToldAll(t *testing.T) {
	w := newWorld(t, "https://rp.example.com/logout")
	check(t, w.revoker.RevokeGrant(t.Context(), "u.s1.rp", "the app revoked its token"))
	check(t, w.revoker.EndSession(t.Context(), "u.s1", "signed out"))
	w.wantOwed("u.s1 rp")
}

func TestManySessionsAndGrantsAreAllOwed(t *testing.T) {
	w := newWorld(t, "https://rp.example.com/logout")
	for i := range 30 {
		id := storage.SessionID(fmt.Sprintf("u.x%02d", i))
		w.session(id, "rp", "spa")
		for j := range 40 {
			w.grant(storage.GrantID(fmt.Sprintf("%s.g%02d", id, j)), "rp", true)
		}
	}
	check(t, w.revoker.RevokeUser(t.Context(), "u", "x"))
	if got := w.owed(); len(got) != 31 {
		t.Errorf("%d are owed: one for each session and client expected: %q", len(got), got)
	}
}

// TestNothingIsAskedWhereNobodyWantsToKnow: signing out costs nothing then.
func TestNothingIsAskedWhereNobodyWantsToKnow(t *testing.T) {
	w := newWorld(t, "")
	reads := &listing{Store: w.store}
	q := NewQueue(reads, w.logger(), w.clock)
	r := revocation.New(revocation.Config{Store: w.store, Audit: audit.New(audit.Config{Log: w.logger()}), Now: w.clock, Notify: q})
	check(t, r.EndSession(t.Context(), "u.s1", "x"))
	w.session("u.s2", "rp")
	check(t, r.EndSession(t.Context(), "u.s2", "x"))
	if reads.clients != 1 || reads.grants != 0 {
		t.Errorf("the clients were listed %d times and the grants %d times; once and never expected", reads.clients, reads.grants)
	}
	// Who registers is told some seconds later.
	c, err := w.store.Client(t.Context(), "rp")
	check(t, err)
	c.BackchannelLogoutURI = "https://rp.example.com/logout"
	check(t, w.store.UpdateClient(t.Context(), c))
	w.advance(receiversFor)
	w.session("u.s3", "rp")
	check(t, r.EndSession(t.Context(), "u.s3", "x"))
	w.wantOwed("u.s3 rp")
}

type listing struct {
	Store
	clients, grants int
	failing         error
}

func (l *listing) ListClients(ctx context.Context, p storage.Page) ([]clients.Client, error) {
	l.clients++
	if l.failing != nil {
		return nil, l.failing
	}
	return l.Store.ListClients(ctx, p)
}

func (l *listing) ListGrants(ctx context.Context, u storage.UserID, p storage.Page) ([]storage.Grant, error) {
	l.grants++
	return l.Store.ListGrants(ctx, u, p)
}

func TestAllAreOwedWhenNobodyKnowsWhoWantsToKnow(t *testing.T) {
	w := newWorld(t, "https://rp.example.com/logout")
	q := NewQueue(&listing{Store: w.store, failing: storage.ErrUnavailable}, w.logger(), w.clock)
	check(t, revocation.New(revocation.Config{Store: w.store, Audit: audit.New(audit.Config{Log: w.logger()}), Now: w.clock, Notify: q}).EndSession(t.Context(), "u.s1", "x"))
	w.wantOwed("u.s1 rp", "u.s1 spa") // the sender knows better
	w.sender(w.store, q, func(context.Context, string, string) (int, error) { return 200, nil }).deliver1(t)
	w.wantOwed()
	if n := w.audited("logout delivered", ""); n != 1 {
		t.Errorf("%d were delivered, 1 expected", n)
	}
}

// TestCodeRedeemedMeanwhileIsOwed: between the note and the end, another
// client gets its tokens, or another login of the person is completed.
func TestCodeRedeemedMeanwhileIsOwed(t *testing.T) {
	w := newWorld(t, "https://rp.example.com/logout")
	check(t, w.store.CreateClient(t.Context(), clients.Client{ID: "rp2", BackchannelLogoutURI: "https://rp2.example.com/logout"}))
	ended := w.queue.Ending(t.Context(), "u", "u.s1")
	w.wantOwed("u.s1 rp")
	w.grant("u.s1.late", "rp2", true)
	check(t, w.store.EndSession(t.Context(), "u.s1", w.clock()))
	ended()
	w.wantOwed("u.s1 rp", "u.s1 rp2")

	w.session("u.s2", "rp")
	ended = w.queue.Ending(t.Context(), "u", "")
	w.session("u.s3", "rp2") // of the old epoch: it dies
	u, err := w.store.User(t.Context(), "u")
	check(t, err)
	u.Epoch++
	check(t, w.store.UpdateUser(t.Context(), u))
	w.session("u.s4", "rp") // of the new one: it lives
	ended()
	w.wantOwed("u.s1 rp", "u.s1 rp2", "u.s2 rp", "u.s3 rp2")
}

// TestNothingKeepsASessionFromEnding: that the queue can't be written is in the
// log, and what was to end has ended. What fails once is tried again.
func TestNothingKeepsASessionFromEnding(t *testing.T) {
	for _, failures := range []int{1, 2} {
		w := newWorld(t, "https://rp.example.com/logout")
		n := 0
		broken := storagetest.WithFaults(w.store, func(write string) storagetest.Outcome {
			if write == "AddLogouts" {
				n++
			}
			return storagetest.Outcome{Fail: write == "AddLogouts" && n <= failures}
		})
		_, r := w.process(broken)
		check(t, r.EndSession(t.Context(), "u.s1", "x"))
		x, _, err := w.store.SessionUser(t.Context(), "u.s1")
		check(t, err)
		if x.EndedAt.IsZero() {
			t.Error("the session was not ended")
		}
		if failures == 1 {
			w.wantOwed("u.s1 rp")
		} else if w.wantOwed(); !strings.Contains(w.logged(), "are not told") {
			t.Error("the log says nothing of it")
		}
	}
}

// TestNobodyIsForgottenWhenAReadFails: what was found before the store failed
// was not written down yet.
func TestNobodyIsForgottenWhenAReadFails(t *testing.T) {
	w := newWorld(t, "https://rp.example.com/logout")
	w.session("u.s2", "rp")
	w.session("u.s3", "rp")
	broken := &forgetful{Store: w.store, fails: 2}
	r := revocation.New(revocation.Config{Store: w.store, Audit: audit.New(audit.Config{Log: w.logger()}), Now: w.clock, Notify: NewQueue(broken, w.logger(), w.clock)})
	check(t, r.RevokeUser(t.Context(), "u", "x"))
	if broken.asked <= broken.fails {
		t.Fatal("nothing failed")
	}
	w.wantOwed("u.s1 rp", "u.s2 rp", "u.s3 rp")
}

// forgetful fails one read of a session.
type forgetful struct {
	Store
	asked, fails int
}

func (f *forgetful) SessionUser(ctx context.Context, id storage.SessionID) (storage.Session, storage.User, error) {
	if f.asked++; f.asked == f.fails {
		return storage.Session{}, storage.User{}, storage.ErrUnavailable
	}
	return f.Store.SessionUser(ctx, id)
}

// TestPersonWhoLeavesKeepsNobodyFromBeingTold: the request's context ends when
// the browser goes, and the end may just have been written.
func TestPersonWhoLeavesKeepsNobodyFromBeingTold(t *testing.T) {
	w := newWorld(t, "https://rp.example.com/logout")
	ctx, leave := context.WithCancel(t.Context())
	leave()
	w.queue.receiversNow(t.Context())
	ended := w.queue.Ending(ctx, "u", "u.s1")
	w.wantOwed()
	check(t, w.store.EndSession(t.Context(), "u.s1", w.clock()))
	ended()
	w.wantOwed("u.s1 rp")
}

// TestWhoWasToldMeanwhileIsNotToldAgain: another server may be quick.
func TestWhoWasToldMeanwhileIsNotToldAgain(t *testing.T) {
	w := newWorld(t, "https://rp.example.com/logout")
	ended := w.queue.Ending(t.Context(), "u", "u.s1")
	check(t, w.store.EndSession(t.Context(), "u.s1", w.clock()))
	check(t, w.store.FinishLogout(t.Context(), "rp", "u.s1"))
	ended()
	w.wantOwed()
	check(t, w.revoker.EndSession(t.Context(), "u.s1", "again"))
	w.wantOwed()
}
