package storagetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/storage"
)

// lines are audit lines behind a head, with these bodies, kept for an hour each
// and a second longer than the one before; for ever behind one that is.
func lines(after storage.AuditHead, bodies ...string) (list []storage.AuditLine) {
	for _, body := range bodies {
		l := storage.AuditLine{Seq: after.Seq + 1, Until: start.Add(time.Hour + time.Duration(after.Seq)*time.Second), Body: []byte(body)}
		if after.Seq > 0 && after.Until.IsZero() {
			l.Until = time.Time{}
		}
		l.Link = l.LinkAfter(after)
		list, after = append(list, l), l.Head()
	}
	return list
}

func numbered(from, to int) (bodies []string) {
	for n := from; n < to; n++ {
		bodies = append(bodies, fmt.Sprint("line ", n))
	}
	return bodies
}

// logged reads the whole log, a few lines at a time, and holds the store to its
// order and its links.
func logged(t *testing.T, s storage.Store, limit int) (bodies []string) {
	t.Helper()
	var chain storage.AuditChain
	for {
		list, err := s.AuditLines(t.Context(), chain.Last.Seq, limit)
		check(t, err)
		if len(list) > limit {
			t.Fatalf("there are %d lines, at most %d were asked for", len(list), limit)
		}
		for _, l := range list {
			check(t, chain.Next(l))
			bodies = append(bodies, string(l.Body))
		}
		if len(list) == 0 {
			head, err := s.AuditHead(t.Context())
			check(t, err)
			if head.Seq != chain.Last.Seq || head.Link != chain.Last.Link || !head.Until.Equal(chain.Last.Until) {
				t.Errorf("the head is %+v, the last line %+v", head, chain.Last)
			}
			return bodies
		}
	}
}

// head is where the log ends.
func head(t *testing.T, s storage.Store) storage.AuditHead {
	t.Helper()
	h, err := s.AuditHead(t.Context())
	check(t, err)
	return h
}

func testAudit(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	other := open()
	defer other.Close()
	if h := head(t, s); h != (storage.AuditHead{}) {
		t.Errorf("the head of no log is %+v", h)
	}
	if list, err := s.AuditLines(ctx, 0, 10); err != nil || len(list) != 0 {
		t.Errorf("of no log: %v, %v", list, err)
	}
	check(t, s.AppendAudit(ctx, storage.AuditHead{}, nil))

	odd := "ünï '\"\x00\\ \xff" + strings.Repeat("x", storage.MaxAuditBody-20)
	first := lines(storage.AuditHead{}, odd, "second")
	first[1].Until = time.Time{}
	first[1].Link = first[1].LinkAfter(first[0].Head())
	check(t, s.AppendAudit(ctx, storage.AuditHead{}, first))
	got, err := other.AuditLines(ctx, 0, 10)
	check(t, err)
	for i := range got {
		if !got[i].Until.Equal(first[i].Until) {
			t.Errorf("line %d is kept until %s, want %s", i+1, got[i].Until, first[i].Until)
		}
		got[i].Until = first[i].Until
	}
	same(t, got, first)

	// Behind another line than the last nothing is appended, and nothing of it.
	more := lines(first[0].Head(), numbered(0, 3)...)
	want(t, s.AppendAudit(ctx, first[0].Head(), more), storage.ErrConflict)
	want(t, other.AppendAudit(ctx, storage.AuditHead{}, lines(storage.AuditHead{}, "anew")), storage.ErrConflict)
	forged := head(t, s)
	forged.Link[0] ^= 1
	want(t, s.AppendAudit(ctx, forged, lines(forged, "forged")), storage.ErrConflict)
	forged.Link = storage.Hash{}
	want(t, s.AppendAudit(ctx, forged, lines(forged, "forged")), storage.ErrConflict)
	same(t, logged(t, s, 10), []string{odd, "second"})
	check(t, s.Check(ctx, func(problem string) { t.Error(problem) }))
}

