package abuse_test

import (
	"bytes"
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

// flood suspends for ten reports in an hour, for a day.
var flood = abuse.Rule{Name: "flood", Count: 10, Within: time.Hour, Action: abuse.Suspend, For: 24 * time.Hour}

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
	lines := audit.New(audit.Config{Log: log})
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
