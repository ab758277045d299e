package authz_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/abuse"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
	"github.com/solegate/solegate/storage/redis/redistest"
	"github.com/solegate/solegate/storage/sqlite"
	"github.com/solegate/solegate/storage/storagetest"
)

// secondAudience is another API's that alice's tokens may be for.
const secondAudience = "https://reports.example.com"

func policy(p abuse.Policy) func(*authz.Config) {
	return func(c *authz.Config) { c.Abuse = p }
}

func scraping(servers int) abuse.Policy {
	return abuse.Policy{Rules: []abuse.Rule{{
		Name: "scraping", Kind: reports.Judgement, Reason: "scraping", Count: 3, Within: time.Minute, ResourceServers: servers, Action: abuse.Suspend, For: time.Hour,
	}}}
}

var batches struct {
	sync.Mutex
	n int
}

// batch is n reports of an account.
func (a *api) batch(n int, subject string) reports.Batch {
	batches.Lock()
	defer batches.Unlock()
	batches.n++
	now := a.Clock.Now()
	return reports.Batch{ID: fmt.Sprintf("batch-of-%08d", batches.n), Reports: []reports.Report{{
		Subject: subject, Client: "spa", Kind: reports.Judgement, Reason: "scraping", Count: n, First: now, Last: now,
	}}}
}

// sendReports sends a batch to a server, and returns what it answers.
func (a *api) sendReports(at *authztest.Server, b reports.Batch) int {
	a.TB.Helper()
	body, err := b.Encode("")
	if err != nil {
		a.TB.Fatal(err)
	}
	r, err := http.NewRequestWithContext(a.TB.Context(), "POST", at.Address+reports.Path, strings.NewReader(string(body)))
	if err != nil {
		a.TB.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", basic(clients.ID(a.id), a.secret))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		a.TB.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// report reports an account n times, and must succeed.
func (a *api) report(n int, subject string) {
	a.TB.Helper()
	if got := a.sendReports(a.Server, a.batch(n, subject)); got != http.StatusNoContent {
		a.TB.Fatalf("the reports: %d", got)
	}
}

// TestReportedAccountIsSuspended: what an API reports ends in the account's
// suspension, of which everybody hears; and dismissed it may sign in again.
func TestReportedAccountIsSuspended(t *testing.T) {
	s := authztest.New(t, policy(scraping(1)))
	follower := registerAPI(s, "api", authztest.Audience)
	run(t, s)
	alice := s.User("alice").ID
	tokens := s.SignIn("alice")
	if follower.follow() != http.StatusOK {
		t.Fatal("no feed")
	}
	follower.report(2, string(alice))
	tokens = s.Refresh(tokens.RefreshToken)
	if tokens.Status != http.StatusOK || follower.refuses(tokens.AccessToken) {
		t.Fatalf("two reports suffice: %+v", tokens)
	}
	follower.report(1, string(alice))
	if !follower.awaitRefusal(tokens.AccessToken) {
		t.Error("the API that follows the feed takes the token")
	}
	if got := s.Refresh(tokens.RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("a refresh got %+v", got)
	}
	if got := s.UserInfo(tokens.AccessToken); got != http.StatusUnauthorized {
		t.Errorf("userinfo: %d", got)
	}
	b := s.Browser()
	if p := b.SignIn(b.Authorize(), "alice", authztest.Password); p.StatusCode != http.StatusForbidden || !strings.Contains(problem(p), "suspended because of how it was used. ") || !strings.Contains(problem(p), "This ends on ") {
		t.Errorf("a new login: %d %s", p.StatusCode, problem(p))
	}
	log := s.Log.String()
	for _, part := range []string{"account reported", "policy decided", `"rule":"scraping"`, "api 3 times", "user suspended"} {
		if !strings.Contains(log, part) {
			t.Errorf("the log does not say %s", part)
		}
	}

	s.Clock.Advance(time.Second)
	judge := abuse.New(abuse.Config{Store: s.Store, Revoker: s.Revoker, Audit: s.Revoker.Audit, Policy: scraping(1), Now: s.Clock.Now})
	check(t, judge.Dismiss(t.Context(), alice, "a load test of ours"))
	s.Clock.Advance(time.Second)
	fresh := s.SignIn("alice")
	if !follower.awaitRefusal(tokens.AccessToken) {
		t.Error("what was ended is alive again")
	}
	follower.report(2, string(alice))
	if got := s.Refresh(fresh.RefreshToken); got.Status != http.StatusOK {
		t.Errorf("it does not count from zero: %+v", got)
	}
}

// TestReportsOfOneAPISuspendNobody (F38): whoever has an API's credential gets at
// nobody where two APIs are asked for, at nobody who never used that API, and at
// no more than the cap.
func TestReportsOfOneAPISuspendNobody(t *testing.T) {
	p := scraping(2)
	p.Rules = append(p.Rules, abuse.Rule{Name: "any", Count: 1000, Within: time.Minute, Action: abuse.Suspend})
	p.SuspendPerHour = 2
	s := authztest.New(t, policy(p))
	one, two := registerAPI(s, "api", authztest.Audience), registerAPI(s, "reports", secondAudience)
	suspended := func(name string) bool { return s.User(name).Block != nil }
	s.SignIn("alice", "resource", authztest.Audience)
	alice := string(s.User("alice").ID)
	for range 10 {
		one.report(50, alice)
	}
	if suspended("alice") {
		t.Fatal("one API suffices where two are asked for")
	}
	two.report(reports.MaxCount, alice)
	if suspended("alice") {
		t.Fatal("an API is believed about somebody who never used it")
	}
	s.SignIn("alice", "resource", secondAudience)
	two.report(3, alice)
	if !suspended("alice") {
		t.Fatal("two APIs agree, and alice is not suspended")
	}
	for _, name := range []string{"bob", "carol", "dave"} {
		s.AddUser(name)
		s.SignIn(name)
		one.report(1000, string(s.User(name).ID))
	}
	if !suspended("bob") || suspended("carol") || suspended("dave") {
		t.Errorf("the cap does not hold: bob %t, carol %t, dave %t", suspended("bob"), suspended("carol"), suspended("dave"))
	}
}

// TestReportsAtReplicas: the same batch at two servers, and different ones at
// once, are each counted once, and lead to one suspension.
func TestReportsAtReplicas(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "solegate.db")
		var stores []storage.Store
		for range 2 {
			store, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
			check(t, err)
			t.Cleanup(func() { store.Close() })
			stores = append(stores, store)
		}
		s, all := authztest.NewReplicas(t, stores, []time.Duration{0, 2 * time.Second})
		testReportsAtReplicas(t, s, all)
	})
	t.Run("Redis", func(t *testing.T) {
		s, all := replicas(t, "redis://"+redistest.Single(t).Addr, 2)
		testReportsAtReplicas(t, s, all)
	})
}

