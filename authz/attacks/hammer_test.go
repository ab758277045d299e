package attacks

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/abuse"
	"github.com/solegate/solegate/authz/audit"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/keys/verify"
	"github.com/solegate/solegate/keys/verify/reports"
	"github.com/solegate/solegate/storage"
)

// Limit of the API that F34 hammers, and how many requests beyond it the policy
// takes.
const (
	allowed  = 10
	tooMuch  = 25
	hammerer = "hammering"
	notice   = "You asked for too much, and are suspended."
)

// suspending is the policy of F34: who is told "too many requests" too often is
// suspended until it is lifted.
func suspending(c *authz.Config) {
	c.FeedHeartbeat = 50 * time.Millisecond
	c.SuspendedNotice = notice
	c.Abuse = abuse.Policy{Rules: []abuse.Rule{{Name: hammerer, Kind: reports.Limit, Reason: "notes", Count: tooMuch, Within: time.Hour, Action: abuse.Suspend}}}
}

// limited starts a replica of the API that follows the feed, has a limit and
// reports who goes beyond it.
func limited(t *testing.T, s *authztest.Server, c verify.Credential) *api {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	v, err := verify.New(ctx, verify.Config{
		Issuer: s.URL, Audience: authztest.Audience, Development: true, Now: s.Clock.Now, Credential: &c,
		Feed: &verify.Feed{StaleAfter: 10 * time.Second}, Reports: &verify.Reports{},
	})
	check(t, err)
	limit := v.Limit(verify.Limit{Name: "notes", Requests: allowed, Window: time.Minute})
	return start(t, v, v.Require()(limit(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))))
}

// blocked waits until the account is blocked, or is not.
func blocked(t *testing.T, s *authztest.Server, name string, want bool) *storage.Block {
	t.Helper()
	for began := time.Now(); ; {
		if u := s.User(name); (u.Block != nil) == want {
			return u.Block
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%s is blocked: %t, %t expected", name, !want, want)
		}
	}
}