// testAuditOfAnother: what was appended is there after a restart, and the log
// goes on behind it. Pages end where they should.
func testAuditOfAnother(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	check(t, s.AppendAudit(ctx, storage.AuditHead{}, lines(storage.AuditHead{}, numbered(0, 40)...)))
	check(t, s.Close())
	s = open()
	defer s.Close()
	other := open()
	defer other.Close()
	check(t, other.AppendAudit(ctx, head(t, s), lines(head(t, s), numbered(40, 50)...)))
	check(t, s.AppendAudit(ctx, head(t, s), lines(head(t, s), numbered(50, 50+storage.MaxAuditLines)...)))
	for _, limit := range []int{1, 7, 10, 1000} {
		same(t, logged(t, s, limit), numbered(0, 50+storage.MaxAuditLines))
	}
	for _, after := range []uint64{0, 1, 49, 50, 50 + storage.MaxAuditLines - 1, 50 + storage.MaxAuditLines, 1 << 40, 1<<64 - 1} {
		list, err := other.AuditLines(ctx, after, 2)
		check(t, err)
		left := uint64(max(0, int64(50+storage.MaxAuditLines)-int64(min(after, 1<<62))))
		if uint64(len(list)) != min(2, left) || len(list) > 0 && list[0].Seq != after+1 {
			t.Errorf("after %d come %d lines: %v", after, len(list), list)
		}
	}
}

