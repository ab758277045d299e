package attacks

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/abuse"
	"github.com/solegate/solegate/authz/admin"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// otherAudience is that of the API whose credential is in the wrong hands.
const otherAudience = "https://reports.example.com"

// informer is whoever has the credential of a resource server.
type informer struct {
	t *testing.T
	s *authztest.Server
	c verify.Credential
}

// about is a report of what a token did, as an API makes it.
func about(t *testing.T, token string, count int) reports.Report {
	t.Helper()
	c := authztest.Claims(t, token)
	text := func(name string) string { s, _ := c[name].(string); return s }
	at := time.Unix(int64(c["iat"].(float64)), 0)
	return reports.Report{Subject: text("sub"), Client: text("client_id"), Session: text("sid"), Kind: reports.Judgement, Reason: "scraping", Count: count, First: at, Last: at}
}

// report sends reports in batches, and says what the last was answered.
func (i *informer) report(list ...reports.Report) (status int) {
	i.t.Helper()
	for len(list) > 0 {
		n := min(len(list), reports.MaxReports)
		status = i.send(reports.Batch{ID: rand.Text(), Reports: list[:n]})
		list = list[n:]
	}
	return status
}

func (i *informer) send(b reports.Batch) int {
	i.t.Helper()
	body, err := b.Encode("")
	check(i.t, err)
	return i.post(reports.Path, "application/json", body)
}

func (i *informer) post(path, media string, body []byte) int {
	i.t.Helper()
	r, err := http.NewRequestWithContext(i.t.Context(), "POST", i.s.Address+path, bytes.NewReader(body))
	check(i.t, err)
	r.Header.Set("Content-Type", media)
	r.Header.Set("Authorization", basic(i.c.ID, i.c.Secret))
	resp, err := http.DefaultClient.Do(r)
	check(i.t, err)
	resp.Body.Close()
	return resp.StatusCode
}

// free fails if somebody is blocked or throttled.
func free(t *testing.T, s *authztest.Server, when string) {
	t.Helper()
	list, err := s.Store.ListUsers(t.Context(), storage.Page{Limit: 1000})
	check(t, err)
	for _, u := range list {
		if u.Block != nil || u.Throttle != nil {
			t.Errorf("%s: %s is blocked %+v, throttled %+v", when, u.Name, u.Block, u.Throttle)
		}
	}
}

// scraping is a policy by which so many resource servers must each have reported
// an account ten times.
func scraping(servers, perHour int) func(*authz.Config) {
	return func(c *authz.Config) {
		c.Abuse = abuse.Policy{SuspendPerHour: perHour, Rules: []abuse.Rule{{Name: "scraping", Count: 10, Within: time.Hour, ResourceServers: servers, Action: abuse.Suspend}}}
	}
}