// F34: a script with a login of its own, and a key, asks the API for more than
// it may. It gets 429 and is reported; the policy suspends the account; every
// replica of the API refuses its tokens within a second; nothing that it has is
// worth anything, and the login page says why. An operator sees what happened
// and lifts it.
func TestF34ScriptHammersTheAPI(t *testing.T) {
	onEachStore(t, func(t *testing.T, s *authztest.Server) {
		credential := registerAPI(t, s)
		hammered, other := limited(t, s, credential), limited(t, s, credential)
		s.AddUser("bob")
		alice, bob := s.User("alice").ID, s.SignIn("bob")
		key := s.Key()
		script, browser := s.With(key), s.Browser()
		tokens := script.Redeem(browser.Code("alice"))
		phone := s.SignIn("alice") // another device of the same person

		// What a person does is answered, and nobody hears of it.
		for i := range allowed {
			resp := hammered.ask(tokens.AccessToken, key)
			if resp.StatusCode != http.StatusOK || resp.Header.Get("RateLimit") != `"notes";r=`+strconv.Itoa(allowed-1-i)+`;t=6` {
				t.Fatalf("request %d: %d %v", i, resp.StatusCode, resp.Header)
			}
		}
		if got := hammered.v.ReportStats(); got != (verify.ReportStats{}) {
			t.Errorf("reported is %+v", got)
		}

		for i := range tooMuch + 5 {
			resp := hammered.ask(tokens.AccessToken, key)
			if resp.StatusCode == http.StatusUnauthorized && i >= tooMuch {
				break // it is quick
			}
			after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
			if resp.StatusCode != http.StatusTooManyRequests || err != nil || after < 1 || after > 60 ||
				resp.Header.Get("RateLimit") != `"notes";r=0;t=6` || resp.Header.Get("RateLimit-Policy") != `"notes";q=10;w=60` {
				t.Fatalf("request %d beyond the limit: %d %v", i, resp.StatusCode, resp.Header)
			}
		}
		block := blocked(t, s, "alice", true)
		for i, a := range []*api{hammered, other} {
			if !a.refusesBound(tokens.AccessToken, key) || !a.refusesWithin(phone.AccessToken) {
				t.Errorf("API %d accepts a token after a second", i)
			}
			if got := a.settles(bob.AccessToken); got != http.StatusOK {
				t.Errorf("API %d answers somebody else with %d", i, got)
			}
		}
		if block.Rule != hammerer || !block.Until.IsZero() {
			t.Errorf("the block is %+v", block)
		}

		// Nothing is left of it, on any device.
		if got := script.Refresh(tokens.RefreshToken); got.Error != "invalid_grant" || got.AccessToken != "" {
			t.Errorf("the script's refresh: %+v", got)
		}
		if got := s.Refresh(phone.RefreshToken); got.Error != "invalid_grant" || got.AccessToken != "" {
			t.Errorf("the phone's refresh: %+v", got)
		}
		if got := s.UserInfo(phone.AccessToken); got != http.StatusUnauthorized {
			t.Errorf("userinfo answers %d", got)
		}
		if got := browser.Authorize("prompt", "none").Answer(); got.Get("error") != "login_required" || got.Get("code") != "" {
			t.Errorf("the session of the browser: %v", got)
		}
		before := leftBehind(t, s)
		p := browser.SignIn(browser.Authorize(), "alice", authztest.Password)
		if p.StatusCode != http.StatusForbidden || !strings.Contains(p.Body, notice) || p.Answer().Get("code") != "" {
			t.Errorf("a new login: %d %s", p.StatusCode, p.Body)
		}
		// Who does not know the password learns nothing of it.
		if p := s.Browser().SignIn(s.Browser().Authorize(), "alice", "wrong"); strings.Contains(p.Body, notice) {
			t.Error("a stranger is told that the account is suspended")
		}
		if after := leftBehind(t, s); after != before {
			t.Errorf("left behind are %+v, before were %+v", after, before)
		}
		if got := s.Refresh(bob.RefreshToken); got.Status != http.StatusOK {
			t.Errorf("somebody else: %+v", got)
		}

		seen(t, s, alice, tokens, key)

		// One call lifts it. What was ended stays ended, and what was reported
		// before does not count any more.
		judge := abuse.New(abuse.Config{Store: s.Store, Revoker: s.Revoker, Audit: s.Revoker.Audit, Now: s.Clock.Now})
		check(t, judge.Dismiss(t.Context(), alice, "it was a mistake in their script"))
		blocked(t, s, "alice", false)
		s.Clock.Advance(2 * time.Minute) // the limit, too, has room again
		again := script.Redeem(browser.SignIn(browser.Authorize(), "alice", authztest.Password).Answer().Get("code"))
		for i, a := range []*api{hammered, other} {
			a.settles(bob.AccessToken)
			if resp := a.ask(again.AccessToken, key); again.Status != http.StatusOK || resp.StatusCode != http.StatusOK {
				t.Errorf("API %d answers a new login with %d", i, resp.StatusCode)
			}
			if resp := a.ask(tokens.AccessToken, key); resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("API %d answers the old token with %d", i, resp.StatusCode)
			}
		}
		for range allowed + 1 {
			hammered.ask(again.AccessToken, key)
		}
		check(t, hammered.v.Close(t.Context())) // what is to report is reported
		if u := s.User("alice"); u.Block != nil {
			t.Errorf("one request too many, and there is %+v", u.Block)
		}
	}, suspending)
}

// seen checks what the operator finds of it: who, with which app, in which
// login, by which key, from where, how often, and what was decided.
func seen(t *testing.T, s *authztest.Server, id storage.UserID, tokens authztest.Tokens, key *authztest.Key) {
	t.Helper()
	c, err := s.Store.Case(t.Context(), id)
	check(t, err)
	count, claims := 0, authztest.Claims(t, tokens.AccessToken)
	for _, e := range c.Evidence {
		if e.ResourceServer != "api" || e.Kind != string(reports.Limit) || e.Reason != "notes" || e.Client != "spa" ||
			string(e.Session) != claims["sid"] || e.JKT != key.JKT || len(e.Addresses) != 1 || e.Addresses[0].String() != "127.0.0.1" {
			t.Errorf("the evidence is %+v", e)
		}
		count += e.Count
	}
	if count < tooMuch || c.Reported < tooMuch {
		t.Errorf("%d reports of %d are in the evidence", count, c.Reported)
	}
	if n := len(c.Decisions); n != 1 || c.Decisions[0].Rule != hammerer || c.Decisions[0].Action != string(abuse.Suspend) || c.Decisions[0].Withheld != "" || c.Decisions[0].Because == "" {
		t.Errorf("the decisions are %+v", c.Decisions)
	}
	for _, q := range []audit.Query{
		{What: "account reported", User: id, ResourceServer: "api", Session: storage.SessionID(claims["sid"].(string))},
		{What: "user suspended", User: id},
		{What: "policy decided", User: id},
	} {
		for began := time.Now(); ; { // a report is written down a moment later
			lines, err := audit.Search(t.Context(), s.Store, q)
			check(t, err)
			if len(lines) == 1 && (q.ResourceServer != "" || lines[0].Rule == hammerer) {
				break
			}
			if time.Since(began) > 10*time.Second {
				t.Fatalf("the audit log has of %q: %+v", q.What, lines)
			}
		}
	}
}
