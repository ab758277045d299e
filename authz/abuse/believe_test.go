package abuse_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

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
		"an account as a session": {notes, func(r *reports.Report) { r.Session = "alice" }},
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
		if c.log.lines(`msg="report not believed"`, "count=3") != 1 {
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

// TestNobodyHidesBehindGrants: who has more grants than are looked through, of
// apps that did no harm, is reported all the same, and suspended.
func TestNobodyHidesBehindGrants(t *testing.T) {
	c := newCourt(t, rules(flood))
	var work sync.WaitGroup
	for worker := range 64 {
		work.Go(func() {
			for i := worker; i < 12_000; i += 64 {
				id := storage.GrantID(fmt.Sprintf("alice.s.a%05d", i)) // before the one that is looked for
				if err := c.store.CreateGrant(t.Context(), storage.Grant{ID: id, Session: "alice.s", User: "alice", Client: "another", Resource: []string{mail.Audience}, CreatedAt: c.now, CodeExpires: c.now.Add(time.Minute), Expires: c.now.Add(time.Minute)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	c.report(10, "alice")
	if c.user("alice").Block == nil {
		t.Error("alice is not suspended")
	}
}
