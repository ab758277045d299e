package admin_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/solegate/solegate/authz"
	"github.com/solegate/solegate/authz/admin"
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
	Clients int      `json:"clients"`
	Users   int      `json:"users"`
	// Block and Throttle are a user's.
	Block    *storage.Block
	Throttle *storage.Throttle
	// Disabled is a client's.
	Disabled bool `json:"disabled"`
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
	if len(sessions) != 1 || strings.Contains(w.must("GET", "/admin/users/"+alice+"/sessions", "").text, "secret") {
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
	tokens = w.SignIn("alice")
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
	if got := w.must("GET", "/admin/clients", ""); len(got.Items) != 1 || got.Items[0].ID != "spa" {
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

	tokens = w.SignIn("alice")
	if got := w.must("POST", "/admin/revoke-all", `{"reason":"drill"}`); got.Clients != 1 || got.Users != 2 {
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

// TestWhatIsNotUnderstoodChangesNothing: it is refused with what was expected,
// and nothing of it comes back.
func TestWhatIsNotUnderstoodChangesNothing(t *testing.T) {
	w := newWorld(t)
	alice := w.User("alice")
	path := "/admin/users/" + string(alice.ID)
	other := w.AddUser("bob").ID
	w.SignIn("bob")
	sessions, err := w.Store.ListSessions(t.Context(), other, storage.Page{Limit: 1})
	check(t, err)
	check(t, w.Store.CreateClient(t.Context(), clients.Client{ID: "declared", Declared: true}))
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		headers            []string
	}{
		"an unknown member":         {"POST", path + "/block", `{"reason":"marker","force":"true"}`, 400, nil},
		"a member of another case":  {"POST", path + "/block", `{"Reason":"marker"}`, 400, nil},
		"a member twice":            {"POST", path + "/block", `{"reason":"a","reason":"marker"}`, 400, nil},
		"a number":                  {"POST", path + "/block", `{"reason":1}`, 400, nil},
		"null":                      {"POST", path + "/block", `{"until":null}`, 400, nil},
		"an object in it":           {"POST", path + "/block", `{"reason":{"reason":"marker"}}`, 400, nil},
		"no object":                 {"POST", path + "/block", `["reason"]`, 400, nil},
		"two objects":               {"POST", path + "/block", `{}{}`, 400, nil},
		"half an object":            {"POST", path + "/block", `{"reason":"marker"`, 400, nil},
		"not UTF-8":                 {"POST", path + "/block", "{\"reason\":\"\xff\"}", 400, nil},
		"an escape that is no rune": {"POST", path + "/block", `{"reason":"\ud800"}`, 400, nil},
		"a line break":              {"POST", path + "/block", `{"reason":"a\naudit=true"}`, 400, nil},
		"an empty reason":           {"POST", path + "/block", `{"reason":" "}`, 400, nil},
		"a long reason":             {"POST", path + "/block", `{"reason":"` + strings.Repeat("x", 201) + `"}`, 400, nil},
		"a body for none":           {"POST", path + "/unblock", `{"reason":"x"}`, 400, nil},
		"both ends":                 {"POST", path + "/block", `{"for":"1h","until":"2030-01-01T00:00:00Z"}`, 400, nil},
		"a time that was":           {"POST", path + "/block", `{"until":"2020-01-01T00:00:00Z"}`, 400, nil},
		"no time":                   {"POST", path + "/block", `{"until":"tomorrow"}`, 400, nil},
		"a negative length":         {"POST", path + "/block", `{"for":"-1h"}`, 400, nil},
		"the longest length":        {"POST", path + "/block", `{"for":"2562047h"}`, 400, nil},
		"no length":                 {"POST", path + "/block", `{"for":"1"}`, 400, nil},
		"a form":                    {"POST", path + "/block", "reason=marker", 415, []string{"Content-Type", "application/x-www-form-urlencoded"}},
		"plain text":                {"POST", path + "/block", "{}", 415, []string{"Content-Type", "text/plain"}},
		"a large body":              {"POST", path + "/block", `{"reason":"` + strings.Repeat("x", 5000) + `"}`, 413, nil},
		"an unknown parameter":      {"POST", path + "/block?reason=marker", "", 400, nil},
		"a parameter twice":         {"GET", "/admin/users?limit=1&limit=2", "", 400, nil},
		"no limit":                  {"GET", "/admin/users?limit=0", "", 400, nil},
		"a large limit":             {"GET", "/admin/users?limit=1001", "", 400, nil},
		"half an escape":            {"GET", "/admin/users?after=%zz", "", 400, nil},
		"a NUL":                     {"GET", "/admin/users?after=%00", "", 400, nil},
		"a long parameter":          {"GET", "/admin/users?after=" + strings.Repeat("x", 600), "", 400, nil},
		"nobody":                    {"GET", "/admin/users/nobody", "", 404, nil},
		"nobody blocked":            {"POST", "/admin/users/nobody/block", "", 404, nil},
		"nobody's sessions":         {"GET", "/admin/users/nobody/sessions", "", 404, nil},
		"no identifier":             {"GET", "/admin/users/a%20b", "", 404, nil},
		"a braced identifier":       {"GET", "/admin/users/%7Ba%7D", "", 404, nil},
		"a slash in it":             {"GET", "/admin/users/a%2Fb", "", 404, nil},
		"another's session":         {"POST", path + "/sessions/" + string(sessions[0].ID) + "/end", "", 404, nil},
		"no session":                {"POST", path + "/sessions/" + string(alice.ID) + ".x/end", "", 404, nil},
		"no client":                 {"GET", "/admin/clients/none", "", 404, nil},
		"no client disabled":        {"POST", "/admin/clients/none/disable", "", 404, nil},
		"no key":                    {"POST", "/admin/keys/none/revoke", "", 404, nil},
		"no path":                   {"GET", "/admin/passwords", "", 404, nil},
		"the root":                  {"GET", "/admin", "", 404, nil},
		"a path that is not clean":  {"POST", "/admin/x/.." + path[len("/admin"):] + "/block", "", 404, nil},
		"another method":            {"DELETE", path, "", 405, nil},
		"a read by POST":            {"POST", path, "", 405, nil},
		"an act by GET":             {"GET", path + "/block", "", 405, nil},
		"a method that is none":     {"BLOCK", path, "", 405, nil},
		"a declared client":         {"POST", "/admin/clients/declared/disable", "", 409, nil},
	} {
		got := w.send(c.method, c.path, c.body, c.headers...)
		if got.status != c.status || strings.Contains(got.text, "marker") {
			t.Errorf("%s: %d %s, expected is %d", name, got.status, got.text, c.status)
		}
		if got.status == 405 && got.header.Get("Allow") == "" {
			t.Errorf("%s: no Allow", name)
		}
	}
	if now := w.User("alice"); now.Version != alice.Version {
		t.Errorf("alice is changed: %+v", now)
	}
	if c, err := w.Store.Client(t.Context(), "declared"); err != nil || c.Disabled {
		t.Errorf("the declared client is %+v, %v", c, err)
	}
	if again, err := w.Store.ListSessions(t.Context(), other, storage.Page{Limit: 1}); err != nil || !again[0].EndedAt.IsZero() {
		t.Errorf("bob's session is %+v, %v", again, err)
	}
	w.must("POST", path+"/block", `{"reason":"`+strings.Repeat("ü", 200)+`"}`)
}

func FuzzBody(f *testing.F) {
	known := []string{"reason", "until", "for"}
	for _, seed := range []string{`{}`, `{"reason":"x","for":"1h"}`, `{"reason":"x","reason":"y"}`, `{"Reason":"x"}`, `{"a":{"b":[]}}`, `[]`, `{}{}`, `{"reason":"\ud800"}`, "{\"reason\":\"\xff\"}", `{"reason"`, `{"reason":1e999}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		members, err := admin.ParseBody(body, known)
		if err != nil {
			if len(members) > 0 || len(body) > 100 && strings.Contains(err.Error(), string(body)) {
				t.Errorf("%q: %v %v", body, members, err)
			}
			return
		}
		// Whatever is understood here, every reader of JSON understands so.
		var same map[string]string
		if len(body) > 0 {
			if err := json.Unmarshal(body, &same); err != nil || len(same) != len(members) {
				t.Errorf("%q: %v, and encoding/json: %v %v", body, members, same, err)
			}
		}
		for name, value := range members {
			if !slices.Contains(known, name) || same[name] != value {
				t.Errorf("%q: %q is %q", body, name, value)
			}
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"", "after=a&limit=1", "after=a&after=b", "after=%zz", "a;b", "limit=%00", "after=%ff", "=", "&"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := admin.ParseQuery(raw, []string{"after", "limit"})
		if err != nil && q != nil {
			t.Errorf("%q: %v %v", raw, q, err)
		}
		for name, values := range q {
			if name != "after" && name != "limit" || len(values) != 1 || strings.ContainsRune(values[0], 0) {
				t.Errorf("%q: %q is %q", raw, name, values)
			}
		}
	})
}
