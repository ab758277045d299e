package revocation_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
	"github.com/solegate/solegate/storage/storagetest"
)

var start = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const life = 5 * time.Minute

// world is a store with alice, who has a session and a grant at the client spa,
// and what was written to it, in order.
type world struct {
	t       *testing.T
	store   storage.Store // without faults
	ring    *keys.Ring
	revoker *revocation.Revoker
	mu      sync.Mutex
	writes  []string // of mu
	fault   func(write string) storagetest.Outcome
	log     strings.Builder
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "solegate.db")})
	check(t, err)
	t.Cleanup(func() { s.Close() })
	w := &world{t: t, store: s}
	faulty := storagetest.WithFaults(s, func(write string) storagetest.Outcome {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.writes = append(w.writes, write)
		if w.fault == nil {
			return storagetest.Outcome{}
		}
		return w.fault(write)
	})
	now := func() time.Time { return start }
	w.revoker = revocation.New(revocation.Config{Store: faulty, Audit: audit.New(audit.Config{Log: slog.New(slog.NewTextHandler(&w.log, nil))}), TokenLife: life, Now: now})
	master, err := keys.ParseMaster([]byte(authztest.MasterKey))
	check(t, err)
	w.ring, err = keys.Open(t.Context(), keys.Config{Store: faulty, Master: master, Algorithms: []keys.Algorithm{keys.ES256}, Now: now})
	check(t, err)
	check(t, s.CreateUser(t.Context(), storage.User{ID: "u", Name: "alice", Epoch: 3}))
	check(t, s.CreateClient(t.Context(), clients.Client{ID: "spa", Epoch: 7}))
	check(t, s.CreateSession(t.Context(), storage.Session{ID: "u.s", User: "u", Epoch: 3, Expires: start.Add(time.Hour)}))
	check(t, s.CreateGrant(t.Context(), storage.Grant{ID: "u.s.g", User: "u", Session: "u.s", Client: "spa", Resource: []string{"https://a.example", "https://b.example"}, Expires: start.Add(time.Hour)}))
	w.writes = nil
	return w
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) events() []storage.Event {
	w.t.Helper()
	list, _, err := w.store.Events(w.t.Context(), "", 1000)
	check(w.t, err)
	return list
}

// state is all that an end changes.
func (w *world) state() string {
	w.t.Helper()
	ctx := w.t.Context()
	u, userErr := w.store.User(ctx, "u")
	c, clientErr := w.store.Client(ctx, "spa")
	st, err := w.store.Standing(ctx, "u.s.g", "spa")
	check(w.t, err)
	ring, err := w.store.KeyRing(ctx)
	check(w.t, err)
	return fmt.Sprint(u.Epoch, u.Block != nil, u.Password, userErr, c.Epoch, c.Disabled, c.Declared, clientErr, st.Grant.RevokedAt, st.Session.EndedAt, ring.Version)
}

