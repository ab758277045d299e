package abuse

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// start is the begin of a window of an hour, and so of all shorter ones.
var start = time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)

// world is one account and its case, and what is done to it.
type world struct {
	t      testing.TB
	policy Policy
	now    time.Time
	user   storage.User
	c      storage.Case
	room   bool
	batch  byte
}

func newWorld(t testing.TB, rules ...Rule) *world {
	w := &world{t: t, policy: Policy{Rules: rules}, now: start, user: storage.User{ID: "u", Name: "alice"}, c: storage.Case{User: "u"}, room: true}
	if problems := w.policy.Problems(); len(problems) > 0 {
		t.Fatal(problems)
	}
	return w
}

func (w *world) after(d time.Duration) *world {
	w.now = w.now.Add(d)
	return w
}

// report is a report that a resource server makes now.
func (w *world) report(n int) reports.Report {
	return reports.Report{Subject: "u", Client: "spa", Kind: reports.Limit, Reason: "notes", Count: n, First: w.now, Last: w.now}
}

// say reports n from a resource server, and returns what is decided by it.
func (w *world) say(from clients.ID, n int) []string {
	return w.send(from, w.report(n))
}

func (w *world) send(from clients.ID, list ...reports.Report) []string {
	w.batch++
	return w.incoming(&incoming{from: from, batch: storage.Hash{w.batch}, reports: list})
}

// incoming is what is decided by it, "action rule" each; it is done at once.
func (w *world) incoming(in *incoming) []string {
	next, changed := w.policy.decide(w.c, &w.user, stands(&w.user, w.now), in, w.room, w.now)
	if !changed {
		return nil
	}
	w.c = next
	var decided []string
	for _, d := range slices.Clone(w.c.Decisions) {
		if d.Withheld == Pending {
			decided = append(decided, d.Action+" "+d.Rule)
			w.do(d)
		}
	}
	return decided
}

// do does to the user what a Revoker would.
func (w *world) do(d storage.Decision) {
	outcome, r := "", w.policy.rule(d.Rule)
	switch {
	case w.policy.exempt(&w.user, r):
		outcome = Exempt
	case w.policy.DryRun:
		outcome = DryRun
	case !w.room && r.Action.harshness() >= Login.harshness():
		outcome = Cap
	case r.Action == Suspend:
		w.user.Block = &storage.Block{Rule: r.Name, At: w.now, Until: d.Until}
	case r.Action == Throttle:
		w.user.Throttle = &storage.Throttle{Rule: r.Name, Until: d.Until, Every: r.Every}
	}
	if !w.policy.settled(&w.c, d, outcome, w.now) {
		w.t.Errorf("%+v was not pending", d)
	}
}

// want holds what was decided to what is expected.
func (w *world) want(got []string, want ...string) {
	w.t.Helper()
	if !slices.Equal(got, want) {
		w.t.Errorf("at %s: decided %q, %q expected", w.now.Sub(start), got, want)
	}
}

func suspend(count int, within, length time.Duration, servers int) Rule {
	return Rule{Name: "flood", Count: count, Within: within, ResourceServers: servers, Action: Suspend, For: length}
}

func TestRuleIsMetByCountInAWindow(t *testing.T) {
	const minute = time.Minute
	for name, c := range map[string]struct {
		do   func(w *world)
		want bool
	}{
		"enough at once":                   {func(w *world) { w.say("api", 10) }, true},
		"one too few":                      {func(w *world) { w.say("api", 9) }, false},
		"added up":                         {func(w *world) { w.say("api", 5); w.after(4*minute).say("api", 5) }, true},
		"half has slid out":                {func(w *world) { w.say("api", 9); w.after(15*minute).say("api", 5) }, false},
		"half of it is still there":        {func(w *world) { w.say("api", 10-1); w.after(15*minute).say("api", 6) }, true},
		"two windows later":                {func(w *world) { w.say("api", 9); w.after(20*minute).say("api", 9) }, false},
		"from two, and each alone too few": {func(w *world) { w.say("api", 9); w.say("other", 9) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, suspend(10, 10*minute, time.Hour, 1))
			c.do(w)
			if got := w.user.Block != nil; got != c.want {
				t.Errorf("suspended: %t", got)
			}
		})
	}
}

