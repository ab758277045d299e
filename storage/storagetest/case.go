package storagetest

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/storage"
)

// fullCase is a case that is as large as one can be.
func fullCase(u storage.UserID) storage.Case {
	c := storage.Case{User: u, OpenedAt: start, UpdatedAt: start.Add(time.Minute), DismissedAt: start.Add(time.Second), Expires: start.Add(90 * 24 * time.Hour), Reported: 1<<64 - 1}
	for i := range storage.MaxEvidence {
		e := storage.Evidence{ResourceServer: "api", Kind: "limit", Reason: strings.Repeat("é", storage.MaxCaseText/2), Count: i, First: start, Last: start.Add(time.Second),
			Client: "spa", Session: storage.SessionID(u) + ".s", JKT: thumbprint(i), ReceivedAt: start.Add(time.Minute)}
		for j := range storage.MaxAddresses {
			e.Addresses = append(e.Addresses, netip.AddrFrom16([16]byte{0x20, 1, 15: byte(j)}))
		}
		c.Evidence = append(c.Evidence, e)
	}
	for i := range storage.MaxTallies {
		c.Tallies = append(c.Tallies, storage.CaseTally{Rule: fmt.Sprint("r", i), ResourceServer: "api", Window: 1 << 60, Current: i, Previous: 1})
	}
	for i := range storage.MaxDecisions {
		c.Decisions = append(c.Decisions, storage.Decision{At: start, Rule: "flood", Operator: "root", Action: "suspend", Until: start.Add(time.Hour), Withheld: fmt.Sprint("cap ", i),
			Because: strings.Repeat("x", storage.MaxBecause)})
	}
	for i := range storage.MaxBatches {
		c.Batches = append(c.Batches, storage.Hash{byte(i), 31: 255})
	}
	return c
}

func testCases(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	c := fullCase("u1")
	_, err := s.Case(ctx, "u1")
	want(t, err, storage.ErrNotFound)
	want(t, s.RemoveCase(ctx, "u1"), storage.ErrNotFound)
	c.Version = 7
	want(t, s.PutCase(ctx, c), storage.ErrConflict) // there is none any more
	c.Version = 0
	check(t, s.PutCase(ctx, c))
	want(t, s.PutCase(ctx, c), storage.ErrConflict)
	other := open()
	defer other.Close()
	got, err := other.Case(ctx, "u1")
	check(t, err)
	first := got.Version
	if first == 0 {
		t.Error("a case has no version")
	}
	got.Version = 0
	same(t, got, c)

	got.Version, got.Reported = first, 5
	got.Evidence, got.Decisions = nil, nil
	check(t, other.PutCase(ctx, got))
	want(t, s.PutCase(ctx, got), storage.ErrConflict)
	again, err := s.Case(ctx, "u1")
	check(t, err)
	if again.Reported != 5 || again.Evidence != nil || again.Version == first {
		t.Errorf("the change of another handle is %+v", again)
	}

	// One that was removed and made again is another one.
	check(t, s.RemoveCase(ctx, "u1"))
	want(t, s.PutCase(ctx, again), storage.ErrConflict)
	check(t, s.PutCase(ctx, c))
	want(t, s.PutCase(ctx, again), storage.ErrConflict)
	want(t, s.PutCase(ctx, got), storage.ErrConflict)

	for i := range 7 {
		check(t, s.PutCase(ctx, fullCase(storage.UserID(fmt.Sprint("x", i)))))
	}
	check(t, s.RemoveCase(ctx, "x3"))
	listed := func() []string {
		return walk(t, 3, func(p storage.Page) ([]string, error) {
			list, err := s.ListCases(ctx, p)
			for _, c := range list {
				if c.Version == 0 {
					t.Errorf("the case of %s is listed without its version", c.User)
				}
			}
			return names(list, func(c storage.Case) string { return string(c.User) }), err
		})
	}
	same(t, listed(), []string{"u1", "x0", "x1", "x2", "x4", "x5", "x6"})

	// It goes with its user.
	check(t, s.CreateUser(ctx, user("x1", "alice")))
	check(t, s.RemoveUser(ctx, "x1"))
	_, err = s.Case(ctx, "x1")
	want(t, err, storage.ErrNotFound)
	same(t, listed(), []string{"u1", "x0", "x2", "x4", "x5", "x6"})
}

