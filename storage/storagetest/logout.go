package storagetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

func logout(c clients.ID, x storage.SessionID, due time.Time) storage.Logout {
	return storage.Logout{Client: c, Session: x, CreatedAt: start, DueAt: due, Expires: start.Add(24 * time.Hour)}
}

func testLogouts(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	other := open()
	defer other.Close()
	claim := func(now time.Time, limit int, want ...storage.Logout) {
		t.Helper()
		got, err := s.ClaimLogouts(ctx, now, now.Add(time.Minute), limit)
		check(t, err)
		if len(got) == 0 {
			got = nil
		}
		same(t, got, want)
	}
	claimed := func(l storage.Logout, at time.Time) storage.Logout {
		l.DueAt, l.Attempts = at.Add(time.Minute), l.Attempts+1
		return l
	}
	is := func(l storage.Logout) {
		t.Helper()
		got, err := other.Logout(ctx, l.Client, l.Session)
		check(t, err)
		same(t, got, l)
	}
	gone := func(l storage.Logout) {
		t.Helper()
		_, err := other.Logout(ctx, l.Client, l.Session)
		want(t, err, storage.ErrNotFound)
	}
	claim(start, 10)
	a, b, c := logout("a", "u1.s1", start), logout("b", "u1.s1", start.Add(-time.Millisecond)), logout("a", "u1.s2", start.Add(time.Nanosecond))
	gone(a)
	check(t, s.AddLogouts(ctx, nil))
	check(t, s.AddLogouts(ctx, []storage.Logout{a, b, c}))
	is(a)
	// One that is there stays as it is.
	again := a
	again.DueAt, again.Attempts, again.Expires = start.Add(-time.Hour), 7, start.Add(time.Hour)
	d := logout("d", "u2.s1", start.Add(time.Hour))
	d.Attempts = 3 // of another store
	later := b
	later.DueAt = start.Add(time.Hour)
	check(t, other.AddLogouts(ctx, []storage.Logout{again, later, d}))
	is(a)
	is(b)
	is(d)

	early := b.DueAt
	claim(early.Add(-time.Nanosecond), 10)
	claim(early, 10, claimed(b, early))
	claim(start.Add(-time.Nanosecond), 10)
	claim(start, 10, claimed(a, start))
	is(claimed(a, start))
	claim(start.Add(time.Second), 10, claimed(c, start.Add(time.Second)))
	claim(start.Add(time.Second), 10)
	// They come again in the order in which they are due, and no more than
	// are asked for.
	at := start.Add(time.Hour)
	claim(at, 2, claimed(claimed(b, early), at), claimed(claimed(a, start), at))
	claim(at, 2, claimed(claimed(c, start), at), claimed(d, at))
	claim(at, 2)

	check(t, s.DeferLogout(ctx, "a", "u1.s1", at.Add(10*time.Hour)))
	check(t, s.DeferLogout(ctx, "nobody", "u1.s1", at))
	gone(logout("nobody", "u1.s1", at))
	is(storage.Logout{Client: "a", Session: "u1.s1", CreatedAt: start, Attempts: 2, DueAt: at.Add(10 * time.Hour), Expires: start.Add(24 * time.Hour)})
	check(t, s.FinishLogout(ctx, "b", "u1.s1"))
	check(t, s.FinishLogout(ctx, "b", "u1.s1"))
	gone(b)
	is(storage.Logout{Client: "a", Session: "u1.s2", CreatedAt: start, Attempts: 2, DueAt: at.Add(time.Minute), Expires: start.Add(24 * time.Hour)})
	check(t, s.DeferLogout(ctx, "a", "u1.s2", start))
	claim(at, 10, storage.Logout{Client: "a", Session: "u1.s2", CreatedAt: start, Attempts: 3, DueAt: at.Add(time.Minute), Expires: start.Add(24 * time.Hour)})

	// Nobody tries for ever.
	last := start.Add(24*time.Hour - 1)
	got, err := s.ClaimLogouts(ctx, last, last, 10)
	check(t, err)
	if len(got) != 3 {
		t.Errorf("%d are due just before they expire, 3 expected", len(got))
	}
	late := logout("late", "u1.s1", start)
	late.Expires = start.Add(48 * time.Hour)
	check(t, s.AddLogouts(ctx, []storage.Logout{late}))
	claim(start.Add(24*time.Hour), 10, claimed(late, start.Add(24*time.Hour)))
	for _, l := range []storage.Logout{a, c, d} {
		gone(l)
	}
	check(t, s.Check(ctx, func(problem string) { t.Error(problem) }))
}

// testLogoutsRace: of many servers that claim at once, no two get the same
// logout, and none is forgotten.
func testLogoutsRace(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	other := open()
	defer other.Close()
	const n, claimers = 200, 20
	var all []storage.Logout
	for i := range n {
		all = append(all, logout("spa", storage.SessionID(fmt.Sprintf("u%d.s", i)), start.Add(-time.Duration(i))))
	}
	check(t, s.AddLogouts(ctx, all))
	var mu sync.Mutex
	times := map[storage.SessionID]int{}
	var together sync.WaitGroup
	for i := range claimers {
		together.Go(func() {
			for {
				list, err := []storage.Store{s, other}[i%2].ClaimLogouts(ctx, start, start.Add(time.Minute), 3)
				if err != nil {
					t.Error(err)
					return
				}
				if len(list) == 0 {
					return
				}
				mu.Lock()
				for _, l := range list {
					times[l.Session]++
				}
				mu.Unlock()
			}
		})
	}
	together.Wait()
	for _, l := range all {
		if times[l.Session] != 1 {
			t.Errorf("%s was claimed %d times", l.Session, times[l.Session])
		}
	}
}

// testEachLogout: all are visited, with identifiers of any bytes, and none
// passes for another.
func testEachLogout(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	var all []storage.Logout
	for _, c := range []clients.ID{"", "a", "a:b", "a\x00b", "é", "a b", clients.ID(strings.Repeat("long", 100))} {
		for _, x := range []storage.SessionID{"u.s", "b u.s", ":u.s", "\x00u.s", "é.s"} {
			all = append(all, logout(c, x, start))
		}
	}
	for i := range 1200 { // more than are read at once
		all = append(all, logout("spa", storage.SessionID(fmt.Sprintf("many%d.s", i)), start.Add(time.Duration(i)*time.Second)))
	}
	check(t, s.AddLogouts(ctx, all))
	reopened := open()
	defer reopened.Close()
	var visited []storage.Logout
	check(t, reopened.EachLogout(ctx, func(l storage.Logout) error { visited = append(visited, l); return nil }))
	order := func(a, b storage.Logout) int {
		return strings.Compare(fmt.Sprintf("%q %q", a.Client, a.Session), fmt.Sprintf("%q %q", b.Client, b.Session))
	}
	slices.SortFunc(all, order)
	slices.SortFunc(visited, order)
	same(t, visited, all)

	stop := errors.New("enough")
	n := 0
	if err := reopened.EachLogout(ctx, func(storage.Logout) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("after an error of the visit %d were visited: %v", n, err)
	}
}
