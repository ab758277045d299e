package storagetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
)

func event(n int) storage.Event {
	return storage.Event{ID: fmt.Sprintf("e%04d", n), Kind: storage.EventGrant, Subject: fmt.Sprintf("u.s.g%d", n), NotBefore: start, Until: start.Add(time.Hour)}
}

func events(from, to int) (list []storage.Event) {
	for n := from; n < to; n++ {
		list = append(list, event(n))
	}
	return list
}

// ids reads all that is after a cursor, a few at a time, and holds the store to
// the form and the order of its cursors.
func ids(t *testing.T, s storage.Store, after storage.Cursor, limit int) (all []string, last storage.Cursor) {
	t.Helper()
	for {
		list, next, err := s.Events(t.Context(), after, limit)
		check(t, err)
		if len(list) > limit {
			t.Fatalf("there are %d events, at most %d were asked for", len(list), limit)
		}
		for _, e := range list {
			if e.Cursor <= after || len(e.Cursor) > 64 || strings.Trim(string(e.Cursor), "-._0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
				t.Fatalf("after %q comes %q", after, e.Cursor)
			}
			after = e.Cursor
			all = append(all, e.ID)
		}
		if next != after {
			t.Fatalf("after %q it goes on at %q", after, next)
		}
		if len(list) == 0 {
			return all, after
		}
	}
}

func idsOf(list []storage.Event) []string {
	return names(list, func(e storage.Event) string { return e.ID })
}

func testEvents(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	list, next, err := s.Events(ctx, "", 10)
	check(t, err)
	if len(list) != 0 || next != "" {
		t.Errorf("at first: %v and %q", list, next)
	}
	check(t, s.AppendEvents(ctx, nil, start))
	whole := storage.Event{
		ID: "e", Kind: storage.EventUser, Subject: "ünï '\"\x00\\", Epoch: 1<<63 + 1, NotBefore: start, Until: start.Add(time.Hour),
		Reason: "blocked", Audiences: []string{"https://a.example", "https://b.example"},
		Status: []storage.Place{{List: "ünï \"", Index: 0}, {List: "l", Index: 1<<32 - 1}},
	}
	check(t, s.AppendEvents(ctx, []storage.Event{whole, {ID: "all", Kind: storage.EventAll, NotBefore: start, Until: start.Add(time.Minute)}}, start))
	other := open()
	defer other.Close()
	list, next, err = other.Events(ctx, "", 10)
	check(t, err)
	if len(list) != 2 || list[1].Kind != storage.EventAll || list[1].Audiences != nil || list[1].Status != nil {
		t.Fatalf("got %+v", list)
	}
	first := list[0].Cursor
	list[0].Cursor = ""
	same(t, list[0], whole)

	// They come in the order in which they were appended, whatever the clocks
	// of those who append say.
	check(t, other.AppendEvents(ctx, events(0, 7), start.Add(-24*time.Hour)))
	check(t, s.AppendEvents(ctx, events(7, 30), start.Add(time.Hour)))
	check(t, s.AppendEvents(ctx, events(30, 40), start))
	for _, limit := range []int{1, 3, 1000} {
		got, _ := ids(t, s, next, limit)
		same(t, got, idsOf(events(0, 40)))
		got, _ = ids(t, other, "", limit)
		same(t, got, append([]string{"e", "all"}, idsOf(events(0, 40))...))
	}
	got, last := ids(t, s, first, 1000)
	if len(got) != 41 {
		t.Errorf("after the first there are %d", len(got))
	}
	again, next, err := s.Events(ctx, last, 10)
	check(t, err)
	if len(again) != 0 || next != last {
		t.Errorf("at the end: %v, %q", again, next)
	}
	for _, c := range []storage.Cursor{"nonsense", "-1", "1 ", " 1", "1\n", "99999999999999999999999999999999", last + "0"} {
		_, _, err := s.Events(ctx, c, 10)
		want(t, err, storage.ErrCursor)
		want(t, s.AwaitEvents(ctx, c), storage.ErrCursor)
	}

	// Before its time nothing goes, and afterwards the order goes on.
	_, err = s.Sweep(ctx, start.Add(time.Minute-1), 1000)
	check(t, err)
	if got, _ := ids(t, s, "", 1000); len(got) != 42 {
		t.Errorf("before its time something went: %v", got)
	}
	for n := 10; n == 10; {
		n, err = s.Sweep(ctx, start.Add(2*time.Hour), 10)
		check(t, err)
	}
	check(t, s.AppendEvents(ctx, events(40, 41), start.Add(2*time.Hour)))
	got, _ = ids(t, other, last, 10)
	same(t, got, idsOf(events(40, 41)))
	check(t, s.Check(ctx, func(problem string) { t.Error(problem) }))
}