// F38: the credential of one API, in the wrong hands, reports everybody for
// everything. Where the policy asks for a second one nobody is suspended, and
// people who never used that API are not even on file.
func TestF38FalseReports(t *testing.T) {
	onEachStore(t, func(t *testing.T, s *authztest.Server) {
		honest := &informer{t, s, registerAPI(t, s)}
		wrong := &informer{t, s, registerResource(t, s, "reports", otherAudience)}
		s.AddUser("bob")
		alice, there := s.SignIn("alice"), s.SignIn("alice", "resource", otherAudience) // she uses both
		bob := s.SignIn("bob")                                                          // and he never used the other
		person := func(name string) storage.UserID { return s.User(name).ID }
		on := func(name string) bool { _, err := s.Store.Case(t.Context(), person(name)); return err == nil }

		// About somebody who is none of its business, and nobody at all.
		ofBob := about(t, bob.AccessToken, reports.MaxCount)
		stranger, itself, elsewhere, nowhere := ofBob, ofBob, ofBob, ofBob
		stranger.Subject, stranger.Session = "nobody", ""
		itself.Subject, itself.Client, itself.Session = "reports", "reports", ""
		elsewhere.Session = about(t, there.AccessToken, 1).Session // alice's login
		nowhere.Session = ""
		for name, r := range map[string]reports.Report{"another audience": ofBob, "nobody": stranger, "itself": itself, "another's login": elsewhere, "no login": nowhere} {
			for range 3 {
				if got := wrong.report(r); got != http.StatusNoContent {
					t.Errorf("%s: %d", name, got)
				}
			}
		}
		if on("bob") {
			t.Error("somebody who never used the API is on file")
		}
		free(t, s, "what is none of its business")
		if !strings.Contains(s.Log.String(), `"msg":"report not believed","audit":true`) {
			t.Error("the audit log does not say that somebody lies")
		}

		// A flood about people who do use it.
		flood := []reports.Report{about(t, there.AccessToken, reports.MaxCount)}
		for i := range 30 {
			s.AddUser(fmt.Sprint("user", i))
			r := about(t, s.SignIn(fmt.Sprint("user", i), "resource", otherAudience).AccessToken, reports.MaxCount)
			for j := range 10 {
				r.Reason = fmt.Sprint("reason ", j)
				flood = append(flood, r)
			}
		}
		batch := reports.Batch{ID: rand.Text(), Reports: flood[:1]}
		for range 20 {
			if got := wrong.send(batch); got != http.StatusNoContent {
				t.Fatalf("the same batch again: %d", got)
			}
		}
		for range 3 {
			if got := wrong.report(flood...); got != http.StatusNoContent {
				t.Fatalf("the flood: %d", got)
			}
		}
		free(t, s, "a flood by one")
		c, err := s.Store.Case(t.Context(), person("user7"))
		check(t, err)
		if len(c.Evidence) > storage.MaxEvidence || len(c.Tallies) > storage.MaxTallies || len(c.Batches) > storage.MaxBatches {
			t.Errorf("a case grows with the flood: %d, %d, %d", len(c.Evidence), len(c.Tallies), len(c.Batches))
		}
		if got := s.Refresh(alice.RefreshToken); got.Status != http.StatusOK {
			t.Errorf("alice: %+v", got)
		}

		// The honest variant: a second API says the same, and that is enough.
		if got := honest.report(about(t, alice.AccessToken, 10)); got != http.StatusNoContent {
			t.Errorf("the second one: %d", got)
		}
		blocked(t, s, "alice", true)
		if got := s.Refresh(alice.RefreshToken); got.Error != "invalid_grant" {
			t.Errorf("alice is suspended, and refreshes: %+v", got)
		}
	}, scraping(2, 0))
}

// F38: where one API suffices, it gets no further than the cap, at all servers
// together, and an operator is told.
func TestF38CapOnSuspensions(t *testing.T) {
	onEachStore(t, func(t *testing.T, s *authztest.Server) {
		wrong := &informer{t, s, registerResource(t, s, "reports", otherAudience)}
		var flood []reports.Report
		for i := range 20 {
			s.AddUser(fmt.Sprint("user", i))
			flood = append(flood, about(t, s.SignIn(fmt.Sprint("user", i), "resource", otherAudience).AccessToken, 1000))
		}
		for range 3 {
			for _, r := range flood {
				if got := wrong.report(r); got != http.StatusNoContent {
					t.Fatalf("it is answered %d", got)
				}
			}
		}
		list, err := s.Store.ListUsers(t.Context(), storage.Page{Limit: 1000})
		check(t, err)
		var suspended int
		for _, u := range list {
			if u.Block != nil {
				suspended++
			}
		}
		if suspended != 3 {
			t.Errorf("%d of 20 are suspended, 3 expected", suspended)
		}
		if !strings.Contains(s.Log.String(), "raise abuse.suspend_per_hour") {
			t.Error("no operator is told")
		}
	}, scraping(1, 3))
}

