package backchannel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
)

// world is a store with alice, whose session u.s1 has redeemed grants at the
// client rp, which wants to be told, and at spa, which does not.
type world struct {
	t       *testing.T
	path    string
	store   storage.Store
	ring    *keys.Ring
	revoker *revocation.Revoker
	queue   *Queue

	mu  sync.Mutex
	now time.Time    // under mu
	log bytes.Buffer // under mu
}

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T, uri string) *world {
	w := &world{t: t, path: filepath.Join(t.TempDir(), "solegate.db"), now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	w.store = w.open()
	master, err := keys.ParseMaster([]byte("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"))
	check(t, err)
	w.ring, err = keys.Open(t.Context(), keys.Config{Store: w.store, Master: master, Now: w.clock, Algorithms: []keys.Algorithm{keys.ES256, keys.EdDSA}})
	check(t, err)
	for _, c := range []clients.Client{
		{ID: "rp", BackchannelLogoutURI: uri, IDTokenAlg: "EdDSA", Development: true},
		{ID: "spa", IDTokenAlg: "ES256"},
	} {
		check(t, w.store.CreateClient(t.Context(), c))
	}
	check(t, w.store.CreateUser(t.Context(), storage.User{ID: "u", Name: "alice"}))
	w.session("u.s1", "rp", "spa")
	w.queue, w.revoker = w.process(w.store)
	return w
}

// open opens the store as another process would.
func (w *world) open() storage.Store {
	s, err := sqlite.Open(w.t.Context(), sqlite.Config{Path: w.path})
	check(w.t, err)
	w.t.Cleanup(func() { s.Close() })
	return s
}

func (w *world) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (w *world) process(s storage.Store) (*Queue, *revocation.Revoker) {
	q := NewQueue(s, w.logger(), w.clock)
	return q, revocation.New(revocation.Config{Store: s, Audit: audit.New(audit.Config{Log: w.logger()}), Now: w.clock, Notify: q})
}

// session makes a login session with a redeemed grant at each of the clients.
func (w *world) session(id storage.SessionID, at ...clients.ID) {
	w.t.Helper()
	u, err := w.store.User(w.t.Context(), id.User())
	check(w.t, err)
	now := w.clock()
	check(w.t, w.store.CreateSession(w.t.Context(), storage.Session{ID: id, User: u.ID, Epoch: u.Epoch, CreatedAt: now, Expires: now.Add(7 * 24 * time.Hour)}))
	for _, c := range at {
		w.grant(storage.GrantID(string(id)+"."+string(c)), c, true)
	}
}

func (w *world) grant(id storage.GrantID, c clients.ID, redeemed bool) {
	w.t.Helper()
	now := w.clock()
	g := storage.Grant{ID: id, Session: id.Session(), User: id.User(), Client: c, CreatedAt: now, CodeExpires: now.Add(time.Minute), Expires: now.Add(24 * time.Hour)}
	if redeemed {
		g.RedeemedAt, g.Generation = now, 1
	}
	check(w.t, w.store.CreateGrant(w.t.Context(), g))
}

func (w *world) sender(s Store, q *Queue, post func(ctx context.Context, uri, token string) (int, error)) *Sender {
	sender, err := NewSender(Config{
		Issuer: "https://login.example.com", Development: true, Store: s, Queue: q, Sign: w.ring.Sign,
		Audit: audit.New(audit.Config{Log: w.logger()}), Log: w.logger(), Now: w.clock,
	})
	check(w.t, err)
	if post != nil {
		sender.post = post
	}
	return sender
}

// deliver tries once everything that is due.
func (s *Sender) deliver1(t *testing.T) (tried int) {
	t.Helper()
	list, err := s.Store.ClaimLogouts(t.Context(), s.Now(), s.Now().Add(lease), 100)
	check(t, err)
	for _, l := range list {
		s.attempt(t.Context(), l)
	}
	return len(list)
}

// untilDue moves the clock to when rp is told of the session again, if it is.
func (w *world) untilDue(id storage.SessionID) {
	w.t.Helper()
	l, err := w.store.Logout(w.t.Context(), "rp", id)
	if errors.Is(err, storage.ErrNotFound) {
		return
	}
	check(w.t, err)
	w.advance(l.DueAt.Sub(w.clock()))
}

// owed lists what is in the queue.
func (w *world) owed() []string {
	w.t.Helper()
	list := []string{}
	check(w.t, w.store.EachLogout(w.t.Context(), func(l storage.Logout) error {
		list = append(list, string(l.Session)+" "+string(l.Client))
		return nil
	}))
	slices.Sort(list)
	return list
}

func (w *world) wantOwed(want ...string) {
	w.t.Helper()
	if got := w.owed(); !slices.Equal(got, want) {
		w.t.Errorf("owed: %q, %q expected", got, want)
	}
}

// audited counts the audit events with that name and reason.
func (w *world) audited(what, reason string) (n int) {
	for line := range strings.SplitSeq(w.logged(), "\n") {
		var e struct {
			Audit       bool
			Msg, Reason string
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Audit && e.Msg == what && strings.Contains(e.Reason, reason) {
			n++
		}
	}
	return n
}