// testEventsOfAnother: what was appended is there after a restart, and goes on
// behind what was there.
func testEventsOfAnother(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	check(t, s.AppendEvents(ctx, events(0, 3), start))
	_, last := ids(t, s, "", 10)
	check(t, s.Close())
	s = open()
	defer s.Close()
	check(t, s.AppendEvents(ctx, events(3, 5), start))
	got, _ := ids(t, s, last, 10)
	same(t, got, idsOf(events(3, 5)))
	got, _ = ids(t, s, "", 10)
	same(t, got, idsOf(events(0, 5)))
}

// testEventsRace: many append while others read. Nobody who follows misses an
// event, or sees one twice, and a list stays together.
func testEventsRace(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	other := open()
	defer other.Close()
	const writers, lists, each = 8, 10, 3
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for l := range lists {
				n := (w*lists + l) * each
				if err := []storage.Store{s, other}[w%2].AppendEvents(ctx, events(n, n+each), start); err != nil {
					t.Error(err)
				}
			}
		})
	}
	followed := make([][]string, 4)
	for r := range followed {
		reading.Go(func() {
			after, store := storage.Cursor(""), []storage.Store{s, other}[r%2]
			for len(followed[r]) < writers*lists*each {
				if err := store.AwaitEvents(ctx, after); err != nil {
					t.Error(err)
					return
				}
				list, next, err := store.Events(ctx, after, 7)
				if err != nil {
					t.Error(err)
					return
				}
				after = next
				followed[r] = append(followed[r], idsOf(list)...)
			}
		})
	}
	writing.Wait()
	reading.Wait()
	for _, got := range followed {
		same(t, got, followed[0])
	}
	seen := map[string]bool{}
	for i, id := range followed[0] {
		if seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
		var n int
		if _, err := fmt.Sscanf(id, "e%d", &n); err != nil || n%each != i%each {
			t.Errorf("at %d is %s: a list was torn", i, id)
		}
	}
	if len(seen) != writers*lists*each {
		t.Errorf("%d events are there, %d were appended", len(seen), writers*lists*each)
	}
}

// testAwaitEvents: it returns for what is there, for what comes, also of
// another process, and with its context.
func testAwaitEvents(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	other := open()
	defer other.Close()
	check(t, s.AppendEvents(ctx, events(0, 1), start))
	check(t, s.AwaitEvents(ctx, ""))
	check(t, other.AwaitEvents(ctx, ""))
	for n, writer := range []storage.Store{s, other} {
		_, last := ids(t, s, "", 10)
		waiting := make(chan error, 2)
		for _, reader := range []storage.Store{s, other} {
			go func() { waiting <- reader.AwaitEvents(ctx, last) }()
		}
		// What concerns others wakes nobody: this would hang if it were missed.
		check(t, writer.CreateUser(ctx, user(storage.UserID(fmt.Sprint("u", n)), fmt.Sprint("name ", n))))
		check(t, writer.AppendEvents(ctx, events(n+1, n+2), start))
		for range 2 {
			check(t, <-waiting)
		}
		for _, reader := range []storage.Store{s, other} {
			got, _ := ids(t, reader, last, 10)
			same(t, got, idsOf(events(n+1, n+2)))
		}
	}
	_, last := ids(t, s, "", 10)
	ending, cancel := context.WithCancel(ctx)
	waiting := make(chan error, 1)
	go func() { waiting <- s.AwaitEvents(ending, last) }()
	cancel()
	if err := <-waiting; !errors.Is(err, storage.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("when its context ended: %v", err)
	}
	go func() { waiting <- s.AwaitEvents(ctx, last) }()
	check(t, s.Close())
	want(t, <-waiting, storage.ErrUnavailable)
}

