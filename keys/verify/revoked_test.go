package verify

import (
	"crypto/rand"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/solegate/solegate/keys/verify/feed"
)

func fill(s *revoked, n int) {
	until := time.Unix(2000000000, 0)
	for i := 0; i < n; i += feed.MaxPage {
		var page []feed.Event
		for j := i; j < min(n, i+feed.MaxPage); j++ {
			page = append(page, feed.Event{Kind: feed.Session, Subject: fmt.Sprint(j), NotBefore: until, Until: until})
		}
		s.add(page, func(feed.Event) uint32 { return 300 })
	}
}

// TestMillionRevocationsFitIntoMemory says how much they need.
func TestMillionRevocationsFitIntoMemory(t *testing.T) {
	const n = 1000000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := newRevoked()
	fill(s, n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	bytes := float64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%.1f bytes a revocation", bytes)
	if bytes > 100 || s.count.Load() != n {
		t.Errorf("%.1f bytes for each of %d, at most 100 are expected", bytes, s.count.Load())
	}
	// When they have expired the memory is given back.
	for i := range revokedShards {
		s.sweep(i, math.MaxUint32, time.Unix(2000000001, 0))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if left := int64(after.HeapAlloc) - int64(before.HeapAlloc); s.count.Load() != 0 || left > 1<<20 {
		t.Errorf("%d bytes are left for %d", left, s.count.Load())
	}
	runtime.KeepAlive(s)
}

// TestSweepNeedsBothClocks: neither of them alone makes an event forgotten, and
// one that is meant for ever is kept.
func TestSweepNeedsBothClocks(t *testing.T) {
	until := time.Unix(2000000000, 0)
	for _, test := range []struct {
		due  uint32
		wall time.Time
		left int64
	}{
		{300, until.Add(time.Hour), 2}, {math.MaxUint32, until, 2}, {299, until.Add(-time.Hour), 2}, {301, until.Add(time.Second), 1},
	} {
		s := newRevoked()
		s.add([]feed.Event{
			{Kind: feed.Session, Subject: "a", Until: until},
			{Kind: feed.Session, Subject: "for ever", Until: time.Unix(feedFarthest, 0)},
		}, func(feed.Event) uint32 { return 300 })
		for i := range revokedShards {
			s.sweep(i, test.due, test.wall)
		}
		if n := s.count.Load(); n != test.left {
			t.Errorf("at %d and %s: %d are left, %d expected", test.due, test.wall, n, test.left)
		}
	}
}

// feedFarthest is the latest time that an event can have.
const feedFarthest = 253370764799

// TestNothingIsWeakened: events may come again, and in any order.
func TestNothingIsWeakened(t *testing.T) {
	s := newRevoked()
	event := func(epoch uint64, until int64) feed.Event {
		return feed.Event{Kind: feed.User, Subject: "alice", Epoch: epoch, Until: time.Unix(until, 0)}
	}
	due := func(e feed.Event) uint32 { return uint32(e.Until.Unix()) }
	s.add([]feed.Event{event(3, 10)}, due)
	version := s.version.Load()
	s.add([]feed.Event{event(2, 20), event(3, 5)}, due)
	got, _ := s.find(s.mark(feed.User, "alice"))
	if got != (ending{3, 20, 20}) || s.version.Load() != version || s.count.Load() != 1 {
		t.Errorf("%+v, version %d, was %d", got, s.version.Load(), version)
	}
	s.add([]feed.Event{event(4, 5)}, due)
	if s.version.Load() == version {
		t.Error("a later epoch doesn't count as a change")
	}
	s.add([]feed.Event{{Kind: feed.All, NotBefore: time.Unix(50, 0)}, {Kind: feed.All, NotBefore: time.Unix(40, 0)}}, due)
	if s.all.Load() != 50 {
		t.Errorf("all until %d", s.all.Load())
	}
}

// TestMarksCannotBeAimed: they differ from process to process, and what is one
// kind's subject is not another's.
func TestMarksCannotBeAimed(t *testing.T) {
	a, b := newRevoked(), newRevoked()
	if a.mark(feed.User, "alice") == b.mark(feed.User, "alice") {
		t.Error("two processes have the same marks")
	}
	if a.mark(feed.User, "alice") == a.mark(feed.Session, "alice") || a.mark("user", "x\x00y") == a.mark("user\x00x", "y\x00") {
		t.Error("kinds share their marks")
	}
}

// BenchmarkFind is what one look into a million costs, from all processors.
func BenchmarkFind(b *testing.B) {
	s := newRevoked()
	fill(s, 1000000)
	marks := make([]mark, 1<<16)
	for i := range marks {
		rand.Read(marks[i][:])
	}
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, ok := s.find(marks[i%len(marks)]); ok {
				b.Fatal("found")
			}
		}
	})
}