// testCasesRace: of many servers that add to one case at once none loses what it
// added, however often they must read again; and one makes it.
func testCasesRace(t *testing.T, s storage.Store, open Opener) {
	ctx := t.Context()
	other := open()
	defer other.Close()
	const writers, each = 8, 5
	var work sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for i := range writers {
		handle := s
		if i%2 == 1 {
			handle = other
		}
		work.Go(func() {
			for done := 0; done < each; {
				c, err := handle.Case(ctx, "u1")
				if errors.Is(err, storage.ErrNotFound) {
					c, err = storage.Case{User: "u1", Expires: start.Add(time.Hour), UpdatedAt: start}, nil
				}
				if err != nil {
					t.Error(err)
					return
				}
				c.Reported++
				c.Tallies = append(c.Tallies, storage.CaseTally{Rule: fmt.Sprint(i, " ", done)})
				switch err := handle.PutCase(ctx, c); {
				case err == nil:
					done++
					if c.Version == 0 {
						mu.Lock()
						made++
						mu.Unlock()
					}
				case !errors.Is(err, storage.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	c, err := s.Case(ctx, "u1")
	check(t, err)
	rules := map[string]bool{}
	for _, tally := range c.Tallies {
		rules[tally.Rule] = true
	}
	if c.Reported != writers*each || len(rules) != writers*each || made != 1 {
		t.Errorf("%d were added, by %d; %d are there, and it was made %d times", c.Reported, len(rules), writers*each, made)
	}
}

// testCaseBounds: what is beyond the bounds is refused, and changes nothing.
func testCaseBounds(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	check(t, s.PutCase(ctx, fullCase("u1")))
	before, err := s.Case(ctx, "u1")
	check(t, err)
	long := strings.Repeat("x", storage.MaxCaseText+1)
	for name, change := range map[string]func(*storage.Case){
		"evidence":        func(c *storage.Case) { c.Evidence = append(c.Evidence, storage.Evidence{}) },
		"addresses":       func(c *storage.Case) { c.Evidence[0].Addresses = append(c.Evidence[0].Addresses, netip.Addr{}) },
		"zone":            func(c *storage.Case) { c.Evidence[0].Addresses[0] = netip.MustParseAddr("fe80::1").WithZone(long) },
		"resource server": func(c *storage.Case) { c.Evidence[0].ResourceServer = clients.ID(long) },
		"reason":          func(c *storage.Case) { c.Evidence[3].Reason = long },
		"kind":            func(c *storage.Case) { c.Evidence[3].Kind = long },
		"session":         func(c *storage.Case) { c.Evidence[3].Session = storage.SessionID(long) },
		"key":             func(c *storage.Case) { c.Evidence[3].JKT = long },
		"tallies":         func(c *storage.Case) { c.Tallies = append(c.Tallies, storage.CaseTally{}) },
		"rule":            func(c *storage.Case) { c.Tallies[63].Rule = long },
		"decisions":       func(c *storage.Case) { c.Decisions = append(c.Decisions, storage.Decision{}) },
		"action":          func(c *storage.Case) { c.Decisions[0].Action = long },
		"operator":        func(c *storage.Case) { c.Decisions[0].Operator = long },
		"because":         func(c *storage.Case) { c.Decisions[0].Because = strings.Repeat("x", storage.MaxBecause+1) },
		"batches":         func(c *storage.Case) { c.Batches = append(c.Batches, storage.Hash{}) },
		"never expires":   func(c *storage.Case) { c.Expires = time.Time{} },
		"nobody's":        func(c *storage.Case) { c.User = "" },
		"long user":       func(c *storage.Case) { c.User, c.Version = storage.UserID(long), 0 },
	} {
		c := fullCase("u1")
		c.Version = before.Version
		change(&c)
		err := s.PutCase(ctx, c)
		if err == nil || errors.Is(err, storage.ErrConflict) || errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	after, err := s.Case(ctx, "u1")
	check(t, err)
	same(t, after, before)
}

// testCasesEnd: one that nobody needs goes, and none before its time.
func testCasesEnd(t *testing.T, s storage.Store, _ Opener) {
	ctx := t.Context()
	for i := range 5 {
		c := fullCase(storage.UserID(fmt.Sprint("u", i)))
		c.Expires = c.UpdatedAt.Add(time.Duration(i+1) * time.Hour)
		check(t, s.PutCase(ctx, c))
	}
	// A change may make it live longer, or less long.
	for i, expires := range []time.Time{0: start.Add(10 * time.Hour), 4: start.Add(2 * time.Hour)} {
		if expires.IsZero() {
			continue
		}
		c, err := s.Case(ctx, storage.UserID(fmt.Sprint("u", i)))
		check(t, err)
		c.Expires = expires
		check(t, s.PutCase(ctx, c))
	}
	for n := 2; n == 2; {
		var err error
		n, err = s.Sweep(ctx, start.Add(3*time.Hour), 2)
		check(t, err)
	}
	for _, id := range []storage.UserID{"u0", "u2", "u3"} { // u2 ends a minute later
		if _, err := s.Case(ctx, id); err != nil {
			t.Errorf("the case of %s went before its time: %v", id, err)
		}
	}
	// What is gone stays out of lists; an engine with a clock of its own may have
	// it for longer.
	list, err := s.ListCases(ctx, storage.Page{Limit: 10})
	check(t, err)
	for _, c := range list {
		if _, err := s.Case(ctx, c.User); err != nil {
			t.Errorf("the case of %s is listed: %v", c.User, err)
		}
	}
}