// testAuditRace: many append at once, each behind what it believes to be the
// last line. There is one order, without a gap, and what each was told is so.
func testAuditRace(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	other := open()
	defer other.Close()
	const writers, each, together = 8, 6, 3
	var work sync.WaitGroup
	for w := range writers {
		work.Go(func() {
			store := []storage.Store{s, other}[w%2]
			for n := range each {
				for {
					h, err := store.AuditHead(ctx)
					if err == nil {
						var bodies []string
						for i := range together {
							bodies = append(bodies, fmt.Sprintf("%d-%d-%d", w, n, i))
						}
						err = store.AppendAudit(ctx, h, lines(h, bodies...))
					}
					if err == nil {
						break
					}
					if !errors.Is(err, storage.ErrConflict) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	work.Wait()
	got := logged(t, s, 1000)
	if len(got) != writers*each*together {
		t.Fatalf("there are %d lines, %d were appended", len(got), writers*each*together)
	}
	next := [writers]int{}
	for i := 0; i < len(got); i += together {
		var w, n int
		if _, err := fmt.Sscanf(got[i], "%d-%d-0", &w, &n); err != nil || n != next[w] {
			t.Fatalf("at %d is %q: lines were torn, or are there twice", i, got[i])
		}
		next[w]++
		for j := range together {
			if got[i+j] != fmt.Sprintf("%d-%d-%d", w, n, j) {
				t.Fatalf("at %d is %q: lines were torn", i+j, got[i+j])
			}
		}
	}
}

// testAuditEnd: lines go from the begin when they are past their time, up to the
// last of those, and none that is behind one that is kept.
func testAuditEnd(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	list := lines(storage.AuditHead{}, numbered(1, 31)...) // until an hour and 0 to 29 seconds
	check(t, s.AppendAudit(ctx, storage.AuditHead{}, list))
	sweep := func(at time.Duration) {
		t.Helper()
		for n := 4; n == 4; {
			var err error
			n, err = s.Sweep(ctx, start.Add(at), 4)
			check(t, err)
			if n > 4 {
				t.Fatalf("swept %d, no more than 4 were to go", n)
			}
		}
	}
	sweep(time.Hour - 1)
	same(t, logged(t, s, 10), numbered(1, 31))
	// A store may keep lines for a while longer, by the clocks' difference.
	sweep(time.Hour + 9*time.Second)
	got := logged(t, s, 1000)
	if len(got) < 21 {
		t.Fatalf("what is needed went: %v", got)
	}
	// The head of a log is never among those that go.
	sweep(100 * time.Hour)
	same(t, logged(t, s, 10), numbered(30, 31))
	if h := head(t, s); h.Seq != 30 || h.Link != list[29].Link {
		t.Errorf("the head is %+v", h)
	}
	// What is kept for ever keeps all that is behind it.
	ever := lines(head(t, s), numbered(31, 33)...)
	ever[1].Until = time.Time{}
	ever[1].Link = ever[1].LinkAfter(ever[0].Head())
	check(t, s.AppendAudit(ctx, head(t, s), ever))
	check(t, s.AppendAudit(ctx, head(t, s), lines(head(t, s), numbered(33, 36)...)))
	sweep(1000 * time.Hour)
	same(t, logged(t, s, 10), numbered(31, 36))
	check(t, s.Check(ctx, func(problem string) { t.Error(problem) }))
}

// testAuditCopied: lines of another store are taken as they are, if they have
// their order and are behind the last one. The log goes on behind them.
func testAuditCopied(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	all := lines(storage.AuditHead{}, numbered(0, 20)...)
	all[3].Body = []byte("altered")
	check(t, s.CopyAudit(ctx, storage.AuditHead{}, all[2:8]))
	check(t, s.CopyAudit(ctx, head(t, s), all[10:12]))
	want(t, s.CopyAudit(ctx, all[5].Head(), all[12:13]), storage.ErrConflict)
	if err := s.CopyAudit(ctx, head(t, s), all[10:11]); err == nil {
		t.Error("a line was taken that has no place")
	}
	if err := s.CopyAudit(ctx, head(t, s), []storage.AuditLine{all[13], all[12]}); err == nil {
		t.Error("lines were taken in another order")
	}
	check(t, s.AppendAudit(ctx, head(t, s), all[12:]))
	got, err := s.AuditLines(ctx, 0, 1000)
	check(t, err)
	wanted := slices.Concat(all[2:8], all[10:])
	if len(got) != len(wanted) {
		t.Fatalf("there are %d lines, want %d", len(got), len(wanted))
	}
	for i := range got {
		if got[i].Seq != wanted[i].Seq || got[i].Link != wanted[i].Link || string(got[i].Body) != string(wanted[i].Body) {
			t.Errorf("line %d is %+v, want %+v", i, got[i], wanted[i])
		}
	}
}

// testAuditUnfit: lines that don't follow on one another are refused whole, so
// that a defect elsewhere can't break the chain.
func testAuditUnfit(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	check(t, s.AppendAudit(ctx, storage.AuditHead{}, lines(storage.AuditHead{}, "first")))
	for name, alter := range map[string]func([]storage.AuditLine) []storage.AuditLine{
		"a gap before": func(l []storage.AuditLine) []storage.AuditLine { return l[1:] },
		"a gap":        func(l []storage.AuditLine) []storage.AuditLine { return append(l[:1:1], l[2:]...) },
		"order":        func(l []storage.AuditLine) []storage.AuditLine { l[0], l[1] = l[1], l[0]; return l },
		"twice":        func(l []storage.AuditLine) []storage.AuditLine { l[1] = l[0]; return l },
		"body":         func(l []storage.AuditLine) []storage.AuditLine { l[2].Body = []byte("x"); return l },
		"no body":      func(l []storage.AuditLine) []storage.AuditLine { l[2].Body = nil; return l },
		"until":        func(l []storage.AuditLine) []storage.AuditLine { l[2].Until = l[2].Until.Add(1); return l },
		"too long": func(l []storage.AuditLine) []storage.AuditLine {
			return lines(head(t, s), strings.Repeat("x", storage.MaxAuditBody+1))
		},
		"too many": func(l []storage.AuditLine) []storage.AuditLine {
			return lines(head(t, s), numbered(0, storage.MaxAuditLines+1)...)
		},
	} {
		if err := s.AppendAudit(ctx, head(t, s), alter(lines(head(t, s), numbered(0, 4)...))); err == nil || errors.Is(err, storage.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	same(t, logged(t, s, 10), []string{"first"})
}

// testAuditShortened: a log whose begin is gone can be copied into an empty
// store, and goes on there.
func testAuditShortened(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	all := lines(storage.AuditHead{}, numbered(0, 10)...)
	check(t, s.AppendAudit(ctx, storage.AuditHead{Seq: 6}, all[6:]))
	same(t, logged(t, s, 3), numbered(6, 10))
	want(t, s.AppendAudit(ctx, storage.AuditHead{Seq: 10}, lines(head(t, s), "x")), storage.ErrConflict)
	check(t, s.AppendAudit(ctx, head(t, s), lines(head(t, s), "more")))
	same(t, logged(t, s, 3), append(numbered(6, 10), "more"))
	check(t, s.Check(ctx, func(problem string) { t.Error(problem) }))
}