func testReportsAtReplicas(t *testing.T, s *authztest.Server, all []*authztest.Server) {
	p := scraping(1)
	p.Rules[0].Count = 16
	for i, r := range all {
		all[i] = r.Replica(policy(p))
	}
	a := registerAPI(s, "api", authztest.Audience)
	s.SignIn("alice")
	alice := s.User("alice")
	same := a.batch(1, string(alice.ID))
	var work sync.WaitGroup
	for i := range 16 {
		b := a.batch(1, string(alice.ID))
		if i == 0 {
			b = same
		}
		work.Go(func() {
			for range 5 {
				if a.sendReports(all[i%2], b) == http.StatusNoContent {
					return
				}
			}
			t.Error("a batch can't be sent")
		})
	}
	work.Wait()
	for i := range 4 {
		if got := a.sendReports(all[i%2], same); got != http.StatusNoContent {
			t.Errorf("the same batch: %d", got)
		}
	}
	c, err := s.Store.Case(t.Context(), alice.ID)
	check(t, err)
	if u := s.User("alice"); c.Reported != 16 || len(c.Decisions) != 1 || u.Block == nil || u.Epoch != alice.Epoch+1 {
		t.Errorf("%d reported, %+v, epoch %d", c.Reported, c.Decisions, u.Epoch)
	}
}

// TestReportsThatFailComeAgain: what can't be stored or done is answered with a
// 503, so that the API sends it again, and counts once then.
func TestReportsThatFailComeAgain(t *testing.T) {
	for _, write := range []string{"Once", "PutCase", "AppendEvents", "UpdateUser"} {
		var failing atomic.Bool
		s := authztest.New(t, policy(scraping(1)), func(c *authz.Config) {
			c.Store = storagetest.WithFaults(c.Store, func(now string) storagetest.Outcome {
				return storagetest.Outcome{Fail: now == write && failing.Load()}
			})
		})
		a := registerAPI(s, "api", authztest.Audience)
		s.SignIn("alice")
		alice := s.User("alice").ID
		b := a.batch(3, string(alice))
		failing.Store(true)
		if got := a.sendReports(s, b); got != http.StatusServiceUnavailable {
			t.Errorf("%s fails: %d", write, got)
		}
		failing.Store(false)
		for range 2 {
			if got := a.sendReports(s, b); got != http.StatusNoContent {
				t.Errorf("%s works again: %d", write, got)
			}
		}
		c, err := s.Store.Case(t.Context(), alice)
		check(t, err)
		if u := s.User("alice"); c.Reported != 3 || len(c.Decisions) != 1 || u.Block == nil || u.Epoch != 1 {
			t.Errorf("%s: %d reported, %+v, epoch %d", write, c.Reported, c.Decisions, u.Epoch)
		}
	}
}