// F38: a resource server's credential opens what is its own, and nothing else.
func TestF38CredentialOfAnAPI(t *testing.T) {
	onEachStore(t, func(t *testing.T, s *authztest.Server) {
		honest := &informer{t, s, registerAPI(t, s)}
		wrong := &informer{t, s, registerResource(t, s, "reports", otherAudience)}
		a := follow(t, s, honest.c, nil)
		mine := s.SignIn("alice", "resource", otherAudience)
		tokens := s.SignIn("alice", "resource", authztest.Audience)
		active := func(i *informer, token string) (active bool, answer map[string]any) {
			t.Helper()
			body := s.Body(request(t, "POST", s.Address+"/introspect", url.Values{"token": {token}}, "Authorization", basic(i.c.ID, i.c.Secret)))
			check(t, json.Unmarshal([]byte(body), &answer))
			active, _ = answer["active"].(bool)
			return active, answer
		}
		if ok, _ := active(honest, tokens.AccessToken); !ok {
			t.Fatal("the API's own token is not active")
		}
		if ok, _ := active(wrong, mine.AccessToken); !ok {
			t.Fatal("the other API's own token is not active")
		}
		for name, token := range map[string]string{"an access token": tokens.AccessToken, "a refresh token": tokens.RefreshToken, "an ID token": tokens.IDToken} {
			if ok, answer := active(wrong, token); ok || len(answer) != 1 {
				t.Errorf("%s of another audience: %v", name, answer)
			}
		}

		// Nothing of it ends anything, or gets at what is an operator's.
		ask := func(method, path, authorization string) int {
			t.Helper()
			var form url.Values
			if method == "POST" && !strings.HasPrefix(path, admin.Path) {
				form = url.Values{"token": {tokens.RefreshToken}, "grant_type": {"client_credentials"}, "scope": {admin.Scope}}
			}
			resp, err := http.DefaultClient.Do(request(t, method, s.Address+path, form, "Authorization", authorization))
			check(t, err)
			resp.Body.Close()
			return resp.StatusCode
		}
		s.AddClient(clients.Client{
			ID: "console", RedirectURIs: s.Client.RedirectURIs, Origins: s.Client.Origins,
			Audiences: []string{admin.Audience(s.URL)}, Scopes: []string{"openid", "offline_access", admin.Scope},
		})
		s.AddUser("operator")
		check(t, s.Revoker.SetOperator(t.Context(), s.User("operator").ID, true))
		operator := signInOf(s, s.Browser(), "operator").AccessToken
		if got := ask("GET", admin.Path+"/users", "Bearer "+operator); got != http.StatusOK {
			t.Fatalf("an operator is answered %d", got)
		}
		before := leftBehind(t, s)
		for _, path := range []string{"/revoke", "/token", "/par"} {
			if got := ask("POST", path, basic(wrong.c.ID, wrong.c.Secret)); got != http.StatusUnauthorized && got != http.StatusBadRequest {
				t.Errorf("POST %s: %d", path, got)
			}
		}
		for authorization, want := range map[string]int{
			basic(wrong.c.ID, wrong.c.Secret): http.StatusBadRequest, // RFC 6750 §3.1: no token is there
			"Bearer " + wrong.c.Secret:        http.StatusUnauthorized,
		} {
			if got := ask("GET", "/userinfo", authorization); got != want {
				t.Errorf("userinfo: %d, %d expected", got, want)
			}
			for _, path := range []string{"GET /users", "GET /clients", "GET /keys", "GET /openapi.yaml", "POST /users/" + string(s.User("alice").ID) + "/block", "POST /revoke-all"} {
				method, path, _ := strings.Cut(path, " ")
				if got := ask(method, admin.Path+path, authorization); got != want {
					t.Errorf("%s %s%s: %d, %d expected", method, admin.Path, path, got, want)
				}
			}
		}
		if after := leftBehind(t, s); after != before {
			t.Errorf("left behind are %+v, before were %+v", after, before)
		}
		free(t, s, "at the other endpoints")
		if got := a.answers(tokens.AccessToken); got != http.StatusOK {
			t.Errorf("the API answers %d", got)
		}
		if got := s.Refresh(tokens.RefreshToken); got.Status != http.StatusOK {
			t.Errorf("the refresh: %+v", got)
		}
	}, scraping(1, 0), func(c *authz.Config) { c.Admin = true })
}
