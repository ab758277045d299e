package abuse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/abuse"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/revocation"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/sqlite"
	"github.com/solegate/solegate/storage/storagetest"
)

var (
	notes = clients.ResourceServer{ID: "notes", Audience: "https://notes.example.com"}
	mail  = clients.ResourceServer{ID: "mail", Audience: "https://mail.example.com"}
)

// court is a store with people who have grants for notes and mail, and a Judge.
type court struct {
	testing.TB
	path  string
	store storage.Store // without faults
	judge *abuse.Judge
	fault storagetest.Fault
	log   *logBuffer

	mu  sync.Mutex
	now time.Time
	ids int
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// lines counts the lines that have all of these.
func (l *logBuffer) lines(parts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			n++
		}
	}
	return n
}

func newCourt(t testing.TB, p abuse.Policy) *court {
	c := &court{TB: t, path: filepath.Join(t.TempDir(), "solegate.db"), now: time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC), log: &logBuffer{}}
	c.store = c.open()
	c.judge = c.another(c.store, p)
	for _, name := range []string{"alice", "bob"} {
		c.add(name)
	}
	return c
}

func (c *court) check(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *court) open() storage.Store {
	c.Helper()
	s, err := sqlite.Open(c.Context(), sqlite.Config{Path: c.path})
	c.check(err)
	c.Cleanup(func() { s.Close() })
	return s
}

// another is a server's Judge, with the court's faults.
func (c *court) another(store storage.Store, p abuse.Policy) *abuse.Judge {
	c.Helper()
	if problems := p.Problems(); len(problems) > 0 {
		c.Fatal(problems)
	}
	log := slog.New(slog.NewTextHandler(c.log, nil))
	faulty := storagetest.WithFaults(store, func(write string) storagetest.Outcome {
		c.mu.Lock()
		fault := c.fault
		c.mu.Unlock()
		if fault == nil {
			return storagetest.Outcome{}
		}
		return fault(write)
	})
	lines := audit.New(log)
	revoker := revocation.New(revocation.Config{Store: faulty, Audit: lines, Now: c.clock})
	return abuse.New(abuse.Config{Store: faulty, Revoker: revoker, Audit: lines, Policy: p, Log: log, Now: c.clock})
}

func (c *court) clock() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *court) after(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *court) faults(f storagetest.Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

// next makes the next write of that name end so.
func (c *court) next(write string, outcome storagetest.Outcome) {
	done := false
	var mu sync.Mutex
	c.faults(func(now string) storagetest.Outcome {
		mu.Lock()
		defer mu.Unlock()
		if now != write || done {
			return storagetest.Outcome{}
		}
		done = true
		return outcome
	})
}

// add makes an account that has signed in to the SPA.
func (c *court) add(name string) {
	c.Helper()
	ctx, id := c.Context(), storage.UserID(name)
	c.check(c.store.CreateUser(ctx, storage.User{ID: id, Name: name, CreatedAt: c.now}))
	c.check(c.store.CreateSession(ctx, storage.Session{ID: storage.SessionID(id + ".s"), User: id, CreatedAt: c.now, AuthTime: c.now, LastSeen: c.now, IdleExpires: c.now.Add(time.Hour), Expires: c.now.Add(time.Hour)}))
	c.check(c.store.CreateGrant(ctx, storage.Grant{
		ID: storage.GrantID(id + ".s.g"), Session: storage.SessionID(id + ".s"), User: id, Client: "spa",
		Resource: []string{notes.Audience, mail.Audience}, CreatedAt: c.now, CodeExpires: c.now.Add(time.Minute), Expires: c.now.Add(1000 * time.Hour),
	}))
}

func (c *court) user(id storage.UserID) storage.User {
	c.Helper()
	u, err := c.store.User(c.Context(), id)
	c.check(err)
	return u
}

func (c *court) kase(id storage.UserID) storage.Case {
	c.Helper()
	k, err := c.store.Case(c.Context(), id)
	c.check(err)
	return k
}

// batch is n reports of each of them.
func (c *court) batch(n int, who ...string) reports.Batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids++
	b := reports.Batch{ID: fmt.Sprintf("batch-%012d", c.ids)}
	for _, name := range who {
		b.Reports = append(b.Reports, reports.Report{Subject: name, Client: "spa", Session: name + ".s", Kind: reports.Limit, Reason: "notes", Count: n, First: c.now, Last: c.now})
	}
	return b
}

// report reports n of each, and must succeed.
func (c *court) report(n int, who ...string) {
	c.Helper()
	c.check(c.judge.Report(c.Context(), notes, c.batch(n, who...)))
}

func rules(list ...abuse.Rule) abuse.Policy { return abuse.Policy{Rules: list} }