// testEventsEnd: what nobody can need goes from the begin of the order, up to
// the first that somebody can, and a reader who stood there misses nothing.
func testEventsEnd(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	late := start.Add(2 * time.Hour)
	alive := event(50)
	alive.Until = late.Add(time.Hour)
	check(t, s.AppendEvents(ctx, events(0, 50), late))
	before, _, err := s.Events(ctx, "", 1000)
	check(t, err)
	check(t, s.AppendEvents(ctx, append([]storage.Event{alive}, events(51, 60)...), late))
	for n := 10; n == 10; {
		n, err = s.Sweep(ctx, late, 10)
		check(t, err)
		if n > 10 {
			t.Fatalf("swept %d, no more than 10 were to go", n)
		}
	}
	left := idsOf(append([]storage.Event{alive}, events(51, 60)...))
	got, last := ids(t, s, "", 3)
	same(t, got, left)
	for _, e := range before {
		for _, limit := range []int{1, 3, 1000} {
			got, _ := ids(t, s, e.Cursor, limit)
			same(t, got, left)
		}
		check(t, s.AwaitEvents(ctx, e.Cursor))
	}
	// The last one stays, and who stands behind it goes on.
	for n := 10; n == 10; {
		n, err = s.Sweep(ctx, late.Add(2*time.Hour), 10)
		check(t, err)
	}
	got, again := ids(t, s, "", 1000)
	if len(got) == 0 || got[len(got)-1] != "e0059" || again != last {
		t.Errorf("the last one was e0059 at %q; left are %v, up to %q", last, got, again)
	}
	check(t, s.AppendEvents(ctx, events(60, 61), late))
	got, _ = ids(t, s, last, 10)
	same(t, got, idsOf(events(60, 61)))
	check(t, s.Check(ctx, func(problem string) { t.Error(problem) }))
}

// testCursors: whoever comes with a place of another history is told so, or
// misses nothing.
func testCursors(t *testing.T, s, other storage.Store) {
	ctx := t.Context()
	for n := range 3 {
		check(t, other.AppendEvents(ctx, events(100+3*n, 103+3*n), start))
		check(t, s.AppendEvents(ctx, events(3*n, 3+3*n), start))
	}
	check(t, other.AppendEvents(ctx, events(109, 112), start.Add(time.Hour)))
	list, _, err := s.Events(ctx, "", 100)
	check(t, err)
	all, told := idsOf(list), 0
	try := func(c storage.Cursor) {
		t.Helper()
		got, next, err := s.Events(ctx, c, 100)
		switch {
		case errors.Is(err, storage.ErrCursor):
			told++
			if len(got) > 0 || next != c {
				t.Errorf("from %q: %v, go on at %q, %v", c, got, next, err)
			}
			want(t, s.AwaitEvents(ctx, c), storage.ErrCursor)
		case err != nil:
			t.Errorf("from %q: %v", c, err)
		default:
			same(t, idsOf(got), all)
			check(t, s.AwaitEvents(ctx, c))
		}
	}
	theirs, _, err := other.Events(ctx, "", 100)
	check(t, err)
	for _, e := range theirs {
		try(e.Cursor)
	}
	if told == 0 {
		t.Error("of all places of another history none was noticed")
	}
	for _, own := range []storage.Cursor{list[0].Cursor, list[4].Cursor, list[8].Cursor} {
		for i := range own {
			for _, c := range []string{"0", "1", "9", "a", "f", "A", "-", "+", " ", "\x00", "é", ""} {
				if forged := own[:i] + storage.Cursor(c) + own[i+1:]; forged != own && forged != "" {
					try(forged)
				}
			}
		}
	}
}