// ends are all the ways to end something: what is announced, and the write that
// does it.
var ends = []struct {
	name  string
	write string
	do    func(context.Context, *world) error
	want  storage.Event
}{
	{"BlockUser", "UpdateUser", func(ctx context.Context, w *world) error {
		return w.revoker.BlockUser(ctx, "u", "what the operator typed", time.Time{})
	}, storage.Event{Kind: storage.EventUser, Subject: "u", Epoch: 4, Reason: "blocked"}},
	{"SuspendUser", "UpdateUser", func(ctx context.Context, w *world) error {
		return w.revoker.SuspendUser(ctx, "u", "flood", "what the API typed", time.Time{})
	}, storage.Event{Kind: storage.EventUser, Subject: "u", Epoch: 4, Reason: "blocked"}},
	{"DemandLogin", "UpdateUser", func(ctx context.Context, w *world) error {
		return w.revoker.DemandLogin(ctx, "u", "flood", "what the API typed")
	}, storage.Event{Kind: storage.EventUser, Subject: "u", Epoch: 4, Reason: "revoked"}},
	{"RevokeUser", "UpdateUser", func(ctx context.Context, w *world) error {
		return w.revoker.RevokeUser(ctx, "u", "what the operator typed")
	}, storage.Event{Kind: storage.EventUser, Subject: "u", Epoch: 4, Reason: "revoked"}},
	{"SetPassword", "UpdateUser", func(ctx context.Context, w *world) error { return w.revoker.SetPassword(ctx, "u", "hash") },
		storage.Event{Kind: storage.EventUser, Subject: "u", Epoch: 4, Reason: "password changed"}},
	{"RemoveUser", "RemoveUser", func(ctx context.Context, w *world) error { return w.revoker.RemoveUser(ctx, "u") },
		storage.Event{Kind: storage.EventUser, Subject: "u", Epoch: 1<<53 - 1, Reason: "removed"}},
	{"DisableClient", "UpdateClient", func(ctx context.Context, w *world) error { return w.revoker.DisableClient(ctx, "spa") },
		storage.Event{Kind: storage.EventClient, Subject: "spa", Epoch: 8, Reason: "disabled"}},
	{"ChangeClient", "UpdateClient", func(ctx context.Context, w *world) error {
		before, err := w.store.Client(ctx, "spa")
		if err != nil {
			return err
		}
		next := before
		before.AuthMethod = clients.SecretBasic // and now it is public
		_, err = w.revoker.ChangeClient(ctx, before, next)
		return err
	}, storage.Event{Kind: storage.EventClient, Subject: "spa", Epoch: 8, Reason: "changed"}},
	{"RemoveClient", "UpdateClient", func(ctx context.Context, w *world) error { return w.revoker.RemoveClient(ctx, "spa") },
		storage.Event{Kind: storage.EventClient, Subject: "spa", Epoch: 8, Reason: "removed"}},
	{"DeclareClient", "UpdateClient", func(ctx context.Context, w *world) error {
		_, err := w.revoker.DeclareClient(ctx, clients.Client{ID: "spa", Disabled: true})
		return err
	}, storage.Event{Kind: storage.EventClient, Subject: "spa", Epoch: 8, Reason: "changed"}},
	{"UndeclareClient", "UpdateClient", func(ctx context.Context, w *world) error {
		c, err := w.store.Client(ctx, "spa")
		c.Declared = true
		if err == nil && c.Epoch == 7 && !c.Disabled {
			err = w.store.UpdateClient(ctx, c)
		}
		if err != nil {
			return err
		}
		_, err = w.revoker.UndeclareClient(ctx, "spa")
		return err
	}, storage.Event{Kind: storage.EventClient, Subject: "spa", Epoch: 8, Reason: "disabled"}},
	{"RevokeGrant", "RevokeGrant", func(ctx context.Context, w *world) error { return w.revoker.RevokeGrant(ctx, "u.s.g", "typed") },
		storage.Event{Kind: storage.EventGrant, Subject: "u.s.g", Reason: "revoked", Audiences: []string{"https://a.example", "https://b.example"}}},
	{"EndSession", "EndSession", func(ctx context.Context, w *world) error { return w.revoker.EndSession(ctx, "u.s", "typed") },
		storage.Event{Kind: storage.EventSession, Subject: "u.s", Reason: "ended"}},
	{"RevokeKey", "PutKeyRing", func(ctx context.Context, w *world) error {
		return w.revoker.RevokeKey(ctx, w.ring, w.ring.Signer(keys.ES256), "typed")
	}, storage.Event{Kind: storage.EventKey, Reason: "revoked"}},
	{"RevokeAll", "UpdateClient", func(ctx context.Context, w *world) error {
		_, err := w.revoker.RevokeAll(ctx, "typed")
		return err
	}, storage.Event{Kind: storage.EventAll, Reason: "revoked"}},
}