// flood suspends for ten reports in an hour, for a day.
var flood = abuse.Rule{Name: "flood", Count: 10, Within: time.Hour, Action: abuse.Suspend, For: 24 * time.Hour}

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

// TestReportIsBelievedAboutItsOwnAudience (F38): whoever has an API's credential
// does not get at people who never used that API, or by another app.
func TestReportIsBelievedAboutItsOwnAudience(t *testing.T) {
	other := clients.ResourceServer{ID: "other", Audience: "https://other.example.com"}
	for name, test := range map[string]struct {
		rs     clients.ResourceServer
		change func(*reports.Report)
	}{
		"another audience":        {other, func(*reports.Report) {}},
		"nobody":                  {notes, func(r *reports.Report) { r.Subject = "nobody" }},
		"another app":             {notes, func(r *reports.Report) { r.Client = "another" }},
		"a session that is none":  {notes, func(r *reports.Report) { r.Session = "alice.t" }},
		"the begin of a session":  {notes, func(r *reports.Report) { r.Session = "alice." }},
		"a session of another":    {notes, func(r *reports.Report) { r.Session = "bob.s" }},
		"a grant for a session":   {notes, func(r *reports.Report) { r.Session = "alice.s.g" }},
		"the subject is a client": {notes, func(r *reports.Report) { r.Subject, r.Client, r.Session = "spa", "spa", "" }},
	} {
		c := newCourt(t, rules(flood))
		b := c.batch(1000, "alice", "bob")
		b.Reports = b.Reports[:1]
		test.change(&b.Reports[0])
		for range 3 {
			c.check(c.judge.Report(t.Context(), test.rs, b))
		}
		if list, err := c.store.ListCases(t.Context(), storage.Page{Limit: 10}); err != nil || len(list) != 0 {
			t.Errorf("%s: it cost storage: %v, %v", name, list, err)
		}
		if c.user("alice").Block != nil || c.log.lines(`msg="report not believed"`, "resource_server="+string(test.rs.ID)) != 1 {
			t.Errorf("%s: it is believed, or not said once", name)
		}
		c.after(time.Minute)
		c.check(c.judge.Report(t.Context(), test.rs, b))
		if c.log.lines(`msg="report not believed"`, "3 reports like this") != 1 {
			t.Errorf("%s: the next line does not count", name)
		}
		// The honest one, without a session too, is.
		c.report(10, "alice")
		b = c.batch(10, "bob")
		b.Reports[0].Session = ""
		c.check(c.judge.Report(t.Context(), notes, b))
		if c.user("alice").Block == nil || c.user("bob").Block == nil {
			t.Errorf("%s: the honest one is not believed", name)
		}
	}
}

// TestMachineIsTold: a backend that asks for itself is no account; an operator is
// told of it once an hour.
func TestMachineIsTold(t *testing.T) {
	c := newCourt(t, rules(flood))
	c.check(c.store.CreateClient(t.Context(), clients.Client{ID: "backend", Audiences: []string{notes.Audience}}))
	b := c.batch(1000, "backend")
	b.Reports[0].Client, b.Reports[0].Session = "backend", ""
	for range 3 {
		c.check(c.judge.Report(t.Context(), notes, b))
	}
	if c.log.lines(`msg="client reported"`, "client=backend") != 1 || c.log.lines("not believed") != 0 {
		t.Error("not told once")
	}
}

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
		c.judge.Report(t.Context(), notes, b)
		c.faults(nil)
		for range 2 {
			c.check(c.judge.Report(t.Context(), notes, b))
		}
		for id, n := range map[storage.UserID]uint64{"alice": 10, "bob": 10, "carol": 5} {
			if k := c.kase(id); k.Reported != n || (c.user(id).Block != nil) != (n == 10) {
				t.Errorf("%s: %s was reported %d times, %d expected, and is suspended: %t", name, id, k.Reported, n, c.user(id).Block != nil)
			}
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

// TestDecisionThatIsOver: what a server died over is not begun when it would be
// over, or when the rule is gone.
func TestDecisionThatIsOver(t *testing.T) {
	for want, after := range map[string]func(c *court) *abuse.Judge{
		abuse.Late:    func(c *court) *abuse.Judge { c.after(25 * time.Hour); return c.judge },
		abuse.Changed: func(c *court) *abuse.Judge { return c.another(c.open(), rules()) },
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
		if err != nil || k.Decisions[0].Withheld != want {
			t.Errorf("%v %+v, %s expected", err, k.Decisions, want)
		} else if want != abuse.Gone && c.user("alice").Block != nil {
			t.Errorf("%s: suspended", want)
		}
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
	c.check(c.judge.Dismiss(t.Context(), "alice", "our own test"))
	k := c.kase("alice")
	if c.user("alice").Block != nil || abuse.Open(k) || c.log.lines(`msg="case dismissed"`, "our own test") != 1 {
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