// TestCorroboration: where two resource servers are asked for, the
// credential of one suspends nobody, whatever it says.
func TestCorroboration(t *testing.T) {
	w := newWorld(t, suspend(10, time.Hour, time.Hour, 2))
	for range 20 {
		w.want(w.after(time.Second).say("api", reports.MaxCount))
	}
	w.want(w.say("other", 9))
	w.want(w.say("other", 1), "suspend flood")
	because := w.c.Decisions[0].Because
	for _, part := range []string{"api 2147483647 times", "other 10 times", "within 1h0m0s", "asked for are 10 times from 2"} {
		if !strings.Contains(because, part) {
			t.Errorf("the decision does not say %q: %s", part, because)
		}
	}
}

func TestKindAndReasonOfARule(t *testing.T) {
	w := newWorld(t, Rule{Name: "scraping", Kind: reports.Judgement, Reason: "scraping", Count: 2, Within: time.Hour, Action: Tell})
	judged := w.report(5)
	judged.Kind = reports.Judgement
	w.want(w.send("api", w.report(5), judged))
	judged.Reason, judged.Count = "scraping", 1
	w.want(w.send("api", judged))
	w.want(w.send("api", judged), "tell scraping")
}

// TestNothingIsDecidedTwice: no line a second for each who goes on.
func TestNothingIsDecidedTwice(t *testing.T) {
	for _, r := range []Rule{
		{Action: Suspend, For: time.Hour}, {Action: Suspend}, {Action: Throttle, Every: time.Minute, For: time.Hour}, {Action: Login}, {Action: Tell},
	} {
		for _, dry := range []bool{false, true} {
			r.Name, r.Count, r.Within = "r", 10, time.Hour
			w := newWorld(t, r)
			w.policy.DryRun = dry
			w.want(w.say("api", 10), string(r.Action)+" r")
			for range 59 {
				w.want(w.after(time.Minute).say("api", 100))
			}
			w.after(time.Minute)
			if r.Action == Suspend && r.For == 0 {
				w.want(w.say("api", 1))
				continue
			}
			w.want(w.say("api", 1), string(r.Action)+" r") // it went on all the while
		}
	}
}

// TestWhatEndedIsNotPunishedAgain: what somebody was suspended for does not
// count when they are back.
func TestWhatEndedIsNotPunishedAgain(t *testing.T) {
	w := newWorld(t, suspend(10, 24*time.Hour, time.Hour, 1))
	w.want(w.say("api", 10), "suspend flood")
	w.want(w.after(2*time.Hour).say("api", 9))
	w.want(w.say("api", 1), "suspend flood")
	w.user.Block = nil // an operator lifts it by hand
	w.want(w.say("api", 9))
	w.want(w.say("api", 1), "suspend flood")
}

func TestHarsherRuleActsAllTheSame(t *testing.T) {
	throttle := Rule{Name: "slow", Count: 10, Within: time.Hour, Action: Throttle, Every: time.Minute, For: time.Hour}
	slower := Rule{Name: "slower", Count: 15, Within: time.Hour, Action: Throttle, Every: time.Hour, For: time.Hour}
	short := Rule{Name: "short", Count: 20, Within: time.Hour, Action: Suspend, For: time.Hour}
	long := Rule{Name: "long", Count: 40, Within: time.Hour, Action: Suspend}
	tell := Rule{Name: "tell", Count: 10, Within: time.Hour, Action: Tell}
	login := Rule{Name: "login", Count: 18, Within: time.Hour, Action: Login}
	w := newWorld(t, throttle, slower, short, long, login, tell)
	w.want(w.say("api", 10), "throttle slow", "tell tell")
	w.want(w.say("api", 5), "throttle slower")
	w.want(w.say("api", 3), "login login")
	w.want(w.say("api", 2), "suspend short")
	w.want(w.say("api", 20), "suspend long")
	w.want(w.say("api", 100))

	// At once: what is milder need not be done beside it, but is told.
	w = newWorld(t, throttle, short, long, login, tell)
	w.want(w.say("api", 100), "suspend long", "tell tell")
	// And beside what an operator did nothing more is.
	w = newWorld(t, throttle, short, long, login)
	w.user.Block = &storage.Block{Reason: "by hand", Until: start.Add(time.Minute)}
	w.want(w.say("api", 100))
}

