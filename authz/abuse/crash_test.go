package abuse_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/abuse"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/storagetest"
)

// TestBatchThatComesAgain is counted once for each account, whatever became of it
// the first time.
func TestBatchThatComesAgain(t *testing.T) {
	for name, spoil := range map[string]func(c *court){
		"the answer is lost":                 func(*court) {},
		"an account of it can't be written":  func(c *court) { c.next("PutCase", storagetest.Outcome{Fail: true}) },
		"it is not known whether one was":    func(c *court) { c.next("PutCase", storagetest.Outcome{Lose: true}) },
		"it is not known whether it is new":  func(c *court) { c.next("Once", storagetest.Outcome{Lose: true}) },
		"nobody could remember it":           func(c *court) { c.next("Once", storagetest.Outcome{Fail: true}) },
		"what was decided could not be done": func(c *court) { c.next("UpdateUser", storagetest.Outcome{Fail: true}) },
	} {
		c := newCourt(t, rules(flood))
		c.add("carol")
		spoil(c)
		b := c.batch(5, "alice", "bob", "carol")
		for i := range b.Reports[:2] {
			r := b.Reports[i]
			r.Reason = "mail"
			b.Reports = append(b.Reports, r)
		}
		err := c.judge.Report(t.Context(), notes, b)
		if told := strings.Contains(name, "can") || strings.Contains(name, "could") || strings.Contains(name, "is new"); (err != nil) != told {
			t.Errorf("%s: %v", name, err)
		}
		c.faults(nil)
		for range 2 {
			c.check(c.judge.Report(t.Context(), notes, b))
		}
		for id, n := range map[storage.UserID]uint64{"alice": 10, "bob": 10, "carol": 5} {
			if k := c.kase(id); k.Reported != n || (c.user(id).Block != nil) != (n == 10) {
				t.Errorf("%s: %s was reported %d times, %d expected, and is suspended: %t", name, id, k.Reported, n, c.user(id).Block != nil)
			}
		}
		if n := c.log.lines(`msg="account reported"`); n != 3 {
			t.Errorf("%s: %d accounts are said to be reported, 3 expected", name, n)
		}
		if n := c.log.lines(`msg="policy decided"`); n != 2 {
			t.Errorf("%s: %d decisions are in the log, 2 expected", name, n)
		}
	}
}

// TestDecisionSurvivesACrash: what is decided and not done is done when the batch
// comes again, when the account is reported again, or by another server's sweep.
func TestDecisionSurvivesACrash(t *testing.T) {
	for name, heal := range map[string]func(c *court, b reports.Batch) error{
		"the batch again": func(c *court, b reports.Batch) error { return c.judge.Report(c.Context(), notes, b) },
		"another batch": func(c *court, _ reports.Batch) error {
			c.report(1, "alice")
			if d := c.kase("alice").Decisions; len(d) != 1 || d[0].Withheld != abuse.Pending {
				c.Error("another server may be about to do it, and it is done twice")
			}
			c.after(20 * time.Second)
			return c.judge.Report(c.Context(), notes, c.batch(1, "alice"))
		},
		"a sweep": func(c *court, _ reports.Batch) error {
			c.after(20 * time.Second)
			return c.another(c.open(), rules(flood)).Sweep(c.Context())
		},
	} {
		for _, write := range []string{"AppendEvents", "UpdateUser"} {
			for _, outcome := range []storagetest.Outcome{{Fail: true}, {Lose: true}} {
				c := newCourt(t, rules(flood))
				b := c.batch(10, "alice")
				c.faults(func(now string) storagetest.Outcome { // for as long as it is dead
					if now == write {
						return outcome
					}
					return storagetest.Outcome{}
				})
				if err := c.judge.Report(t.Context(), notes, b); err == nil {
					t.Errorf("%s, %s: no error", name, write)
				}
				if d := c.kase("alice").Decisions; len(d) != 1 || d[0].Withheld != abuse.Pending {
					t.Errorf("%s, %s: %+v", name, write, d)
				}
				if write == "UpdateUser" && outcome.Lose {
					c.faults(nil) // it is done, and nobody knows
				} else if c.user("alice").Block != nil {
					t.Fatalf("%s, %s: it is done", name, write)
				}
				c.faults(nil)
				c.check(heal(c, b))
				if d := c.kase("alice").Decisions; c.user("alice").Block == nil || len(d) != 1 || d[0].Withheld != "" {
					t.Errorf("%s, %s: %+v", name, write, d)
				}
			}
		}
	}
}