// TestEventComesFirst: everything that ends is announced to those whom it
// concerns, for as long as a token can live, before anything changes.
func TestEventComesFirst(t *testing.T) {
	for _, end := range ends {
		t.Run(end.name, func(t *testing.T) {
			w := newWorld(t)
			before := w.state()
			check(t, end.do(t.Context(), w))
			if len(w.writes) < 2 || w.writes[0] != "AppendEvents" || !slices.Contains(w.writes, end.write) || w.state() == before {
				t.Errorf("it wrote %q", w.writes)
			}
			got := w.events()[0]
			if end.want.Kind == storage.EventKey {
				end.want.Subject = w.ring.List()[0].ID
			}
			if len(got.ID) != 22 || got.NotBefore != start || got.Until != start.Add(life+keys.Skew) {
				t.Errorf("the event is %+v", got)
			}
			if got.Kind != end.want.Kind || got.Subject != end.want.Subject || got.Epoch != end.want.Epoch || got.Reason != end.want.Reason || !slices.Equal(got.Audiences, end.want.Audiences) {
				t.Errorf("the event is  %+v\nexpected is %+v", got, end.want)
			}
			if strings.Contains(got.Reason, "typed") || !strings.Contains(w.log.String(), "audit=true") {
				t.Errorf("the feed says %q, the log %q", got.Reason, w.log.String())
			}
		})
	}
}

// TestWhatCannotBeAnnouncedDoesNotEnd: and whoever asked is told. Where the
// answer was lost it is announced again.
func TestWhatCannotBeAnnouncedDoesNotEnd(t *testing.T) {
	for _, end := range ends {
		t.Run(end.name, func(t *testing.T) {
			w := newWorld(t)
			before := w.state()
			w.fault = func(write string) storagetest.Outcome { return storagetest.Outcome{Fail: write == "AppendEvents"} }
			if err := end.do(t.Context(), w); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("it answers %v", err)
			}
			if end.name != "UndeclareClient" && w.state() != before || len(w.events()) > 0 || strings.Contains(w.log.String(), "audit=true") {
				t.Errorf("%s\nbecame %s, %v, %s", before, w.state(), w.events(), w.log.String())
			}
			lost := false
			w.fault = func(write string) storagetest.Outcome {
				o := storagetest.Outcome{Lose: write == "AppendEvents" && !lost}
				lost = lost || o.Lose
				return o
			}
			check(t, end.do(t.Context(), w))
			list := w.events()
			if len(list) < 2 || list[0].ID != list[1].ID && end.name != "RevokeAll" {
				t.Errorf("the lost event was not appended again: %+v", list)
			}
		})
	}
}

// TestWhatWasAnnouncedAndDidNotEnd: with an error it is announced, which is the
// safe direction, and doing it again ends it.
func TestWhatWasAnnouncedAndDidNotEnd(t *testing.T) {
	for _, end := range ends {
		t.Run(end.name, func(t *testing.T) {
			w := newWorld(t)
			before := w.state()
			w.fault = func(write string) storagetest.Outcome { return storagetest.Outcome{Fail: write == end.write} }
			if err := end.do(t.Context(), w); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("it answers %v", err)
			}
			if len(w.events()) == 0 || end.name != "UndeclareClient" && w.state() != before {
				t.Errorf("%s\nbecame %s, announced was %v", before, w.state(), w.events())
			}
			w.fault = nil
			check(t, end.do(t.Context(), w))
			if w.state() == before {
				t.Error("doing it again does not end it")
			}
		})
	}
}

