package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
)

// TestSearch: every part of a query finds what it asks for, the newest at the
// end, and one can go on backwards.
func TestSearch(t *testing.T) {
	w := newWorld(t)
	if got, err := Search(t.Context(), w.store, Query{}); err != nil || len(got) > 0 {
		t.Errorf("of no log: %v, %v", got, err)
	}
	l := w.open(w.store, true)
	const n = 1300 // more than two pages
	for i := range n {
		w.advance(time.Second)
		e := Event{What: fmt.Sprint("event ", i)}
		switch i % 100 {
		case 1:
			e.User = "u"
		case 2:
			e.Client = "spa"
		case 3:
			e.Session = "u.s"
		case 4:
			e.Grant = "u.s.g"
		case 5:
			e.ResourceServer = "api"
		}
		l.Record(t.Context(), e)
		if i%50 == 0 {
			check(t, l.Write(t.Context(), Event{What: "tick"}))
		}
	}
	w.close(l)
	for name, c := range map[string]struct {
		q     Query
		count int
		first string
	}{
		"all":          {Query{Limit: 5000}, n + 26 + 1, "event 0"},
		"newest":       {Query{}, 100, ""},
		"user":         {Query{User: "u"}, 13, "event 1"},
		"client":       {Query{Client: "spa"}, 13, "event 2"},
		"session":      {Query{Session: "u.s"}, 13, "event 3"},
		"grant":        {Query{Grant: "u.s.g"}, 13, "event 4"},
		"api":          {Query{ResourceServer: "api"}, 13, "event 5"},
		"what":         {Query{What: "event 7"}, 1, "event 7"},
		"user, newest": {Query{User: "u", Limit: 2}, 2, "event 1101"},
		"nobody":       {Query{User: "x"}, 0, ""},
		"both":         {Query{User: "u", Client: "spa"}, 0, ""},
		"since":        {Query{User: "u", Since: start.Add(1002 * time.Second)}, 3, "event 1001"},
		"until":        {Query{User: "u", Until: start.Add(1002 * time.Second)}, 10, "event 1"},
	} {
		got, err := Search(t.Context(), w.store, c.q)
		check(t, err)
		if len(got) != c.count || c.first != "" && got[0].What != c.first {
			t.Errorf("%s: %d lines, want %d: %.300v", name, len(got), c.count, got)
		}
		if !slices.IsSortedFunc(got, func(a, b Line) int { return int(a.Seq) - int(b.Seq) }) {
			t.Errorf("%s: they are not in their order", name)
		}
	}
	var pages []string
	for q := (Query{Limit: 300}); ; {
		got, err := Search(t.Context(), w.store, q)
		check(t, err)
		if len(got) == 0 {
			break
		}
		pages = append(whats(got), pages...)
		q.Before = got[0].Seq
	}
	if all := whats(w.lines()); !slices.Equal(pages, all) {
		t.Errorf("page by page there are %d lines, %d are there", len(pages), len(all))
	}
	// A log whose begin is gone.
	w.advance(24*time.Hour - 400*time.Second)
	for swept := 500; swept == 500; {
		var err error
		swept, err = w.store.Sweep(t.Context(), w.now(), 500)
		check(t, err)
	}
	if got := w.lines(); len(got) < 400 || len(got) > 500 {
		t.Errorf("of what is left %d are found", len(got))
	}
}

// TestSearchFindsLateLines: what happened long before it could be kept is found
// by when it happened.
func TestSearchFindsLateLines(t *testing.T) {
	w := newWorld(t)
	l := w.open(w.store, false)
	check(t, l.Write(t.Context(), Event{What: "old"}))
	w.advance(5 * time.Hour)
	check(t, l.Write(t.Context(), Event{What: "in time"}))
	check(t, l.await(t.Context(), &waiting{event: Event{What: "late"}, at: w.now().Add(-4 * time.Hour), done: make(chan error, 1)}))
	for n := range 3 {
		check(t, l.Write(t.Context(), Event{What: fmt.Sprint("later ", n)}))
	}
	got, err := Search(t.Context(), w.store, Query{Since: w.now().Add(-time.Minute)})
	check(t, err)
	if !slices.Equal(whats(got), []string{"in time", "later 0", "later 1", "later 2"}) {
		t.Errorf("since a minute: %q", whats(got))
	}
	got, err = Search(t.Context(), w.store, Query{Until: w.now().Add(-time.Hour)})
	check(t, err)
	if !slices.Equal(whats(got), []string{"old", "late"}) {
		t.Errorf("until an hour ago: %q", whats(got))
	}
}