// TestUnblockedIsNotSuspendedAgain: a server died after it had suspended somebody
// and before the case said so. Whoever was unblocked meanwhile stays so, until a
// rule is met anew.
func TestUnblockedIsNotSuspendedAgain(t *testing.T) {
	c := newCourt(t, rules(flood))
	b := c.batch(10, "alice")
	c.faults(func(now string) storagetest.Outcome { return storagetest.Outcome{Lose: now == "UpdateUser"} })
	if err := c.judge.Report(t.Context(), notes, b); err == nil {
		t.Error("no error")
	}
	c.faults(nil)
	if d := c.kase("alice").Decisions; c.user("alice").Block == nil || len(d) != 1 || d[0].Withheld != abuse.Pending {
		t.Fatalf("it is not as a death leaves it: %+v", d)
	}
	c.after(time.Second)
	revoker := revocation.New(revocation.Config{Store: c.store, Audit: audit.New(audit.Config{}), Now: c.clock})
	c.check(revoker.UnblockUser(t.Context(), "alice"))
	c.after(20 * time.Second)
	c.check(c.another(c.open(), rules(flood)).Sweep(t.Context()))
	c.check(c.judge.Report(t.Context(), notes, b))
	if d := c.kase("alice").Decisions; c.user("alice").Block != nil || len(d) != 1 || d[0].Withheld != abuse.Dismissed {
		t.Errorf("%+v, %+v", c.user("alice").Block, d)
	}
	c.report(10, "alice")
	if c.user("alice").Block == nil {
		t.Error("who goes on is not suspended")
	}
}

// TestDecisionThatIsOver: what a server died over is not begun when it would be
// over, or when the rule is gone.
func TestDecisionThatIsOver(t *testing.T) {
	for want, after := range map[string]func(c *court) *abuse.Judge{
		abuse.Late:    func(c *court) *abuse.Judge { c.after(25 * time.Hour); return c.judge },
		abuse.Changed: func(c *court) *abuse.Judge { return c.another(c.open(), rules()) },
		abuse.Changed + " to another action": func(c *court) *abuse.Judge {
			tell := flood
			tell.Action, tell.For = abuse.Tell, 0
			return c.another(c.open(), rules(tell))
		},
		abuse.DryRun: func(c *court) *abuse.Judge {
			return c.another(c.open(), abuse.Policy{Rules: []abuse.Rule{flood}, DryRun: true})
		},
		abuse.Gone: func(c *court) *abuse.Judge {
			c.faults(func(write string) storagetest.Outcome {
				if write == "Count" { // between the look at the account and the act
					c.store.RemoveUser(c.Context(), "alice")
				}
				return storagetest.Outcome{}
			})
			return c.judge
		},
	} {
		c := newCourt(t, rules(flood))
		c.next("AppendEvents", storagetest.Outcome{Fail: true})
		c.judge.Report(t.Context(), notes, c.batch(10, "alice"))
		c.faults(nil)
		j := after(c)
		c.after(time.Minute)
		c.check(j.Sweep(t.Context()))
		k, err := c.store.Case(t.Context(), "alice")
		if want == abuse.Gone && errors.Is(err, storage.ErrNotFound) {
			continue // the case went with the account
		}
		if want, _, _ = strings.Cut(want, " to "); err != nil || k.Decisions[0].Withheld != want {
			t.Errorf("%v %+v, %s expected", err, k.Decisions, want)
		} else if want != abuse.Gone && c.user("alice").Block != nil {
			t.Errorf("%s: suspended", want)
		}
	}
}

// TestDismissedWhileItIsDone: an operator has the last word.
func TestDismissedWhileItIsDone(t *testing.T) {
	c := newCourt(t, rules(flood))
	c.report(1, "alice")
	operator := c.another(c.open(), rules(flood))
	dismissed := false
	c.faults(func(write string) storagetest.Outcome {
		if write == "UpdateUser" && !dismissed {
			dismissed = true
			c.check(operator.Dismiss(t.Context(), "alice", "hm"))
		}
		return storagetest.Outcome{}
	})
	c.after(time.Second)
	c.report(9, "alice")
	if k := c.kase("alice"); !dismissed || c.user("alice").Block != nil || abuse.Open(k) {
		t.Errorf("dismissed %t, %+v, %+v", dismissed, c.user("alice").Block, k.Decisions)
	}
}

