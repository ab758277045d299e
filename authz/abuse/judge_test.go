package abuse_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/abuse"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/storagetest"
)

func TestReportsSuspend(t *testing.T) {
	c := newCourt(t, rules(flood))
	c.report(9, "alice", "bob")
	if c.user("alice").Block != nil {
		t.Fatal("suspended for nine")
	}
	c.report(1, "alice")
	u, k := c.user("alice"), c.kase("alice")
	if u.Block == nil || u.Block.Rule != "flood" || !u.Block.Until.Equal(c.clock().Add(24*time.Hour)) || u.Epoch != 1 {
		t.Errorf("%+v", u.Block)
	}
	if c.user("bob").Block != nil || c.kase("bob").Reported != 9 {
		t.Error("bob, who was reported nine times, is suspended, or was not counted")
	}
	if len(k.Decisions) != 1 || k.Decisions[0].Withheld != "" || k.Reported != 10 || len(k.Evidence) != 1 || k.Evidence[0].Count != 10 {
		t.Errorf("%+v", k)
	}
	for _, part := range []string{"rule=flood", "suspend until 2026-11-24", "notes 10 times", "within 1h0m0s"} {
		if c.log.lines(`msg="policy decided"`, part, "user=alice") != 1 {
			t.Errorf("the audit log does not say %q once", part)
		}
	}
	if c.log.lines(`msg="account reported"`) != 2 {
		t.Error("each of two accounts is told once when its case opens")
	}
	// Not a line a second for who goes on.
	before := c.log.lines("audit=true")
	for range 10 {
		c.after(time.Second)
		c.report(100, "alice")
	}
	if n := c.log.lines("audit=true"); n != before {
		t.Errorf("%d lines more", n-before)
	}
}

func TestEveryAction(t *testing.T) {
	c := newCourt(t, rules(
		abuse.Rule{Name: "tell", Count: 1, Within: time.Hour, Action: abuse.Tell},
		abuse.Rule{Name: "slow", Count: 2, Within: time.Hour, Action: abuse.Throttle, Every: time.Minute, For: time.Hour},
		abuse.Rule{Name: "login", Count: 3, Within: time.Hour, Action: abuse.Login},
		abuse.Rule{Name: "out", Count: 4, Within: time.Hour, Action: abuse.Suspend},
	))
	c.report(1, "alice")
	if c.log.lines("level=WARN", "abuse show alice", "rule=tell") != 1 {
		t.Error("nobody is told")
	}
	c.report(1, "alice")
	if x := c.user("alice").Throttle; x == nil || x.Rule != "slow" || x.Every != time.Minute || !x.Until.Equal(c.clock().Add(time.Hour)) {
		t.Errorf("%+v", x)
	}
	c.report(1, "alice")
	if u := c.user("alice"); u.Epoch != 1 || u.Block != nil {
		t.Errorf("no login was demanded, or more: %+v", u)
	}
	c.report(1, "alice")
	if u := c.user("alice"); u.Epoch != 2 || u.Block == nil || !u.Block.Until.IsZero() {
		t.Errorf("not suspended until it is lifted: %+v", u)
	}
}

// TestTwoServersDecideOnce: batches about one account at two servers at once are
// all counted, and lead to one decision.
func TestTwoServersDecideOnce(t *testing.T) {
	c := newCourt(t, rules(flood))
	judges := []*abuse.Judge{c.judge, c.another(c.open(), rules(flood))}
	var work sync.WaitGroup
	for i := range 10 {
		b := c.batch(2, "alice", "bob")
		work.Go(func() {
			for range 3 { // again if it was too much at once
				if judges[i%2].Report(t.Context(), notes, b) == nil {
					return
				}
			}
			t.Error("a batch can't be written")
		})
	}
	work.Wait()
	for _, id := range []storage.UserID{"alice", "bob"} {
		if k := c.kase(id); k.Reported != 20 || len(k.Decisions) != 1 || c.user(id).Epoch != 1 {
			t.Errorf("%s: %d reported, %d decisions, epoch %d", id, k.Reported, len(k.Decisions), c.user(id).Epoch)
		}
	}
	if n := c.log.lines(`msg="policy decided"`); n != 2 {
		t.Errorf("%d decisions in the log", n)
	}
}

func TestCapOverAllServers(t *testing.T) {
	p := rules(flood)
	p.SuspendPerHour = 2
	c := newCourt(t, p)
	other := c.another(c.open(), p)
	who := []string{"alice", "bob", "carol", "dave"}
	for _, name := range who[2:] {
		c.add(name)
	}
	suspended := func() (n int) {
		for _, name := range who {
			if c.user(storage.UserID(name)).Block != nil {
				n++
			}
		}
		return n
	}
	for i, name := range who {
		j := []*abuse.Judge{c.judge, other}[i%2]
		c.check(j.Report(t.Context(), notes, c.batch(10, name)))
	}
	if suspended() != 2 || c.kase("dave").Decisions[0].Withheld != abuse.Cap {
		t.Fatalf("%d are suspended, 2 expected", suspended())
	}
	for range 20 {
		c.after(time.Second)
		c.check(other.Report(t.Context(), notes, c.batch(10, who[2:]...)))
	}
	if suspended() != 2 || len(c.kase("dave").Decisions) != 1 {
		t.Errorf("%d are suspended; dave: %+v", suspended(), c.kase("dave").Decisions)
	}
	if n := c.log.lines("level=WARN", "suspend_per_hour=2"); n != 2 {
		t.Errorf("it is said %d times, once by each server expected", n)
	}
	if n := c.log.lines("policy decided", "withheld (cap)"); n != 2 {
		t.Errorf("%d withheld decisions in the log", n)
	}
	// When there is room, who is still at it is suspended; who stopped is not.
	c.after(130 * time.Minute)
	c.check(c.judge.Sweep(t.Context()))
	if suspended() != 2 {
		t.Error("somebody is suspended who stopped an hour ago")
	}
	c.check(other.Report(t.Context(), notes, c.batch(10, "dave")))
	if c.user("dave").Block == nil || suspended() != 3 {
		t.Errorf("there is room, and dave is not suspended: %d", suspended())
	}
}

