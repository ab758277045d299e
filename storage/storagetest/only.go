package storagetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
)

// families makes n grants of u1 whose codes were redeemed.
func families(t *testing.T, s storage.Store, n int) (ids []storage.GrantID) {
	t.Helper()
	for i := range n {
		id := storage.GrantID(fmt.Sprint("u1.s1.g", i))
		check(t, s.CreateGrant(t.Context(), grant(id)))
		r := redemption(start)
		r.Grant = id
		check(t, s.Redeem(t.Context(), r))
		ids = append(ids, id)
	}
	return ids
}

// testOnlyUntil: a user who is slowed down gets one refresh in a time, with
// whichever grant, and what is too soon changes nothing.
func testOnlyUntil(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	other := open()
	defer other.Close()
	ids := families(t, s, 3)
	check(t, s.CreateGrant(ctx, grant("u2.s1.g0")))
	r := redemption(start)
	r.Grant = "u2.s1.g0"
	check(t, s.Redeem(ctx, r))
	until := start.Add(10 * time.Minute)
	rotate := func(s storage.Store, id storage.GrantID, from uint64, at, until time.Time) error {
		return s.Rotate(ctx, storage.Rotation{Grant: id, From: from, At: at, Grace: 10 * time.Second, IdleExpires: at.Add(time.Hour), OnlyUntil: until})
	}
	is := func(id storage.GrantID, generation uint64) {
		t.Helper()
		st, err := s.Standing(ctx, id, "spa")
		check(t, err)
		if g := st.Grant; g.Generation != generation || !g.RevokedAt.IsZero() {
			t.Errorf("grant %s is of generation %d, revoked %q; %d expected", id, g.Generation, g.RevokedFor, generation)
		}
	}
	check(t, rotate(s, ids[0], 1, start, until))
	// The same client asks again within the grace window: that is no other one.
	check(t, rotate(s, ids[0], 1, start.Add(10*time.Second), until))
	for _, at := range []time.Time{start, until.Add(-time.Nanosecond)} {
		want(t, rotate(s, ids[0], 2, at, until), storage.ErrTooSoon)
		want(t, rotate(other, ids[1], 1, at, until.Add(time.Minute)), storage.ErrTooSoon)
	}
	is(ids[0], 2)
	is(ids[1], 1)
	keep := rotation(1, start)
	keep.Grant, keep.Keep, keep.OnlyUntil = ids[2], true, until
	want(t, s.Rotate(ctx, keep), storage.ErrTooSoon)
	// Who is another, or is not slowed down any more, does not wait.
	check(t, rotate(s, "u2.s1.g0", 1, start, until))
	check(t, rotate(s, ids[2], 1, start, time.Time{}))
	// What is no refresh is refused as ever, and takes none.
	want(t, rotate(s, ids[1], 1, start.Add(25*time.Hour), start.Add(26*time.Hour)), storage.ErrExpired)
	want(t, rotate(s, ids[1], 7, until, until.Add(time.Minute)), storage.ErrNotFound)
	want(t, rotate(s, "u1.s1.none", 1, until, until.Add(time.Minute)), storage.ErrNotFound)
	check(t, rotate(other, ids[1], 1, until, until.Add(10*time.Minute)))
	is(ids[1], 2)
	want(t, rotate(s, ids[0], 2, until, until.Add(10*time.Minute)), storage.ErrTooSoon)
	// One that was used before is reuse, whenever it comes.
	want(t, rotate(s, ids[0], 1, until, until.Add(10*time.Minute)), storage.ErrReused)
	keep.From, keep.At, keep.OnlyUntil = 2, until.Add(10*time.Minute), until.Add(20*time.Minute)
	keep.IdleExpires = keep.At.Add(time.Hour)
	check(t, s.Rotate(ctx, keep))
	want(t, s.Rotate(ctx, keep), storage.ErrTooSoon)
}

// testOnlyUntilRace: of any number of families that refresh at once one does;
// of any number of callers with one token all are answered.
func testOnlyUntilRace(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	other := open()
	defer other.Close()
	ids := families(t, s, 10)
	var work sync.WaitGroup
	var mu sync.Mutex
	refreshed, refused := map[storage.GrantID]int{}, map[storage.GrantID]int{}
	for i := range racers {
		handle, id := []storage.Store{s, other}[i/len(ids)%2], ids[i%len(ids)]
		work.Go(func() {
			r := rotation(1, start)
			r.Grant, r.OnlyUntil = id, start.Add(time.Minute)
			err := handle.Rotate(ctx, r)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				refreshed[id]++
			case errors.Is(err, storage.ErrTooSoon):
				refused[id]++
			default:
				t.Error(err)
			}
		})
	}
	work.Wait()
	if len(refreshed) != 1 {
		t.Fatalf("the grants %v were refreshed, one expected", refreshed)
	}
	for id, n := range refreshed {
		if n != racers/len(ids) || refused[id] > 0 {
			t.Errorf("of %d who asked with one token of %s, %d were answered", racers/len(ids), id, n)
		}
	}
	list, err := s.ListGrants(ctx, "u1", storage.Page{Limit: 100})
	check(t, err)
	for _, g := range list {
		if !g.RevokedAt.IsZero() || (g.Generation == 2) != (refreshed[g.ID] > 0) {
			t.Errorf("grant %s is of generation %d, revoked %q", g.ID, g.Generation, g.RevokedFor)
		}
	}
}