// TestSlowAccountHoldsNobodyUp: the others of a batch are done while one waits.
func TestSlowAccountHoldsNobodyUp(t *testing.T) {
	c := newCourt(t, rules(flood))
	var who []string
	for i := range 20 {
		who = append(who, fmt.Sprint("user", i))
		c.add(who[i])
	}
	var mu sync.Mutex
	written, others := 0, make(chan struct{})
	c.faults(func(write string) storagetest.Outcome {
		if write != "PutCase" {
			return storagetest.Outcome{}
		}
		mu.Lock()
		written++
		n := written
		mu.Unlock()
		switch n {
		case 1:
			<-others
		case len(who):
			close(others)
		}
		return storagetest.Outcome{}
	})
	c.report(1, who...)
}

// TestReportEndsWithItsRequest: nothing waits for ever.
func TestReportEndsWithItsRequest(t *testing.T) {
	c := newCourt(t, rules(flood))
	ctx, cancel := context.WithCancel(t.Context())
	c.faults(func(write string) storagetest.Outcome {
		if write == "PutCase" {
			cancel()
			return storagetest.Outcome{Before: time.Hour}
		}
		return storagetest.Outcome{}
	})
	b := c.batch(10, "alice", "bob")
	if err := c.judge.Report(ctx, notes, b); err == nil {
		t.Error("no error, and it is not written")
	}
	c.faults(nil)
	c.check(c.judge.Report(t.Context(), notes, b))
	if c.kase("alice").Reported != 10 || c.user("bob").Block == nil {
		t.Error("it does not count when it comes again")
	}
}

// TestCapHoldsWhateverFails: who may be suspended counts, and who is not does not.
func TestCapHoldsWhateverFails(t *testing.T) {
	p := rules(flood)
	p.SuspendPerHour = 2
	who := []string{"alice", "bob", "carol", "dave"}
	for name, test := range map[string]struct {
		write     string // which fails
		outcome   storagetest.Outcome
		suspended int // meanwhile
	}{
		"it can't be written":                  {"UpdateUser", storagetest.Outcome{Fail: true}, 0},
		"it is not known to be written":        {"UpdateUser", storagetest.Outcome{Lose: true}, 2},
		"the audit log can't be written":       {"AppendAudit", storagetest.Outcome{Fail: true}, 2},
		"the reporter hangs up before the end": {"", storagetest.Outcome{}, 0},
	} {
		c := newCourt(t, p)
		for _, name := range who[2:] {
			c.add(name)
		}
		j := c.another(c.store, p)
		faulty := j.Store.(storage.Store)
		j.Audit = audit.New(audit.Config{Store: faulty, Now: c.clock})
		j.Revoker = revocation.New(revocation.Config{Store: faulty, Audit: j.Audit, Now: c.clock})
		ctx, hangUp := context.WithCancel(t.Context())
		c.faults(func(write string) storagetest.Outcome {
			if write == test.write {
				return test.outcome
			}
			if test.write == "" && write == "AppendEvents" {
				hangUp() // before it is written
			}
			return storagetest.Outcome{}
		})
		suspended := func() (n int) {
			for _, name := range who {
				if c.user(storage.UserID(name)).Block != nil {
					n++
				}
			}
			return n
		}
		var batches []reports.Batch
		for _, name := range who {
			batches = append(batches, c.batch(10, name))
		}
		for range 2 {
			for _, b := range batches {
				j.Report(ctx, notes, b)
				hangUp()
				ctx, hangUp = context.WithCancel(t.Context())
			}
			c.after(20 * time.Second)
		}
		if n := suspended(); n != test.suspended {
			t.Errorf("%s: %d are suspended, %d expected", name, n, test.suspended)
		}
		c.faults(nil)
		for _, b := range batches {
			c.check(j.Report(t.Context(), notes, b))
		}
		hangUp()
		done := 0
		for _, name := range who {
			if d := c.kase(storage.UserID(name)).Decisions; len(d) == 1 && d[0].Withheld == "" {
				done++
			}
		}
		if n := suspended(); n != 2 || done != 2 {
			t.Errorf("%s: in the end %d are suspended and %d are said to be, 2 expected", name, n, done)
		}
	}
}