// TestRoomThatAnotherTook: who is withheld once more is not told once more.
func TestRoomThatAnotherTook(t *testing.T) {
	p := rules(flood)
	p.SuspendPerHour = 1
	c := newCourt(t, p)
	for _, name := range []string{"carol", "dave"} {
		c.add(name)
	}
	other := c.another(c.open(), p)
	c.report(10, "alice")
	c.report(10, "bob")
	c.after(130 * time.Minute) // there is room for one
	taken := false
	c.faults(func(write string) storagetest.Outcome {
		if write == "PutCase" && !taken {
			taken = true
			c.check(other.Report(t.Context(), notes, c.batch(10, "carol")))
		}
		return storagetest.Outcome{}
	})
	c.report(10, "bob")
	k := c.kase("bob")
	if c.user("bob").Block != nil || c.user("carol").Block == nil || len(k.Decisions) != 1 || k.Decisions[0].Withheld != abuse.Cap {
		t.Errorf("%+v", k.Decisions)
	}
	if n := c.log.lines("policy decided", "user=bob"); n != 1 {
		t.Errorf("it is told %d times that bob is spared", n)
	}
}

func TestDryRunAndExemptions(t *testing.T) {
	c := newCourt(t, abuse.Policy{Rules: []abuse.Rule{flood}, DryRun: true})
	c.report(10, "alice")
	if k := c.kase("alice"); c.user("alice").Block != nil || k.Decisions[0].Withheld != abuse.DryRun || c.log.lines("policy decided", "withheld (dry run)", "rule=flood") != 1 {
		t.Errorf("%+v", k.Decisions)
	}
	p := rules(flood)
	p.ExemptUsers = []string{"alice"}
	c = newCourt(t, p)
	c.report(10, "alice", "bob")
	if c.user("alice").Block != nil || c.user("bob").Block == nil || c.kase("alice").Decisions[0].Withheld != abuse.Exempt {
		t.Error("who is exempt is suspended, or who is not is not")
	}
}

// TestCorroboratedByTwo: one resource server, whatever it says and by however
// many batches, suspends nobody where two are asked for.
func TestCorroboratedByTwo(t *testing.T) {
	two := flood
	two.ResourceServers = 2
	c := newCourt(t, rules(two))
	for range 5 {
		c.report(reports.MaxCount, "alice")
	}
	if c.user("alice").Block != nil {
		t.Fatal("one suffices")
	}
	c.check(c.judge.Report(t.Context(), mail, c.batch(10, "alice")))
	if b := c.user("alice").Block; b == nil || !strings.Contains(b.Reason, "mail 10 times") {
		t.Errorf("both said it: %+v", b)
	}
}

func TestDismiss(t *testing.T) {
	c := newCourt(t, rules(flood))
	if err := c.judge.Dismiss(t.Context(), "alice", ""); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("no case: %v", err)
	}
	c.report(10, "alice")
	c.after(time.Second)
	c.check(c.judge.Dismiss(audit.WithOperator(t.Context(), "cli:root"), "alice", "our own test"))
	k := c.kase("alice")
	if c.user("alice").Block != nil || abuse.Open(k) || c.log.lines(`msg="case dismissed"`, "our own test", "operator=cli:root") != 1 || k.Decisions[1].Operator != "cli:root" {
		t.Errorf("%+v", k)
	}
	c.after(time.Second)
	c.report(9, "alice")
	if c.user("alice").Block != nil || !abuse.Open(c.kase("alice")) {
		t.Error("it does not count from zero, or is not open")
	}
	c.report(1, "alice")
	if c.user("alice").Block == nil {
		t.Error("it does not count any more")
	}
	// What an operator did is not the policy's to lift.
	c.check(c.judge.Revoker.BlockUser(t.Context(), "bob", "by hand", time.Time{}))
	c.report(10, "bob")
	c.check(c.judge.Dismiss(t.Context(), "bob", ""))
	if c.user("bob").Block == nil {
		t.Error("a block by hand was lifted")
	}
}

// TestExpiredCaseIsForgotten: also if the store has not yet swept it.
func TestExpiredCaseIsForgotten(t *testing.T) {
	c := newCourt(t, rules(flood))
	c.report(9, "alice")
	c.after(90*24*time.Hour - time.Second)
	c.report(1, "alice")
	if k := c.kase("alice"); k.Reported != 10 || !k.Expires.Equal(c.clock().Add(90*24*time.Hour)) {
		t.Errorf("%+v", k)
	}
	c.after(90 * 24 * time.Hour)
	c.report(1, "alice")
	if k := c.kase("alice"); k.Reported != 1 || len(k.Evidence) != 1 || !k.OpenedAt.Equal(c.clock()) {
		t.Errorf("%+v", k)
	}
}