// BenchmarkMark is what one hash costs.
func BenchmarkMark(b *testing.B) {
	s := newRevoked()
	for b.Loop() {
		s.mark(feed.Session, "usr_0123456789abcdef.ses_0123456789abcdef")
	}
}

// TestRecentChangesAreNotMissed: a token that passed is refused after whichever
// of few or many changes since names it, and looked for again only if one may.
func TestRecentChangesAreNotMissed(t *testing.T) {
	s := newRevoked()
	token := &Token{Subject: "alice", ClientID: "spa", SessionID: "session", GrantID: "grant", ID: "one", keyID: "key"}
	m := s.marks(token)
	other := func(n int) (list []mark) {
		for i := range n {
			list = append(list, s.mark(feed.Session, fmt.Sprint(i)))
		}
		return list
	}
	for name, hit := range map[string]mark{"user": m.user, "client": m.client, "session": m.session, "grant": m.grant, "token": m.token, "key": m.key, "all": everybody} {
		for before := range 2 * recentMarks {
			for _, after := range []int{0, 1, recentMarks - 1, recentMarks, 2 * recentMarks} {
				r := &recent{last: 1}
				from := r.add(other(before))
				r.add([]mark{hit})
				if to := r.add(other(after)); !r.concern(m, from, to) {
					t.Fatalf("%s: missed after %d others and before %d", name, before, after)
				}
			}
		}
	}
	r := &recent{last: 1}
	from := r.add(other(5))
	if to := r.add(other(recentMarks)); r.concern(m, from, to) || r.concern(m, to, to) {
		t.Error("it is about nobody, and looked for")
	}
	// One who was checked against what is newer than what is asked about.
	if to := r.add(other(1)); !r.concern(m, to, from) || !r.concern(nil, from, to) {
		t.Error("nobody can know, and it is not looked for")
	}
}

// TestWatchersAreFound holds the lists of those who watch to a plain model, in
// whatever order they come and go.
func TestWatchersAreFound(t *testing.T) {
	s, o := newRevoked(), newWatchers()
	open := map[*watched]bool{}
	for i := range 3000 {
		if r := mathrand.IntN(100); r < 52 || len(open) == 0 {
			w := &watched{entry: entry{token: &Token{Subject: fmt.Sprint(mathrand.IntN(5)), SessionID: fmt.Sprint(mathrand.IntN(20)), ID: fmt.Sprint(i)}}}
			w.marks.Store(s.marks(w.entry.token))
			o.add(w)
			open[w] = true
		} else {
			for w := range open {
				if !o.remove(w) || o.remove(w) {
					t.Fatal("one who is there is removed once")
				}
				delete(open, w)
				break
			}
		}
		if i%10 != 0 {
			continue
		}
		of := map[mark]int{}
		for w := range open {
			for _, m := range w.marks.Load().list() {
				of[m]++
			}
		}
		if len(of) != len(o.by) {
			t.Fatalf("there are %d lists, %d are expected", len(o.by), len(of))
		}
		for m, n := range of {
			found := map[*watched]bool{}
			for _, w := range o.with([]mark{m}) {
				found[w] = open[w]
			}
			if len(found) != n || len(o.with([]mark{m})) != n {
				t.Fatalf("%d are found, %d are expected", len(found), n)
			}
		}
		if n := len(o.with([]mark{{1}, everybody})); n != len(open) {
			t.Fatalf("everybody is %d, %d are expected", n, len(open))
		}
	}
}
