package attacks

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz/abuse"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/cmd/demo/stage"
)

// F34 in the browser, as the demo shows it: the app runs wild, one sees the 429s,
// the suspension, the refusal within a second of it, and why at the login page.
func TestF34AppRunsWild(t *testing.T) {
	w := newWorld(t)
	b := chromium(t)
	w.signedIn(b)
	b.press("Call the API")
	b.works("Call the API")
	jkt := authztest.Claims(t, steal(b).Access)["cnf"].(map[string]any)["jkt"]
	b.press("Hammer the API")
	b.waitFor(`document.querySelector("#log li").innerText.includes("Now press Sign in")`)
	if summary := b.works("Hammer the API"); !regexp.MustCompile(`\d+ times 200, \d+ times 429, 1 times 401`).MatchString(summary) {
		t.Errorf("it says %s", summary)
	}
	u, err := w.Store.UserByName(t.Context(), stage.User)
	if err != nil || u.Block == nil {
		t.Fatalf("the account is %+v, %v", u, err)
	}

	var lines []string
	if err := json.Unmarshal([]byte(b.eval(`JSON.stringify([...document.querySelectorAll("#log li")].reverse().map((li) => li.innerText))`)), &lines); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(lines, "\n")
	t.Log(text)
	rest := text
	for _, line := range []string{
		`worked\s+\S+ Request \d+: 200\. RateLimit: "notes-read";r=\d+;t=\d+`,
		`failed\s+\S+ Request \d+: 429, too many requests\. Retry-After: 1, RateLimit: "notes-read";r=0;t=1\.`,
		`failed\s+(\S+) Request \d+: 401\. The access token was revoked\.`,
		`Refresh · failed\s+\S+ The login server refused \(invalid_grant`,
	} {
		at := regexp.MustCompile(line).FindStringSubmatchIndex(rest)
		if at == nil {
			t.Fatalf("no line %s, or not in this order", line)
		}
		if len(at) > 2 {
			refused, err := time.ParseInLocation("2006-01-02 15:04:05.000", u.Block.At.Local().Format("2006-01-02 ")+rest[at[2]:at[3]], time.Local)
			check(t, err)
			t.Logf("suspended at %s, refused %s later", u.Block.At.Local().Format("15:04:05.000"), refused.Sub(u.Block.At))
			if took := refused.Sub(u.Block.At); took < -time.Second || took > time.Second {
				t.Errorf("the API refuses after %s", took)
			}
		}
		rest = rest[at[1]:]
	}

	// Nothing comes of a new login, and the page says why.
	before := len(w.grants())
	b.press("Sign in")
	b.signIn()
	b.waitVisible("#problem")
	if said := b.eval(`document.querySelector("#problem").textContent`); !strings.Contains(said, "suspended") {
		t.Errorf("the login page says %q", said)
	}
	if n := len(w.grants()); n != before {
		t.Errorf("%d grants, %d before the refused login", n, before)
	}

	// The operator sees who it was, and lets the person in again.
	c, err := w.Store.Case(t.Context(), u.ID)
	check(t, err)
	if e := c.Evidence[0]; e.JKT != jkt || string(e.Client) != string(w.Client.ID) || e.Kind != "limit" || e.Reason != "notes-read" || len(e.Addresses) != 1 {
		t.Errorf("the evidence is %+v", e)
	}
	operator := authztest.Operator(w.Store, time.Now)
	check(t, abuse.New(abuse.Config{Store: w.Store, Audit: operator.Audit, Revoker: operator}).Dismiss(t.Context(), u.ID, "it was the button"))
	b.openApp(w.SPAURL)
	b.press("Sign in")
	b.signIn()
	b.works("Back from the login")
	b.press("Call the API")
	b.works("Call the API")
}
