package revocation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/storagetest"
)

// grant stores a grant with a place of its own.
func (w *world) grant(id storage.GrantID, index uint32, change func(*storage.Grant)) storage.Place {
	w.t.Helper()
	g := storage.Grant{ID: id, User: id.User(), Session: id.Session(), Client: "spa", CreatedAt: start, Expires: start.Add(time.Hour), Status: storage.Place{List: "list", Index: index}}
	if change != nil {
		change(&g)
	}
	if err := w.store.CreateGrant(context.WithoutCancel(w.t.Context()), g); err != nil {
		w.t.Error(err)
	}
	return g.Status
}

// told are the places that the events name, and how many events there are.
func (w *world) told() (places []storage.Place, events int) {
	w.t.Helper()
	list := w.events()
	for _, e := range list {
		places = append(places, e.Status...)
	}
	slices.SortFunc(places, func(a, b storage.Place) int { return int(a.Index) - int(b.Index) })
	return places, len(list)
}

func (w *world) expect(what string, events int, want ...storage.Place) {
	w.t.Helper()
	if got, n := w.told(); !slices.Equal(got, want) || n != events {
		w.t.Errorf("%s: %d events with places %v; %d with %v expected", what, n, got, events, want)
	}
}

// TestEndNamesPlaces: the event of a user or a session has the places of the
// grants that end by it and may still have tokens, those of a grant or a token
// its own.
func TestEndNamesPlaces(t *testing.T) {
	for name, end := range map[string]struct {
		do   func(context.Context, *world) error
		want []uint32
	}{
		"block":  {func(ctx context.Context, w *world) error { return w.revoker.BlockUser(ctx, "u", "", time.Time{}) }, []uint32{1, 2, 3, 4, 9}},
		"remove": {func(ctx context.Context, w *world) error { return w.revoker.RemoveUser(ctx, "u") }, []uint32{1, 2, 3, 4, 9}},
		"session": {func(ctx context.Context, w *world) error { return w.revoker.EndSession(ctx, "u.s", "") },
			[]uint32{1, 2, 9}},
		"grant": {func(ctx context.Context, w *world) error { return w.revoker.RevokeGrant(ctx, "u.s.a", "") }, []uint32{1}},
		"token": {func(ctx context.Context, w *world) error {
			return w.revoker.RevokeToken(ctx, revocation.Token{ID: "jti", Client: "spa", Status: storage.Place{List: "list", Index: 7}}, "")
		}, []uint32{7}},
		"client": {func(ctx context.Context, w *world) error { return w.revoker.DisableClient(ctx, "spa") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.grant("u.s.a", 1, nil)
			w.grant("u.s.b", 2, func(g *storage.Grant) { g.RevokedAt = start.Add(-time.Minute) })
			// Sessions whose names begin like this one's.
			w.grant("u.s-.c", 3, nil)
			w.grant("u.s0.d", 4, nil)
			w.grant("v.s.e", 5, nil)
			past := start.Add(-life - keys.Skew)
			w.grant("u.s.f", 6, func(g *storage.Grant) { g.Expires = past })
			w.grant("u.s.g2", 7, func(g *storage.Grant) { g.RevokedAt = past })
			w.grant("u.s.h", 8, func(g *storage.Grant) { g.IdleExpires = past })
			w.grant("u.s.i", 9, func(g *storage.Grant) { g.IdleExpires = past.Add(time.Second) })
			check(t, end.do(t.Context(), w))
			var want []storage.Place
			for _, index := range end.want {
				want = append(want, storage.Place{List: "list", Index: index})
			}
			w.expect(name, 1, want...)
			if w.writes[0] != "AppendEvents" {
				t.Errorf("it wrote %q", w.writes)
			}
		})
	}
}

