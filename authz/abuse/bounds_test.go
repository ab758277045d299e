package abuse

import (
	"fmt"
	"testing"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// TestReportOfAnotherTime: what lies ahead by the API's clock is now, what is
// late counts when it was, and what is older than the window not at all.
func TestReportOfAnotherTime(t *testing.T) {
	at := func(w *world, d time.Duration, n int) reports.Report {
		r := w.report(n)
		r.First, r.Last = w.now.Add(d), w.now.Add(d)
		return r
	}
	w := newWorld(t, suspend(10, 10*time.Minute, time.Hour, 1))
	w.after(5 * time.Minute)
	w.want(w.send("api", at(w, -10*time.Minute, 100)))
	if w.c.Reported != 100 || len(w.c.Evidence) != 1 {
		t.Error("what is too old to count is evidence all the same")
	}
	// A day ahead is now, and has slid out when that has.
	w.want(w.send("api", at(w, 24*time.Hour, 9)))
	if n := estimate(w.c.Tallies[0], 10*time.Minute, w.now); n != 9 {
		t.Errorf("%d are counted, 9 expected", n)
	}
	w.after(15 * time.Minute) // into the window after the next
	w.want(w.say("api", 9))
	// So is what is ahead by more nanoseconds than there are numbers for.
	r := w.report(9)
	r.First = time.Unix(253402300799, 0)
	r.Last = r.First
	w.c.Tallies = nil
	if w.want(w.send("api", r)); w.c.Tallies[0].Current != 9 {
		t.Errorf("%+v: in this window expected", w.c.Tallies[0])
	}
	// Eight minutes late belongs to the window before, of which half counts.
	w.after(time.Minute)
	w.c.Tallies = nil
	w.now = start.Add(45 * time.Minute)
	w.want(w.send("api", at(w, -8*time.Minute, 18)))
	w.want(w.say("api", 0+1), "suspend flood")
}

// TestLongOutageIsSpread: an API that could not send for hours adds up what would
// not have met the rule as it came.
func TestLongOutageIsSpread(t *testing.T) {
	w := newWorld(t, suspend(100, 10*time.Minute, time.Hour, 1))
	r := w.report(590)
	r.First = w.now.Add(-time.Hour)
	w.want(w.send("api", r))
	r.Count = 600
	w = newWorld(t, suspend(100, 10*time.Minute, time.Hour, 1))
	w.want(w.send("api", r), "suspend flood")
}

// TestBatchIsCountedOnce: also when it comes again, and where nobody can know it
// is not counted.
func TestBatchIsCountedOnce(t *testing.T) {
	w := newWorld(t, suspend(1000, time.Hour, 0, 1))
	in := &incoming{from: "api", batch: storage.Hash{99}, again: true, reports: []reports.Report{w.report(6)}}
	w.want(w.incoming(in)) // it failed before it was counted
	w.want(w.incoming(in))
	if w.c.Reported != 6 {
		t.Errorf("%d were reported, 6 expected", w.c.Reported)
	}
	for range storage.MaxBatches {
		w.send("other", w.report(1))
	}
	w.want(w.incoming(in))
	if n := estimate(w.c.Tallies[0], time.Hour, w.now); n != 6 {
		t.Errorf("%d are counted, 6 expected", n)
	}
}

func TestRuleThatIsGone(t *testing.T) {
	w := newWorld(t, suspend(10, time.Hour, 0, 1))
	w.say("api", 5)
	w.policy.Rules[0].Name = "another"
	w.want(w.say("api", 5))
	w.want(w.say("api", 5), "suspend another")
	// Counted in windows of another length it says nothing.
	w = newWorld(t, suspend(10, time.Hour, 0, 1))
	w.say("api", 9)
	w.policy.Rules[0].Within = 2 * time.Hour
	w.want(w.say("api", 9))
}

func TestBoundsOfACase(t *testing.T) {
	w := newWorld(t, suspend(1_000_000, time.Hour, 0, 1), Rule{Name: "tell", Count: 1, Within: time.Minute, Action: Tell})
	for i := range 300 {
		r := w.after(time.Minute).report(1)
		r.Session = fmt.Sprint("u.", i)
		w.send(clients.ID(fmt.Sprint("api", i%100)), r)
	}
	if c := w.c; len(c.Evidence) != storage.MaxEvidence || len(c.Tallies) > storage.MaxTallies || len(c.Decisions) != storage.MaxDecisions || len(c.Batches) != storage.MaxBatches {
		t.Errorf("%d evidence, %d tallies, %d decisions, %d batches", len(c.Evidence), len(c.Tallies), len(c.Decisions), len(c.Batches))
	}
	// A flood of evidence does not push out what another one said.
	w = newWorld(t)
	w.say("quiet", 1)
	for i := range 100 {
		r := w.report(1)
		r.Session = fmt.Sprint("u.", i)
		w.send("loud", r)
	}
	if len(w.c.Evidence) != storage.MaxEvidence || w.c.Evidence[0].ResourceServer != "quiet" {
		t.Errorf("the evidence of the other one is gone: %+v", w.c.Evidence[0])
	}
	w = newWorld(t)
	for i := range 100 {
		r := w.report(1)
		r.Session = fmt.Sprint("u.", i)
		w.send("loud", r)
	}
	w.say("quiet", 1)
	if last := w.c.Evidence[len(w.c.Evidence)-1]; last.ResourceServer != "quiet" {
		t.Errorf("the evidence of who speaks late is not kept: %+v", last)
	}
	// The same every second is one piece of it in an hour.
	w = newWorld(t)
	for range 100 {
		w.after(time.Second).say("api", 2)
	}
	if e := w.c.Evidence; len(e) != 1 || e[0].Count != 200 || !e[0].First.Equal(start.Add(time.Second)) || !e[0].Last.Equal(w.now) {
		t.Errorf("%+v", e)
	}
	w.after(time.Hour).say("api", 2)
	if len(w.c.Evidence) != 2 {
		t.Error("an hour later is told from it")
	}
}

// TestBoundKeepsWhatMatters: neither what is not yet done goes, nor what says that
// a rule has decided.
func TestBoundKeepsWhatMatters(t *testing.T) {
	c := storage.Case{Decisions: []storage.Decision{{Rule: "a", Withheld: Pending}, {Rule: "b"}}}
	for i := range 50 {
		c.Decisions = append(c.Decisions, storage.Decision{Rule: "a", Because: fmt.Sprint(i)})
		bound(&c)
	}
	if d := c.Decisions; len(d) != storage.MaxDecisions || d[0].Withheld != Pending || d[1].Rule != "b" || d[len(d)-1].Because != "49" {
		t.Errorf("%+v", d)
	}
}

// TestServersWithClocksApart count together at the border of a window.
func TestServersWithClocksApart(t *testing.T) {
	w := newWorld(t, suspend(10, 10*time.Minute, time.Hour, 1))
	w.say("api", 4)
	w.after(10*time.Minute+time.Second).say("api", 4) // a server that is ahead
	w.after(-2 * time.Second)                         // and one that is not
	w.want(w.say("api", 1))
	w.want(w.say("api", 1), "suspend flood")
}

// TestSmallestTallyGoes: many resource servers push out the least.
func TestSmallestTallyGoes(t *testing.T) {
	w := newWorld(t, suspend(1000, time.Hour, 0, 1))
	w.say("first", 999)
	for i := range 2 * storage.MaxTallies {
		w.say(clients.ID(fmt.Sprint("api", i)), 1)
	}
	w.want(w.say("first", 1), "suspend flood")
}