// TestFollow: what is there and what comes, of whichever process, once each.
func TestFollow(t *testing.T) {
	w := newWorld(t)
	l, other := w.open(w.store, false), w.open(w.store, false)
	check(t, l.Write(t.Context(), Event{What: "before"}))
	check(t, l.Write(t.Context(), Event{What: "a", User: "u"}))
	ctx, cancel := context.WithCancel(t.Context())
	lines := make(chan Line)
	ended := make(chan error, 1)
	go func() {
		_, err := Follow(ctx, w.store, 1, Query{User: "u"}, func(l Line) error { lines <- l; return nil })
		ended <- err
	}()
	next := func(what string) {
		t.Helper()
		if l := <-lines; l.What != what {
			t.Errorf("there came %q, want %q", l.What, what)
		}
	}
	next("a")
	check(t, other.Write(t.Context(), Event{What: "not asked for"}))
	check(t, other.Write(t.Context(), Event{What: "b", User: "u"}))
	check(t, l.Write(t.Context(), Event{What: "c", User: "u"}))
	next("b")
	next("c")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	stop := errors.New("enough")
	if last, err := Follow(t.Context(), w.store, 0, Query{}, func(l Line) error {
		if l.Seq == 3 {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) || last != 2 {
		t.Errorf("it ended at %d with %v", last, err)
	}
	if _, err := Follow(t.Context(), w.store, 77, Query{}, nil); !errors.Is(err, ErrWentBack) {
		t.Errorf("behind the end: %v", err)
	}
	check(t, w.store.Close())
	if _, err := Follow(t.Context(), w.store, 0, Query{}, nil); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("without a store: %v", err)
	}
}

// TestUnreadable: a line that can't be read shows as that.
func TestUnreadable(t *testing.T) {
	w := newWorld(t)
	line := storage.AuditLine{Seq: 1, Body: []byte("{")}
	line.Link = line.LinkAfter(storage.AuditHead{})
	check(t, w.store.AppendAudit(t.Context(), storage.AuditHead{}, []storage.AuditLine{line}))
	if got := w.lines(); len(got) != 1 || got[0].What != unreadable || got[0].Seq != 1 {
		t.Errorf("got %+v", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"v":1,"id":"x","at":"2026-11-23T12:00:00Z","what":"x","seal":{"link":"","mac":""}}`))
	f.Add([]byte(`{"v":1,"seal":{}}`))
	f.Add([]byte(`{"v":1,"address":"::1","other_addresses":["x"],"late":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := storage.AuditLine{Seq: 7, Body: b, Until: start}
		read(l)
		v := verifier{key: []byte("key"), now: start}
		v.next(l)
		l.Seq = 8
		v.next(l)
		v.end()
		if t7, err := decode(l); err == nil && len(t7.encode()) > storage.MaxAuditBody {
			t.Errorf("%q becomes too long", b)
		}
	})
}

// swept is a store in which lines are removed behind whoever has read the first.
type swept struct {
	storage.Audit
	remove func()
}

func (s *swept) AuditLines(ctx context.Context, after uint64, limit int) ([]storage.AuditLine, error) {
	if after > 0 && s.remove != nil {
		s.remove()
		s.remove = nil
	}
	return s.Audit.AuditLines(ctx, after, limit)
}

// TestVerifyWhileLinesGo: what a server removes meanwhile because its time is up
// is no theft; what is taken away before its time is, whenever that is.
func TestVerifyWhileLinesGo(t *testing.T) {
	for name, past := range map[string]bool{"past their time": true, "before": false} {
		w := newWorld(t)
		l := w.open(w.store, true)
		for n := range 2 * page {
			l.Record(t.Context(), Event{What: fmt.Sprint(n)})
		}
		check(t, l.Write(t.Context(), Event{What: "the last of them"}))
		w.advance(time.Hour)
		w.close(l)
		now := w.now().Add(23 * time.Hour)
		if past {
			w.advance(23 * time.Hour)
		}
		s := &swept{w.store, func() {
			_, err := w.store.Sweep(t.Context(), now, page+100)
			check(t, err)
		}}
		r, err := Verify(t.Context(), s, Verification{Secret: secret, Now: w.now()})
		check(t, err)
		if (len(r.Problems) == 0) != past || r.First < page {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestKept: whoever does not know for how long lines are kept does as before.
func TestKept(t *testing.T) {
	w := newWorld(t)
	kept := func(want time.Duration) {
		t.Helper()
		if got, err := Kept(t.Context(), w.store, time.Minute); err != nil || got != want {
			t.Errorf("%s, %v; %s expected", got, err, want)
		}
	}
	kept(time.Minute)
	l := w.open(w.store, false)
	check(t, l.Write(t.Context(), Event{What: "a"}))
	kept(24 * time.Hour)
	w.advance(time.Hour)
	kept(24 * time.Hour)
	l.config.Keep = 0
	check(t, l.Write(t.Context(), Event{What: "b"}))
	kept(0)
}
