package admin_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/authztest"
	"github.com/solegate/solegate/clients"
	"github.com/solegate/solegate/keys"
	"github.com/solegate/solegate/storage"
)

// world is a server with its door for whoever is an operator anyway.
type world struct {
	*authztest.Server
	t    *testing.T
	d    *description
	door string
}

func newWorld(t *testing.T, options ...func(*authz.Config)) *world {
	t.Helper()
	s := authztest.New(t, options...)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Handler.ServeOperator(w, r, "test") }))
	t.Cleanup(web.Close)
	return &world{s, t, describe(t), web.URL}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// answer is what came back. It has the members of every noun.
type answer struct {
	status int
	header http.Header
	text   string

	Items   []answer `json:"items"`
	Next    string   `json:"next"`
	Detail  string   `json:"detail"`
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	State   string   `json:"state"`
	Admin   bool     `json:"admin"`
	Kid     string   `json:"kid"`
	Done    string   `json:"done"`
	Clients any      `json:"clients"` // how many, or which
	Users   int      `json:"users"`
	// Block and Throttle are a user's.
	Block    *storage.Block
	Throttle *storage.Throttle
	// Disabled is a client's, Open and Evidence a case's.
	Disabled bool `json:"disabled"`
	Open     bool `json:"open"`
	Evidence []storage.Evidence
}

// send sends a request to the door. Headers are pairs of name and value.
func (w *world) send(method, path, body string, headers ...string) answer {
	w.t.Helper()
	return w.sendTo(w.door, method, path, body, headers...)
}