// TestManyPlaces: what does not fit into an event is in others that say the
// same. As many as are read at once are announced first, in one go, and the others
// when the end is written: nobody keeps it off by having many.
func TestManyPlaces(t *testing.T) {
	w := newWorld(t)
	const n = 1300
	var want []storage.Place
	var work sync.WaitGroup
	for i := range uint32(n) {
		want = append(want, storage.Place{List: "list", Index: i})
		work.Go(func() { w.grant(storage.GrantID(fmt.Sprintf("u.s.x%04d", i)), i, nil) })
	}
	work.Wait()
	check(t, w.revoker.RevokeUser(t.Context(), "u", ""))
	w.expect("a user with many grants", 4+2, want...)
	for _, e := range w.events() {
		if len(e.Status) > 256 || e.Kind != storage.EventUser || e.Subject != "u" || e.Epoch != 4 || e.Reason != "revoked" {
			t.Errorf("an event of %d places: %+v", len(e.Status), e)
		}
	}
	if want := []string{"AppendEvents", "UpdateUser", "AppendEvents"}; !slices.Equal(w.writes, want) {
		t.Errorf("it wrote %q, %q expected", w.writes, want)
	}
}

// TestGrantIsMadeMeanwhile: a grant that somebody gets between the event and
// the end is named, too: tokens may have been issued for it.
func TestGrantIsMadeMeanwhile(t *testing.T) {
	for write, end := range map[string]func(context.Context, *world) error{
		"UpdateUser": func(ctx context.Context, w *world) error { return w.revoker.BlockUser(ctx, "u", "", time.Time{}) },
		"RemoveUser": func(ctx context.Context, w *world) error { return w.revoker.RemoveUser(ctx, "u") },
		"EndSession": func(ctx context.Context, w *world) error { return w.revoker.EndSession(ctx, "u.s", "") },
		"UpdateUser of all": func(ctx context.Context, w *world) error {
			_, err := w.revoker.RevokeAll(ctx, "")
			return err
		},
	} {
		t.Run(write, func(t *testing.T) {
			w := newWorld(t)
			w.fault = func(now string) storagetest.Outcome {
				if (now == write || now+" of all" == write) && len(w.writes) < 6 {
					w.grant("u.s.late", 5, nil)
				}
				return storagetest.Outcome{}
			}
			check(t, end(t.Context(), w))
			if places, _ := w.told(); len(places) != 1 || places[0].Index != 5 {
				t.Errorf("the places %v were told", places)
			}
		})
	}
}

// TestPlacesAreNotAnnounced: whoever asked is told, and may do it again.
func TestPlacesAreNotAnnounced(t *testing.T) {
	w := newWorld(t)
	w.fault = func(write string) storagetest.Outcome {
		if write == "UpdateUser" && w.state() != "" && len(w.writes) < 3 {
			w.grant("u.s.late", 5, nil)
		}
		return storagetest.Outcome{Fail: write == "AppendEvents" && len(w.writes) == 3}
	}
	if err := w.revoker.RevokeUser(t.Context(), "u", ""); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("the late place was not announced, and it says %v", err)
	}
	w.fault = nil
	check(t, w.revoker.RevokeUser(t.Context(), "u", ""))
	if places, _ := w.told(); len(places) != 1 {
		t.Errorf("the places %v were told", places)
	}
}

// TestPlacesOfSessionAreNotAnnounced: the same of a session, whose end is written
// when it is done again.
func TestPlacesOfSessionAreNotAnnounced(t *testing.T) {
	w := newWorld(t)
	w.fault = func(write string) storagetest.Outcome {
		if write == "EndSession" && len(w.writes) < 3 {
			w.grant("u.s.late", 5, nil)
		}
		return storagetest.Outcome{Fail: write == "AppendEvents" && len(w.writes) >= 3}
	}
	for range 2 {
		if err := w.revoker.EndSession(t.Context(), "u.s", ""); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("the late place was not announced, and it says %v", err)
		}
	}
	w.fault = nil
	for range 3 {
		check(t, w.revoker.EndSession(t.Context(), "u.s", ""))
	}
	w.expect("a session that is ended again", 2, storage.Place{List: "list", Index: 5})
}

// TestNoStatusList: where there are none nobody looks for places.
func TestNoStatusList(t *testing.T) {
	w := newWorld(t)
	config := w.revoker.Config
	config.NoStatusList = true
	w.grant("u.s.a", 1, nil)
	w.revoker = revocation.New(config)
	check(t, w.revoker.EndSession(t.Context(), "u.s", ""))
	check(t, w.revoker.RevokeUser(t.Context(), "u", ""))
	w.expect("without lists", 2)
	_, err := w.revoker.RevokeAll(t.Context(), "")
	check(t, err)
	if c, err := w.store.Client(t.Context(), clients.ID("spa")); err != nil || c.Epoch != 8 {
		t.Errorf("%+v, %v", c, err)
	}
}