func TestDismissedCountsFromZero(t *testing.T) {
	w := newWorld(t, suspend(10, time.Hour, 0, 1))
	w.want(w.say("api", 10), "suspend flood")
	late := w.after(time.Second).report(100)
	w.after(time.Second)
	w.c = w.policy.dismissed(w.c, "root", "a test of ours", w.now)
	w.user.Block = nil
	if Open(w.c) || len(w.c.Tallies) > 0 {
		t.Fatalf("it is not closed: %+v", w.c)
	}
	last := w.c.Decisions[len(w.c.Decisions)-1]
	if last.Action != "dismiss" || last.Operator != "root" || last.Because != "a test of ours" {
		t.Errorf("the last decision is %+v", last)
	}
	// What an API had seen before, and says only now, is dismissed with it.
	w.want(w.after(time.Second).send("api", late))
	if Open(w.c) {
		t.Error("a late report opened the case again")
	}
	w.want(w.say("api", 9))
	if !Open(w.c) {
		t.Error("a report does not open the case again")
	}
	w.want(w.say("api", 1), "suspend flood")

	w = newWorld(t, suspend(10, time.Hour, 0, 1))
	w.say("api", 9)
	w.c = w.policy.dismissed(w.after(time.Second).c, "root", "", w.now)
	w.want(w.after(time.Second).say("api", 9))
	w.want(w.say("api", 1), "suspend flood")
}

func TestCapIsWaitedFor(t *testing.T) {
	throttle := Rule{Name: "slow", Count: 20, Within: time.Hour, Action: Throttle, Every: time.Minute}
	w := newWorld(t, suspend(10, time.Hour, 0, 1), throttle)
	w.room = false
	w.want(w.say("api", 10), "suspend flood")
	if d := w.c.Decisions; w.user.Block != nil || len(d) != 1 || d[0].Withheld != Cap {
		t.Fatalf("it is not withheld: %+v", d)
	}
	w.want(w.after(time.Second).say("api", 1))
	w.want(w.after(time.Second).say("api", 9), "throttle slow") // milder, and better than nothing
	// There was room a moment ago, and another account has taken it.
	next, changed := w.policy.decide(w.c, &w.user, stands(&w.user, w.now), nil, true, w.now)
	if w.c = next; !changed {
		t.Fatal("it is not decided again when there is room")
	}
	w.do(w.c.Decisions[len(w.c.Decisions)-1])
	if n := len(w.c.Decisions); n != 2 {
		t.Errorf("%d decisions, 2 expected: it was withheld for the same reason before", n)
	}
	w.room = true
	w.want(w.incoming(nil), "suspend flood")
	if w.user.Block == nil {
		t.Error("not suspended although there is room")
	}
	// Only if it is still met.
	w = newWorld(t, suspend(10, time.Hour, 0, 1))
	w.room = false
	w.say("api", 10)
	w.room = true
	w.want(w.after(2 * time.Hour).incoming(nil))
}

func TestExempt(t *testing.T) {
	spared := func(change func(w *world)) (*world, []string) {
		w := newWorld(t, suspend(10, time.Hour, 0, 1))
		change(w)
		return w, w.say("api", 10)
	}
	for name, change := range map[string]func(w *world){
		"by name":      func(w *world) { w.policy.ExemptUsers = []string{"bob", "alice"} },
		"by id":        func(w *world) { w.policy.ExemptUsers = []string{"u"} },
		"for the rule": func(w *world) { w.policy.Rules[0].ExemptUsers = []string{"alice"} },
	} {
		w, decided := spared(change)
		if len(decided) != 1 || w.c.Decisions[0].Withheld != Exempt || w.user.Block != nil || len(w.c.Evidence) != 1 {
			t.Errorf("%s: %q, %+v", name, decided, w.c)
		}
		w.want(w.say("api", 100))
		// One that is no longer exempt is as others are.
		w.policy.ExemptUsers, w.policy.Rules[0].ExemptUsers = nil, nil
		w.want(w.say("api", 10), "suspend flood")
	}
	w, decided := spared(func(w *world) { w.policy.ExemptClients = []string{"spa"} })
	if w.want(decided); len(w.c.Evidence) != 1 || len(w.c.Tallies) != 0 {
		t.Errorf("an exempt client: %+v", w.c)
	}
	other := w.report(10)
	other.Client = "other"
	w.want(w.send("api", other), "suspend flood")
}