func (w *world) sendTo(origin, method, path, body string, headers ...string) answer {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, origin+path, strings.NewReader(body))
	check(w.t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := (&http.Client{Transport: w.d, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(r)
	check(w.t, err)
	text, err := io.ReadAll(resp.Body)
	check(w.t, err)
	a := answer{status: resp.StatusCode, header: resp.Header, text: string(text)}
	if strings.HasSuffix(resp.Header.Get("Content-Type"), "json") {
		check(w.t, json.Unmarshal(text, &a))
	}
	return a
}

// must is send that wants 200.
func (w *world) must(method, path, body string) answer {
	w.t.Helper()
	a := w.send(method, path, body)
	if a.status != http.StatusOK {
		w.t.Fatalf("%s %s: %d %s", method, path, a.status, a.text)
	}
	return a
}

// report makes a case of the user, as if an API had reported something.
func (w *world) report(name string) {
	w.t.Helper()
	now := w.Clock.Now()
	check(w.t, w.Store.PutCase(w.t.Context(), storage.Case{
		User: w.User(name).ID, OpenedAt: now, UpdatedAt: now, Expires: now.Add(time.Hour), Reported: 20,
		Evidence: []storage.Evidence{{
			ResourceServer: "notes-api", Kind: "judgement", Reason: "reading everything", Count: 20, First: now, Last: now, Client: "spa",
			Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, ReceivedAt: now,
		}},
		Decisions: []storage.Decision{{At: now, Rule: "scraping", Action: "suspend", Because: "20 reports"}},
	}))
}

// TestEveryOperation does everything that is described, and sees that it does
// what it says.
func TestEveryOperation(t *testing.T) {
	w := newWorld(t)
	alice := string(w.User("alice").ID)
	bob := string(w.AddUser("bob").ID)
	if got := w.must("GET", "/admin/openapi.yaml", "").text; !strings.HasPrefix(got, "openapi: 3.1") {
		t.Errorf("the description is %.40q", got)
	}

	tokens := w.SignIn("alice")
	live := func(want bool) {
		t.Helper()
		if got := w.UserInfo(tokens.AccessToken) == http.StatusOK; got != want {
			t.Errorf("the token is good: %t, expected %t", got, want)
		}
	}
	live(true)
	if got := w.must("GET", "/admin/users", ""); len(got.Items) != 2 || got.Items[0].ID != alice || got.Next != "" {
		t.Errorf("the users are %s", got.text)
	}
	if got := w.must("GET", "/admin/users?name=BOB", ""); len(got.Items) != 1 || got.Items[0].ID != bob {
		t.Errorf("bob is %s", got.text)
	}
	for _, nobody := range []string{"carol", "no name"} {
		if got := w.must("GET", "/admin/users?name="+url.QueryEscape(nobody), ""); len(got.Items) != 0 {
			t.Errorf("%s is %s", nobody, got.text)
		}
	}
	if got := w.must("GET", "/admin/users/"+alice, ""); got.Name != "alice" || got.State != "active" || strings.Contains(got.text, "argon2") || strings.Contains(got.text, `"password"`) {
		t.Errorf("alice is %s", got.text)
	}

	// One session, and then all of them.
	sessions := w.must("GET", "/admin/users/"+alice+"/sessions", "").Items
	if len(sessions) != 1 || fmt.Sprint(sessions[0].Clients) != "[spa]" || strings.Contains(w.must("GET", "/admin/users/"+alice+"/sessions", "").text, "secret") {
		t.Fatalf("the sessions are %v", sessions)
	}
	if got := w.must("POST", "/admin/users/"+alice+"/sessions/"+sessions[0].ID+"/end", `{"reason":"lost phone"}`); got.Done != "ended" {
		t.Errorf("the session: %s", got.text)
	}
	live(false)
	w.must("POST", "/admin/users/"+alice+"/sessions/"+sessions[0].ID+"/end", "") // again
	if got := w.must("GET", "/admin/users/"+alice+"/sessions", ""); len(got.Items) != 0 {
		t.Errorf("the sessions are %s", got.text)
	}
	// Who has not been here for a day may refresh still; the cookie alone is
	// worth nothing then.
	w.Browser().Code("alice") // never redeemed
	tokens = w.SignIn("alice")
	w.Clock.Advance(23 * time.Hour)
	tokens = w.Refresh(tokens.RefreshToken)
	w.Clock.Advance(2 * time.Hour)
	if got := w.must("GET", "/admin/users/"+alice+"/sessions", ""); len(got.Items) != 1 || fmt.Sprint(got.Items[0].Clients) != "[spa]" {
		t.Errorf("the sessions are %s", got.text)
	}
	w.must("POST", "/admin/users/"+alice+"/revoke", `{"reason":"lost phone"}`)
	live(false)

	tokens = w.SignIn("alice")
	blocked := w.must("POST", "/admin/users/"+alice+"/block", `{"reason":"scraping","for":"24h"}`)
	live(false)
	if blocked.State != "blocked" || blocked.Block.Reason != "scraping" || !blocked.Block.Until.Equal(w.Clock.Now().Add(24*time.Hour)) {
		t.Errorf("blocked is %s", blocked.text)
	}
	until := w.Clock.Now().Add(time.Hour)
	if got := w.must("POST", "/admin/users/"+alice+"/block", `{"until":"`+until.Format(time.RFC3339)+`"}`); !got.Block.Until.Equal(until) || got.Block.Reason != "blocked by an operator" {
		t.Errorf("blocked is %s", got.text)
	}
	if got := w.must("POST", "/admin/users/"+alice+"/block", ""); !got.Block.Until.IsZero() {
		t.Errorf("blocked is %s", got.text)
	}
	if got := w.must("POST", "/admin/users/"+alice+"/unblock", ""); got.State != "active" || got.Block != nil {
		t.Errorf("unblocked is %s", got.text)
	}
	live(false)

	// What policy does is shown, and unblock lifts it.
	check(t, w.Revoker.SuspendUser(t.Context(), w.User("alice").ID, "scraping", "20 reports", time.Time{}))
	check(t, w.Revoker.ThrottleUser(t.Context(), w.User("alice").ID, storage.Throttle{Rule: "hammering", Reason: "100 reports", Every: time.Minute}))
	if got := w.must("GET", "/admin/users/"+alice, ""); got.State != "suspended" || got.Block.Rule != "scraping" || got.Throttle == nil || got.Throttle.Rule != "hammering" {
		t.Errorf("suspended is %s", got.text)
	}
	if got := w.must("POST", "/admin/users/"+alice+"/unblock", ""); got.State != "active" || got.Throttle != nil {
		t.Errorf("unblocked is %s", got.text)
	}

	tokens = w.SignIn("alice")
	w.AddClient(clients.Client{ID: "backend", AuthMethod: clients.SecretBasic, SecretHash: [32]byte{1}, RedirectURIs: w.Client.RedirectURIs, Audiences: w.Client.Audiences})
	if got := w.must("GET", "/admin/clients", ""); len(got.Items) != 2 || got.Items[1].ID != "spa" || strings.Contains(got.text, "secret_hash") {
		t.Errorf("the clients are %s", got.text)
	}
	if got := w.must("POST", "/admin/clients/spa/disable", ""); !got.Disabled {
		t.Errorf("disabled is %s", got.text)
	}
	live(false)
	if got := w.must("POST", "/admin/clients/spa/enable", ""); got.Disabled {
		t.Errorf("enabled is %s", got.text)
	}
	w.must("GET", "/admin/clients/spa", "")
	w.Clock.Advance(time.Minute) // servers remember clients for a moment

	tokens = w.SignIn("alice")
	key := w.Ring.Signer(keys.ES256)
	if got := w.must("GET", "/admin/keys", ""); !slices.ContainsFunc(got.Items, func(k answer) bool { return k.Kid == key && k.State == "active" }) || strings.Contains(strings.ToLower(got.text), "sealed") {
		t.Errorf("the keys are %s", got.text)
	}
	for range 2 {
		if got := w.must("POST", "/admin/keys/"+key+"/revoke", `{"reason":"leaked"}`); got.Kid != key || got.State != "revoked" {
			t.Errorf("the key is %s", got.text)
		}
	}
	live(false)

	// A case, whose account policy had suspended.
	w.report("alice")
	check(t, w.Revoker.SuspendUser(t.Context(), w.User("alice").ID, "scraping", "20 reports", time.Time{}))
	if got := w.must("GET", "/admin/cases", ""); len(got.Items) != 1 || got.Items[0].ID != alice || !got.Items[0].Open || got.Items[0].State != "suspended" || len(got.Items[0].Evidence) > 0 {
		t.Errorf("the cases are %s", got.text)
	}
	if got := w.must("GET", "/admin/cases/"+alice, ""); len(got.Evidence) != 1 || got.Evidence[0].Reason != "reading everything" {
		t.Errorf("the case is %s", got.text)
	}
	for range 2 {
		if got := w.must("POST", "/admin/cases/"+alice+"/dismiss", `{"reason":"a crawler of ours"}`); got.Open || got.State != "active" || !strings.Contains(got.text, `"operator":"test","action":"dismiss"`) {
			t.Errorf("dismissed is %s", got.text)
		}
	}
	for query, n := range map[string]int{"": 0, "?all=false": 0, "?all=true": 1} {
		if got := w.must("GET", "/admin/cases"+query, ""); len(got.Items) != n {
			t.Errorf("the cases of %q are %s", query, got.text)
		}
	}
	w.must("GET", "/admin/audit", "")
	w.follow("").resp.Body.Close()

	tokens = w.SignIn("alice")
	if got := w.must("POST", "/admin/revoke-all", `{"reason":"drill"}`); fmt.Sprint(got.Clients) != "2" || got.Users != 2 {
		t.Errorf("everything is %s", got.text)
	}
	live(false)

	for _, word := range []string{"lost phone", "scraping", "drill", "session ended", "user blocked", "everything revoked"} {
		if !strings.Contains(w.Log.String(), word) {
			t.Errorf("the log does not say %q", word)
		}
	}
	for path, item := range w.d.doc["paths"].(map[string]any) {
		for method, operation := range item.(map[string]any) {
			if method != "parameters" && !w.d.answered[operation.(map[string]any)["operationId"].(string)] {
				t.Errorf("%s %s was not done", method, path)
			}
		}
	}
}

// TestListingsComeInParts: each record once, whatever the limit.
func TestListingsComeInParts(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"bob", "carol", "dave", "zoë"} {
		w.AddUser(name)
	}
	for _, id := range []clients.ID{"a", "b"} {
		w.AddClient(clients.Client{ID: id, RedirectURIs: w.Client.RedirectURIs, Origins: w.Client.Origins, Audiences: w.Client.Audiences})
	}
	for range 3 {
		w.SignIn("alice")
	}
	alice := string(w.User("alice").ID)
	ended := w.must("GET", "/admin/users/"+alice+"/sessions", "").Items[0].ID
	w.must("POST", "/admin/users/"+alice+"/sessions/"+ended+"/end", "")
	for path, want := range map[string]int{"/admin/users": 5, "/admin/clients": 3, "/admin/users/" + alice + "/sessions": 2} {
		for _, limit := range []string{"1", "2", "5", "1000"} {
			seen := map[string]bool{}
			q := url.Values{"limit": {limit}}
			for parts := 0; ; parts++ {
				part := w.must("GET", path+"?"+q.Encode(), "")
				for _, item := range part.Items {
					if seen[item.ID] {
						t.Errorf("%s by %s: %s twice", path, limit, item.ID)
					}
					seen[item.ID] = true
				}
				if part.Next == "" {
					break
				}
				if q.Set("after", part.Next); parts > 10 {
					t.Fatalf("%s by %s has no end", path, limit)
				}
			}
			if len(seen) != want {
				t.Errorf("%s by %s: %d, expected %d", path, limit, len(seen), want)
			}
		}
	}
}