// TestNothingThatIsNotThereIsAnnounced: what anybody can name fills nothing.
func TestNothingThatIsNotThereIsAnnounced(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for name, err := range map[string]error{
		"user":    w.revoker.RevokeUser(ctx, "nobody", ""),
		"removed": w.revoker.RemoveUser(ctx, "nobody"),
		"client":  w.revoker.RemoveClient(ctx, "nothing"),
		"grant":   w.revoker.RevokeGrant(ctx, "u.s.nothing", ""),
		"session": w.revoker.EndSession(ctx, "u.nothing", ""),
	} {
		if !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.revoker.RevokeKey(ctx, w.ring, "nothing", ""); !errors.Is(err, keys.ErrNoKey) {
		t.Errorf("key: %v", err)
	}
	if list := w.events(); len(list) > 0 {
		t.Errorf("announced was %v", list)
	}
}

// TestEndingAgainFillsNothing: whoever holds a dead refresh token or an old ID
// token may present it for ever.
func TestEndingAgainFillsNothing(t *testing.T) {
	w := newWorld(t)
	for range 10 {
		check(t, w.revoker.RevokeGrant(t.Context(), "u.s.g", ""))
		check(t, w.revoker.EndSession(t.Context(), "u.s", ""))
	}
	// Once when it ended and, of the grant, once more: the store ends grants by
	// itself, and the process that saw it may have died.
	if list := w.events(); len(list) != 3 {
		t.Errorf("%d events, 3 expected: %+v", len(list), list)
	}
}

// TestConflict: somebody else changed the user between the event and the end.
// What counts is announced anew.
func TestConflict(t *testing.T) {
	w := newWorld(t)
	first := true
	w.fault = func(write string) storagetest.Outcome {
		if write == "UpdateUser" && first {
			first = false
			u, err := w.store.User(t.Context(), "u")
			check(t, err)
			u.Epoch = 40
			check(t, w.store.UpdateUser(t.Context(), u))
		}
		return storagetest.Outcome{}
	}
	check(t, w.revoker.RevokeUser(t.Context(), "u", ""))
	u, err := w.store.User(t.Context(), "u")
	check(t, err)
	list := w.events()
	if last := list[len(list)-1]; u.Epoch != 41 || last.Epoch != 41 {
		t.Errorf("the user is at epoch %d, announced was %+v", u.Epoch, list)
	}
}

// TestRevokeAll: everybody, page by page, each page announced in one write.
func TestRevokeAll(t *testing.T) {
	w := newWorld(t)
	const more = 1200
	for i := range more {
		check(t, w.store.CreateUser(t.Context(), storage.User{ID: storage.UserID(fmt.Sprint("u", i)), Name: fmt.Sprintf("name %04d", i)}))
	}
	raced := false
	w.fault = func(write string) storagetest.Outcome {
		if write == "UpdateUser" && !raced { // somebody logs in, or changes the address
			raced = true
			u, err := w.store.User(t.Context(), "u")
			check(t, err)
			check(t, w.store.UpdateUser(t.Context(), u))
		}
		return storagetest.Outcome{}
	}
	done, err := w.revoker.RevokeAll(t.Context(), "test")
	check(t, err)
	if done != (revocation.Ended{Clients: 1, Users: more + 1}) {
		t.Errorf("it ended %+v", done)
	}
	appends := 0
	for _, write := range w.writes {
		if write == "AppendEvents" {
			appends++
		}
	}
	if appends > 10 {
		t.Errorf("it was announced in %d writes", appends)
	}
	var after storage.Cursor
	announced := map[string]uint64{}
	for {
		list, next, err := w.store.Events(t.Context(), after, 1000)
		check(t, err)
		if len(list) == 0 {
			break
		}
		for _, e := range list {
			announced[string(e.Kind)+" "+e.Subject] = max(e.Epoch, announced[string(e.Kind)+" "+e.Subject])
		}
		after = next
	}
	page := storage.Page{Limit: 1000}
	for {
		list, err := w.store.ListUsers(t.Context(), page)
		check(t, err)
		for _, u := range list {
			if u.Epoch == 0 || announced["user "+string(u.ID)] != u.Epoch {
				t.Fatalf("user %s is at epoch %d, announced was %d", u.ID, u.Epoch, announced["user "+string(u.ID)])
			}
		}
		if len(list) < page.Limit {
			break
		}
		page.After = list[len(list)-1].Name
	}
	if _, ok := announced["all "]; !ok || announced["client spa"] != 8 {
		t.Errorf("announced was %v", announced)
	}
	st, err := w.store.Standing(t.Context(), "u.s.g", "spa")
	check(t, err)
	c, err := w.store.Client(t.Context(), "spa")
	check(t, err)
	if revocation.Live(st, c, start) == nil || revocation.SessionLive(st.Session, st.User, start) == nil {
		t.Error("a grant or a session is alive")
	}
}
