package authz_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
)

// problem is what the login page says is wrong, as it stands in the HTML.
func problem(p authztest.Page) string {
	_, text, _ := strings.Cut(p.Body, `<p class="problem" id="problem" role="alert">`)
	text, _, _ = strings.Cut(text, "</p>")
	return text
}

// TestSuspendedPersonIsTold: who knows the password reads the operator's words
// and until when; nobody else reads anything.
func TestSuspendedPersonIsTold(t *testing.T) {
	const ours = "This account is suspended because of how it was used. If you think that is a mistake, ask the people who run this service."
	for _, test := range []struct {
		name, notice, want string
		lasts              time.Duration
	}{
		{"our words", "", ours, 0},
		{"our words, for a time", "", ours + " This ends on 24 November 2026 at 12:01 UTC.", 24*time.Hour + time.Second},
		{"the operator's", " Write to <b>help@example.com</b> & wait. ", "Write to &lt;b&gt;help@example.com&lt;/b&gt; &amp; wait. This ends on 23 November 2026 at 13:00 UTC.", time.Hour - time.Minute/2},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := authztest.New(t, func(c *authz.Config) { c.SuspendedNotice = test.notice })
			s.Browser().Code("alice") // all is well
			var until time.Time
			if test.lasts > 0 {
				until = s.Clock.Now().Add(test.lasts)
			}
			check(t, s.Revoker.SuspendUser(t.Context(), s.User("alice").ID, "flood", "120 reports of the orders API", until))
			b := s.Browser()
			p := b.SignIn(b.Authorize(), "alice", authztest.Password)
			if p.StatusCode != http.StatusForbidden || problem(p) != test.want {
				t.Errorf("%d, %s", p.StatusCode, problem(p))
			}
			if strings.Contains(p.Body, "flood") || strings.Contains(p.Body, "orders API") {
				t.Error("the page says which rule it was")
			}
			if got := problem(b.SignIn(b.Authorize(), "alice", "another long password")); got != "The user name or the password is not right." {
				t.Errorf("without the password it says %q", got)
			}
			if test.lasts > 0 {
				s.Clock.Advance(test.lasts)
			} else {
				check(t, s.Revoker.Lift(t.Context(), s.User("alice").ID, "test"))
			}
			s.Browser().Code("alice")
		})
	}
}

// TestBlockedByHandIsNotSuspended: the operator's words are for suspensions.
func TestBlockedByHandIsNotSuspended(t *testing.T) {
	s := authztest.New(t)
	check(t, s.Revoker.SuspendUser(t.Context(), s.User("alice").ID, "flood", "", time.Time{}))
	check(t, s.Revoker.BlockUser(t.Context(), s.User("alice").ID, "", s.Clock.Now().Add(time.Hour)))
	b := s.Browser()
	p := b.SignIn(b.Authorize(), "alice", authztest.Password)
	if p.StatusCode != http.StatusForbidden || problem(p) != "This account is blocked. Ask the people who run this service." {
		t.Errorf("%d, %s", p.StatusCode, problem(p))
	}
}

// TestSuspendedNotice: what can't be shown is refused at the start.
func TestSuspendedNotice(t *testing.T) {
	for notice, good := range map[string]bool{
		"Frag uns: ünser Büro – 05‑123": true,
		strings.Repeat("ü", 500):        true,
		strings.Repeat("u", 501):        false,
		"two\nlines":                    false,
		"a bell \a":                     false,
		"turned \u202e round":           false,
		"\xff":                          false,
	} {
		c := authz.Config{Issuer: "https://login.example.com", SuspendedNotice: notice}
		if problems := c.Problems(); len(problems) == 0 != good || !good && problems[0].Setting != "abuse.notice" {
			t.Errorf("%q: %v", notice, problems)
		}
	}
}
